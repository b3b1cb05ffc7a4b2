//! The subjects of the API, in the order in which a newcomer meets them.

use poem_openapi::Tags;

/// The subjects of the API.
#[derive(Tags)]
pub enum Tag {
    /// Registering and logging in.
    Auth,
    /// Yourself.
    Account,
    /// Staying signed in, and logging out: every device is one.
    #[oai(rename = "Sign-ins")]
    SignIns,
    /// What is built against the clock.
    Challenges,
    /// Timed attempts at a challenge.
    Sessions,
    /// What a session has passed.
    Milestones,
    /// What completed sessions hand in, and its review.
    Submissions,
    /// Who is how fast.
    Leaderboards,
    /// What everyone may know of a user.
    Users,
}

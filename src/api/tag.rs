//! The subjects of the API, in the order in which a newcomer meets them.

use poem_openapi::Tags;

/// The subjects of the API.
#[derive(Tags)]
pub enum Tag {
    /// Registering and logging in.
    Auth,
    /// Your own account.
    Account,
    /// Staying signed in, and logging out. Every device has a sign-in of its own.
    #[oai(rename = "Sign-ins")]
    SignIns,
    /// What runners build against the clock.
    Challenges,
    /// Timed attempts at a challenge.
    Sessions,
    /// The numbered steps of a challenge, and who has passed them.
    Milestones,
    /// The packages and recordings of completed sessions, and their review.
    Submissions,
    /// The fastest approved runs.
    Leaderboards,
    /// Public profiles.
    Users,
}

//! The HTTP contract: one file for each subject, its operations beside their types.

pub mod account;
pub mod auth;
pub mod challenges;
pub mod health;
pub mod jwks;
pub mod leaderboards;
pub mod milestones;
pub mod sessions;
pub mod sign_ins;
pub mod submissions;
pub mod types;
pub mod users;

use poem_openapi::Tags;

/// The subjects of the API.
#[derive(Tags)]
pub enum Tag {
    /// Accounts and sign-ins.
    Auth,
    /// Timed attempts at a challenge.
    Sessions,
    /// What a session has passed.
    Milestones,
    /// What completed sessions hand in, and its review.
    Submissions,
    /// What is built against the clock.
    Challenges,
    /// Who is how fast.
    Leaderboards,
    /// What everyone may know of a user.
    Users,
}

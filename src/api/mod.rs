//! The HTTP contract: one file for each subject, with its operations, their types, and the refusals that each of them
//! can answer with.

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
pub mod tag;
pub mod types;
pub mod users;
mod video;

use poem_openapi::{ContactObject, LicenseObject, OpenApi, OpenApiService};

use crate::openapi::{Contract, codes::Refusals};

/// The path that the paths of all operations begin with.
pub const BASE: &str = "/api/v1";

/// The document, completed with the refusals of all operations.
pub fn contract() -> anyhow::Result<Contract> {
    Contract::of(&service(), &refusals())
}

/// The refusals of all operations.
pub fn refusals() -> Vec<Refusals> {
    [
        auth::REFUSALS,
        account::REFUSALS,
        sign_ins::REFUSALS,
        challenges::REFUSALS,
        sessions::REFUSALS,
        milestones::REFUSALS,
        submissions::REFUSALS,
        leaderboards::REFUSALS,
        users::REFUSALS,
    ]
    .concat()
}

/// All operations.
pub fn service() -> OpenApiService<impl OpenApi, ()> {
    // In the order in which a newcomer meets them.
    let apis = (
        auth::AuthApi,
        account::AccountApi,
        sign_ins::SignInsApi,
        challenges::ChallengesApi,
        sessions::SessionsApi,
        milestones::MilestonesApi,
        submissions::SubmissionsApi,
        leaderboards::LeaderboardsApi,
        users::UsersApi,
    );
    OpenApiService::new(apis, "SpeedCoding", env!("CARGO_PKG_VERSION"))
        .description(
            "The backend of a platform where developers speedrun building software. A runner starts a timed session, \
             passes its milestones, ends it, and hands it in.\n\n\
             To try it here, send `POST /auth/register` with a name of your own (the name of the example may be \
             taken). Copy `accessToken` from the answer, press *Authorize* and paste it. `POST /sessions/start` \
             answers with an `id`: put it into `sessionId` of the other bodies. A refusal is a problem (RFC 9457): \
             decide by its `code`. Every answer has the header `X-Request-Id`, which names the request in the log.",
        )
        .contact(ContactObject::new().name("The maintainers of SpeedCoding"))
        .license(LicenseObject::new("MIT OR Apache-2.0").url("https://spdx.org/licenses/"))
        .server(BASE)
}

//! Which request goes where, and through which layers. Read this first.
//!
//! The operations declare their paths themselves (`#[oai(path = …)]`), and the document is made from that. This table
//! is made from the document by `just refresh`:
//!
//! <!-- operations -->
//! | method | path | operation | in |
//! |---|---|---|---|
//! | POST | /auth/register | register | src/api/auth.rs |
//! | POST | /auth/login | login | src/api/auth.rs |
//! | GET | /auth/me | get_me | src/api/account.rs |
//! | DELETE | /auth/me | delete_me | src/api/account.rs |
//! | POST | /auth/password | change_password | src/api/account.rs |
//! | POST | /auth/refresh | refresh | src/api/sign_ins.rs |
//! | POST | /auth/logout | logout | src/api/sign_ins.rs |
//! | GET | /auth/sign-ins | list_sign_ins | src/api/sign_ins.rs |
//! | DELETE | /auth/sign-ins/{id} | end_sign_in | src/api/sign_ins.rs |
//! | GET | /challenges | list_challenges | src/api/challenges.rs |
//! | GET | /challenges/{slug} | get_challenge | src/api/challenges.rs |
//! | POST | /sessions/start | start_session | src/api/sessions.rs |
//! | POST | /sessions/end | end_session | src/api/sessions.rs |
//! | POST | /sessions/abandon | abandon_session | src/api/sessions.rs |
//! | GET | /sessions | list_sessions | src/api/sessions.rs |
//! | GET | /sessions/current | get_current_session | src/api/sessions.rs |
//! | GET | /sessions/{id} | get_session | src/api/sessions.rs |
//! | GET | /sessions/{id}/milestones/{number}/input | get_milestone_input | src/api/sessions.rs |
//! | POST | /milestones/verify | verify_milestone | src/api/milestones.rs |
//! | POST | /milestones/attest | attest_milestone | src/api/milestones.rs |
//! | GET | /submissions | list_submissions | src/api/submissions.rs |
//! | GET | /submissions/{id} | get_submission | src/api/submissions.rs |
//! | PATCH | /submissions/{id} | update_submission | src/api/submissions.rs |
//! | DELETE | /submissions/{id} | withdraw_submission | src/api/submissions.rs |
//! | POST | /submissions/{id}/claim | claim_submission | src/api/submissions.rs |
//! | DELETE | /submissions/{id}/claim | release_submission | src/api/submissions.rs |
//! | POST | /submissions/{id}/review | review_submission | src/api/submissions.rs |
//! | POST | /submissions/{id}/reopen | reopen_submission | src/api/submissions.rs |
//! | GET | /leaderboards/{slug} | get_leaderboard | src/api/leaderboards.rs |
//! | GET | /leaderboards/{slug}/me | get_standing | src/api/leaderboards.rs |
//! | GET | /leaderboards/{slug}/records | list_records | src/api/leaderboards.rs |
//! | GET | /users/{username} | get_user | src/api/users.rs |
//! <!-- end of operations -->

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt, Route,
    endpoint::BoxEndpoint,
    get,
    middleware::{CatchPanic, Compression},
};

use super::{
    delegate::{delegate, pass},
    layers::{
        add_security_headers, explain, limit, limit_answers, limit_time, refuse_ambiguous,
        refuse_packed, share_with,
    },
    pages::{docs, page, redirect_to_docs},
    respond::{answer_errors, respond},
};
use crate::{
    api::{self, BASE, health, jwks},
    openapi::Contract,
    problem::Problem,
    state::State,
};

/// All that the service answers.
pub fn route(state: Arc<State>) -> anyhow::Result<BoxEndpoint<'static>> {
    let contract = Arc::new(api::contract()?);
    let origins = state.config.cors_origins.clone();
    let operations = operations();
    let routes = Route::new()
        .nest(BASE, operations)
        .at("/", get(redirect_to_docs))
        .at(
            "/docs",
            get(page(
                docs(&api::service(), &contract),
                "text/html; charset=utf-8",
            )),
        )
        .at("/docs/", get(redirect_to_docs))
        .at(
            "/openapi.json",
            get(page(contract.json(), "application/json")),
        )
        .at(
            "/openapi.yaml",
            get(page(contract.yaml()?, "application/yaml")),
        )
        .at("/.well-known/jwks.json", get(jwks::show))
        .at("/health/live", get(health::live))
        .at("/health/ready", get(health::ready));
    Ok(around_all(routes, state, contract, &origins))
}

/// The operations of the API, in the layers that concern only them. The first layer is the innermost.
fn operations() -> impl Endpoint {
    api::service()
        // An operation reads its body itself, after it has checked the caller.
        .around(limit_time)
        // This layer needs the caller, and `limit` finds the caller.
        .around(limit_answers)
        .around(limit)
        // Packs answers that the layers within have counted.
        .with(Compression::new())
        // This layer runs before `Compression`, which would unpack the body.
        .around(refuse_packed)
}

/// The layers that concern every request. The first layer is the innermost.
fn around_all(
    routes: Route,
    state: Arc<State>,
    contract: Arc<Contract>,
    origins: &[String],
) -> BoxEndpoint<'static> {
    let delegated = Arc::new(poem::endpoint::make(delegate).around(limit));
    let answering = routes
        // Adds facts to a refusal of the framework that only the document knows.
        .around(explain)
        // Paths beneath /rest/v1 are PostgREST's. No layer within touches them.
        .around(move |routes, request| pass(delegated.clone(), routes, request))
        .data(state)
        .data(contract)
        .with(
            CatchPanic::new()
                .with_handler(|_| Problem::internal("a handler panicked").to_response()),
        )
        .around(refuse_ambiguous)
        // Errors become answers here, so that those get their headers, too.
        .around(answer_errors)
        .around(add_security_headers);
    share_with(origins, answering.boxed())
        // Outermost: it sees every answer as the client does, CORS refusals among them.
        .around(respond)
        .boxed()
}

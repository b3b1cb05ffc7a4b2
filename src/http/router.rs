//! Which request goes where, and through which layers. Read this first.
//!
//! The operations declare their paths themselves (`#[oai(path = …)]`), and the document is made from that. This table is
//! made from the document by `just refresh`:
//!
//! <!-- operations -->
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
        add_security_headers, explain, limit, limit_answers, limit_body, limit_time, refuse_packed,
        share_with,
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
pub fn route(state: State) -> anyhow::Result<BoxEndpoint<'static>> {
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
        // A body is read only for a caller who is within the limits, and no longer than a request may take.
        .around(limit_body)
        .around(limit_time)
        // Needs the caller, whom `limit` finds.
        .around(limit_answers)
        .around(limit)
        // Packs what the layers within have counted.
        .with(Compression::new())
        // Before `Compression`, which would unpack it.
        .around(refuse_packed)
}

/// The layers that concern every request. The first layer is the innermost.
fn around_all(
    routes: Route,
    state: State,
    contract: Arc<Contract>,
    origins: &[String],
) -> BoxEndpoint<'static> {
    let delegated = Arc::new(poem::endpoint::make(delegate).around(limit));
    let answering = routes
        // Says of a refusal of the framework what only the document knows.
        .around(explain)
        // What lies beneath /rest/v1 is PostgREST's: no layer within touches it.
        .around(move |routes, request| pass(delegated.clone(), routes, request))
        .data(Arc::new(state))
        .data(contract)
        .with(
            CatchPanic::new()
                .with_handler(|_| Problem::internal("a handler panicked").to_response()),
        )
        // Errors become answers here, so that those get their headers, too.
        .around(answer_errors)
        .around(add_security_headers);
    share_with(origins, answering.boxed())
        // Outermost: it sees every answer as the client does, CORS refusals among them.
        .around(respond)
        .boxed()
}

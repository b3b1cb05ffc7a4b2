//! Delegation: ad-hoc reads of clients go to PostgREST, with the caller's own token.

use std::sync::Arc;

use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    error::MethodNotAllowedError,
    http::{HeaderMap, HeaderValue, Method, header},
};
use poem_openapi::OperationId;
use tokio_postgres::types::ToSql;

use super::bearer;
use crate::{
    auth::token::Claims,
    context,
    db::{Found, query},
    postgrest::{ADMITTED, Asked, BASE},
    problem::Problem,
    state::State,
};

/// A request for PostgREST passes as it is: it is neither packed nor unpacked, and no route reads its path.
pub async fn pass<D: Endpoint, E: Endpoint>(
    delegate: Arc<D>,
    routes: Arc<E>,
    request: Request,
) -> Result<Response> {
    if !is_beneath(request.uri().path()) {
        return Ok(routes.call(request).await?.into_response());
    }
    let operation = OperationId("rest");
    match delegate.call(request).await {
        Ok(response) => {
            let mut response = response.into_response();
            response.set_data(operation);
            Ok(response)
        }
        Err(error) => {
            let mut error = poem::Error::from(Problem::from(error).for_postgrest_clients());
            error.set_data(operation);
            Err(error)
        }
    }
}

/// Whether a request is for PostgREST.
fn is_beneath(path: &str) -> bool {
    path.strip_prefix(BASE)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Passes a request on, and its answer back.
pub async fn delegate(mut request: Request) -> Result<Response> {
    let state = State::of(&request)?.clone();
    let delegate = &state.delegate;
    // TRACE would show headers that the service adds, and CONNECT is no request for a resource.
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        return Err(Problem::from(poem::Error::from(MethodNotAllowedError))
            .allowing("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT".to_owned())
            .into());
    }
    let uri = delegate.uri(request.uri())?;
    let claims = bearer::claims(&request)?;
    if claims.is_none() {
        request.headers_mut().remove(header::AUTHORIZATION);
    }
    // Each answer shows whether PostgREST has admitted the caller. If it has not, the service looks up the sign-in
    // itself.
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_judged_there = is_read && delegate.judges_readers();
    if !is_judged_there {
        refuse_ended(&state, claims.as_ref()).await?;
    }
    let address = state.limits.client(&request);
    let answers = &state.limits.answers;
    let caller = answers.caller(claims.as_ref(), address);
    let asked = Asked::new(&request, claims.is_some(), caller);
    let turn = state.limits.delegated.take(caller).await?;
    let outcome = delegate.send(request, uri, address, turn).await;
    let response = outcome.as_ref().ok();
    let success =
        response.filter(|response| is_read && claims.is_some() && response.status().is_success());
    let is_admitted = success.map(|response| is_admitted(response.headers()));
    if let Some(is_admitted) = is_admitted {
        delegate.note_judging(is_admitted);
    }
    let is_refused =
        response.is_some_and(|response| matches!(response.status().as_u16(), 401 | 403));
    if is_refused || is_judged_there && is_admitted != Some(true) {
        // A banned caller, or one whose sign-in has ended, gets the same refusal here as from the API's own operations.
        refuse_ended(&state, claims.as_ref()).await?;
    }
    Ok(delegate.response(outcome?, &asked, answers).await?)
}

/// Whether an answer says exactly once that PostgREST has admitted the caller of this very request.
fn is_admitted(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(ADMITTED).iter();
    let is_ours = |name: &HeaderValue| *name == *context::request_id();
    named.next().is_some_and(is_ours) && named.next().is_none()
}

/// Refuses a caller whose sign-in has ended, or who is banned.
async fn refuse_ended(state: &State, claims: Option<&Claims>) -> Result<(), Problem> {
    let Some(claims) = claims else {
        return Ok(());
    };
    let params: [&(dyn ToSql + Sync); 2] = [&claims.session_id, &claims.sub];
    let live: Option<Found> = state
        .db
        .identity(&query::FIND_LIVE_SIGN_IN, &params)
        .await?;
    if live.is_none() {
        let Found = state.db.call(Some(claims), &query::ADMIT, &[]).await?;
    }
    Ok(())
}

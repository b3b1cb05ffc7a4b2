//! Whether the service lives, and whether it can serve: for load balancers and people.

use std::sync::Arc;

use poem::{IntoResponse, Response, handler, web::Data};

use crate::{problem::Problem, state::State};

/// The process answers.
#[handler]
pub fn live() -> Response {
    poem::web::Json(serde_json::json!({ "status": "live" })).into_response()
}

/// The database answers too.
#[handler]
pub async fn ready(Data(state): Data<&Arc<State>>) -> Result<Response, Problem> {
    state.db.ready().await?;
    Ok(poem::web::Json(serde_json::json!({ "status": "ready" })).into_response())
}

//! Health checks for load balancers and people: whether the process is alive, and whether it can serve.

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

//! What a server that scrapes would list. This one does not, so the lists are empty, in the shapes that clients read.

use super::status::page;
use crate::error::ApiError;
use crate::http::app::App;
use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::json;

/// `GET /api/v1/targets`: there are none.
pub async fn targets(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let request = with_params(&app, request)?;
    let data = json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} });
    Ok(page(&request, &data))
}

/// `GET /api/v1/targets/metadata`: no target says anything; see `/api/v1/metadata` for what senders said.
pub async fn metadata(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let request = with_params(&app, request)?;
    Ok(page(&request, &json!([])))
}

/// `GET /api/v1/scrape_pools`: there are none.
pub async fn scrape_pools(request: Request) -> Response {
    page(&request, &json!({ "scrapePools": [] }))
}

/// `GET /api/v1/alertmanagers`: nothing is sent to any.
pub async fn alertmanagers(request: Request) -> Response {
    page(&request, &json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}

/// `GET /api/v1/notifications`: nothing to tell a person.
pub async fn notifications(request: Request) -> Response {
    page(&request, &json!([]))
}

/// The request, if its parameters can be read: what is wrong is told even where there is nothing to find.
fn with_params(_app: &App, request: Request) -> Result<Request, ApiError> {
    crate::http::params::Params::parse(request.uri().query(), &[])?.limit("limit")?;
    Ok(request)
}

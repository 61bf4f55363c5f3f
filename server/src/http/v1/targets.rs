//! What a server that scrapes would list. This one does not, so the lists are empty, in the shapes that clients read.

use super::series::selector;
use super::status::page;
use crate::error::ApiError;
use crate::http::params::Params;
use axum::extract::Request;
use axum::response::Response;
use serde_json::json;

/// `GET /api/v1/targets`: there are none.
pub async fn targets(request: Request) -> Response {
    page(&request, &json!({ "activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {} }))
}

/// `GET /api/v1/targets/metadata`: no target says anything; see `/api/v1/metadata` for what senders said. What is wrong with the
/// question is told all the same.
pub async fn metadata(request: Request) -> Result<Response, ApiError> {
    let params = Params::parse(request.uri().query(), &[])?;
    params.number("limit", "limit must be a number")?;
    if let Some(text) = params.get("match_target") {
        selector(text).map_err(|why| ApiError::parameter("match_target", why))?;
    }
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

//! Rules and alerts: there are none, and what is wrong with a question about them is said as Prometheus says it.

use super::admin::boolean;
use super::series::matcher_sets;
use super::status::page;
use crate::error::ApiError;
use crate::http::params::Params;
use axum::extract::Request;
use axum::response::Response;
use serde_json::json;

/// `GET /api/v1/rules`: there are no rules.
pub async fn rules(request: Request) -> Result<Response, ApiError> {
    let params = Params::parse(request.uri().query(), &[])?;
    matcher_sets(&params).map_err(ApiError::bad_data)?;
    match params.get("type").map(str::to_lowercase).as_deref() {
        None | Some("alert" | "record") => {}
        Some(other) => {
            return Err(ApiError::parameter("type", format_args!("not supported value {other:?}")));
        }
    }
    if let Some(text) = params.get("exclude_alerts") {
        let wrong = |why| {
            ApiError::parameter("exclude_alerts", format_args!("error converting exclude_alerts: {why}"))
        };
        boolean(&text.to_lowercase()).map_err(wrong)?;
    }
    match params.get("group_limit").map(str::parse::<i32>) {
        None if params.get("group_next_token").is_some() => {
            let text = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::parameter("group_next_token", text));
        }
        None | Some(Ok(1..)) => {}
        Some(Ok(_)) => {
            return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0"));
        }
        Some(Err(why)) => {
            let text = format!("group_limit needs to be a valid number: {why}");
            return Err(ApiError::parameter("group_limit", text));
        }
    }
    Ok(page(&request, &json!({ "groups": [] })))
}

/// `GET /api/v1/alerts`: there are no alerts.
pub async fn alerts(request: Request) -> Response {
    page(&request, &json!({ "alerts": [] }))
}

//! The queries that run: their list, and the end of one.

use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::respond::{self, Encoding, Notes};
use crate::wire::json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use kymo_storage::ErrorKind;
use serde_json::{Value, json};

/// `GET /api/v1/status/active_queries`: each with its number, text, kind, start in seconds since the Unix epoch, seconds since
/// then, samples read so far, and who asked; the oldest first.
pub async fn list(State(app): State<App>, request: Request) -> Response {
    let encoding = Encoding::accepted(request.headers());
    let running: Vec<Value> = app
        .queries
        .list()
        .into_iter()
        .map(|query| {
            json!({
                "id": query.id,
                "query": query.question.text,
                "kind": query.question.kind,
                "start": query.started_ms as f64 / 1_000.0,
                "elapsed": query.since.elapsed().as_secs_f64(),
                "samples": query.progress.samples(),
                "peer": query.question.peer.map(|peer| peer.0.to_string()),
            })
        })
        .collect();
    respond::success(encoding, &Notes::default(), |out| json::page(out, &running))
}

/// `POST /api/v1/status/active_queries/<id>/cancel`: ends a query; who asked it is told so.
///
/// # Errors
/// No such query runs.
pub async fn cancel(
    State(app): State<App>,
    id: Result<Path<u64>, PathRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let Ok(Path(id)) = id else {
        return Err(ApiError::parameter("id", "the number of a query is a whole number"));
    };
    if !app.queries.cancel(id) {
        let text = format!("no query {id} is running");
        return Err(ApiError::new(Side::Read, ErrorKind::NotFound, text));
    }
    tracing::info!(id, "a query is cancelled on request");
    let answer = json!({ "id": id, "cancelled": true });
    Ok(respond::success(encoding, &Notes::default(), |out| json::page(out, &answer)))
}

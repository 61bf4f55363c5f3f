//! `/api/v1/admin/tsdb`: deleting series, cleaning up after it, snapshots; only with `--web-enable-admin-api`.

use super::series::needed_matcher_sets;
use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::respond::{self, Encoding, Notes};
use crate::wire::json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kymo_storage::model::TimeRange;
use kymo_storage::{ErrorKind, Storage};
use serde_json::json;

/// Where snapshots lie, inside the data directory.
const SNAPSHOTS: &str = "snapshots";

/// `POST|PUT /api/v1/admin/tsdb/delete_series`: deletes the samples between `start` and `end` of the series that match one of
/// `match[]`; 204 also if there are none. A selector that matches everything is refused: who means that says
/// `{__name__=~".+"}`.
pub async fn delete_series(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    check_enabled(&app)?;
    let params = app.params(request).await?;
    let sets = needed_matcher_sets(&params)?;
    let start = params.time("start")?.unwrap_or(i64::MIN);
    let end = params.time("end")?.unwrap_or(i64::MAX);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let texts: Vec<&str> = params.all("match[]").collect();
    tracing::info!(selectors = texts.join(" "), start, end, "deleting series by order");
    let report = work(&app, move |storage| storage.delete(TimeRange::closed(start, end), &sets)).await?;
    tracing::info!(series = report.series, "series deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST|PUT /api/v1/admin/tsdb/clean_tombstones`: rewrites the blocks with deleted samples, so that their room on disk is free
/// when this answers.
pub async fn clean_tombstones(State(app): State<App>) -> Result<Response, ApiError> {
    check_enabled(&app)?;
    work(&app, Storage::clean_tombstones).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST|PUT /api/v1/admin/tsdb/snapshot`: hard links under `snapshots` in the data directory; what is in memory is in it
/// unless `skip_head`.
pub async fn snapshot(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    check_enabled(&app)?;
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let wrong = |why| ApiError::parameter("skip_head", format_args!("unable to parse boolean: {why}"));
    let skip_head = params.get("skip_head").map(boolean).transpose().map_err(wrong)?.unwrap_or(false);
    let directory = app.flags.data.join(SNAPSHOTS);
    let path = work(&app, move |storage| storage.snapshot(&directory, !skip_head)).await?;
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    tracing::info!(path = %path.display(), "snapshot made");
    let data = json!({ "name": name });
    Ok(respond::success(encoding, &Notes::default(), |out| json::page(out, &data)))
}

/// A switch in one of the words of Go's `ParseBool`, which Prometheus takes.
///
/// # Errors
/// The sentence of Go.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => Err(format!("strconv.ParseBool: parsing {other:?}: invalid syntax")),
    }
}

/// Prometheus answers 500 here, not 403.
fn check_enabled(app: &App) -> Result<(), ApiError> {
    if app.flags.web.web_enable_admin_api {
        return Ok(());
    }
    let off = ApiError::new(Side::Read, ErrorKind::Unavailable, "admin APIs disabled");
    Err(ApiError { status: StatusCode::INTERNAL_SERVER_ERROR, ..off })
}

/// Runs what may take long on the pool of blocking threads. It goes on if the client leaves.
async fn work<T: Send + 'static>(
    app: &App,
    change: impl FnOnce(&Storage) -> kymo_storage::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let storage = app.storage(Side::Read)?;
    let task = tokio::task::spawn_blocking(move || change(&storage));
    match task.await {
        Ok(result) => result.map_err(|e| ApiError::storage(Side::Read, &e)),
        Err(failure) => {
            tracing::error!(%failure, "an order to the store ended in a bug");
            let text = "the order met a bug of Kymo; see the log";
            Err(ApiError::new(Side::Read, ErrorKind::Internal, text))
        }
    }
}

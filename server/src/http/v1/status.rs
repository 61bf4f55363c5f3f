//! Status pages, and the empty answers that spare Grafana an error.

use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::respond::{self, Encoding, Notes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The version of the Prometheus API this server speaks: clients compare it to learn what they may ask.
const PROMETHEUS_API_VERSION: &str = "3.14.0";

pub(super) fn page(request: &Request, data: &Value) -> Response {
    let encoding = Encoding::accepted(request.headers());
    respond::success(encoding, &Notes::default(), |out| Ok(serde_json::to_writer(out, data)?))
}

fn build() -> Value {
    json!({
        "version": PROMETHEUS_API_VERSION,
        "application": "Kymo",
        "applicationVersion": env!("CARGO_PKG_VERSION"),
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    })
}

/// `GET /api/v1/status/buildinfo`. `version` is that of the API; there is no `features` key, by which Grafana would take this
/// server for another product.
pub async fn buildinfo(request: Request) -> Response {
    page(&request, &build())
}

/// `GET /version`: the same without the envelope.
pub async fn version() -> Response {
    axum::Json(build()).into_response()
}

/// `GET /api/v1/status/runtimeinfo`.
pub async fn runtimeinfo(State(app): State<App>, request: Request) -> Response {
    let stats = app.storage_if_open().map(kymo_storage::Storage::stats).unwrap_or_default();
    let retention_s = app.flags.retention.as_secs();
    page(
        &request,
        &json!({
            "storageRetention": format!("{retention_s}s"),
            "corruptionCount": stats.wal_lost_frames + stats.blocks_quarantined,
            "durability": format!("{:?}", app.flags.durability).to_lowercase(),
        }),
    )
}

/// `GET /api/v1/status/tsdb`: the size of the store.
pub async fn tsdb(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let stats = app.storage(Side::Read)?.stats();
    let (min_time, max_time) = stats.head_times.unwrap_or((0, 0));
    let data = json!({
        "headStats": {
            "numSeries": stats.series,
            "numLabelPairs": stats.symbols,
            "chunkCount": 0,
            "minTime": min_time,
            "maxTime": max_time,
        },
        "seriesCountByMetricName": [],
        "labelValueCountByLabelName": [],
        "memoryInBytesByLabelName": [],
        "seriesCountByLabelValuePair": [],
    });
    Ok(page(&request, &data))
}

/// `GET /api/v1/status/walreplay`: which segment of the log is being read at the start.
pub async fn walreplay(State(app): State<App>, request: Request) -> Response {
    let (min, max, current) = app.startup.progress();
    page(&request, &json!({ "min": min, "max": max, "current": current }))
}

/// `GET /api/v1/rules`: there are no rules.
pub async fn rules(request: Request) -> Response {
    page(&request, &json!({ "groups": [] }))
}

/// `GET /api/v1/alerts`: there are no alerts.
pub async fn alerts(request: Request) -> Response {
    page(&request, &json!({ "alerts": [] }))
}

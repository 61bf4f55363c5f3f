//! Healthy, ready, metrics and the front page: outside all gates, so that they answer when nothing else does.

use super::app::App;
use super::respond::{self, Encoding};
use crate::ingest::self_monitor;
use crate::telemetry::render::{CONTENT_TYPE, Text};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, Response};
use kymo_storage::db::Health;
use std::io::Write;

/// `GET /-/healthy`: the process answers.
pub async fn healthy() -> Response {
    respond::text(StatusCode::OK, "Kymo is Healthy.\n")
}

/// `GET /-/ready`: the store is open and takes writes; else 503 with the reason.
pub async fn ready(State(app): State<App>) -> Response {
    let why_not = match app.storage_if_open().map(kymo_storage::Storage::health) {
        Some(Health::Ok) => return respond::text(StatusCode::OK, "Kymo is Ready.\n"),
        None => match app.startup.progress() {
            (0, 0, 0) => "the store is being opened".to_owned(),
            (first, last, current) => {
                format!("the log is being read: segment {current} of {first} to {last}")
            }
        },
        Some(Health::ReadOnly(why)) => format!("read-only: {why}"),
        Some(Health::Poisoned(why)) => format!("takes no writes until restarted: {why}"),
    };
    respond::text(StatusCode::SERVICE_UNAVAILABLE, format!("Service Unavailable: {why_not}\n"))
}

/// `GET /metrics`: Kymo's own metrics as text.
pub async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let mut text = Text::default();
    self_monitor::visit_all(&app.metrics, app.storage_if_open(), &mut text);
    respond::packed(Encoding::accepted(&headers), CONTENT_TYPE, |out| out.write_all(text.finish().as_bytes()))
}

/// `GET /`: what this is and where to go.
pub async fn front_page() -> Html<&'static str> {
    Html(concat!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Kymo</title><h1>Kymo ",
        env!("CARGO_PKG_VERSION"),
        "</h1><p>A metrics time-series database. Prometheus remote write goes to <code>/api/v1/write</code>; the Prometheus ",
        "HTTP API is under <code>/api/v1</code>.</p><ul><li><a href=\"/metrics\">metrics</a><li><a href=\"/-/ready\">ready</a>",
        "<li><a href=\"/api/v1/query?query=up\">a query</a><li><a href=\"/api/v1/status/tsdb\">the store</a></ul></html>\n"
    ))
}

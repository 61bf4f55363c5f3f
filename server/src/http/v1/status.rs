//! Status pages.

use crate::http::app::App;
use crate::http::respond::{self, Encoding, Notes};
use crate::wire::json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The version of the Prometheus API this server speaks: clients compare it to learn what they may ask.
const PROMETHEUS_API_VERSION: &str = "3.14.0";

pub(super) fn page(request: &Request, data: &Value) -> Response {
    let encoding = Encoding::accepted(request.headers());
    respond::success(encoding, &Notes::default(), |out| json::page(out, data))
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

/// `GET /api/v1/status/runtimeinfo`. The keys that tell of the runtime of Go are empty.
pub async fn runtimeinfo(State(app): State<App>, request: Request) -> Response {
    let stats = app.storage_if_open().map(kymo_storage::Storage::stats).unwrap_or_default();
    let retention_s = app.flags.retention.as_secs();
    let directory = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let read_ms = app.metrics.config_good_ms.get();
    page(
        &request,
        &json!({
            "startTime": rfc3339(app.started_ms),
            "CWD": directory,
            "hostname": hostname,
            "serverTime": rfc3339(app.clock.now_ms()),
            "reloadConfigSuccess": app.metrics.config_good.get() == 1,
            "lastConfigTime": rfc3339(read_ms),
            "corruptionCount": stats.wal_lost_frames + stats.blocks_quarantined,
            "goroutineCount": 0,
            "GOMAXPROCS": threads,
            "GOMEMLIMIT": 0,
            "GOGC": "",
            "GODEBUG": "",
            "storageRetention": format!("{retention_s}s"),
            "durability": format!("{:?}", app.flags.durability).to_lowercase(),
        }),
    )
}

/// `2026-11-21T05:21:06.123Z`.
fn rfc3339(timestamp_ms: i64) -> String {
    let (days, ms) = (timestamp_ms.div_euclid(86_400_000), timestamp_ms.rem_euclid(86_400_000));
    // Days since 0000-03-01, so that leap days come last (Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// `GET /api/v1/status/walreplay`: which segment of the log is being read at the start.
pub async fn walreplay(State(app): State<App>, request: Request) -> Response {
    let (min, max, current) = app.startup.progress();
    page(&request, &json!({ "min": min, "max": max, "current": current }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_238_466_280, "2026-11-21T05:21:06.280Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(rfc3339(ms), text);
        }
    }
}

//! `POST /api/v1/import`, `/api/v1/import/prometheus`, and the doors of Influx clients.

use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::intake::Paced;
use crate::http::params::Params;
use crate::http::respond;
use crate::ingest::import::{Given, Importer, Lines, Report};
use crate::wire::body::Encoding;
use crate::wire::inflow::Inflow;
use crate::wire::influx::Precision;
use crate::wire::text_format::Dialect;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kymo_storage::ErrorKind;
use serde_json::json;

/// A body is decoded and stored in pieces of about this size.
const PIECE_BYTES: usize = 128 << 10;
/// The version that Influx clients are told: one whose `/write` ours is.
const INFLUX_VERSION: &str = "1.8.10";

/// `POST /api/v1/import/prometheus`: the Prometheus text format, or OpenMetrics if `Content-Type` says so. `timestamp` (in
/// milliseconds) is the time of samples without one, else now; `extra_label=name=value` is added to every series.
pub async fn text(State(app): State<App>, request: Request) -> Response {
    let media = media_type(request.headers());
    let dialect = match media.as_str() {
        "application/openmetrics-text" => Dialect::OpenMetrics,
        "application/x-protobuf" | "application/vnd.google.protobuf" => {
            let text =
                format!("{media} is not accepted here, only text/plain and application/openmetrics-text\n");
            return respond::text(StatusCode::UNSUPPORTED_MEDIA_TYPE, text);
        }
        _ => Dialect::Prometheus,
    };
    plain(import(&app, request, |_| Ok(Lines::text(dialect))).await)
}

/// `POST /api/v1/import`: lines of JSON, as `/api/v1/export` writes them.
pub async fn json_lines(State(app): State<App>, request: Request) -> Response {
    plain(import(&app, request, |_| Ok(Lines::Json)).await)
}

/// `POST /write` of version 1 of Influx; `db` becomes a label.
pub async fn influx_1(State(app): State<App>, request: Request) -> Response {
    influx(
        import(&app, request, |params| influx_lines(params, "db")).await,
        |_, text| json!({ "error": text }),
    )
}

/// `POST /api/v2/write` of version 2 of Influx; `bucket` becomes the label `db`.
pub async fn influx_2(State(app): State<App>, request: Request) -> Response {
    influx(import(&app, request, |params| influx_lines(params, "bucket")).await, |status, text| {
        let code = match status.as_u16() {
            413 => "request too large",
            415 => "unsupported media type",
            400..=499 => "invalid",
            503 => "unavailable",
            _ => "internal error",
        };
        json!({ "code": code, "message": text })
    })
}

/// `GET /ping`: how Influx clients ask who is there.
pub async fn ping() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    add_influx_version(&mut response);
    response
}

fn influx_lines(params: &Params, label: &str) -> Result<Lines, ApiError> {
    let precision = params.get("precision").map_or(Some(Precision::default()), Precision::named);
    let precision = precision.ok_or_else(|| {
        let given = params.get("precision").unwrap_or_default();
        ApiError::bad_data(format!("invalid precision {given:?} (use n, ns, u, us, ms, s, m or h)"))
    })?;
    Ok(Lines::Influx(precision, params.get(label).map(str::to_owned)))
}

/// 204, or the text of what is wrong.
fn plain(result: Result<(Report, u64), ApiError>) -> Response {
    let complaint = match result {
        Ok((report, sent)) => report.complaint(sent).map(|text| (StatusCode::BAD_REQUEST, text)),
        Err(error) => Some((error.status, error.message)),
    };
    match complaint {
        None => StatusCode::NO_CONTENT.into_response(),
        Some((status, text)) => respond::text(status, format!("{}\n", text.trim_end())),
    }
}

/// The same in the JSON of Influx. Fields that hold texts are no mistake: they are counted and named in headers.
fn influx(
    result: Result<(Report, u64), ApiError>,
    body: impl Fn(StatusCode, &str) -> serde_json::Value,
) -> Response {
    let mut skipped = None;
    let complaint = match result {
        Ok((report, sent)) => {
            skipped =
                (report.skipped_fields > 0).then(|| (report.skipped_fields, report.skipped_names.join(",")));
            let text = report.complaint(sent);
            text.map(|text| (StatusCode::BAD_REQUEST, format!("partial write: {}", text.trim_end())))
        }
        Err(error) => Some((error.status, error.message)),
    };
    let mut response = match complaint {
        None => StatusCode::NO_CONTENT.into_response(),
        Some((status, text)) => {
            let mut response = respond::text(status, body(status, &text).to_string());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
    };
    if let Some((count, names)) = skipped {
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("x-kymo-skipped-fields"), HeaderValue::from(count));
        // Names may hold what no header can.
        let names: String = names.chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect();
        if let Ok(names) = HeaderValue::from_str(&names) {
            headers.insert(HeaderName::from_static("x-kymo-skipped-field-names"), names);
        }
    }
    add_influx_version(&mut response);
    response
}

fn add_influx_version(response: &mut Response) {
    let name = HeaderName::from_static("x-influxdb-version");
    response.headers_mut().insert(name, HeaderValue::from_static(INFLUX_VERSION));
}

fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Stores the lines of a body while it comes. Neither a thread nor a place among the writers is held while the client is slow.
async fn import(
    app: &App,
    request: Request,
    lines: impl FnOnce(&Params) -> Result<Lines, ApiError>,
) -> Result<(Report, u64), ApiError> {
    let (head, body) = request.into_parts();
    let params = Params::parse(head.uri.query(), &[])?;
    let encoding = head.headers.get(CONTENT_ENCODING).map_or("", |v| v.to_str().unwrap_or("unknown"));
    let unsupported =
        || ApiError::unsupported_media(format!("{encoding} is not accepted here, only gzip and zstd"));
    let given = Given { now: now(app, &params)?, labels: extra_labels(&params)? };
    let importer = Importer::new(app.receiver()?, lines(&params)?, given, app.bodies.hold());
    let inflow = Encoding::named(encoding).map(|encoding| Inflow::new(encoding, importer)).transpose();
    let inflow = inflow.map_err(|e| ApiError::new(Side::Write, ErrorKind::Internal, e.to_string()))?;
    let mut inflow = inflow.flatten().ok_or_else(unsupported)?;
    // The body may come slowly, and the head keeps the buffer that it was read into.
    drop(head);
    let mut body = Paced::new(body);
    loop {
        let mut held = app.bodies.hold();
        let (piece, is_last) = match body.next(PIECE_BYTES, &mut held).await {
            Ok(next) => next,
            Err(error) => {
                let mut error = error.into_api(Side::Write, PIECE_BYTES);
                error.message = format!("{} ({})", error.message, inflow.sink().so_far());
                return Err(error);
            }
        };
        app.metrics.ingest_body_bytes.add(piece.len() as u64);
        inflow.sink().allow(body.received);
        let place = app.ingest_gate.enter(Side::Write).await?;
        let task = tokio::task::spawn_blocking(move || {
            let result = push(&mut inflow, &piece, is_last);
            drop((place, held, piece));
            // What is over is let go here: this thread ends soon, and what it freed goes back to the system.
            (matches!(result, Ok(None)).then_some(inflow), result)
        });
        let (returned, result) = task.await.map_err(|failure| {
            tracing::error!(%failure, "an import ended in a bug");
            ApiError::new(Side::Write, ErrorKind::Internal, "the import met a bug of Kymo; see the log")
        })?;
        match (result?, returned) {
            (None, Some(rest)) => inflow = rest,
            (Some(done), _) => return Ok(done),
            (None, None) => {
                let text = "the import lost its place, which is a bug of Kymo";
                return Err(ApiError::new(Side::Write, ErrorKind::Internal, text));
            }
        }
    }
}

/// Decodes and stores one piece; says what became of all if it was the last.
fn push(
    inflow: &mut Inflow<Importer>,
    piece: &[u8],
    is_last: bool,
) -> Result<Option<(Report, u64)>, ApiError> {
    let pushed = inflow.push(piece).and_then(|()| if is_last { inflow.end() } else { Ok(()) });
    let importer = inflow.sink();
    match pushed {
        Ok(()) if is_last => importer.finish().map(Some),
        Ok(()) => Ok(None),
        Err(damage) => Err(importer.failure().unwrap_or_else(|| {
            let text = format!("the body is damaged or cut short: {damage} ({})", importer.so_far());
            ApiError::new(Side::Write, ErrorKind::Invalid, text)
        })),
    }
}

fn now(app: &App, params: &Params) -> Result<i64, ApiError> {
    let Some(text) = params.get("timestamp") else { return Ok(app.clock.now_ms()) };
    let why = |_| ApiError::parameter("timestamp", format_args!("{text:?} is no time in milliseconds"));
    text.parse().map_err(why)
}

fn extra_labels(params: &Params) -> Result<Vec<(String, String)>, ApiError> {
    let pair = |text: &str| {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| ApiError::parameter("extra_label", format_args!("{text:?} is not name=value")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    params.all("extra_label").map(pair).collect()
}

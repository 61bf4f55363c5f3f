//! `POST /api/v1/otlp/v1/metrics`: OpenTelemetry metrics, in protobuf or JSON.

use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::intake::HeldBody;
use crate::ingest::otlp::{DeltaState, Translated, has_deltas, translate};
use crate::ingest::receiver::Receiver;
use crate::wire::body::{self, Encoding};
use crate::wire::otlp::{self, Format};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use kymo_storage::ErrorKind;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// The code of gRPC for what can never succeed.
const INVALID_ARGUMENT: i32 = 3;
/// The code of gRPC for what may succeed later.
const UNAVAILABLE: i32 = 14;
/// What a client is told to wait, in seconds.
const RETRY_AFTER_S: &str = "5";

/// The totals of delta series, held until the request that changes them is stored.
type Deltas = OwnedMutexGuard<DeltaState>;

/// Stores the metrics of a request: 200 with what was rejected, 400 if all of it was. Every answer is in the format of the
/// request.
pub async fn write(State(app): State<App>, request: Request) -> Response {
    let format = match format_of(request.headers()) {
        Ok(format) => format,
        // There is no format to answer in.
        Err(error) => return crate::http::respond::text(error.status, format!("{}\n", error.message)),
    };
    match receive(&app, request, format).await {
        Ok((rejected, message)) => answer(StatusCode::OK, format, otlp::response(format, rejected, &message)),
        Err(error) => {
            let retry = error.status.is_server_error() || error.status == StatusCode::TOO_MANY_REQUESTS;
            let code = if retry { UNAVAILABLE } else { INVALID_ARGUMENT };
            let mut response = answer(error.status, format, otlp::status(format, code, &error.message));
            if retry {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
            }
            response
        }
    }
}

fn answer(status: StatusCode, format: Format, bytes: Vec<u8>) -> Response {
    let content_type = match format {
        Format::Protobuf => "application/x-protobuf",
        Format::Json => "application/json",
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn format_of(headers: &HeaderMap) -> Result<Format, ApiError> {
    let text = headers.get(CONTENT_TYPE).map_or("", |v| v.to_str().unwrap_or("unknown"));
    match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "application/x-protobuf" => Ok(Format::Protobuf),
        "application/json" => Ok(Format::Json),
        _ => Err(ApiError::bad_data(format!(
            "unsupported content type: {text}, supported: [application/json, application/x-protobuf]"
        ))),
    }
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let text = headers.get(CONTENT_ENCODING).map_or("", |v| v.to_str().unwrap_or("unknown"));
    Encoding::named(text).ok_or_else(|| {
        ApiError::bad_data(format!(
            "unsupported compression: {text}. Only gzip, deflate, zstd, snappy or no compression supported"
        ))
    })
}

/// How many data points were rejected, and why.
async fn receive(app: &App, request: Request, format: Format) -> Result<(u64, String), ApiError> {
    let (head, body) = request.into_parts();
    let encoding = encoding_of(&head.headers)?;
    // The body may come slowly, and the head keeps the buffer that it was read into.
    drop(head);
    let limits = app.settings().ingest;
    let held = app.bodies.read(body, limits.body_bytes_max).await;
    let held = held.map_err(|e| e.into_api(Side::Write, limits.body_bytes_max))?;
    let receiver = app.receiver()?;
    let place = app.ingest_gate.enter(Side::Write).await?;
    let work = {
        let (receiver, app) = (receiver.clone(), app.clone());
        move || prepare(&app, &receiver, held, (format, encoding))
    };
    let prepared = tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| {
        tracing::error!(%failure, "translating a request ended in a bug");
        Err(ApiError::new(Side::Write, ErrorKind::Internal, "translating met a bug of Kymo; see the log"))
    });
    drop(place);
    let (Translated { prepared, staged, points, rejected }, mut deltas) = prepared?;
    let outcome = receiver.commit(prepared).await?;
    if let Some(deltas) = &mut deltas {
        deltas.keep(staged);
    }
    let Some(refused) = outcome.refused else { return Ok((0, String::new())) };
    let stored = outcome.written.samples + outcome.written.histograms;
    if stored == 0 {
        return Err(refused);
    }
    // One data point may be several samples; no more points than came are rejected.
    Ok((outcome.refused_samples.max(rejected).min(points), refused.message))
}

fn prepare(
    app: &App,
    receiver: &Receiver,
    mut held: HeldBody,
    (format, encoding): (Format, Encoding),
) -> Result<(Translated, Option<Deltas>), ApiError> {
    let settings = app.settings();
    let refuse = |kind, text: String| ApiError::new(Side::Write, kind, text);
    let mut buffer = Vec::new();
    let limit = settings.ingest.decoded_bytes_max;
    let decoded = body::decode(encoding, &held.bytes, limit, &mut held.held, &mut buffer);
    let decoded = decoded.map_err(|e| {
        let kind = match e {
            body::BodyError::NoMemory { .. } => ErrorKind::Unavailable,
            body::BodyError::Corrupt { .. } | body::BodyError::TooLarge { .. } => ErrorKind::Invalid,
        };
        refuse(kind, e.to_string())
    })?;
    app.metrics.ingest_body_bytes.add(held.bytes.len() as u64);
    app.metrics.ingest_decoded_bytes.add(decoded.len() as u64);
    let request = otlp::decode(format, decoded).map_err(|e| refuse(ErrorKind::Invalid, e.to_string()))?;
    // Requests with delta series come one after the other: each builds on what the one before has stored.
    let deltas = has_deltas(&request).then(|| Arc::clone(&app.deltas).blocking_lock_owned());
    let none = DeltaState::default();
    let translated = translate(receiver, &settings.otlp, &request, deltas.as_deref().unwrap_or(&none));
    Ok((translated, deltas))
}

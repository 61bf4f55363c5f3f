//! `POST /api/v1/write`: remote write 1.0.

use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::respond;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

/// Bodies up to this size are decoded where they arrive (some hundred microseconds); larger ones on the blocking pool.
const INLINE_BYTES_MAX: usize = 128 << 10;
/// The message we know, as the 2.0 protocol names it in `Content-Type`.
const PROTO_V1: &str = "prometheus.WriteRequest";

/// Stores the samples of a remote-write request: 204 if all are stored, 400 naming the rest otherwise.
pub async fn write(State(app): State<App>, request: Request) -> Response {
    match receive(&app, request).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        // Senders log the text as it is, so it is not wrapped in JSON.
        Err(error) => respond::text(error.status, format!("{}\n", error.message.trim_end())),
    }
}

async fn receive(app: &App, request: Request) -> Result<(), ApiError> {
    let (head, body) = request.into_parts();
    check_encoding(&head.headers)?;
    let bytes_max = app.flags.ingest.ingest_max_body_bytes;
    let held = app.bodies.read(body, bytes_max).await.map_err(|e| e.into_api(Side::Write, bytes_max))?;
    let receiver = app.receiver()?;
    let place = app.ingest_gate.enter(Side::Write).await?;
    let prepare = {
        let (receiver, headers) = (receiver.clone(), head.headers);
        let size = held.bytes.len();
        let work = move || receiver.prepare(&held.bytes, || check_type(&headers));
        if size <= INLINE_BYTES_MAX {
            work()
        } else {
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| {
                tracing::error!(%failure, "decoding a write ended in a bug");
                let text = "decoding met a bug of Kymo; see the log";
                Err(ApiError::new(Side::Write, kymo_storage::ErrorKind::Internal, text))
            })
        }
    };
    drop(place);
    receiver.commit(prepare?).await
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let encoding = headers.get(CONTENT_ENCODING).map(|v| v.to_str().unwrap_or("unknown"));
    match encoding {
        None | Some("" | "snappy") => Ok(()),
        Some(other) => Err(ApiError::unsupported_media(format!(
            "{other} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ))),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or("unknown");
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if media.is_empty() {
        return Ok(());
    }
    if !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(ApiError::unsupported_media(format!(
            "expected application/x-protobuf as the first (media) part, got {text} content-type"
        )));
    }
    match parts.find_map(|p| p.strip_prefix("proto=")) {
        None | Some(PROTO_V1) => Ok(()),
        Some(proto) => Err(ApiError::unsupported_media(format!(
            "got {text} content type; remote write protobuf message {proto} is not accepted, supported: {PROTO_V1}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn types_and_encodings() {
        let with = |name, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            headers
        };
        for good in [
            "",
            "application/x-protobuf",
            "application/x-protobuf;proto=prometheus.WriteRequest",
            "application/X-Protobuf; proto=prometheus.WriteRequest",
        ] {
            assert!(check_type(&with(CONTENT_TYPE, good)).is_ok(), "{good}");
        }
        for bad in ["application/json", "application/x-protobuf;proto=io.prometheus.write.v2.Request"] {
            assert_eq!(check_type(&with(CONTENT_TYPE, bad)).unwrap_err().status.as_u16(), 415, "{bad}");
        }
        assert!(check_encoding(&with(CONTENT_ENCODING, "snappy")).is_ok());
        assert_eq!(check_encoding(&with(CONTENT_ENCODING, "zstd")).unwrap_err().status.as_u16(), 415);
    }
}

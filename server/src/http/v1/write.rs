//! `POST /api/v1/write`: remote write 1.0 and 2.0.

use crate::error::{ApiError, Side};
use crate::http::app::App;
use crate::http::respond;
use crate::ingest::remote_write::{Message, Outcome, Written};
use crate::wire::remote_write_limits::{MESSAGE_V1, MESSAGE_V2};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

/// Bodies up to this size are decoded where they arrive (some hundred microseconds); larger ones on the blocking pool.
const INLINE_BYTES_MAX: usize = 128 << 10;
/// The messages, as `Content-Type` names them.
const PROTOS: [(&str, Message); 2] = [(MESSAGE_V1, Message::V1), (MESSAGE_V2, Message::V2)];

/// Stores the samples of a remote-write request: 204 if all are stored, 400 naming the rest otherwise. To a request of version
/// 2.0, every answer says how much is stored.
pub async fn write(State(app): State<App>, request: Request) -> Response {
    let message = message_of(request.headers());
    let is_counted = matches!(message, Ok(Message::V2));
    let outcome = receive(&app, request, message).await;
    let (written, error) = match outcome {
        Ok(Outcome { written, refused, .. }) => (written, refused),
        Err(error) => (Written::default(), Some(error)),
    };
    let unsupported = error.as_ref().is_some_and(|e| e.status == StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let mut response = match error {
        None => StatusCode::NO_CONTENT.into_response(),
        // Senders log the text as it is, so it is not wrapped in JSON.
        Some(error) => respond::text(error.status, format!("{}\n", error.message.trim_end())),
    };
    if is_counted && !unsupported {
        add_written(response.headers_mut(), written);
    }
    response
}

fn add_written(headers: &mut HeaderMap, written: Written) {
    let counts = [
        (HeaderName::from_static("x-prometheus-remote-write-samples-written"), written.samples),
        (HeaderName::from_static("x-prometheus-remote-write-histograms-written"), written.histograms),
        (HeaderName::from_static("x-prometheus-remote-write-exemplars-written"), written.exemplars),
    ];
    for (name, count) in counts {
        headers.insert(name, HeaderValue::from(count));
    }
}

async fn receive(
    app: &App,
    request: Request,
    message: Result<Message, ApiError>,
) -> Result<Outcome, ApiError> {
    let (head, body) = request.into_parts();
    check_encoding(&head.headers)?;
    // The body may come slowly, and the head keeps the buffer that it was read into.
    drop(head);
    let bytes_max = app.settings().ingest.body_bytes_max;
    let held = app.bodies.read(body, bytes_max).await.map_err(|e| e.into_api(Side::Write, bytes_max))?;
    let receiver = app.receiver()?;
    let place = app.ingest_gate.enter(Side::Write).await?;
    let prepare = {
        let receiver = receiver.clone();
        let size = held.bytes.len();
        let work = move || receiver.prepare(&held.bytes, message);
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

/// Which message the body is, by its type.
fn message_of(headers: &HeaderMap) -> Result<Message, ApiError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Message::V1) };
    let text = value.to_str().unwrap_or("unknown");
    let mut parts = text.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    if media.is_empty() {
        return Ok(Message::V1);
    }
    if !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(ApiError::unsupported_media(format!(
            "expected application/x-protobuf as the first (media) part, got {text} content-type"
        )));
    }
    let parameter = |part: &'_ str| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"').to_owned())
    };
    let Some(proto) = parts.find_map(parameter) else { return Ok(Message::V1) };
    let known = PROTOS.iter().find(|(name, _)| *name == proto);
    known.map(|(_, message)| *message).ok_or_else(|| {
        let [v1, v2] = PROTOS.map(|(name, _)| name);
        ApiError::unsupported_media(format!(
            "got {text} content type; unknown type for remote write protobuf message {proto}, supported: {v1}, {v2}"
        ))
    })
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
        let messages = [
            ("", Some(Message::V1)),
            ("application/x-protobuf", Some(Message::V1)),
            ("application/x-protobuf;proto=prometheus.WriteRequest", Some(Message::V1)),
            ("application/X-Protobuf; proto=prometheus.WriteRequest", Some(Message::V1)),
            ("application/x-protobuf;proto=io.prometheus.write.v2.Request", Some(Message::V2)),
            (
                "application/x-protobuf; charset=x; proto=\"io.prometheus.write.v2.Request\"",
                Some(Message::V2),
            ),
            ("application/x-protobuf;proto=io.prometheus.write.v3.Request", None),
            ("application/json", None),
        ];
        for (text, expected) in messages {
            let message = message_of(&with(CONTENT_TYPE, text));
            assert_eq!(
                message.as_ref().err().map(|e| e.status.as_u16()),
                expected.is_none().then_some(415),
                "{text}"
            );
            assert_eq!(message.ok(), expected, "{text}");
        }
        assert!(check_encoding(&with(CONTENT_ENCODING, "snappy")).is_ok());
        assert_eq!(check_encoding(&with(CONTENT_ENCODING, "zstd")).unwrap_err().status.as_u16(), 415);
    }
}

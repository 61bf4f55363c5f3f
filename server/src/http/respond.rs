//! Responses: the JSON envelope, compression, and the headers all of them carry.

use crate::error::ApiError;
use crate::wire::json;
use axum::body::Body;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{self, Write};

/// How the client wants its response compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// zlib, which HTTP calls deflate.
    Deflate,
}

/// Smaller responses are not worth compressing.
const COMPRESS_FROM_BYTES: usize = 1_024;
/// JSON is handed to the compressor in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;
/// What a client is told to wait after a 503 or 429.
const RETRY_AFTER_S: &str = "5";

impl Encoding {
    /// The best encoding the request accepts. A weight of zero means "not this one"; other weights are not compared.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let mut best = Self::Identity;
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
        for item in values.flat_map(|v| v.split(',')) {
            let (name, weight) = item.split_once(';').unwrap_or((item, ""));
            let refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.trim().parse() == Ok(0.0));
            match name.trim() {
                "gzip" if !refused => return Self::Gzip,
                "deflate" if !refused => best = Self::Deflate,
                _ => {}
            }
        }
        best
    }
}

/// A body under construction, compressed as it grows.
pub struct BodyWriter {
    buffer: Vec<u8>,
    encoder: Encoder,
    started: bool,
    written: usize,
}

enum Encoder {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
}

impl BodyWriter {
    /// An empty body.
    pub fn new(encoding: Encoding) -> Self {
        let encoder = match encoding {
            Encoding::Identity => Encoder::Identity,
            Encoding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Encoding::Deflate => Encoder::Deflate(ZlibEncoder::new(Vec::new(), Compression::fast())),
        };
        Self { buffer: Vec::with_capacity(COMPRESS_FROM_BYTES), encoder, started: false, written: 0 }
    }

    fn compress_buffer(&mut self) -> io::Result<()> {
        match &mut self.encoder {
            Encoder::Identity => return Ok(()),
            Encoder::Gzip(encoder) => encoder.write_all(&self.buffer)?,
            Encoder::Deflate(encoder) => encoder.write_all(&self.buffer)?,
        }
        self.started = true;
        self.buffer.clear();
        Ok(())
    }

    /// Bytes written so far, before compression.
    pub fn written(&self) -> usize {
        self.written
    }

    /// How the bytes are compressed.
    pub fn encoding(&self) -> Option<&'static str> {
        match self.encoder {
            Encoder::Identity => None,
            Encoder::Gzip(_) => Some("gzip"),
            Encoder::Deflate(_) => Some("deflate"),
        }
    }

    /// What can be sent already, if that is at least `least` bytes; else nothing.
    pub fn take_piece(&mut self, least: usize) -> Vec<u8> {
        let ready = match &mut self.encoder {
            Encoder::Identity => &mut self.buffer,
            Encoder::Gzip(encoder) => encoder.get_mut(),
            Encoder::Deflate(encoder) => encoder.get_mut(),
        };
        if ready.len() < least { Vec::new() } else { std::mem::take(ready) }
    }

    /// The bytes that were not taken, and the encoding they are in.
    ///
    /// # Errors
    /// The compressor's.
    pub fn finish(mut self) -> io::Result<(Vec<u8>, Option<&'static str>)> {
        if !self.started && self.buffer.len() < COMPRESS_FROM_BYTES {
            return Ok((self.buffer, None));
        }
        self.compress_buffer()?;
        match self.encoder {
            Encoder::Identity => Ok((self.buffer, None)),
            Encoder::Gzip(encoder) => Ok((encoder.finish()?, Some("gzip"))),
            Encoder::Deflate(encoder) => Ok((encoder.finish()?, Some("deflate"))),
        }
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES { self.compress_buffer() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the reader of a result must be told; final sentences.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    /// `warnings` of the envelope.
    pub warnings: Vec<String>,
    /// `infos` of the envelope.
    pub infos: Vec<String>,
}

/// The warning of a list or result that was cut to `limit`.
pub const TRUNCATED: &str = "results truncated due to limit";

impl Notes {
    /// Cuts `list` to `limit` and says so.
    pub fn truncate<T>(&mut self, list: &mut Vec<T>, limit: Option<usize>) {
        if limit.is_some_and(|limit| list.len() > limit) {
            list.truncate(limit.unwrap_or(usize::MAX));
            self.warnings.push(TRUNCATED.to_owned());
        }
    }
}

/// 200 with the envelope around what `data` writes.
pub fn success(
    encoding: Encoding,
    notes: &Notes,
    data: impl FnOnce(&mut BodyWriter) -> io::Result<()>,
) -> Response {
    let write = || {
        let mut body = BodyWriter::new(encoding);
        body.write_all(br#"{"status":"success","data":"#)?;
        data(&mut body)?;
        write_notes(&mut body, notes)?;
        body.finish()
    };
    match write() {
        Ok((bytes, encoding)) => json_response(Body::from(bytes), encoding),
        Err(failure) => unwritten(&failure),
    }
}

/// The end of an envelope: what the reader must be told.
///
/// # Errors
/// As the writer.
pub fn write_notes(body: &mut BodyWriter, notes: &Notes) -> io::Result<()> {
    for (name, texts) in [("warnings", &notes.warnings), ("infos", &notes.infos)] {
        if !texts.is_empty() {
            write!(body, ",\"{name}\":")?;
            json::strings(body, texts)?;
        }
    }
    body.write_all(b"}")
}

/// 200 with JSON in this encoding.
pub(super) fn json_response(body: Body, encoding: Option<&'static str>) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(encoding) = encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// Only a compressor over memory could fail to write.
pub(super) fn unwritten(failure: &io::Error) -> Response {
    ApiError::new(crate::error::Side::Read, kymo_storage::ErrorKind::Internal, failure.to_string())
        .into_response()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        error(&self, None)
    }
}

/// The envelope of an error that has more to say than its text.
pub fn error_with_data(failure: &ApiError, data: &serde_json::Value) -> Response {
    error(failure, Some(data))
}

fn error(failure: &ApiError, data: Option<&serde_json::Value>) -> Response {
    let mut body = Vec::new();
    // Writing to memory cannot fail.
    let _ = body.write_all(br#"{"status":"error","#);
    if let Some(data) = data {
        let _ = write!(body, "\"data\":{data},");
    }
    let _ = body.write_all(br#""errorType":"#);
    let _ = json::string(&mut body, failure.error_type);
    let _ = body.write_all(br#","error":"#);
    let _ = json::string(&mut body, &failure.message);
    let _ = body.write_all(b"}");
    let mut response = (failure.status, body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    add_retry_after(&mut response);
    response
}

/// Plain text, as the write path, health and unknown paths answer.
pub fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = (status, text.into()).into_response();
    add_retry_after(&mut response);
    response
}

fn add_retry_after(response: &mut Response) {
    if [StatusCode::SERVICE_UNAVAILABLE, StatusCode::TOO_MANY_REQUESTS].contains(&response.status()) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn accepted(text: &'static str) -> Encoding {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(text));
        Encoding::accepted(&headers)
    }

    #[test]
    fn encodings_are_chosen() {
        assert_eq!(accepted("deflate, gzip;q=0.5"), Encoding::Gzip);
        assert_eq!(accepted("gzip;q=0, deflate"), Encoding::Deflate);
        assert_eq!(accepted("zstd, br"), Encoding::Identity);
    }

    async fn body(response: Response) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn envelope_and_compression() {
        let notes = Notes { warnings: vec!["w".into()], infos: vec!["<i>".into()] };
        let response = success(Encoding::Gzip, &notes, |out| out.write_all(b"[1]"));
        assert_eq!(response.headers().get(CONTENT_ENCODING), None, "too small to compress");
        let expected: &[u8] =
            br#"{"status":"success","data":[1],"warnings":["w"],"infos":["\u003ci\u003e"]}"#;
        assert_eq!(body(response).await, expected);

        let long = "x".repeat(200_000);
        for encoding in [Encoding::Gzip, Encoding::Deflate] {
            let response = success(encoding, &Notes::default(), |out| json::string(out, &long));
            let (name, bytes) = (response.headers().get(CONTENT_ENCODING).cloned(), body(response).await);
            assert!(bytes.len() < 10_000);
            let mut text = String::new();
            if name.unwrap() == "gzip" {
                flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
            } else {
                flate2::read::ZlibDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
            }
            assert_eq!(text, format!(r#"{{"status":"success","data":"{long}"}}"#));
        }
    }

    #[tokio::test]
    async fn errors_have_the_envelope() {
        let response = ApiError::parameter("step", "no \"step\"").into_response();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let expected: &[u8] =
            br#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"step\": no \"step\""}"#;
        assert_eq!(body(response).await, expected);
    }
}

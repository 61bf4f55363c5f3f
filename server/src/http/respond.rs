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
use zstd::stream::write::Encoder as ZstdEncoder;

/// How the client wants its response compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// zlib, which HTTP calls deflate.
    Deflate,
    /// zstd (RFC 8878).
    Zstd,
}

/// The encodings there are, the best first: of those that a client likes equally the first is taken. zstd packs better than gzip
/// and costs less.
const ENCODINGS: [(&str, Encoding); 4] = [
    ("zstd", Encoding::Zstd),
    ("gzip", Encoding::Gzip),
    ("x-gzip", Encoding::Gzip),
    ("deflate", Encoding::Deflate),
];

/// Smaller responses are not worth compressing.
const COMPRESS_FROM_BYTES: usize = 1_024;
/// The fastest level that still packs JSON ten times.
const ZSTD_LEVEL: i32 = 1;
/// How far back zstd looks, as a power of two: what is alike in JSON is near, and a compressor waits with each long answer.
const ZSTD_WINDOW_LOG: u32 = 17;
/// What a compressor of gzip or deflate takes as long as it is there, in bytes; and one of zstd.
const DEFLATE_STATE_BYTES: usize = 320 << 10;
/// See there.
const ZSTD_STATE_BYTES: usize = 640 << 10;
/// JSON is handed to the compressor in pieces of this size.
const PIECE_BYTES: usize = 16 << 10;
/// What a client is told to wait after a 503 or 429.
const RETRY_AFTER_S: &str = "5";

impl Encoding {
    /// What a compressor takes as long as it is there, in bytes.
    pub fn state_bytes(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Gzip | Self::Deflate => DEFLATE_STATE_BYTES,
            Self::Zstd => ZSTD_STATE_BYTES,
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
            Self::Zstd => Some("zstd"),
        }
    }

    /// The encoding the request likes best (RFC 9110, section 12.5.3): by its weights, and of equal ones by our own order. A name
    /// without weight has the weight 1; `*` stands for those that are not named.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|v| v.to_str().ok());
        let mut weights = [None; ENCODINGS.len()];
        let (mut identity, mut others) = (None, None);
        for item in values.flat_map(|v| v.split(',')) {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let Some(weight) = weight(parts) else { continue };
            if name == "*" {
                others = Some(weight);
            } else if name.eq_ignore_ascii_case("identity") {
                identity = Some(weight);
            } else if let Some(i) = ENCODINGS.iter().position(|(known, _)| known.eq_ignore_ascii_case(name))
                && let Some(slot) = weights.get_mut(i)
            {
                *slot = Some(weight);
            }
        }
        // What is not named is not refused: it is only liked less than anything that is.
        let mut best = (identity.unwrap_or(0), Self::Identity);
        for (weight, (_, encoding)) in weights.into_iter().zip(ENCODINGS) {
            let weight = weight.or(others).unwrap_or(0);
            // A tie with identity goes to the encoding: the client can take both, and the network is the slower part.
            let tie = weight == best.0 && best.1 == Self::Identity;
            if weight > 0 && (weight > best.0 || tie) {
                best = (weight, encoding);
            }
        }
        best.1
    }
}

/// The weight among the parameters of an item, in thousandths; `None` if it is none.
fn weight<'p>(mut parameters: impl Iterator<Item = &'p str>) -> Option<u32> {
    let Some(q) = parameters.find_map(|p| p.strip_prefix("q=").or(p.strip_prefix("Q="))) else {
        return Some(1_000);
    };
    let q: f32 = q.trim().parse().ok()?;
    (0.0..=1.0).contains(&q).then_some((q * 1_000.0) as u32)
}

/// A body under construction, compressed as it grows.
pub struct BodyWriter {
    encoding: Encoding,
    /// Not yet compressed.
    buffer: Vec<u8>,
    /// Made when there is something to compress: most answers are too short.
    encoder: Option<Encoder>,
    written: usize,
}

enum Encoder {
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(ZlibEncoder<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
}

impl Encoder {
    /// `None` for [`Encoding::Identity`].
    fn new(encoding: Encoding) -> io::Result<Option<Self>> {
        Ok(Some(match encoding {
            Encoding::Identity => return Ok(None),
            Encoding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Encoding::Deflate => Self::Deflate(ZlibEncoder::new(Vec::new(), Compression::fast())),
            Encoding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                Self::Zstd(encoder)
            }
        }))
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Deflate(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    /// What is compressed and not yet taken.
    fn ready(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Deflate(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Deflate(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl BodyWriter {
    /// An empty body.
    pub fn new(encoding: Encoding) -> Self {
        Self { encoding, buffer: Vec::with_capacity(COMPRESS_FROM_BYTES), encoder: None, written: 0 }
    }

    fn compress_buffer(&mut self) -> io::Result<()> {
        if self.encoder.is_none() {
            self.encoder = Encoder::new(self.encoding)?;
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Bytes written so far, before compression.
    pub fn written(&self) -> usize {
        self.written
    }

    /// How the bytes are compressed.
    pub fn encoding(&self) -> Option<&'static str> {
        self.encoding.name()
    }

    /// What can be sent already, if that is at least `least` bytes; else nothing.
    pub fn take_piece(&mut self, least: usize) -> Vec<u8> {
        let ready = match (&mut self.encoder, self.encoding) {
            (Some(encoder), _) => encoder.ready(),
            (None, Encoding::Identity) => &mut self.buffer,
            (None, _) => return Vec::new(),
        };
        if ready.len() < least {
            // Most of what is over goes over by little.
            ready.reserve((least + least / 2).saturating_sub(ready.len()));
            return Vec::new();
        }
        std::mem::take(ready)
    }

    /// Appends what `write` adds to the bytes it is given: for many small parts.
    ///
    /// # Errors
    /// The compressor's.
    pub fn append(&mut self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        let before = self.buffer.len();
        write(&mut self.buffer)?;
        self.written += self.buffer.len().saturating_sub(before);
        self.compress_if_due()
    }

    fn compress_if_due(&mut self) -> io::Result<()> {
        let is_due = self.buffer.len() >= PIECE_BYTES && self.encoding != Encoding::Identity;
        if is_due { self.compress_buffer() } else { Ok(()) }
    }

    /// The bytes that were not taken, and the encoding they are in.
    ///
    /// # Errors
    /// The compressor's.
    pub fn finish(mut self) -> io::Result<(Vec<u8>, Option<&'static str>)> {
        if self.encoder.is_none() && self.buffer.len() < COMPRESS_FROM_BYTES {
            return Ok((self.buffer, None));
        }
        self.compress_buffer()?;
        match self.encoder {
            Some(encoder) => Ok((encoder.finish()?, self.encoding.name())),
            None => Ok((self.buffer, None)),
        }
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len();
        self.buffer.extend_from_slice(bytes);
        self.compress_if_due()
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
    packed(encoding, "application/json", |body| {
        body.write_all(br#"{"status":"success","data":"#)?;
        data(body)?;
        write_notes(body, notes)
    })
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

/// 200 with what `write` writes, compressed as the client likes it.
pub fn packed(
    encoding: Encoding,
    content_type: &'static str,
    write: impl FnOnce(&mut BodyWriter) -> io::Result<()>,
) -> Response {
    let mut body = BodyWriter::new(encoding);
    match write(&mut body).and_then(|()| body.finish()) {
        Ok((bytes, encoding)) => {
            typed_response(Body::from(bytes), HeaderValue::from_static(content_type), encoding)
        }
        Err(failure) => unwritten(&failure),
    }
}

/// 200 with a body of this type and encoding.
pub(super) fn typed_response(
    body: Body,
    content_type: HeaderValue,
    encoding: Option<&'static str>,
) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
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
        let _ = body.write_all(b"\"data\":").and_then(|()| json::page(&mut body, data));
        body.push(b',');
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
        let cases = [
            ("deflate, gzip;q=0.5", Encoding::Deflate),
            ("gzip;q=0, deflate", Encoding::Deflate),
            ("gzip", Encoding::Gzip),
            ("x-gzip", Encoding::Gzip),
            ("GZIP;Q=0.3", Encoding::Gzip),
            ("gzip, deflate, br, zstd", Encoding::Zstd),
            ("gzip;q=1.0, zstd;q=0.9", Encoding::Gzip),
            ("br", Encoding::Identity),
            ("*", Encoding::Zstd),
            ("*;q=0", Encoding::Identity),
            ("zstd;q=0, *", Encoding::Gzip),
            ("identity, gzip;q=0.5", Encoding::Identity),
            ("identity;q=0.5, gzip;q=0.5", Encoding::Gzip),
            ("gzip;q=2", Encoding::Identity),
            ("gzip;q=x", Encoding::Identity),
            ("", Encoding::Identity),
        ];
        for (text, expected) in cases {
            assert_eq!(accepted(text), expected, "{text:?}");
        }
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
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd] {
            let response = success(encoding, &Notes::default(), |out| json::string(out, &long));
            let (name, bytes) = (response.headers().get(CONTENT_ENCODING).cloned(), body(response).await);
            assert!(bytes.len() < 10_000);
            let mut text = String::new();
            let mut reader: Box<dyn Read> = match name.unwrap().to_str().unwrap() {
                "gzip" => Box::new(flate2::read::GzDecoder::new(bytes.as_slice())),
                "zstd" => Box::new(zstd::stream::read::Decoder::new(bytes.as_slice()).unwrap()),
                _ => Box::new(flate2::read::ZlibDecoder::new(bytes.as_slice())),
            };
            reader.read_to_string(&mut text).unwrap();
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

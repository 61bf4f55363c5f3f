//! `POST /api/v1/read`: remote read, all samples at once or a stream of chunks.

use crate::error::{ApiError, Side};
use crate::http::admission::{Cancel, run_query};
use crate::http::app::App;
use crate::http::external::External;
use crate::http::pieces::{Pieces, stream};
use crate::http::respond;
use crate::wire::body;
use crate::wire::protobuf_writer::bytes_field;
use crate::wire::remote_read::{self, Query, ReadRequest, ResponseType};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::Response;
use kymo_storage::ErrorKind;
use kymo_storage::api::{Queryable, Samples, SeriesSet};
use kymo_storage::db::Storage;
use kymo_storage::model::{Labels, TimeRange};
use kymo_storage::prometheus::chunks_of;

/// Bytes of a request, decoded: some queries with their matchers.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Bytes of a frame's chunks; one chunk goes over that at most.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Bytes of an answer that is sent at once, before compression.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Frames are put together to pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;
/// How often a loop over series looks whether its client is still there.
const CANCEL_CHECK_EVERY: usize = 256;

/// What the answer to a request is made from.
struct Source {
    storage: Storage,
    external: External,
    samples_max: u64,
}

/// Answers a remote read.
pub async fn read(State(app): State<App>, request: Request) -> Response {
    match answer(&app, request).await {
        Ok(response) => response,
        // Prometheus, the only client, logs the text as it is.
        Err(error) => respond::text(error.status, format!("{}\n", error.message.trim_end())),
    }
}

async fn answer(app: &App, request: Request) -> Result<Response, ApiError> {
    let held = app.bodies.read(request.into_body(), REQUEST_BYTES_MAX).await;
    let held = held.map_err(|e| e.into_api(Side::Read, REQUEST_BYTES_MAX))?;
    let mut buffer = Vec::new();
    let decoded = body::snappy(&held.bytes, REQUEST_BYTES_MAX, &mut buffer);
    let decoded = decoded.map_err(|e| ApiError::bad_data(e.to_string()))?;
    let ReadRequest { queries, response_type } =
        remote_read::decode(decoded).map_err(|e| ApiError::bad_data(e.to_string()))?;
    let settings = app.settings();
    let source = Source {
        storage: app.storage(Side::Read)?,
        external: External(settings.external_labels.clone()),
        samples_max: settings.query.samples_max,
    };
    match response_type {
        ResponseType::Samples => {
            let work = move |cancel: &Cancel| source.all(queries, cancel);
            let bytes = run_query(&app.query_gate, &app.metrics, work).await?;
            Ok(respond_with(Body::from(bytes), "application/x-protobuf", true))
        }
        ResponseType::StreamedChunks => {
            let work = move |pieces: &Pieces, cancel: &Cancel| source.stream(queries, pieces, cancel);
            let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            Ok(respond_with(stream(app, work).await?, content_type, false))
        }
    }
}

fn respond_with(body: Body, content_type: &'static str, is_snappy: bool) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if is_snappy {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
    }
    response
}

fn failed(error: &kymo_storage::Error) -> ApiError {
    ApiError::storage(Side::Read, error)
}

impl Source {
    /// Hands over each series of a query that has samples, in the order of labels.
    fn each_series(
        &self,
        query: Query,
        cancel: &Cancel,
        mut take: impl FnMut(&Labels, &Samples) -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        if query.end < query.start {
            return Ok(());
        }
        let range = TimeRange::closed(query.start, query.end);
        let querier = self.storage.querier(range).map_err(|e| failed(&e))?;
        let set = querier.select(range, &self.external.stored(query.matchers)).map_err(|e| failed(&e))?;
        let mut samples = Samples::new();
        for (count, index) in self.external.order(&*set).into_iter().enumerate() {
            if count % CANCEL_CHECK_EVERY == 0 && cancel.is_cancelled() {
                return Err(ApiError::cancelled());
            }
            set.read(index, range, &mut samples).map_err(|e| failed(&e))?;
            if !(samples.timestamps.is_empty() && samples.histograms.is_empty()) {
                take(&self.external.seen(set.labels(index)), &samples)?;
            }
        }
        log_warnings(&*set);
        Ok(())
    }

    /// One message with all samples, compressed.
    fn all(&self, queries: Vec<Query>, cancel: &Cancel) -> Result<Vec<u8>, ApiError> {
        let (mut response, mut total) = (Vec::new(), 0_u64);
        for query in queries {
            let mut result = Vec::new();
            self.each_series(query, cancel, |labels, samples| {
                total += (samples.timestamps.len() + samples.histograms.len()) as u64;
                if total > self.samples_max {
                    return Err(ApiError::bad_data(format!("exceeded sample limit ({})", self.samples_max)));
                }
                remote_read::write_series(&mut result, labels, samples);
                if response.len() + result.len() > ANSWER_BYTES_MAX {
                    return Err(ApiError::bad_data(format!(
                        "the answer is larger than {ANSWER_BYTES_MAX} bytes; ask for a shorter range, or for STREAMED_XOR_CHUNKS"
                    )));
                }
                Ok(())
            })?;
            bytes_field(&mut response, 1, &result);
        }
        let compressed = snap::raw::Encoder::new().compress_vec(&response);
        compressed.map_err(|e| ApiError::new(Side::Read, ErrorKind::Internal, e.to_string()))
    }

    /// Frames, each with chunks of one series.
    fn stream(&self, queries: Vec<Query>, pieces: &Pieces, cancel: &Cancel) -> Result<(), ApiError> {
        let mut piece = Vec::new();
        for (number, query) in queries.into_iter().enumerate() {
            let mut chunks = Vec::new();
            self.each_series(query, cancel, |labels, samples| {
                chunks.clear();
                chunks_of(samples, |chunk| {
                    remote_read::write_chunk(&mut chunks, &chunk);
                    if chunks.len() + labels.as_bytes().len() < FRAME_BYTES_MAX {
                        return Ok(());
                    }
                    let frame = remote_read::frame(labels, &chunks, number);
                    chunks.clear();
                    put(&mut piece, frame, pieces)
                })?;
                if chunks.is_empty() {
                    return Ok(());
                }
                put(&mut piece, remote_read::frame(labels, &chunks, number), pieces)
            })?;
        }
        if piece.is_empty() { Ok(()) } else { pieces.send(piece) }
    }
}

/// Adds a frame to the piece at hand, which goes out when it is large enough.
fn put(piece: &mut Vec<u8>, frame: Vec<u8>, pieces: &Pieces) -> Result<(), ApiError> {
    if piece.is_empty() {
        *piece = frame;
    } else {
        piece.extend_from_slice(&frame);
    }
    if piece.len() < PIECE_BYTES { Ok(()) } else { pieces.send(std::mem::take(piece)) }
}

fn log_warnings(set: &dyn SeriesSet) {
    for warning in set.warnings() {
        tracing::warn!(warning, "remote read went around damage");
    }
}

//! `POST /api/v1/read`: remote read, all samples at once or a stream of chunks.

use crate::error::{ApiError, Side};
use crate::http::admission::{Cancel, run_query};
use crate::http::app::App;
use crate::http::external::External;
use crate::http::respond::{self, BodyWriter, Encoding};
use crate::http::stream::{Fitting, Pieces, Refused, read_out, refused, sliced};
use crate::wire::body;
use crate::wire::protobuf_writer::bytes_field;
use crate::wire::remote_read::{self, Query, ReadRequest, ResponseType};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::response::Response;
use kymo_query::Held;
use kymo_storage::ErrorKind;
use kymo_storage::api::{Queryable, Samples, SeriesSet};
use kymo_storage::db::Storage;
use kymo_storage::model::{Labels, TimeRange};
use kymo_storage::prometheus::chunks_of;
use std::io::{self, Write};

/// Bytes of a request, decoded: some queries with their matchers.
const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Bytes of a frame's chunks; one chunk goes over that at most.
const FRAME_BYTES_MAX: usize = 1 << 20;
/// Memory of an answer is reserved so much ahead.
const HOLD_BYTES: usize = 256 << 10;
/// Bytes of an answer that is sent at once, before compression.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// What the answer to a request is made from.
struct Source {
    app: App,
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
        app: app.clone(),
        storage: app.storage(Side::Read)?,
        external: External(settings.external_labels.clone()),
        samples_max: settings.query.samples_max,
    };
    match response_type {
        ResponseType::Samples => {
            let work = move |cancel: &Cancel| source.all(queries, cancel);
            let (bytes, memory) = run_query(&app.read_gate, &app.metrics, work).await?;
            let mut response = Response::new(sliced(bytes, memory));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("snappy"));
            Ok(response)
        }
        ResponseType::StreamedChunks => {
            let begin = move |_: &Cancel| {
                let queries = queries.into_iter().enumerate();
                let room = Fitting::new(source.app.clone());
                let frames = Frames { source, queries, current: None, samples: Samples::new(), room };
                Ok(Box::new(frames) as Box<dyn Pieces>)
            };
            let media = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            read_out(app, Encoding::Identity, HeaderValue::from_static(media), begin).await
        }
    }
}

fn failed(error: &kymo_storage::Error) -> ApiError {
    ApiError::storage(Side::Read, error)
}

/// The series of a query that are still to be read, in the order of labels.
struct Selected {
    set: Box<dyn SeriesSet>,
    range: TimeRange,
    order: std::vec::IntoIter<usize>,
    /// The memory of both.
    _held: Held,
}

impl Selected {
    /// Reads the next series, which may have no samples in the range; `None` at the end.
    fn read(&mut self, external: &External, samples: &mut Samples) -> kymo_storage::Result<Option<Labels>> {
        let Some(index) = self.order.next() else {
            log_warnings(&*self.set);
            return Ok(None);
        };
        self.set.read(index, self.range, samples)?;
        Ok(Some(external.seen(self.set.labels(index))))
    }
}

impl Source {
    /// The series of a query; `None` if its range is empty.
    ///
    /// # Errors
    /// Those of the store; a [`Refused`] if there is no memory for the list.
    fn select(&self, query: Query) -> io::Result<Option<Selected>> {
        if query.end < query.start {
            return Ok(None);
        }
        let range = TimeRange::closed(query.start, query.end);
        let querier = self.storage.querier(range).map_err(io::Error::other)?;
        let matchers = self.external.stored(query.matchers);
        let set = querier.select(range, &matchers).map_err(io::Error::other)?;
        let bytes = set.bytes() + set.len() * size_of::<usize>();
        let held = self.app.hold(bytes).map_err(Refused::error)?;
        let order = self.external.order(&*set).into_iter();
        Ok(Some(Selected { set, range, order, _held: held }))
    }

    /// One message with all samples, compressed; and its memory.
    fn all(&self, queries: Vec<Query>, cancel: &Cancel) -> Result<(Vec<u8>, Vec<Held>), ApiError> {
        let (mut response, mut total) = (Vec::new(), 0_u64);
        let (mut memory, mut held) = (Vec::new(), 0);
        let mut samples = Samples::new();
        for query in queries {
            let mut result = Vec::new();
            let mut selected = self.select(query).map_err(|e| refused(&e))?;
            let mut next = |samples: &mut Samples| match &mut selected {
                Some(selected) => selected.read(&self.external, samples).map_err(|e| failed(&e)),
                None => Ok(None),
            };
            while let Some(labels) = next(&mut samples)? {
                if cancel.is_cancelled() {
                    return Err(ApiError::cancelled());
                }
                if samples.timestamps.is_empty() && samples.histograms.is_empty() {
                    continue;
                }
                total += (samples.timestamps.len() + samples.histograms.len()) as u64;
                if total > self.samples_max {
                    return Err(ApiError::bad_data(format!("exceeded sample limit ({})", self.samples_max)));
                }
                remote_read::write_series(&mut result, &labels, &samples);
                // What grows is twice as large for a moment, and is there once more when it is compressed.
                let needed = 2 * (response.len() + result.len());
                if needed > held {
                    memory.push(self.app.hold(needed - held + HOLD_BYTES)?);
                    held = needed + HOLD_BYTES;
                }
                if response.len() + result.len() > ANSWER_BYTES_MAX {
                    return Err(ApiError::bad_data(format!(
                        "the answer is larger than {ANSWER_BYTES_MAX} bytes; ask for a shorter range, or for STREAMED_XOR_CHUNKS"
                    )));
                }
            }
            bytes_field(&mut response, 1, &result);
        }
        let compressed = snap::raw::Encoder::new().compress_vec(&response);
        let mut compressed =
            compressed.map_err(|e| ApiError::new(Side::Read, ErrorKind::Internal, e.to_string()))?;
        compressed.shrink_to_fit();
        drop(memory);
        let memory = vec![self.app.hold(compressed.capacity())?];
        Ok((compressed, memory))
    }
}

/// Frames on their way out, each with chunks of one series.
struct Frames {
    source: Source,
    queries: std::iter::Enumerate<std::vec::IntoIter<Query>>,
    /// The number of the query at hand, and what is left of it.
    current: Option<(usize, Selected)>,
    samples: Samples,
    /// The memory of `samples`, and of the chunks made of them.
    room: Fitting,
}

impl Pieces for Frames {
    fn write_next(&mut self, out: &mut BodyWriter) -> io::Result<bool> {
        let Some((number, selected)) = &mut self.current else {
            let Some((number, query)) = self.queries.next() else { return Ok(false) };
            let selected = self.source.select(query)?;
            self.current = selected.map(|selected| (number, selected));
            return Ok(true);
        };
        let labels = selected.read(&self.source.external, &mut self.samples).map_err(io::Error::other)?;
        let Some(labels) = labels else {
            self.current = None;
            return Ok(true);
        };
        self.room.fit(self.samples.bytes())?;
        let mut chunks = Vec::new();
        chunks_of(&self.samples, |chunk| {
            remote_read::write_chunk(&mut chunks, &chunk);
            if chunks.len() + labels.as_bytes().len() < FRAME_BYTES_MAX {
                return Ok(());
            }
            let frame = remote_read::frame(&labels, &chunks, *number);
            chunks.clear();
            out.write_all(&frame)
        })?;
        if !chunks.is_empty() {
            out.write_all(&remote_read::frame(&labels, &chunks, *number))?;
        }
        Ok(true)
    }
}

fn log_warnings(set: &dyn SeriesSet) {
    for warning in set.warnings() {
        tracing::warn!(warning, "remote read went around damage");
    }
}

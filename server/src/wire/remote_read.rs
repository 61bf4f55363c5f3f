//! Remote read: the request decoded, and its two kinds of answers written.
//!
//! ```text
//! ReadRequest   1 queries   2 accepted_response_types (0 SAMPLES, 1 STREAMED_XOR_CHUNKS)
//! Query         1 start_timestamp_ms   2 end_timestamp_ms   3 matchers   4 hints (not used)
//! LabelMatcher  1 type (0 =  1 !=  2 =~  3 !~)   2 name   3 value
//!
//! ReadResponse  1 results { 1 timeseries { 1 labels  2 samples { 1 value  2 timestamp }  4 histograms } }
//!
//! a stream of frames: uvarint length | CRC-32C of the data, big-endian | data
//! ChunkedReadResponse   1 chunked_series { 1 labels  2 chunks }   2 query_index
//! Chunk                 1 min_time_ms   2 max_time_ms   3 type   4 data
//! ```

use super::protobuf::{Field, FieldValue, ProtobufError, Reader};
use super::protobuf_writer::{
    bytes_field, double_field, message_field, uvarint, uvarint_len, varint_field, zigzag,
};
use super::regex_room::RegexRoom;
use kymo_storage::api::{HistogramSample, Samples};
use kymo_storage::model::{
    AnyHistogram, BucketCount, Buckets, Histogram, Labels, MatchOp, Matcher, Span, Timestamp,
};
use kymo_storage::prometheus::{Chunk, ChunkKind, crc32c};
use thiserror::Error;

/// Queries of one request.
pub const QUERIES_MAX: usize = 1_000;
/// Matchers of one request.
pub const MATCHERS_MAX: usize = 10_000;

/// Why a body is not a request that can be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadRequestError {
    /// The bytes are not the message.
    #[error("malformed protobuf: {0}")]
    Malformed(#[from] ProtobufError),
    /// A text is not UTF-8.
    #[error("a label name or value is not valid UTF-8")]
    Utf8,
    /// A matcher of no kind there is.
    #[error("matcher type {0} is unknown")]
    MatcherType(u64),
    /// A regular expression that is none.
    #[error("matcher of label {name:?}: {cause}")]
    Regex {
        /// The label.
        name: String,
        /// What is wrong.
        cause: String,
    },
    /// Regular expressions that are too large together.
    #[error("{0}")]
    Programs(String),
    /// Too many of something.
    #[error("the request has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// No kind of answer that the client takes is known.
    #[error(
        "server does not support any of the requested response types: {0:?}; supported: SAMPLES (0), STREAMED_XOR_CHUNKS (1)"
    )]
    NoKnownType(Vec<u64>),
}

/// How an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseType {
    /// One message with all samples.
    Samples,
    /// A stream of chunks.
    StreamedChunks,
}

/// One query.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// First instant inside.
    pub start: Timestamp,
    /// Last instant inside.
    pub end: Timestamp,
    /// All must match.
    pub matchers: Vec<Matcher>,
}

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadRequest {
    /// Each gets its own result.
    pub queries: Vec<Query>,
    /// The first kind of the client's list that is known; samples if there is no list.
    pub response_type: ResponseType,
}

/// Decodes a request.
///
/// # Errors
/// See [`ReadRequestError`].
pub fn decode(body: &[u8]) -> Result<ReadRequest, ReadRequestError> {
    let (mut queries, mut accepted) = (Vec::new(), Vec::new());
    let (mut matchers, mut compiled) = (0, RegexRoom::default());
    let mut reader = Reader::new(body);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => {
                let query = decode_query(field.bytes()?, &mut matchers, &mut compiled)?;
                if queries.len() == QUERIES_MAX {
                    return Err(ReadRequestError::TooMany { what: "queries", limit: QUERIES_MAX });
                }
                queries.push(query);
            }
            2 => accept(&field, &mut accepted)?,
            _ => {}
        }
    }
    let known = accepted.iter().find_map(|kind| match kind {
        0 => Some(ResponseType::Samples),
        1 => Some(ResponseType::StreamedChunks),
        _ => None,
    });
    let response_type = match known {
        Some(known) => known,
        None if accepted.is_empty() => ResponseType::Samples,
        None => return Err(ReadRequestError::NoKnownType(accepted)),
    };
    Ok(ReadRequest { queries, response_type })
}

/// A list of kinds, packed or one by one; more than a few nobody sends.
fn accept(field: &Field<'_>, accepted: &mut Vec<u64>) -> Result<(), ProtobufError> {
    let mut keep = |kind| {
        if accepted.len() < 16 {
            accepted.push(kind);
        }
    };
    let FieldValue::Bytes(packed) = field.value else {
        keep(field.varint()?);
        return Ok(());
    };
    let mut reader = Reader::new(packed);
    while reader.peek().is_some() {
        keep(reader.varint()?);
    }
    Ok(())
}

fn decode_query(
    message: &[u8],
    matchers: &mut usize,
    compiled: &mut RegexRoom,
) -> Result<Query, ReadRequestError> {
    let mut query = Query::default();
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            // `int64` is two's complement in 64 bits.
            1 => query.start = field.varint()?.cast_signed(),
            2 => query.end = field.varint()?.cast_signed(),
            3 => {
                *matchers += 1;
                if *matchers > MATCHERS_MAX {
                    return Err(ReadRequestError::TooMany { what: "matchers", limit: MATCHERS_MAX });
                }
                let matcher = decode_matcher(field.bytes()?)?;
                compiled.take([&matcher]).map_err(ReadRequestError::Programs)?;
                query.matchers.push(matcher);
            }
            _ => {}
        }
    }
    Ok(query)
}

fn decode_matcher(message: &[u8]) -> Result<Matcher, ReadRequestError> {
    let (mut kind, mut name, mut value): (u64, &[u8], &[u8]) = (0, &[], &[]);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => kind = field.varint()?,
            2 => name = field.bytes()?,
            3 => value = field.bytes()?,
            _ => {}
        }
    }
    let name = std::str::from_utf8(name).map_err(|_| ReadRequestError::Utf8)?;
    let value = std::str::from_utf8(value).map_err(|_| ReadRequestError::Utf8)?;
    let op = match kind {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => return Err(ReadRequestError::MatcherType(other)),
    };
    Matcher::new(op, name, value)
        .map_err(|cause| ReadRequestError::Regex { name: name.to_owned(), cause: cause.to_string() })
}

/// Appends one series of a result: field `timeseries` of `QueryResult`.
pub fn write_series(out: &mut Vec<u8>, labels: &Labels, samples: &Samples) {
    message_field(out, 1, |series| {
        // The canonical form of labels is their field.
        series.extend_from_slice(labels.as_bytes());
        for (timestamp, value) in samples.timestamps.iter().zip(&samples.values) {
            let time = timestamp.cast_unsigned();
            series.extend_from_slice(&[0x12, (10 + uvarint_len(time)) as u8]);
            double_field(series, 1, *value);
            varint_field(series, 2, time);
        }
        for sample in &samples.histograms {
            message_field(series, 4, |out| write_histogram(out, sample));
        }
    });
}

/// Appends the fields of `prometheus.Histogram`. Counts that are whole are written so.
fn write_histogram(out: &mut Vec<u8>, sample: &HistogramSample) {
    match sample
        .histogram
        .to_whole()
        .map_or_else(|| AnyHistogram::Float((*sample.histogram).clone()), AnyHistogram::Int)
    {
        AnyHistogram::Int(h) => {
            varint_field(out, 1, h.count);
            varint_field(out, 6, h.zero_count);
            write_frame(out, &h);
            for (number, side) in [(9, &h.negative), (12, &h.positive)] {
                packed(out, number, side, |out, before, count: u64| {
                    uvarint(out, zigzag(count.cast_signed().wrapping_sub(before.cast_signed())));
                });
            }
        }
        AnyHistogram::Float(h) => {
            double_field(out, 2, h.count);
            double_field(out, 7, h.zero_count);
            write_frame(out, &h);
            for (number, side) in [(10, &h.negative), (13, &h.positive)] {
                packed(out, number, side, |out, _, count: f64| out.extend_from_slice(&count.to_le_bytes()));
            }
        }
    }
    varint_field(out, 15, sample.timestamp.cast_unsigned());
}

fn write_frame<N: BucketCount>(out: &mut Vec<u8>, histogram: &Histogram<N>) {
    double_field(out, 3, histogram.sum);
    varint_field(out, 4, zigzag(i64::from(histogram.schema)));
    double_field(out, 5, histogram.zero_threshold);
    for (number, spans) in [(8, histogram.negative.spans()), (11, histogram.positive.spans())] {
        for Span { offset, length } in spans {
            message_field(out, number, |out| {
                varint_field(out, 1, zigzag(i64::from(*offset)));
                varint_field(out, 2, u64::from(*length));
            });
        }
    }
    varint_field(out, 14, u64::from(histogram.hint.number()));
    if !histogram.custom_bounds.is_empty() {
        let bounds: Vec<u8> = histogram.custom_bounds.iter().flat_map(|b| b.to_le_bytes()).collect();
        bytes_field(out, 16, &bounds);
    }
}

/// A packed list of what `write` makes of each count and the one before.
fn packed<N: BucketCount>(
    out: &mut Vec<u8>,
    number: u32,
    side: &Buckets<N>,
    write: impl Fn(&mut Vec<u8>, N, N),
) {
    if side.is_empty() {
        return;
    }
    message_field(out, number, |out| {
        let mut before = N::default();
        for count in side.counts() {
            write(out, before, *count);
            before = *count;
        }
    });
}

/// Appends a chunk: field `chunks` of `ChunkedSeries`.
pub fn write_chunk(out: &mut Vec<u8>, chunk: &Chunk) {
    let kind = match chunk.kind {
        ChunkKind::Float => 1,
        ChunkKind::Histogram => 2,
        ChunkKind::FloatHistogram => 3,
    };
    message_field(out, 2, |out| {
        varint_field(out, 1, chunk.first.cast_unsigned());
        varint_field(out, 2, chunk.last.cast_unsigned());
        varint_field(out, 3, kind);
        bytes_field(out, 4, &chunk.bytes);
    });
}

/// A frame with some chunks (see [`write_chunk`]) of one series of query number `query`.
pub fn frame(labels: &Labels, chunks: &[u8], query: usize) -> Vec<u8> {
    let mut data = Vec::with_capacity(labels.as_bytes().len() + chunks.len() + 16);
    uvarint(&mut data, 1 << 3 | 2);
    uvarint(&mut data, (labels.as_bytes().len() + chunks.len()) as u64);
    data.extend_from_slice(labels.as_bytes());
    data.extend_from_slice(chunks);
    if query > 0 {
        varint_field(&mut data, 2, query as u64);
    }
    let mut out = Vec::with_capacity(data.len() + 16);
    uvarint(&mut out, data.len() as u64);
    out.extend_from_slice(&crc32c(&data).to_be_bytes());
    out.extend_from_slice(&data);
    out
}

#[cfg(test)]
#[path = "remote_read_tests.rs"]
mod tests;

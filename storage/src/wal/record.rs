//! The bodies of records: series, and batches of samples, histograms, exemplars, metadata. Hot path.
//!
//! ```text
//! frame body  index u32 | durable u32 | kind u8 | record          index: of the frame in its segment, from 0
//!                                                                 durable: frames before it that were synced by then
//! kind        2 SERIES  3 SAMPLES  4 HISTOGRAMS  5 SAMPLE_STARTS  6 METADATA  7 HISTOGRAM_STARTS  8 EXEMPLARS  10 END
//!             11 BATCH  12 SERIES_COPY;  | 0x80: uvarint raw length, then the record as an lz4 block
//!
//! SERIES      uvarint n | n × { zigzag id − (previous id + 1) | uvarint length | label bytes }
//! SAMPLES     uvarint n | ids: runs until n | timestamps: runs until n | n values          columns as in `wal::columns`
//! HISTOGRAMS  uvarint n | ids: runs until n | timestamps: runs until n | n × { uvarint length | histogram }
//!                                                                         as in `chunk::one_histogram`
//! SAMPLE_STARTS, HISTOGRAM_STARTS    the start timestamps of the SAMPLES, HISTOGRAMS of the same batch
//!                                                                         as in `chunk::starts`
//! EXEMPLARS   uvarint n | n × { zigzag id − previous id | zigzag t − previous t | value | uvarint length | label bytes }
//! METADATA    uvarint n | n × { family | u8 type | unit | help }   texts: uvarint length | bytes
//! SERIES_COPY a SERIES in the frame before, again: what it names is needed by all records behind it, so one damaged place must
//!             not take it. Read only if the frame before is gone
//! END         nothing: the log was closed in order
//! BATCH       to the end: { uvarint length | kind u8 | record }    kinds 3 to 8, each once at most, starts behind theirs
//! ```
//! What a request stores is one record: a batch with one kind of content is that record itself, any other a BATCH. So it
//! comes back whole or not at all. (Releases before BATCH wrote one record for each kind of content.)

use super::columns::{
    VALUE_BYTES_MAX, decode_ids, decode_timestamps, decode_value, decode_values, encode_ids,
    encode_timestamps, encode_value, encode_values,
};
use crate::chunk::{decode_starts, encode_starts, is_one_histogram};
use crate::codec::compress::{lz4_decode, lz4_encode};
use crate::codec::varint::{Cursor, put_bytes, put_ivarint, put_uvarint};
use crate::model::{Metadata, MetricType};

/// Kind of a record that names series.
pub const KIND_SERIES: u8 = 2;
/// Kind of a record of samples.
pub const KIND_SAMPLES: u8 = 3;
/// Kind of a record of native histograms.
pub const KIND_HISTOGRAMS: u8 = 4;
/// Kind of the start timestamps of samples.
pub const KIND_SAMPLE_STARTS: u8 = 5;
/// Kind of a record of metadata.
pub const KIND_METADATA: u8 = 6;
/// Kind of the start timestamps of native histograms.
pub const KIND_HISTOGRAM_STARTS: u8 = 7;
/// Kind of a record of exemplars.
pub const KIND_EXEMPLARS: u8 = 8;
/// Kind of the record that ends a log closed in order.
pub const KIND_END: u8 = 10;
/// Kind of a record of several kinds of content that belong together.
pub const KIND_BATCH: u8 = 11;
/// Kind of a record that repeats the SERIES in the frame before.
pub const KIND_SERIES_COPY: u8 = 12;
/// Flag of a kind: the record is an lz4 block.
pub const COMPRESSED: u8 = 0x80;

/// The largest record after decompression.
pub const RAW_BYTES_MAX: usize = 256 << 20;
/// Records below this size are not worth a try of the compressor.
const COMPRESS_BYTES_MIN: usize = 128;

/// Samples as columns of equal length; sample `i` is `(ids[i], timestamps[i], values[i])`.
#[derive(Debug, Clone, Copy, Default)]
pub struct SamplesRecord<'a> {
    /// Series.
    pub ids: &'a [u32],
    /// Milliseconds since 1970.
    pub timestamps: &'a [i64],
    /// Values, bit for bit.
    pub values: &'a [f64],
    /// Start timestamps, 0 for unknown; or empty if none is known.
    pub starts: &'a [i64],
}

/// Native histograms as columns of equal length.
#[derive(Debug, Clone, Copy, Default)]
pub struct HistogramsRecord<'a> {
    /// Series.
    pub ids: &'a [u32],
    /// Milliseconds since 1970.
    pub timestamps: &'a [i64],
    /// Each encoded by [`crate::chunk::encode_one_histogram`]; those of a decoded record could have been accepted.
    pub histograms: &'a [&'a [u8]],
    /// Start timestamps, 0 for unknown; or empty if none is known.
    pub starts: &'a [i64],
}

/// An exemplar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ExemplarRecord<'a> {
    /// Series.
    pub id: u32,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// The value, bit for bit.
    pub value: f64,
    /// Canonical label bytes.
    pub labels: &'a [u8],
}

/// What a request stores.
#[derive(Debug, Clone, Copy, Default)]
pub struct BatchRecord<'a> {
    /// Floats.
    pub samples: SamplesRecord<'a>,
    /// Native histograms.
    pub histograms: HistogramsRecord<'a>,
    /// Exemplars.
    pub exemplars: &'a [ExemplarRecord<'a>],
    /// Descriptions of metric families.
    pub metadata: &'a [(&'a str, &'a Metadata)],
}

/// Room for decoding that is used again for every record.
#[derive(Debug, Default)]
pub struct Scratch {
    raw: [Vec<u8>; 4],
    samples: Columns,
    histograms: Columns,
}

#[derive(Debug, Default)]
struct Columns {
    ids: Vec<u32>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
    starts: Vec<i64>,
}

/// A decoded record.
#[derive(Debug)]
pub enum Record<'a> {
    /// Series: ids and canonical label bytes.
    Series(SeriesIter<'a>),
    /// What a request stored, or a part of it.
    Batch(DecodedBatch<'a>),
    /// The log was closed in order.
    End,
}

/// What a request stored, in the order in which it is applied.
#[derive(Debug, Default)]
pub struct DecodedBatch<'a> {
    /// Floats.
    pub samples: SamplesRecord<'a>,
    histograms: DecodedHistograms<'a>,
    /// Exemplars.
    pub exemplars: Vec<ExemplarRecord<'a>>,
    /// Descriptions of metric families.
    pub metadata: Vec<(&'a str, Metadata)>,
}

#[derive(Debug, Default)]
struct DecodedHistograms<'a> {
    ids: &'a [u32],
    timestamps: &'a [i64],
    histograms: Vec<&'a [u8]>,
    starts: &'a [i64],
}

impl DecodedBatch<'_> {
    /// Native histograms.
    pub fn histograms(&self) -> HistogramsRecord<'_> {
        let DecodedHistograms { ids, timestamps, histograms, starts } = &self.histograms;
        HistogramsRecord { ids, timestamps, histograms, starts }
    }
}

/// The series of a SERIES record, checked in full before the first is given.
#[derive(Debug, Clone)]
pub struct SeriesIter<'a> {
    cursor: Cursor<'a>,
    left: usize,
    expected: i64,
}

impl<'a> SeriesIter<'a> {
    fn step(&mut self) -> Option<(u32, &'a [u8])> {
        let id = self.expected.wrapping_add(self.cursor.ivarint()?);
        self.expected = id.wrapping_add(1);
        Some((u32::try_from(id).ok()?, self.cursor.prefixed()?))
    }
}

impl<'a> Iterator for SeriesIter<'a> {
    type Item = (u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.step()
    }
}

/// Appends kind and body of a SERIES record.
pub fn encode_series(series: &[(u32, &[u8])], out: &mut Vec<u8>) {
    let start = out.len();
    out.push(KIND_SERIES);
    put_uvarint(out, series.len() as u64);
    let mut expected = 0i64;
    for (id, labels) in series {
        let id = i64::from(*id);
        put_ivarint(out, id - expected);
        put_bytes(out, labels);
        expected = id + 1;
    }
    compress(out, start);
}

/// The SERIES_COPY of an encoded SERIES record.
pub fn copy_of_series(series: &[u8]) -> Vec<u8> {
    let mut copy = series.to_vec();
    if let Some(kind) = copy.first_mut() {
        *kind = (*kind & COMPRESSED) | KIND_SERIES_COPY;
    }
    copy
}

/// Whether an encoded record is a SERIES_COPY.
pub fn is_copy(record: &[u8]) -> bool {
    record.first().is_some_and(|kind| kind & !COMPRESSED == KIND_SERIES_COPY)
}

/// Appends kind and body of the record of what a request stores; nothing if it is empty. The columns must be of equal
/// length; what is longer is left out.
pub fn encode_batch(batch: &BatchRecord<'_>, compress_samples: bool, out: &mut Vec<u8>) {
    let mut parts = Parts { out, first: None, room: Vec::new(), is_batch: false };
    let BatchRecord { samples, histograms, exemplars, metadata } = batch;
    if !samples.ids.is_empty() {
        parts.add(|out| encode_samples(*samples, compress_samples, out));
        if !samples.starts.is_empty() {
            parts.add(|out| put_starts(KIND_SAMPLE_STARTS, samples.timestamps, samples.starts, out));
        }
    }
    if !histograms.ids.is_empty() {
        parts.add(|out| encode_histograms(*histograms, out));
        if !histograms.starts.is_empty() {
            parts.add(|out| put_starts(KIND_HISTOGRAM_STARTS, histograms.timestamps, histograms.starts, out));
        }
    }
    if !exemplars.is_empty() {
        parts.add(|out| encode_exemplars(exemplars, out));
    }
    if !metadata.is_empty() {
        parts.add(|out| encode_metadata(metadata, out));
    }
}

/// The parts of a batch: the first is written as a record of its own, and becomes a part when a second comes.
struct Parts<'a> {
    out: &'a mut Vec<u8>,
    first: Option<usize>,
    room: Vec<u8>,
    is_batch: bool,
}

impl Parts<'_> {
    fn add(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some(first) = self.first else {
            self.first = Some(self.out.len());
            return encode(self.out);
        };
        if !self.is_batch {
            self.room.extend_from_slice(self.out.get(first..).unwrap_or_default());
            self.out.truncate(first);
            self.out.push(KIND_BATCH);
            put_bytes(self.out, &self.room);
            self.is_batch = true;
        }
        self.room.clear();
        encode(&mut self.room);
        put_bytes(self.out, &self.room);
    }
}

fn encode_samples(samples: SamplesRecord<'_>, compressed: bool, out: &mut Vec<u8>) {
    let start = out.len();
    let n = samples.ids.len().min(samples.timestamps.len()).min(samples.values.len());
    out.push(KIND_SAMPLES);
    put_uvarint(out, n as u64);
    encode_ids(samples.ids.get(..n).unwrap_or_default(), out);
    encode_timestamps(samples.timestamps.get(..n).unwrap_or_default(), out);
    encode_values(samples.values.get(..n).unwrap_or_default(), out);
    if compressed {
        compress(out, start);
    }
}

fn encode_histograms(record: HistogramsRecord<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let n = record.ids.len().min(record.timestamps.len()).min(record.histograms.len());
    out.push(KIND_HISTOGRAMS);
    put_uvarint(out, n as u64);
    encode_ids(record.ids.get(..n).unwrap_or_default(), out);
    encode_timestamps(record.timestamps.get(..n).unwrap_or_default(), out);
    record.histograms.iter().take(n).for_each(|histogram| put_bytes(out, histogram));
    compress(out, start);
}

fn put_starts(kind: u8, timestamps: &[i64], starts: &[i64], out: &mut Vec<u8>) {
    out.push(kind);
    encode_starts(timestamps, starts, out);
}

fn encode_exemplars(exemplars: &[ExemplarRecord<'_>], out: &mut Vec<u8>) {
    let start = out.len();
    out.push(KIND_EXEMPLARS);
    put_uvarint(out, exemplars.len() as u64);
    let (mut id, mut time) = (0i64, 0i64);
    for exemplar in exemplars {
        put_ivarint(out, i64::from(exemplar.id) - id);
        put_ivarint(out, exemplar.timestamp.wrapping_sub(time));
        (id, time) = (i64::from(exemplar.id), exemplar.timestamp);
        let mut value = [0; VALUE_BYTES_MAX];
        let len = encode_value(exemplar.value, &mut value);
        out.extend_from_slice(value.get(..len).unwrap_or_default());
        put_bytes(out, exemplar.labels);
    }
    compress(out, start);
}

fn encode_metadata(entries: &[(&str, &Metadata)], out: &mut Vec<u8>) {
    let start = out.len();
    out.push(KIND_METADATA);
    put_uvarint(out, entries.len() as u64);
    for (family, metadata) in entries {
        put_bytes(out, family.as_bytes());
        out.push(metadata.metric_type as u8);
        put_bytes(out, metadata.unit.as_bytes());
        put_bytes(out, metadata.help.as_bytes());
    }
    compress(out, start);
}

/// Appends kind and body of an END record.
pub fn encode_end(out: &mut Vec<u8>) {
    out.push(KIND_END);
}

/// Replaces the record from `start` on by its compressed form if that saves at least 15 %.
fn compress(out: &mut Vec<u8>, start: usize) {
    let Some((kind, body)) = out.get(start..).and_then(<[u8]>::split_first) else { return };
    if body.len() < COMPRESS_BYTES_MIN {
        return;
    }
    let mut packed = Vec::with_capacity(1 + body.len());
    packed.push(kind | COMPRESSED);
    if lz4_encode(body, &mut packed).is_ok() && packed.len() <= body.len() / 100 * 85 {
        out.truncate(start);
        out.extend_from_slice(&packed);
    }
}

/// Decodes kind and body; `None` if the bytes are not a record, or any part of it is none.
pub fn decode<'a>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Option<Record<'a>> {
    let (kind, body) = bytes.split_first()?;
    match kind & !COMPRESSED {
        KIND_SERIES | KIND_SERIES_COPY => {
            let [raw, ..] = &mut scratch.raw;
            let mut cursor = Cursor::new(unpacked(*kind, body, raw)?);
            // A series takes two bytes at least.
            let left = cursor.count(2)?;
            let series = SeriesIter { cursor, left, expected: 0 };
            let mut check = series.clone();
            for _ in 0..left {
                check.step()?;
            }
            check.cursor.is_empty().then_some(Record::Series(series))
        }
        KIND_BATCH if *kind == KIND_BATCH => decode_parts(batch_parts(body)?, scratch).map(Record::Batch),
        KIND_END if *kind == KIND_END => body.is_empty().then_some(Record::End),
        KIND_SAMPLES | KIND_HISTOGRAMS | KIND_EXEMPLARS | KIND_METADATA => {
            let mut parts = Encoded::default();
            *parts.get_mut(usize::from(kind & !COMPRESSED).checked_sub(usize::from(KIND_SAMPLES))?)? =
                Some(bytes);
            decode_parts(parts, scratch).map(Record::Batch)
        }
        _ => None,
    }
}

/// The parts of a batch by kind, from SAMPLES on.
type Encoded<'a> = [Option<&'a [u8]>; 6];

fn batch_parts(body: &[u8]) -> Option<Encoded<'_>> {
    let mut parts = Encoded::default();
    let mut cursor = Cursor::new(body);
    while !cursor.is_empty() {
        let part = cursor.prefixed()?;
        let kind = part.first()? & !COMPRESSED;
        let slot = parts.get_mut(usize::from(kind).checked_sub(usize::from(KIND_SAMPLES))?)?;
        if slot.replace(part).is_some() {
            return None;
        }
    }
    Some(parts)
}

fn decode_parts<'a>(parts: Encoded<'a>, scratch: &'a mut Scratch) -> Option<DecodedBatch<'a>> {
    let [samples, histograms, sample_starts, metadata, histogram_starts, exemplars] = parts;
    let Scratch {
        raw: [raw_samples, raw_histograms, raw_exemplars, raw_metadata],
        samples: floats,
        histograms: others,
    } = scratch;
    let mut batch = DecodedBatch::default();
    if let Some((kind, body)) = samples.and_then(<[u8]>::split_first) {
        let mut cursor = Cursor::new(unpacked(*kind, body, raw_samples)?);
        // A value takes one byte at least.
        let n = cursor.count(1)?;
        let Columns { ids, timestamps, values, starts } = floats;
        decode_ids(&mut cursor, n, ids)?;
        decode_timestamps(&mut cursor, n, timestamps)?;
        decode_values(&mut cursor, n, values)?;
        decode_part_starts(sample_starts, timestamps, starts)?;
        if !cursor.is_empty() {
            return None;
        }
        batch.samples = SamplesRecord { ids, timestamps, values, starts };
    }
    if let Some((kind, body)) = histograms.and_then(<[u8]>::split_first) {
        let mut cursor = Cursor::new(unpacked(*kind, body, raw_histograms)?);
        // A histogram takes two bytes at least.
        let n = cursor.count(2)?;
        let Columns { ids, timestamps, starts, .. } = others;
        decode_ids(&mut cursor, n, ids)?;
        decode_timestamps(&mut cursor, n, timestamps)?;
        decode_part_starts(histogram_starts, timestamps, starts)?;
        let histogram = |_| cursor.prefixed().filter(|bytes| is_one_histogram(bytes));
        let found: Vec<&[u8]> = (0..n).map(histogram).collect::<Option<_>>()?;
        if !cursor.is_empty() {
            return None;
        }
        batch.histograms = DecodedHistograms { ids, timestamps, histograms: found, starts };
    }
    if let Some((kind, body)) = exemplars.and_then(<[u8]>::split_first) {
        batch.exemplars = decode_exemplars(unpacked(*kind, body, raw_exemplars)?)?;
    }
    if let Some((kind, body)) = metadata.and_then(<[u8]>::split_first) {
        batch.metadata = decode_metadata(&mut Cursor::new(unpacked(*kind, body, raw_metadata)?))?;
    }
    let is_whole = (sample_starts.is_none() || samples.is_some())
        && (histogram_starts.is_none() || histograms.is_some());
    is_whole.then_some(batch)
}

/// The body of a record, decompressed into `raw` if need be.
fn unpacked<'a>(kind: u8, body: &'a [u8], raw: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if kind & COMPRESSED == 0 {
        return Some(body);
    }
    lz4_decode(body, RAW_BYTES_MAX, raw).ok()?;
    Some(raw)
}

fn decode_part_starts(part: Option<&[u8]>, timestamps: &[i64], starts: &mut Vec<i64>) -> Option<()> {
    starts.clear();
    match part {
        Some([KIND_SAMPLE_STARTS | KIND_HISTOGRAM_STARTS, body @ ..]) => {
            decode_starts(body, timestamps, starts)
        }
        Some(_) => None,
        None => Some(()),
    }
}

fn decode_exemplars(body: &[u8]) -> Option<Vec<ExemplarRecord<'_>>> {
    let mut cursor = Cursor::new(body);
    // An exemplar takes four bytes at least.
    let n = cursor.count(4)?;
    let mut exemplars = Vec::with_capacity(n);
    let (mut id, mut timestamp) = (0i64, 0i64);
    for _ in 0..n {
        id = id.checked_add(cursor.ivarint()?)?;
        timestamp = timestamp.wrapping_add(cursor.ivarint()?);
        let value = decode_value(&mut cursor)?;
        let labels = cursor.prefixed()?;
        exemplars.push(ExemplarRecord { id: u32::try_from(id).ok()?, timestamp, value, labels });
    }
    cursor.is_empty().then_some(exemplars)
}

fn decode_metadata<'a>(cursor: &mut Cursor<'a>) -> Option<Vec<(&'a str, Metadata)>> {
    // An entry takes four bytes at least.
    let n = cursor.count(4)?;
    let mut entries = Vec::with_capacity(n);
    for _ in 0..n {
        let family = cursor.prefixed_str()?;
        let metric_type = MetricType::from_number(u64::from(cursor.u8()?));
        let unit = cursor.prefixed_str()?.to_owned();
        let help = cursor.prefixed_str()?.to_owned();
        entries.push((family, Metadata { metric_type, unit, help }));
    }
    cursor.is_empty().then_some(entries)
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;

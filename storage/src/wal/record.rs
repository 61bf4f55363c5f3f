//! The bodies of records: series, samples, histograms, metadata. Hot path.
//!
//! ```text
//! frame body  index u32 | durable u32 | kind u8 | record          index: of the frame in its segment, from 0
//!                                                                 durable: frames before it that were synced by then
//! kind        2 SERIES  3 SAMPLES  4 HISTOGRAMS  6 METADATA  10 END;  | 0x80: uvarint raw length, then the record as an lz4 block
//!
//! SERIES      uvarint n | n × { zigzag id − (previous id + 1) | uvarint length | label bytes }
//! SAMPLES     uvarint n | ids: runs until n | timestamps: runs until n | n values
//!   ids         run: zigzag first id − (last id of the previous run + 1) | uvarint length of the run of consecutive ids
//!   timestamps  run: zigzag t − previous t | uvarint length of the run of equal timestamps
//!   value       an integer below 2^53: uvarint zigzag(i) × 2
//!               else: u8 tz × 2 + 1 | the 8 − tz high bytes of the float, lowest first    (tz: low bytes that are zero)
//! HISTOGRAMS  uvarint n | ids: runs until n | timestamps: runs until n | n × { uvarint length | histogram }
//!                                                                         as in `chunk::one_histogram`
//! METADATA    uvarint n | n × { family | u8 type | unit | help }   texts: uvarint length | bytes
//! END         nothing: the log was closed in order
//! ```
//! The first run starts from id 0 and timestamp 0; an id difference is taken modulo 2^64. The lowest bit of a value's first
//! byte says which form it has. Every float comes back with its very bits.

use crate::chunk::is_one_histogram;
use crate::codec::compress::{lz4_decode, lz4_encode};
use crate::codec::varint::{Cursor, put_bytes, put_ivarint, put_uvarint, zigzag};
use crate::model::{Metadata, MetricType};

/// Kind of a record that names series.
pub const KIND_SERIES: u8 = 2;
/// Kind of a record of samples.
pub const KIND_SAMPLES: u8 = 3;
/// Kind of a record of native histograms.
pub const KIND_HISTOGRAMS: u8 = 4;
/// Kind of a record of metadata.
pub const KIND_METADATA: u8 = 6;
/// Kind of the record that ends a log closed in order.
pub const KIND_END: u8 = 10;
/// Flag of a kind: the record is an lz4 block.
pub const COMPRESSED: u8 = 0x80;

/// The largest record after decompression.
pub const RAW_BYTES_MAX: usize = 256 << 20;
/// Records below this size are not worth a try of the compressor.
const COMPRESS_BYTES_MIN: usize = 128;
/// The most bytes a value takes.
const VALUE_BYTES_MAX: usize = 9;

/// Samples as three columns of equal length; sample `i` is `(ids[i], timestamps[i], values[i])`.
#[derive(Debug, Clone, Copy)]
pub struct SamplesRecord<'a> {
    /// Series.
    pub ids: &'a [u32],
    /// Milliseconds since 1970.
    pub timestamps: &'a [i64],
    /// Values, bit for bit.
    pub values: &'a [f64],
}

/// Native histograms as three columns of equal length.
#[derive(Debug, Clone, Copy)]
pub struct HistogramsRecord<'a> {
    /// Series.
    pub ids: &'a [u32],
    /// Milliseconds since 1970.
    pub timestamps: &'a [i64],
    /// Each encoded by [`crate::chunk::encode_one_histogram`]; those of a decoded record could have been accepted.
    pub histograms: &'a [&'a [u8]],
}

/// Room for decoding that is used again for every record.
#[derive(Debug, Default)]
pub struct Scratch {
    raw: Vec<u8>,
    ids: Vec<u32>,
    timestamps: Vec<i64>,
    values: Vec<f64>,
}

/// A decoded record.
#[derive(Debug)]
pub enum Record<'a> {
    /// Series: ids and canonical label bytes.
    Series(SeriesIter<'a>),
    /// Samples.
    Samples(SamplesRecord<'a>),
    /// Native histograms: ids, timestamps, and each histogram's bytes.
    Histograms(&'a [u32], &'a [i64], Vec<&'a [u8]>),
    /// Metadata of metric families.
    Metadata(Vec<(&'a str, Metadata)>),
    /// The log was closed in order.
    End,
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

/// Appends kind and body of a SAMPLES record. The columns must be of equal length; what is longer is left out.
pub fn encode_samples(samples: SamplesRecord<'_>, compressed: bool, out: &mut Vec<u8>) {
    let start = out.len();
    let n = samples.ids.len().min(samples.timestamps.len()).min(samples.values.len());
    let ids = samples.ids.get(..n).unwrap_or_default();
    let timestamps = samples.timestamps.get(..n).unwrap_or_default();
    let values = samples.values.get(..n).unwrap_or_default();
    out.push(KIND_SAMPLES);
    put_uvarint(out, n as u64);
    encode_ids(ids, out);
    encode_timestamps(timestamps, out);
    encode_values(values, out);
    if compressed {
        compress(out, start);
    }
}

/// Appends kind and body of a HISTOGRAMS record. The columns must be of equal length; what is longer is left out.
pub fn encode_histograms(record: HistogramsRecord<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let n = record.ids.len().min(record.timestamps.len()).min(record.histograms.len());
    out.push(KIND_HISTOGRAMS);
    put_uvarint(out, n as u64);
    encode_ids(record.ids.get(..n).unwrap_or_default(), out);
    encode_timestamps(record.timestamps.get(..n).unwrap_or_default(), out);
    record.histograms.iter().take(n).for_each(|histogram| put_bytes(out, histogram));
    compress(out, start);
}

fn encode_ids(ids: &[u32], out: &mut Vec<u8>) {
    let mut expected = 0i64;
    for run in ids.chunk_by(|a, b| a.wrapping_add(1) == *b && *b != 0) {
        let first = i64::from(run.first().copied().unwrap_or_default());
        put_ivarint(out, first - expected);
        put_uvarint(out, run.len() as u64);
        expected = first + run.len() as i64;
    }
}

fn encode_timestamps(timestamps: &[i64], out: &mut Vec<u8>) {
    let mut previous = 0i64;
    for run in timestamps.chunk_by(|a, b| a == b) {
        let timestamp = run.first().copied().unwrap_or_default();
        put_ivarint(out, timestamp.wrapping_sub(previous));
        put_uvarint(out, run.len() as u64);
        previous = timestamp;
    }
}

fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + values.len() * VALUE_BYTES_MAX, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let mut at = 0;
    for value in values {
        // The room holds the longest form of every value, so this never runs short.
        let Some(slot) = room.get_mut(at..).and_then(|r| r.first_chunk_mut::<VALUE_BYTES_MAX>()) else {
            break;
        };
        at += encode_value(*value, slot);
    }
    out.truncate(start + at);
}

/// Writes a value to the front of `slot`, and answers its length.
#[inline]
fn encode_value(value: f64, slot: &mut [u8; VALUE_BYTES_MAX]) -> usize {
    let integer = value as i64;
    let bits = value.to_bits();
    // Compared as bits: −0.0 and NaN are no integers.
    if (integer as f64).to_bits() == bits && integer.unsigned_abs() < 1 << 53 {
        let mut rest = zigzag(integer) << 1;
        if rest < 0x80 {
            slot[0] = rest as u8;
            return 1;
        }
        let mut len = 0;
        // Below 2^55: at most eight bytes.
        for byte in slot.iter_mut() {
            len += 1;
            *byte = rest as u8 & 0x7f | u8::from(rest >= 0x80) << 7;
            rest >>= 7;
            if rest == 0 {
                break;
            }
        }
        len
    } else {
        let zeros = (bits.trailing_zeros() / 8).min(7);
        slot[0] = (zeros as u8) << 1 | 1;
        slot[1..].copy_from_slice(&(bits >> (8 * zeros)).to_le_bytes());
        VALUE_BYTES_MAX - zeros as usize
    }
}

/// Appends kind and body of a METADATA record.
pub fn encode_metadata(entries: &[(&str, &Metadata)], out: &mut Vec<u8>) {
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

/// Decodes kind and body; `None` if the bytes are not a record.
pub fn decode<'a>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Option<Record<'a>> {
    let Scratch { raw, ids, timestamps, values } = scratch;
    let (kind, mut body) = bytes.split_first()?;
    if kind & COMPRESSED != 0 {
        lz4_decode(body, RAW_BYTES_MAX, raw).ok()?;
        body = raw;
    }
    let mut cursor = Cursor::new(body);
    match kind & !COMPRESSED {
        KIND_SERIES => {
            // A series takes two bytes at least.
            let left = cursor.count(2)?;
            let series = SeriesIter { cursor, left, expected: 0 };
            let mut check = series.clone();
            for _ in 0..left {
                check.step()?;
            }
            check.cursor.is_empty().then_some(Record::Series(series))
        }
        KIND_SAMPLES => {
            // A value takes one byte at least.
            let n = cursor.count(1)?;
            decode_ids(&mut cursor, n, ids)?;
            decode_timestamps(&mut cursor, n, timestamps)?;
            decode_values(&mut cursor, n, values)?;
            cursor.is_empty().then_some(Record::Samples(SamplesRecord { ids, timestamps, values }))
        }
        KIND_HISTOGRAMS => {
            // A histogram takes two bytes at least.
            let n = cursor.count(2)?;
            decode_ids(&mut cursor, n, ids)?;
            decode_timestamps(&mut cursor, n, timestamps)?;
            let histogram = |_| cursor.prefixed().filter(|bytes| is_one_histogram(bytes));
            let histograms: Vec<&[u8]> = (0..n).map(histogram).collect::<Option<_>>()?;
            cursor.is_empty().then_some(Record::Histograms(ids, timestamps, histograms))
        }
        KIND_METADATA => decode_metadata(&mut cursor).map(Record::Metadata),
        KIND_END => cursor.is_empty().then_some(Record::End),
        _ => None,
    }
}

fn run_length(cursor: &mut Cursor<'_>, left: usize) -> Option<usize> {
    let run = usize::try_from(cursor.uvarint()?).ok()?;
    (1..=left).contains(&run).then_some(run)
}

fn decode_ids(cursor: &mut Cursor<'_>, n: usize, ids: &mut Vec<u32>) -> Option<()> {
    ids.clear();
    ids.try_reserve(n).ok()?;
    let mut expected = 0i64;
    while ids.len() < n {
        let first = u32::try_from(expected.wrapping_add(cursor.ivarint()?)).ok()?;
        let run = run_length(cursor, n - ids.len())?;
        let last = first.checked_add(u32::try_from(run - 1).ok()?)?;
        ids.extend(first..=last);
        expected = i64::from(last) + 1;
    }
    Some(())
}

fn decode_timestamps(cursor: &mut Cursor<'_>, n: usize, timestamps: &mut Vec<i64>) -> Option<()> {
    timestamps.clear();
    timestamps.try_reserve(n).ok()?;
    let mut previous = 0i64;
    while timestamps.len() < n {
        previous = previous.wrapping_add(cursor.ivarint()?);
        let run = run_length(cursor, n - timestamps.len())?;
        timestamps.extend(std::iter::repeat_n(previous, run));
    }
    Some(())
}

fn decode_values(cursor: &mut Cursor<'_>, n: usize, values: &mut Vec<f64>) -> Option<()> {
    values.clear();
    values.try_reserve(n).ok()?;
    for _ in 0..n {
        let first = *cursor.rest().first()?;
        if first & 1 == 0 {
            let doubled = cursor.uvarint()?;
            let integer = crate::codec::varint::unzigzag(doubled >> 1);
            values.push(integer as f64);
        } else {
            cursor.u8()?;
            let zeros = usize::from(first >> 1);
            let stored = cursor.bytes(8usize.checked_sub(zeros)?)?;
            let mut bits = [0; 8];
            bits.get_mut(zeros..)?.copy_from_slice(stored);
            values.push(f64::from_bits(u64::from_le_bytes(bits)));
        }
    }
    Some(())
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
mod tests {
    use super::*;
    use crate::chunk::encode_one_histogram;
    use crate::model::{AnyHistogram, Buckets, IntHistogram};
    use proptest::prelude::*;

    fn samples_bytes(ids: &[u32], timestamps: &[i64], values: &[f64], compressed: bool) -> Vec<u8> {
        let mut out = Vec::new();
        encode_samples(SamplesRecord { ids, timestamps, values }, compressed, &mut out);
        out
    }

    #[test]
    fn the_diagrams_are_true() {
        let bytes = samples_bytes(&[5, 6, 7, 2], &[10, 10, 10, 9], &[1.0, -1.0, 0.5, -0.0], false);
        let expected: &[u8] = &[
            3, 4, // SAMPLES, n
            10, 3, 11, 1, // ids: 5,6,7; then 2 = 8 − 6
            20, 3, 1, 1, // timestamps: 10 ×3, then −1
            4, 2, 13, 0xe0, 0x3f, 15, 0x80, // 1; −1; 0.5 = 3fe0…; −0.0 = 80…
        ];
        assert_eq!(bytes, expected);
        let mut out = Vec::new();
        encode_series(&[(3, b"ab"), (4, b"")], &mut out);
        assert_eq!(out, [2, 2, 6, 2, b'a', b'b', 0, 0]);
        out.clear();
        let metadata = Metadata { metric_type: MetricType::Gauge, unit: "s".into(), help: "h".into() };
        encode_metadata(&[("up", &metadata)], &mut out);
        assert_eq!(out, [6, 1, 2, b'u', b'p', 2, 1, b's', 1, b'h']);
        let mut scratch = Scratch::default();
        let Some(Record::Metadata(entries)) = decode(&out, &mut scratch) else { panic!("metadata") };
        assert_eq!(entries, [("up", metadata)]);
    }

    fn histogram_bytes(count: u64) -> Vec<u8> {
        let positive = Buckets::run(3, vec![count, count + 1]).unwrap();
        let histogram = IntHistogram { count: 2 * count + 1, sum: 1.5, positive, ..IntHistogram::default() };
        let mut out = Vec::new();
        encode_one_histogram(&AnyHistogram::Int(histogram), &mut out);
        out
    }

    #[test]
    fn the_diagram_of_histograms_is_true() {
        let (one, stale) = (histogram_bytes(1), vec![32]);
        let histograms = [one.as_slice(), &stale];
        let record = HistogramsRecord { ids: &[5, 6], timestamps: &[10, 10], histograms: &histograms };
        let mut out = Vec::new();
        encode_histograms(record, &mut out);
        let expected = [&[4, 2, 10, 2, 20, 2][..], &[one.len() as u8], &one, &[1, 32]].concat();
        assert_eq!(out, expected);
        let mut scratch = Scratch::default();
        let Some(Record::Histograms(ids, timestamps, found)) = decode(&out, &mut scratch) else {
            panic!("histograms")
        };
        assert_eq!((ids, timestamps, &found[..]), (&[5, 6][..], &[10, 10][..], &histograms[..]));
        for at in 0..out.len() {
            assert!(decode(&out[..at], &mut scratch).is_none());
        }
        // Whole as a record, but the histogram counts one observation and holds none.
        assert!(
            decode(&[4, 1, 0, 1, 0, 1, 14, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut scratch).is_none()
        );
        let many: Vec<Vec<u8>> = (0..100).map(histogram_bytes).collect();
        let histograms: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        let ids: Vec<u32> = (0..100).collect();
        out.clear();
        encode_histograms(
            HistogramsRecord { ids: &ids, timestamps: &[7; 100], histograms: &histograms },
            &mut out,
        );
        assert_eq!(out[0], KIND_HISTOGRAMS | COMPRESSED);
        let Some(Record::Histograms(_, _, found)) = decode(&out, &mut scratch) else { panic!("histograms") };
        assert_eq!(found, histograms);
    }

    #[test]
    fn a_scrape_takes_three_bytes_a_sample() {
        let n = 2000;
        let ids: Vec<u32> = (0..n).collect();
        let timestamps = vec![1_790_000_000_000; n as usize];
        let values: Vec<f64> = (0..n).map(|i| f64::from(i * 37 % 1000)).collect();
        let bytes = samples_bytes(&ids, &timestamps, &values, false);
        assert!(bytes.len() < 2 * n as usize + 30, "{}", bytes.len());
    }

    #[test]
    fn hostile_counts_do_not_allocate() {
        let mut scratch = Scratch::default();
        for kind in [KIND_SERIES, KIND_SAMPLES, KIND_HISTOGRAMS, KIND_METADATA, KIND_SAMPLES | COMPRESSED] {
            let mut bytes = vec![kind];
            put_uvarint(&mut bytes, 1 << 27);
            bytes.extend_from_slice(&[0; 8]);
            assert!(decode(&bytes, &mut scratch).is_none(), "kind {kind}");
        }
        // Runs of zero samples would never end; runs over the last id would wrap.
        assert!(decode(&[KIND_SAMPLES, 1, 0, 0, 0, 1, 0], &mut scratch).is_none());
        assert!(scratch.ids.capacity() < 100 && scratch.raw.capacity() == 0);
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            any::<i64>().prop_map(|i| i as f64),
            (-1000i32..1000).prop_map(f64::from),
            (-1000i32..1000).prop_map(|i| f64::from(i) / 8.0),
            Just(f64::NAN),
            Just(crate::model::stale_nan()),
            Just(-0.0),
            Just(f64::INFINITY),
            Just(9_007_199_254_740_992.0),
        ]
    }

    proptest! {
        #[test]
        fn samples_come_back_bit_by_bit(
            samples in prop::collection::vec((prop_oneof![0u32..20, any::<u32>()], prop_oneof![0i64..3, any::<i64>()], value()), 0..200),
            compressed: bool,
        ) {
            let ids: Vec<u32> = samples.iter().map(|s| s.0).collect();
            let timestamps: Vec<i64> = samples.iter().map(|s| s.1).collect();
            let values: Vec<f64> = samples.iter().map(|s| s.2).collect();
            let bytes = samples_bytes(&ids, &timestamps, &values, compressed);
            let mut scratch = Scratch::default();
            let Some(Record::Samples(got)) = decode(&bytes, &mut scratch) else { panic!("samples") };
            prop_assert_eq!(got.ids, &ids[..]);
            prop_assert_eq!(got.timestamps, &timestamps[..]);
            let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(got.values), bits(&values));
            for cut in 0..bytes.len() {
                prop_assert!(decode(&bytes[..cut], &mut scratch).is_none());
            }
        }

        #[test]
        fn series_come_back(series in prop::collection::vec((any::<u32>(), prop::collection::vec(97u8..100, 0..60)), 0..40)) {
            let borrowed: Vec<(u32, &[u8])> = series.iter().map(|(id, l)| (*id, l.as_slice())).collect();
            let mut bytes = Vec::new();
            encode_series(&borrowed, &mut bytes);
            let mut scratch = Scratch::default();
            let Some(Record::Series(got)) = decode(&bytes, &mut scratch) else { panic!("series") };
            prop_assert_eq!(got.collect::<Vec<_>>(), borrowed);
        }

        #[test]
        fn any_bytes_are_refused_without_panic(kind: u8, bytes in prop::collection::vec(prop_oneof![0u8..6, any::<u8>()], 0..60)) {
            let mut scratch = Scratch::default();
            let bytes = [&[kind], &bytes[..]].concat();
            decode(&bytes, &mut scratch);
            for known in [KIND_SERIES, KIND_SAMPLES, KIND_HISTOGRAMS, KIND_METADATA, KIND_END] {
                decode(&[&[known], &bytes[..]].concat(), &mut scratch);
            }
        }
    }
}

//! One native histogram as bytes: how it lies in the log, and in memory until it shares a chunk with others.
//!
//! ```text
//! histogram  flags:u8, then nothing more for a staleness marker, else
//!            frame count sum:8 (LE) [zero count] side(positive) [side(negative)]      [..] not with custom buckets
//! flags      bits 0-1 reset hint, 2 counts are floats, 3 custom buckets, 4 the zero bucket has a threshold, 5 staleness marker
//! frame      exponential: schema:zigzag [threshold:8 (LE)]     custom: n:varint, n × bound:8 (LE)
//! side       n:varint, n × { offset:zigzag length:varint }, the count of each bucket
//! count      a float: 8 bytes (LE); a whole number: zigzag of the difference (modulo 2^64) to the bucket before, or to 0
//! ```

use crate::codec::varint::{Cursor, put_ivarint, put_uvarint};
use crate::model::{
    AnyHistogram, BUCKETS_MAX, BucketCount, Buckets, CUSTOM_SCHEMA, Histogram, ResetHint, Span,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const HINT: u8 = 3;
const FLOAT: u8 = 4;
const CUSTOM: u8 = 8;
const THRESHOLD: u8 = 16;
const STALE: u8 = 32;

/// A count as bytes; `before` is the count of the bucket before.
trait Count: BucketCount {
    fn write(self, before: Self, out: &mut Vec<u8>);
    fn read(before: Self, reader: &mut Cursor<'_>) -> Option<Self>;
}

impl Count for f64 {
    fn write(self, _: Self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn read(_: Self, reader: &mut Cursor<'_>) -> Option<Self> {
        reader.f64()
    }
}

impl Count for u64 {
    fn write(self, before: Self, out: &mut Vec<u8>) {
        put_ivarint(out, self.wrapping_sub(before).cast_signed());
    }

    fn read(before: Self, reader: &mut Cursor<'_>) -> Option<Self> {
        Some(before.wrapping_add(reader.ivarint()?.cast_unsigned()))
    }
}

/// Appends `histogram`, which is in the form that [`AnyHistogram::accept`] gives. Equal histograms have equal bytes.
pub fn encode_one_histogram(histogram: &AnyHistogram, out: &mut Vec<u8>) {
    match histogram {
        AnyHistogram::Int(h) => encode(h, 0, out),
        AnyHistogram::Float(h) => encode(h, FLOAT, out),
    }
}

fn encode<N: Count>(histogram: &Histogram<N>, kind: u8, out: &mut Vec<u8>) {
    let flags = kind | histogram.hint.number();
    if histogram.is_stale() {
        return out.push(flags | STALE);
    }
    let threshold = histogram.zero_threshold.to_bits();
    if histogram.is_custom() {
        out.push(flags | CUSTOM);
        put_uvarint(out, histogram.custom_bounds.len() as u64);
        histogram.custom_bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_le_bytes()));
    } else {
        out.push(flags | if threshold == 0 { 0 } else { THRESHOLD });
        put_ivarint(out, i64::from(histogram.schema));
        if threshold != 0 {
            out.extend_from_slice(&threshold.to_le_bytes());
        }
    }
    histogram.count.write(N::default(), out);
    out.extend_from_slice(&histogram.sum.to_le_bytes());
    if histogram.is_custom() {
        return encode_side(&histogram.positive, out);
    }
    histogram.zero_count.write(N::default(), out);
    encode_side(&histogram.positive, out);
    encode_side(&histogram.negative, out);
}

fn encode_side<N: Count>(side: &Buckets<N>, out: &mut Vec<u8>) {
    put_uvarint(out, side.spans().len() as u64);
    for span in side.spans() {
        put_ivarint(out, i64::from(span.offset));
        put_uvarint(out, u64::from(span.length));
    }
    let mut before = N::default();
    for count in side.counts() {
        count.write(before, out);
        before = *count;
    }
}

/// The histogram that `bytes` hold, and nothing else; `None` if they hold none.
pub fn decode_one_histogram(bytes: &[u8]) -> Option<AnyHistogram> {
    let mut reader = Cursor::new(bytes);
    let flags = reader.u8()?;
    if flags & FLOAT == 0 {
        decode(flags, &mut reader).map(AnyHistogram::Int)
    } else {
        decode(flags, &mut reader).map(AnyHistogram::Float)
    }
}

fn decode<N: Count>(flags: u8, reader: &mut Cursor<'_>) -> Option<Histogram<N>> {
    let hint = ResetHint::from_number(u64::from(flags & HINT));
    let mut histogram = Histogram { hint, ..Histogram::stale() };
    if flags & !(HINT | FLOAT) == STALE {
        return reader.is_empty().then_some(histogram);
    }
    match flags & !(HINT | FLOAT) {
        CUSTOM => {
            histogram.schema = CUSTOM_SCHEMA;
            let count = reader.count(size_of::<f64>()).filter(|c| *c <= BUCKETS_MAX)?;
            histogram.custom_bounds = (0..count).map(|_| reader.f64()).collect::<Option<_>>()?;
        }
        0 => histogram.schema = i32::try_from(reader.ivarint()?).ok()?,
        THRESHOLD => {
            histogram.schema = i32::try_from(reader.ivarint()?).ok()?;
            histogram.zero_threshold = reader.f64()?;
        }
        _ => return None,
    }
    histogram.count = N::read(N::default(), reader)?;
    histogram.sum = reader.f64()?;
    if flags & CUSTOM == 0 {
        histogram.zero_count = N::read(N::default(), reader)?;
    }
    histogram.positive = decode_side(reader)?;
    if flags & CUSTOM == 0 {
        histogram.negative = decode_side(reader)?;
    }
    reader.is_empty().then_some(histogram)
}

fn decode_side<N: Count>(reader: &mut Cursor<'_>) -> Option<Buckets<N>> {
    let spans = reader.count(2).filter(|c| *c <= BUCKETS_MAX)?;
    let spans: Vec<Span> = (0..spans)
        .map(|_| Some(Span { offset: i32::try_from(reader.ivarint()?).ok()?, length: reader.uvarint32()? }))
        .collect::<Option<_>>()?;
    let buckets: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    // A count takes one byte at least.
    let buckets = usize::try_from(buckets).ok().filter(|b| *b <= reader.remaining().min(BUCKETS_MAX))?;
    let mut counts = Vec::with_capacity(buckets);
    let mut before = N::default();
    for _ in 0..buckets {
        before = N::read(before, reader)?;
        counts.push(before);
    }
    Buckets::new(spans, counts).ok()
}

/// Whether `bytes` hold a histogram that could have been accepted.
pub fn is_one_histogram(bytes: &[u8]) -> bool {
    decode_one_histogram(bytes).is_some_and(|histogram| {
        histogram.is_stale()
            || match histogram {
                AnyHistogram::Int(h) => h.validate().is_ok(),
                AnyHistogram::Float(h) => h.validate().is_ok(),
            }
    })
}

/// A hash of encoded data without the hint: equal for a histogram that is sent again.
pub fn hash_one_histogram(bytes: &[u8]) -> u64 {
    match bytes.split_first() {
        Some((flags, rest)) => xxh3_64_with_seed(rest, u64::from(flags & !HINT)),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram_tests::any_sample;
    use super::*;
    use crate::model::{FloatHistogram, IntHistogram};
    use proptest::prelude::*;

    fn encoded(histogram: &AnyHistogram) -> Vec<u8> {
        let mut out = Vec::new();
        encode_one_histogram(histogram, &mut out);
        out
    }

    #[test]
    fn the_diagram_is_true() {
        let int = IntHistogram {
            hint: ResetHint::Gauge,
            schema: -1,
            zero_threshold: 0.5,
            zero_count: 2,
            count: 9,
            sum: 1.0,
            positive: Buckets::run(3, vec![5, 1]).unwrap(),
            negative: Buckets::run(-1, vec![1]).unwrap(),
            ..Histogram::default()
        };
        let expected: &[u8] = &[
            19, 1, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, // flags, schema, threshold
            18, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 4, // count, sum, zero count
            1, 6, 2, 10, 7, // positive: one run of two from 3; 5, 1 = 5 - 4
            1, 1, 1, 2, // negative: one run of one from -1; 1
        ];
        assert_eq!(encoded(&AnyHistogram::Int(int)), expected);
        let custom = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count: 1.0,
            sum: 1.0,
            positive: Buckets::run(1, vec![1.0]).unwrap(),
            custom_bounds: [1.0].into(),
            ..Histogram::default()
        };
        let one = 1_f64.to_le_bytes();
        let expected = [&[12, 1][..], &one, &one, &one, &[1, 2, 1], &one].concat();
        assert_eq!(encoded(&AnyHistogram::Float(custom)), expected);
        assert_eq!(encoded(&AnyHistogram::Float(Histogram::stale())), [36]);
    }

    #[test]
    fn hostile_counts_do_not_allocate() {
        let mut bytes = vec![CUSTOM];
        put_uvarint(&mut bytes, 1 << 40);
        assert!(decode_one_histogram(&bytes).is_none());
        let mut bytes = vec![0, 0, 0];
        bytes.extend_from_slice(&[0; 9]);
        bytes.extend_from_slice(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(decode_one_histogram(&bytes).is_none());
    }

    proptest! {
        #![proptest_config(crate::tests::cases(1_000))]

        #[test]
        fn any_histogram_comes_back(mut sample in any_sample(), other in any_sample()) {
            let bytes = encoded(&sample);
            let back = decode_one_histogram(&bytes).unwrap();
            prop_assert!(back.is_same_data(&sample) && back.hint() == sample.hint());
            for cut in 0..bytes.len() {
                prop_assert!(decode_one_histogram(&bytes[..cut]).is_none());
            }
            let hash = hash_one_histogram(&bytes);
            prop_assert_eq!(sample.is_same_data(&other), hash == hash_one_histogram(&encoded(&other)));
            sample.set_hint(ResetHint::Gauge);
            prop_assert_eq!(hash, hash_one_histogram(&encoded(&sample)));
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(prop_oneof![0_u8..6, any::<u8>()], 0..60)) {
            if let Some(histogram) = decode_one_histogram(&bytes) {
                let again = decode_one_histogram(&encoded(&histogram)).unwrap();
                prop_assert!(again.is_same_data(&histogram));
            }
            is_one_histogram(&bytes);
        }
    }
}

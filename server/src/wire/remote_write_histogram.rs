//! The message `Histogram` of remote write, the same in 1.0 and 2.0 but for its last field: decoded and put together.

use super::protobuf::{Field, FieldValue, ProtobufError, Reader};
use kymo_storage::model::{
    AnyHistogram, BUCKETS_MAX, Buckets, Histogram, HistogramError, ResetHint, Span, Timestamp,
    counts_from_deltas,
};

/// A histogram of a request, or what is wrong with it.
#[derive(Debug, Clone, PartialEq)]
pub struct SentHistogram {
    /// Milliseconds since the Unix epoch.
    pub timestamp: Timestamp,
    /// When counting began (version 2.0 only); 0 if that is not known.
    pub start_timestamp: Timestamp,
    /// As it was sent; whether its parts agree is not checked yet.
    pub histogram: Result<AnyHistogram, HistogramError>,
    /// How many numbers it has: what it costs to keep.
    pub numbers: usize,
}

/// What a histogram takes beside the numbers it lists, counted in numbers.
const FRAME_NUMBERS: usize = 24;

/// The two ways to send a count.
#[derive(Debug, Clone, Copy)]
enum Count {
    Int(u64),
    Float(f64),
}

/// One side as it is sent: differences of whole numbers, or floats.
#[derive(Debug, Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Side {
    fn numbers(&self) -> usize {
        self.spans.len() + self.deltas.len() + self.counts.len()
    }

    fn integers(self, name: &'static str) -> Result<Buckets<u64>, HistogramError> {
        let counts = counts_from_deltas(&self.deltas);
        counts.and_then(|counts| Buckets::new(self.spans, counts)).map_err(|e| e.on(name))
    }

    fn floats(self, name: &'static str) -> Result<Buckets<f64>, HistogramError> {
        Buckets::new(self.spans, self.counts).map_err(|e| e.on(name))
    }
}

/// Decodes one histogram. Integers and floats may come packed or one by one.
///
/// # Errors
/// The bytes are not the message.
pub fn decode_histogram(message: &[u8]) -> Result<SentHistogram, ProtobufError> {
    let (mut count, mut zero_count) = (Count::Int(0), Count::Int(0));
    let mut frame: Histogram<u64> = Histogram::default();
    let (mut negative, mut positive) = (Side::default(), Side::default());
    let mut bounds = Vec::new();
    let (mut timestamp, mut start_timestamp) = (0, 0);
    let mut reader = Reader::new(message);
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => count = Count::Int(field.varint()?),
            2 => count = Count::Float(field.double()?),
            3 => frame.sum = field.double()?,
            4 => frame.schema = zigzag_32(field.varint()?),
            5 => frame.zero_threshold = field.double()?,
            6 => zero_count = Count::Int(field.varint()?),
            7 => zero_count = Count::Float(field.double()?),
            8 => keep(&mut negative.spans, decode_span(field.bytes()?)?),
            9 => each_varint(&field, |v| keep(&mut negative.deltas, zigzag_64(v)))?,
            10 => each_double(&field, |v| keep(&mut negative.counts, v))?,
            11 => keep(&mut positive.spans, decode_span(field.bytes()?)?),
            12 => each_varint(&field, |v| keep(&mut positive.deltas, zigzag_64(v)))?,
            13 => each_double(&field, |v| keep(&mut positive.counts, v))?,
            14 => frame.hint = ResetHint::from_number(field.varint()?),
            // `int64` is two's complement in 64 bits.
            15 => timestamp = field.varint()?.cast_signed(),
            16 => each_double(&field, |v| keep(&mut bounds, v))?,
            17 => start_timestamp = field.varint()?.cast_signed(),
            _ => {}
        }
    }
    let numbers = FRAME_NUMBERS + negative.numbers() + positive.numbers() + bounds.len();
    frame.custom_bounds = bounds.into();
    let histogram = put_together(frame, (count, zero_count), positive, negative);
    Ok(SentHistogram { timestamp, start_timestamp, histogram, numbers })
}

/// Which kind it is, its count says.
fn put_together(
    frame: Histogram<u64>,
    counts: (Count, Count),
    positive: Side,
    negative: Side,
) -> Result<AnyHistogram, HistogramError> {
    let (count, zero_count) = counts;
    let Count::Float(count) = count else {
        let int = |count| if let Count::Int(count) = count { count } else { 0 };
        return Ok(AnyHistogram::Int(Histogram {
            count: int(count),
            zero_count: int(zero_count),
            positive: positive.integers("positive")?,
            negative: negative.integers("negative")?,
            ..frame
        }));
    };
    Ok(AnyHistogram::Float(Histogram {
        hint: frame.hint,
        schema: frame.schema,
        zero_threshold: frame.zero_threshold,
        zero_count: if let Count::Float(count) = zero_count { count } else { 0.0 },
        count,
        sum: frame.sum,
        positive: positive.floats("positive")?,
        negative: negative.floats("negative")?,
        custom_bounds: frame.custom_bounds,
    }))
}

/// Adds an item, unless there is already one more than any histogram may have: then the histogram is refused anyway.
fn keep<T>(items: &mut Vec<T>, item: T) {
    if items.len() <= BUCKETS_MAX {
        items.push(item);
    }
}

fn decode_span(message: &[u8]) -> Result<Span, ProtobufError> {
    let mut reader = Reader::new(message);
    let mut span = Span::default();
    while let Some(field) = reader.next_field()? {
        match field.number {
            1 => span.offset = zigzag_32(field.varint()?),
            // `uint32`: the low 32 bits.
            2 => span.length = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// `sint32`: in the low 32 bits.
fn zigzag_32(value: u64) -> i32 {
    let value = value as u32;
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn zigzag_64(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Hands over each number of a repeated integer field, packed or not.
///
/// # Errors
/// The bytes are not the field.
pub fn each_varint(field: &Field<'_>, mut take: impl FnMut(u64)) -> Result<(), ProtobufError> {
    let FieldValue::Bytes(packed) = field.value else {
        take(field.varint()?);
        return Ok(());
    };
    let mut reader = Reader::new(packed);
    while reader.peek().is_some() {
        take(reader.varint()?);
    }
    Ok(())
}

fn each_double(field: &Field<'_>, mut take: impl FnMut(f64)) -> Result<(), ProtobufError> {
    let FieldValue::Bytes(packed) = field.value else {
        take(field.double()?);
        return Ok(());
    };
    let (doubles, rest) = packed.as_chunks::<8>();
    doubles.iter().for_each(|bytes| take(f64::from_le_bytes(*bytes)));
    if rest.is_empty() { Ok(()) } else { Err(ProtobufError::Truncated) }
}

//! Chunks of native histograms counted in whole numbers (encoding 2).
//!
//! ```text
//! first    time varbit | count unsigned varbit | zero count unsigned varbit | sum 64 bits | buckets varbit
//! others   the same as changes of the change since the histogram before (varbit), the sum by xor
//! ```
//!
//! Buckets are differences: the first of each side from 0, each other from the one before. After a staleness marker, of which
//! only time and sum mean something, come no more histograms but such markers.

use super::bits::{BitReader, BitWriter};
use super::chunk_layout::{Layout, flags, hint_after, hint_of};
use super::chunk_value::XorValue;
use super::{CHUNK_SAMPLES_MAX, ChunkError, header};
use crate::model::{
    Buckets, HistogramError, IntHistogram, ResetHint, Span, Timestamp, counts_from_deltas, is_stale,
};

/// A number and how it changed last; what comes next is how that change changes.
#[derive(Debug, Clone, Copy, Default)]
struct Changing {
    value: i64,
    change: i64,
}

impl Changing {
    fn first(value: i64) -> Self {
        Self { value, change: 0 }
    }

    fn write(&mut self, out: &mut BitWriter, value: i64) {
        let change = value.wrapping_sub(self.value);
        out.write_varbit(change.wrapping_sub(self.change));
        *self = Self { value, change };
    }

    fn read(&mut self, bits: &mut BitReader<'_>) -> Option<i64> {
        self.change = self.change.wrapping_add(bits.varbit()?);
        self.value = self.value.wrapping_add(self.change);
        Some(self.value)
    }
}

/// The differences of neighbours on both sides, one side after the other.
fn differences(histogram: &IntHistogram) -> impl Iterator<Item = i64> {
    [&histogram.positive, &histogram.negative].into_iter().flat_map(|side| {
        let mut before = 0_i64;
        side.counts().iter().map(move |count| {
            let count = count.cast_signed();
            count.wrapping_sub(std::mem::replace(&mut before, count))
        })
    })
}

/// The state behind the last histogram.
#[derive(Debug, Clone)]
struct State {
    layout: Layout,
    time: Changing,
    count: Changing,
    zero_count: Changing,
    sum: XorValue,
    buckets: Vec<Changing>,
}

/// Builds a chunk of histograms that share their buckets and count on from one to the next.
#[derive(Debug, Clone)]
pub struct HistogramChunkWriter {
    bits: BitWriter,
    samples: u16,
    hint: ResetHint,
    /// The histogram before; `None` if there is none.
    last: Option<(State, IntHistogram)>,
}

impl HistogramChunkWriter {
    /// A chunk with its first histogram.
    pub fn new(time: Timestamp, histogram: &IntHistogram) -> Self {
        let is_stale = histogram.is_stale();
        let mut bits = BitWriter::new(vec![0, 0, flags(histogram.hint)]);
        let layout = Layout::of(histogram, is_stale);
        layout.write(&mut bits);
        bits.write_varbit(time);
        let (count, zero_count) = if is_stale { (0, 0) } else { (histogram.count, histogram.zero_count) };
        bits.write_varbit_unsigned(count);
        bits.write_varbit_unsigned(zero_count);
        bits.write(histogram.sum.to_bits(), 64);
        let mut buckets = Vec::new();
        if !is_stale {
            buckets.extend(differences(histogram).map(Changing::first));
            buckets.iter().for_each(|bucket| bits.write_varbit(bucket.value));
        }
        let state = State {
            layout,
            time: Changing::first(time),
            count: Changing::first(count.cast_signed()),
            zero_count: Changing::first(zero_count.cast_signed()),
            sum: XorValue::first(histogram.sum),
            buckets,
        };
        Self { bits, samples: 1, hint: histogram.hint, last: Some((state, histogram.clone())) }
    }

    /// Adds a histogram, later than those before. False if it begins another chunk: it has other buckets, was reset, is of
    /// another type, or the chunk is full; the chunk is as before then.
    pub fn push(&mut self, time: Timestamp, histogram: &IntHistogram) -> bool {
        let Some((state, last)) = &mut self.last else { return false };
        let full = usize::from(self.samples) == CHUNK_SAMPLES_MAX;
        if full || !continues(self.hint, &state.layout, last, histogram) {
            return false;
        }
        let out = &mut self.bits;
        state.time.write(out, time);
        if histogram.is_stale() {
            out.write_varbit(0);
            out.write_varbit(0);
            state.sum.write(out, histogram.sum);
        } else {
            state.count.write(out, histogram.count.cast_signed());
            state.zero_count.write(out, histogram.zero_count.cast_signed());
            state.sum.write(out, histogram.sum);
            for (bucket, value) in state.buckets.iter_mut().zip(differences(histogram)) {
                bucket.write(out, value);
            }
        }
        last.clone_from(histogram);
        self.samples += 1;
        true
    }

    /// How many histograms it has.
    pub fn samples(&self) -> usize {
        usize::from(self.samples)
    }

    /// How many bytes it takes so far.
    pub fn bytes(&self) -> usize {
        self.bits.len()
    }

    /// The chunk.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = self.bits.finish();
        if let Some(count) = bytes.first_chunk_mut::<2>() {
            *count = self.samples.to_be_bytes();
        }
        bytes
    }
}

/// Whether `next` can follow `last` in one chunk: readers take it that nothing was reset inside.
fn continues(first: ResetHint, layout: &Layout, last: &IntHistogram, next: &IntHistogram) -> bool {
    if next.is_stale() {
        return true;
    }
    let is_gauge = first == ResetHint::Gauge;
    if last.is_stale() || next.hint == ResetHint::Reset || is_gauge != (next.hint == ResetHint::Gauge) {
        return false;
    }
    if Layout::of(next, false) != *layout {
        return false;
    }
    let rises = |a: &Buckets<u64>, b: &Buckets<u64>| a.counts().iter().zip(b.counts()).all(|(a, b)| a <= b);
    is_gauge
        || last.count <= next.count
            && last.zero_count <= next.zero_count
            && rises(&last.positive, &next.positive)
            && rises(&last.negative, &next.negative)
}

/// Reads a chunk of histograms; after an error it ends.
#[derive(Debug, Clone)]
pub struct HistogramChunkReader<'a> {
    bits: BitReader<'a>,
    samples: usize,
    read: usize,
    hint: ResetHint,
    state: Option<State>,
}

impl<'a> HistogramChunkReader<'a> {
    /// A reader at the first histogram.
    ///
    /// # Errors
    /// There is no header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        let (samples, rest) = header(bytes)?;
        let (flags, rest) = rest.split_first().ok_or(ChunkError::NoHeader(bytes.len()))?;
        let bits = BitReader::new(rest);
        Ok(Self { bits, samples, read: 0, hint: hint_of(*flags), state: None })
    }

    /// How many histograms the chunk says it has.
    pub fn samples(&self) -> usize {
        self.samples
    }

    fn read_first(&mut self) -> Result<Option<State>, ChunkError> {
        let bits = &mut self.bits;
        let Some(layout) = Layout::read(bits)? else { return Ok(None) };
        let (Some(time), Some(count), Some(zero_count), Some(sum)) =
            (bits.varbit(), bits.varbit_unsigned(), bits.varbit_unsigned(), bits.read(64))
        else {
            return Ok(None);
        };
        let (positive, negative) = layout.buckets();
        let buckets: Option<Vec<Changing>> =
            (0..positive + negative).map(|_| bits.varbit().map(Changing::first)).collect();
        Ok(buckets.map(|buckets| State {
            layout,
            time: Changing::first(time),
            count: Changing::first(count.cast_signed()),
            zero_count: Changing::first(zero_count.cast_signed()),
            sum: XorValue::first(f64::from_bits(sum)),
            buckets,
        }))
    }

    fn read_sample(&mut self) -> Result<Option<(Timestamp, IntHistogram)>, ChunkError> {
        match &mut self.state {
            None => {
                let Some(state) = self.read_first()? else { return Ok(None) };
                self.state = Some(state);
            }
            Some(state) => {
                let bits = &mut self.bits;
                let numbers = [&mut state.time, &mut state.count, &mut state.zero_count];
                for number in numbers {
                    if number.read(bits).is_none() {
                        return Ok(None);
                    }
                }
                let Some(sum) = state.sum.read(bits)? else { return Ok(None) };
                let buckets = if is_stale(sum) { &mut [][..] } else { &mut state.buckets[..] };
                for bucket in buckets {
                    if bucket.read(bits).is_none() {
                        return Ok(None);
                    }
                }
            }
        }
        let Some(state) = &self.state else { return Ok(None) };
        let histogram = state.histogram();
        let sample = self.read + 1;
        let mut histogram = histogram.map_err(|cause| ChunkError::Histogram { sample, cause })?;
        histogram.hint = if self.read == 0 { self.hint } else { hint_after(self.hint) };
        Ok(Some((state.time.value, histogram)))
    }
}

impl State {
    fn histogram(&self) -> Result<IntHistogram, HistogramError> {
        if is_stale(self.sum.value) {
            return Ok(IntHistogram::stale());
        }
        let (positive, negative) = self.buckets.split_at(self.layout.buckets().0.min(self.buckets.len()));
        let side = |spans: &[Span], buckets: &[Changing]| {
            let differences: Vec<i64> = buckets.iter().map(|b| b.value).collect();
            Buckets::new(spans.to_vec(), counts_from_deltas(&differences)?)
        };
        let histogram = IntHistogram {
            hint: ResetHint::Unknown,
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.zero_count.value.cast_unsigned(),
            count: self.count.value.cast_unsigned(),
            sum: self.sum.value,
            positive: side(&self.layout.positive, positive).map_err(|e| e.on("positive"))?,
            negative: side(&self.layout.negative, negative).map_err(|e| e.on("negative"))?,
            custom_bounds: std::sync::Arc::clone(&self.layout.custom_bounds),
        };
        Ok(histogram)
    }
}

impl Iterator for HistogramChunkReader<'_> {
    type Item = Result<(Timestamp, IntHistogram), ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read >= self.samples {
            return None;
        }
        let sample = self.read_sample();
        self.read += 1;
        let truncated = ChunkError::Truncated { sample: self.read, samples: self.samples };
        let sample = sample.and_then(|sample| sample.ok_or(truncated));
        if sample.is_err() {
            self.read = self.samples;
        }
        Some(sample)
    }
}

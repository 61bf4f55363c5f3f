//! Chunks of native histograms counted in floats (encoding 3).
//!
//! ```text
//! first    time varbit | count, zero count, sum, buckets: 64 bits each
//! others   change of the change of the time varbit | the same numbers by xor, each against the one of the histogram before
//! ```
//!
//! After a staleness marker, of which only time and sum mean something, come no more histograms but such markers.

use super::bits::{BitReader, BitWriter};
use super::chunk_layout::{Layout, flags, hint_after, hint_of};
use super::chunk_value::XorValue;
use super::{CHUNK_SAMPLES_MAX, ChunkError, header};
use crate::model::{Buckets, FloatHistogram, HistogramError, ResetHint, Span, Timestamp, is_stale};

/// The buckets of both sides, one side after the other.
fn all_buckets(histogram: &FloatHistogram) -> impl Iterator<Item = f64> {
    histogram.positive.counts().iter().chain(histogram.negative.counts()).copied()
}

/// The state behind the last histogram.
#[derive(Debug, Clone)]
struct State {
    layout: Layout,
    time: Timestamp,
    distance: i64,
    count: XorValue,
    zero_count: XorValue,
    sum: XorValue,
    buckets: Vec<XorValue>,
}

/// Builds a chunk of histograms that share their buckets and count on from one to the next.
#[derive(Debug, Clone)]
pub struct FloatHistogramChunkWriter {
    bits: BitWriter,
    samples: u16,
    hint: ResetHint,
    /// The histogram before; `None` if there is none.
    last: Option<(State, FloatHistogram)>,
}

impl FloatHistogramChunkWriter {
    /// A chunk with its first histogram.
    pub fn new(time: Timestamp, histogram: &FloatHistogram) -> Self {
        let is_stale = histogram.is_stale();
        let mut bits = BitWriter::new(vec![0, 0, flags(histogram.hint)]);
        let layout = Layout::of(histogram, is_stale);
        layout.write(&mut bits);
        bits.write_varbit(time);
        let (count, zero_count) = if is_stale { (0.0, 0.0) } else { (histogram.count, histogram.zero_count) };
        let mut buckets = Vec::new();
        if !is_stale {
            buckets.extend(all_buckets(histogram).map(XorValue::first));
        }
        let frame = [count, zero_count, histogram.sum];
        for value in frame.into_iter().chain(buckets.iter().map(|b| b.value)) {
            bits.write(value.to_bits(), 64);
        }
        let state = State {
            layout,
            time,
            distance: 0,
            count: XorValue::first(count),
            zero_count: XorValue::first(zero_count),
            sum: XorValue::first(histogram.sum),
            buckets,
        };
        Self { bits, samples: 1, hint: histogram.hint, last: Some((state, histogram.clone())) }
    }

    /// Adds a histogram, later than those before. False if it begins another chunk: it has other buckets, was reset, is of
    /// another type, or the chunk is full; the chunk is as before then.
    pub fn push(&mut self, time: Timestamp, histogram: &FloatHistogram) -> bool {
        let Some((state, last)) = &mut self.last else { return false };
        let full = usize::from(self.samples) == CHUNK_SAMPLES_MAX;
        if full || !continues(self.hint, &state.layout, last, histogram) {
            return false;
        }
        let out = &mut self.bits;
        let distance = time.wrapping_sub(state.time);
        out.write_varbit(distance.wrapping_sub(state.distance));
        (state.time, state.distance) = (time, distance);
        let is_stale = histogram.is_stale();
        let (count, zero_count) = if is_stale { (0.0, 0.0) } else { (histogram.count, histogram.zero_count) };
        state.count.write(out, count);
        state.zero_count.write(out, zero_count);
        state.sum.write(out, histogram.sum);
        if !is_stale {
            for (bucket, value) in state.buckets.iter_mut().zip(all_buckets(histogram)) {
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
fn continues(first: ResetHint, layout: &Layout, last: &FloatHistogram, next: &FloatHistogram) -> bool {
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
    let rises = |a: &Buckets<f64>, b: &Buckets<f64>| a.counts().iter().zip(b.counts()).all(|(a, b)| a <= b);
    is_gauge
        || last.count <= next.count
            && last.zero_count <= next.zero_count
            && rises(&last.positive, &next.positive)
            && rises(&last.negative, &next.negative)
}

/// Reads a chunk of histograms; after an error it ends.
#[derive(Debug, Clone)]
pub struct FloatHistogramChunkReader<'a> {
    bits: BitReader<'a>,
    samples: usize,
    read: usize,
    hint: ResetHint,
    state: Option<State>,
}

impl<'a> FloatHistogramChunkReader<'a> {
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
        let Some(time) = bits.varbit() else { return Ok(None) };
        let mut value = || bits.read(64).map(|v| XorValue::first(f64::from_bits(v)));
        let (Some(count), Some(zero_count), Some(sum)) = (value(), value(), value()) else { return Ok(None) };
        let (positive, negative) = layout.buckets();
        let buckets: Option<Vec<XorValue>> = (0..positive + negative).map(|_| value()).collect();
        Ok(buckets.map(|buckets| State { layout, time, distance: 0, count, zero_count, sum, buckets }))
    }

    fn read_sample(&mut self) -> Result<Option<(Timestamp, FloatHistogram)>, ChunkError> {
        match &mut self.state {
            None => {
                let Some(state) = self.read_first()? else { return Ok(None) };
                self.state = Some(state);
            }
            Some(state) => {
                let bits = &mut self.bits;
                let Some(change) = bits.varbit() else { return Ok(None) };
                state.distance = state.distance.wrapping_add(change);
                state.time = state.time.wrapping_add(state.distance);
                for value in [&mut state.count, &mut state.zero_count, &mut state.sum] {
                    if value.read(bits)?.is_none() {
                        return Ok(None);
                    }
                }
                let buckets = if is_stale(state.sum.value) { &mut [][..] } else { &mut state.buckets[..] };
                for bucket in buckets {
                    if bucket.read(bits)?.is_none() {
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
        Ok(Some((state.time, histogram)))
    }
}

impl State {
    fn histogram(&self) -> Result<FloatHistogram, HistogramError> {
        if is_stale(self.sum.value) {
            return Ok(FloatHistogram::stale());
        }
        let (positive, negative) = self.buckets.split_at(self.layout.buckets().0.min(self.buckets.len()));
        let side = |spans: &[Span], buckets: &[XorValue]| {
            Buckets::new(spans.to_vec(), buckets.iter().map(|b| b.value).collect())
        };
        let histogram = FloatHistogram {
            hint: ResetHint::Unknown,
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: self.zero_count.value,
            count: self.count.value,
            sum: self.sum.value,
            positive: side(&self.layout.positive, positive).map_err(|e| e.on("positive"))?,
            negative: side(&self.layout.negative, negative).map_err(|e| e.on("negative"))?,
            custom_bounds: std::sync::Arc::clone(&self.layout.custom_bounds),
        };
        Ok(histogram)
    }
}

impl Iterator for FloatHistogramChunkReader<'_> {
    type Item = Result<(Timestamp, FloatHistogram), ChunkError>;

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

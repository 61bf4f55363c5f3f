//! Chunks of native histograms, counted in whole numbers (encoding 2) or in floats (encoding 3).
//!
//! ```text
//! whole numbers
//! first    time varbit | count unsigned varbit | zero count unsigned varbit | sum 64 bits | buckets varbit
//! others   the same as changes of the change since the histogram before (varbit), the sum by xor
//! floats
//! first    time varbit | count, zero count, sum, buckets: 64 bits each
//! others   change of the change of the time varbit | the same numbers by xor, each against the one of the histogram before
//! ```
//!
//! Whole buckets are differences: the first of each side from 0, each other from the one before. After a staleness marker, of
//! which only time and sum mean something, come no more histograms but such markers.

use super::bits::{BitReader, BitWriter};
use super::chunk_count::{Changing, ChunkCount, Column};
use super::chunk_layout::{Layout, flags, hint_after, hint_of};
use super::chunk_value::XorValue;
use super::{CHUNK_SAMPLES_MAX, ChunkError, header};
use crate::model::{
    Buckets, FloatHistogram, Histogram, HistogramError, IntHistogram, ResetHint, Span, Timestamp, is_stale,
};

/// The state behind the last histogram.
#[derive(Debug, Clone)]
struct State<N: ChunkCount> {
    layout: Layout,
    time: Changing,
    count: N::Column,
    zero_count: N::Column,
    sum: XorValue,
    buckets: Vec<N::Column>,
}

/// The chunk that is being built.
#[derive(Debug, Clone)]
struct Writer<N: ChunkCount> {
    bits: BitWriter,
    samples: u16,
    hint: ResetHint,
    state: State<N>,
    /// The histogram before.
    last: Histogram<N>,
}

impl<N: ChunkCount> Writer<N> {
    fn new(time: Timestamp, histogram: &Histogram<N>) -> Self {
        let is_stale = histogram.is_stale();
        let mut bits = BitWriter::new(vec![0, 0, flags(histogram.hint)]);
        let layout = Layout::of(histogram, is_stale);
        layout.write(&mut bits);
        bits.write_varbit(time);
        let zero = N::default();
        let (count, zero_count) =
            if is_stale { (zero, zero) } else { (histogram.count, histogram.zero_count) };
        N::write_first(&mut bits, count.encode());
        N::write_first(&mut bits, zero_count.encode());
        bits.write(histogram.sum.to_bits(), 64);
        let mut buckets = Vec::new();
        if !is_stale {
            for code in N::codes(&histogram.positive).chain(N::codes(&histogram.negative)) {
                N::write_first_bucket(&mut bits, code);
                buckets.push(N::Column::first(code));
            }
        }
        let state = State {
            layout,
            time: Changing::first(time),
            count: N::Column::first(count.encode()),
            zero_count: N::Column::first(zero_count.encode()),
            sum: XorValue::first(histogram.sum),
            buckets,
        };
        Self { bits, samples: 1, hint: histogram.hint, state, last: histogram.clone() }
    }

    fn push(&mut self, time: Timestamp, histogram: &Histogram<N>) -> bool {
        if usize::from(self.samples) == CHUNK_SAMPLES_MAX || !self.continues(histogram) {
            return false;
        }
        let (state, out) = (&mut self.state, &mut self.bits);
        state.time.write(out, time);
        if histogram.is_stale() {
            N::write_stale(&mut state.count, out);
            N::write_stale(&mut state.zero_count, out);
            state.sum.write(out, histogram.sum);
        } else {
            state.count.write(out, histogram.count.encode());
            state.zero_count.write(out, histogram.zero_count.encode());
            state.sum.write(out, histogram.sum);
            let codes = N::codes(&histogram.positive).chain(N::codes(&histogram.negative));
            for (bucket, code) in state.buckets.iter_mut().zip(codes) {
                bucket.write(out, code);
            }
        }
        self.last.clone_from(histogram);
        self.samples += 1;
        true
    }

    /// Whether `next` can follow in this chunk: readers take it that nothing was reset inside.
    fn continues(&self, next: &Histogram<N>) -> bool {
        if next.is_stale() {
            return true;
        }
        let last = &self.last;
        let is_gauge = self.hint == ResetHint::Gauge;
        if last.is_stale() || next.hint == ResetHint::Reset || is_gauge != (next.hint == ResetHint::Gauge) {
            return false;
        }
        if Layout::of(next, false) != self.state.layout {
            return false;
        }
        let rises = |a: &Buckets<N>, b: &Buckets<N>| a.counts().iter().zip(b.counts()).all(|(a, b)| a <= b);
        is_gauge
            || last.count <= next.count
                && last.zero_count <= next.zero_count
                && rises(&last.positive, &next.positive)
                && rises(&last.negative, &next.negative)
    }

    fn finish(self) -> Vec<u8> {
        let mut bytes = self.bits.finish();
        if let Some(count) = bytes.first_chunk_mut::<2>() {
            *count = self.samples.to_be_bytes();
        }
        bytes
    }
}

/// Reads a chunk; after an error it ends.
#[derive(Debug, Clone)]
struct Reader<'a, N: ChunkCount> {
    bits: BitReader<'a>,
    samples: usize,
    read: usize,
    hint: ResetHint,
    state: Option<State<N>>,
}

impl<'a, N: ChunkCount> Reader<'a, N> {
    fn new(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        let (samples, rest) = header(bytes)?;
        let (flags, rest) = rest.split_first().ok_or(ChunkError::NoHeader(bytes.len()))?;
        let bits = BitReader::new(rest);
        Ok(Self { bits, samples, read: 0, hint: hint_of(*flags), state: None })
    }

    fn read_sample(&mut self) -> Result<Option<(Timestamp, Histogram<N>)>, ChunkError> {
        match &mut self.state {
            None => {
                let Some(state) = State::read_first(&mut self.bits)? else { return Ok(None) };
                self.state = Some(state);
            }
            Some(state) => {
                if state.read_next(&mut self.bits)?.is_none() {
                    return Ok(None);
                }
            }
        }
        let Some(state) = &self.state else { return Ok(None) };
        let sample = self.read + 1;
        let mut histogram = state.histogram().map_err(|cause| ChunkError::Histogram { sample, cause })?;
        histogram.hint = if self.read == 0 { self.hint } else { hint_after(self.hint) };
        Ok(Some((state.time.code(), histogram)))
    }
}

impl<N: ChunkCount> Iterator for Reader<'_, N> {
    type Item = Result<(Timestamp, Histogram<N>), ChunkError>;

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

impl<N: ChunkCount> State<N> {
    /// Reads what begins a chunk; `Ok(None)` behind the end.
    fn read_first(bits: &mut BitReader<'_>) -> Result<Option<Self>, ChunkError> {
        let Some(layout) = Layout::read(bits)? else { return Ok(None) };
        let (Some(time), Some(count), Some(zero_count), Some(sum)) =
            (bits.varbit(), N::read_first(bits), N::read_first(bits), bits.read(64))
        else {
            return Ok(None);
        };
        let (positive, negative) = layout.buckets();
        let buckets: Option<Vec<N::Column>> =
            (0..positive + negative).map(|_| N::read_first_bucket(bits).map(N::Column::first)).collect();
        Ok(buckets.map(|buckets| Self {
            layout,
            time: Changing::first(time),
            count: N::Column::first(count),
            zero_count: N::Column::first(zero_count),
            sum: XorValue::first(f64::from_bits(sum)),
            buckets,
        }))
    }

    /// Reads what follows; `Ok(None)` behind the end.
    fn read_next(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, ChunkError> {
        if Column::read(&mut self.time, bits)?.is_none() {
            return Ok(None);
        }
        for number in [&mut self.count, &mut self.zero_count] {
            if number.read(bits)?.is_none() {
                return Ok(None);
            }
        }
        let Some(sum) = self.sum.read(bits)? else { return Ok(None) };
        let buckets = if is_stale(sum) { &mut [][..] } else { &mut self.buckets[..] };
        for bucket in buckets {
            if bucket.read(bits)?.is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    fn histogram(&self) -> Result<Histogram<N>, HistogramError> {
        if is_stale(self.sum.value) {
            return Ok(Histogram::stale());
        }
        let (positive, negative) = self.buckets.split_at(self.layout.buckets().0.min(self.buckets.len()));
        let side = |spans: &[Span], buckets: &[N::Column]| {
            Buckets::new(spans.to_vec(), N::counts(buckets.iter().map(Column::code))?)
        };
        Ok(Histogram {
            hint: ResetHint::Unknown,
            schema: self.layout.schema,
            zero_threshold: self.layout.zero_threshold,
            zero_count: N::decode(self.zero_count.code()),
            count: N::decode(self.count.code()),
            sum: self.sum.value,
            positive: side(&self.layout.positive, positive).map_err(|e| e.on("positive"))?,
            negative: side(&self.layout.negative, negative).map_err(|e| e.on("negative"))?,
            custom_bounds: std::sync::Arc::clone(&self.layout.custom_bounds),
        })
    }
}

/// The public writer and reader of one kind.
macro_rules! kind {
    ($counts:literal, $count:ty, $histogram:ty, $writer:ident, $reader:ident) => {
        #[doc = concat!("Builds a chunk of histograms counted in ", $counts, " that share their buckets and count on from one to the next.")]
        #[derive(Debug, Clone)]
        pub struct $writer(Writer<$count>);

        impl $writer {
            /// A chunk with its first histogram.
            pub fn new(time: Timestamp, histogram: &$histogram) -> Self {
                Self(Writer::new(time, histogram))
            }

            /// Adds a histogram, later than those before. False if it begins another chunk: it has other buckets, was
            /// reset, is of another type, or the chunk is full; the chunk is as before then.
            pub fn push(&mut self, time: Timestamp, histogram: &$histogram) -> bool {
                self.0.push(time, histogram)
            }

            /// How many histograms it has.
            pub fn samples(&self) -> usize {
                usize::from(self.0.samples)
            }

            /// How many bytes it takes so far.
            pub fn bytes(&self) -> usize {
                self.0.bits.len()
            }

            /// The chunk.
            pub fn finish(self) -> Vec<u8> {
                self.0.finish()
            }
        }

        #[doc = concat!("Reads a chunk of histograms counted in ", $counts, "; after an error it ends.")]
        #[derive(Debug, Clone)]
        pub struct $reader<'a>(Reader<'a, $count>);

        impl<'a> $reader<'a> {
            /// A reader at the first histogram.
            ///
            /// # Errors
            /// There is no header.
            pub fn new(bytes: &'a [u8]) -> Result<Self, ChunkError> {
                Reader::new(bytes).map(Self)
            }

            /// How many histograms the chunk says it has.
            pub fn samples(&self) -> usize {
                self.0.samples
            }
        }

        impl Iterator for $reader<'_> {
            type Item = Result<(Timestamp, $histogram), ChunkError>;

            fn next(&mut self) -> Option<Self::Item> {
                self.0.next()
            }
        }
    };
}

kind!("whole numbers", u64, IntHistogram, HistogramChunkWriter, HistogramChunkReader);
kind!("floats", f64, FloatHistogram, FloatHistogramChunkWriter, FloatHistogramChunkReader);

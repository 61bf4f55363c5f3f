//! The native histograms of a page: few series have any, so they live beside the floats, in chunks of their own.
//!
//! What arrives in order waits as encoded single histograms until there are enough for a chunk. Late ones stay as they came,
//! each with the number of late floats of its series that came before it: together they are one order of arrival.

use crate::chunk::{
    HistogramDecoder, HistogramEncoder, decode_one_histogram, decode_timestamps, encode_timestamps,
};
use crate::error::{Error, Result};
use crate::model::{AnyHistogram, FloatHistogram, TimeRange, Timestamp};
use hashbrown::HashMap;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Histograms of one series that wait to be sealed.
const OPEN_MAX: usize = 64;
/// They are sealed before they take more bytes than this.
const OPEN_BYTES_MAX: usize = 64 * 1024;
/// What an encoded histogram takes besides its bytes.
const ENTRY_BYTES: usize = 48;

/// An encoded histogram (see `chunk::one_histogram`).
pub(crate) type Encoded = Arc<[u8]>;

/// What a reader wants histograms as.
pub(crate) trait Form: Sized {
    fn decode_chunk(
        decoder: &mut HistogramDecoder,
        payload: &[u8],
        rows: usize,
        out: &mut Vec<Self>,
    ) -> Result<()>;

    fn from_any(histogram: AnyHistogram) -> Self;
}

impl Form for AnyHistogram {
    fn decode_chunk(
        decoder: &mut HistogramDecoder,
        payload: &[u8],
        rows: usize,
        out: &mut Vec<Self>,
    ) -> Result<()> {
        decoder.decode(payload, rows, out)
    }

    fn from_any(histogram: AnyHistogram) -> Self {
        histogram
    }
}

impl Form for FloatHistogram {
    fn decode_chunk(
        decoder: &mut HistogramDecoder,
        payload: &[u8],
        rows: usize,
        out: &mut Vec<Self>,
    ) -> Result<()> {
        decoder.decode_floats(payload, rows, out)
    }

    fn from_any(histogram: AnyHistogram) -> Self {
        match histogram {
            AnyHistogram::Int(h) => h.to_float(),
            AnyHistogram::Float(h) => h,
        }
    }
}

/// Histograms that were sealed together.
struct Chunk {
    first: Timestamp,
    last: Timestamp,
    rows: u32,
    times: Box<[u8]>,
    payload: Box<[u8]>,
}

impl Chunk {
    fn memory_bytes(&self) -> usize {
        size_of::<Self>() + ENTRY_BYTES + self.times.len() + self.payload.len()
    }
}

/// A histogram older than the newest sample of its series.
#[derive(Clone)]
struct Late {
    time: Timestamp,
    /// How many late floats of the series came before.
    floats_before: u32,
    bytes: Encoded,
}

/// The histograms of one series.
#[derive(Clone, Default)]
pub(crate) struct Column {
    sealed: Vec<Arc<Chunk>>,
    open: Vec<(Timestamp, Encoded)>,
    open_bytes: usize,
    late: Vec<Late>,
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Histograms {
    columns: HashMap<u16, Arc<Column>>,
    bytes: usize,
}

thread_local! {
    static ENCODER: RefCell<HistogramEncoder> = RefCell::new(HistogramEncoder::new());
    static DECODER: RefCell<HistogramDecoder> = RefCell::new(HistogramDecoder::new());
}

impl Histograms {
    /// Adds a histogram newer than all samples of its series.
    pub(crate) fn push(&mut self, slot: usize, time: Timestamp, bytes: Encoded) {
        let column = Arc::make_mut(self.columns.entry(slot as u16).or_default());
        self.bytes += bytes.len() + ENTRY_BYTES;
        column.open_bytes += bytes.len();
        column.open.push((time, bytes));
        if column.open.len() >= OPEN_MAX || column.open_bytes >= OPEN_BYTES_MAX {
            let open = column.open_bytes + column.open.len() * ENTRY_BYTES;
            let sealed = column.seal();
            if sealed > 0 {
                self.bytes = (self.bytes + sealed).saturating_sub(open);
            }
        }
    }

    /// Adds a histogram that is not newer, after `floats_before` late floats of the series.
    pub(crate) fn push_late(&mut self, slot: usize, time: Timestamp, floats_before: usize, bytes: Encoded) {
        let column = Arc::make_mut(self.columns.entry(slot as u16).or_default());
        self.bytes += bytes.len() + ENTRY_BYTES;
        column.late.push(Late { time, floats_before: floats_before as u32, bytes });
    }

    pub(crate) fn column(&self, slot: usize) -> Option<&Column> {
        self.columns.get(&(slot as u16)).map(Arc::as_ref)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes + self.columns.capacity() * (size_of::<Column>() + 32)
    }
}

impl Column {
    /// Whether there are histograms in `range`.
    pub(crate) fn has_samples(&self, range: TimeRange) -> bool {
        self.sealed.iter().any(|c| range.overlaps(&TimeRange::closed(c.first, c.last)))
            || self.open.iter().any(|s| range.contains(s.0))
            || self.late.iter().any(|s| range.contains(s.time))
    }

    /// Moves what is open into chunks, and answers how many bytes of memory these take.
    fn seal(&mut self) -> usize {
        let decoded: Option<Vec<AnyHistogram>> =
            self.open.iter().map(|(_, bytes)| decode_one_histogram(bytes)).collect();
        // They were checked when they came in. If it were not so, readers would say it.
        let Some(histograms) = decoded else { return 0 };
        let (mut rest, mut times) = (histograms.as_slice(), self.open.iter().map(|s| s.0));
        let mut taken = 0;
        let before = self.sealed.len();
        while !rest.is_empty() {
            let mut payload = Vec::new();
            let rows = ENCODER.with_borrow_mut(|encoder| encoder.encode(rest, &mut payload));
            let stamps: Vec<Timestamp> = times.by_ref().take(rows).collect();
            let (Some(first), Some(last)) = (stamps.first(), stamps.last()) else { break };
            let mut encoded = Vec::new();
            encode_timestamps(&stamps, &mut encoded);
            let chunk = Chunk {
                first: *first,
                last: *last,
                rows: rows as u32,
                times: encoded.into(),
                payload: payload.into(),
            };
            self.sealed.push(Arc::new(chunk));
            taken += rows;
            rest = histograms.get(taken..).unwrap_or_default();
        }
        self.open.clear();
        self.open_bytes = 0;
        self.sealed.iter().skip(before).map(|c| c.memory_bytes()).sum()
    }

    /// Appends what came in order and lies in `range`, in time order.
    ///
    /// # Errors
    /// What was sealed does not decode: a broken invariant.
    fn read_in_order<F: Form>(&self, range: TimeRange, out: &mut Vec<(Timestamp, F)>) -> Result<()> {
        let broken = || Error::internal("a sealed chunk of histograms of the head does not decode");
        let (mut times, mut histograms) = (Vec::new(), Vec::new());
        for chunk in &self.sealed {
            if !range.overlaps(&TimeRange::closed(chunk.first, chunk.last)) {
                continue;
            }
            let rows = chunk.rows as usize;
            decode_timestamps(&chunk.times, rows, &mut times).map_err(|_| broken())?;
            DECODER.with_borrow_mut(|decoder| {
                F::decode_chunk(decoder, &chunk.payload, rows, &mut histograms).map_err(|_| broken())
            })?;
            out.extend(times.drain(..).zip(histograms.drain(..)).filter(|s| range.contains(s.0)));
        }
        for (time, bytes) in self.open.iter().filter(|s| range.contains(s.0)) {
            out.push((*time, F::from_any(decode_one_histogram(bytes).ok_or_else(broken)?)));
        }
        Ok(())
    }

    /// The late histograms in `range` in order of arrival, each with the number of late floats that came before.
    fn late(&self, range: TimeRange) -> impl Iterator<Item = (Timestamp, usize, &Encoded)> {
        let inside = self.late.iter().filter(move |late| range.contains(late.time));
        inside.map(|late| (late.time, late.floats_before as usize, &late.bytes))
    }

    fn has_late(&self, range: TimeRange) -> bool {
        self.late(range).next().is_some()
    }
}

/// A late histogram in the form a reader wants.
///
/// # Errors
/// The bytes do not decode: a broken invariant.
fn decode_late<F: Form>(bytes: &Encoded) -> Result<F> {
    let decoded = decode_one_histogram(bytes).map(F::from_any);
    decoded.ok_or_else(|| Error::internal("a late histogram of the head does not decode"))
}

/// One sample of either kind.
enum Either<F> {
    Float(f64),
    Histogram(F),
}

/// Completes a read of a series with histograms: from `begin` on, `times` and `values` hold its floats that came in order;
/// `late` are its late floats in order of arrival. Of samples at one time, of either kind, the one that came last stays.
///
/// # Errors
/// A broken invariant.
pub(crate) fn merge_kinds<F: Form>(
    column: &Column,
    late: &[(Timestamp, f64)],
    range: TimeRange,
    begin: usize,
    (times, values): (&mut Vec<Timestamp>, &mut Vec<f64>),
    histograms: &mut Vec<(Timestamp, F)>,
) -> Result<()> {
    if !column.has_late(range) && !late.iter().any(|s| range.contains(s.0)) {
        return column.read_in_order(range, histograms);
    }
    let mut in_order = Vec::new();
    column.read_in_order(range, &mut in_order)?;
    let floats = times.split_off(begin).into_iter().zip(values.split_off(begin));
    let mut all: BTreeMap<Timestamp, Either<F>> = floats.map(|(t, v)| (t, Either::Float(v))).collect();
    all.extend(in_order.into_iter().map(|(t, h)| (t, Either::Histogram(h))));
    let mut late_floats = late.iter().enumerate().peekable();
    let mut add_floats = |all: &mut BTreeMap<Timestamp, Either<F>>, before: usize| {
        while let Some((_, (time, value))) = late_floats.next_if(|(index, _)| *index < before) {
            if range.contains(*time) {
                all.insert(*time, Either::Float(*value));
            }
        }
    };
    for (time, floats_before, bytes) in column.late(range) {
        add_floats(&mut all, floats_before);
        all.insert(time, Either::Histogram(decode_late(bytes)?));
    }
    add_floats(&mut all, usize::MAX);
    for (time, sample) in all {
        match sample {
            Either::Float(value) => {
                times.push(time);
                values.push(value);
            }
            Either::Histogram(histogram) => histograms.push((time, histogram)),
        }
    }
    Ok(())
}

//! Writes chunks of native histograms; `histogram.rs` has the format.

use super::SAMPLES_PER_CHUNK;
use super::histogram::{CELLS_MAX, CUSTOM, Column, FLOAT, KnownFrame, THRESHOLD};
use super::values::ValueEncoder;
use crate::codec::varint::{put_bytes, put_ivarint, put_uvarint};
use crate::model::{
    AnyHistogram, BUCKETS_MAX, BucketCount, Buckets, CUSTOM_SCHEMA, Histogram, ResetHint, Span,
};
use std::sync::Arc;

/// Writes chunks of histograms; keeps scratch memory between calls.
#[derive(Debug, Default)]
pub struct HistogramEncoder {
    values: ValueEncoder,
}

impl HistogramEncoder {
    /// An encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a chunk of as many of the first `samples` as can share one, and says how many these are: at least one, if
    /// there is any. The samples are in the form that [`AnyHistogram::accept`] gives; they come back in this form.
    pub fn encode(&mut self, samples: &[AnyHistogram], out: &mut Vec<u8>) -> usize {
        match samples.first() {
            None => 0,
            Some(AnyHistogram::Int(_)) => {
                let same = samples.iter().map_while(|s| match s {
                    AnyHistogram::Int(h) => Some(h),
                    AnyHistogram::Float(_) => None,
                });
                self.encode_kind(0, same, out)
            }
            Some(AnyHistogram::Float(_)) => {
                let same = samples.iter().map_while(|s| match s {
                    AnyHistogram::Float(h) => Some(h),
                    AnyHistogram::Int(_) => None,
                });
                self.encode_kind(FLOAT, same, out)
            }
        }
    }

    fn encode_kind<'a, N: Column + 'a>(
        &mut self,
        kind: u8,
        samples: impl Iterator<Item = &'a Histogram<N>>,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut chunk = Planned::default();
        for sample in samples.take(SAMPLES_PER_CHUNK) {
            if !chunk.takes(sample) {
                break;
            }
        }
        self.write(kind, &chunk, out);
        chunk.rows.len()
    }

    fn write<N: Column>(&mut self, kind: u8, chunk: &Planned<'_, N>, out: &mut Vec<u8>) {
        let frame = chunk.frame.copied_frame();
        let is_custom = frame.schema == CUSTOM_SCHEMA;
        let threshold = frame.zero_threshold.to_bits();
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.push(kind | flag(is_custom, CUSTOM) | flag(!is_custom && threshold != 0, THRESHOLD));
        let mut payload = Vec::new();
        if is_custom {
            put_uvarint(out, frame.custom_bounds.len() as u64);
            self.values.encode_verified(&frame.custom_bounds, &mut payload);
            put_payload(out, &mut payload);
        } else {
            put_ivarint(out, i64::from(frame.schema));
            if threshold != 0 {
                out.extend_from_slice(&threshold.to_le_bytes());
            }
        }
        put_spans(out, chunk.positive.spans());
        if !is_custom {
            put_spans(out, chunk.negative.spans());
        }
        put_hints(out, chunk.rows.iter().map(|h| h.hint));
        self.write_column(chunk, |h| h.count, &mut payload, out);
        let sums: Vec<f64> = chunk.rows.iter().map(|h| h.sum).collect();
        self.values.encode_verified(&sums, &mut payload);
        put_payload(out, &mut payload);
        if !is_custom {
            self.write_column(chunk, |h| h.zero_count, &mut payload, out);
        }
        self.write_side(chunk, &chunk.positive, |h| &h.positive, out);
        self.write_side(chunk, &chunk.negative, |h| &h.negative, out);
    }

    fn write_column<N: Column>(
        &mut self,
        chunk: &Planned<'_, N>,
        value: impl Fn(&Histogram<N>) -> N,
        payload: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) {
        let mut last = chunk.rows.iter().find(|h| !h.is_stale()).map_or(N::default(), |h| value(h));
        let column = chunk.rows.iter().map(|h| {
            // The row of a staleness marker costs least if it repeats what was before.
            if !h.is_stale() {
                last = value(h);
            }
            last
        });
        N::write(&column.collect::<Vec<N>>(), &mut self.values, payload);
        put_payload(out, payload);
    }

    fn write_side<'a, N: Column>(
        &mut self,
        chunk: &Planned<'a, N>,
        layout: &Buckets<()>,
        side: impl Fn(&'a Histogram<N>) -> &'a Buckets<N>,
        out: &mut Vec<u8>,
    ) {
        // All columns are filled in one pass over each sample's sparse buckets.
        let rows = chunk.rows.len();
        let mut columns = vec![N::default(); layout.len().saturating_mul(rows)];
        for (row, histogram) in chunk.rows.iter().enumerate() {
            let mut buckets = side(histogram).iter().peekable();
            for (index, (position, ())) in layout.iter().enumerate() {
                let before =
                    if row > 0 && histogram.is_stale() { columns.get(index * rows + row - 1) } else { None };
                let count = match buckets.next_if(|b| b.0 == position) {
                    Some((_, count)) => count,
                    None => before.copied().unwrap_or_default(),
                };
                if let Some(cell) = columns.get_mut(index * rows + row) {
                    *cell = count;
                }
            }
        }
        let mut payload = Vec::new();
        for column in columns.chunks_exact(rows.max(1)) {
            N::write(column, &mut self.values, &mut payload);
            put_payload(out, &mut payload);
        }
    }
}

/// Samples that share a chunk, and the buckets that any of them has.
struct Planned<'a, N> {
    rows: Vec<&'a Histogram<N>>,
    frame: Frame,
    positive: Buckets<()>,
    negative: Buckets<()>,
}

impl<N> Default for Planned<'_, N> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            frame: Frame::Any,
            positive: Buckets::default(),
            negative: Buckets::default(),
        }
    }
}

/// What the samples planned so far have in common.
#[derive(Debug, Clone)]
enum Frame {
    /// Only staleness markers so far.
    Any,
    Known(KnownFrame),
}

impl Frame {
    fn copied_frame(&self) -> KnownFrame {
        match self {
            Self::Any => KnownFrame::default(),
            Self::Known(frame) => frame.clone(),
        }
    }
}

impl<'a, N: Column> Planned<'a, N> {
    /// Takes one sample more, if the chunk's layout can be widened to hold it.
    fn takes(&mut self, sample: &'a Histogram<N>) -> bool {
        if !sample.is_stale() {
            let fits = match &self.frame {
                Frame::Any => true,
                Frame::Known(frame) => {
                    let bits = |bounds: &[f64]| bounds.iter().map(|b| b.to_bits()).collect::<Vec<_>>();
                    frame.schema == sample.schema
                        && frame.zero_threshold.to_bits() == sample.zero_threshold.to_bits()
                        && (Arc::ptr_eq(&frame.custom_bounds, &sample.custom_bounds)
                            || bits(&frame.custom_bounds) == bits(&sample.custom_bounds))
                }
            };
            let positive = widened(&self.positive, &sample.positive);
            let negative = widened(&self.negative, &sample.negative);
            let (new_positive, new_negative) =
                (positive.as_ref().unwrap_or(&self.positive), negative.as_ref().unwrap_or(&self.negative));
            let cells = (new_positive.len() + new_negative.len()).saturating_mul(self.rows.len() + 1);
            let has_room = cells <= CELLS_MAX && new_positive.len().max(new_negative.len()) <= BUCKETS_MAX;
            // A sample alone always has room.
            if !self.rows.is_empty() && (!fits || !has_room) {
                return false;
            }
            self.frame = Frame::Known(KnownFrame {
                schema: sample.schema,
                zero_threshold: sample.zero_threshold,
                custom_bounds: Arc::clone(&sample.custom_bounds),
            });
            self.positive = positive.unwrap_or_else(|| std::mem::take(&mut self.positive));
            self.negative = negative.unwrap_or_else(|| std::mem::take(&mut self.negative));
        }
        self.rows.push(sample);
        true
    }
}

/// The layout with the buckets of one more sample, if it lacks any.
fn widened<N: BucketCount>(layout: &Buckets<()>, buckets: &Buckets<N>) -> Option<Buckets<()>> {
    if layout.spans() == buckets.spans() {
        return None;
    }
    let mut known = layout.iter().map(|b| b.0);
    let has_all = buckets.iter().all(|(position, _)| known.any(|k| k == position));
    (!has_all).then(|| layout.merge(buckets, |_, _| ()))
}

fn put_payload(out: &mut Vec<u8>, payload: &mut Vec<u8>) {
    put_bytes(out, payload);
    payload.clear();
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_uvarint(out, spans.len() as u64);
    for span in spans {
        put_ivarint(out, i64::from(span.offset));
        put_uvarint(out, u64::from(span.length));
    }
}

fn put_hints(out: &mut Vec<u8>, hints: impl Iterator<Item = ResetHint>) {
    let mut runs: Vec<(ResetHint, u64)> = Vec::new();
    for hint in hints {
        match runs.last_mut() {
            Some((last, length)) if *last == hint => *length += 1,
            _ => runs.push((hint, 1)),
        }
    }
    put_uvarint(out, runs.len() as u64);
    runs.iter().for_each(|(hint, length)| put_uvarint(out, length << 2 | u64::from(hint.number())));
}

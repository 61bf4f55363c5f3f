//! Reads chunks of native histograms; `histogram.rs` has the format.

use super::histogram::{CELLS_MAX, CUSTOM, Column, FLOAT, HistogramTotals, KnownFrame, Scratch, THRESHOLD};
use crate::codec::varint::Cursor;
use crate::error::{Error, Result};
use crate::model::{
    AnyHistogram, BUCKETS_MAX, Buckets, CUSTOM_SCHEMA, EXPONENTIAL_SCHEMAS, FloatHistogram, Histogram,
    IntHistogram, ResetHint, Span, is_stale, stale_nan,
};
use std::sync::Arc;

/// Reads chunks of histograms; keeps scratch memory between calls.
#[derive(Debug, Default)]
pub struct HistogramDecoder {
    scratch: Scratch,
}

impl HistogramDecoder {
    /// A decoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the `rows` histograms of `payload`, which holds nothing else, to `out`, as they were sent.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] if the bytes are not a chunk of so many histograms; `out` is then as before.
    pub fn decode(&mut self, payload: &[u8], rows: usize, out: &mut Vec<AnyHistogram>) -> Result<()> {
        let histograms = match payload.first() {
            Some(flags) if flags & FLOAT == 0 => {
                let ints: Option<Vec<IntHistogram>> = self.read(payload, rows);
                ints.map(|h| h.into_iter().map(AnyHistogram::Int).collect::<Vec<_>>())
            }
            _ => self.read(payload, rows).map(|h| h.into_iter().map(AnyHistogram::Float).collect()),
        };
        out.append(&mut histograms.ok_or_else(|| corrupt(payload, rows))?);
        Ok(())
    }

    /// As [`HistogramDecoder::decode`], with floats for counts.
    ///
    /// # Errors
    /// As [`HistogramDecoder::decode`].
    pub fn decode_floats(
        &mut self,
        payload: &[u8],
        rows: usize,
        out: &mut Vec<FloatHistogram>,
    ) -> Result<()> {
        let histograms = match payload.first() {
            Some(flags) if flags & FLOAT == 0 => {
                let ints: Option<Vec<IntHistogram>> = self.read(payload, rows);
                ints.map(|h| h.iter().map(IntHistogram::to_float).collect::<Vec<_>>())
            }
            _ => self.read(payload, rows),
        };
        out.append(&mut histograms.ok_or_else(|| corrupt(payload, rows))?);
        Ok(())
    }

    /// Appends count and sum of the `rows` histograms of `payload` to `out`; buckets are not looked at.
    ///
    /// # Errors
    /// As [`HistogramDecoder::decode`].
    pub fn decode_totals(
        &mut self,
        payload: &[u8],
        rows: usize,
        out: &mut Vec<HistogramTotals>,
    ) -> Result<()> {
        let totals = self.read_totals(payload, rows);
        out.append(&mut totals.ok_or_else(|| corrupt(payload, rows))?);
        Ok(())
    }

    fn read_totals(&mut self, payload: &[u8], rows: usize) -> Option<Vec<HistogramTotals>> {
        let mut reader = Cursor::new(payload);
        let header = self.read_header(&mut reader, rows)?;
        let counts: Vec<f64> = if header.flags & FLOAT == 0 {
            self.read_column::<u64>(&mut reader, rows)?.into_iter().map(|c| c as f64).collect()
        } else {
            self.read_column(&mut reader, rows)?
        };
        let sums: Vec<f64> = self.read_column(&mut reader, rows)?;
        let totals = header.hints.iter().zip(counts.iter().zip(&sums)).map(|(hint, (count, sum))| {
            HistogramTotals { hint: *hint, count: if is_stale(*sum) { 0.0 } else { *count }, sum: *sum }
        });
        Some(totals.collect())
    }

    fn read<N: Column>(&mut self, payload: &[u8], rows: usize) -> Option<Vec<Histogram<N>>> {
        let mut reader = Cursor::new(payload);
        let header = self.read_header(&mut reader, rows)?;
        let is_custom = header.flags & CUSTOM != 0;
        let counts: Vec<N> = self.read_column(&mut reader, rows)?;
        let sums: Vec<f64> = self.read_column(&mut reader, rows)?;
        let zero_counts: Vec<N> =
            if is_custom { vec![N::default(); rows] } else { self.read_column(&mut reader, rows)? };
        let mut sides = Vec::with_capacity(2);
        for layout in [&header.positive, &header.negative] {
            let mut buckets: Vec<Vec<N>> = (0..rows).map(|_| Vec::with_capacity(layout.len())).collect();
            for _ in 0..layout.len() {
                let column: Vec<N> = self.read_column(&mut reader, rows)?;
                buckets.iter_mut().zip(column).for_each(|(row, count)| row.push(count));
            }
            sides.push(buckets.into_iter());
        }
        if !reader.is_empty() {
            return None;
        }
        let (mut negatives, mut positives) = (sides.pop()?, sides.pop()?);
        let totals = counts.into_iter().zip(sums).zip(zero_counts).zip(&header.hints);
        totals
            .map(|(((count, sum), zero_count), hint)| {
                let (positive, negative) = (positives.next()?, negatives.next()?);
                if is_stale(sum) {
                    return Some(Histogram { hint: *hint, sum: stale_nan(), ..Histogram::default() });
                }
                let mut histogram = Histogram {
                    hint: *hint,
                    schema: header.frame.schema,
                    zero_threshold: header.frame.zero_threshold,
                    zero_count,
                    count,
                    sum,
                    positive: Buckets::new(header.positive.spans().to_vec(), positive).ok()?,
                    negative: Buckets::new(header.negative.spans().to_vec(), negative).ok()?,
                    custom_bounds: Arc::clone(&header.frame.custom_bounds),
                };
                histogram.compact();
                Some(histogram)
            })
            .collect()
    }

    fn read_header(&mut self, reader: &mut Cursor<'_>, rows: usize) -> Option<Header> {
        let flags = reader.u8()?;
        if rows == 0 || rows > CELLS_MAX || flags & !(FLOAT | CUSTOM | THRESHOLD) != 0 {
            return None;
        }
        let is_custom = flags & CUSTOM != 0;
        let mut frame = KnownFrame { schema: CUSTOM_SCHEMA, ..KnownFrame::default() };
        if is_custom {
            let count = usize::try_from(reader.uvarint()?).ok().filter(|c| *c <= BUCKETS_MAX)?;
            let mut bounds = Vec::new();
            self.scratch.decoder.decode_into(reader.prefixed()?, count, &mut bounds).ok()?;
            frame.custom_bounds = bounds.into();
        } else {
            frame.schema =
                i32::try_from(reader.ivarint()?).ok().filter(|s| EXPONENTIAL_SCHEMAS.contains(s))?;
            if flags & THRESHOLD != 0 {
                frame.zero_threshold = f64::from_bits(reader.u64()?);
            }
        }
        let positive = read_layout(reader)?;
        let negative = if is_custom { Buckets::default() } else { read_layout(reader)? };
        let mut positions = positive.iter().map(|b| usize::try_from(b.0));
        if is_custom && positions.any(|p| p.is_ok_and(|p| p > frame.custom_bounds.len()) || p.is_err()) {
            return None;
        }
        // A column has at least its length, so the bytes bound how much memory they ask for.
        let columns = positive.len() + negative.len();
        if columns > reader.remaining() || columns.checked_mul(rows).is_none_or(|cells| cells > CELLS_MAX) {
            return None;
        }
        Some(Header { flags, frame, positive, negative, hints: read_hints(reader, rows)? })
    }

    fn read_column<N: Column>(&mut self, reader: &mut Cursor<'_>, rows: usize) -> Option<Vec<N>> {
        let mut column = Vec::new();
        N::read(reader.prefixed()?, rows, &mut self.scratch, &mut column)?;
        Some(column)
    }
}

struct Header {
    flags: u8,
    frame: KnownFrame,
    positive: Buckets<()>,
    negative: Buckets<()>,
    hints: Vec<ResetHint>,
}

fn read_layout(reader: &mut Cursor<'_>) -> Option<Buckets<()>> {
    let count = usize::try_from(reader.uvarint()?).ok().filter(|c| *c <= reader.remaining())?;
    let mut spans = Vec::with_capacity(count.min(BUCKETS_MAX));
    let mut buckets = 0_usize;
    for _ in 0..count {
        let offset = i32::try_from(reader.ivarint()?).ok()?;
        let length = u32::try_from(reader.uvarint()?).ok()?;
        buckets = buckets.checked_add(length as usize).filter(|b| *b <= BUCKETS_MAX)?;
        spans.push(Span { offset, length });
    }
    Buckets::new(spans, vec![(); buckets]).ok()
}

fn read_hints(reader: &mut Cursor<'_>, rows: usize) -> Option<Vec<ResetHint>> {
    let mut hints = Vec::with_capacity(rows);
    for _ in 0..reader.uvarint()? {
        let run = reader.uvarint()?;
        let length = usize::try_from(run >> 2).ok().filter(|l| *l > 0 && *l <= rows - hints.len())?;
        hints.resize(hints.len() + length, ResetHint::from_number(run & 3));
    }
    (hints.len() == rows).then_some(hints)
}

fn corrupt(payload: &[u8], rows: usize) -> Error {
    Error::corrupt(format!("{} bytes are not a chunk of {rows} histograms", payload.len()))
}

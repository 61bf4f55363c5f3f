//! What all histograms of a chunk share, and its flags.
//!
//! ```text
//! count u16 | flags u8 (the two highest bits: 10 reset, 01 not reset, 11 gauge, 00 unknown) | layout | samples …
//!
//! layout   zero threshold | schema varbit | positive spans | negative spans | bounds, if the schema is -53
//! zero threshold   0 for 0; e + 243 for 2^(e-1), e in -242..=11; else 255 and 64 bits
//! spans    number varbit | for each: length unsigned varbit, offset varbit
//! bounds   number varbit | for each: 1000 × bound + 1 as varbit if that is whole and small, else a bit 0 and 64 bits
//! ```

use super::ChunkError;
use super::bits::{BitReader, BitWriter};
use crate::model::{BUCKETS_MAX, BucketCount, CUSTOM_SCHEMA, Histogram, ResetHint, Span};
use std::sync::Arc;

/// Added to the exponent of a power of two.
const THRESHOLD_BIAS: i32 = 243;
/// Stands for a threshold that is no such power.
const THRESHOLD_OTHER: u64 = 255;
/// The largest bound, in thousandths, that is written as a varbit.
const BOUND_THOUSANDTHS_MAX: f64 = 33_554_430.0;

/// What all histograms of a chunk share.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Layout {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) positive: Vec<Span>,
    pub(super) negative: Vec<Span>,
    pub(super) custom_bounds: Arc<[f64]>,
}

impl Layout {
    pub(super) fn of<N: BucketCount>(histogram: &Histogram<N>, is_stale: bool) -> Self {
        if is_stale {
            // A staleness marker has no buckets.
            return Self {
                schema: 0,
                zero_threshold: 0.0,
                positive: Vec::new(),
                negative: Vec::new(),
                custom_bounds: Arc::new([]),
            };
        }
        Self {
            schema: histogram.schema,
            zero_threshold: histogram.zero_threshold,
            positive: histogram.positive.spans().to_vec(),
            negative: histogram.negative.spans().to_vec(),
            custom_bounds: Arc::clone(&histogram.custom_bounds),
        }
    }

    /// How many buckets each histogram has above and below zero.
    pub(super) fn buckets(&self) -> (usize, usize) {
        let count = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum();
        (count(&self.positive), count(&self.negative))
    }

    pub(super) fn write(&self, out: &mut BitWriter) {
        write_threshold(out, self.zero_threshold);
        out.write_varbit(i64::from(self.schema));
        for spans in [&self.positive, &self.negative] {
            out.write_varbit_unsigned(spans.len() as u64);
            for span in spans {
                out.write_varbit_unsigned(u64::from(span.length));
                out.write_varbit(i64::from(span.offset));
            }
        }
        if self.schema == CUSTOM_SCHEMA {
            out.write_varbit_unsigned(self.custom_bounds.len() as u64);
            self.custom_bounds.iter().for_each(|bound| write_bound(out, *bound));
        }
    }

    /// Reads a layout; `Ok(None)` behind the end.
    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<Option<Self>, ChunkError> {
        let Some(zero_threshold) = read_threshold(bits) else { return Ok(None) };
        let Some(schema) = bits.varbit() else { return Ok(None) };
        let Some(positive) = read_spans(bits)? else { return Ok(None) };
        let Some(negative) = read_spans(bits)? else { return Ok(None) };
        let mut custom_bounds = Vec::new();
        if schema == i64::from(CUSTOM_SCHEMA) {
            let Some(count) = bits.varbit_unsigned() else { return Ok(None) };
            let count = listed("bounds", count, bits)?;
            custom_bounds.reserve(count);
            for _ in 0..count {
                let Some(bound) = read_bound(bits) else { return Ok(None) };
                custom_bounds.push(bound);
            }
        }
        let schema = i32::try_from(schema).unwrap_or(i32::MIN);
        Ok(Some(Self { schema, zero_threshold, positive, negative, custom_bounds: custom_bounds.into() }))
    }
}

/// A number of things of which each takes at least one bit.
fn listed(what: &'static str, met: u64, bits: &BitReader<'_>) -> Result<usize, ChunkError> {
    match usize::try_from(met) {
        Ok(count) if count <= BUCKETS_MAX && count <= bits.left() => Ok(count),
        _ => Err(ChunkError::Layout { what, met }),
    }
}

fn read_spans(bits: &mut BitReader<'_>) -> Result<Option<Vec<Span>>, ChunkError> {
    let Some(count) = bits.varbit_unsigned() else { return Ok(None) };
    let count = listed("spans", count, bits)?;
    let (mut spans, mut buckets) = (Vec::with_capacity(count), 0_u64);
    for _ in 0..count {
        let (Some(length), Some(offset)) = (bits.varbit_unsigned(), bits.varbit()) else { return Ok(None) };
        buckets = buckets.saturating_add(length);
        listed("buckets", buckets, bits)?;
        let offset = i32::try_from(offset).unwrap_or(i32::MIN);
        spans.push(Span { offset, length: length as u32 });
    }
    Ok(Some(spans))
}

/// The exponent `e` of a threshold `2^(e-1)`, if it is such a power and common enough.
fn power_of_two(threshold: f64) -> Option<i32> {
    let bits = threshold.to_bits();
    let is_power = bits << 12 == 0 && threshold > 0.0;
    let exponent = (bits >> 52) as i32 - 1022;
    (is_power && (-242..=11).contains(&exponent)).then_some(exponent)
}

fn write_threshold(out: &mut BitWriter, threshold: f64) {
    if threshold == 0.0 {
        return out.write(0, 8);
    }
    match power_of_two(threshold) {
        Some(exponent) => out.write((exponent + THRESHOLD_BIAS) as u64, 8),
        None => {
            out.write(THRESHOLD_OTHER, 8);
            out.write(threshold.to_bits(), 64);
        }
    }
}

fn read_threshold(bits: &mut BitReader<'_>) -> Option<f64> {
    Some(match bits.read(8)? {
        0 => 0.0,
        THRESHOLD_OTHER => f64::from_bits(bits.read(64)?),
        byte => f64::from_bits((byte + 1022 - THRESHOLD_BIAS as u64) << 52),
    })
}

fn write_bound(out: &mut BitWriter, bound: f64) {
    let thousandths = bound * 1000.0;
    let rounded = thousandths.round();
    let is_short = (0.0..=BOUND_THOUSANDTHS_MAX).contains(&thousandths)
        && (rounded / 1000.0).to_bits() == bound.to_bits();
    if is_short {
        out.write_varbit_unsigned(rounded as u64 + 1);
    } else {
        out.write(0, 1);
        out.write(bound.to_bits(), 64);
    }
}

fn read_bound(bits: &mut BitReader<'_>) -> Option<f64> {
    Some(match bits.varbit_unsigned()? {
        0 => f64::from_bits(bits.read(64)?),
        thousandths => (thousandths - 1) as f64 / 1000.0,
    })
}

/// The flags of a chunk whose first histogram has this hint.
pub(super) fn flags(hint: ResetHint) -> u8 {
    match hint {
        ResetHint::Unknown => 0,
        ResetHint::NotReset => 0b0100_0000,
        ResetHint::Reset => 0b1000_0000,
        ResetHint::Gauge => 0b1100_0000,
    }
}

/// The hint of the first histogram of a chunk with these flags.
pub(super) fn hint_of(flags: u8) -> ResetHint {
    match flags >> 6 {
        0b01 => ResetHint::NotReset,
        0b10 => ResetHint::Reset,
        0b11 => ResetHint::Gauge,
        _ => ResetHint::Unknown,
    }
}

/// The hint of the histograms that follow: a chunk holds no reset.
pub(super) fn hint_after(first: ResetHint) -> ResetHint {
    if first == ResetHint::Gauge { ResetHint::Gauge } else { ResetHint::NotReset }
}

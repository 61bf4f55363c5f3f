//! Columns of integers: a common divisor, the best of three predictors, and the residuals under the entropy coder.
//!
//! Everything is arithmetic modulo 2^64, so every column comes back, whatever its extremes.

use super::huffman::{self, class};
use crate::codec::varint::{Cursor, put_ivarint, put_uvarint, zigzag};

/// Bits 3 and 4: which predictor.
const PREDICTOR_SHIFT: u8 = 3;
const HAS_DIVISOR: u8 = 1 << 5;
const HAS_CENTER: u8 = 1 << 6;
/// The bits of a chunk's first byte that belong to this file.
pub(super) const FLAGS_MASK: u8 = 0b1111_1000;

/// What a sample is predicted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Predictor {
    /// The center of the column.
    Center,
    /// The sample before, plus the center of the deltas.
    Delta,
    /// The sample before, plus the delta before.
    DeltaOfDelta,
}

impl Predictor {
    fn from_flags(flags: u8) -> Option<Self> {
        match flags >> PREDICTOR_SHIFT & 3 {
            0 => Some(Self::Center),
            1 => Some(Self::Delta),
            2 => Some(Self::DeltaOfDelta),
            _ => None,
        }
    }

    fn flags(self) -> u8 {
        let number = match self {
            Self::Center => 0,
            Self::Delta => 1,
            Self::DeltaOfDelta => 2,
        };
        number << PREDICTOR_SHIFT
    }

    /// How many samples at the beginning have no residual.
    fn lead(self) -> usize {
        match self {
            Self::Center => 0,
            Self::Delta => 1,
            Self::DeltaOfDelta => 2,
        }
    }
}

/// A predicted column, not yet written.
#[derive(Debug)]
pub(super) struct Plan {
    predictor: Predictor,
    first: i64,
    divisor: u64,
    center: i64,
    first_delta: i64,
    residuals: Vec<u64>,
    /// Estimated size in bits.
    pub(super) bits: f64,
}

/// Chooses divisor and predictor for `column`, which is not empty.
pub(super) fn plan(column: &[i64]) -> Plan {
    let first = column.first().copied().unwrap_or(0);
    let divisor = common_divisor(column);
    let divide = |difference: i64| if divisor == 1 { difference } else { difference / divisor as i64 };
    let mut deltas: Vec<i64> = column.windows(2).map(|w| divide(w[1].wrapping_sub(w[0]))).collect();
    let around = |numbers: &[i64], center: i64| -> Vec<u64> {
        numbers.iter().map(|n| zigzag(n.wrapping_sub(center))).collect()
    };
    let base = |predictor, center, first_delta, residuals: Vec<u64>| {
        let bits = estimate(&residuals) + varint_bits(center) + varint_bits(first_delta);
        Plan { predictor, first, divisor, center, first_delta, residuals, bits }
    };
    let mut best = base(Predictor::Delta, 0, 0, around(&deltas, 0));
    let mut offer = |plan: Plan| {
        if plan.bits < best.bits {
            best = plan;
        }
    };
    if column.len() > 3 {
        let first_delta = deltas.first().copied().unwrap_or(0);
        let residuals = deltas.windows(2).map(|w| zigzag(w[1].wrapping_sub(w[0]))).collect();
        offer(base(Predictor::DeltaOfDelta, 0, first_delta, residuals));
    }
    let offsets: Vec<i64> = column.iter().map(|c| divide(c.wrapping_sub(first))).collect();
    let center = median(&mut offsets.clone());
    offer(base(Predictor::Center, center, 0, around(&offsets, center)));
    if column.len() > 3 {
        let unsorted = deltas.clone();
        let center = median(&mut deltas);
        if center != 0 {
            offer(base(Predictor::Delta, center, 0, around(&unsorted, center)));
        }
    }
    best
}

impl Plan {
    /// The bits this column adds to the first byte of its chunk.
    pub(super) fn flags(&self) -> u8 {
        self.predictor.flags()
            | if self.divisor == 1 { 0 } else { HAS_DIVISOR }
            | if self.center == 0 { 0 } else { HAS_CENTER }
    }

    /// Appends the column.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        put_ivarint(out, self.first);
        if self.divisor != 1 {
            put_uvarint(out, self.divisor);
        }
        if self.center != 0 {
            put_ivarint(out, self.center);
        }
        if self.predictor == Predictor::DeltaOfDelta {
            put_ivarint(out, self.first_delta);
        }
        huffman::write(&self.residuals, out);
    }

    /// The symbols of the residuals, for training.
    #[cfg(test)]
    pub(super) fn counts(&self) -> huffman::Counts {
        huffman::count(&self.residuals)
    }
}

/// Reads a column of `count` integers into `column` (replacing it) from bytes that hold nothing else. `padded` is scratch.
/// `None` if the bytes are not such a column.
pub(super) fn read(
    flags: u8,
    reader: &mut Cursor<'_>,
    count: usize,
    padded: &mut Vec<u8>,
    column: &mut Vec<i64>,
) -> Option<()> {
    let mut residuals = std::mem::take(column);
    let read = extend(flags, reader, count, (padded, &mut residuals), column, |integer| integer);
    if read.is_none() {
        column.clear();
    }
    read
}

/// As [`read`], but appends what `of` makes of each integer to `out`. Both of `scratch` are scratch.
#[inline]
pub(super) fn extend<T>(
    flags: u8,
    reader: &mut Cursor<'_>,
    count: usize,
    (padded, residuals): (&mut Vec<u8>, &mut Vec<i64>),
    out: &mut Vec<T>,
    of: impl Fn(i64) -> T,
) -> Option<()> {
    let predictor = Predictor::from_flags(flags)?;
    if flags & 0x80 != 0 {
        return None;
    }
    let first = reader.ivarint()?;
    let divisor = if flags & HAS_DIVISOR == 0 { 1 } else { reader.uvarint()? as i64 };
    let center = if flags & HAS_CENTER == 0 { 0 } else { reader.ivarint()? };
    let first_delta = if predictor == Predictor::DeltaOfDelta { reader.ivarint()? } else { 0 };
    residuals.resize(count.checked_sub(predictor.lead())?, 0);
    huffman::read(reader.rest(), padded, residuals)?;
    let rest = residuals.iter();
    match predictor {
        Predictor::Center => {
            let base = center.wrapping_mul(divisor).wrapping_add(first);
            out.extend(rest.map(|c| of(c.wrapping_mul(divisor).wrapping_add(base))));
        }
        Predictor::Delta => {
            let mut last = first;
            out.push(of(first));
            if divisor == 1 && center == 0 {
                out.extend(rest.map(|c| {
                    last = last.wrapping_add(*c);
                    of(last)
                }));
            } else {
                out.extend(rest.map(|c| {
                    last = last.wrapping_add(c.wrapping_add(center).wrapping_mul(divisor));
                    of(last)
                }));
            }
        }
        Predictor::DeltaOfDelta => {
            let mut delta = first_delta;
            let mut last = first.wrapping_add(delta.wrapping_mul(divisor));
            out.push(of(first));
            out.push(of(last));
            out.extend(rest.map(|c| {
                delta = delta.wrapping_add(*c);
                last = last.wrapping_add(delta.wrapping_mul(divisor));
                of(last)
            }));
        }
    }
    Some(())
}

/// What divides all differences; 1 if the column spans more than half of the number range, where differences wrap.
fn common_divisor(column: &[i64]) -> u64 {
    let (Some(min), Some(max)) = (column.iter().min(), column.iter().max()) else { return 1 };
    if i128::from(*max) - i128::from(*min) > i128::from(i64::MAX / 2) {
        return 1;
    }
    let mut divisor = 0;
    for pair in column.windows(2) {
        divisor = greatest_common_divisor(pair[1].abs_diff(pair[0]), divisor);
        if divisor == 1 {
            break;
        }
    }
    divisor.max(1)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn median(numbers: &mut [i64]) -> i64 {
    let middle = numbers.len() / 2;
    if numbers.is_empty() { 0 } else { *numbers.select_nth_unstable(middle).1 }
}

fn varint_bits(value: i64) -> f64 {
    if value == 0 { 0.0 } else { class(zigzag(value)).div_ceil(7) as f64 * 8.0 }
}

/// The size in bits that an ideal coder of classes would reach.
fn estimate(residuals: &[u64]) -> f64 {
    let mut counts = [0_u32; 65];
    for residual in residuals {
        counts[class(*residual)] += 1;
    }
    let total = residuals.len() as f64;
    let mut bits = 0.0;
    for (class, count) in counts.iter().enumerate().filter(|c| *c.1 > 0) {
        let count = f64::from(*count);
        bits += count * (class.saturating_sub(1) as f64 - (count / total).log2());
    }
    bits
}

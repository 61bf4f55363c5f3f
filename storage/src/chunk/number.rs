//! Number models: floats as integers, exactly.
//!
//! *Decimal*: `v == i / 10^e` bit for bit. IEEE division rounds correctly, so every `|i| < 2^53` with `e <= 22` that
//! passes the test once passes it always. *Float order*: the monotone map of the bits to `i64`. *Decimal + ulp*: `i / 10^e`
//! is close, and the distance in float order is a second column; what accumulators of decimal fractions look like.

use crate::model::STALE_NAN_BITS;

/// Powers of ten that are exact floats.
pub(super) const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];
/// The largest exponent tried.
const EXPONENT_MAX: usize = 17;
/// Integers below are exact floats.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Exponents tried for decimal + ulp.
const ULP_EXPONENTS: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 8, 9];
/// How many samples decide the exponent of decimal + ulp.
const ULP_PROBE: usize = 96;
/// Bits that have a short name in the list of exceptions.
pub(super) const NAMED_BITS: [u64; 6] = [
    STALE_NAN_BITS,
    0x7ff8_0000_0000_0001,
    0x7ff8_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x8000_0000_0000_0000,
];

/// Samples the model cannot express: `length` times `bits` from sample `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExceptionRun {
    pub(super) start: usize,
    pub(super) length: usize,
    pub(super) bits: u64,
}

/// A column of integers that stands for floats, and the samples it does not stand for.
#[derive(Debug, Default)]
pub(super) struct Modelled {
    pub(super) integers: Vec<i64>,
    pub(super) exceptions: Vec<ExceptionRun>,
}

impl Modelled {
    /// Maps each value by `integer`; where it has none, the column repeats its last integer and the bits are kept apart.
    fn new(values: &[f64], mut integer: impl FnMut(f64) -> Option<i64>) -> Self {
        let mut out = Self { integers: Vec::with_capacity(values.len()), exceptions: Vec::new() };
        let mut last = None;
        for (at, value) in values.iter().enumerate() {
            if let Some(i) = integer(*value) {
                if last.is_none() {
                    out.integers.fill(i);
                }
                last = Some(i);
            } else {
                out.except(at, value.to_bits());
            }
            out.integers.push(last.unwrap_or(0));
        }
        out
    }

    fn except(&mut self, at: usize, bits: u64) {
        match self.exceptions.last_mut() {
            Some(run) if run.bits == bits && run.start + run.length == at => run.length += 1,
            _ => self.exceptions.push(ExceptionRun { start: at, length: 1, bits }),
        }
    }
}

/// The place of a float among all floats.
#[inline]
pub(super) fn to_order(bits: u64) -> i64 {
    let signed = bits as i64;
    signed ^ (((signed >> 63) as u64) >> 1) as i64
}

/// The reverse of [`to_order`].
#[inline]
pub(super) fn from_order(order: i64) -> u64 {
    (order ^ (((order >> 63) as u64) >> 1) as i64) as u64
}

/// The integer `i` with `i / 10^exponent == value`, bit for bit.
#[inline]
pub(super) fn exact_integer(value: f64, exponent: usize) -> Option<i64> {
    let power = POWERS[exponent];
    let scaled = value * power;
    let is_small = scaled.abs() < EXACT;
    let integer = if exponent == 0 { scaled as i64 } else { (scaled + 0.5_f64.copysign(scaled)) as i64 };
    (is_small && (integer as f64 / power).to_bits() == value.to_bits()).then_some(integer)
}

/// The smallest exponent under which `value` is exact.
pub(super) fn smallest_exponent(value: f64) -> Option<usize> {
    (0..=EXPONENT_MAX).find(|e| exact_integer(value, *e).is_some())
}

/// The decimal model and its exponent, if at most an eighth of the finite samples do not fit.
pub(super) fn decimal(values: &[f64]) -> Option<(u8, Modelled)> {
    let exponent = common_exponent(values)?;
    let modelled = Modelled::new(values, |v| exact_integer(v, exponent));
    let misfits: usize =
        modelled.exceptions.iter().filter(|e| f64::from_bits(e.bits).is_finite()).map(|e| e.length).sum();
    (misfits <= values.len() / 8).then_some((exponent as u8, modelled))
}

/// The largest of the exponents that samples need, if it is in reach of (nearly) all.
fn common_exponent(values: &[f64]) -> Option<usize> {
    let mut exponent = 0;
    let mut misfits = 0;
    for value in values.iter().copied().filter(|v| v.is_finite()) {
        let in_reach = |e: &usize| (value * POWERS[*e]).abs() < EXACT;
        let upwards =
            (exponent..=EXPONENT_MAX).take_while(in_reach).find(|e| exact_integer(value, *e).is_some());
        match upwards {
            Some(e) => exponent = e,
            None => {
                misfits += 1;
                if misfits > values.len() / 8 + 1 {
                    return None;
                }
            }
        }
    }
    Some(exponent)
}

/// The float-order model: exact for every finite sample.
pub(super) fn float_order(values: &[f64]) -> Modelled {
    Modelled::new(values, |v| v.is_finite().then(|| to_order(v.to_bits())))
}

/// The decimal + ulp model: exponent, near integers, distances; `None` if no exponent brings all samples in reach.
pub(super) fn decimal_ulp(values: &[f64]) -> Option<(u8, Modelled, Vec<i64>)> {
    let probe = values.get(..ULP_PROBE).unwrap_or(values);
    let mut best: Option<(f64, usize)> = None;
    for exponent in ULP_EXPONENTS {
        let Some((near, distances)) = split_ulp(probe, exponent) else { continue };
        let bits = super::ints::plan(&near.integers).bits + super::ints::plan(&distances).bits;
        if best.is_none_or(|b| bits < b.0) {
            best = Some((bits, exponent));
        }
    }
    let exponent = best?.1;
    let (near, distances) = split_ulp(values, exponent)?;
    Some((exponent as u8, near, distances))
}

fn split_ulp(values: &[f64], exponent: usize) -> Option<(Modelled, Vec<i64>)> {
    let power = POWERS[exponent];
    if values.iter().any(|v| v.is_finite() && (v * power).abs() >= EXACT) {
        return None;
    }
    let near = Modelled::new(values, |v| {
        let scaled = v * power;
        v.is_finite().then_some((scaled + 0.5_f64.copysign(scaled)) as i64)
    });
    let mut last = 0;
    let distances = near
        .integers
        .iter()
        .zip(values)
        .map(|(integer, value)| {
            if value.is_finite() {
                last = to_order(value.to_bits()).wrapping_sub(near_order(*integer, power));
            }
            last
        })
        .collect();
    Some((near, distances))
}

/// The place of `integer / power` among all floats.
#[inline]
pub(super) fn near_order(integer: i64, power: f64) -> i64 {
    to_order((integer as f64 / power).to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_of_well_known_numbers() {
        let cases = [
            (0.0, Some(0)),
            (-0.0, None),
            (1.0, Some(0)),
            (-1.5, Some(1)),
            (0.1, Some(1)),
            (1e15 + 0.3, None),
            (9_007_199_254_740_991.0, Some(0)),
            (9_007_199_254_740_992.0, None),
            (4_503_599_627_370_497.0, Some(0)),
            (0.30000000000000004, None),
            (0.12345678901234, Some(14)),
            (f64::MIN_POSITIVE, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ];
        for (value, exponent) in cases {
            assert_eq!(smallest_exponent(value), exponent, "{value}");
        }
    }

    #[test]
    fn order_is_monotone_and_reversible() {
        let sorted =
            [f64::NEG_INFINITY, -1e300, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, f64::MAX, f64::INFINITY];
        for pair in sorted.windows(2) {
            assert!(to_order(pair[0].to_bits()) < to_order(pair[1].to_bits()));
        }
        for bits in [0, 1, u64::MAX, 1 << 63, i64::MAX as u64, STALE_NAN_BITS] {
            assert_eq!(from_order(to_order(bits)), bits);
        }
    }
}

//! Operators of which at least one side is a native histogram.

use super::histogram_arith::{add, divide, scale, subtract};
use super::histogram_note::{HistogramNote, Operation};
use super::histogram_trim::{Keep, trim};
use crate::ast::BinaryOp;
use kymo_storage::model::{FloatHistogram, ResetHint};

/// One side of an operator.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operand<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}

/// What an operator makes of two samples.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Applied {
    /// A new histogram.
    Histogram(FloatHistogram),
    /// A comparison of histograms: it holds, or not.
    Compared(bool),
    /// Such samples cannot be combined so: `incompatible sample types`, and no element.
    Incompatible,
    /// Exponential and custom buckets; there is a note, and no element.
    Mixed,
}

/// Applies `op` to two samples of which at least one is a histogram. Notes are added to `notes`.
pub(crate) fn apply(
    op: BinaryOp,
    left: Operand<'_>,
    right: Operand<'_>,
    notes: &mut Vec<HistogramNote>,
) -> Applied {
    let changed = |histogram: &FloatHistogram, change: &dyn Fn(&mut FloatHistogram)| {
        let mut result = histogram.clone();
        change(&mut result);
        result.compact();
        Applied::Histogram(result)
    };
    match (op, left, right) {
        (BinaryOp::Mul, Operand::Histogram(h), Operand::Float(f))
        | (BinaryOp::Mul, Operand::Float(f), Operand::Histogram(h)) => changed(h, &|h| scale(h, f)),
        (BinaryOp::Div, Operand::Histogram(h), Operand::Float(f)) => changed(h, &|h| divide(h, f)),
        (BinaryOp::TrimUpper, Operand::Histogram(h), Operand::Float(f)) => {
            changed(h, &|h| trim(h, f, Keep::Below))
        }
        (BinaryOp::TrimLower, Operand::Histogram(h), Operand::Float(f)) => {
            changed(h, &|h| trim(h, f, Keep::Above))
        }
        (BinaryOp::Add | BinaryOp::Sub, Operand::Histogram(a), Operand::Histogram(b)) => {
            let is_sum = op == BinaryOp::Add;
            let operation = if is_sum { Operation::Addition } else { Operation::Subtraction };
            let Ok((mut result, mended)) = (if is_sum { add(a, b) } else { subtract(a, b) }) else {
                notes.push(HistogramNote::MixedOperands(op));
                return Applied::Mixed;
            };
            if !is_sum {
                result.hint = ResetHint::Gauge;
            }
            if mended.conflicting_resets {
                notes.push(HistogramNote::ConflictingResets(operation));
            }
            if mended.reconciled_bounds {
                notes.push(HistogramNote::ReconciledBounds(operation));
            }
            Applied::Histogram(result)
        }
        (BinaryOp::Equal, Operand::Histogram(a), Operand::Histogram(b)) => Applied::Compared(a.is_equal(b)),
        (BinaryOp::NotEqual, Operand::Histogram(a), Operand::Histogram(b)) => {
            Applied::Compared(!a.is_equal(b))
        }
        _ => Applied::Incompatible,
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram_arith::tests::{custom, exponential};
    use super::*;

    #[test]
    fn operators_know_what_they_combine() {
        let a = exponential(0, (0.0, 0.0), 1, &[2.0, 4.0]);
        let b = exponential(0, (0.0, 0.0), 1, &[1.0]);
        let (bounds, others) = (custom(&[1.0, 2.0], &[1.0]), custom(&[2.0], &[1.0]));
        let reset = FloatHistogram { hint: ResetHint::Reset, ..a.clone() };
        let not_reset = FloatHistogram { hint: ResetHint::NotReset, ..b.clone() };
        let (h, f) = (Operand::Histogram, Operand::Float);
        let text = |applied: &Applied| match applied {
            Applied::Histogram(h) => h.to_string(),
            other => format!("{other:?}"),
        };
        let none: &[HistogramNote] = &[];
        let cases = [
            (BinaryOp::Mul, h(&a), f(0.5), "{count:3, sum:0, (1,2]:1, (2,4]:2}", none),
            (BinaryOp::Mul, f(0.0), h(&a), "{count:0, sum:0}", none),
            (BinaryOp::Mul, h(&a), h(&a), "Incompatible", none),
            (BinaryOp::Div, h(&a), f(2.0), "{count:3, sum:0, (1,2]:1, (2,4]:2}", none),
            (BinaryOp::Div, f(2.0), h(&a), "Incompatible", none),
            (BinaryOp::Add, h(&a), h(&b), "{count:7, sum:0, (1,2]:3, (2,4]:4}", none),
            (BinaryOp::Add, h(&a), f(1.0), "Incompatible", none),
            (BinaryOp::Sub, h(&a), h(&b), "{count:5, sum:0, (1,2]:1, (2,4]:4}", none),
            (BinaryOp::Sub, h(&a), h(&bounds), "Mixed", &[HistogramNote::MixedOperands(BinaryOp::Sub)]),
            (
                BinaryOp::Add,
                h(&bounds),
                h(&others),
                "{count:2, sum:0, [-Inf,2]:2}",
                &[HistogramNote::ReconciledBounds(Operation::Addition)],
            ),
            (
                BinaryOp::Add,
                h(&reset),
                h(&not_reset),
                "{count:7, sum:0, (1,2]:3, (2,4]:4}",
                &[HistogramNote::ConflictingResets(Operation::Addition)],
            ),
            (BinaryOp::TrimUpper, h(&a), f(2.0), "{count:2, sum:2.8284271247461903, (1,2]:2}", none),
            (BinaryOp::TrimLower, f(2.0), h(&a), "Incompatible", none),
            (BinaryOp::Equal, h(&a), h(&reset), "Compared(true)", none),
            (BinaryOp::NotEqual, h(&a), h(&b), "Compared(true)", none),
            (BinaryOp::Greater, h(&a), h(&b), "Incompatible", none),
        ];
        for (op, left, right, expected, expected_notes) in cases {
            let mut notes = Vec::new();
            assert_eq!(text(&apply(op, left, right, &mut notes)), expected, "{op}");
            assert_eq!(notes, expected_notes, "{op}");
        }
    }
}

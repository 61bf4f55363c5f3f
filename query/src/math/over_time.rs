//! `sum_over_time` and its kin: sums are added up from blocks, never as differences of prefix sums (that cancels). Hot path.

use super::kahan::{KahanMean, KahanSum, Spread};
use super::window::Windows;
use crate::column::Column;

/// Samples to a block.
const BLOCK: usize = 64;
/// Windows shorter than this are summed sample by sample, in order.
const DIRECT_MAX: usize = 4 * BLOCK;

/// `sum_over_time`. `blocks` is scratch.
pub(crate) fn sum(windows: &Windows<'_>, blocks: &mut Vec<KahanSum>, out: &mut Column) {
    blocks.clear();
    for (step, first, end) in windows.of_at_least(1) {
        out.set(step, window_sum(windows.values, first, end, blocks));
    }
}

/// `avg_over_time`. `blocks` is scratch.
pub(crate) fn avg(windows: &Windows<'_>, blocks: &mut Vec<KahanSum>, out: &mut Column) {
    blocks.clear();
    for (step, first, end) in windows.of_at_least(1) {
        if end - first >= DIRECT_MAX {
            let sum = window_sum(windows.values, first, end, blocks);
            if sum.is_finite() {
                out.set(step, sum / (end - first) as f64);
                continue;
            }
        }
        let values = &windows.values[first..end];
        let sum = direct(values);
        if sum.sum.is_finite() {
            // What `KahanMean` answers as long as nothing overflows.
            let count = values.len() as f64;
            out.set(step, sum.sum / count + sum.lost / count);
            continue;
        }
        let mut mean = KahanMean::default();
        for value in values {
            mean.add(*value);
        }
        out.set(step, mean.mean());
    }
}

fn direct(values: &[f64]) -> KahanSum {
    let mut sum = KahanSum::default();
    for value in values {
        sum.add(*value);
    }
    sum
}

fn window_sum(values: &[f64], first: usize, end: usize, blocks: &mut Vec<KahanSum>) -> f64 {
    if end - first < DIRECT_MAX {
        return direct(&values[first..end]).total();
    }
    if blocks.is_empty() {
        blocks.extend(values.chunks(BLOCK).map(direct));
    }
    let (from, upto) = (first.div_ceil(BLOCK), end / BLOCK);
    let mut sum = direct(&values[first..from * BLOCK]);
    for block in &blocks[from..upto] {
        sum.merge(*block);
    }
    sum.merge(direct(&values[upto * BLOCK..end]));
    if sum.total().is_finite() { sum.total() } else { direct(&values[first..end]).total() }
}

/// `stdvar_over_time`, or `stddev_over_time` if `root`. In one pass, since users compare the last digits: parts put together
/// would be nearer to the truth than what they know.
pub(crate) fn spread(windows: &Windows<'_>, root: bool, out: &mut Column) {
    for (step, first, end) in windows.of_at_least(1) {
        let mut spread = Spread::default();
        for value in &windows.values[first..end] {
            spread.add(*value);
        }
        let variance = spread.variance();
        out.set(step, if root { variance.sqrt() } else { variance });
    }
}

/// `count_over_time`.
pub(crate) fn count(windows: &Windows<'_>, out: &mut Column) {
    windows.each(1, |step, first, end| {
        out.set(step, (end - first) as f64);
    });
}

/// `present_over_time`.
pub(crate) fn present(windows: &Windows<'_>, out: &mut Column) {
    windows.each(1, |step, _, _| {
        out.set(step, 1.0);
    });
}

/// `first_over_time`, `last_over_time` and, in seconds, their timestamps: what `pick` makes of the first and the last index.
pub(crate) fn edge(
    windows: &Windows<'_>,
    pick: impl Fn(&Windows<'_>, usize, usize) -> f64,
    out: &mut Column,
) {
    windows.each(1, |step, first, end| {
        out.set(step, pick(windows, first, end - 1));
    });
}

#[cfg(test)]
mod tests {
    use super::super::window::{WindowPlan, WindowSteps};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_sum_like_one_pass(
            values in prop::collection::vec(-1e6f64..1e6, 1..1500), range in 1i64..1500, step in 1i64..200,
        ) {
            let timestamps: Vec<i64> = (0..values.len() as i64).collect();
            let steps = WindowSteps { first: 0, step, count: 12, range };
            let mut plan = WindowPlan::default();
            plan.compute(&timestamps, &steps);
            let windows = Windows { timestamps: &timestamps, values: &values, bounds: plan.bounds(), steps, budget: None };
            let (mut sums, mut means) = (Column::new(12), Column::new(12));
            sum(&windows, &mut Vec::new(), &mut sums);
            avg(&windows, &mut Vec::new(), &mut means);
            for (i, (a, b)) in plan.bounds().iter().enumerate() {
                let window = &values[*a as usize..*b as usize];
                prop_assert_eq!(sums.get(i).is_some(), !window.is_empty());
                if let (Some(sum), Some(mean)) = (sums.get(i), means.get(i)) {
                    let naive: f64 = window.iter().sum();
                    prop_assert!((sum - naive).abs() <= 1e-6, "{} {}", sum, naive);
                    prop_assert!((mean - naive / window.len() as f64).abs() <= 1e-6);
                }
            }
        }
    }

    #[test]
    fn infinite_samples_poison_only_their_windows() {
        let mut values = vec![1.0; 1000];
        values[500] = f64::INFINITY;
        let timestamps: Vec<i64> = (0..1000).collect();
        let steps = WindowSteps { first: 400, step: 300, count: 2, range: 400 };
        let mut plan = WindowPlan::default();
        plan.compute(&timestamps, &steps);
        let windows =
            Windows { timestamps: &timestamps, values: &values, bounds: plan.bounds(), steps, budget: None };
        let mut out = Column::new(2);
        sum(&windows, &mut Vec::new(), &mut out);
        assert_eq!(out.values, [400.0, f64::INFINITY]);
        avg(&windows, &mut Vec::new(), &mut out);
        assert_eq!(out.values, [1.0, f64::INFINITY]);
    }
}

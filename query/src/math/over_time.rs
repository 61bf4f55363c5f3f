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

/// `stdvar_over_time`, or `stddev_over_time` if `root`.
pub(crate) fn spread(windows: &Windows<'_>, root: bool, out: &mut Column) {
    for (step, first, end) in windows.of_at_least(1) {
        let variance = variance(&windows.values[first..end]);
        out.set(step, if root { variance.sqrt() } else { variance });
    }
}

/// The variance of a few values in one pass, as users know its last digits; of many in two passes, which can look at several at a
/// time.
fn variance(values: &[f64]) -> f64 {
    if values.len() >= DIRECT_MAX
        && let Some(variance) = variance_of_many(values)
    {
        return variance;
    }
    let mut spread = Spread::default();
    for value in values {
        spread.add(*value);
    }
    spread.variance()
}

/// Values that are looked at together.
const LANES: usize = 8;

/// The sum of what `of` makes of each value, added up in lanes.
fn sum_in_lanes(values: &[f64], of: impl Fn(f64) -> f64) -> KahanSum {
    let mut lanes = [KahanSum::default(); LANES];
    let (whole, rest) = values.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            lane.add(of(*value));
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        lane.add(of(*value));
    }
    let mut sum = KahanSum::default();
    lanes.into_iter().for_each(|lane| sum.merge(lane));
    sum
}

/// The variance by the distances from the mean, corrected for what rounding makes of the mean; `None` if it is not finite.
fn variance_of_many(values: &[f64]) -> Option<f64> {
    let first = *values.first().filter(|first| first.is_finite())?;
    if values.chunks(BLOCK).all(|block| block.iter().fold(true, |all, value| all & (*value == first))) {
        return Some(0.0);
    }
    let count = values.len() as f64;
    let mean = sum_in_lanes(values, |value| value).total() / count;
    let squares = sum_in_lanes(values, |value| (value - mean) * (value - mean)).total();
    let rounded = sum_in_lanes(values, |value| value - mean).total();
    Some((squares - rounded * rounded / count) / count).filter(|variance| variance.is_finite())
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

    proptest! {
        #[test]
        fn two_passes_find_what_one_finds(
            values in prop::collection::vec(-1e3f64..1e3, 256..700), offset in -1e6f64..1e6, constant in any::<bool>(),
        ) {
            let values: Vec<f64> = values.iter().map(|v| if constant { offset } else { v + offset }).collect();
            let mut spread = Spread::default();
            values.iter().for_each(|v| spread.add(*v));
            let (one, two) = (spread.variance(), variance(&values));
            prop_assert!((one - two).abs() <= one * 1e-12, "{one} {two}");
            prop_assert!(!constant || two == 0.0);
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

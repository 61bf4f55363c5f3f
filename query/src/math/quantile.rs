//! Quantiles over samples, and the median absolute deviation.

use super::window::Windows;
use crate::column::Column;
use std::cmp::Ordering;

/// Ascending, `NaN` first.
fn nan_first(a: &f64, b: &f64) -> Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The `q`-quantile of `values`, interpolated between neighbours; reorders them. Below 0 it is `-Inf`, above 1 `+Inf`.
pub(crate) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (values.len() - 1) as f64;
    let lower = (rank.floor() as usize).min(values.len() - 1);
    let weight = rank - rank.floor();
    let (low, high) = if values.iter().fold(false, |any, v| any | v.is_nan()) {
        let (_, low, above) = values.select_nth_unstable_by(lower, nan_first);
        (*low, above.iter().copied().min_by(nan_first))
    } else {
        let (_, low, above) = values.select_nth_unstable_by_key(lower, |v| order(*v));
        (*low, above.iter().copied().reduce(f64::min))
    };
    low * (1.0 - weight) + high.unwrap_or(low) * weight
}

/// Where a number other than `NaN` stands among all.
#[inline]
fn order(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// `quantile_over_time` with the quantile of each step. `scratch` is scratch.
pub(crate) fn over_time(
    windows: &Windows<'_>,
    q: impl Fn(usize) -> f64,
    scratch: &mut Vec<f64>,
    out: &mut Column,
) {
    let any_nan = windows.values.iter().fold(false, |any, v| any | v.is_nan());
    // The samples of the window before, sorted, if that is what the scratch holds.
    let mut held = None;
    for (step, first, end) in windows.of_at_least(1) {
        let values = &windows.values[first..end];
        let moved = held.map_or(usize::MAX, |(a, b): (usize, usize)| (first - a).saturating_add(end - b));
        let next = windows.bounds.get(step + 1).map(|(a, b)| (*a as usize, *b as usize));
        let will_move = next.map_or(usize::MAX, |next| next.0.abs_diff(first) + next.1.abs_diff(end));
        if any_nan || (moved >= values.len() / MOVED_PART && will_move >= values.len() / MOVED_PART) {
            scratch.clear();
            scratch.extend_from_slice(values);
            out.set(step, quantile(q(step), scratch));
            held = None;
            continue;
        }
        match held {
            Some((before, upto)) if moved < values.len() => {
                for value in &windows.values[before..first] {
                    let at = scratch.partition_point(|v| order(*v) < order(*value));
                    scratch.remove(at);
                }
                for value in &windows.values[upto..end] {
                    let at = scratch.partition_point(|v| order(*v) < order(*value));
                    scratch.insert(at, *value);
                }
            }
            _ => {
                scratch.clear();
                scratch.extend_from_slice(values);
                scratch.sort_unstable_by_key(|v| order(*v));
            }
        }
        held = Some((first, end));
        out.set(step, of_sorted(q(step), scratch));
    }
}

/// Below one sample in so many coming or going, the window is kept sorted instead of searched anew.
const MOVED_PART: usize = 8;

/// As [`quantile`], of numbers in ascending order without `NaN`.
fn of_sorted(q: f64, sorted: &[f64]) -> f64 {
    if q.is_nan() || !(0.0..=1.0).contains(&q) || sorted.is_empty() {
        return quantile(q, &mut sorted.to_vec());
    }
    let rank = q * (sorted.len() - 1) as f64;
    let lower = (rank.floor() as usize).min(sorted.len() - 1);
    let weight = rank - rank.floor();
    let high = sorted[(lower + 1).min(sorted.len() - 1)];
    sorted[lower] * (1.0 - weight) + high * weight
}

/// `mad_over_time`. `scratch` is scratch.
pub(crate) fn deviation(windows: &Windows<'_>, scratch: &mut Vec<f64>, out: &mut Column) {
    for (step, first, end) in windows.of_at_least(1) {
        scratch.clear();
        scratch.extend_from_slice(&windows.values[first..end]);
        if scratch.iter().any(|v| v.is_nan()) {
            out.set(step, f64::NAN);
            continue;
        }
        let median = quantile(0.5, scratch);
        for value in scratch.iter_mut() {
            *value = (*value - median).abs();
        }
        out.set(step, quantile(0.5, scratch));
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{WindowPlan, WindowSteps};
    use super::*;
    use proptest::prelude::*;

    fn naive(q: f64, values: &[f64]) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(nan_first);
        let rank = q * (sorted.len() - 1) as f64;
        let lower = rank.floor() as usize;
        let upper = (lower + 1).min(sorted.len() - 1);
        let weight = rank - rank.floor();
        sorted[lower] * (1.0 - weight) + sorted[upper] * weight
    }

    proptest! {
        #[test]
        fn selecting_finds_what_sorting_finds(values in prop::collection::vec(-1e3f64..1e3, 1..80), q in 0f64..=1.0) {
            prop_assert_eq!(quantile(q, &mut values.clone()), naive(q, &values));
        }
    }

    proptest! {
        #[test]
        fn kept_windows_answer_as_searched_ones(
            values in prop::collection::vec(prop_oneof![9 => (-20i8..20).prop_map(f64::from), 1 => Just(f64::NAN)], 1..400),
            step in 1i64..30, range in 1i64..300, q in -0.1f64..1.1,
        ) {
            for values in [values.iter().map(|v| if v.is_nan() { 3.5 } else { *v }).collect(), values.clone()] {
                let timestamps: Vec<i64> = (0..values.len() as i64).collect();
                let steps = WindowSteps { first: 3, step, count: 30, range };
                let mut plan = WindowPlan::default();
                plan.compute(&timestamps, &steps);
                let windows = Windows { timestamps: &timestamps, values: &values, bounds: plan.bounds(), steps, budget: None };
                let mut out = Column::new(30);
                over_time(&windows, |_| q, &mut Vec::new(), &mut out);
                for (step, first, end) in windows.of_at_least(1) {
                    let expected = quantile(q, &mut values[first..end].to_vec());
                    let found = out.get(step).unwrap();
                    prop_assert!(found == expected || (found.is_nan() && expected.is_nan()), "{} {}", found, expected);
                }
            }
        }
    }

    #[test]
    fn quantiles_out_of_range() {
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile(f64::NAN, &mut [1.0]).is_nan() && quantile(0.5, &mut []).is_nan());
        assert_eq!(quantile(1.0, &mut [f64::NAN, 3.0, 1.0]), 3.0);
        assert!(quantile(0.0, &mut [f64::NAN, 3.0, 1.0]).is_nan());
    }
}

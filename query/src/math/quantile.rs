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
    let (_, low, above) = values.select_nth_unstable_by(lower, nan_first);
    let low = *low;
    let high = above.iter().copied().min_by(nan_first).unwrap_or(low);
    low * (1.0 - weight) + high * weight
}

/// `quantile_over_time` with the quantile of each step. `scratch` is scratch.
pub(crate) fn over_time(
    windows: &Windows<'_>,
    q: impl Fn(usize) -> f64,
    scratch: &mut Vec<f64>,
    out: &mut Column,
) {
    for (step, first, end) in windows.of_at_least(1) {
        scratch.clear();
        scratch.extend_from_slice(&windows.values[first..end]);
        out.set(step, quantile(q(step), scratch));
    }
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

    #[test]
    fn quantiles_out_of_range() {
        assert_eq!(quantile(-0.1, &mut [1.0]), f64::NEG_INFINITY);
        assert_eq!(quantile(1.1, &mut [1.0]), f64::INFINITY);
        assert!(quantile(f64::NAN, &mut [1.0]).is_nan() && quantile(0.5, &mut []).is_nan());
        assert_eq!(quantile(1.0, &mut [f64::NAN, 3.0, 1.0]), 3.0);
        assert!(quantile(0.0, &mut [f64::NAN, 3.0, 1.0]).is_nan());
    }
}

//! `deriv`, `predict_linear` and `double_exponential_smoothing`.

use super::kahan::KahanSum;
use super::window::Windows;
use crate::column::Column;
use kymo_storage::model::Timestamp;

/// Slope per second, and the value at `origin`, of the line of least squares through the samples.
pub(crate) fn line(timestamps: &[Timestamp], values: &[f64], origin: Timestamp) -> (f64, f64) {
    let Some(first) = values.first().copied() else { return (f64::NAN, f64::NAN) };
    if values.iter().all(|v| *v == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut x, mut y) = (KahanSum::default(), KahanSum::default());
    let (mut xy, mut xx) = (KahanSum::default(), KahanSum::default());
    for (t, value) in timestamps.iter().zip(values) {
        let at = t.wrapping_sub(origin) as f64 / 1e3;
        x.add(at);
        y.add(*value);
        xy.add(at * value);
        xx.add(at * at);
    }
    let n = values.len() as f64;
    let all = |s: KahanSum| s.sum + s.lost;
    let (x, y, xy, xx) = (all(x), all(y), all(xy), all(xx));
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

/// `deriv`.
pub(crate) fn deriv(windows: &Windows<'_>, out: &mut Column) {
    for (step, first, end) in windows.of_at_least(2) {
        let origin = windows.timestamps[first];
        out.set(step, line(&windows.timestamps[first..end], &windows.values[first..end], origin).0);
    }
}

/// `predict_linear`: `times` are the steps themselves, `ahead` the seconds to look ahead at each.
pub(crate) fn predict(
    windows: &Windows<'_>,
    times: impl Fn(usize) -> Timestamp,
    ahead: impl Fn(usize) -> f64,
    out: &mut Column,
) {
    for (step, first, end) in windows.of_at_least(2) {
        let (slope, now) = line(&windows.timestamps[first..end], &windows.values[first..end], times(step));
        out.set(step, slope * ahead(step) + now);
    }
}

/// `double_exponential_smoothing` with the factors of each step, which lie between 0 and 1.
pub(crate) fn smooth(windows: &Windows<'_>, factors: impl Fn(usize) -> (f64, f64), out: &mut Column) {
    for (step, first, end) in windows.of_at_least(2) {
        let (level, trend) = factors(step);
        let values = &windows.values[first..end];
        let mut before = 0.0;
        let mut smoothed = values[0];
        let mut slope = values[1] - values[0];
        for (i, value) in values.iter().enumerate().skip(1) {
            if i > 1 {
                slope = trend * (smoothed - before) + (1.0 - trend) * slope;
            }
            let next = level * value + (1.0 - level) * (smoothed + slope);
            before = smoothed;
            smoothed = next;
        }
        out.set(step, smoothed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_line_is_found_again(slope in -100f64..100.0, start in -1000f64..1000.0, n in 2usize..50) {
            prop_assume!(slope.abs() > 1e-3);
            let timestamps: Vec<i64> = (0..n as i64).map(|i| i * 1000).collect();
            let values: Vec<f64> = (0..n).map(|i| start + slope * i as f64).collect();
            let (found, at_origin) = line(&timestamps, &values, 0);
            prop_assert!((found - slope).abs() < 1e-6 && (at_origin - start).abs() < 1e-6);
        }
    }

    #[test]
    fn constant_series_have_no_slope() {
        assert_eq!(line(&[0, 1000], &[3.0, 3.0], 5), (0.0, 3.0));
        assert!(line(&[0, 1000], &[f64::INFINITY, f64::INFINITY], 5).0.is_nan());
    }
}

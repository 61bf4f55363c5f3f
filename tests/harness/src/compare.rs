//! Tolerant comparison of floats: NaN equals NaN, the staleness marker equals only itself, infinities are exact.

use kymo_storage::model::is_stale;

/// Whether `a` and `b` are equal up to `|a - b| / (|a| + |b|) < epsilon`.
pub fn close(a: f64, b: f64, epsilon: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}

/// Whether two values have the same bits: what a store must give back.
pub fn same_bits(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_storage::model::stale_nan;

    #[test]
    fn special_values_and_tolerance() {
        for (a, b, equal) in [
            (1.0, 1.0, true),
            (1.0, 1.000_001, true),
            (1.0, 1.000_01, false),
            (0.0, 1e-300, false),
            (0.0, -0.0, true),
            (f64::NAN, f64::NAN, true),
            (stale_nan(), f64::NAN, false),
            (stale_nan(), stale_nan(), true),
            (f64::INFINITY, f64::INFINITY, true),
            (f64::INFINITY, f64::MAX, false),
            (f64::INFINITY, f64::NEG_INFINITY, false),
            (f64::MAX, f64::MAX * 0.999_999_9, true),
        ] {
            assert_eq!(close(a, b, 1e-6), equal, "{a} {b}");
        }
        assert!(!same_bits(0.0, -0.0) && same_bits(stale_nan(), stale_nan()));
    }
}

//! Quantiles, fractions, deviation and trimming: what can be said of single observations in a native histogram.
//!
//! Within a bucket, observations are taken to be spread evenly: over the logarithms of its bounds if it is exponential, over
//! the bounds themselves if it is custom or the zero bucket. A zero bucket beside positive buckets only is taken to begin at
//! zero, beside negative buckets only to end there.

use super::histogram_note::HistogramNote;
use super::kahan::KahanSum;
use kymo_storage::model::{Bucket, FloatHistogram};

const NOTHING: Bucket<f64> =
    Bucket { lower: 0.0, upper: 0.0, lower_inclusive: true, upper_inclusive: true, count: 0.0 };

/// The value below which the share `q` of the observations lies. Observations of NaN count as the highest.
pub(crate) fn quantile(q: f64, histogram: &FloatHistogram) -> (f64, Option<HistogramNote>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if histogram.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    let may_have_nan = histogram.sum.is_nan();
    // From the nearer end, for the sake of precision. Observations of NaN are missing at the upper end.
    let forward = may_have_nan || q < 0.5;
    let rank = if forward { q * histogram.count } else { (1.0 - q) * histogram.count };
    let (mut bucket, reached) = if forward {
        reach(histogram.all_buckets(), rank)
    } else {
        reach(histogram.all_buckets().rev(), rank)
    };
    let custom = histogram.is_custom();
    if custom && bucket.lower == f64::NEG_INFINITY {
        if bucket.upper <= 0.0 {
            return (bucket.upper, None);
        }
        bucket.lower = 0.0;
    } else if custom && bucket.upper == f64::INFINITY {
        return (bucket.lower, None);
    } else if !custom && bucket.lower < 0.0 && bucket.upper > 0.0 {
        bucket = one_sided(bucket, histogram);
    }
    // Rounding must not find more observations than there are.
    let reached = reached.min(histogram.count);
    if reached < rank {
        return if may_have_nan {
            (f64::NAN, Some(HistogramNote::QuantileIsNan))
        } else {
            (bucket.upper, None)
        };
    }
    let within = if forward { rank - (reached - bucket.count) } else { reached - rank };
    let populated: f64 = if may_have_nan { histogram.all_buckets().map(|b| b.count).sum() } else { 0.0 };
    let skewed = may_have_nan && populated < histogram.count;
    let value = at_share(&bucket, within / bucket.count, custom);
    (value, skewed.then_some(HistogramNote::QuantileIsSkewed))
}

/// The bucket in which the observations counted so far reach `rank`, or the last one, and how many they are with it.
fn reach(buckets: impl Iterator<Item = Bucket<f64>>, rank: f64) -> (Bucket<f64>, f64) {
    let (mut last, mut count) = (NOTHING, 0.0);
    for bucket in buckets {
        last = bucket;
        if bucket.count != 0.0 {
            count += bucket.count;
            if count >= rank {
                break;
            }
        }
    }
    (last, count)
}

fn one_sided(mut zero_bucket: Bucket<f64>, histogram: &FloatHistogram) -> Bucket<f64> {
    match (histogram.negative.is_empty(), histogram.positive.is_empty()) {
        (true, false) => zero_bucket.lower = 0.0,
        (false, true) => zero_bucket.upper = 0.0,
        _ => {}
    }
    zero_bucket
}

fn at_share(bucket: &Bucket<f64>, share: f64, custom: bool) -> f64 {
    let Bucket { lower, upper, .. } = *bucket;
    if custom || (lower <= 0.0 && upper >= 0.0) {
        return lower + (upper - lower) * share;
    }
    let (lower_log, upper_log) = (lower.abs().log2(), upper.abs().log2());
    if lower > 0.0 {
        (lower_log + (upper_log - lower_log) * share).exp2()
    } else {
        -(upper_log + (lower_log - upper_log) * (1.0 - share)).exp2()
    }
}

/// The share of all observations between `lower` and `upper`.
pub(crate) fn fraction(lower: f64, upper: f64, histogram: &FloatHistogram) -> (f64, Option<HistogramNote>) {
    if histogram.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let populated: f64 = histogram.all_buckets().map(|b| b.count).sum();
    let may_have_nan = histogram.sum.is_nan();
    let note = (may_have_nan && populated < histogram.count).then_some(HistogramNote::FractionWithoutNan);
    let all = if may_have_nan { populated } else { histogram.count };
    let below = |value| rank_below(value, histogram).map_or(all, |rank| if rank > all { all } else { rank });
    ((below(upper) - below(lower)) / histogram.count, note)
}

/// How many observations are below `value`; `None` if no bucket reaches up to it.
fn rank_below(value: f64, histogram: &FloatHistogram) -> Option<f64> {
    let mut rank = 0.0;
    for mut bucket in histogram.all_buckets() {
        let zero_bucket = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if zero_bucket {
            bucket = one_sided(bucket, histogram);
        }
        if bucket.lower >= value {
            return Some(rank);
        }
        if bucket.upper > value {
            // Nothing can be said of where observations are in a bucket without lower end: all count as below.
            return Some(if bucket.lower != f64::NEG_INFINITY {
                let linear = histogram.is_custom() || zero_bucket;
                rank + bucket.count * bucket.share_below(value, linear)
            } else if histogram.is_custom() || zero_bucket {
                bucket.count
            } else {
                rank + bucket.count * bucket.share_below(value, false)
            });
        }
        rank += bucket.count;
    }
    None
}

/// The population variance, each observation taken to lie in the middle of its bucket (the geometric one if exponential).
pub(crate) fn variance(histogram: &FloatHistogram) -> f64 {
    let mean = histogram.sum / histogram.count;
    let mut squares = KahanSum::default();
    for bucket in histogram.populated_buckets() {
        let Bucket { lower, upper, count, .. } = bucket;
        let value = if histogram.is_custom() {
            f64::midpoint(upper, lower)
        } else if lower <= 0.0 && upper >= 0.0 {
            0.0
        } else {
            (upper * lower).sqrt().copysign(upper)
        };
        let delta = value - mean;
        squares.add(count * delta * delta);
    }
    (squares.sum + squares.lost) / histogram.count
}

#[cfg(test)]
mod tests {
    use super::super::histogram_arith::tests::{any_histogram, custom, exponential};
    use super::*;
    use kymo_storage::model::Buckets;
    use proptest::prelude::*;

    fn mirrored(histogram: &FloatHistogram) -> FloatHistogram {
        FloatHistogram {
            positive: histogram.negative.clone(),
            negative: histogram.positive.clone(),
            sum: -histogram.sum,
            ..histogram.clone()
        }
    }

    fn is_near(a: f64, b: f64) -> bool {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e-3)
    }

    #[test]
    fn quantiles_within_buckets() {
        let with_nan =
            |h: FloatHistogram, extra: f64| FloatHistogram { sum: f64::NAN, count: h.count + extra, ..h };
        let both = FloatHistogram {
            negative: Buckets::run(1, vec![2.0]).unwrap(),
            count: 6.0,
            ..exponential(0, (1.0, 2.0), 1, &[2.0])
        };
        let cases = [
            ("nothing", exponential(0, (0.0, 0.0), 0, &[]), 0.5, f64::NAN),
            ("below", exponential(0, (0.0, 0.0), 1, &[2.0]), -0.1, f64::NEG_INFINITY),
            ("above", exponential(0, (0.0, 0.0), 1, &[2.0]), 1.1, f64::INFINITY),
            ("middle of (1,2]", exponential(0, (0.0, 0.0), 1, &[2.0]), 0.5, 2f64.sqrt()),
            ("upper end", exponential(0, (0.0, 0.0), 1, &[2.0]), 1.0, 2.0),
            ("lower end", exponential(0, (0.0, 0.0), 1, &[2.0]), 0.0, 1.0),
            ("second bucket", exponential(0, (0.0, 0.0), 1, &[2.0, 2.0]), 0.75, 8f64.sqrt()),
            ("zero bucket, from zero", exponential(0, (1.0, 2.0), 1, &[2.0]), 0.25, 0.5),
            ("zero bucket, both sides", both, 0.5, 0.0),
            ("custom", custom(&[1.0, 3.0], &[1.0, 2.0, 1.0]), 0.5, 2.0),
            ("first custom", custom(&[1.0, 3.0], &[2.0, 2.0]), 0.25, 0.5),
            ("first custom below zero", custom(&[-1.0, 3.0], &[2.0, 2.0]), 0.25, -1.0),
            ("last custom", custom(&[1.0, 3.0], &[1.0, 2.0, 1.0]), 0.9, 3.0),
            ("NaN among them", with_nan(exponential(0, (0.0, 0.0), 1, &[2.0]), 2.0), 0.25, 2f64.sqrt()),
            ("only NaN so high", with_nan(exponential(0, (0.0, 0.0), 1, &[2.0]), 2.0), 0.75, f64::NAN),
            (
                "sum is NaN by infinities",
                with_nan(exponential(0, (0.0, 0.0), 1, &[2.0]), 0.0),
                0.5,
                2f64.sqrt(),
            ),
        ];
        for (name, histogram, q, expected) in cases {
            let (value, note) = quantile(q, &histogram);
            assert!(is_near(value, expected), "{name}: {value}");
            let expected = match name {
                "NaN among them" => Some(HistogramNote::QuantileIsSkewed),
                "only NaN so high" => Some(HistogramNote::QuantileIsNan),
                _ => None,
            };
            assert_eq!(note, expected, "{name}");
        }
        assert!(is_near(
            quantile(0.25, &mirrored(&exponential(0, (0.0, 0.0), 1, &[2.0, 2.0]))).0,
            -8f64.sqrt()
        ));
    }

    #[test]
    fn fractions_between_bounds() {
        let infinity = f64::INFINITY;
        let cases = [
            ("all", exponential(0, (0.0, 0.0), 1, &[2.0, 2.0]), (-infinity, infinity), 1.0),
            ("one bucket", exponential(0, (0.0, 0.0), 1, &[1.0, 3.0]), (1.0, 2.0), 0.25),
            ("half a bucket", exponential(0, (0.0, 0.0), 1, &[2.0, 2.0]), (0.0, 2f64.sqrt()), 0.25),
            ("half of zero", exponential(0, (1.0, 2.0), 1, &[2.0]), (0.0, 0.5), 0.25),
            ("wrong order", exponential(0, (0.0, 0.0), 1, &[2.0]), (2.0, 1.0), 0.0),
            ("NaN", exponential(0, (0.0, 0.0), 1, &[2.0]), (f64::NAN, 1.0), f64::NAN),
            ("nothing", exponential(0, (0.0, 0.0), 1, &[]), (0.0, 1.0), f64::NAN),
            ("custom", custom(&[1.0, 3.0], &[1.0, 2.0, 1.0]), (1.0, 2.0), 0.25),
            ("into the first custom", custom(&[1.0, 3.0], &[1.0, 2.0, 1.0]), (0.5, 3.0), 0.625),
            ("into the last custom", custom(&[1.0, 3.0], &[1.0, 2.0, 1.0]), (3.0, 100.0), 0.0),
        ];
        for (name, histogram, (lower, upper), expected) in cases {
            let (value, note) = fraction(lower, upper, &histogram);
            assert!(is_near(value, expected), "{name}: {value}");
            assert_eq!(note, None);
        }
        let nan = FloatHistogram { sum: f64::NAN, count: 4.0, ..exponential(0, (0.0, 0.0), 1, &[2.0]) };
        assert_eq!(fraction(0.0, 9.0, &nan), (0.5, Some(HistogramNote::FractionWithoutNan)));
    }

    #[test]
    fn variances() {
        let histogram = FloatHistogram { sum: 8.0, ..exponential(0, (0.0, 0.0), 1, &[2.0, 2.0]) };
        let expected = ((2f64.sqrt() - 2.0).powi(2) + (8f64.sqrt() - 2.0).powi(2)) / 2.0;
        assert!(is_near(variance(&histogram), expected));
        assert!(is_near(variance(&mirrored(&histogram)), expected));
        let histogram = FloatHistogram { sum: 4.0, ..custom(&[1.0, 3.0], &[0.0, 2.0]) };
        assert_eq!(variance(&histogram), 0.0);
        assert!(variance(&FloatHistogram::default()).is_nan());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn quantiles_grow_and_fractions_undo_them(histogram in any_histogram(), a in 0.0_f64..1.0, b in 0.0_f64..1.0) {
            let (low, high) = (a.min(b), a.max(b));
            let (x, y) = (quantile(low, &histogram).0, quantile(high, &histogram).0);
            prop_assert!(histogram.count == 0.0 || x <= y, "{x} > {y} of {histogram}");
            if histogram.count > 0.0 && !histogram.is_custom() {
                let share = fraction(f64::NEG_INFINITY, x, &histogram).0;
                // A value between populated buckets belongs to every quantile from the lower bucket's end on.
                prop_assert!(share <= low + 1e-9, "{share} is not {low}");
                prop_assert!(is_near(x, -quantile(1.0 - low, &mirrored(&histogram)).0));
            }
        }

        #[test]
        fn fractions_add_up(histogram in any_histogram(), cut in -20.0_f64..20.0) {
            prop_assume!(histogram.count > 0.0);
            let share = |lower, upper| fraction(lower, upper, &histogram).0;
            let (below, above) = (share(f64::NEG_INFINITY, cut), share(cut, f64::INFINITY));
            prop_assert!((0.0..=1.0).contains(&below) && (0.0..=1.0).contains(&above));
            prop_assert!(is_near(below + above, 1.0));
        }
    }
}

//! `</` and `>/`: what is left of a native histogram when observations beyond a bound are dropped.
//!
//! A bucket that the bound cuts keeps the share of its observations on the right side, spread as for quantiles. The sum is
//! then estimated from the middles of what is left. Of a bucket without end nothing can be said, so it is dropped whole if
//! cut (or kept, where all of it may be on the right side).

use kymo_storage::model::{Bucket, Buckets, FloatHistogram};

/// Which observations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Those below the bound (`</`).
    Below,
    /// Those above the bound (`>/`).
    Above,
}

/// What is left of a bucket, and where those observations lie on average.
type Left = (f64, f64);

/// Drops the observations on the other side of `bound`.
pub(crate) fn trim(histogram: &mut FloatHistogram, bound: f64, keep: Keep) {
    let custom = histogram.is_custom();
    let mut totals = Totals::default();
    let has = |buckets: &Buckets<f64>| buckets.counts().iter().any(|c| *c != 0.0);
    let (has_positive, has_negative) = (has(&histogram.positive), has(&histogram.negative));
    let positive: Vec<_> =
        histogram.positive_buckets().map(|b| trim_bucket(&b, bound, keep, true, custom)).collect();
    let negative: Vec<_> =
        histogram.negative_buckets().map(|b| trim_bucket(&b, bound, keep, false, custom)).collect();
    for (buckets, left) in [(&mut histogram.positive, positive), (&mut histogram.negative, negative)] {
        for (count, left) in buckets.counts_mut().iter_mut().zip(left) {
            totals.add(count, left);
        }
    }
    if histogram.zero_count > 0.0 {
        let left = trim_zero_bucket(&histogram.zero_bucket(), bound, keep, (has_negative, has_positive));
        totals.add(&mut histogram.zero_count, left);
    }
    if totals.changed {
        histogram.count = totals.count;
        histogram.sum = totals.sum;
        histogram.compact();
    }
}

#[derive(Default)]
struct Totals {
    count: f64,
    sum: f64,
    changed: bool,
}

impl Totals {
    fn add(&mut self, count: &mut f64, (left, middle): Left) {
        if *count == 0.0 {
            return;
        }
        if *count != left {
            *count = left;
            self.changed = true;
        }
        if left != 0.0 {
            self.count += left;
            self.sum += middle * left;
        }
    }
}

fn trim_bucket(bucket: &Bucket<f64>, bound: f64, keep: Keep, positive: bool, linear: bool) -> Left {
    let Bucket { lower, upper, count, .. } = *bucket;
    let (inside, outside) = match keep {
        Keep::Below => (upper <= bound, lower >= bound),
        Keep::Above => (lower >= bound, upper <= bound),
    };
    if inside {
        (count, middle(lower, upper, positive, linear))
    } else if outside || bound.is_nan() {
        (0.0, 0.0)
    } else if lower == f64::NEG_INFINITY {
        cut_without_lower_end(bucket, bound, keep)
    } else if upper == f64::INFINITY {
        match keep {
            Keep::Below => (0.0, 0.0),
            Keep::Above => (count, bound),
        }
    } else {
        let below = count * bucket.share_below(bound, linear);
        match keep {
            Keep::Below => (below, middle(lower, bound, positive, linear)),
            Keep::Above => (count - below, middle(bound, upper, positive, linear)),
        }
    }
}

/// The first custom bucket is taken to begin at zero if it ends above; a bucket that ends at or below zero is kept whole as
/// long as it may lie below the bound.
fn cut_without_lower_end(bucket: &Bucket<f64>, bound: f64, keep: Keep) -> Left {
    let Bucket { upper, count, .. } = *bucket;
    let ends_above_zero = upper > 0.0 && upper.is_finite();
    match keep {
        Keep::Below if bound > 0.0 && ends_above_zero => (count * bound / upper, bound / 2.0),
        Keep::Below if upper <= 0.0 => (count, bound),
        Keep::Above if bound >= 0.0 && ends_above_zero => {
            (count * (1.0 - bound / upper), f64::midpoint(bound, upper))
        }
        Keep::Above if bound == f64::NEG_INFINITY => (count, 0.0),
        Keep::Below | Keep::Above => (0.0, 0.0),
    }
}

fn trim_zero_bucket(
    bucket: &Bucket<f64>,
    bound: f64,
    keep: Keep,
    (has_negative, has_positive): (bool, bool),
) -> Left {
    let lower = if has_positive && !has_negative { 0.0 } else { bucket.lower };
    let upper = if has_negative && !has_positive { 0.0 } else { bucket.upper };
    let whole = (bucket.count, f64::midpoint(lower, upper));
    let part = |share: f64, middle| (bucket.count * share, middle);
    match keep {
        Keep::Below if bound <= lower => (0.0, 0.0),
        Keep::Below if bound >= upper => whole,
        Keep::Below => part((bound - lower) / (upper - lower), f64::midpoint(lower, bound)),
        Keep::Above if bound <= lower => whole,
        Keep::Above if bound >= upper => (0.0, 0.0),
        Keep::Above => part((upper - bound) / (upper - lower), f64::midpoint(bound, upper)),
    }
}

/// Where the observations between two bounds lie on average.
fn middle(lower: f64, upper: f64, positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if upper > 0.0 => upper / 2.0,
        (true, false) => upper,
        (false, true) => lower,
        (false, false) if linear => f64::midpoint(lower, upper),
        (false, false) => {
            let mean = (lower * upper).abs().sqrt();
            if positive { mean } else { -mean }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram_arith::tests::{any_histogram, custom, exponential, total};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cut_buckets_keep_their_share() {
        let infinity = f64::INFINITY;
        let plain = || FloatHistogram { sum: 12.0, ..exponential(0, (0.0, 0.0), 1, &[2.0, 4.0]) };
        let zero = || exponential(0, (1.0, 4.0), 1, &[2.0]);
        let bounds = || custom(&[1.0, 3.0], &[2.0, 4.0, 6.0]);
        let cases = [
            ("nothing", plain(), 4.0, Keep::Below, "{count:6, sum:12, (1,2]:2, (2,4]:4}"),
            ("all", plain(), 1.0, Keep::Below, "{count:0, sum:0}"),
            ("at a bound", plain(), 2.0, Keep::Below, "{count:2, sum:2.8284271247461903, (1,2]:2}"),
            ("at a bound", plain(), 2.0, Keep::Above, "{count:4, sum:11.313708498984761, (2,4]:4}"),
            ("everything", plain(), -infinity, Keep::Above, "{count:6, sum:12, (1,2]:2, (2,4]:4}"),
            ("half of zero", zero(), 0.5, Keep::Below, "{count:2, sum:0.5, [-1,1]:2}"),
            ("half of zero", zero(), 0.5, Keep::Above, "{count:4, sum:4.32842712474619, [-1,1]:2, (1,2]:2}"),
            ("custom", bounds(), 2.0, Keep::Below, "{count:4, sum:4, [-Inf,1]:2, (1,3]:2}"),
            ("custom", bounds(), 2.0, Keep::Above, "{count:8, sum:23, (1,3]:2, (3,+Inf]:6}"),
            ("first custom", bounds(), 0.5, Keep::Below, "{count:1, sum:0.25, [-Inf,1]:1}"),
            (
                "first custom",
                bounds(),
                0.5,
                Keep::Above,
                "{count:11, sum:26.75, [-Inf,1]:1, (1,3]:4, (3,+Inf]:6}",
            ),
            ("last custom", bounds(), 5.0, Keep::Below, "{count:6, sum:9, [-Inf,1]:2, (1,3]:4}"),
            ("last custom", bounds(), 5.0, Keep::Above, "{count:6, sum:30, (3,+Inf]:6}"),
        ];
        for (name, mut histogram, bound, keep, expected) in cases {
            trim(&mut histogram, bound, keep);
            assert_eq!(histogram.to_string(), expected, "{name} {keep:?} {bound}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn both_halves_make_the_whole(histogram in any_histogram(), bound in -20.0_f64..20.0) {
            let half = |keep| {
                let mut half = histogram.clone();
                trim(&mut half, bound, keep);
                half
            };
            let (below, above) = (half(Keep::Below), half(Keep::Above));
            for half in [&below, &above] {
                prop_assert!(half.validate().is_ok());
                prop_assert!((total(half) - half.count).abs() < 1e-9);
            }
            let whole = below.count + above.count;
            if histogram.is_custom() {
                prop_assert!(whole <= histogram.count + 1e-9);
            } else {
                prop_assert!((whole - histogram.count).abs() < 1e-9);
            }
        }
    }
}

//! Sums, differences and multiples of native histograms whose layouts may differ.
//!
//! Two histograms are brought to what they have in common: the lower resolution, a zero bucket that covers both and cuts no
//! populated bucket, or the custom bounds that both have. Results list no empty buckets.

use super::kahan::KahanSum;
use kymo_storage::model::{
    BucketCount, Buckets, FloatHistogram, Histogram, ResetHint, Swallowed, intersect_bounds, onto_bounds,
    swallowed,
};
use std::borrow::Cow;

/// Exponential and custom buckets cannot be combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MixedBuckets;

/// What had to be done to combine two histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mended {
    /// One says it counts anew, the other that it counts on.
    pub(crate) conflicting_resets: bool,
    /// The custom bounds differ.
    pub(crate) reconciled_bounds: bool,
}

/// A number that histograms are added up in.
pub(super) trait Cell: BucketCount {
    /// Adds one number.
    fn add(&mut self, value: f64);
}

impl Cell for f64 {
    #[inline]
    fn add(&mut self, value: f64) {
        *self += value;
    }
}

impl Cell for KahanSum {
    #[inline]
    fn add(&mut self, value: f64) {
        Self::add(self, value);
    }
}

impl BucketCount for KahanSum {
    fn is_zero(&self) -> bool {
        self.sum == 0.0 && self.lost == 0.0
    }

    fn plus(mut self, other: Self) -> Self {
        self.merge(other);
        self
    }
}

/// `left + right`. The hint is what both agree on.
pub(crate) fn add(
    left: &FloatHistogram,
    right: &FloatHistogram,
) -> Result<(FloatHistogram, Mended), MixedBuckets> {
    combined(left, right, 1.0)
}

/// `left - right`, with the hint as [`add`] has it: an operator or function that answers the difference makes it a gauge.
pub(crate) fn subtract(
    left: &FloatHistogram,
    right: &FloatHistogram,
) -> Result<(FloatHistogram, Mended), MixedBuckets> {
    combined(left, right, -1.0)
}

fn combined(
    left: &FloatHistogram,
    right: &FloatHistogram,
    sign: f64,
) -> Result<(FloatHistogram, Mended), MixedBuckets> {
    let mut sum = left.clone();
    let mended = add_signed(&mut sum, right, sign)?;
    sum.compact();
    Ok((sum, mended))
}

/// Multiplies every count and the sum. A negative factor makes it a gauge.
pub(crate) fn scale(histogram: &mut FloatHistogram, factor: f64) {
    change(histogram, |v| v * factor);
    if factor < 0.0 {
        histogram.hint = ResetHint::Gauge;
    }
}

/// Divides every count and the sum. By zero, no buckets are left; a negative divisor makes it a gauge.
pub(crate) fn divide(histogram: &mut FloatHistogram, divisor: f64) {
    if divisor == 0.0 {
        (histogram.positive, histogram.negative) = (Buckets::default(), Buckets::default());
    }
    change(histogram, |v| v / divisor);
    if divisor < 0.0 {
        histogram.hint = ResetHint::Gauge;
    }
}

fn change(histogram: &mut FloatHistogram, to: impl Fn(f64) -> f64) {
    let Histogram { zero_count, count, sum, positive, negative, .. } = histogram;
    let totals = [zero_count, count, sum];
    let buckets = positive.counts_mut().iter_mut().chain(negative.counts_mut());
    totals.into_iter().chain(buckets).for_each(|v| *v = to(*v));
}

/// Adds `sign * right` to `left`. Empty buckets may be left over.
pub(super) fn add_signed<N: Cell>(
    left: &mut Histogram<N, N>,
    right: &FloatHistogram,
    sign: f64,
) -> Result<Mended, MixedBuckets> {
    if left.is_custom() != right.is_custom() {
        return Err(MixedBuckets);
    }
    let mut mended = Mended::default();
    (left.hint, mended.conflicting_resets) = common_hint(left.hint, right.hint);
    left.count.add(sign * right.count);
    left.sum.add(sign * right.sum);
    if left.is_custom() {
        if left.custom_bounds == right.custom_bounds {
            merge_into(&mut left.positive, &right.positive, sign);
        } else {
            mended.reconciled_bounds = true;
            add_between_shared_bounds(left, right, sign);
        }
        return Ok(mended);
    }
    let (inside_left, inside_right) = common_zero_bucket(left, right);
    swallow(left, &inside_left);
    left.zero_count.add(sign * right.zero_count);
    let by = left.schema.abs_diff(right.schema);
    let is_finer = right.schema > left.schema;
    left.reduce_to(right.schema);
    let sides = [
        (&mut left.positive, &right.positive, inside_right.positive),
        (&mut left.negative, &right.negative, inside_right.negative),
    ];
    for (mine, theirs, inside) in sides {
        theirs.counts().iter().take(inside).for_each(|c| left.zero_count.add(sign * c));
        let theirs = match inside {
            0 => Cow::Borrowed(theirs),
            _ => Cow::Owned(theirs.clone().without_first(inside)),
        };
        if is_finer {
            let lifted = theirs.map(|count| {
                let mut cell = N::default();
                cell.add(sign * count);
                cell
            });
            let sum = |a: Option<N>, b: Option<N>| a.unwrap_or_default().plus(b.unwrap_or_default());
            *mine = mine.merge(&lifted.reduced(by), sum);
        } else {
            merge_into(mine, &theirs, sign);
        }
    }
    Ok(mended)
}

fn merge_into<N: Cell>(mine: &mut Buckets<N>, theirs: &Buckets<f64>, sign: f64) {
    if mine.spans() == theirs.spans() {
        let counts = mine.counts_mut().iter_mut().zip(theirs.counts());
        counts.for_each(|(mine, theirs)| mine.add(sign * theirs));
        return;
    }
    *mine = mine.merge(theirs, |mine, theirs| {
        let mut sum = mine.unwrap_or_default();
        if let Some(theirs) = theirs {
            sum.add(sign * theirs);
        }
        sum
    });
}

/// Widens the zero bucket of `left` over what is `inside`.
fn swallow<N: Cell>(left: &mut Histogram<N, N>, inside: &Swallowed) {
    for (buckets, count) in [(&mut left.positive, inside.positive), (&mut left.negative, inside.negative)] {
        if count > 0 {
            let swallowed = buckets.counts().iter().take(count);
            left.zero_count = swallowed.fold(left.zero_count, |sum, c| sum.plus(*c));
            *buckets = std::mem::take(buckets).without_first(count);
        }
    }
    left.zero_threshold = inside.threshold;
}

/// The narrowest zero bucket that covers both and cuts no populated bucket of either.
fn common_zero_bucket<N: Cell>(left: &Histogram<N, N>, right: &FloatHistogram) -> (Swallowed, Swallowed) {
    fn within<M: BucketCount, S>(histogram: &Histogram<M, S>, threshold: f64) -> Swallowed {
        if threshold > histogram.zero_threshold {
            swallowed(&histogram.positive, &histogram.negative, histogram.schema, threshold)
        } else {
            Swallowed { threshold, positive: 0, negative: 0 }
        }
    }
    let mut threshold = left.zero_threshold.max(right.zero_threshold);
    loop {
        let mine = within(left, threshold);
        let theirs = within(right, mine.threshold);
        // The threshold only grows, from bucket to bucket.
        if theirs.threshold > mine.threshold {
            threshold = theirs.threshold;
        } else {
            return (mine, theirs);
        }
    }
}

fn add_between_shared_bounds<N: Cell>(left: &mut Histogram<N, N>, right: &FloatHistogram, sign: f64) {
    let shared = intersect_bounds(&left.custom_bounds, &right.custom_bounds);
    let mut counts = vec![N::default(); shared.len() + 1];
    onto_bounds(&left.positive, &left.custom_bounds, &shared, |at, count| {
        if let Some(cell) = counts.get_mut(at) {
            *cell = cell.plus(count);
        }
    });
    onto_bounds(&right.positive, &right.custom_bounds, &shared, |at, count| {
        if let Some(cell) = counts.get_mut(at) {
            cell.add(sign * count);
        }
    });
    let populated = (0..).zip(counts).filter(|(_, count)| !count.is_zero());
    left.positive = populated.collect();
    left.custom_bounds = shared.into();
}

/// The hint of a sum, and whether the hints contradict each other.
fn common_hint(left: ResetHint, right: ResetHint) -> (ResetHint, bool) {
    match (left, right) {
        (a, b) if a == b => (a, false),
        (ResetHint::Gauge, _) | (_, ResetHint::Gauge) => (ResetHint::Gauge, false),
        (ResetHint::Unknown, _) | (_, ResetHint::Unknown) => (ResetHint::Unknown, false),
        _ => (ResetHint::Unknown, true),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use kymo_storage::model::{CUSTOM_SCHEMA, exponential_bound};
    use proptest::prelude::*;

    /// A histogram whose totals are those of its buckets.
    pub(crate) fn exponential(schema: i32, zero: (f64, f64), offset: i32, counts: &[f64]) -> FloatHistogram {
        let mut histogram = FloatHistogram {
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count: zero.1 + counts.iter().sum::<f64>(),
            positive: Buckets::run(offset, counts.to_vec()).unwrap(),
            ..FloatHistogram::default()
        };
        histogram.compact();
        histogram
    }

    pub(crate) fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
        FloatHistogram { custom_bounds: bounds.into(), ..exponential(CUSTOM_SCHEMA, (0.0, 0.0), 0, counts) }
    }

    pub(crate) fn any_histogram() -> impl Strategy<Value = FloatHistogram> {
        let side = || (-12_i32..12, proptest::collection::vec(0_u32..4, 0..12));
        let exponential = (-2_i32..4, 0_usize..4, 0_u32..5, side(), side(), -50_i32..50).prop_map(
            |(schema, threshold, zero, positive, negative, sum)| {
                let counts = |c: Vec<u32>| c.into_iter().map(f64::from).collect::<Vec<_>>();
                let mut histogram = FloatHistogram {
                    schema,
                    zero_threshold: [0.0, 0.001, 0.5, 1.3][threshold],
                    zero_count: f64::from(zero),
                    sum: f64::from(sum),
                    positive: Buckets::run(positive.0, counts(positive.1)).unwrap(),
                    negative: Buckets::run(negative.0, counts(negative.1)).unwrap(),
                    ..FloatHistogram::default()
                };
                // No bucket lies within the zero bucket.
                for side in [&mut histogram.positive, &mut histogram.negative] {
                    let outside =
                        side.iter().filter(|b| exponential_bound(b.0, schema) > histogram.zero_threshold);
                    *side = outside.collect();
                }
                histogram.count = total(&histogram);
                histogram.compact();
                histogram
            },
        );
        let custom = proptest::collection::vec((0_u32..8, 0_u32..5), 1..6).prop_map(|parts| {
            let mut bound = 0.0;
            let bounds: Vec<f64> = parts[1..]
                .iter()
                .map(|p| {
                    bound += f64::from(p.0) + 1.0;
                    bound
                })
                .collect();
            let counts: Vec<f64> = parts.iter().map(|p| f64::from(p.1)).collect();
            custom(&bounds, &counts)
        });
        prop_oneof![3 => exponential, 1 => custom]
    }

    pub(crate) fn total(histogram: &FloatHistogram) -> f64 {
        let buckets = histogram.positive.counts().iter().chain(histogram.negative.counts());
        histogram.zero_count + buckets.sum::<f64>()
    }

    #[test]
    fn sums_meet_in_what_both_have() {
        let cases = [
            (
                "same layout",
                exponential(0, (0.5, 1.0), 1, &[1.0, 2.0]),
                exponential(0, (0.5, 2.0), 1, &[3.0, 4.0]),
                exponential(0, (0.5, 3.0), 1, &[4.0, 6.0]),
            ),
            (
                "gaps",
                exponential(0, (0.0, 0.0), 0, &[1.0, 0.0, 2.0]),
                exponential(0, (0.0, 0.0), 1, &[5.0, 0.0, 6.0]),
                exponential(0, (0.0, 0.0), 0, &[1.0, 5.0, 2.0, 6.0]),
            ),
            (
                "resolution",
                exponential(1, (0.0, 0.0), 1, &[1.0, 2.0, 3.0]),
                exponential(0, (0.0, 0.0), 1, &[10.0]),
                exponential(0, (0.0, 0.0), 1, &[13.0, 3.0]),
            ),
            (
                "zero bucket",
                exponential(0, (0.5, 1.0), 0, &[2.0, 3.0, 4.0]),
                exponential(0, (1.0, 10.0), 1, &[20.0]),
                exponential(0, (1.0, 13.0), 1, &[23.0, 4.0]),
            ),
            (
                "cut bucket",
                exponential(0, (0.5, 1.0), 0, &[2.0, 3.0, 4.0]),
                exponential(0, (1.5, 10.0), 2, &[20.0]),
                exponential(0, (2.0, 16.0), 2, &[24.0]),
            ),
            (
                "both cut",
                exponential(0, (0.5, 1.0), 1, &[2.0, 1.0]),
                exponential(-1, (1.5, 10.0), 1, &[20.0]),
                exponential(-1, (4.0, 34.0), 0, &[]),
            ),
            (
                "bounds",
                custom(&[1.0, 2.0], &[1.0, 2.0, 3.0]),
                custom(&[1.0, 2.0], &[4.0, 5.0, 6.0]),
                custom(&[1.0, 2.0], &[5.0, 7.0, 9.0]),
            ),
            (
                "other bounds",
                custom(&[1.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]),
                custom(&[2.0, 4.0, 5.0], &[10.0, 20.0, 30.0, 40.0]),
                custom(&[2.0, 5.0], &[13.0, 53.0, 44.0]),
            ),
            (
                "no shared bound",
                custom(&[1.0], &[1.0, 2.0]),
                custom(&[2.0], &[3.0, 4.0]),
                custom(&[], &[10.0]),
            ),
        ];
        for (name, left, right, expected) in cases {
            for (a, b) in [(&left, &right), (&right, &left)] {
                let (sum, mended) = add(a, b).unwrap();
                assert!(
                    sum.is_equal(&expected),
                    "{name}: {sum} of threshold {} is not {expected}",
                    sum.zero_threshold
                );
                assert_eq!(mended.reconciled_bounds, left.custom_bounds != right.custom_bounds);
            }
        }
        assert_eq!(add(&custom(&[], &[1.0]), &exponential(0, (0.0, 0.0), 0, &[])), Err(MixedBuckets));
    }

    #[test]
    fn hints_of_sums() {
        use ResetHint::{Gauge, NotReset, Reset, Unknown};
        let cases = [
            (Unknown, Unknown, Unknown, false),
            (Reset, Reset, Reset, false),
            (Reset, NotReset, Unknown, true),
            (NotReset, Unknown, Unknown, false),
            (Gauge, Reset, Gauge, false),
            (NotReset, Gauge, Gauge, false),
        ];
        for (a, b, hint, conflict) in cases {
            assert_eq!(common_hint(a, b), (hint, conflict));
            assert_eq!(common_hint(b, a), (hint, conflict));
        }
    }

    #[test]
    fn multiples() {
        let base = || FloatHistogram { sum: 8.0, ..exponential(0, (0.5, 1.0), 1, &[1.0, 2.0]) };
        let mut half = base();
        scale(&mut half, 0.5);
        assert_eq!(half.to_string(), "{count:2, sum:4, [-0.5,0.5]:0.5, (1,2]:0.5, (2,4]:1}");
        divide(&mut half, -0.5);
        assert_eq!(half.to_string(), "{count:-4, sum:-8, [-0.5,0.5]:-1, (1,2]:-1, (2,4]:-2}");
        assert_eq!(half.hint, ResetHint::Gauge);
        let mut none = base();
        divide(&mut none, 0.0);
        assert!(none.positive.is_empty() && none.count == f64::INFINITY && none.sum == f64::INFINITY);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, max_global_rejects: 100_000, ..ProptestConfig::default() })]

        #[test]
        fn sums_do_not_depend_on_order(a in any_histogram(), b in any_histogram(), c in any_histogram()) {
            prop_assume!(a.is_custom() == b.is_custom() && b.is_custom() == c.is_custom());
            let sum = |a: &FloatHistogram, b: &FloatHistogram| add(a, b).unwrap().0;
            prop_assert!(sum(&a, &b).is_equal(&sum(&b, &a)));
            let (left, right) = (sum(&sum(&a, &b), &c), sum(&a, &sum(&b, &c)));
            prop_assert_eq!(left.count, right.count);
            prop_assert_eq!(total(&left), left.count);
            prop_assert_eq!(left.schema, right.schema);
            prop_assert!(sum(&a, &b).validate().is_ok());
        }

        #[test]
        fn what_is_added_can_be_taken_away(a in any_histogram(), b in any_histogram()) {
            prop_assume!(a.is_custom() == b.is_custom());
            let (sum, _) = add(&a, &b).unwrap();
            let (back, _) = subtract(&sum, &b).unwrap();
            // What is left is `a` at the resolution of the sum.
            let nothing = FloatHistogram {
                schema: sum.schema,
                zero_threshold: sum.zero_threshold,
                custom_bounds: sum.custom_bounds.clone(),
                ..FloatHistogram::default()
            };
            let (coarse, _) = add(&nothing, &a).unwrap();
            prop_assert!(back.is_equal(&coarse), "{back} is not {coarse}");
            prop_assert!(!sum.is_reset_after(&a) || sum.custom_bounds != a.custom_bounds || sum.schema != a.schema);
        }
    }
}

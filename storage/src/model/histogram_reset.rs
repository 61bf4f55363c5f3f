//! Whether a histogram counts on from the one before it, and what a wider zero bucket swallows.

use super::{
    BucketCount, Buckets, FloatHistogram, ResetHint, exponential_bound, intersect_bounds, onto_bounds,
};
use std::borrow::Cow;

/// What a zero bucket of some width covers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Swallowed {
    /// Its width: as asked, or larger, so that no populated bucket is cut.
    pub threshold: f64,
    /// How many of the first buckets above zero are inside.
    pub positive: usize,
    /// How many of the first buckets below zero are inside.
    pub negative: usize,
}

/// Which exponential buckets a zero bucket of at least `threshold` swallows. A populated bucket that the threshold would cut
/// is swallowed whole, which makes the threshold larger.
pub fn swallowed<N: BucketCount>(
    positive: &Buckets<N>,
    negative: &Buckets<N>,
    schema: i32,
    threshold: f64,
) -> Swallowed {
    let mut threshold = threshold;
    loop {
        let asked = threshold;
        let mut inside = |buckets: &Buckets<N>| {
            let mut inside = 0;
            for (position, count) in buckets {
                if exponential_bound(position.wrapping_sub(1), schema) >= threshold {
                    break;
                }
                inside += 1;
                let upper = exponential_bound(position, schema);
                if upper > threshold {
                    if !count.is_zero() {
                        threshold = upper;
                    }
                    break;
                }
            }
            inside
        };
        let (positive, negative) = (inside(positive), inside(negative));
        // A threshold widened by one side may swallow more of the other; it only grows, so this ends.
        if threshold.total_cmp(&asked).is_eq() {
            return Swallowed { threshold, positive, negative };
        }
    }
}

impl FloatHistogram {
    /// Threshold and count of the zero bucket if it were at least `threshold` wide (it is not made narrower).
    pub fn zero_bucket_of(&self, threshold: f64) -> (f64, f64) {
        if threshold <= self.zero_threshold || threshold.is_nan() {
            return (self.zero_threshold, self.zero_count);
        }
        let swallowed = swallowed(&self.positive, &self.negative, self.schema, threshold);
        let positive = self.positive.counts().iter().take(swallowed.positive);
        let negative = self.negative.counts().iter().take(swallowed.negative);
        (swallowed.threshold, positive.chain(negative).fold(self.zero_count, |sum, c| sum + c))
    }

    /// Whether this histogram does not count on from `previous`, by its hint if it has one, else by comparison: a count fell,
    /// a populated bucket vanished, or the buckets became finer.
    pub fn is_reset_after(&self, previous: &Self) -> bool {
        match self.hint {
            ResetHint::Reset => true,
            ResetHint::NotReset => false,
            // Nothing keeps users from taking the rate of a gauge; it is then read as a counter.
            ResetHint::Unknown | ResetHint::Gauge => self.has_fallen_from(previous),
        }
    }

    /// As [`FloatHistogram::is_reset_after`], by comparison whatever the hint.
    pub fn has_fallen_from(&self, previous: &Self) -> bool {
        if self.count < previous.count {
            return true;
        }
        if self.is_custom() {
            if !previous.is_custom() {
                return true;
            }
            if self.custom_bounds != previous.custom_bounds {
                return self.has_fallen_between_shared_bounds(previous);
            }
        }
        if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
            return true;
        }
        let (threshold, zero_count) = previous.zero_bucket_of(self.zero_threshold);
        if threshold != self.zero_threshold || self.zero_count < zero_count {
            return true;
        }
        let by = self.schema.abs_diff(previous.schema);
        let reduced = |buckets| {
            if by == 0 { Cow::Borrowed(buckets) } else { Cow::Owned(Buckets::reduced(buckets, by)) }
        };
        self.has_fallen_bucket(&self.positive, &reduced(&previous.positive))
            || self.has_fallen_bucket(&self.negative, &reduced(&previous.negative))
    }

    /// Whether a bucket outside the zero bucket holds less than in `previous`.
    fn has_fallen_bucket(&self, current: &Buckets<f64>, previous: &Buckets<f64>) -> bool {
        let mut current = current.iter().peekable();
        for (position, before) in previous {
            let hidden = !self.is_custom()
                && self.zero_threshold > 0.0
                && exponential_bound(position, self.schema) <= self.zero_threshold;
            if hidden {
                continue;
            }
            while current.next_if(|c| c.0 < position).is_some() {}
            let fallen = match current.next_if(|c| c.0 == position) {
                Some((_, now)) => now < before,
                None => before != 0.0,
            };
            if fallen {
                return true;
            }
        }
        false
    }

    fn has_fallen_between_shared_bounds(&self, previous: &Self) -> bool {
        let shared = intersect_bounds(&self.custom_bounds, &previous.custom_bounds);
        let between = |histogram: &Self| {
            let mut counts = vec![0.0; shared.len() + 1];
            onto_bounds(&histogram.positive, &histogram.custom_bounds, &shared, |at, count| {
                if let Some(sum) = counts.get_mut(at) {
                    *sum += count;
                }
            });
            counts
        };
        between(self).iter().zip(between(previous)).any(|(now, before)| *now < before)
    }

    /// The hint with which this histogram is stored after `previous`, the sample before it in its series: a gauge stays one,
    /// and a counter that counts on is told so, which spares readers the comparison. Of everything else nothing is told, as
    /// Prometheus does: samples may arrive in between later, and a reset is then another one.
    pub fn hint_after(&self, previous: Option<&Self>) -> ResetHint {
        if self.hint == ResetHint::Gauge {
            return ResetHint::Gauge;
        }
        let counts_on = |previous: &Self| {
            previous.hint != ResetHint::Gauge
                && self.hint != ResetHint::Reset
                && !previous.is_stale()
                && !self.is_stale()
                && self.schema == previous.schema
                && self.zero_threshold == previous.zero_threshold
                && self.custom_bounds == previous.custom_bounds
                && !self.has_fallen_from(previous)
        };
        if previous.is_some_and(counts_on) { ResetHint::NotReset } else { ResetHint::Unknown }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CUSTOM_SCHEMA, Histogram};

    fn exponential(schema: i32, threshold: f64, zero: f64, offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            zero_threshold: threshold,
            zero_count: zero,
            count: zero + counts.iter().sum::<f64>(),
            positive: Buckets::run(offset, counts.to_vec()).unwrap(),
            ..Histogram::default()
        }
    }

    fn custom(bounds: &[f64], counts: &[f64]) -> FloatHistogram {
        FloatHistogram { custom_bounds: bounds.into(), ..exponential(CUSTOM_SCHEMA, 0.0, 0.0, 0, counts) }
    }

    fn hinted(hint: ResetHint, histogram: FloatHistogram) -> FloatHistogram {
        FloatHistogram { hint, ..histogram }
    }

    #[test]
    fn resets_are_found_by_comparison() {
        let base = || exponential(1, 0.5, 2.0, 1, &[1.0, 0.0, 3.0]);
        let cases = [
            ("the same", base(), base(), false),
            ("more", exponential(1, 0.5, 3.0, 0, &[1.0, 1.0, 0.0, 3.0, 9.0]), base(), false),
            ("fewer in all", exponential(1, 0.5, 2.0, 1, &[1.0, 0.0, 2.0]), base(), true),
            ("fewer in one", exponential(1, 0.5, 9.0, 1, &[0.0, 0.0, 3.0]), base(), true),
            ("a bucket vanished", exponential(1, 0.5, 9.0, 1, &[1.0]), base(), true),
            ("an empty bucket vanished", base(), exponential(1, 0.5, 2.0, 1, &[1.0, 0.0, 3.0, 0.0]), false),
            ("fewer near zero", exponential(1, 0.5, 1.0, 1, &[9.0, 0.0, 3.0]), base(), true),
            ("finer", exponential(2, 0.5, 9.0, 1, &[9.0, 0.0, 9.0]), base(), true),
            ("coarser", exponential(0, 0.5, 2.0, 1, &[1.0, 3.0]), base(), false),
            ("coarser and fewer", exponential(0, 0.5, 2.0, 1, &[0.0, 4.0]), base(), true),
            ("narrower", exponential(1, 0.25, 2.0, 1, &[1.0, 0.0, 3.0]), base(), true),
            ("wider", exponential(1, 2f64.sqrt().next_down(), 3.0, 3, &[3.0]), base(), false),
            ("wider, losing", exponential(1, 2f64.sqrt().next_down(), 2.0, 3, &[4.0]), base(), true),
            ("cutting a bucket", exponential(1, 1.2, 3.0, 3, &[3.0]), base(), true),
            ("to custom", custom(&[1.0], &[9.0]), base(), true),
            ("from custom", base(), custom(&[1.0], &[1.0]), true),
            ("other bounds", custom(&[1.0, 2.0], &[1.0, 2.0, 3.0]), custom(&[2.0], &[3.0, 3.0]), false),
            ("other bounds, fewer", custom(&[1.0, 2.0], &[1.0, 1.0, 9.0]), custom(&[2.0], &[3.0, 3.0]), true),
            ("it says so", hinted(ResetHint::Reset, base()), base(), true),
            ("it denies", hinted(ResetHint::NotReset, exponential(1, 0.5, 0.0, 0, &[])), base(), false),
            ("a gauge", hinted(ResetHint::Gauge, exponential(1, 0.5, 0.0, 0, &[])), base(), true),
        ];
        for (name, current, previous, expected) in cases {
            assert_eq!(current.is_reset_after(&previous), expected, "{name}");
        }
    }

    #[test]
    fn hints_say_what_a_comparison_would() {
        let few = || exponential(0, 0.0, 0.0, 1, &[1.0]);
        let more = || exponential(0, 0.0, 0.0, 1, &[2.0]);
        let cases = [
            ("the first", more(), None, ResetHint::Unknown),
            ("the first, claiming", hinted(ResetHint::NotReset, more()), None, ResetHint::Unknown),
            ("reset", hinted(ResetHint::Reset, more()), Some(few()), ResetHint::Unknown),
            ("more", more(), Some(few()), ResetHint::NotReset),
            ("fewer", few(), Some(more()), ResetHint::Unknown),
            ("fewer, claiming", hinted(ResetHint::NotReset, few()), Some(more()), ResetHint::Unknown),
            ("a gauge", hinted(ResetHint::Gauge, few()), Some(more()), ResetHint::Gauge),
            ("after a gauge", few(), Some(hinted(ResetHint::Gauge, more())), ResetHint::Unknown),
            ("after the end", more(), Some(Histogram::stale()), ResetHint::Unknown),
            ("another schema", exponential(1, 0.0, 0.0, 1, &[2.0]), Some(few()), ResetHint::Unknown),
            ("other bounds", custom(&[1.0], &[2.0]), Some(custom(&[2.0], &[1.0])), ResetHint::Unknown),
        ];
        for (name, current, previous, expected) in cases {
            assert_eq!(current.hint_after(previous.as_ref()), expected, "{name}");
        }
    }

    #[test]
    fn a_wider_zero_bucket_swallows_whole_buckets() {
        let histogram = FloatHistogram {
            negative: Buckets::run(1, vec![5.0, 0.0, 7.0]).unwrap(),
            ..exponential(0, 0.5, 2.0, 0, &[1.0, 2.0, 3.0])
        };
        // Buckets above zero: (0.5,1] (1,2] (2,4]; below: [-2,-1) [-4,-2) [-8,-4).
        let cases = [
            (0.1, (0.5, 2.0)),
            (0.5, (0.5, 2.0)),
            (1.0, (1.0, 3.0)),
            (0.75, (1.0, 3.0)),
            (1.5, (2.0, 10.0)),
            (2.5, (4.0, 13.0)),
            (5.0, (8.0, 20.0)),
            (100.0, (100.0, 20.0)),
            (f64::INFINITY, (f64::INFINITY, 20.0)),
        ];
        for (asked, expected) in cases {
            assert_eq!(histogram.zero_bucket_of(asked), expected, "{asked}");
        }
    }
}

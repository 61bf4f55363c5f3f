//! What a native histogram from outside must fulfil.

use super::histogram::{EXPONENTIAL_SCHEMAS, Histogram};
use super::{BUCKETS_MAX, BucketCount, FloatHistogram, HistogramError, IntHistogram};

/// The counts of a row of buckets that come as differences: the first from 0, each from the one before.
///
/// # Errors
/// A count would be negative, or larger than an `i64`.
pub fn counts_from_deltas(deltas: &[i64]) -> Result<Vec<u64>, HistogramError> {
    let mut count = 0_i64;
    let counts = deltas.iter().enumerate().map(|(index, delta)| {
        count = count.checked_add(*delta).ok_or(HistogramError::BucketOverflow { bucket: index + 1 })?;
        u64::try_from(count).map_err(|_| HistogramError::NegativeBucket { bucket: index + 1 })
    });
    counts.collect()
}

impl<N: BucketCount, S> Histogram<N, S> {
    fn check_layout(&self) -> Result<(), HistogramError> {
        if self.zero_threshold.is_nan() || self.zero_threshold < 0.0 {
            return Err(HistogramError::ZeroThreshold { threshold: self.zero_threshold });
        }
        if EXPONENTIAL_SCHEMAS.contains(&self.schema) {
            return if self.custom_bounds.is_empty() {
                Ok(())
            } else {
                Err(HistogramError::UnexpectedCustomBounds)
            };
        }
        if !self.is_custom() {
            return Err(HistogramError::UnknownSchema { schema: self.schema });
        }
        check_custom_bounds(&self.custom_bounds)?;
        let ends = [self.positive.iter().next(), self.positive.iter().next_back()];
        for position in ends.into_iter().flatten().map(|b| b.0) {
            let fits = usize::try_from(position).is_ok_and(|p| p <= self.custom_bounds.len());
            if !fits {
                return Err(HistogramError::CustomBoundsTooFew {
                    bounds: self.custom_bounds.len(),
                    position,
                });
            }
        }
        if !self.zero_count.is_zero() || self.zero_threshold != 0.0 {
            return Err(HistogramError::CustomZeroBucket);
        }
        if !self.negative.is_empty() {
            return Err(HistogramError::CustomNegativeBuckets);
        }
        Ok(())
    }
}

fn check_custom_bounds(bounds: &[f64]) -> Result<(), HistogramError> {
    if bounds.len() > BUCKETS_MAX {
        return Err(HistogramError::TooManyCustomBounds { met: bounds.len() });
    }
    if bounds.iter().any(|b| b.is_nan()) {
        return Err(HistogramError::CustomBoundNan);
    }
    if let Some(pair) = bounds.windows(2).find(|w| w[1] <= w[0]) {
        return Err(HistogramError::CustomBoundsOrder { previous: pair[0], current: pair[1] });
    }
    match bounds.last() {
        Some(last) if *last == f64::INFINITY => Err(HistogramError::CustomBoundInfinite),
        _ => Ok(()),
    }
}

impl IntHistogram {
    /// Checks that its parts agree: the layout, and that the buckets hold all observations.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), HistogramError> {
        self.check_layout()?;
        let all = self.positive.counts().iter().chain(self.negative.counts());
        let buckets = all.map(|c| u128::from(*c)).sum::<u128>() + u128::from(self.zero_count);
        let count = u128::from(self.count);
        // Observations of NaN make the sum NaN and are in no bucket.
        let agrees = if self.sum.is_nan() { buckets <= count } else { buckets == count };
        if agrees { Ok(()) } else { Err(HistogramError::CountMismatch { count: self.count, buckets }) }
    }
}

impl FloatHistogram {
    /// Checks that its parts agree: the layout, and that no count is negative. Whether the buckets hold all observations is
    /// not asked: rounding may part them.
    ///
    /// # Errors
    /// The first thing found wrong.
    pub fn validate(&self) -> Result<(), HistogramError> {
        self.check_layout()?;
        if self.zero_count < 0.0 {
            return Err(HistogramError::NegativeZeroCount);
        }
        if self.count < 0.0 {
            return Err(HistogramError::NegativeCount);
        }
        for (side, buckets) in [("positive", &self.positive), ("negative", &self.negative)] {
            if let Some(index) = buckets.counts().iter().position(|c| *c < 0.0) {
                return Err(HistogramError::NegativeBucket { bucket: index + 1 }.on(side));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Buckets, CUSTOM_SCHEMA};

    fn ints(schema: i32, count: u64, positive: &[u64]) -> IntHistogram {
        let positive = Buckets::run(0, positive.to_vec()).unwrap();
        IntHistogram { schema, count, positive, ..Histogram::default() }
    }

    #[test]
    fn parts_that_disagree_are_refused() {
        let custom = |bounds: &[f64], count, positive: &[u64]| IntHistogram {
            custom_bounds: bounds.into(),
            ..ints(CUSTOM_SCHEMA, count, positive)
        };
        let cases: [(&str, IntHistogram, &str); 16] = [
            ("good", ints(0, 3, &[1, 2]), ""),
            ("good with NaN", IntHistogram { sum: f64::NAN, ..ints(0, 4, &[1, 2]) }, ""),
            ("custom", custom(&[1.0], 3, &[1, 2]), ""),
            ("custom without bounds", custom(&[], 3, &[3]), ""),
            ("schema", ints(9, 3, &[1, 2]), "histogram has schema 9"),
            ("low schema", ints(-5, 3, &[1, 2]), "histogram has schema -5"),
            ("too many", ints(0, 2, &[1, 2]), "histogram counts 2 observations, but its buckets hold 3"),
            ("too few", ints(0, 4, &[1, 2]), "histogram counts 4 observations, but its buckets hold 3"),
            ("overflow", ints(0, 0, &[u64::MAX, 1]), "histogram counts 0 observations"),
            ("threshold", IntHistogram { zero_threshold: f64::NAN, ..ints(0, 0, &[]) }, "the zero bucket"),
            (
                "bounds",
                IntHistogram { custom_bounds: [1.0].into(), ..ints(0, 0, &[]) },
                "histogram with exponential",
            ),
            ("order", custom(&[1.0, 1.0], 0, &[]), "histogram custom bounds must increase, but 1 follows 1"),
            ("NaN", custom(&[f64::NAN], 0, &[]), "histogram custom bounds must not be NaN"),
            ("infinite", custom(&[f64::INFINITY], 0, &[]), "the last custom bound"),
            (
                "beyond",
                custom(&[1.0], 3, &[1, 1, 1]),
                "histogram has 1 custom bounds, too few for a bucket at position 2",
            ),
            (
                "zero",
                IntHistogram { zero_count: 1, ..custom(&[1.0], 1, &[]) },
                "histogram with custom buckets must not",
            ),
        ];
        for (name, histogram, expected) in cases {
            match histogram.validate() {
                Ok(()) => assert_eq!(expected, "", "{name}"),
                Err(e) => assert!(!expected.is_empty() && e.to_string().starts_with(expected), "{name}: {e}"),
            }
        }
        let below = Buckets::run(-1, vec![1.0]).unwrap();
        let floats = |change: fn(&mut FloatHistogram)| {
            let mut histogram = ints(0, 3, &[1, 2]).to_float();
            change(&mut histogram);
            histogram.validate().map_err(|e| e.to_string())
        };
        assert_eq!(floats(|_| ()), Ok(()));
        assert_eq!(floats(|h| h.count = 99.5), Ok(()));
        assert!(floats(|h| h.count = -1.0).is_err());
        assert!(floats(|h| h.zero_count = -1.0).is_err());
        assert_eq!(
            floats(|h| h.negative = Buckets::run(0, vec![0.0, -1.0]).unwrap()).unwrap_err(),
            "negative side: histogram bucket number 2 has a negative number of observations"
        );
        let custom = FloatHistogram { positive: below, ..custom(&[1.0], 1, &[]).to_float() };
        assert!(matches!(custom.validate(), Err(HistogramError::CustomBoundsTooFew { position: -1, .. })));
    }

    #[test]
    fn differences_become_counts() {
        assert_eq!(counts_from_deltas(&[3, -2, 0, 5]), Ok(vec![3, 1, 1, 6]));
        assert_eq!(counts_from_deltas(&[3, -4]), Err(HistogramError::NegativeBucket { bucket: 2 }));
        assert_eq!(counts_from_deltas(&[i64::MAX, 1]), Err(HistogramError::BucketOverflow { bucket: 2 }));
        assert_eq!(counts_from_deltas(&[i64::MIN]), Err(HistogramError::NegativeBucket { bucket: 1 }));
    }
}

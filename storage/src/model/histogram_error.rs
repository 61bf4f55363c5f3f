//! Why a native histogram is refused.

use super::{BUCKETS_MAX, POSITION_MAX};

/// What is wrong with a histogram from outside. It can never be accepted as it is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HistogramError {
    /// Neither exponential nor custom.
    #[error(
        "histogram has schema {schema}: it must be between -4 and 52 for exponential buckets, or -53 for custom buckets"
    )]
    UnknownSchema {
        /// The schema met.
        schema: i32,
    },
    /// More buckets or runs of buckets than are ever accepted.
    #[error("histogram has {met} buckets on one side, the most are {BUCKETS_MAX}")]
    TooManyBuckets {
        /// How many.
        met: usize,
    },
    /// The runs describe more or fewer buckets than there are counts.
    #[error("histogram spans need {needed} buckets, but there are {met}")]
    SpansMismatch {
        /// Buckets in the runs.
        needed: u64,
        /// Counts given.
        met: usize,
    },
    /// A run begins before the end of the one before.
    #[error("histogram span number {span} has offset {offset}, only the first may be negative")]
    NegativeOffset {
        /// Which, from 1 on.
        span: usize,
        /// Its offset.
        offset: i32,
    },
    /// A bucket lies beyond every number.
    #[error("histogram span number {span} reaches a bucket beyond position {POSITION_MAX}")]
    PositionOutOfRange {
        /// Which, from 1 on.
        span: usize,
    },
    /// A bucket holds fewer than no observations.
    #[error("histogram bucket number {bucket} has a negative number of observations")]
    NegativeBucket {
        /// Which, from 1 on.
        bucket: usize,
    },
    /// The differences between buckets add up to more than any counter holds.
    #[error("histogram bucket number {bucket} has more observations than a counter can hold")]
    BucketOverflow {
        /// Which, from 1 on.
        bucket: usize,
    },
    /// Fewer than no observations in all.
    #[error("histogram has a negative number of observations")]
    NegativeCount,
    /// Fewer than no observations near zero.
    #[error("the zero bucket of the histogram has a negative number of observations")]
    NegativeZeroCount,
    /// The zero bucket ends below zero, or nowhere.
    #[error("the zero bucket of the histogram has threshold {threshold}: it must be zero or larger")]
    ZeroThreshold {
        /// The threshold met.
        threshold: f64,
    },
    /// The observations in the buckets are not all observations (and none was NaN).
    #[error("histogram counts {count} observations, but its buckets hold {buckets}")]
    CountMismatch {
        /// What it says.
        count: u64,
        /// What is in the buckets.
        buckets: u128,
    },
    /// A bound between custom buckets is no number.
    #[error("histogram custom bounds must not be NaN")]
    CustomBoundNan,
    /// The last bucket of custom bounds is without end anyway.
    #[error(
        "the last custom bound of the histogram must be finite: the bucket up to infinity needs no bound"
    )]
    CustomBoundInfinite,
    /// Custom bounds do not increase.
    #[error("histogram custom bounds must increase, but {current} follows {previous}")]
    CustomBoundsOrder {
        /// The bound before.
        previous: f64,
        /// The bound met.
        current: f64,
    },
    /// A bucket beyond the custom bounds, or before the first.
    #[error("histogram has {bounds} custom bounds, too few for a bucket at position {position}")]
    CustomBoundsTooFew {
        /// How many bounds.
        bounds: usize,
        /// The position of a bucket.
        position: i32,
    },
    /// Too many custom bounds.
    #[error("histogram has {met} custom bounds, the most are {BUCKETS_MAX}")]
    TooManyCustomBounds {
        /// How many.
        met: usize,
    },
    /// Custom buckets know no zero bucket.
    #[error("histogram with custom buckets must not have a zero bucket")]
    CustomZeroBucket,
    /// Custom buckets reach below zero by their bounds alone.
    #[error("histogram with custom buckets must not have negative buckets")]
    CustomNegativeBuckets,
    /// Custom bounds for exponential buckets.
    #[error("histogram with exponential buckets must not have custom bounds")]
    UnexpectedCustomBounds,
    /// In which part it is wrong.
    #[error("{side} side: {source}")]
    Side {
        /// `positive` or `negative`.
        side: &'static str,
        /// What is wrong there.
        source: Box<HistogramError>,
    },
}

impl HistogramError {
    /// The same error, found on one side of the histogram.
    #[must_use]
    pub fn on(self, side: &'static str) -> Self {
        Self::Side { side, source: Box::new(self) }
    }
}

impl From<HistogramError> for crate::Error {
    fn from(error: HistogramError) -> Self {
        Self::invalid(error.to_string())
    }
}

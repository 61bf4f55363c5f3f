//! What users should know about a result computed from native histograms.

use crate::ast::BinaryOp;

/// The computation a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    /// As messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

/// What a sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SampleKind {
    Float,
    Histogram,
}

impl SampleKind {
    /// As messages name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Histogram => "histogram",
        }
    }
}

/// A warning or an info about histograms, still without place and metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HistogramNote {
    /// Exponential and custom buckets stand side by side; there is no result.
    MixedBuckets,
    /// As [`HistogramNote::MixedBuckets`], on the two sides of an operator.
    MixedOperands(BinaryOp),
    /// A counter function met a gauge.
    NotCounter,
    /// A gauge function met a counter.
    NotGauge,
    /// One histogram says it counts anew, another that it counts on.
    ConflictingResets(Operation),
    /// Custom bounds differ; the result has those in common.
    ReconciledBounds(Operation),
    /// A range holds floats and histograms; there is no result.
    MixedSamples,
    /// A group holds floats and histograms; there is no result.
    MixedGroup,
    /// Histograms of a range were passed over.
    IgnoredInRange,
    /// Histograms of a group were passed over by this aggregator.
    IgnoredInGroup(&'static str),
    /// An operator cannot combine samples of these kinds; there is no result.
    Incompatible {
        /// What stands on the left.
        left: SampleKind,
        /// The operator.
        op: BinaryOp,
        /// What stands on the right.
        right: SampleKind,
    },
    /// A sample claims to count since before the one before it, in so many windows. Not only of histograms.
    StartOverlap(u64),
    /// Classic buckets and a native histogram have the same labels; there is no result.
    MixedClassic,
    /// Observations of NaN are above every bucket, and the quantile is among them.
    QuantileIsNan,
    /// Observations of NaN count as the highest.
    QuantileIsSkewed,
    /// Observations of NaN are in no fraction.
    FractionWithoutNan,
}

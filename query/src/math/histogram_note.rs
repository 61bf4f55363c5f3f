//! What users should know about a result computed from native histograms.

use crate::annotations::{Annotations, with_metric};
use crate::ast::BinaryOp;
use crate::format::quote;
use crate::span::Span;

/// The computation a note is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
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
    /// Observations of NaN are above every bucket, and the quantile is among them.
    QuantileIsNan,
    /// Observations of NaN count as the highest.
    QuantileIsSkewed,
    /// Observations of NaN are in no fraction.
    FractionWithoutNan,
}

impl HistogramNote {
    /// Adds the note to those of a query: it is about `metric` (empty if unknown) at `span`.
    pub(crate) fn annotate(self, annotations: &mut Annotations, span: Span, metric: &str) {
        let name = || quote(metric.as_bytes());
        match self {
            Self::MixedBuckets => annotations.warn(span, format!("vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}", name())),
            Self::MixedOperands(op) => {
                annotations.warn(span, format!("incompatible bucket layout encountered for binary operator {op}"));
            }
            Self::NotCounter => annotations.warn(span, format!("this native histogram metric is not a counter: {}", name())),
            Self::NotGauge => annotations.warn(span, format!("this native histogram metric is not a gauge: {}", name())),
            Self::ConflictingResets(operation) => {
                annotations.warn(span, format!("conflicting counter resets during histogram {}", operation.name()));
            }
            Self::ReconciledBounds(operation) => {
                annotations.info(span, format!("mismatched custom buckets were reconciled during {}", operation.name()));
            }
            Self::QuantileIsNan => {
                let text = "input to histogram_quantile has NaN observations, result is NaN";
                annotations.info(span, with_metric(text, metric));
            }
            Self::QuantileIsSkewed => {
                let text = "input to histogram_quantile has NaN observations, result is skewed higher";
                annotations.info(span, with_metric(text, metric));
            }
            Self::FractionWithoutNan => {
                let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
                annotations.info(span, with_metric(text, metric));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_clients_know() {
        let cases = [
            (
                HistogramNote::MixedBuckets,
                "PromQL warning: vector contains a mix of histograms with exponential and custom buckets schemas for metric name \"m\" (1:1)",
            ),
            (
                HistogramNote::MixedOperands(BinaryOp::Add),
                "PromQL warning: incompatible bucket layout encountered for binary operator + (1:1)",
            ),
            (
                HistogramNote::NotCounter,
                "PromQL warning: this native histogram metric is not a counter: \"m\" (1:1)",
            ),
            (
                HistogramNote::NotGauge,
                "PromQL warning: this native histogram metric is not a gauge: \"m\" (1:1)",
            ),
            (
                HistogramNote::ConflictingResets(Operation::Addition),
                "PromQL warning: conflicting counter resets during histogram addition (1:1)",
            ),
            (
                HistogramNote::ReconciledBounds(Operation::Subtraction),
                "PromQL info: mismatched custom buckets were reconciled during subtraction (1:1)",
            ),
            (
                HistogramNote::ReconciledBounds(Operation::Aggregation),
                "PromQL info: mismatched custom buckets were reconciled during aggregation (1:1)",
            ),
            (
                HistogramNote::QuantileIsNan,
                "PromQL info: input to histogram_quantile has NaN observations, result is NaN for metric name \"m\" (1:1)",
            ),
            (
                HistogramNote::QuantileIsSkewed,
                "PromQL info: input to histogram_quantile has NaN observations, result is skewed higher for metric name \"m\" (1:1)",
            ),
            (
                HistogramNote::FractionWithoutNan,
                "PromQL info: input to histogram_fraction has NaN observations, which are excluded from all fractions for metric name \"m\" (1:1)",
            ),
        ];
        for (note, expected) in cases {
            let mut annotations = Annotations::default();
            note.annotate(&mut annotations, Span::new(0, 1), "m");
            let (warnings, infos) = annotations.into_texts("m");
            assert_eq!([warnings, infos].concat(), [expected]);
        }
    }
}

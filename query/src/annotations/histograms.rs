//! What is said of native histograms, in the words clients know.

use super::{Annotations, with_metric};
use crate::format::quote;
use crate::math::histogram_note::HistogramNote;
use crate::span::Span;

impl Annotations {
    /// Adds a note about histograms of `metric` (empty if unknown) at `span`.
    pub(crate) fn note(&mut self, note: HistogramNote, span: Span, metric: &str) {
        let name = || quote(metric.as_bytes());
        match note {
            HistogramNote::MixedBuckets => self.warn(span, format!("vector contains a mix of histograms with exponential and custom buckets schemas for metric name {}", name())),
            HistogramNote::MixedOperands(op) => {
                self.warn(span, format!("incompatible bucket layout encountered for binary operator {op}"));
            }
            HistogramNote::NotCounter => self.warn(span, format!("this native histogram metric is not a counter: {}", name())),
            HistogramNote::NotGauge => self.warn(span, format!("this native histogram metric is not a gauge: {}", name())),
            HistogramNote::ConflictingResets(operation) => {
                self.warn(span, format!("conflicting counter resets during histogram {}", operation.name()));
            }
            HistogramNote::ReconciledBounds(operation) => {
                self.info(span, format!("mismatched custom buckets were reconciled during {}", operation.name()));
            }
            HistogramNote::MixedSamples => self.warn(span, format!("encountered a mix of histograms and floats for metric name {}", name())),
            HistogramNote::MixedGroup => {
                self.warn(span, "encountered a mix of histograms and floats for aggregation".to_owned());
            }
            HistogramNote::IgnoredInRange => self.info(span, format!("ignored histograms in a range containing both floats and histograms for metric name {}", name())),
            HistogramNote::IgnoredInGroup(aggregator) => {
                self.info(span, format!("ignored histogram in {aggregator} aggregation"));
            }
            HistogramNote::Incompatible { left, op, right } => self.info(span, format!(
                "incompatible sample types encountered for binary operator \"{op}\": {} {op} {}",
                left.name(),
                right.name()
            )),
            HistogramNote::StartOverlap(windows) => {
                let text = "sample has start time that overlaps with previous sample timestamp";
                self.counted(span, format!("{text} for metric {}", name()), windows);
            }
            HistogramNote::MixedClassic => {
                let text = "vector contains a mix of classic and native histograms";
                self.warn(span, with_metric(text, metric));
            }
            HistogramNote::QuantileIsNan => {
                let text = "input to histogram_quantile has NaN observations, result is NaN";
                self.info(span, with_metric(text, metric));
            }
            HistogramNote::QuantileIsSkewed => {
                let text = "input to histogram_quantile has NaN observations, result is skewed higher";
                self.info(span, with_metric(text, metric));
            }
            HistogramNote::FractionWithoutNan => {
                let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
                self.info(span, with_metric(text, metric));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ast::BinaryOp;
    use crate::math::histogram_note::{Operation, SampleKind};

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
            (
                HistogramNote::MixedSamples,
                "PromQL warning: encountered a mix of histograms and floats for metric name \"m\" (1:1)",
            ),
            (
                HistogramNote::MixedGroup,
                "PromQL warning: encountered a mix of histograms and floats for aggregation (1:1)",
            ),
            (
                HistogramNote::IgnoredInRange,
                "PromQL info: ignored histograms in a range containing both floats and histograms for metric name \"m\" (1:1)",
            ),
            (
                HistogramNote::IgnoredInGroup("topk"),
                "PromQL info: ignored histogram in topk aggregation (1:1)",
            ),
            (
                HistogramNote::Incompatible {
                    left: SampleKind::Histogram,
                    op: BinaryOp::Sub,
                    right: SampleKind::Float,
                },
                "PromQL info: incompatible sample types encountered for binary operator \"-\": histogram - float (1:1)",
            ),
            (
                HistogramNote::StartOverlap(1),
                "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric \"m\" (1:1)",
            ),
            (
                HistogramNote::StartOverlap(3),
                "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric \"m\" (3 occurrences) (1:1)",
            ),
            (
                HistogramNote::MixedClassic,
                "PromQL warning: vector contains a mix of classic and native histograms for metric name \"m\" (1:1)",
            ),
        ];
        for (note, expected) in cases {
            let mut annotations = Annotations::default();
            annotations.note(note, Span::new(0, 1), "m");
            let (warnings, infos) = annotations.into_texts("m");
            assert_eq!([warnings, infos].concat(), [expected]);
        }
    }
}

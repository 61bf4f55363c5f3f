//! What a user should know about an answer that is not an error: warnings and infos, each with its place in the query.

mod histograms;

use crate::format::{float_general, quote};
use crate::span::Span;
use kymo_storage::model::Timestamp;
use std::collections::HashMap;

/// How many warnings, and how many infos, an answer carries; the rest is counted.
const SHOWN_MAX: usize = 10;

/// How grave an annotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Warning,
    Info,
}

/// By how much the counts of classic buckets had to be changed to grow with their bounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Repair {
    /// Bounds of the lowest and the highest bucket changed.
    pub(crate) buckets: (f64, f64),
    /// The largest change.
    pub(crate) diff: f64,
    /// First and last step concerned.
    pub(crate) times: (Timestamp, Timestamp),
    /// How many samples.
    pub(crate) count: u64,
}

impl Repair {
    /// Both as one.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.buckets = (self.buckets.0.min(other.buckets.0), self.buckets.1.max(other.buckets.1));
        self.diff = self.diff.max(other.diff);
        self.times = (self.times.0.min(other.times.0), self.times.1.max(other.times.1));
        self.count += other.count;
    }

    fn describe(&self) -> String {
        format!(
            ", from buckets {} to {}, with a max diff of {}, over {} samples from {} to {}",
            float_general(self.buckets.0),
            float_general(self.buckets.1),
            two_digits(self.diff),
            self.count,
            crate::math::datetime::rfc3339(self.times.0),
            crate::math::datetime::rfc3339(self.times.1)
        )
    }
}

/// `%.2g`: two significant digits, without zeros at the end.
fn two_digits(value: f64) -> String {
    let rounded: f64 = format!("{value:.1e}").parse().unwrap_or(value);
    if rounded.abs() >= 100.0 && rounded.is_finite() {
        // From two digits before the point on, %g writes an exponent.
        let text = format!("{rounded:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        return format!("{mantissa}e+{exponent:02}");
    }
    float_general(rounded)
}

#[derive(Debug, Clone)]
struct Annotation {
    severity: Severity,
    span: Span,
    repair: Option<Repair>,
    /// How often it was added, if that is told.
    occurrences: u64,
}

/// Warnings and infos of one query, each text once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Annotations {
    by_text: HashMap<String, Annotation>,
}

impl Annotations {
    /// A warning; `text` is what follows `PromQL warning: `.
    pub(crate) fn warn(&mut self, span: Span, text: String) {
        self.add(Severity::Warning, span, text, None, 0);
    }

    /// An info; `text` is what follows `PromQL info: `.
    pub(crate) fn info(&mut self, span: Span, text: String) {
        self.add(Severity::Info, span, text, None, 0);
    }

    /// The buckets of a classic histogram had to be repaired. Repairs of one metric are told as one.
    pub(crate) fn repaired(&mut self, span: Span, metric: &str, repair: Repair) {
        const TEXT: &str = "input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.add(Severity::Info, span, with_metric(TEXT, metric), Some(repair), 0);
    }

    /// A warning that says how often it was given, if more than once; now it is `times` more.
    pub(crate) fn counted(&mut self, span: Span, text: String, times: u64) {
        self.add(Severity::Warning, span, text, None, times);
    }

    fn add(
        &mut self,
        severity: Severity,
        span: Span,
        text: String,
        repair: Option<Repair>,
        occurrences: u64,
    ) {
        let new = || Annotation { severity, span, repair: None, occurrences: 0 };
        let known = self.by_text.entry(text).or_insert_with(new);
        known.occurrences += occurrences;
        // Of several places Prometheus shows the one evaluated last: the one further right, or the one around it.
        if (known.span.end, std::cmp::Reverse(known.span.start)) < (span.end, std::cmp::Reverse(span.start)) {
            known.span = span;
        }
        match (&mut known.repair, &repair) {
            (Some(known), Some(new)) => known.merge(new),
            (slot, _) => *slot = repair,
        }
    }

    /// The warnings and the infos as clients see them, in the order of their places in `query`.
    pub(crate) fn into_texts(self, query: &str) -> (Vec<String>, Vec<String>) {
        let mut all: Vec<(String, Annotation)> = self.by_text.into_iter().collect();
        all.sort_by(|a, b| (a.1.span, &a.0).cmp(&(b.1.span, &b.0)));
        let texts = |severity: Severity, prefix: &str, noun: &str| {
            let mut texts = Vec::new();
            let mut omitted = 0usize;
            for (text, annotation) in all.iter().filter(|(_, a)| a.severity == severity) {
                if texts.len() == SHOWN_MAX {
                    omitted += 1;
                    continue;
                }
                let repair = annotation.repair.as_ref().map(Repair::describe).unwrap_or_default();
                let (line, column) = annotation.span.line_column(query).unwrap_or((1, 1));
                let occurrences = match annotation.occurrences {
                    0 | 1 => String::new(),
                    more => format!(" ({more} occurrences)"),
                };
                texts.push(format!("PromQL {prefix}: {text}{repair}{occurrences} ({line}:{column})"));
            }
            if omitted > 0 {
                texts.push(format!("{omitted} more {noun} annotations omitted"));
            }
            texts
        };
        (texts(Severity::Warning, "warning", "warning"), texts(Severity::Info, "info", "info"))
    }
}

/// `text` with the metric it is about, if that is known.
pub(crate) fn with_metric(text: &str, metric: &str) -> String {
    if metric.is_empty() {
        text.to_owned()
    } else {
        format!("{text} for metric name {}", quote(metric.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_places_and_come_once() {
        let mut a = Annotations::default();
        a.warn(Span::new(4, 6), "quantile value should be between 0 and 1, got 2".into());
        a.warn(Span::new(4, 6), "quantile value should be between 0 and 1, got 2".into());
        a.info(Span::new(0, 3), "ignored histogram in min aggregation".into());
        let (warnings, infos) = a.into_texts("abc\ndef");
        assert_eq!(warnings, ["PromQL warning: quantile value should be between 0 and 1, got 2 (2:1)"]);
        assert_eq!(infos, ["PromQL info: ignored histogram in min aggregation (1:1)"]);
    }

    #[test]
    fn only_ten_are_shown() {
        let mut a = Annotations::default();
        for i in 0..13 {
            a.info(Span::new(0, 1), format!("number {i:02}"));
        }
        let (warnings, infos) = a.into_texts("x");
        assert!(warnings.is_empty());
        assert_eq!(infos.len(), 11);
        assert_eq!(infos.last().map(String::as_str), Some("3 more info annotations omitted"));
    }

    #[test]
    fn repairs_of_one_metric_are_one() {
        let mut a = Annotations::default();
        let repair = |le, t| Repair { buckets: (le, le), diff: le, times: (t, t), count: 1 };
        a.repaired(Span::new(0, 1), "m", repair(0.1, 0));
        a.repaired(Span::new(0, 1), "m", repair(5.0, 60_000));
        let (_, infos) = a.into_texts("x");
        assert_eq!(infos.len(), 1);
        assert!(infos[0].ends_with(" for metric name \"m\", from buckets 0.1 to 5, with a max diff of 5, over 2 samples from 1970-01-01T00:00:00Z to 1970-01-01T00:01:00Z (1:1)"), "{}", infos[0]);
        assert_eq!(two_digits(1234.0), "1.2e+03");
        assert_eq!(two_digits(0.123), "0.12");
    }
}

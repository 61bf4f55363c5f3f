//! Exemplars: single observations with labels of their own, most often the id of a trace.

use super::{Labels, Timestamp};

/// The most characters (Unicode scalar values) the names and values of an exemplar's labels have together, as OpenMetrics
/// and Prometheus have it.
pub const EXEMPLAR_LABEL_CHARS_MAX: usize = 128;

/// One observation that stands for many.
#[derive(Debug, Clone)]
pub struct Exemplar {
    /// What else is known of the observation; at most [`EXEMPLAR_LABEL_CHARS_MAX`] characters.
    pub labels: Labels,
    /// The observed value.
    pub value: f64,
    /// Milliseconds since the Unix epoch.
    pub timestamp: Timestamp,
}

/// Equal in every bit.
impl PartialEq for Exemplar {
    fn eq(&self, other: &Self) -> bool {
        (self.timestamp, self.value.to_bits(), &self.labels)
            == (other.timestamp, other.value.to_bits(), &other.labels)
    }
}

impl Eq for Exemplar {}

impl Exemplar {
    /// Whether this one may follow `newest` in its series (see [`Exemplar::order`]).
    pub fn follows(&self, newest: &Self) -> bool {
        self.order(newest).is_gt()
    }

    /// The order of the exemplars of one series: by timestamps, those of one timestamp by values, then by labels. So repeated
    /// ones are known for sure.
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        let by_value = || self.value.total_cmp(&other.value);
        let by_labels = || self.labels.cmp(&other.labels);
        self.timestamp.cmp(&other.timestamp).then_with(by_value).then_with(by_labels)
    }

    /// The characters of all label names and values.
    pub fn label_chars(&self) -> usize {
        self.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_length() {
        let exemplar = |id: &str, value, timestamp| Exemplar {
            labels: Labels::from_pairs([("trace_id", id)]),
            value,
            timestamp,
        };
        let newest = exemplar("b", 2.0, 10);
        let cases = [
            (exemplar("a", 1.0, 11), true),
            (exemplar("z", 9.0, 9), false),
            (exemplar("a", 3.0, 10), true),
            (exemplar("z", 1.0, 10), false),
            (exemplar("c", 2.0, 10), true),
            (exemplar("a", 2.0, 10), false),
            (newest.clone(), false),
        ];
        for (next, expected) in cases {
            assert_eq!(next.follows(&newest), expected, "{next:?}");
        }
        assert_eq!(exemplar("ä€", 0.0, 0).label_chars(), 10);
    }
}

//! Builds the encoding of a label set from parts of a text, in one buffer that is used again.

use kymo_storage::model::{Labels, METRIC_NAME};

/// The labels of one series, as they are read.
#[derive(Debug, Default)]
pub struct LabelBytes {
    /// Names and values, one behind the other.
    text: String,
    /// Where each name begins, where its value begins, where that ends.
    pairs: Vec<(usize, usize, usize)>,
    encoded: Vec<u8>,
}

impl LabelBytes {
    /// No labels.
    pub fn clear(&mut self) {
        self.text.clear();
        self.pairs.clear();
    }

    /// One more label. What is added twice stays twice: storage says what it thinks of that.
    pub fn push(&mut self, name: &str, value: &str) {
        let begin = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.pairs.push((begin, middle, self.text.len()));
    }

    /// One label in place of those of the same name.
    pub fn set(&mut self, name: &str, value: &str) {
        let text = &self.text;
        self.pairs.retain(|(begin, middle, _)| text.get(*begin..*middle) != Some(name));
        self.push(name, value);
    }

    /// Calls `visit` with the names and values, in no particular order.
    pub fn each(&self, mut visit: impl FnMut(&str, &str)) {
        for pair in &self.pairs {
            visit(self.name(pair), self.text.get(pair.1..pair.2).unwrap_or_default());
        }
    }

    /// Whether there is a label of this name.
    pub fn has(&self, name: &str) -> bool {
        self.pairs.iter().any(|pair| self.name(pair) == name)
    }

    /// The value of a label, empty if there is none.
    pub fn value(&self, name: &str) -> &str {
        let pair = self.pairs.iter().find(|pair| self.name(pair) == name);
        pair.and_then(|(_, middle, end)| self.text.get(*middle..*end)).unwrap_or_default()
    }

    /// The metric name, empty if there is none.
    pub fn metric(&self) -> &str {
        self.value(METRIC_NAME)
    }

    fn name(&self, (begin, middle, _): &(usize, usize, usize)) -> &str {
        self.text.get(*begin..*middle).unwrap_or_default()
    }

    /// The encoding, sorted by name, without labels whose value is empty.
    pub fn encode(&mut self) -> &[u8] {
        let Self { text, pairs, encoded } = self;
        let bytes = |from: usize, to: usize| text.as_bytes().get(from..to).unwrap_or_default();
        pairs.sort_by(|a, b| bytes(a.0, a.1).cmp(bytes(b.0, b.1)));
        encoded.clear();
        for (begin, middle, end) in pairs.iter().filter(|(_, middle, end)| middle < end) {
            Labels::encode_pair(encoded, bytes(*begin, *middle), bytes(*middle, *end));
        }
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_empty_values() {
        let mut labels = LabelBytes::default();
        for (name, value) in [("z", "1"), (METRIC_NAME, "m"), ("b", ""), ("a", "é")] {
            labels.push(name, value);
        }
        assert_eq!((labels.metric(), labels.has("b"), labels.has("c")), ("m", true, false));
        let expected = Labels::from_pairs([(METRIC_NAME, "m"), ("a", "é"), ("z", "1")]);
        assert_eq!(labels.encode(), expected.as_bytes());
        labels.set(METRIC_NAME, "n");
        let mut seen = Vec::new();
        labels.each(|name, value| seen.push(format!("{name}={value}")));
        seen.sort();
        assert_eq!(seen, ["__name__=n", "a=é", "b=", "z=1"]);
        labels.clear();
        assert_eq!(labels.metric(), "");
        assert!(labels.encode().is_empty());
    }
}

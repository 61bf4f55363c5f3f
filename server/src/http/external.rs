//! External labels: what tells this server's series from those of others, on what leaves it for another server.

use kymo_storage::api::SeriesSet;
use kymo_storage::model::{Labels, MatchOp, Matcher};
use std::collections::BTreeMap;

/// The external labels of one request.
#[derive(Debug, Clone, Default)]
pub struct External(pub BTreeMap<String, String>);

impl External {
    /// The matchers for what is stored: one that asks for an external label as it is asks there for a series without it.
    #[must_use]
    pub fn stored(&self, matchers: Vec<Matcher>) -> Vec<Matcher> {
        let strip = |matcher: Matcher| match self.0.get(matcher.name()) {
            Some(value) if matcher.op() == MatchOp::Equal && value == matcher.value() => {
                Matcher::equal(matcher.name(), "")
            }
            _ => matcher,
        };
        matchers.into_iter().map(strip).collect()
    }

    /// The labels as others see them: those of the series, and the external ones it does not have itself.
    pub fn seen(&self, labels: Labels) -> Labels {
        if self.0.keys().all(|name| labels.get(name).is_some()) {
            return labels;
        }
        let mut builder = labels.to_builder();
        for (name, value) in &self.0 {
            if labels.get(name).is_none() {
                builder.set(name, value);
            }
        }
        builder.build()
    }

    /// The series of a set in the order of the labels that others see.
    pub fn order(&self, set: &dyn SeriesSet) -> Vec<usize> {
        let mut order: Vec<usize> = (0..set.len()).collect();
        if !self.0.is_empty() {
            order.sort_by_cached_key(|index| self.seen(set.labels(*index)));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_matchers() {
        let pairs = [("region", "eu"), ("replica", "1")];
        let external = External(pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).into());
        let labels = Labels::from_pairs([("__name__", "m"), ("replica", "own")]);
        let seen = Labels::from_pairs([("__name__", "m"), ("region", "eu"), ("replica", "own")]);
        assert_eq!(external.seen(labels.clone()), seen);
        assert_eq!(External::default().seen(labels.clone()), labels);
        let asked = vec![
            Matcher::equal("region", "eu"),
            Matcher::equal("replica", "2"),
            Matcher::new(MatchOp::Regex, "region", "eu").unwrap(),
        ];
        let stored = external.stored(asked.clone());
        assert_eq!(stored[0], Matcher::equal("region", ""));
        assert_eq!(stored[1..], asked[1..]);
    }
}

//! `KeepRules`: how old the samples of each series may be to be read and merged.

use crate::block::Block;
use crate::error::Result;
use crate::model::{Labels, Matcher, Timestamp};
use roaring::RoaringBitmap;

/// The oldest time that is kept of each series, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeepRules {
    /// Of series no rule is about.
    pub(crate) oldest: Timestamp,
    /// The first that matches counts.
    pub(crate) rules: Vec<(Vec<Matcher>, Timestamp)>,
}

impl KeepRules {
    /// The oldest time that is kept of the series with these labels.
    pub(crate) fn oldest_kept(&self, labels: &Labels) -> Timestamp {
        let matches = |matchers: &[Matcher]| matchers.iter().all(|m| m.matches(labels.value(m.name())));
        let rule = self.rules.iter().find(|(matchers, _)| matches(matchers));
        rule.map_or(self.oldest, |(_, oldest)| *oldest)
    }

    /// Whether all samples that `block` has of some series are too old, by a rule or for want of one.
    ///
    /// # Errors
    /// The index of the block is damaged.
    pub(crate) fn is_over_for_some(&self, block: &Block) -> Result<bool> {
        let mut earlier = RoaringBitmap::new();
        for (matchers, oldest) in &self.rules {
            let found = block.postings(matchers)?;
            if block.meta().max_time < *oldest && !found.is_subset(&earlier) {
                return Ok(true);
            }
            earlier |= found;
        }
        Ok(block.meta().max_time < self.oldest && earlier.len() < u64::from(block.series_count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_counts() {
        let rules = KeepRules {
            oldest: 10,
            rules: vec![
                (vec![Matcher::equal("env", "dev"), Matcher::equal("job", "a")], 50),
                (vec![Matcher::equal("env", "dev")], 30),
                (vec![Matcher::equal("env", "old")], 5),
            ],
        };
        let cases = [(("dev", "a"), 50), (("dev", "b"), 30), (("prod", "a"), 10), (("old", "a"), 5)];
        for ((env, job), oldest) in cases {
            assert_eq!(rules.oldest_kept(&Labels::from_pairs([("env", env), ("job", job)])), oldest);
        }
    }
}

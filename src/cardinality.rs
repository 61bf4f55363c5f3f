//! Cardinality: how many series there are, and which names and labels they come from.

use crate::db::Db;
use crate::error::guarded;
use crate::{ErrorKind, Result};
use kymo_storage::api::Queryable;
use kymo_storage::model::{METRIC_NAME, Matcher, TimeRange};

/// How many series there are, and what makes them many. The lists hold the largest first; of equal ones those that come first in the
/// alphabet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cardinality {
    /// Series with samples in the time asked for.
    pub series: u64,
    /// Distinct pairs of a label and a value.
    pub label_pairs: u64,
    /// Series of each metric name.
    pub series_by_metric: Vec<(String, u64)>,
    /// Distinct values of each label.
    pub values_by_label: Vec<(String, u64)>,
    /// Bytes the values of each label have in all series together.
    pub bytes_by_label: Vec<(String, u64)>,
    /// Series of each pair `label=value`.
    pub series_by_pair: Vec<(String, u64)>,
    /// Damage that was met and stepped around; each sentence names a file.
    pub warnings: Vec<String>,
}

/// The largest of many numbers.
struct Ranking {
    entries: Vec<(String, u64)>,
    most: usize,
}

impl Ranking {
    fn new(most: usize) -> Self {
        Self { entries: Vec::new(), most }
    }

    fn push(&mut self, name: impl FnOnce() -> String, number: u64) {
        if self.entries.len() >= self.most.saturating_mul(2).max(64) {
            self.cut();
        }
        self.entries.push((name(), number));
    }

    fn cut(&mut self) {
        self.entries.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        self.entries.truncate(self.most);
    }

    fn finish(mut self) -> Vec<(String, u64)> {
        self.cut();
        self.entries
    }
}

impl Db {
    /// Counts the series that match all of `matchers` (all if there are none) and may have samples in `range`; the lists have at most `most` entries. It
    /// goes through one label after the other, so that the values of one are in memory at a time.
    ///
    /// # Errors
    /// As [`Db::select`]; `Cancelled` if the database is closed meanwhile.
    pub fn cardinality(&self, matchers: &[Matcher], range: TimeRange, most: usize) -> Result<Cardinality> {
        guarded(|| {
            let querier = self.storage().querier(range)?;
            let set = querier.select(range, matchers)?;
            let names = self.with_room(|room| querier.label_names(&[matchers.to_vec()], room))?.names;
            let (mut by_metric, mut by_pair) = (Ranking::new(most), Ranking::new(most));
            let (mut values_by, mut bytes_by) = (Ranking::new(most), Ranking::new(most));
            let mut label_pairs = 0;
            for label in names {
                let column = set.label_column(&label);
                let mut counts = vec![0u64; column.values.len()];
                for id in &column.ids {
                    let count = counts.get_mut(*id as usize);
                    *count.ok_or_else(|| {
                        crate::Error::new(ErrorKind::Internal, "a label id without a value")
                    })? += 1;
                }
                let (mut values, mut bytes) = (0, 0);
                let named = column.values.iter().zip(counts).filter(|(value, n)| !value.is_empty() && *n > 0);
                for (value, count) in named {
                    values += 1;
                    bytes += value.len() as u64 * count;
                    if label == METRIC_NAME {
                        by_metric.push(|| value.to_string(), count);
                    }
                    by_pair.push(|| format!("{label}={value}"), count);
                }
                label_pairs += values;
                values_by.push(|| label.clone(), values);
                bytes_by.push(|| label.clone(), bytes);
            }
            Ok(Cardinality {
                series: set.len() as u64,
                label_pairs,
                series_by_metric: by_metric.finish(),
                values_by_label: values_by.finish(),
                bytes_by_label: bytes_by.finish(),
                series_by_pair: by_pair.finish(),
                warnings: set.warnings(),
            })
        })
    }
}

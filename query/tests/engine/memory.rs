//! Series in memory, for tests of the engine: the simplest thing that keeps the contract of `storage::api`.

use kymo_storage::api::{Names, Querier, Queryable, Samples, SeriesSet};
use kymo_storage::error::Result;
use kymo_storage::model::{Labels, Matcher, TimeRange, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

type Points = Vec<(Timestamp, f64)>;

/// Series by labels.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStore {
    series: Arc<BTreeMap<Labels, Points>>,
}

impl MemoryStore {
    /// Adds samples, which must be newer than those of the same series that are there.
    pub(crate) fn add(&mut self, labels: &Labels, points: impl IntoIterator<Item = (Timestamp, f64)>) {
        Arc::make_mut(&mut self.series).entry(labels.clone()).or_default().extend(points);
    }
}

impl Queryable for MemoryStore {
    fn querier(&self, _range: TimeRange) -> Result<Box<dyn Querier>> {
        Ok(Box::new(self.clone()))
    }
}

impl Querier for MemoryStore {
    fn select(&self, range: TimeRange, matchers: &[Matcher]) -> Result<Box<dyn SeriesSet>> {
        let found = self.series.iter().filter(|(labels, points)| {
            matchers.iter().all(|m| m.matches(labels.value(m.name())))
                && points.iter().any(|(t, _)| range.contains(*t))
        });
        Ok(Box::new(Found(found.map(|(labels, points)| (labels.clone(), points.clone())).collect())))
    }

    fn label_names(&self, _matcher_sets: &[Vec<Matcher>]) -> Result<Names> {
        Ok(Names::default())
    }

    fn label_values(&self, _name: &str, _matcher_sets: &[Vec<Matcher>]) -> Result<Names> {
        Ok(Names::default())
    }
}

struct Found(Vec<(Labels, Points)>);

impl SeriesSet for Found {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.0[index].0.clone()
    }

    fn read(&self, index: usize, range: TimeRange, out: &mut Samples) -> Result<()> {
        let points = self.0[index].1.iter().filter(|(t, _)| range.contains(*t));
        // Series of one scrape share their timestamps: the version stands still while they do.
        let same = out.timestamps.iter().copied().eq(points.clone().map(|(t, _)| *t));
        if same {
            out.values.clear();
            out.start_timestamps.clear();
            out.values.extend(points.map(|(_, v)| *v));
            return Ok(());
        }
        out.clear();
        points.for_each(|(t, v)| out.push(*t, *v));
        Ok(())
    }
}

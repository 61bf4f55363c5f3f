//! Series in memory, for tests of the engine: the simplest thing that keeps the contract of `storage::api`.

use kymo_storage::api::{HistogramSample, Names, Querier, Queryable, Room, Samples, SeriesSet};
use kymo_storage::error::Result;
use kymo_storage::model::{Labels, Matcher, TimeRange, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The samples of a series, in time order.
#[derive(Debug, Clone, Default)]
struct Points {
    /// Time, since when the value counts (0: not known), value.
    floats: Vec<(Timestamp, Timestamp, f64)>,
    histograms: Vec<HistogramSample>,
}

/// Series by labels.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryStore {
    series: Arc<BTreeMap<Labels, Points>>,
}

impl MemoryStore {
    /// Adds samples, which must be newer than those of the same series that are there.
    pub(crate) fn add(&mut self, labels: &Labels, points: impl IntoIterator<Item = (Timestamp, f64)>) {
        self.add_started(labels, points.into_iter().map(|(t, v)| (t, 0, v)));
    }

    /// As [`Self::add`], for samples of which is known since when they count.
    pub(crate) fn add_started(
        &mut self,
        labels: &Labels,
        points: impl IntoIterator<Item = (Timestamp, Timestamp, f64)>,
    ) {
        self.points(labels).floats.extend(points);
    }

    /// As [`Self::add`], at times at which there is no float.
    pub(crate) fn add_histograms(
        &mut self,
        labels: &Labels,
        histograms: impl IntoIterator<Item = HistogramSample>,
    ) {
        self.points(labels).histograms.extend(histograms);
    }

    fn points(&mut self, labels: &Labels) -> &mut Points {
        Arc::make_mut(&mut self.series).entry(labels.clone()).or_default()
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
                && (points.floats.iter().any(|(t, ..)| range.contains(*t))
                    || points.histograms.iter().any(|h| range.contains(h.timestamp)))
        });
        Ok(Box::new(Found(found.map(|(labels, points)| (labels.clone(), points.clone())).collect())))
    }

    fn label_names(&self, _matcher_sets: &[Vec<Matcher>], _room: &mut Room<'_>) -> Result<Names> {
        Ok(Names::default())
    }

    fn label_values(
        &self,
        _name: &str,
        _matcher_sets: &[Vec<Matcher>],
        _room: &mut Room<'_>,
    ) -> Result<Names> {
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
        let points = &self.0[index].1;
        let floats = points.floats.iter().copied().filter(|(t, ..)| range.contains(*t));
        // Series of one scrape share their timestamps: the version stands still while they do.
        if out.timestamps.iter().copied().eq(floats.clone().map(|(t, ..)| t)) {
            out.values.clear();
            out.start_timestamps.clear();
            out.histograms.clear();
            out.values.extend(floats.clone().map(|(.., v)| v));
            if floats.clone().any(|(_, start, _)| start != 0) {
                out.start_timestamps.extend(floats.map(|(_, start, _)| start));
            }
        } else {
            out.clear();
            floats.for_each(|(t, start, v)| out.push_with_start(t, start, v));
        }
        out.histograms.extend(points.histograms.iter().filter(|h| range.contains(h.timestamp)).cloned());
        Ok(())
    }
}

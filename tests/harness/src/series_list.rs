//! The simplest thing that can be queried: a sorted list of series in memory. It says what the store has to say, slowly.

use crate::answer::SampleValue;
use kymo_storage::api::{HistogramSample, Names, Querier, Queryable, Room, Samples, SeriesSet};
use kymo_storage::error::Result;
use kymo_storage::model::{Labels, Matcher, TimeRange, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Points = BTreeMap<Timestamp, SampleValue>;
/// Since when the samples of a series count; only of those of which it is known.
type Starts = BTreeMap<Timestamp, Timestamp>;

/// Series with their samples; of two samples at one time the later appended stays.
#[derive(Debug, Clone, Default)]
pub struct SeriesList {
    series: Arc<BTreeMap<Labels, Points>>,
    starts: Arc<BTreeMap<Labels, Starts>>,
}

impl SeriesList {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds samples. Views taken before do not see them.
    pub fn append(&mut self, labels: Labels, samples: impl IntoIterator<Item = (Timestamp, SampleValue)>) {
        Arc::make_mut(&mut self.series).entry(labels).or_default().extend(samples);
    }

    /// Says since when samples of `labels` count: the time of each sample and its start, 0 if that is not known.
    pub fn append_starts(
        &mut self,
        labels: &Labels,
        starts: impl IntoIterator<Item = (Timestamp, Timestamp)>,
    ) {
        let known: Starts = starts.into_iter().filter(|(_, start)| *start != 0).collect();
        if !known.is_empty() {
            Arc::make_mut(&mut self.starts).entry(labels.clone()).or_default().extend(known);
        }
    }

    /// All series and samples, for comparison with another store.
    pub fn all(&self) -> &BTreeMap<Labels, Points> {
        &self.series
    }
}

fn matches(labels: &Labels, matchers: &[Matcher]) -> bool {
    matchers.iter().all(|m| m.matches(labels.value(m.name())))
}

impl Queryable for SeriesList {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>> {
        Ok(Box::new(View { list: self.clone(), range }))
    }
}

struct View {
    list: SeriesList,
    range: TimeRange,
}

impl View {
    fn names(&self, sets: &[Vec<Matcher>], of: impl Fn(&Labels, &mut BTreeSet<String>)) -> Names {
        let mut names = BTreeSet::new();
        for (labels, points) in self.list.series.iter() {
            let chosen = sets.is_empty() || sets.iter().any(|set| matches(labels, set));
            if chosen && points.keys().any(|t| self.range.contains(*t)) {
                of(labels, &mut names);
            }
        }
        Names { names: names.into_iter().collect(), warnings: Vec::new() }
    }
}

impl Querier for View {
    fn select(&self, range: TimeRange, matchers: &[Matcher]) -> Result<Box<dyn SeriesSet>> {
        let chosen = |(labels, points): (&Labels, &Points)| {
            let inside = points.keys().any(|t| range.contains(*t));
            let starts = || self.list.starts.get(labels).cloned().unwrap_or_default();
            (inside && matches(labels, matchers)).then(|| (labels.clone(), points.clone(), starts()))
        };
        Ok(Box::new(Selected { series: self.list.series.iter().filter_map(chosen).collect() }))
    }

    fn label_names(&self, matcher_sets: &[Vec<Matcher>], _room: &mut Room<'_>) -> Result<Names> {
        Ok(self.names(matcher_sets, |labels, out| out.extend(labels.iter().map(|(n, _)| n.to_owned()))))
    }

    fn label_values(&self, name: &str, matcher_sets: &[Vec<Matcher>], _room: &mut Room<'_>) -> Result<Names> {
        Ok(self.names(matcher_sets, |labels, out| out.extend(labels.get(name).map(str::to_owned))))
    }
}

struct Selected {
    series: Vec<(Labels, Points, Starts)>,
}

impl SeriesSet for Selected {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].0.clone()
    }

    fn read(&self, index: usize, range: TimeRange, out: &mut Samples) -> Result<()> {
        out.clear();
        let (_, points, starts) = &self.series[index];
        for (timestamp, value) in points {
            if !range.contains(*timestamp) {
                continue;
            }
            let start = starts.get(timestamp).copied().unwrap_or(0);
            match value {
                SampleValue::Shown(_) => panic!("only answers show histograms"),
                SampleValue::Float(value) => out.push_with_start(*timestamp, start, *value),
                SampleValue::Histogram(histogram) => {
                    let histogram = Arc::clone(histogram);
                    out.histograms.push(HistogramSample {
                        timestamp: *timestamp,
                        start_timestamp: start,
                        histogram,
                    });
                }
            }
        }
        Ok(())
    }
}

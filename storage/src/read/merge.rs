//! Merging the samples of one series from several sources by timestamp; on equal timestamps the later source wins.

use crate::api::{HistogramSample, Samples};
use crate::head::starts::StartColumn;
use crate::model::Timestamp;
use std::collections::BTreeMap;

/// The samples of a series in one source, in time order, one a timestamp.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) times: Vec<Timestamp>,
    pub(crate) values: Vec<f64>,
    /// Start timestamps of the floats, or empty if none is known.
    pub(crate) starts: Vec<Timestamp>,
    /// At other times than the floats.
    pub(crate) histograms: Vec<HistogramSample>,
}

impl Source {
    pub(crate) fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        self.histograms.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.times.is_empty() && self.histograms.is_empty()
    }

    /// Fills in the start timestamps of a series in memory.
    pub(crate) fn read_starts(&mut self, column: &StartColumn) {
        column.read(self.times.iter().copied(), &mut self.starts);
        let mut starts = Vec::new();
        column.read(self.histograms.iter().map(|h| h.timestamp), &mut starts);
        for (histogram, start) in self.histograms.iter_mut().zip(starts) {
            histogram.start_timestamp = start;
        }
    }

    fn bounds(&self) -> Option<(Timestamp, Timestamp)> {
        Some((*self.times.first()?, *self.times.last()?))
    }
}

/// Merges `sources`, lowest priority first, into the two vectors, which are empty. The sources are left in any state.
pub(crate) fn merge_sources(sources: &mut [Source], times: &mut Vec<Timestamp>, values: &mut Vec<f64>) {
    if let [only] = sources {
        std::mem::swap(times, &mut only.times);
        std::mem::swap(values, &mut only.values);
        return;
    }
    if are_in_sequence(sources) {
        for source in sources {
            times.extend_from_slice(&source.times);
            values.extend_from_slice(&source.values);
        }
        return;
    }
    // Pairwise, so that each step has two inputs; there are few sources.
    let mut merged = Source::default();
    for source in sources {
        let before = std::mem::take(&mut merged);
        merge_two(&before, source, &mut merged);
    }
    std::mem::swap(times, &mut merged.times);
    std::mem::swap(values, &mut merged.values);
}

/// Whether the floats of each source are newer than those of the source before.
pub(crate) fn are_in_sequence(sources: &[Source]) -> bool {
    let mut end = None;
    sources.iter().filter_map(Source::bounds).all(|(first, last)| {
        let before = end.replace(last);
        before.is_none_or(|before| before < first)
    })
}

/// Appends the start timestamps of the floats of all `sources`, which are in sequence: 0 where none is known.
pub(crate) fn join_starts(sources: &[Source], out: &mut Vec<Timestamp>) {
    for source in sources {
        let end = out.len() + source.times.len();
        out.extend_from_slice(&source.starts);
        out.resize(end, 0);
    }
}

/// One sample of either kind.
enum Either {
    /// Start timestamp and value.
    Float(Timestamp, f64),
    Histogram(HistogramSample),
}

/// As [`merge_sources`], for a series with histograms or start timestamps: of samples at one time, of either kind, that of the later source stays.
pub(crate) fn merge_kinds(sources: &mut [Source], out: &mut Samples) {
    let mut all: BTreeMap<Timestamp, Either> = BTreeMap::new();
    for source in sources {
        let starts = source.starts.iter().copied().chain(std::iter::repeat(0));
        let floats = source.times.iter().zip(&source.values).zip(starts);
        all.extend(floats.map(|((t, v), start)| (*t, Either::Float(start, *v))));
        all.extend(source.histograms.drain(..).map(|h| (h.timestamp, Either::Histogram(h))));
    }
    out.clear();
    for (time, sample) in all {
        match sample {
            Either::Float(start, value) => out.push_with_start(time, start, value),
            Either::Histogram(histogram) => out.histograms.push(histogram),
        }
    }
}

/// Merges `low` and `high` into `out`; `high` wins on equal timestamps.
fn merge_two(low: &Source, high: &Source, out: &mut Source) {
    out.times.reserve(low.times.len() + high.times.len());
    out.values.reserve(low.times.len() + high.times.len());
    let (mut l, mut h) = (0, 0);
    loop {
        match (low.times.get(l), high.times.get(h)) {
            (Some(a), Some(b)) if a < b => copy_run(low, &mut l, *b, out),
            (Some(a), Some(b)) if a > b => copy_run(high, &mut h, *a, out),
            (Some(_), Some(_)) => l += 1,
            (Some(_), None) => {
                out.times.extend_from_slice(&low.times[l..]);
                out.values.extend_from_slice(&low.values[l..]);
                return;
            }
            (None, _) => {
                out.times.extend_from_slice(&high.times[h..]);
                out.values.extend_from_slice(&high.values[h..]);
                return;
            }
        }
    }
}

/// Copies the samples of `from` before `end`, starting at `at`.
fn copy_run(from: &Source, at: &mut usize, end: Timestamp, out: &mut Source) {
    let len = from.times[*at..].partition_point(|t| *t < end);
    out.times.extend_from_slice(&from.times[*at..*at + len]);
    out.values.extend_from_slice(&from.values[*at..*at + len]);
    *at += len;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FloatHistogram;
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn merging_is_what_a_map_does(
            maps in proptest::collection::vec(proptest::collection::btree_map(0i64..60, 0u32..1000, 0..20), 0..5)
        ) {
            let mut expected = BTreeMap::new();
            let mut sources = Vec::new();
            for map in &maps {
                expected.extend(map.clone());
                sources.push(Source {
                    times: map.keys().copied().collect(),
                    values: map.values().map(|v| f64::from(*v)).collect(),
                    ..Source::default()
                });
            }
            let (mut times, mut values) = (Vec::new(), Vec::new());
            merge_sources(&mut sources, &mut times, &mut values);
            prop_assert_eq!(times, expected.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(values, expected.values().map(|v| f64::from(*v)).collect::<Vec<_>>());
        }

        #[test]
        fn of_either_kind_the_later_source_wins(
            maps in proptest::collection::vec(proptest::collection::btree_map(0i64..60, (any::<bool>(), 0u32..1000), 0..20), 0..5)
        ) {
            let mut expected = BTreeMap::new();
            let mut sources = Vec::new();
            for map in &maps {
                expected.extend(map.clone());
                let mut source = Source::default();
                for (time, (is_histogram, value)) in map {
                    let value = f64::from(*value);
                    if *is_histogram {
                        let histogram = Arc::new(FloatHistogram { sum: value, ..FloatHistogram::default() });
                        source.histograms.push(HistogramSample { timestamp: *time, start_timestamp: 0, histogram });
                    } else {
                        source.times.push(*time);
                        source.values.push(value);
                    }
                }
                sources.push(source);
            }
            let mut out = Samples::new();
            merge_kinds(&mut sources, &mut out);
            let floats = out.timestamps.iter().zip(&out.values).map(|(t, v)| (*t, (false, *v as u32)));
            let histograms = out.histograms.iter().map(|h| (h.timestamp, (true, h.histogram.sum as u32)));
            prop_assert!(out.timestamps.is_sorted() && out.histograms.is_sorted_by_key(|h| h.timestamp));
            prop_assert_eq!(floats.chain(histograms).collect::<BTreeMap<_, _>>(), expected);
        }
    }
}

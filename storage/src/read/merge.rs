//! Merging the samples of one series from several sources by timestamp; on equal timestamps the later source wins.

use crate::model::Timestamp;

/// The samples of a series in one source, in time order, one a timestamp.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) times: Vec<Timestamp>,
    pub(crate) values: Vec<f64>,
}

impl Source {
    pub(crate) fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
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
    let mut end = None;
    let in_sequence = sources.iter().filter_map(Source::bounds).all(|(first, last)| {
        let before = end.replace(last);
        before.is_none_or(|before| before < first)
    });
    if in_sequence {
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
    use proptest::prelude::*;
    use std::collections::BTreeMap;

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
                });
            }
            let (mut times, mut values) = (Vec::new(), Vec::new());
            merge_sources(&mut sources, &mut times, &mut values);
            prop_assert_eq!(times, expected.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(values, expected.values().map(|v| f64::from(*v)).collect::<Vec<_>>());
        }
    }
}

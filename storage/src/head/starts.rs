//! The start timestamps of a page: few series have any, and those that have rarely change them.
//!
//! What came in order is a list of changes: from this sample on, that start. What came late says its start for itself.

use crate::model::Timestamp;
use hashbrown::HashMap;
use std::sync::Arc;

/// What a column takes besides its entries.
const COLUMN_BYTES: usize = size_of::<StartColumn>() + 16;
const ENTRY_BYTES: usize = 16;

/// The start timestamps of one series.
#[derive(Debug, Clone, Default)]
pub(crate) struct StartColumn {
    /// Time of the first sample with it, and the start; times ascend, and neighbours differ in their starts.
    changes: Vec<(Timestamp, Timestamp)>,
    /// Time and start of samples that came late, in order of arrival.
    late: Vec<(Timestamp, Timestamp)>,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Starts {
    columns: HashMap<u16, Arc<StartColumn>>,
    bytes: usize,
}

impl Starts {
    /// Remembers that the sample at `time` of series `slot` counts since `start`, 0 if that is not known.
    pub(crate) fn note(&mut self, slot: usize, time: Timestamp, start: Timestamp, is_late: bool) {
        let slot = slot as u16;
        match self.columns.get(&slot) {
            None if start == 0 => return,
            Some(column) if !is_late && column.newest() == start => return,
            _ => {}
        }
        let bytes = &mut self.bytes;
        let column = self.columns.entry(slot).or_insert_with(|| {
            *bytes += COLUMN_BYTES;
            Arc::default()
        });
        let column = Arc::make_mut(column);
        let list = if is_late { &mut column.late } else { &mut column.changes };
        let before = list.capacity();
        if list.len() == before {
            list.reserve_exact((before / 4).max(1));
        }
        list.push((time, start));
        *bytes += (list.capacity() - before) * ENTRY_BYTES;
    }

    pub(crate) fn column(&self, slot: usize) -> Option<&StartColumn> {
        self.columns.get(&(slot as u16)).map(Arc::as_ref)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes + self.columns.capacity() * (size_of::<(u16, Arc<StartColumn>)>() + 1)
    }
}

impl StartColumn {
    fn newest(&self) -> Timestamp {
        self.changes.last().map_or(0, |change| change.1)
    }

    /// Replaces what is in `out` by the starts of samples at `times`, which ascend; by nothing if none is known.
    pub(crate) fn read(&self, times: impl Iterator<Item = Timestamp>, out: &mut Vec<Timestamp>) {
        let mut late = self.late.clone();
        // Stable: of samples at one time the one that came last stays.
        late.sort_by_key(|entry| entry.0);
        out.clear();
        let (mut change, mut at) = (0, 0);
        for time in times {
            while self.changes.get(change).is_some_and(|c| c.0 <= time) {
                change += 1;
            }
            while late.get(at).is_some_and(|entry| entry.0 < time) {
                at += 1;
            }
            let mut start = change.checked_sub(1).and_then(|c| self.changes.get(c)).map_or(0, |c| c.1);
            while let Some(entry) = late.get(at).filter(|entry| entry.0 == time) {
                start = entry.1;
                at += 1;
            }
            out.push(start);
        }
        if out.iter().all(|start| *start == 0) {
            out.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn starts_are_those_of_the_samples_that_stay(
            samples in proptest::collection::vec((0i64..40, prop_oneof![Just(0i64), 1i64..4]), 0..80)
        ) {
            let mut starts = Starts::default();
            let mut model = BTreeMap::new();
            let mut newest = i64::MIN;
            for (time, start) in samples {
                if time == newest {
                    continue;
                }
                starts.note(7, time, start, time < newest);
                newest = newest.max(time);
                model.insert(time, start);
            }
            let mut out = vec![9];
            match starts.column(7) {
                Some(column) => column.read(model.keys().copied(), &mut out),
                None => out.clear(),
            }
            let expected: Vec<i64> = model.values().copied().collect();
            if expected.iter().any(|start| *start != 0) {
                prop_assert_eq!(out, expected);
            } else {
                prop_assert!(out.is_empty());
            }
        }
    }

    #[test]
    fn a_start_that_stays_takes_one_entry() {
        let mut starts = Starts::default();
        (0..1000).for_each(|time| starts.note(3, time, 0, false));
        assert!(starts.column(3).is_none());
        (1000..2000).for_each(|time| starts.note(3, time, 900, false));
        assert_eq!(starts.column(3).unwrap().changes, [(1000, 900)]);
    }
}

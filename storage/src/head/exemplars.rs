//! The exemplars of a page: of each series the newest few, in order.

use crate::model::{Exemplar, TimeRange};
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// What an exemplar takes besides the bytes of its labels.
const ENTRY_BYTES: usize = size_of::<Exemplar>() + 32;
/// What a series takes besides its exemplars.
const COLUMN_BYTES: usize = 64;

/// An exemplar on its way into a generation.
#[derive(Debug, Clone)]
pub(crate) struct JudgedExemplar {
    pub(crate) series: u32,
    pub(crate) exemplar: Exemplar,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Exemplars {
    columns: HashMap<u16, Arc<VecDeque<Exemplar>>>,
    bytes: usize,
}

fn bytes_of(exemplar: &Exemplar) -> usize {
    ENTRY_BYTES + exemplar.labels.as_bytes().len()
}

impl Exemplars {
    /// Adds an exemplar behind all of its series; of more than `limit` the oldest go.
    pub(crate) fn push(&mut self, slot: usize, exemplar: Exemplar, limit: usize) {
        let bytes = &mut self.bytes;
        let column = self.columns.entry(slot as u16).or_insert_with(|| {
            *bytes += COLUMN_BYTES;
            Arc::default()
        });
        let column = Arc::make_mut(column);
        *bytes += bytes_of(&exemplar);
        column.push_back(exemplar);
        while column.len() > limit.max(1) {
            let Some(oldest) = column.pop_front() else { break };
            *bytes -= bytes_of(&oldest);
        }
    }

    /// The exemplars of a series in `range`, oldest first.
    pub(crate) fn of(&self, slot: usize, range: TimeRange) -> impl Iterator<Item = &Exemplar> {
        let column = self.columns.get(&(slot as u16));
        column.into_iter().flat_map(|c| c.iter()).filter(move |e| range.contains(e.timestamp))
    }

    /// The slots that have exemplars, in no order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.keys().map(|slot| usize::from(*slot))
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.columns.values().map(|column| column.len()).sum()
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes + self.columns.capacity() * 24
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    #[test]
    fn of_more_than_the_limit_the_oldest_go() {
        let mut exemplars = Exemplars::default();
        let empty = exemplars.memory_bytes();
        for timestamp in 0..100 {
            let labels = Labels::from_pairs([("trace_id", "x".repeat(timestamp as usize))]);
            exemplars.push(5, Exemplar { labels, value: 1.0, timestamp }, 10);
        }
        let times = |range| exemplars.of(5, range).map(|e| e.timestamp).collect::<Vec<_>>();
        assert_eq!(times(TimeRange::ALL), (90..100).collect::<Vec<_>>());
        assert_eq!(times(TimeRange::closed(95, 96)), [95, 96]);
        assert_eq!((exemplars.len(), exemplars.of(6, TimeRange::ALL).count()), (10, 0));
        assert!((1000..4000).contains(&(exemplars.memory_bytes() - empty)));
    }
}

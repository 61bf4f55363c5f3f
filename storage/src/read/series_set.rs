//! `StoreSeriesSet`: the series a select found, read from every source that has them. Hot path.

use super::merge::{Source, merge_sources};
use crate::api::{LabelColumn, Samples, SeriesSet};
use crate::error::Result;
use crate::head::registry::Registry;
use crate::head::view::View;
use crate::model::{Labels, TimeRange, Timestamp};
use std::cell::RefCell;
use std::sync::Arc;

/// One series of a set and where its samples are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    /// The number in the registry, or [`NOT_IN_HEAD`].
    head: u32,
}

impl Entry {
    pub(crate) fn of_head(id: u32) -> Self {
        Self { head: id }
    }
}

/// See the module.
pub(crate) struct StoreSeriesSet {
    registry: Arc<Registry>,
    view: Arc<View>,
    range: TimeRange,
    entries: Vec<Entry>,
}

thread_local! {
    /// Timestamps of the series being read, compared with those of the one before; and samples of sources to be merged.
    static SCRATCH: RefCell<(Vec<Timestamp>, Vec<Source>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl StoreSeriesSet {
    pub(crate) fn new(
        registry: Arc<Registry>,
        view: Arc<View>,
        range: TimeRange,
        entries: Vec<Entry>,
    ) -> Self {
        Self { registry, view, range, entries }
    }

    /// Fills `sources` with the samples of `entry`, lowest priority first, and answers how many sources have some.
    fn read_sources(&self, entry: Entry, range: TimeRange, sources: &mut Vec<Source>) -> Result<usize> {
        let mut used = 0;
        let frozen = self.view.frozen.iter().map(|frozen| &frozen.generation);
        for generation in frozen.chain([&self.view.active]) {
            if used == sources.len() {
                sources.push(Source::default());
            }
            let Some(source) = sources.get_mut(used) else { break };
            source.clear();
            generation.read(entry.head, range, &mut source.times, &mut source.values)?;
            used += usize::from(!source.times.is_empty());
        }
        Ok(used)
    }
}

impl SeriesSet for StoreSeriesSet {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn labels(&self, index: usize) -> Labels {
        match self.entries.get(index) {
            Some(entry) => self.registry.labels(entry.head),
            None => Labels::empty(),
        }
    }

    fn label_column(&self, name: &str) -> LabelColumn {
        self.registry.catalog().label_column(name, self.entries.iter().map(|e| e.head))
    }

    fn read(&self, index: usize, range: TimeRange, out: &mut Samples) -> Result<()> {
        let range = TimeRange {
            min_time: range.min_time.max(self.range.min_time),
            max_time: range.max_time.min(self.range.max_time),
        };
        let Some(entry) = self.entries.get(index).copied() else {
            out.clear();
            return Ok(());
        };
        SCRATCH.with_borrow_mut(|(times, sources)| {
            out.values.clear();
            let used = match self.read_sources(entry, range, sources) {
                Ok(used) => used,
                Err(error) => {
                    out.clear();
                    return Err(error);
                }
            };
            times.clear();
            merge_sources(sources.get_mut(..used).unwrap_or_default(), times, &mut out.values);
            if *times != out.timestamps {
                std::mem::swap(times, &mut out.timestamps);
                out.timestamps_version += 1;
            }
            Ok(())
        })
    }
}

//! A memtable generation: the pages of all series since the last freeze, copied on write while readers hold them.

use super::page::{PAGE_SERIES, Page};
use crate::error::Result;
use crate::model::{TimeRange, Timestamp};
use std::sync::Arc;

/// Samples in memory. The active generation takes writes; a frozen one is being flushed; readers hold copies of the list
/// of pages, which is cheap.
#[derive(Clone, Default)]
pub(crate) struct Generation {
    pages: Vec<Option<Arc<Page>>>,
    samples: u64,
    memory_bytes: usize,
    times: Option<(Timestamp, Timestamp)>,
}

impl Generation {
    /// The page of `series`, for writing: copied first if a reader holds it.
    #[inline]
    fn page_mut(&mut self, series: u32) -> &mut Page {
        let number = series as usize / PAGE_SERIES;
        if number >= self.pages.len() {
            self.pages.resize(number + 1, None);
        }
        Arc::make_mut(self.pages[number].get_or_insert_default())
    }

    /// Adds samples: each a series, a time, a value and how it stands to its series (see [`Arrival`]).
    pub(crate) fn apply(&mut self, samples: &[Applied]) {
        for run in samples.chunk_by(|a, b| a.series / PAGE_SERIES as u32 == b.series / PAGE_SERIES as u32) {
            let page = self.page_mut(run[0].series);
            let before = page.memory_bytes();
            for sample in run {
                let slot = sample.series as usize % PAGE_SERIES;
                match sample.arrival {
                    Arrival::Next { previous } => page.push(slot, sample.time, sample.value, previous),
                    Arrival::Late => page.push_late(slot, sample.time, sample.value),
                }
            }
            let (after, times) = (page.memory_bytes(), page.times());
            self.memory_bytes = (self.memory_bytes + after).saturating_sub(before);
            self.samples += run.len() as u64;
            if let Some((min, max)) = times {
                let (low, high) = self.times.unwrap_or((min, max));
                self.times = Some((low.min(min), high.max(max)));
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.samples == 0
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The oldest and newest timestamp.
    pub(crate) fn times(&self) -> Option<(Timestamp, Timestamp)> {
        self.times
    }

    fn page(&self, series: u32) -> Option<&Page> {
        self.pages.get(series as usize / PAGE_SERIES)?.as_deref()
    }

    /// Whether `series` may have samples in `range`.
    pub(crate) fn has_samples(&self, series: u32, range: TimeRange) -> bool {
        self.page(series).is_some_and(|page| {
            page.times().is_some_and(|(min, max)| TimeRange::closed(min, max).overlaps(&range))
                && page.has_samples(series as usize % PAGE_SERIES, range)
        })
    }

    /// Appends the samples of `series` in `range`, in time order, one a timestamp.
    ///
    /// # Errors
    /// A broken invariant.
    pub(crate) fn read(
        &self,
        series: u32,
        range: TimeRange,
        times: &mut Vec<Timestamp>,
        values: &mut Vec<f64>,
    ) -> Result<()> {
        match self.page(series) {
            Some(page) => page.read(series as usize % PAGE_SERIES, range, times, values),
            None => Ok(()),
        }
    }

    /// All series that have samples, ascending.
    pub(crate) fn series(&self) -> impl Iterator<Item = u32> + '_ {
        self.pages.iter().enumerate().flat_map(|(number, page)| {
            let first = (number * PAGE_SERIES) as u32;
            page.iter().flat_map(move |page| page.slots().map(move |slot| first + slot as u32))
        })
    }
}

/// How a sample stands to its series.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arrival {
    /// Newer than all before; `previous` is the value of the newest before.
    Next { previous: f64 },
    /// Not newer.
    Late,
}

/// A sample on its way into a generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied {
    pub(crate) series: u32,
    pub(crate) time: Timestamp,
    pub(crate) value: f64,
    pub(crate) arrival: Arrival,
}

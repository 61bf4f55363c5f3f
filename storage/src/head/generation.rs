//! A memtable generation: the pages of all series since the last freeze, copied on write while readers hold them.

use super::exemplars::JudgedExemplar;
use super::histograms::{Encoded, Form};
use super::page::{PAGE_SERIES, Page};
use super::runs::{Newest, Run};
use super::starts::StartColumn;
use crate::error::Result;
use crate::model::{Exemplar, TimeRange, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Samples in memory. The active generation takes writes; a frozen one is being flushed; readers hold copies of the list
/// of pages, which is cheap.
#[derive(Clone)]
pub(crate) struct Generation {
    /// Tells generations apart; copies have the same.
    id: u64,
    /// How many series have samples.
    series: u32,
    pages: Vec<Option<Arc<Page>>>,
    samples: u64,
    /// Whether there are exemplars.
    exemplars: bool,
    memory_bytes: usize,
    times: Option<(Timestamp, Timestamp)>,
}

/// Where [`Generation::id`] goes on.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Default for Generation {
    fn default() -> Self {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let pages = Vec::new();
        Self { id, series: 0, pages, samples: 0, exemplars: false, memory_bytes: 0, times: None }
    }
}

impl Generation {
    /// What tells the set of series that have samples from that of any other generation and any earlier moment: series are only
    /// added to it.
    pub(crate) fn membership(&self) -> (u64, u32) {
        (self.id, self.series)
    }

    /// How many series have samples.
    pub(crate) fn series_count(&self) -> u32 {
        self.series
    }

    /// The page of `series`, for writing: copied first if a reader holds it.
    #[inline]
    fn page_mut(&mut self, series: u32) -> &mut Page {
        let number = series as usize / PAGE_SERIES;
        if number >= self.pages.len() {
            self.pages.resize(number + 1, None);
        }
        Arc::make_mut(self.pages[number].get_or_insert_default())
    }

    /// Adds samples.
    pub(crate) fn apply(&mut self, samples: Judgements<'_>) {
        let mut arrivals = samples.arrivals.iter();
        let columns = Columns { times: samples.times, values: samples.values, starts: samples.starts };
        self.add(samples.series, columns, |_, _, _| arrivals.next().copied());
    }

    /// Adds samples; `arrival` is called with each in order and says how it arrives, or that it is to be left out.
    #[inline]
    pub(crate) fn add(
        &mut self,
        series: &[u32],
        columns: Columns<'_>,
        mut arrival: impl FnMut(u32, Timestamp, f64) -> Option<Arrival>,
    ) {
        let mut samples = columns.times.iter().zip(columns.values);
        let mut starts = columns.starts;
        for run in series.chunk_by(|a, b| a / PAGE_SERIES as u32 == b / PAGE_SERIES as u32) {
            let Some(first) = run.first() else { continue };
            let page = self.page_mut(*first);
            let (bytes, count, known) = (page.memory_bytes(), page.samples(), page.series_count());
            let (of_run, rest) = starts.split_at_checked(run.len()).unwrap_or_default();
            starts = rest;
            let has_starts = page.has_starts() || of_run.iter().any(|start| *start != 0);
            for (index, (series, (time, value))) in run.iter().zip(samples.by_ref()).enumerate() {
                let slot = *series as usize % PAGE_SERIES;
                let arrived = arrival(*series, *time, *value);
                match arrived {
                    Some(Arrival::Next { previous }) => page.push(slot, *time, *value, previous),
                    Some(Arrival::Late) => page.push_late(slot, *time, *value),
                    Some(Arrival::Instead) => {
                        page.push_late(slot, *time, *value);
                        page.seal(slot);
                    }
                    None => continue,
                }
                if has_starts {
                    let start = of_run.get(index).copied().unwrap_or(0);
                    page.note_start(slot, *time, start, arrived.is_some_and(Arrival::is_late));
                }
            }
            let (bytes_now, count_now, times) = (page.memory_bytes(), page.samples(), page.times());
            let known_now = page.series_count();
            self.series += known_now - known;
            self.memory_bytes = (self.memory_bytes + bytes_now).saturating_sub(bytes);
            self.samples += count_now - count;
            self.widen(times);
        }
    }

    /// The next float of `series` goes on from none before.
    pub(crate) fn end_chunk(&mut self, series: u32) {
        self.page_mut(series).seal(series as usize % PAGE_SERIES);
    }

    fn widen(&mut self, times: Option<(Timestamp, Timestamp)>) {
        if let Some((min, max)) = times {
            let (low, high) = self.times.unwrap_or((min, max));
            self.times = Some((low.min(min), high.max(max)));
        }
    }

    /// Takes over the pages of `other`, which must not have one that is here.
    pub(crate) fn join(&mut self, other: Self) {
        if self.pages.len() < other.pages.len() {
            self.pages.resize(other.pages.len(), None);
        }
        for (page, theirs) in self.pages.iter_mut().zip(other.pages).filter(|pair| pair.1.is_some()) {
            *page = theirs;
        }
        self.series += other.series;
        self.samples += other.samples;
        self.exemplars |= other.exemplars;
        self.memory_bytes += other.memory_bytes;
        self.widen(other.times);
    }

    /// Adds histograms, after the floats of the same batch.
    pub(crate) fn apply_histograms(&mut self, histograms: &[JudgedHistogram]) {
        for JudgedHistogram { series, time, start, bytes, is_late } in histograms {
            let page = self.page_mut(*series);
            let (before, known) = (page.memory_bytes(), page.series_count());
            let slot = *series as usize % PAGE_SERIES;
            if *is_late {
                page.push_late_histogram(slot, *time, Arc::clone(bytes));
            } else {
                page.push_histogram(slot, *time, Arc::clone(bytes));
            }
            page.note_start(slot, *time, *start, *is_late);
            let (after, known_now) = (page.memory_bytes(), page.series_count());
            self.series += known_now - known;
            self.memory_bytes = (self.memory_bytes + after).saturating_sub(before);
            self.samples += 1;
            let (low, high) = self.times.unwrap_or((*time, *time));
            self.times = Some((low.min(*time), high.max(*time)));
        }
    }

    /// Adds exemplars, each behind those of its series; of more than `limit` a series the oldest go.
    pub(crate) fn apply_exemplars(&mut self, exemplars: &[JudgedExemplar], limit: usize) {
        for JudgedExemplar { series, exemplar } in exemplars {
            let page = self.page_mut(*series);
            let before = page.memory_bytes();
            page.push_exemplar(*series as usize % PAGE_SERIES, exemplar.clone(), limit);
            let after = page.memory_bytes();
            self.memory_bytes = (self.memory_bytes + after).saturating_sub(before);
            self.exemplars = true;
            self.widen(Some((exemplar.timestamp, exemplar.timestamp)));
        }
    }

    /// The exemplars of `series` in `range`, oldest first.
    pub(crate) fn exemplars_of(&self, series: u32, range: TimeRange) -> impl Iterator<Item = &Exemplar> {
        let exemplars = self.page(series).and_then(Page::exemplars);
        exemplars.into_iter().flat_map(move |e| e.of(series as usize % PAGE_SERIES, range))
    }

    /// The series that have exemplars, in no order.
    pub(crate) fn series_with_exemplars(&self) -> impl Iterator<Item = u32> + '_ {
        self.pages.iter().enumerate().flat_map(|(number, page)| {
            let exemplars = page.as_deref().and_then(Page::exemplars);
            let slots = exemplars.into_iter().flat_map(|e| e.slots());
            slots.map(move |slot| (number * PAGE_SERIES + slot) as u32)
        })
    }

    /// How many exemplars there are.
    pub(crate) fn exemplar_count(&self) -> usize {
        let pages = self.pages.iter().filter_map(|page| page.as_deref()?.exemplars());
        pages.map(super::exemplars::Exemplars::len).sum()
    }

    /// The start timestamps of `series`, if it has any.
    pub(crate) fn starts(&self, series: u32) -> Option<&StartColumn> {
        self.page(series)?.starts(series as usize % PAGE_SERIES)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.samples == 0 && !self.exemplars
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// The oldest and newest timestamp, of samples or exemplars.
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

    /// Whether `series` has samples or exemplars.
    pub(crate) fn contains(&self, series: u32) -> bool {
        self.page(series).is_some_and(|page| page.contains(series as usize % PAGE_SERIES))
    }

    /// As [`Page::has_floats_in_order`].
    pub(crate) fn has_floats_in_order(&self, series: u32) -> bool {
        self.page(series).is_some_and(|page| page.has_floats_in_order(series as usize % PAGE_SERIES))
    }

    /// As [`Page::newest`].
    #[inline]
    pub(crate) fn newest(&self, series: u32) -> Option<Newest> {
        self.page(series)?.newest(series as usize % PAGE_SERIES)
    }

    /// As [`Page::visit_runs`].
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub(crate) fn visit_runs<'a>(
        &'a self,
        series: u32,
        range: TimeRange,
        visit: impl FnMut(&Run<'a>) -> Result<bool>,
    ) -> Result<bool> {
        let Some(page) = self.page(series) else { return Ok(true) };
        if page.times().is_none_or(|(min, max)| !TimeRange::closed(min, max).overlaps(&range)) {
            return Ok(true);
        }
        page.visit_runs(series as usize % PAGE_SERIES, range, visit)
    }

    /// Appends the samples of `series` in `range`, floats to the first two vectors, histograms to the third: each in time
    /// order, one sample a timestamp.
    ///
    /// # Errors
    /// A broken invariant.
    pub(crate) fn read<F: Form>(
        &self,
        series: u32,
        range: TimeRange,
        times: &mut Vec<Timestamp>,
        values: &mut Vec<f64>,
        histograms: &mut Vec<(Timestamp, F)>,
    ) -> Result<()> {
        match self.page(series) {
            Some(page) => page.read(series as usize % PAGE_SERIES, range, times, values, histograms),
            None => Ok(()),
        }
    }

    /// All series that have samples or exemplars, ascending.
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
    /// Of the time of the newest, in whose place it is read from now on: late, and what follows goes on from neither.
    Instead,
}

impl Arrival {
    /// Whether it is not newer than all before.
    pub(crate) fn is_late(self) -> bool {
        !matches!(self, Self::Next { .. })
    }
}

/// A histogram on its way into a generation.
#[derive(Debug, Clone)]
pub(crate) struct JudgedHistogram {
    pub(crate) series: u32,
    pub(crate) time: Timestamp,
    /// 0 if it is not known.
    pub(crate) start: Timestamp,
    pub(crate) bytes: Encoded,
    pub(crate) is_late: bool,
}

/// Samples on their way into a generation, as columns of equal length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judgements<'a> {
    pub(crate) series: &'a [u32],
    pub(crate) times: &'a [Timestamp],
    pub(crate) values: &'a [f64],
    pub(crate) arrivals: &'a [Arrival],
    /// Empty if none is known.
    pub(crate) starts: &'a [Timestamp],
}

/// The columns of samples but for their series, of equal length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Columns<'a> {
    pub(crate) times: &'a [Timestamp],
    pub(crate) values: &'a [f64],
    /// Start timestamps, or empty if none is known.
    pub(crate) starts: &'a [Timestamp],
}

/// The owner of [`Judgements`], filled again and again.
#[derive(Debug, Default)]
pub(crate) struct JudgedColumns {
    series: Vec<u32>,
    times: Vec<Timestamp>,
    values: Vec<f64>,
    arrivals: Vec<Arrival>,
    /// As long as the others up to the end of the last batch that has any.
    starts: Vec<Timestamp>,
}

impl JudgedColumns {
    #[inline]
    pub(crate) fn push(&mut self, series: u32, time: Timestamp, value: f64, arrival: Arrival) {
        self.series.push(series);
        self.times.push(time);
        self.values.push(value);
        self.arrivals.push(arrival);
    }

    /// Says since when the sample pushed last counts.
    pub(crate) fn start_last(&mut self, start: Timestamp) {
        self.starts.resize(self.series.len().saturating_sub(1), 0);
        self.starts.push(start);
    }

    /// Ends a batch: if any of its samples has a start, all have one, 0 if need be.
    pub(crate) fn end_batch(&mut self, first: usize) {
        if self.starts.len() > first {
            self.starts.resize(self.series.len(), 0);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    pub(crate) fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.arrivals.clear();
        self.starts.clear();
    }

    /// The samples numbered `range`.
    pub(crate) fn range(&self, range: std::ops::Range<usize>) -> Judgements<'_> {
        Judgements {
            series: self.series.get(range.clone()).unwrap_or_default(),
            times: self.times.get(range.clone()).unwrap_or_default(),
            values: self.values.get(range.clone()).unwrap_or_default(),
            arrivals: self.arrivals.get(range.clone()).unwrap_or_default(),
            starts: self.starts.get(range).unwrap_or_default(),
        }
    }
}

//! The samples of up to 1024 series in the head: shared timestamps, open token buffers, sealed chunks. Hot path.
//!
//! The series of one scrape share a *group* of timestamps; a chunk of a series is `count` entries of a group from
//! `start` on, and as many values. A sample whose timestamp is the group's next entry stores nothing but its value, and
//! a value equal to the one before stores nothing at all. Readers hold a page behind an `Arc`; the writer copies it
//! first if any does, so sealed bytes are in shared pieces and the rest is flat and small.

use super::exemplars::Exemplars;
use super::histograms::{Encoded, Form, Histograms, merge_kinds};
use super::runs::{Newest, Overlap, Run, merge_late};
use super::sealed::{Chunk, Part, Sealed};
use super::starts::{StartColumn, Starts};
use super::tokens;
use crate::error::Result;
use crate::model::{Exemplar, TimeRange, Timestamp};
use hashbrown::HashMap;
use std::sync::Arc;

/// Series in one page.
pub(crate) const PAGE_SERIES: usize = 1024;

/// An open buffer is sealed before it grows beyond this.
/// Longer ones would cost memory, shorter ones CPU: what sealing costs is mostly per chunk.
const BUFFER_BYTES_MAX: usize = 320;
/// An open chunk is sealed at this many samples, so that reading a part never decodes much more.
const CHUNK_SAMPLES_MAX: u32 = 4096;

/// Timestamps shared by series of this page: the first, and the distances of all from it.
#[derive(Clone)]
struct Group {
    base: Timestamp,
    distances: Vec<u32>,
}

impl Group {
    #[inline]
    fn time(&self, index: u32) -> Timestamp {
        let distance = self.distances.get(index as usize).copied().unwrap_or(0);
        self.base.wrapping_add(i64::from(distance))
    }
}

/// The open chunk of one series.
#[derive(Clone, Copy)]
struct Open {
    group: u32,
    start: u32,
    count: u32,
    /// Values equal to the last token's that follow it.
    run: u32,
    /// Address of the newest sealed chunk, or [`Sealed::NONE`].
    sealed: u32,
    /// Where the tokens are in the buffer space.
    at: u32,
    len: u16,
    capacity: u16,
}

const EMPTY: Open =
    Open { group: 0, start: 0, count: 0, run: 0, sealed: Sealed::NONE, at: 0, len: 0, capacity: 0 };

/// Samples older than the newest of their series, in order of arrival.
type Late = Arc<Vec<(Timestamp, f64)>>;

/// See the module.
#[derive(Clone)]
pub(crate) struct Page {
    open: Vec<Open>,
    groups: Vec<Group>,
    /// The group the last sample went to: where the next series of the same scrape belongs.
    last_group: u32,
    buffers: Vec<u8>,
    /// Bytes of `buffers` that belong to no series any more.
    garbage: usize,
    sealed: Sealed,
    late: HashMap<u16, Late>,
    /// Of the few series that have any.
    histograms: Option<Box<Histograms>>,
    starts: Option<Box<Starts>>,
    exemplars: Option<Box<Exemplars>>,
    group_bytes: usize,
    late_bytes: usize,
    samples: u64,
    min_time: Timestamp,
    max_time: Timestamp,
    /// One bit a slot: whether it has samples.
    seen: [u64; PAGE_SERIES / 64],
    seen_count: u32,
}

impl Default for Page {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            groups: Vec::new(),
            last_group: 0,
            buffers: Vec::new(),
            garbage: 0,
            sealed: Sealed::default(),
            late: HashMap::new(),
            histograms: None,
            starts: None,
            exemplars: None,
            group_bytes: 0,
            late_bytes: 0,
            samples: 0,
            min_time: i64::MAX,
            max_time: i64::MIN,
            seen: [0; PAGE_SERIES / 64],
            seen_count: 0,
        }
    }
}

impl Page {
    /// Appends a sample newer than all of its series; `previous` is the value of the newest.
    #[inline]
    pub(crate) fn push(&mut self, slot: usize, time: Timestamp, value: f64, previous: f64) {
        if slot >= self.open.len() {
            self.open.reserve_exact((slot + 1).next_power_of_two().min(PAGE_SERIES) - self.open.len());
            self.open.resize(slot + 1, EMPTY);
        }
        self.count_sample(slot, time);
        let fits = self.extend_group(slot, time);
        if !fits {
            self.seal(slot);
            self.join_group(slot, time);
        }
        let open = &mut self.open[slot];
        self.last_group = open.group;
        let previous = if open.count == 0 { 0.0 } else { previous };
        open.count += 1;
        if value.to_bits() == previous.to_bits() {
            open.run += 1;
            return;
        }
        let token = tokens::encode(previous, value, open.run);
        open.run = 0;
        self.push_token(slot, token.as_slice());
    }

    /// Adds a sample that is not newer than the newest of its series.
    pub(crate) fn push_late(&mut self, slot: usize, time: Timestamp, value: f64) {
        self.count_sample(slot, time);
        let late = self.late.entry(slot as u16).or_insert_with(|| {
            self.late_bytes += 64;
            Late::default()
        });
        let late = Arc::make_mut(late);
        let before = late.capacity();
        late.push((time, value));
        self.late_bytes += (late.capacity() - before) * 16;
    }

    /// Adds a histogram newer than all samples of its series.
    pub(crate) fn push_histogram(&mut self, slot: usize, time: Timestamp, bytes: Encoded) {
        self.count_sample(slot, time);
        // The float that follows does not know the float before, so it must not go on in the same chunk.
        self.seal(slot);
        self.histograms.get_or_insert_default().push(slot, time, bytes);
    }

    /// Adds a histogram that is not newer than the newest sample of its series.
    pub(crate) fn push_late_histogram(&mut self, slot: usize, time: Timestamp, bytes: Encoded) {
        self.count_sample(slot, time);
        let floats_before = self.late.get(&(slot as u16)).map_or(0, |late| late.len());
        self.histograms.get_or_insert_default().push_late(slot, time, floats_before, bytes);
    }

    /// Whether any series of the page has start timestamps: then each further sample is to be noted.
    #[inline]
    pub(crate) fn has_starts(&self) -> bool {
        self.starts.is_some()
    }

    /// Remembers that a sample counts since `start`, 0 if that is not known.
    pub(crate) fn note_start(&mut self, slot: usize, time: Timestamp, start: Timestamp, is_late: bool) {
        if start != 0 || self.starts.is_some() {
            self.starts.get_or_insert_default().note(slot, time, start, is_late);
        }
    }

    /// The start timestamps of a series, if it has any.
    pub(crate) fn starts(&self, slot: usize) -> Option<&StartColumn> {
        self.starts.as_ref()?.column(slot)
    }

    /// Adds an exemplar; of more than `limit` a series the oldest go.
    pub(crate) fn push_exemplar(&mut self, slot: usize, exemplar: Exemplar, limit: usize) {
        self.exemplars.get_or_insert_default().push(slot, exemplar, limit);
    }

    pub(crate) fn exemplars(&self) -> Option<&Exemplars> {
        self.exemplars.as_deref()
    }

    #[inline]
    fn count_sample(&mut self, slot: usize, time: Timestamp) {
        self.samples += 1;
        if let Some(word) = self.seen.get_mut(slot / 64) {
            self.seen_count += u32::from(*word & (1 << (slot % 64)) == 0);
            *word |= 1 << (slot % 64);
        }
        self.min_time = self.min_time.min(time);
        self.max_time = self.max_time.max(time);
    }

    /// Whether `time` is the next timestamp of the open chunk's group, or became it.
    #[inline]
    fn extend_group(&mut self, slot: usize, time: Timestamp) -> bool {
        let open = &self.open[slot];
        if open.count == 0 || open.count >= CHUNK_SAMPLES_MAX {
            return false;
        }
        let Some(group) = self.groups.get_mut(open.group as usize) else { return false };
        let next = open.start as usize + open.count as usize;
        let distance = time.checked_sub(group.base).and_then(|d| u32::try_from(d).ok());
        match (group.distances.get(next), distance) {
            (Some(known), Some(distance)) => *known == distance,
            (None, Some(distance)) => {
                push_distance(group, distance, &mut self.group_bytes);
                true
            }
            (_, None) => false,
        }
    }

    /// Starts a chunk at `time`: in the group of the sample before if that one had the same time, else in a new group.
    fn join_group(&mut self, slot: usize, time: Timestamp) {
        let last = self.groups.get(self.last_group as usize);
        let last = last.map(|group| (group.distances.len() as u32).saturating_sub(1)).filter(|index| {
            self.groups.get(self.last_group as usize).is_some_and(|g| g.time(*index) == time)
        });
        let (group, start) = match last {
            Some(index) => (self.last_group, index),
            None => {
                let mut group = Group { base: time, distances: Vec::new() };
                self.group_bytes += size_of::<Group>();
                push_distance(&mut group, 0, &mut self.group_bytes);
                self.groups.push(group);
                (self.groups.len() as u32 - 1, 0)
            }
        };
        let open = &mut self.open[slot];
        (open.group, open.start) = (group, start);
    }

    /// Appends a token to the buffer of `slot`, sealing the values before it if there is no room.
    fn push_token(&mut self, slot: usize, token: &[u8]) {
        let open = self.open[slot];
        if usize::from(open.len) + token.len() > BUFFER_BYTES_MAX {
            self.seal_before_last(slot, token);
            return;
        }
        self.ensure_room(slot, token.len());
        let open = &mut self.open[slot];
        let at = open.at as usize + usize::from(open.len);
        self.buffers[at..at + token.len()].copy_from_slice(token);
        open.len += token.len() as u16;
    }

    /// Seals everything but the sample whose token did not fit, and opens a chunk with that sample.
    #[cold]
    fn seal_before_last(&mut self, slot: usize, token: &[u8]) {
        let open = self.open[slot];
        let buffer = self.buffer(&open);
        let mut values = Vec::with_capacity(open.count as usize);
        let whole: Vec<u8> = [buffer, token].concat();
        tokens::decode(&whole, open.count, 0, |v, n| values.extend(std::iter::repeat_n(v, n as usize)));
        let value = values.pop().unwrap_or_default();
        let before = Chunk { group: open.group, start: open.start, count: open.count - 1 };
        let address = self.sealed.push_values(open.sealed, before, &values);
        let last = &mut self.open[slot];
        last.sealed = address;
        last.start += last.count - 1;
        (last.count, last.run, last.len) = (1, 0, 0);
        if value.to_bits() == 0 {
            last.run = 1;
        } else {
            self.push_token(slot, tokens::encode(0.0, value, 0).as_slice());
        }
    }

    /// Seals the open chunk of `slot`, if there is one: the next float begins another.
    pub(crate) fn seal(&mut self, slot: usize) {
        let Some(open) = self.open.get(slot).copied().filter(|open| open.count > 0) else { return };
        let chunk = Chunk { group: open.group, start: open.start, count: open.count };
        let buffer = self.buffers.get(open.at as usize..open.at as usize + usize::from(open.len));
        let address = self.sealed.push_tokens(open.sealed, chunk, open.run, buffer.unwrap_or_default());
        let open = &mut self.open[slot];
        open.sealed = address;
        (open.count, open.run, open.len) = (0, 0, 0);
    }

    fn buffer(&self, open: &Open) -> &[u8] {
        let at = open.at as usize;
        self.buffers.get(at..at + usize::from(open.len)).unwrap_or_default()
    }

    /// Makes room for `more` bytes in the buffer of `slot`: it moves to the end of the buffer space, which is compacted
    /// when half of it is garbage.
    #[inline]
    fn ensure_room(&mut self, slot: usize, more: usize) {
        let open = self.open[slot];
        let needed = usize::from(open.len) + more;
        if needed <= usize::from(open.capacity) {
            return;
        }
        let step = if needed < 64 { 16 } else { 32 };
        let capacity = needed.next_multiple_of(step).min(BUFFER_BYTES_MAX);
        self.garbage += usize::from(open.capacity);
        let end = self.buffers.len();
        if end + capacity > self.buffers.capacity() {
            self.buffers.reserve_exact((end / 8).max(512).max(capacity));
        }
        let at = open.at as usize;
        self.buffers.extend_from_within(at..at + usize::from(open.len));
        self.buffers.resize(end + capacity, 0);
        let open = &mut self.open[slot];
        (open.at, open.capacity) = (end as u32, capacity as u16);
        if self.garbage > 4096 && self.garbage > self.buffers.len() / 3 {
            self.compact();
        }
    }

    #[cold]
    fn compact(&mut self) {
        let live = self.buffers.len() - self.garbage;
        let mut buffers = Vec::with_capacity(live + live / 8 + 512);
        for open in &mut self.open {
            let at = open.at as usize;
            let moved = buffers.len();
            buffers.extend_from_slice(&self.buffers[at..at + usize::from(open.capacity)]);
            open.at = moved as u32;
        }
        self.buffers = buffers;
        self.garbage = 0;
    }

    /// The oldest and newest timestamp.
    pub(crate) fn times(&self) -> Option<(Timestamp, Timestamp)> {
        (self.samples > 0).then_some((self.min_time, self.max_time))
    }

    /// How many samples were added.
    #[inline]
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }

    /// Bytes of memory held.
    #[inline]
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.open.capacity() * size_of::<Open>()
            + self.buffers.capacity()
            + self.group_bytes
            + self.late_bytes
            + self.sealed.memory_bytes()
            + self.histograms.as_ref().map_or(0, |h| h.memory_bytes())
            + self.starts.as_ref().map_or(0, |s| s.memory_bytes())
            + self.exemplars.as_ref().map_or(0, |e| e.memory_bytes())
    }

    /// Whether series `slot` has samples or exemplars.
    pub(crate) fn contains(&self, slot: usize) -> bool {
        self.seen.get(slot / 64).is_some_and(|word| word & (1 << (slot % 64)) != 0)
            || self.exemplars.as_ref().is_some_and(|e| e.of(slot, TimeRange::ALL).next().is_some())
    }

    /// Whether series `slot` may have samples in `range`.
    pub(crate) fn has_samples(&self, slot: usize, range: TimeRange) -> bool {
        if self.seen.get(slot / 64).is_none_or(|word| word & (1 << (slot % 64)) == 0) {
            return false;
        }
        if range.min_time <= self.min_time && self.max_time <= range.last() {
            return true;
        }
        let late = self.late.get(&(slot as u16));
        if late.is_some_and(|late| late.iter().any(|s| range.contains(s.0))) {
            return true;
        }
        let histograms = self.histograms.as_ref().and_then(|h| h.column(slot));
        if histograms.is_some_and(|column| column.has_samples(range)) {
            return true;
        }
        let mut found = false;
        self.visit_chunks(slot, range, |_| {
            found = true;
            false
        });
        found
    }

    /// Calls `visit` with the chunks of `slot` that overlap `range`, newest first, until it answers false.
    fn visit_chunks<'a>(&'a self, slot: usize, range: TimeRange, mut visit: impl FnMut(Part<'a>) -> bool) {
        let Some(open) = self.open.get(slot) else { return };
        let mut address = open.sealed;
        if open.count > 0 {
            let chunk = Chunk { group: open.group, start: open.start, count: open.count };
            let part = Part { chunk, run: open.run, is_tokens: true, bytes: self.buffer(open) };
            match self.position(&chunk, range) {
                Overlap::Before => return,
                Overlap::Inside if !visit(part) => return,
                _ => {}
            }
        }
        while let Some((previous, part)) = self.sealed.get(address) {
            match self.position(&part.chunk, range) {
                Overlap::Before => return,
                Overlap::Inside if !visit(part) => return,
                _ => {}
            }
            address = previous;
        }
    }

    fn position(&self, chunk: &Chunk, range: TimeRange) -> Overlap {
        let Some(group) = self.groups.get(chunk.group as usize) else { return Overlap::Before };
        let last = group.time(chunk.start.saturating_add(chunk.count).saturating_sub(1));
        if last < range.min_time {
            Overlap::Before
        } else if group.time(chunk.start) > range.last() {
            Overlap::After
        } else {
            Overlap::Inside
        }
    }

    /// Whether `slot` has nothing but floats that came in order and are known to count since no time.
    pub(crate) fn has_floats_in_order(&self, slot: usize) -> bool {
        let histograms = self.histograms.as_ref().and_then(|h| h.column(slot));
        histograms.is_none() && self.starts(slot).is_none() && !self.late.contains_key(&(slot as u16))
    }

    /// The newest sample of `slot`, if it is in an open chunk.
    pub(crate) fn newest(&self, slot: usize) -> Option<Newest> {
        let open = self.open.get(slot).filter(|open| open.count > 0 && self.has_floats_in_order(slot))?;
        let index = open.start + open.count - 1;
        let time = self.groups.get(open.group as usize)?.time(index);
        let mut value = 0.0;
        tokens::decode(self.buffer(open), open.count, open.run, |newer, _| value = newer).then_some(Newest {
            group: open.group,
            index,
            time,
            value,
        })
    }

    /// Calls `visit` with the samples of `slot` in `range`, in time order, until it answers false. Answers `false` if it did so or
    /// if the series has more than floats that came in order: it is then to be read by [`Page::read`].
    ///
    /// # Errors
    /// Those of `visit`, or a broken invariant.
    pub(crate) fn visit_runs<'a>(
        &'a self,
        slot: usize,
        range: TimeRange,
        mut visit: impl FnMut(&Run<'a>) -> Result<bool>,
    ) -> Result<bool> {
        if !self.has_floats_in_order(slot) {
            return Ok(false);
        }
        let mut newest: Option<Part<'a>> = None;
        let mut older: Vec<Part<'a>> = Vec::new();
        self.visit_chunks(slot, range, |part| {
            match newest {
                None => newest = Some(part),
                Some(_) => older.push(part),
            }
            true
        });
        for part in older.into_iter().rev().chain(newest) {
            if let Some(run) = self.run(part, range)
                && !visit(&run)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The samples of a chunk in `range`, if there are any.
    #[inline]
    fn run<'a>(&'a self, part: Part<'a>, range: TimeRange) -> Option<Run<'a>> {
        let group = self.groups.get(part.chunk.group as usize)?;
        let (start, end) = (part.chunk.start, part.chunk.start + part.chunk.count);
        let mut span = (start, end);
        let distances = group.distances.get(start as usize..end as usize)?;
        let time = |d: &u32| group.base.wrapping_add(i64::from(*d));
        if distances.first().is_some_and(|d| time(d) < range.min_time) {
            span.0 = start + distances.partition_point(|d| time(d) < range.min_time) as u32;
        }
        if distances.last().is_some_and(|d| time(d) > range.last()) {
            span.1 = start + distances.partition_point(|d| time(d) <= range.last()) as u32;
        }
        let distances = group.distances.get(span.0 as usize..span.1 as usize).filter(|d| !d.is_empty())?;
        Some(Run { part, base: group.base, distances, group: part.chunk.group, span })
    }

    /// How many slots have samples.
    #[inline]
    pub(crate) fn series_count(&self) -> u32 {
        self.seen_count
    }

    /// Appends the samples of `slot` in `range`, floats to the first two vectors, histograms to the third: each in time
    /// order, one sample a timestamp.
    ///
    /// # Errors
    /// A sealed chunk does not decode: a broken invariant.
    pub(crate) fn read<F: Form>(
        &self,
        slot: usize,
        range: TimeRange,
        times: &mut Vec<Timestamp>,
        values: &mut Vec<f64>,
        histograms: &mut Vec<(Timestamp, F)>,
    ) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut parts: Vec<Part<'_>> = Vec::new();
        self.visit_chunks(slot, range, |part| {
            parts.push(part);
            true
        });
        let begin = times.len();
        for part in parts.iter().rev() {
            self.read_part(part, range, times, values)?;
        }
        let late = self.late.get(&(slot as u16));
        if let Some(column) = self.histograms.as_ref().and_then(|h| h.column(slot)) {
            let late = late.map_or(&[][..], |late| late.as_slice());
            return merge_kinds(column, late, range, begin, (times, values), histograms);
        }
        if let Some(late) = late {
            merge_late(late, range, begin, times, values);
        }
        Ok(())
    }

    fn read_part(
        &self,
        part: &Part<'_>,
        range: TimeRange,
        times: &mut Vec<Timestamp>,
        values: &mut Vec<f64>,
    ) -> Result<()> {
        let Some(group) = self.groups.get(part.chunk.group as usize) else {
            return Err(crate::Error::internal("a chunk of the head names a group that is not there"));
        };
        let (start, end) = (part.chunk.start as usize, (part.chunk.start + part.chunk.count) as usize);
        let distances = group.distances.get(start..end).unwrap_or_default();
        let from = distances.partition_point(|d| group.base.wrapping_add(i64::from(*d)) < range.min_time);
        let to = distances.partition_point(|d| group.base.wrapping_add(i64::from(*d)) <= range.last());
        let wanted = distances.get(from..to).unwrap_or_default();
        times.extend(wanted.iter().map(|d| group.base.wrapping_add(i64::from(*d))));
        part.values_between(from as u32, to as u32, values)?;
        if times.len() == values.len() {
            Ok(())
        } else {
            Err(crate::Error::internal("a chunk of the head has not as many values as timestamps"))
        }
    }

    /// The slots that have samples or exemplars, ascending.
    pub(crate) fn slots(&self) -> impl Iterator<Item = usize> + '_ {
        let mut seen = self.seen;
        for slot in self.exemplars.iter().flat_map(|exemplars| exemplars.slots()) {
            if let Some(word) = seen.get_mut(slot / 64) {
                *word |= 1 << (slot % 64);
            }
        }
        seen.into_iter().enumerate().flat_map(|(at, word)| {
            (0..64).filter(move |bit| word & (1 << bit) != 0).map(move |bit| at * 64 + bit)
        })
    }
}

/// Room grows by a quarter: a page lives for hours and doubling would waste a third of it.
#[inline]
fn push_distance(group: &mut Group, distance: u32, bytes: &mut usize) {
    let before = group.distances.capacity();
    if group.distances.len() == before {
        group.distances.reserve_exact((before / 4).max(8));
        *bytes += (group.distances.capacity() - before) * size_of::<u32>();
    }
    group.distances.push(distance);
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;

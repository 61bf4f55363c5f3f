//! Applying a log to the head on all cores, with the outcome of one. Hot path.
//!
//! A *lane* owns every n-th stretch of series: their newest samples and their pages. The reader of the log hands the same
//! loads of samples to all lanes, and each takes out its own, in order. What becomes of a sample depends only on the earlier
//! ones of its page, so the number of lanes changes nothing. A log shorter than one load starts no thread.

use super::exemplars::JudgedExemplar;
use super::generation::{Arrival, Columns, Generation, JudgedHistogram};
use super::histograms::Encoded;
use super::last::{LastSamples, histogram_mark};
use super::paged::PAGE_LEN;
use crate::chunk::hash_one_histogram;
use crate::error::{Error, Result};
use crate::model::Timestamp;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Loads that may wait for a lane.
const LOADS_WAITING: usize = 4;

/// Samples in the order of the log, as columns of equal length.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) series: Vec<u32>,
    pub(crate) times: Vec<Timestamp>,
    pub(crate) values: Vec<f64>,
    /// Start timestamps up to the last that is known.
    pub(crate) starts: Vec<Timestamp>,
    /// In the same order.
    pub(crate) histograms: Vec<LoadedHistogram>,
    /// In their own order.
    pub(crate) exemplars: Vec<JudgedExemplar>,
}

impl Load {
    /// Takes everything out and keeps the room.
    fn clear(&mut self) {
        self.series.clear();
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        self.histograms.clear();
        self.exemplars.clear();
    }

    /// If any sample has a start timestamp, all get one, 0 if need be.
    pub(crate) fn pad_starts(&mut self) {
        if !self.starts.is_empty() {
            self.starts.resize(self.series.len(), 0);
        }
    }
}

/// A histogram of the log.
#[derive(Debug)]
pub(crate) struct LoadedHistogram {
    /// How many floats of the load come before it.
    pub(crate) floats_before: usize,
    pub(crate) series: u32,
    pub(crate) time: Timestamp,
    pub(crate) start: Timestamp,
    pub(crate) bytes: Encoded,
}

/// What the lanes made of a log.
pub(crate) struct Applied {
    pub(crate) last: LastSamples,
    pub(crate) generation: Generation,
    /// How many samples are in it.
    pub(crate) samples: u64,
}

struct Lane {
    number: usize,
    of: usize,
    /// Of this lane's stretches only, one behind the other; so a series has another number here.
    last: LastSamples,
    generation: Generation,
    /// Of more exemplars of a series the oldest go.
    exemplar_limit: usize,
}

impl Lane {
    /// The number that `series` has in this lane, if it is one of its own.
    #[inline]
    fn own_number(&self, series: u32) -> Option<u32> {
        let (stretch, slot) = (series as usize / PAGE_LEN, series as usize % PAGE_LEN);
        (stretch % self.of == self.number).then_some((stretch / self.of * PAGE_LEN + slot) as u32)
    }

    fn apply(&mut self, load: &Load) {
        let mut from = 0;
        for group in load.histograms.chunk_by(|a, b| a.floats_before == b.floats_before) {
            let to = group.first().map_or(from, |h| h.floats_before);
            self.apply_floats(load, from..to);
            group.iter().for_each(|histogram| self.apply_histogram(histogram));
            from = to;
        }
        self.apply_floats(load, from..load.series.len());
        for exemplar in &load.exemplars {
            if self.own_number(exemplar.series).is_some() {
                self.generation.apply_exemplars(std::slice::from_ref(exemplar), self.exemplar_limit);
            }
        }
    }

    fn apply_histogram(&mut self, histogram: &LoadedHistogram) {
        let LoadedHistogram { series, time, start, bytes, .. } = histogram;
        let Some(own) = self.own_number(*series) else { return };
        self.last.grow(own.saturating_add(1).next_multiple_of(PAGE_LEN as u32));
        let mark = histogram_mark(hash_one_histogram(bytes));
        if let Some(arrival) = self.last.restore(own, *time, mark) {
            let is_late = arrival.is_late();
            let bytes = Arc::clone(bytes);
            let (series, time, start) = (*series, *time, *start);
            let judged = JudgedHistogram { series, time, start, bytes, is_late };
            self.generation.apply_histograms(&[judged]);
            if matches!(arrival, Arrival::Instead) {
                self.generation.end_chunk(series);
            }
        }
    }

    fn apply_floats(&mut self, load: &Load, range: Range<usize>) {
        let mut end = range.start;
        let series = load.series.get(range).unwrap_or_default();
        for run in series.chunk_by(|a, b| a / PAGE_LEN as u32 == b / PAGE_LEN as u32) {
            let start = end;
            end += run.len();
            let Some(own) = run.first().and_then(|first| self.own_number(*first)) else { continue };
            let base = own - own % PAGE_LEN as u32;
            self.last.grow(base.saturating_add(PAGE_LEN as u32));
            let columns = Columns {
                times: load.times.get(start..end).unwrap_or_default(),
                values: load.values.get(start..end).unwrap_or_default(),
                starts: load.starts.get(start..end).unwrap_or_default(),
            };
            let last = &mut self.last;
            self.generation.add(run, columns, |series, time, value| {
                last.restore(base + series % PAGE_LEN as u32, time, value)
            });
        }
    }
}

/// The way to a lane's thread, and what it gives when the way is closed.
type Thread = (SyncSender<Arc<Load>>, JoinHandle<Lane>);

enum Stage {
    /// Nothing was applied yet.
    Waiting(LastSamples),
    Running(Vec<Thread>),
}

/// See the module.
pub(crate) struct Lanes {
    wanted: usize,
    exemplar_limit: usize,
    stage: Stage,
    /// What was handed out, oldest first: filled again when all lanes are done with it.
    loads: VecDeque<Arc<Load>>,
}

impl Lanes {
    /// `count` lanes that go on from `last`; of more than `exemplar_limit` exemplars of a series the oldest go.
    pub(crate) fn new(last: LastSamples, count: usize, exemplar_limit: usize) -> Self {
        Self { wanted: count.max(1), exemplar_limit, stage: Stage::Waiting(last), loads: VecDeque::new() }
    }

    /// Applies a load behind those before, and gives an empty one to fill.
    ///
    /// # Errors
    /// No thread is to be had, or one met a bug.
    pub(crate) fn apply(&mut self, load: Load) -> Result<Load> {
        if let Stage::Waiting(last) = &mut self.stage {
            self.stage = Stage::Running(start(std::mem::take(last), self.wanted, self.exemplar_limit)?);
        }
        let Stage::Running(threads) = &self.stage else { return Ok(Load::default()) };
        let load = Arc::new(load);
        for (sender, _) in threads {
            sender.send(Arc::clone(&load)).map_err(|_| failed())?;
        }
        self.loads.push_back(load);
        let is_done = self.loads.front().is_some_and(|oldest| Arc::strong_count(oldest) == 1);
        let done = if is_done { self.loads.pop_front().and_then(Arc::into_inner) } else { None };
        let mut next = done.unwrap_or_default();
        next.clear();
        Ok(next)
    }

    /// Applies the last load, and puts together what the lanes have; there are `series` series in all.
    ///
    /// # Errors
    /// As [`Lanes::apply`].
    pub(crate) fn finish(mut self, load: Load, series: u32) -> Result<Applied> {
        let mut lanes = Vec::new();
        match &mut self.stage {
            Stage::Waiting(last) => {
                let mut lane = new_lane(0, 1, std::mem::take(last), self.exemplar_limit);
                lane.apply(&load);
                lanes.push(lane);
            }
            Stage::Running(_) => {
                self.apply(load)?;
                let Stage::Running(threads) = self.stage else { return Err(failed()) };
                for (sender, thread) in threads {
                    drop(sender);
                    lanes.push(thread.join().map_err(|_| failed())?);
                }
            }
        }
        let (mut parts, mut generation) = (Vec::new(), Generation::default());
        for lane in lanes {
            parts.push(lane.last);
            generation.join(lane.generation);
        }
        let samples = generation.samples();
        Ok(Applied { last: LastSamples::gather(parts, series), generation, samples })
    }
}

fn failed() -> Error {
    Error::internal("a thread that applies the log met a bug")
}

fn new_lane(number: usize, of: usize, last: LastSamples, exemplar_limit: usize) -> Lane {
    Lane { number, of, last, generation: Generation::default(), exemplar_limit }
}

fn start(last: LastSamples, count: usize, exemplar_limit: usize) -> Result<Vec<Thread>> {
    let mut threads = Vec::with_capacity(count);
    for (number, part) in last.deal(count).into_iter().enumerate() {
        let (sender, receiver): (_, Receiver<Arc<Load>>) = sync_channel(LOADS_WAITING);
        let mut lane = new_lane(number, count, part, exemplar_limit);
        let body = move || {
            while let Ok(load) = receiver.recv() {
                lane.apply(&load);
            }
            lane
        };
        let thread = std::thread::Builder::new().name(format!("kymo-replay-{number}")).spawn(body);
        threads.push((sender, thread.map_err(|e| Error::io("start a thread that applies the log", e))?));
    }
    Ok(threads)
}

//! Replay: the records of the log become the registry and the active generation again, in the order of the log.

use super::exemplars::JudgedExemplar;
use super::generation::Generation;
use super::lanes::{Applied, Lanes, Load, LoadedHistogram};
use super::last::LastSamples;
use super::registry::Registry;
use crate::error::Result;
use crate::model::{Exemplar, Labels, Metadata};
use crate::wal::{ExemplarRecord, HistogramsRecord, ReplayVisitor, SamplesRecord};
use hashbrown::HashMap;
use std::sync::Arc;

/// Samples that are handed on together: enough to be worth a message, few enough to stay in the cache.
const LOAD_SAMPLES: usize = 32 * 1024;
/// As how many samples a histogram counts there.
const HISTOGRAM_WEIGHT: usize = 8;
/// More threads than this wait for the one that reads.
const LANES_MAX: usize = 8;

/// What a replay fills.
pub(crate) struct Replay<'a> {
    registry: &'a Registry,
    progress: &'a dyn Fn(ReplayProgress),
    lanes: Lanes,
    load: Load,
    load_samples: usize,
    metadata: Vec<(String, Metadata)>,
    lost_samples: u64,
    lost_in: Vec<u64>,
    /// The segment being read.
    segment: u64,
    /// See [`ReplayVisitor::torn`].
    is_torn: bool,
    /// Numbers of the log that stand for other numbers of the registry: of series that came back and that the checkpoint has under
    /// another, and of those in `named_anew`.
    renumbered: HashMap<u32, u32>,
    /// Series that could not have the number that the log gives them, so that the log must name them again.
    named_anew: Vec<u32>,
    /// So many numbers the log may still leave out.
    left_out: u32,
    /// One more than the highest series number any record names, of those that are believed.
    numbers_used: u32,
}

/// A store gives numbers in a row, so a log leaves some out only where names of series are lost. So many are kept free then, at 36
/// bytes each; behind them series get the next number there is, and memory goes by the series that the log names.
const NUMBERS_LEFT_OUT_MAX: u32 = 1 << 16;
/// In the place of a number: no series.
const NOBODY: u32 = u32::MAX;

/// How far the log is read back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplayProgress {
    /// The first segment to read.
    pub first_segment: u64,
    /// The last segment to read.
    pub last_segment: u64,
    /// The segment being read.
    pub current_segment: u64,
}

/// What a replay gives.
pub(crate) struct Replayed {
    pub(crate) last: LastSamples,
    pub(crate) generation: Generation,
    pub(crate) metadata: Vec<(String, Metadata)>,
    /// Samples of series whose registration is lost.
    pub(crate) lost_samples: u64,
    /// The segments of the log that they are in.
    pub(crate) lost_in: Vec<u64>,
    pub(crate) samples: u64,
    /// Series that the log knows under other numbers than theirs: it must name them before it names their samples.
    pub(crate) named_anew: Vec<u32>,
}

impl<'a> Replay<'a> {
    /// Goes on from `last`, which belongs to the registry's checkpoint, on as many threads as there are cores.
    pub(crate) fn new(
        registry: &'a Registry,
        last: LastSamples,
        progress: &'a dyn Fn(ReplayProgress),
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { progress, ..Self::with_lanes(registry, last, cores.min(LANES_MAX), LOAD_SAMPLES) }
    }

    fn with_lanes(registry: &'a Registry, last: LastSamples, lanes: usize, load_samples: usize) -> Self {
        Self {
            registry,
            progress: &|_| {},
            lanes: Lanes::new(last, lanes, registry.limits().exemplars_per_series),
            load: Load::default(),
            load_samples,
            metadata: Vec::new(),
            lost_samples: 0,
            lost_in: Vec::new(),
            segment: 0,
            is_torn: false,
            renumbered: HashMap::new(),
            named_anew: Vec::new(),
            left_out: NUMBERS_LEFT_OUT_MAX,
            numbers_used: 0,
        }
    }

    /// Reserves the numbers whose registration is lost: new series must not be taken for them by the next replay.
    ///
    /// # Errors
    /// A thread cannot be had, or met a bug.
    pub(crate) fn finish(self) -> Result<Replayed> {
        self.registry.reserve_numbers(self.numbers_used);
        let Self { mut load, lanes, metadata, lost_samples, lost_in, named_anew, .. } = self;
        load.pad_starts();
        let Applied { last, generation, samples } = lanes.finish(load, self.registry.len())?;
        if !named_anew.is_empty() {
            tracing::warn!(
                series = named_anew.len(),
                "the log gives series numbers that cannot be theirs; they get others"
            );
        }
        Ok(Replayed { last, generation, metadata, lost_samples, lost_in, samples, named_anew })
    }
}

impl Replay<'_> {
    /// Counts samples whose series nobody knows.
    fn lose(&mut self, samples: u64) {
        if self.is_torn || samples == 0 {
            return;
        }
        self.lost_samples += samples;
        if self.lost_in.last() != Some(&self.segment) {
            self.lost_in.push(self.segment);
        }
    }

    /// The number in the registry of number `id` of the log.
    #[inline]
    fn number(&self, id: u32) -> u32 {
        if self.renumbered.is_empty() { id } else { self.renumbered.get(&id).copied().unwrap_or(id) }
    }

    /// Whether a log may name `id`, with so many series known and numbers left out.
    fn is_believed(&self, id: u32) -> bool {
        id < self.registry.len().saturating_add(self.left_out)
    }

    fn note_number(&mut self, id: u32) {
        if self.is_believed(id) {
            self.numbers_used = self.numbers_used.max(id.saturating_add(1));
        }
    }

    /// The number of the series `labels`, which is `id` in the log.
    fn restore(&mut self, id: u32, labels: &Labels) -> Option<u32> {
        let next = self.registry.len();
        if self.is_believed(id)
            && let Some(number) = self.registry.restore(id, labels, None)
        {
            let left_out = self.registry.len().saturating_sub(next).saturating_sub(1);
            self.left_out = self.left_out.saturating_sub(left_out);
            return Some(number);
        }
        let number = self.registry.restore(next, labels, None)?;
        if number == next {
            self.named_anew.push(number);
            // In the log that number is not this series.
            self.renumbered.insert(number, NOBODY);
        }
        Some(number)
    }

    /// Lets the lanes apply what has gathered, if it is enough.
    fn hand_on(&mut self) -> Result<()> {
        let load = &mut self.load;
        let others = load.histograms.len().saturating_add(load.exemplars.len());
        let enough = others.saturating_mul(HISTOGRAM_WEIGHT) >= self.load_samples;
        if load.series.len() < self.load_samples && !enough {
            return Ok(());
        }
        load.pad_starts();
        self.load = self.lanes.apply(std::mem::take(load))?;
        Ok(())
    }
}

impl ReplayVisitor for Replay<'_> {
    fn segment(&mut self, first: u64, last: u64, current: u64) {
        let (first_segment, last_segment, current_segment) = (first, last, current);
        (self.progress)(ReplayProgress { first_segment, last_segment, current_segment });
        self.segment = current;
    }

    fn torn(&mut self, is_torn: bool) {
        self.is_torn = is_torn;
    }

    fn series(&mut self, id: u32, labels: &[u8]) -> Result<()> {
        self.note_number(id);
        let labels = Labels::from_canonical(labels);
        self.renumbered.remove(&id);
        match self.restore(id, &labels) {
            Some(known) if known == id => {}
            Some(known) => drop(self.renumbered.insert(id, known)),
            None => {
                tracing::warn!(id, %labels, "there is no number for a series of the log; its samples are left out");
                self.renumbered.insert(id, NOBODY);
            }
        }
        Ok(())
    }

    fn samples(&mut self, samples: SamplesRecord<'_>) -> Result<()> {
        let SamplesRecord { ids, timestamps, values, starts } = samples;
        let highest = ids.iter().copied().max().unwrap_or(0);
        if self.is_believed(highest) {
            self.note_number(highest);
        } else {
            ids.iter().for_each(|id| self.note_number(*id));
        }
        let load = &mut self.load;
        if !starts.is_empty() {
            load.starts.resize(load.series.len(), 0);
        }
        let mut lost = 0;
        let is_whole = self.registry.is_whole() && self.renumbered.is_empty();
        if highest < self.registry.len() && is_whole {
            load.series.extend_from_slice(ids);
            load.times.extend_from_slice(timestamps);
            load.values.extend_from_slice(values);
            load.starts.extend_from_slice(starts);
        } else {
            for (index, ((id, time), value)) in ids.iter().zip(timestamps).zip(values).enumerate() {
                let id = self.renumbered.get(id).copied().unwrap_or(*id);
                if self.registry.is_unnamed(id) {
                    lost += 1;
                    continue;
                }
                load.series.push(id);
                load.times.push(*time);
                load.values.push(*value);
                load.starts.extend(starts.get(index));
            }
        }
        self.lose(lost);
        self.hand_on()
    }

    fn histograms(&mut self, record: HistogramsRecord<'_>) -> Result<()> {
        let columns = record.ids.iter().zip(record.timestamps).zip(record.histograms);
        for (index, ((&series, &time), bytes)) in columns.enumerate() {
            self.note_number(series);
            let series = self.number(series);
            if self.registry.is_unnamed(series) {
                self.lose(1);
                continue;
            }
            let load = &mut self.load;
            let floats_before = load.series.len();
            let (start, bytes) = (record.starts.get(index).copied().unwrap_or(0), Arc::from(*bytes));
            load.histograms.push(LoadedHistogram { floats_before, series, time, start, bytes });
        }
        self.hand_on()
    }

    fn exemplars(&mut self, exemplars: &[ExemplarRecord<'_>]) -> Result<()> {
        for ExemplarRecord { id, timestamp, value, labels } in exemplars.iter().copied() {
            self.note_number(id);
            let id = self.number(id);
            let Ok(labels) = Labels::from_wire(labels) else { continue };
            if !self.registry.is_unnamed(id) {
                let exemplar = Exemplar { labels, value, timestamp };
                self.load.exemplars.push(JudgedExemplar { series: id, exemplar });
            }
        }
        self.hand_on()
    }

    fn metadata(&mut self, family: &str, metadata: &Metadata) -> Result<()> {
        self.metadata.push((family.to_owned(), metadata.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::head::hash::HashKey;
    use crate::model::{FloatHistogram, TimeRange};
    use crate::options::Limits;

    const SERIES: u32 = 30_000;

    fn labels(i: u32) -> Labels {
        Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
    }

    /// Replays scrapes of all series in parts, late and repeated samples and lost registrations among them.
    fn replay(lanes: usize, load_samples: usize) -> (Replayed, u32) {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        for i in 0..5000 {
            registry.restore(i, &labels(i), None);
        }
        let mut last = LastSamples::default();
        for i in 0..5000 {
            last.set(i, crate::head::last::Last { time: 500, value: f64::from(i) });
        }
        let mut replay = Replay::with_lanes(&registry, last, lanes, load_samples);
        for i in (5000..SERIES).filter(|i| i % 1000 != 7) {
            replay.series(i, labels(i).as_bytes()).unwrap();
        }
        for scrape in 0..12u32 {
            for part in (0..SERIES + 300).step_by(1700) {
                let ids: Vec<u32> = (part..(SERIES + 300).min(part + 1700)).collect();
                let time =
                    |i: u32| i64::from(scrape * 1000 - if (i + scrape) % 50 == 3 { scrape * 900 } else { 0 });
                let timestamps: Vec<i64> = ids.iter().map(|i| time(*i)).collect();
                let values: Vec<f64> = ids.iter().map(|i| f64::from((i ^ scrape) % 97) / 8.0).collect();
                let record =
                    SamplesRecord { ids: &ids, timestamps: &timestamps, values: &values, starts: &[] };
                replay.samples(record).unwrap();
            }
        }
        (replay.finish().unwrap(), registry.len())
    }

    #[test]
    fn any_number_of_lanes_gives_the_same() {
        let (expected, count) = replay(1, usize::MAX);
        assert!(expected.lost_samples > 0 && expected.samples > 0);
        for lanes in [1, 2, 3, 8] {
            let (found, _) = replay(lanes, 5000);
            assert_eq!((found.samples, found.lost_samples), (expected.samples, expected.lost_samples));
            assert_eq!(found.generation.times(), expected.generation.times());
            assert_eq!(found.generation.memory_bytes(), expected.generation.memory_bytes());
            assert_eq!((found.last.len(), expected.last.len()), (count, count));
            assert!(found.generation.series().eq(expected.generation.series()));
            for id in 0..count {
                let (a, b) = (found.last.get(id), expected.last.get(id));
                assert_eq!((a.time, a.value.to_bits()), (b.time, b.value.to_bits()), "series {id}");
                let read = |generation: &Generation| {
                    let (mut times, mut values) = (Vec::new(), Vec::new());
                    generation
                        .read::<FloatHistogram>(id, TimeRange::ALL, &mut times, &mut values, &mut Vec::new())
                        .unwrap();
                    (times, values)
                };
                assert_eq!(read(&found.generation), read(&expected.generation), "series {id}");
            }
        }
    }

    /// A log has two values for one time when a sample was deleted between, or its series had left memory and come back.
    #[test]
    fn of_two_values_for_one_time_the_later_one_is_there_and_the_next_do_not_go_on_from_it() {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        registry.restore(0, &labels(0), None);
        let mut replay = Replay::with_lanes(&registry, LastSamples::default(), 1, usize::MAX);
        let samples = [(1000, 112.75), (2000, 116.0), (2000, 70.125), (3000, 84.0), (4000, 84.5)];
        for (time, value) in samples {
            let record = SamplesRecord { ids: &[0], timestamps: &[time], values: &[value], starts: &[] };
            replay.samples(record).unwrap();
        }
        let found = replay.finish().unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        found
            .generation
            .read::<FloatHistogram>(0, TimeRange::ALL, &mut times, &mut values, &mut Vec::new())
            .unwrap();
        assert_eq!((times, values), (vec![1000, 2000, 3000, 4000], vec![112.75, 70.125, 84.0, 84.5]));
        assert_eq!((found.last.get(0).time, found.last.get(0).value), (4000, 84.5));
    }

    fn one(replay: &mut Replay<'_>, id: u32, time: i64) {
        let record = SamplesRecord { ids: &[id], timestamps: &[time], values: &[1.0], starts: &[] };
        replay.samples(record).unwrap();
    }

    #[test]
    fn numbers_no_store_gives_take_no_memory() {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        let mut replay = Replay::with_lanes(&registry, LastSamples::default(), 2, 100);
        let far = [u32::MAX, u32::MAX - 1, 1 << 26, 70_000, 7, 1 << 17];
        for (i, id) in (0..).zip(far) {
            replay.series(id, labels(i).as_bytes()).unwrap();
            one(&mut replay, id, 5);
            // Numbers that nothing names, and those that the series before got instead of their own.
            [0, 1, 9, 1 << 30].into_iter().for_each(|id| one(&mut replay, id, 6));
        }
        let replayed = replay.finish().unwrap();
        assert_eq!((replayed.samples, replayed.lost_samples), (6, 24));
        assert!(registry.len() < NUMBERS_LEFT_OUT_MAX, "{}", registry.len());
        assert_eq!(registry.series_count(), 6);
        assert_eq!(registry.find(&labels(4)), Some(7));
        let mut anew = replayed.named_anew;
        anew.sort_unstable();
        let of = |i| registry.find(&labels(i)).unwrap();
        let mut expected = vec![of(0), of(1), of(2), of(3), of(5)];
        expected.sort_unstable();
        assert_eq!(anew, expected);
    }

    #[test]
    fn a_number_given_twice_means_what_it_was_given_last() {
        let registry = Registry::new(HashKey::from_seed([1, 2]), Limits::default());
        let mut replay = Replay::with_lanes(&registry, LastSamples::default(), 1, 100);
        for (id, i) in [(0, 0), (0, 1), (1, 2), (0, 0)] {
            replay.series(id, labels(i).as_bytes()).unwrap();
            one(&mut replay, id, i64::from(10 * i + id));
        }
        let replayed = replay.finish().unwrap();
        assert_eq!((registry.len(), replayed.lost_samples), (3, 0));
        assert_eq!(replayed.named_anew, [1, 2], "the second stands at the number of the third");
        for (i, expected) in [(0, 0), (1, 10), (2, 21)] {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            let id = registry.find(&labels(i)).unwrap();
            let generation = &replayed.generation;
            generation
                .read::<FloatHistogram>(id, TimeRange::ALL, &mut times, &mut values, &mut Vec::new())
                .unwrap();
            assert_eq!(times, [expected], "{i}");
        }
    }
}

//! Replay: the records of the log become the registry and the active generation again, in the order of the log.

use super::generation::{Arrival, Generation, JudgedColumns};
use super::last::{Bounds, Last, LastSamples, Verdict};
use super::registry::Registry;
use crate::error::Result;
use crate::model::{Labels, Metadata};
use crate::wal::{ReplayVisitor, SamplesRecord};

/// What a replay fills.
pub(crate) struct Replay<'a> {
    registry: &'a Registry,
    pub(crate) last: LastSamples,
    pub(crate) generation: Generation,
    pub(crate) metadata: Vec<(String, Metadata)>,
    /// Samples of series whose registration is lost.
    pub(crate) lost_samples: u64,
    pub(crate) samples: u64,
    /// One more than the highest series number any record names.
    numbers_used: u32,
    judged: JudgedColumns,
    undo: Vec<(u32, Last)>,
}

impl<'a> Replay<'a> {
    /// Goes on from `last`, which belongs to the registry's checkpoint.
    pub(crate) fn new(registry: &'a Registry, last: LastSamples) -> Self {
        Self {
            registry,
            last,
            generation: Generation::default(),
            metadata: Vec::new(),
            lost_samples: 0,
            samples: 0,
            numbers_used: 0,
            judged: JudgedColumns::default(),
            undo: Vec::new(),
        }
    }

    /// Reserves the numbers whose registration is lost: new series must not be taken for them by the next replay.
    pub(crate) fn finish(&mut self) {
        self.registry.reserve_numbers(self.numbers_used);
        self.last.grow(self.registry.len());
    }
}

impl ReplayVisitor for Replay<'_> {
    fn series(&mut self, id: u32, labels: &[u8]) -> Result<()> {
        self.numbers_used = self.numbers_used.max(id.saturating_add(1));
        let labels = Labels::from_canonical(labels);
        if !self.registry.restore(id, &labels, None) {
            tracing::warn!(id, %labels, "the log gives a series number twice; its samples are left out");
        }
        Ok(())
    }

    fn samples(&mut self, samples: SamplesRecord<'_>) -> Result<()> {
        self.judged.clear();
        self.undo.clear();
        self.last.grow(self.registry.len());
        let columns = samples.ids.iter().zip(samples.timestamps).zip(samples.values);
        for ((&series, &time), &value) in columns {
            self.numbers_used = self.numbers_used.max(series.saturating_add(1));
            if self.registry.is_unnamed(series) {
                self.lost_samples += 1;
                continue;
            }
            let arrival = match self.last.judge(series, time, value, Bounds::ANY, &mut self.undo) {
                Verdict::Store(arrival) => arrival,
                Verdict::Known => continue,
                // It was accepted once; that it conflicts now means that something before it is lost.
                Verdict::Refuse(_) => Arrival::Late,
            };
            self.judged.push(series, time, value, arrival);
        }
        self.samples += self.judged.len() as u64;
        self.generation.apply(self.judged.range(0..self.judged.len()));
        Ok(())
    }

    fn metadata(&mut self, family: &str, metadata: &Metadata) -> Result<()> {
        self.metadata.push((family.to_owned(), metadata.clone()));
        Ok(())
    }
}

//! Deleting samples by time range and matchers.
//!
//! A delete writes what it concerns of the head into blocks, then puts a tombstone (see `block/tombstone.rs`) that hides
//! the samples from every read; the next compaction of the blocks leaves them out.

use super::Storage;
use super::requests::{Message, closed};
use super::shared::Shared;
use crate::api::Queryable;
use crate::block::{Manifest, TOMBSTONES_MAX, Tombstone, store_tombstones};
use crate::error::{Error, ErrorKind, Result};
use crate::head::view::LiveBlock;
use crate::index;
use crate::model::{Labels, Matcher, TimeRange};
use roaring::RoaringBitmap;
use std::collections::HashSet;
use std::sync::Arc;

/// What a delete met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeleteReport {
    /// Series that matched and may have had samples in the range; if there is none, those that had exemplars.
    pub series: u64,
}

impl Storage {
    /// Deletes the samples and exemplars in `range` of all series that match all matchers of one of `matcher_sets`: those in memory and
    /// in blocks, late ones too. They are gone from every read that starts after this returns, also after a crash; their
    /// room on disk is free after the next compaction (see [`Storage::clean_tombstones`]).
    ///
    /// What is committed after this returns is new and stays, whatever its timestamps: a deleted sample may be written
    /// again. Samples committed while the call lasts belong to either side.
    ///
    /// # Errors
    /// `Invalid` if there is no set of matchers; `LimitExceeded` if too many deletes wait for compaction; `Unavailable` if
    /// the store is closed; the disk refusing. Nothing is deleted then.
    pub fn delete(&self, range: TimeRange, matcher_sets: &[Vec<Matcher>]) -> Result<DeleteReport> {
        let shared = &self.owner.shared;
        if matcher_sets.is_empty() {
            return Err(Error::invalid("a delete needs matchers that say which series are meant"));
        }
        if shared.queue.read().is_none() {
            return Err(closed());
        }
        let _alone = shared.deleting.lock();
        let waiting = shared.tombstones.lock().len();
        if waiting >= TOMBSTONES_MAX {
            let text = format!(
                "{waiting} deletes wait for compaction, the limit is {TOMBSTONES_MAX}: clean the tombstones first"
            );
            return Err(Error::new(ErrorKind::LimitExceeded, text));
        }
        let (report, is_damaged) = self.count_series(range, matcher_sets)?;
        // What is damaged now may be repaired and put back, and is to be deleted then.
        if report.series == 0 && !is_damaged {
            return Ok(report);
        }
        let _pin = shared.registry.pin();
        let series = shared.registered(matcher_sets)?;
        shared.with_reserve(|| {
            shared.freeze_and_flush(|answer| Message::Forget(series.clone(), range, answer))?;
            shared.put_tombstone(range, matcher_sets)
        })?;
        Ok(report)
    }

    /// How many series have samples to delete, and whether damage keeps something from sight.
    fn count_series(&self, range: TimeRange, matcher_sets: &[Vec<Matcher>]) -> Result<(DeleteReport, bool)> {
        let querier = self.querier(range)?;
        let (mut is_damaged, mut series) = (false, 0);
        let mut all: HashSet<Labels> = HashSet::new();
        for matchers in matcher_sets {
            let found = querier.select(range, matchers)?;
            series += found.len() as u64;
            is_damaged |= !found.warnings().is_empty();
            if matcher_sets.len() > 1 {
                all.extend((0..found.len()).map(|index| found.labels(index)));
                series = all.len() as u64;
            }
        }
        if series == 0 {
            series = self.count_with_exemplars(range, matcher_sets)?;
        }
        Ok((DeleteReport { series }, is_damaged))
    }

    /// How many series have exemplars to delete; more than can be answered are some at least.
    fn count_with_exemplars(&self, range: TimeRange, matcher_sets: &[Vec<Matcher>]) -> Result<u64> {
        match self.exemplars(range, matcher_sets) {
            // What is damaged may hold some as well.
            Ok(found) if !found.warnings.is_empty() => Ok(1),
            Ok(found) => Ok(found.series.iter().filter(|s| !s.exemplars.is_empty()).count() as u64),
            Err(error) if error.kind() == ErrorKind::LimitExceeded => Ok(1),
            Err(error) => Err(error),
        }
    }
}

impl Shared {
    /// The series of the registry that match one of the sets.
    fn registered(&self, matcher_sets: &[Vec<Matcher>]) -> Result<RoaringBitmap> {
        let catalog = self.registry.catalog();
        let mut series = RoaringBitmap::new();
        for matchers in matcher_sets {
            series |= index::select(&*catalog, matchers)?;
        }
        Ok(series)
    }

    /// Hides the samples that are in blocks now.
    fn put_tombstone(&self, range: TimeRange, matcher_sets: &[Vec<Matcher>]) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let mut tombstones = self.tombstones.lock();
        if !manifest.has_deletes {
            // From here on a list that is gone is missed; so there is one before.
            store_tombstones(&self.fs, &self.dir, &tombstones)?;
            let changed = Manifest { has_deletes: true, ..manifest.clone() };
            changed.store(&self.fs, &self.dir)?;
            *manifest = changed;
        }
        let tombstone = Tombstone {
            sequence: manifest.next_sequence,
            range,
            created: self.clock.now_ms(),
            matcher_sets: matcher_sets.to_vec(),
        };
        let mut next = tombstones.clone();
        next.push(Arc::new(tombstone));
        store_tombstones(&self.fs, &self.dir, &next)?;
        *tombstones = next;
        self.view.change(|view| {
            let under = |live: &Arc<LiveBlock>| Arc::new(live.with_tombstones(&tombstones));
            view.blocks = Arc::new(view.blocks.iter().map(under).collect());
            view.flushed = None;
        });
        Ok(())
    }
}

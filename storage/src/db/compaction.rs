//! The thread that merges blocks: what the planner says, one merge after another, within its budget.

use super::Storage;
use super::open::BLOCKS;
use super::requests::{Answer, CompactJob, Merges, answered, closed};
use super::scrub::Scrub;
use super::shared::Shared;
use crate::block::{BLOCK_EXTENSION, Block, BlockSpec, ManifestBlock, Tombstone, store_tombstones};
use crate::error::{Error, ErrorKind, Result};
use crate::head::view::LiveBlock;
use crate::maintain::merge::Merge;
use crate::maintain::plan::{Candidate, Policy, plan};
use crate::maintain::retention::{millis, replaced_from};
use crate::maintain::throttle::Throttle;
use crate::model::{Labels, Timestamp};
use crate::sync::atomic::Ordering;
use crate::sync::mpsc::{Receiver, RecvTimeoutError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// So many blocks of flushes are merged before their window is over.
const MANY_BLOCKS: usize = 8;
/// With more samples waiting to be committed the store is busy.
const BUSY_SAMPLES: usize = 500_000;

/// What the thread that merges blocks remembers from one look at the store to the next.
#[derive(Default)]
pub(crate) struct Compactor {
    scrub: Scrub,
}

impl Compactor {
    /// Merges what it is asked to; without a request, reads blocks again for rot and merges what is due.
    pub(crate) fn work(&mut self, shared: &Shared, job: Option<(Merges, Answer)>) {
        if let Some((merges, answer)) = job {
            return answer(shared.compact(1.0, merges));
        }
        shared.scrub(&mut self.scrub);
        if shared.options.compaction_percent == 0 {
            return;
        }
        let share = f64::from(shared.options.compaction_percent) / 100.0;
        match shared.compact(share, Merges::Due) {
            Err(error) if error.kind() != ErrorKind::Cancelled => {
                tracing::error!(%error, "blocks cannot be merged; it will be tried again");
            }
            _ => {}
        }
    }
}

/// Serves `jobs`, and merges what is to be merged at regular intervals, until told to stop.
pub(crate) fn run(shared: &Shared, jobs: &Receiver<CompactJob>) {
    let mut compactor = Compactor::default();
    loop {
        let job = match jobs.recv_timeout(shared.options.maintenance_interval) {
            Ok(CompactJob::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(CompactJob::Compact(merges, answer)) => Some((merges, answer)),
            Err(RecvTimeoutError::Timeout) => None,
        };
        let worked = catch_unwind(AssertUnwindSafe(|| compactor.work(shared, job)));
        if worked.is_err() {
            shared.counters.compaction_failures.add(1);
            tracing::error!("the thread that merges blocks met a bug and goes on");
        }
        if shared.stop.is_set() {
            return;
        }
    }
}

impl Storage {
    /// Merges all blocks that are to be merged now, at full speed, and waits for it. Without this call it happens in the
    /// background.
    ///
    /// # Errors
    /// The disk refusing, or too little room; the blocks are then as they were. `Cancelled` or `Unavailable` when the store
    /// is closed.
    pub fn compact(&self) -> Result<()> {
        self.owner.shared.ask_compactor(|answer| CompactJob::Compact(Merges::Due, answer))
    }

    /// Merges all blocks as far as the widest of [`Options::compaction_widths`](crate::options::Options) and
    /// [`Options::compaction_bytes_max`](crate::options::Options) allow, at full speed, and waits for it: for a store that is to
    /// be kept or measured as it is. One that goes on growing need not be told.
    ///
    /// # Errors
    /// As [`Storage::compact`].
    pub fn compact_all(&self) -> Result<()> {
        self.owner.shared.ask_compactor(|answer| CompactJob::Compact(Merges::All, answer))
    }

    /// Rewrites all blocks with deleted samples without them, and waits for it: their room on disk is free then.
    ///
    /// # Errors
    /// As [`Storage::compact`].
    pub fn clean_tombstones(&self) -> Result<()> {
        self.owner.shared.ask_compactor(|answer| CompactJob::Compact(Merges::Deleted, answer))
    }
}

impl Shared {
    fn ask_compactor(&self, job: impl FnOnce(Answer) -> CompactJob) -> Result<()> {
        let jobs = self.compactor.read().clone().ok_or_else(closed)?;
        let (answer, receiver) = answered();
        self.send(&jobs, job(answer)).map_err(|_| closed())?;
        drop(jobs);
        self.wait(&receiver).unwrap_or_else(|| Err(self.unanswered()))
    }

    /// Merges blocks until nothing is left to merge.
    fn compact(&self, share: f64, merges: Merges) -> Result<()> {
        let is_busy = || {
            self.queued.load(Ordering::Relaxed) > BUSY_SAMPLES
                || self.view.peek(|view| !view.frozen.is_empty())
        };
        let mut throttle = Throttle::new(Arc::clone(&self.clock), &self.stop, share, &is_busy);
        let policy = Policy { is_final: merges == Merges::All, ..self.policy() };
        let rewrites_all = merges == Merges::Deleted;
        while let Some(sequences) = plan(&self.candidates(rewrites_all), &policy) {
            let started = self.clock.monotonic();
            let merged = self.merge_blocks(&sequences, &mut throttle);
            let took = self.clock.monotonic().saturating_sub(started);
            self.counters.compaction_millis.add(took.as_millis() as u64);
            match merged {
                Ok(()) => self.counters.compactions.add(1),
                Err(error) if error.is_damage() => {
                    self.counters.compaction_failures.add(1);
                    self.find_damage(&sequences, &error);
                }
                Err(error) => {
                    if error.kind() != ErrorKind::Cancelled {
                        self.counters.compaction_failures.add(1);
                    }
                    return Err(error.context("merge blocks"));
                }
            }
        }
        self.settle_tombstones()
    }

    fn policy(&self) -> Policy {
        let longest = self.options.retention.map_or(i64::MAX, |r| millis(r) / 10);
        let widths = self.options.compaction_widths.iter().map(|width| millis(*width));
        let widths = widths.enumerate().filter(|(place, width)| *place == 0 || *width <= longest);
        Policy {
            widths: widths.map(|w| w.1).collect(),
            bytes_max: self.options.compaction_bytes_max,
            many: MANY_BLOCKS,
            is_final: false,
        }
    }

    /// What the planner may choose from.
    fn candidates(&self, rewrites_all: bool) -> Vec<Candidate> {
        let manifest = self.manifest.lock();
        let blocks = self.view.peek(|view| Arc::clone(&view.blocks));
        let damaged = self.damaged.lock();
        let reclaim = millis(self.options.delete_reclaim_after);
        let now = self.clock.now_ms();
        let keep = self.keep_rules();
        let is_due = |live: &Arc<LiveBlock>| {
            // A rewrite would keep what may have replaced samples of an older block.
            let is_lowest =
                || replaced_from(&manifest.blocks, &[live.block.meta().sequence]) == Timestamp::MAX;
            if keep.is_over_for_some(&live.block).unwrap_or(false) && is_lowest() {
                return true;
            }
            let mut about = live.tombstones().iter();
            let is_time = about.any(|t| rewrites_all || t.created.saturating_add(reclaim) <= now);
            is_time && live.deletions().is_ok_and(|deletions| !deletions.is_empty())
        };
        let candidate = |block: &ManifestBlock| {
            let sequence = block.meta.sequence;
            let live = blocks.iter().find(|live| live.block.meta().sequence == sequence);
            Candidate {
                sequence,
                min_time: block.meta.min_time,
                max_time: block.meta.max_time,
                bytes: block.bytes,
                level: block.meta.level,
                is_fixed: live.is_none() || damaged.contains(&sequence),
                is_due: live.is_some_and(is_due),
            }
        };
        manifest.blocks.iter().map(candidate).collect()
    }

    /// Writes the blocks of these sequences as one and puts it in their place.
    fn merge_blocks(&self, sequences: &[u64], throttle: &mut Throttle<'_>) -> Result<()> {
        let replaced_from = replaced_from(&self.manifest.lock().blocks, sequences);
        let (inputs, applied) = {
            // No delete comes between the tombstones and the blocks under them.
            let tombstones = self.tombstones.lock();
            let blocks = self.view.peek(|view| Arc::clone(&view.blocks));
            let is_input = |live: &&Arc<LiveBlock>| sequences.contains(&live.block.meta().sequence);
            let inputs: Vec<_> = blocks.iter().filter(is_input).cloned().collect();
            (inputs, tombstones.clone())
        };
        let bytes: u64 = inputs.iter().map(|live| live.block.file_bytes()).sum();
        self.check_room(bytes)?;
        let (Some(sequence), Some(level)) = (
            inputs.iter().map(|live| live.block.meta().sequence).max(),
            inputs.iter().map(|live| live.block.meta().level).max(),
        ) else {
            return Ok(());
        };
        let level = if inputs.len() == 1 { level } else { level.saturating_add(1) };
        let spec = BlockSpec { uuid: self.fs.unique(), sequence, level };
        // Its inputs are still there under their names.
        let [a, b, c, d, ..] = spec.uuid;
        let file = format!("{sequence:016x}-{a:02x}{b:02x}{c:02x}{d:02x}.{BLOCK_EXTENSION}");
        let path = self.dir.join(BLOCKS).join(&file);
        let keep = self.keep_rules();
        let oldest_kept = |labels: &Labels| keep.oldest_kept(labels).min(replaced_from);
        let merge = Merge { fs: &self.fs, inputs: &inputs, oldest_kept: &oldest_kept };
        let written = merge.write(&path, spec, throttle)?;
        let output = match written {
            None => None,
            Some(meta) => {
                let checked = Block::open(&self.fs, &path).and_then(|block| block.verify().map(|()| block));
                let block = checked.inspect_err(|_| self.remove_file(&path))?;
                let bytes = block.file_bytes();
                self.counters.compaction_bytes_written.add(bytes);
                Some((ManifestBlock { file, bytes, meta }, block))
            }
        };
        self.counters.compaction_bytes_read.add(bytes);
        self.replace_blocks(sequences, output, applied)
    }

    /// Whether the disk has room for a copy of `bytes`.
    fn check_room(&self, bytes: u64) -> Result<()> {
        let Ok(space) = self.fs.space(&self.dir) else { return Ok(()) };
        let needed = bytes.saturating_add(self.least_free(space));
        if space.free_bytes >= needed {
            return Ok(());
        }
        let text =
            format!("merging {bytes} bytes of blocks needs {needed} free, there are {}", space.free_bytes);
        Err(Error::new(ErrorKind::Unavailable, text))
    }

    /// Puts `output` in the place of the blocks of these sequences, on disk and for readers, and removes them. If one of
    /// them was dropped meanwhile, the output goes instead.
    fn replace_blocks(
        &self,
        sequences: &[u64],
        output: Option<(ManifestBlock, Block)>,
        applied: Vec<Arc<Tombstone>>,
    ) -> Result<()> {
        let blocks_dir = self.dir.join(BLOCKS);
        let mut manifest = self.manifest.lock();
        let is_input = |block: &ManifestBlock| sequences.contains(&block.meta.sequence);
        let mut next = manifest.clone();
        let (inputs, kept): (Vec<_>, Vec<_>) = next.blocks.drain(..).partition(|block| is_input(block));
        next.blocks = kept;
        next.blocks.extend(output.iter().map(|(entry, _)| entry.clone()));
        if inputs.len() != sequences.len() {
            output.iter().for_each(|(entry, _)| self.remove_file(&blocks_dir.join(&entry.file)));
            return Ok(());
        }
        if let Err(error) = next.store(&self.fs, &self.dir) {
            // Which manifest is on disk is not known if the sync of its directory failed. Once the old one is there again
            // for sure, nothing refers to the output; until then all files stay.
            if manifest.store(&self.fs, &self.dir).is_ok() {
                output.iter().for_each(|(entry, _)| self.remove_file(&blocks_dir.join(&entry.file)));
            }
            return Err(error);
        }
        *manifest = next;
        let tombstones = self.tombstones.lock();
        let live = output.map(|(_, block)| Arc::new(LiveBlock::merged(block, applied, &tombstones)));
        self.view.change(|view| {
            let blocks = Arc::make_mut(&mut view.blocks);
            blocks.retain(|live| !sequences.contains(&live.block.meta().sequence));
            blocks.extend(live);
            blocks.sort_by_key(|live| live.block.meta().sequence);
        });
        drop(tombstones);
        drop(manifest);
        inputs.iter().for_each(|block| self.remove_file(&blocks_dir.join(&block.file)));
        Ok(())
    }

    /// After a merge that met damage: the blocks that have it are left alone from now on.
    fn find_damage(&self, sequences: &[u64], error: &Error) {
        tracing::error!(%error, "a damaged block cannot be merged; what is whole of it is served as before");
        let blocks = self.view.peek(|view| Arc::clone(&view.blocks));
        let inputs = blocks.iter().filter(|live| sequences.contains(&live.block.meta().sequence));
        let found: Vec<u64> = inputs
            .filter(|live| live.block.verify().is_err())
            .map(|live| live.block.meta().sequence)
            .collect();
        // Bytes that pass their checksums and make no sense are nobody's fault in particular.
        self.damaged.lock().extend(if found.is_empty() { sequences } else { &found });
    }

    /// Forgets the deletes of which nothing is left in any block.
    fn settle_tombstones(&self) -> Result<()> {
        // In the order of the locks.
        let _manifest = self.manifest.lock();
        let mut tombstones = self.tombstones.lock();
        if tombstones.is_empty() {
            return Ok(());
        }
        let blocks = self.view.peek(|view| Arc::clone(&view.blocks));
        let is_needed = |tombstone: &&Arc<Tombstone>| {
            let is_about = |live: &Arc<LiveBlock>| {
                live.tombstones().iter().any(|t| Arc::ptr_eq(t, tombstone))
                    && live.deletions().map_or(true, |deletions| !deletions.is_empty())
            };
            // A file that is missing now may be repaired and put back.
            let may_come_back = self.missing.iter().any(|missing| missing.times.overlaps(&tombstone.range));
            may_come_back || blocks.iter().any(is_about)
        };
        let kept: Vec<Arc<Tombstone>> = tombstones.iter().filter(is_needed).cloned().collect();
        if kept.len() == tombstones.len() {
            return Ok(());
        }
        store_tombstones(&self.fs, &self.dir, &kept)?;
        *tombstones = kept;
        self.view.change(|view| {
            let under = |live: &Arc<LiveBlock>| Arc::new(live.with_tombstones(&tombstones));
            view.blocks = Arc::new(view.blocks.iter().map(under).collect());
        });
        Ok(())
    }
}

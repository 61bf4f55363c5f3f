//! What readers see: the active generation, the frozen ones and the blocks, swapped together under one lock.

use super::exemplars::JudgedExemplar;
use super::generation::{Generation, JudgedHistogram, Judgements};
use super::last::{Last, LastSamples};
use super::registry::Registry;
use super::retired::Pin;
use crate::block::{Block, Deletions, Tombstone};
use crate::error::Result;
use crate::model::{Labels, TimeRange, Timestamp};
use crate::sync::Mutex;
use roaring::RoaringBitmap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A generation that takes no more writes and waits to be flushed.
pub(crate) struct Frozen {
    pub(crate) generation: Generation,
    /// The newest samples of all series when it was frozen.
    pub(crate) last: LastSamples,
    /// The first segment of the log that has nothing of it.
    pub(crate) boundary: u64,
    /// What is older is not flushed; decided by the first attempt. Blocks of a flush are named by their sequence alone, so one that is
    /// tried again must write the same ones: those of an attempt before are found by a start and taken for the whole.
    pub(crate) oldest_kept: OnceLock<Timestamp>,
}

/// The newest samples as a flush left them: until the next ones come, whoever asks for those need not open its blocks.
#[derive(Clone)]
pub(crate) struct Flushed {
    /// Of the series whose newest sample then was in what was flushed and is a float that came in order, known to count since no
    /// time.
    last: Arc<LastSamples>,
    /// The blocks written. A merge may give their sequences to others.
    blocks: Arc<[u64]>,
    /// When that was, monotonic.
    pub(crate) since: Duration,
}

impl Flushed {
    /// What is known at `now`, when `frozen` has been written into `blocks`.
    pub(crate) fn of(frozen: &Frozen, blocks: &[Arc<LiveBlock>], now: Duration) -> Self {
        let mut last = LastSamples::default();
        let generation = &frozen.generation;
        for id in generation.series().filter(|id| generation.has_floats_in_order(*id)) {
            // It may be older, and here is only an exemplar.
            let is_here =
                |newest: &Last| generation.has_samples(id, TimeRange::closed(newest.time, newest.time));
            if let Some(newest) = frozen.last.readable(id).filter(is_here) {
                last.set(id, newest);
            }
        }
        let blocks = blocks.iter().map(|live| live.block.instance()).collect();
        Self { last: Arc::new(last), blocks, since: now }
    }

    /// The newest sample of series `id`, if it was in what was flushed.
    pub(crate) fn newest(&self, id: u32) -> Option<Last> {
        self.last.readable(id)
    }

    /// Whether `live` has nothing newer of a series than its newest sample here, which is of `time`. Other blocks may: imported
    /// ones, and those of a series that was forgotten and came back with older samples.
    pub(crate) fn is_newer_than(&self, live: &LiveBlock, time: Timestamp) -> bool {
        live.block.meta().max_time < time
            || (self.blocks.contains(&live.block.instance()) && live.tombstones.is_empty())
    }
}

/// A block, which series of the registry its series are (filled in as queries meet them), and what was deleted of it.
pub(crate) struct LiveBlock {
    pub(crate) block: Arc<Block>,
    ids: Arc<KnownNumbers>,
    /// Those that are about this block.
    tombstones: Vec<Arc<Tombstone>>,
    /// Those that have been applied: what they are about is not in the block any more. Their sequences do not tell them from
    /// later ones, because a delete that finds nothing in memory uses up no sequence.
    applied: Vec<Arc<Tombstone>>,
    /// The same as sets of series, made by the first who asks.
    deletions: OnceLock<Deletions>,
}

/// A series of a block that has no number in the registry (or whose number was not looked up yet).
const NOT_KNOWN: u32 = u32::MAX;
/// Series whose numbers are kept together.
const PIECE_SERIES: usize = 64;

/// The numbers in the registry of the series of a block, as far as they have one and it was looked up. The room for them is
/// taken piece by piece: most series of old blocks are long gone.
struct KnownNumbers {
    pieces: Box<[OnceLock<Box<[AtomicU32; PIECE_SERIES]>>]>,
}

impl KnownNumbers {
    fn new(series: u32) -> Self {
        Self { pieces: (0..(series as usize).div_ceil(PIECE_SERIES)).map(|_| OnceLock::new()).collect() }
    }

    #[inline]
    fn get(&self, series: u32) -> u32 {
        let piece = self.pieces.get(series as usize / PIECE_SERIES).and_then(OnceLock::get);
        piece.map_or(NOT_KNOWN, |piece| piece[series as usize % PIECE_SERIES].load(Ordering::Relaxed))
    }

    fn set(&self, series: u32, number: u32) {
        if let Some(piece) = self.pieces.get(series as usize / PIECE_SERIES) {
            let piece = piece.get_or_init(|| Box::new([const { AtomicU32::new(NOT_KNOWN) }; PIECE_SERIES]));
            piece[series as usize % PIECE_SERIES].store(number, Ordering::Relaxed);
        }
    }

    fn forget(&self, numbers: &RoaringBitmap) {
        for slot in self.pieces.iter().filter_map(OnceLock::get).flat_map(|piece| piece.iter()) {
            let number = slot.load(Ordering::Relaxed);
            if number != NOT_KNOWN && numbers.contains(number) {
                slot.store(NOT_KNOWN, Ordering::Relaxed);
            }
        }
    }
}

impl LiveBlock {
    /// `tombstones` may be about other blocks too.
    pub(crate) fn new(block: Block, tombstones: &[Arc<Tombstone>]) -> Self {
        let ids = Arc::new(KnownNumbers::new(block.series_count()));
        Self {
            block: Arc::new(block),
            ids,
            tombstones: Vec::new(),
            applied: Vec::new(),
            deletions: OnceLock::new(),
        }
        .with_tombstones(tombstones)
    }

    /// A block that was written under the tombstones `applied`.
    pub(crate) fn merged(block: Block, applied: Vec<Arc<Tombstone>>, tombstones: &[Arc<Tombstone>]) -> Self {
        Self { applied, ..Self::new(block, &[]) }.with_tombstones(tombstones)
    }

    /// The same block under these tombstones instead of those before.
    pub(crate) fn with_tombstones(&self, tombstones: &[Arc<Tombstone>]) -> Self {
        let meta = self.block.meta();
        let is_applied = |t: &Arc<Tombstone>| self.applied.iter().any(|applied| Arc::ptr_eq(applied, t));
        let is_about = |t: &&Arc<Tombstone>| {
            t.sequence > meta.sequence
                && !is_applied(t)
                && t.range.overlaps(&TimeRange::closed(meta.min_time, meta.max_time))
        };
        Self {
            block: Arc::clone(&self.block),
            ids: Arc::clone(&self.ids),
            tombstones: tombstones.iter().filter(is_about).cloned().collect(),
            applied: tombstones.iter().filter(|t| is_applied(t)).cloned().collect(),
            deletions: OnceLock::new(),
        }
    }

    /// The tombstones that are about this block.
    pub(crate) fn tombstones(&self) -> &[Arc<Tombstone>] {
        &self.tombstones
    }

    /// What tells its series from those of other blocks and of other moments.
    pub(crate) fn membership(&self) -> (u64, u32) {
        (1 << 63 | self.block.meta().sequence, self.tombstones.len() as u32)
    }

    /// What was deleted of the block.
    ///
    /// # Errors
    /// The index of the block is damaged, so that nobody can tell which of its samples were deleted.
    pub(crate) fn deletions(&self) -> Result<&Deletions> {
        if let Some(known) = self.deletions.get() {
            return Ok(known);
        }
        let found = Deletions::resolve(&self.block, &self.tombstones)?;
        Ok(self.deletions.get_or_init(|| found))
    }

    /// The number of block series `series` in the registry, or its labels if it has none there.
    ///
    /// # Errors
    /// The block is damaged.
    pub(crate) fn identify(&self, series: u32, registry: &Registry) -> Result<Identity> {
        let id = self.ids.get(series);
        if id != NOT_KNOWN {
            return Ok(Identity::Registered(id));
        }
        let labels = self.block.series_labels(series)?;
        let found = registry.find_and_keep(&labels, |id| self.ids.set(series, id));
        Ok(found.map_or(Identity::Unregistered(labels), Identity::Registered))
    }

    /// These numbers of the registry stand for none of its series any more.
    pub(crate) fn forget_numbers(&self, numbers: &RoaringBitmap) {
        self.ids.forget(numbers);
    }
}

/// See [`LiveBlock::identify`].
pub(crate) enum Identity {
    Registered(u32),
    Unregistered(Labels),
}

/// All sources of samples at one moment. A copy is cheap and stays as it is.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) active: Generation,
    /// Oldest first.
    pub(crate) frozen: Vec<Arc<Frozen>>,
    /// By ascending sequence.
    pub(crate) blocks: Arc<Vec<Arc<LiveBlock>>>,
    /// What the last flush knew, until something is deleted or dropped, a number stands for another series, or it is long ago.
    pub(crate) flushed: Option<Flushed>,
    /// Of a copy: keeps the numbers in it what they are.
    pub(crate) pin: Option<Pin>,
}

impl View {
    /// Whether there is anything of series `id` outside of blocks.
    pub(crate) fn has_in_memory(&self, id: u32) -> bool {
        self.active.contains(id) || self.frozen.iter().any(|frozen| frozen.generation.contains(id))
    }
}

/// The current [`View`]. The writer holds the lock while it applies one batch, a reader while it copies the view: a batch
/// is in a copy as a whole or not at all.
#[derive(Default)]
pub(crate) struct SharedView {
    current: Mutex<View>,
}

impl SharedView {
    pub(crate) fn new(view: View) -> Self {
        Self { current: Mutex::new(view) }
    }

    /// The sources as they are now, with series numbers that stay what they are as long as the copy is there.
    pub(crate) fn snapshot(&self, registry: &Registry) -> View {
        let pin = Some(registry.pin());
        View { pin, ..self.current.lock().clone() }
    }

    /// Applies what one batch stores; of more than `exemplar_limit` exemplars a series the oldest go.
    pub(crate) fn apply(
        &self,
        samples: Judgements<'_>,
        histograms: &[JudgedHistogram],
        exemplars: &[JudgedExemplar],
        exemplar_limit: usize,
    ) {
        let mut view = self.current.lock();
        view.active.apply(samples);
        view.active.apply_histograms(histograms);
        view.active.apply_exemplars(exemplars, exemplar_limit);
    }

    /// Calls `read` with the current view; only for reading a few numbers.
    pub(crate) fn peek<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.current.lock())
    }

    /// Changes the sources in one step.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.current.lock())
    }
}

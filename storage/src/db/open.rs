//! Opening a store: lock, MANIFEST, blocks, registry checkpoint, replay of the log. Damage is put aside, never fatal.

use super::later;
use super::requests::{self, CompactJob, Job, Message};
use super::reserve;
use super::shared::Shared;
use crate::block::{
    BLOCK_EXTENSION, Block, MANIFEST_TEMPORARY, Manifest, TOMBSTONES_FILE, TOMBSTONES_TEMPORARY, Tombstone,
    load_tombstones, quarantine, quarantined_blocks,
};
use crate::env::{Clock, DirLock, Fs};
use crate::error::{Error, ErrorKind, Result};
use crate::head::checkpoint::{self, Loaded};
use crate::head::commit::Committer;
use crate::head::generation::Generation;
use crate::head::hash::HashKey;
use crate::head::last::LastSamples;
use crate::head::registry::Registry;
use crate::head::replay::{Replay, ReplayProgress, Replayed};
use crate::head::view::{LiveBlock, SharedView, View};
use crate::maintain::throttle::StopSignal;
use crate::model::{Metadata, TimeRange, Timestamp};
use crate::options::{Durability, Options};
use crate::read::Missing;
use crate::stats::Counters;
use crate::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
use crate::sync::mpsc::Receiver;
use crate::sync::{Mutex, RwLock};
use crate::wal::{self, ReplayReport, Wal, WalOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

pub(crate) const BLOCKS: &str = "blocks";
pub(crate) const HEAD: &str = "head";
pub(crate) const WAL: &str = "wal";
const MANIFEST: &str = "MANIFEST";
/// What is said of a segment of the log in quarantine.
pub(super) const LOG_GIVEN_UP: &str = "is a part of the log that could not be read back in full before it was let go of; this is said until the file is taken away";
const CHECKPOINT_EXTENSION: &str = "ckpt";
/// A log with segments smaller than this is a test's; it needs no thread that prepares segments.
const PREPARED_SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// An opened store whose threads are not started yet.
pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) committer: Committer,
    pub(crate) messages: Receiver<Message>,
    pub(crate) jobs: Receiver<Job>,
    pub(crate) compact_jobs: Receiver<CompactJob>,
    pub(crate) lock: DirLock,
}

pub(super) struct Opening<'a> {
    pub(super) fs: &'a Arc<dyn Fs>,
    pub(super) dir: &'a Path,
    pub(super) counters: Counters,
    /// Damaged files that could not be put aside: not to be removed.
    stuck: Vec<PathBuf>,
    /// Why the list of deletes cannot be read.
    damaged_deletes: Option<Error>,
    pub(super) missing: Vec<Missing>,
}

/// What was found of a store.
pub(super) struct Found {
    pub(super) manifest: Manifest,
    pub(super) tombstones: Vec<Arc<Tombstone>>,
    pub(super) blocks: Vec<Arc<LiveBlock>>,
    pub(super) registry: Arc<Registry>,
    pub(super) generation: Generation,
    /// The newest sample of all series, as far as they are known.
    pub(super) newest: Option<Timestamp>,
    pub(super) metadata: Vec<(String, Metadata)>,
    pub(super) missing: Vec<Missing>,
    pub(super) counters: Counters,
    pub(super) wal_live_bytes: u64,
}

impl Found {
    /// What the threads of the store share; there are no queues yet.
    pub(super) fn share(
        self,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: Options,
    ) -> Shared {
        let (blocks, generation) = (self.blocks, self.generation);
        let of_blocks = blocks.iter().map(|b| b.block.meta().max_time);
        let newest = of_blocks.chain(generation.times().map(|t| t.1)).chain(self.newest).max();
        let view = View { active: generation, blocks: Arc::new(blocks), ..View::default() };
        let opened = (clock.now_ms(), clock.monotonic());
        let retention_rules = RwLock::new(Arc::from(options.retention_rules.clone()));
        let shared = Shared {
            options,
            retention_rules,
            clock,
            dir: dir.to_path_buf(),
            registry: self.registry,
            order: Arc::default(),
            view: Arc::new(SharedView::new(view)),
            health: super::health::HealthState::default(),
            counters: self.counters,
            metadata: Mutex::default(),
            queue: RwLock::default(),
            background: RwLock::default(),
            missing: Arc::from(self.missing),
            opened,
            manifest: Mutex::new(self.manifest),
            tombstones: Mutex::new(self.tombstones),
            deleting: Mutex::default(),
            compactor: RwLock::default(),
            stop: StopSignal::default(),
            damaged: Mutex::default(),
            wal_live_bytes: AtomicU64::new(self.wal_live_bytes),
            queued: AtomicUsize::new(0),
            newest: AtomicI64::new(newest.unwrap_or(i64::MIN)),
            help: OnceLock::new(),
            fs,
        };
        shared.remember_metadata(self.metadata);
        shared
    }
}

/// Opens the store in `dir`.
///
/// # Errors
/// Another process holds the directory, or the operating system refuses.
pub(crate) fn open(
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    dir: &Path,
    options: Options,
    progress: &dyn Fn(ReplayProgress),
) -> Result<Opened> {
    let started = clock.monotonic();
    for path in [dir.to_path_buf(), dir.join(BLOCKS), dir.join(HEAD)] {
        fs.create_dir_all(&path).map_err(|e| Error::io(format!("create {}", path.display()), e))?;
    }
    let lock = fs.lock(dir).map_err(|e| Error::io(format!("lock {}", dir.display()), e))?;
    if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
        // The name of a new data directory must be as durable as what is in it; a parent that cannot be read cannot be synced.
        let _ = fs.sync_dir(parent);
    }
    later::refuse(&fs, dir, (BLOCKS, WAL))?;
    let mut opening = Opening::new(&fs, dir);
    let (mut manifest, stored) = opening.load_manifest()?;
    opening.catch_up(&mut manifest)?;
    let tombstones = opening.load_tombstones(&mut manifest)?;
    let blocks = opening.open_blocks(&mut manifest, &tombstones);
    let loaded = opening.load_checkpoint(&mut manifest, &options)?;
    if stored.is_some_and(|stored| stored == manifest) {
        // Whoever wrote it may have been cut off before this.
        fs.sync_dir(dir).map_err(|e| Error::io(format!("sync {}", dir.display()), e))?;
    } else {
        // A start must be possible on a full disk: without it nothing can be deleted.
        reserve::with_reserve(fs.as_ref(), dir, || {
            // Whoever wrote what the manifest is to name now may have been cut off before its name was durable.
            for folder in [BLOCKS, HEAD] {
                let path = dir.join(folder);
                fs.sync_dir(&path).map_err(|e| Error::io(format!("sync {}", path.display()), e))?;
            }
            manifest.store(&fs, dir)
        })?;
    }
    opening.put_deletes_aside();
    opening.remove_leftovers(&manifest);
    opening.note_quarantined();

    let registry = Arc::new(loaded.registry);
    let mut replay = Replay::new(&registry, loaded.last, progress);
    let (mut wal, report) = Wal::open(
        Arc::clone(&fs),
        Arc::clone(&clock),
        &dir.join(WAL),
        wal_options(&options, &manifest),
        manifest.first_wal_segment,
        &mut replay,
    )?;
    let Replayed { last, generation, metadata, lost_samples, lost_in, samples, named_anew } =
        replay.finish()?;
    wal.keep_replayed(&lost_in);
    opening.note_replay(&report, manifest.first_wal_segment, (samples, lost_samples));

    let (queue, messages) = requests::queue();
    let (jobs_sender, jobs) = requests::jobs();
    let (compactor, compact_jobs) = requests::compact_jobs();
    let Opening { counters, missing, .. } = opening;
    counters.open_millis.add(clock.monotonic().saturating_sub(started).as_millis() as u64);
    let found = Found {
        manifest,
        tombstones,
        blocks,
        registry: Arc::clone(&registry),
        generation,
        newest: last.newest(),
        metadata: loaded.metadata.into_iter().chain(metadata).collect(),
        missing,
        counters,
        wal_live_bytes: wal.live_bytes(),
    };
    let shared = found.share(fs, clock, dir, options);
    *shared.queue.write() = Some(queue);
    *shared.background.write() = Some(jobs_sender);
    *shared.compactor.write() = Some(compactor);
    let shared = Arc::new(shared);
    if let Some(why) = wal.poisoned() {
        shared.health.poison(why.to_owned());
    }
    let mut committer = Committer::new(registry, Arc::clone(&shared.view), last, wal);
    committer.name_anew(named_anew);
    Ok(Opened { shared, committer, messages, jobs, compact_jobs, lock })
}

/// Where the segments lie that the log of the store in `dir` has let go of unread.
pub(super) fn given_up(fs: &Arc<dyn Fs>, dir: &Path, first_segment: u64) -> Vec<PathBuf> {
    wal::given_up(fs.as_ref(), &dir.join(WAL), &dir.join("quarantine"), first_segment)
}

/// Whether what stands there is none of ours: a directory, or larger than any file that is read whole.
fn is_foreign(error: &Error) -> bool {
    matches!(error.io_kind(), Some(io::ErrorKind::IsADirectory | io::ErrorKind::InvalidData))
}

/// So many places of a damaged log are told to readers; the log of the process has them all.
const PLACES_TOLD: usize = 5;

/// What readers are told of a damaged log. Nobody knows the times of what is lost.
fn lost_sentence(dir: &Path, report: &ReplayReport, lost_samples: u64) -> String {
    let (frames, log) = (report.lost_frames + report.undecodable_frames, dir.join(WAL));
    let mut segments: Vec<u64> = report.damaged_segments.clone();
    segments.extend(&report.missing_segments);
    segments.sort_unstable();
    let places = report.places.iter().take(PLACES_TOLD);
    let places: Vec<String> =
        places.map(|p| format!("{:016}.wal at {}: {}", p.segment, p.offset, p.kind)).collect();
    let places = places.join("; ");
    format!(
        "stored data is damaged and left out: {}: {frames} requests of the log are lost (segments {segments:?}: {places}), and \
         {lost_samples} samples of series whose names are lost; copies of damaged segments are in quarantine",
        log.display()
    )
}

/// The name of the checkpoint that belongs to the start of the log at segment `boundary`.
pub(crate) fn checkpoint_name(boundary: u64) -> String {
    format!("registry-{boundary:016x}.{CHECKPOINT_EXTENSION}")
}

pub(super) fn checkpoint_boundary(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("registry-")?.strip_suffix(CHECKPOINT_EXTENSION)?.strip_suffix('.')?;
    u64::from_str_radix(digits, 16).ok()
}

fn wal_options(options: &Options, manifest: &Manifest) -> WalOptions {
    let nonce = manifest.directory.first_chunk::<8>().map_or(0, |half| u64::from_le_bytes(*half));
    WalOptions {
        durability: match options.durability {
            Durability::Sync => crate::wal::Durability::Sync,
            Durability::Interval(interval) => crate::wal::Durability::Interval(interval),
            Durability::Os => crate::wal::Durability::Os,
        },
        segment_bytes: options.wal_segment_bytes,
        prepare_in_background: options.wal_segment_bytes >= PREPARED_SEGMENT_BYTES_MIN,
        nonce,
        ..WalOptions::default()
    }
}

impl<'a> Opening<'a> {
    pub(super) fn new(fs: &'a Arc<dyn Fs>, dir: &'a Path) -> Self {
        Self {
            fs,
            dir,
            counters: Counters::default(),
            stuck: Vec::new(),
            damaged_deletes: None,
            missing: Vec::new(),
        }
    }

    /// The manifest, and the same as it is on disk; rebuilt from the blocks if it is damaged or gone.
    fn load_manifest(&mut self) -> Result<(Manifest, Option<Manifest>)> {
        let damaged = match Error::or_again(|| Manifest::load(self.fs, self.dir)) {
            Ok(Some(manifest)) => return Ok((manifest.clone(), Some(manifest))),
            Ok(None) => false,
            Err(error) if error.kind() == ErrorKind::Corrupt || is_foreign(&error) => {
                tracing::error!(%error, "the manifest is rebuilt from the blocks");
                self.put_aside(&self.dir.join(MANIFEST), &error, None);
                true
            }
            Err(error) => return Err(error),
        };
        let (mut manifest, unsound) = Manifest::rebuild(self.fs, &self.dir.join(BLOCKS))?;
        for (path, error) in unsound {
            if !error.is_damage() {
                return Err(error);
            }
            if !self.put_aside(&path, &error, None) {
                self.note_missing(&path, TimeRange::ALL, &error.to_string());
                self.stuck.push(path);
            }
        }
        manifest.checkpoint = self.checkpoints()?.pop();
        // A checkpoint is written when what lies before its place in the log is in blocks. Older segments may still be
        // there to be written again; their samples would come back over newer ones.
        manifest.first_wal_segment =
            manifest.checkpoint.as_deref().and_then(checkpoint_boundary).unwrap_or(0);
        if damaged || !manifest.blocks.is_empty() {
            tracing::warn!(blocks = manifest.blocks.len(), "rebuilt the manifest");
        }
        Ok((manifest, None))
    }

    /// What was deleted. New blocks get sequences that no tombstone hides, also under a manifest that was rebuilt.
    pub(super) fn load_tombstones(&mut self, manifest: &mut Manifest) -> Result<Vec<Arc<Tombstone>>> {
        let path = self.dir.join(TOMBSTONES_FILE);
        let tombstones = match Error::or_again(|| load_tombstones(self.fs, self.dir)) {
            Ok(Some(tombstones)) => {
                manifest.has_deletes = true;
                tombstones
            }
            Ok(None) => {
                if manifest.has_deletes {
                    self.note_missing(
                        &path,
                        TimeRange::ALL,
                        "is gone: samples that were deleted may be back",
                    );
                }
                Vec::new()
            }
            Err(error) if error.is_damage() => {
                // It goes to quarantine, and that it lies there tells of it. First the manifest must not expect it any more.
                self.damaged_deletes = Some(error.context("samples that were deleted may be back"));
                manifest.has_deletes = false;
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let highest = tombstones.iter().map(|t| t.sequence).max().unwrap_or(0);
        manifest.next_sequence = manifest.next_sequence.max(highest);
        Ok(tombstones)
    }

    /// Puts a damaged list of deletes aside. The manifest that does not expect it is durable by then.
    pub(super) fn put_deletes_aside(&mut self) {
        let Some(error) = self.damaged_deletes.take() else { return };
        let path = self.dir.join(TOMBSTONES_FILE);
        if !self.put_aside(&path, &error, None) {
            self.note_missing(&path, TimeRange::ALL, &error.to_string());
        }
    }

    /// What is in a folder of the store. One that cannot be listed is not an empty one: what is in it would be taken for lost, or
    /// for left over.
    pub(super) fn list(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let dir = self.dir.join(folder);
        let list = || match self.fs.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        };
        // A hiccup of the device refuses no start.
        list().or_else(|_| list()).map_err(|e| Error::io(format!("list {}", dir.display()), e))
    }

    /// The names of the checkpoint files, oldest first.
    pub(super) fn checkpoints(&self) -> Result<Vec<String>> {
        let entries = self.list(HEAD)?;
        let files = entries.iter().filter(|p| p.extension().is_some_and(|e| e == CHECKPOINT_EXTENSION));
        let mut names: Vec<String> =
            files.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Opens the blocks of the manifest, oldest first. A damaged one is put aside and taken off the list.
    pub(super) fn open_blocks(
        &mut self,
        manifest: &mut Manifest,
        tombstones: &[Arc<Tombstone>],
    ) -> Vec<Arc<LiveBlock>> {
        let mut blocks = Vec::new();
        manifest.blocks.retain(|entry| {
            let path = self.dir.join(BLOCKS).join(&entry.file);
            match Error::or_again(|| Block::open(self.fs, &path)) {
                Ok(block) => {
                    blocks.push(Arc::new(LiveBlock::new(block, tombstones)));
                    true
                }
                Err(error) => {
                    let (oldest, newest) = (entry.meta.min_time, entry.meta.max_time);
                    let is_corrupt = error.kind() == ErrorKind::Corrupt;
                    if is_corrupt && self.put_aside(&path, &error, Some((oldest, newest))) {
                        return false;
                    }
                    // It stays on the list, so that it is tried again, and missed, at every start.
                    tracing::error!(%error, "a block cannot be opened; its samples are missing");
                    self.counters.blocks_quarantined.add(1);
                    self.note_missing(&path, TimeRange::closed(oldest, newest), &error.to_string());
                    true
                }
            }
        });
        blocks.sort_by_key(|live| live.block.meta().sequence);
        blocks
    }

    /// Moves a damaged file into quarantine. Answers whether it is gone from its place.
    fn put_aside(&self, path: &Path, error: &Error, times: Option<(Timestamp, Timestamp)>) -> bool {
        match quarantine(self.fs, self.dir, path, &error.to_string(), times) {
            Ok(place) => {
                self.counters.blocks_quarantined.add(1);
                tracing::error!(%error, place = %place.display(), "a damaged file is put aside");
                true
            }
            Err(second) => {
                tracing::error!(%error, %second, "a damaged file cannot be put aside");
                self.fs.open(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound)
            }
        }
    }

    fn note_missing(&mut self, path: &Path, times: TimeRange, why: &str) {
        let sentence = format!("stored data is damaged and left out: {}: {why}", path.display());
        self.missing.push(Missing { times, sentence });
    }

    /// Readers are told of the blocks in quarantine until somebody takes them away.
    pub(super) fn note_quarantined(&mut self) {
        for block in quarantined_blocks(self.fs, self.dir) {
            self.note_missing(&block.path, block.times, &block.reason);
        }
    }

    /// The registry as the checkpoint has it; if that is damaged, as the one before has it; or an empty one.
    ///
    /// # Errors
    /// The operating system refuses for now. Going on would cost the samples in the log their names.
    pub(super) fn load_checkpoint(&mut self, manifest: &mut Manifest, options: &Options) -> Result<Loaded> {
        let mut names = self.checkpoints()?;
        names.retain(|name| manifest.checkpoint.as_ref().is_some_and(|live| name <= live));
        while let Some(name) = names.pop() {
            let path = self.dir.join(HEAD).join(&name);
            let load = || checkpoint::load(self.fs.as_ref(), &path, options.limits_within_budget());
            match Error::or_again(load) {
                Ok(loaded) => {
                    manifest.checkpoint = Some(name);
                    return Ok(loaded);
                }
                Err(error) => {
                    if !error.is_damage() {
                        return Err(error);
                    }
                    tracing::error!(%error, "samples of series that only this checkpoint names cannot be replayed");
                    if !self.put_aside(&path, &error, None) {
                        self.stuck.push(path);
                    }
                }
            }
        }
        manifest.checkpoint = None;
        let (low, high) = manifest.seed.split_at(8);
        let word = |half: &[u8]| half.try_into().map_or(0, u64::from_le_bytes);
        let key = HashKey::from_seed([word(low), word(high)]);
        Ok(Loaded {
            registry: Registry::new(key, options.limits_within_budget()),
            last: LastSamples::default(),
            metadata: Vec::new(),
        })
    }

    /// Removes what interrupted flushes and retention left behind: whole files. A damaged one was none of these.
    fn remove_leftovers(&self, manifest: &Manifest) {
        for unfinished in [MANIFEST_TEMPORARY, TOMBSTONES_TEMPORARY] {
            let _ = self.fs.remove(&self.dir.join(unfinished));
        }
        let Ok(mut kept) = self.checkpoints() else { return };
        kept.retain(|name| manifest.checkpoint.as_ref().is_some_and(|live| name <= live));
        let is_live = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            manifest.blocks.iter().any(|b| b.file == name) || kept.iter().any(|kept| *kept == name)
        };
        for folder in [BLOCKS, HEAD] {
            for path in self.list(folder).unwrap_or_default() {
                let is_ours = path
                    .extension()
                    .is_some_and(|e| e == "tmp" || e == BLOCK_EXTENSION || e == CHECKPOINT_EXTENSION);
                if !is_ours || is_live(&path) || self.stuck.contains(&path) {
                    continue;
                }
                let is_block = path.extension().is_some_and(|e| e == BLOCK_EXTENSION);
                let opened = is_block.then(|| Error::or_again(|| Block::open(self.fs, &path)));
                match opened {
                    Some(Err(error)) if error.is_damage() => drop(self.put_aside(&path, &error, None)),
                    // Nothing refers to it; if it cannot be removed now, the next start tries again.
                    _ => drop(self.fs.remove(&path)),
                }
            }
        }
    }

    /// Tells of what is lost of the log, now or at an earlier start. `samples` are those replayed, and those whose names are lost.
    pub(super) fn note_replay(&mut self, report: &ReplayReport, first_segment: u64, samples: (u64, u64)) {
        for path in given_up(self.fs, self.dir, first_segment) {
            self.note_missing(&path, TimeRange::ALL, LOG_GIVEN_UP);
        }
        let (samples, lost_samples) = samples;
        self.counters.replayed_samples.add(samples);
        self.counters.wal_lost_frames.add(report.lost_frames);
        if report.is_damaged() || lost_samples > 0 {
            self.missing.push(Missing {
                times: TimeRange::ALL,
                sentence: lost_sentence(self.dir, report, lost_samples),
            });
            tracing::error!(?report, lost_samples, "the log is damaged; what is whole was replayed");
        } else {
            tracing::info!(samples, segments = report.segments, "replayed the log");
        }
    }
}

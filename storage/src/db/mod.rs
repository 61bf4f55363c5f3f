//! `Storage`: opening, writing, reading, flushing and closing a store.

mod background;
mod catch_up;
mod compaction;
mod delete;
#[cfg(all(test, feature = "shuttle"))]
mod explored;
mod health;
mod idle;
mod later;
mod open;
mod read_only;
mod requests;
mod reserve;
mod scrub;
mod shared;
mod snapshot;
mod steps;
pub mod verify;
mod writer;

pub use crate::head::append::{CommitReport, WriteBatch};
pub use crate::head::refusal::Refusal;
pub use crate::head::replay::ReplayProgress;
pub use delete::DeleteReport;
pub use health::Health;
pub use steps::{Choose, Work};

use crate::api::{Exemplars, Querier, Queryable};
use crate::block::ManifestBlock;
use crate::env::{Clock, DirLock, DiskFs, Fs, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::maintain::retention::{oldest_kept, without_jump};
use crate::model::{Matcher, Metadata, TimeRange, Timestamp};
use crate::options::{Options, RetentionRule};
use crate::read::{KeepRules, StoreQuerier};
use crate::stats::Stats;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::sync::mpsc::sync_channel;
use crate::sync::thread::{self, JoinHandle, ThreadId};
use open::Opened;
use requests::{Answer, CompactJob, Done, Job, Message, answered, closed};
use shared::Shared;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use steps::Steps;
use writer::Writer;

/// How often a flush makes room for itself beside others.
const FLUSH_ATTEMPTS: usize = 16;

/// An open store. Clones are the same store; it is closed by [`Storage::close`] or when the last clone is gone.
#[derive(Clone)]
pub struct Storage {
    owner: Arc<Owner>,
}

/// Closes the store when the last clone is gone.
struct Owner {
    shared: Arc<Shared>,
    running: Arc<Running>,
}

/// The shared state, and the threads that serve it.
struct Running {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Who they are; not locked while they are waited for.
    ids: Mutex<Vec<ThreadId>>,
    /// The work, if no threads do it.
    steps: Option<Arc<Steps>>,
    /// Held until the work has ended.
    lock: Mutex<Option<DirLock>>,
}

impl Storage {
    /// Opens the store in `dir`, which is created if need be.
    ///
    /// # Errors
    /// Options that make no sense, a directory that another process holds, or the operating system refusing. Damage of
    /// what is stored is not an error: it is put aside and counted.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        Self::open_with(Arc::new(DiskFs), Arc::new(SystemClock::new()), dir, options)
    }

    /// As [`Storage::open`], with another file system and clock.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_with(fs: Arc<dyn Fs>, clock: Arc<dyn Clock>, dir: &Path, options: Options) -> Result<Self> {
        Self::open_watched(fs, clock, dir, options, &|_| {})
    }

    /// As [`Storage::open_with`]; `progress` is called before each segment of the log that is read back.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_watched(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: Options,
        progress: &dyn Fn(ReplayProgress),
    ) -> Result<Self> {
        options.validate()?;
        let Opened { shared, committer, messages, jobs, compact_jobs, lock } =
            open::open(fs, clock, dir, options, progress)?;
        shared.watch_space();
        let owner = Owner::new(&shared, lock, None);
        let writer = Writer::new(Arc::clone(&shared), committer, messages);
        owner.running.spawn("kymo-commit", move || writer.run())?;
        let compacting = Arc::clone(&shared);
        owner.running.spawn("kymo-compact", move || compaction::run(&compacting, &compact_jobs))?;
        owner.running.spawn("kymo-background", move || background::run(&shared, &jobs))?;
        Ok(Self { owner: Arc::new(owner) })
    }

    /// An empty batch.
    pub fn batch(&self) -> WriteBatch {
        WriteBatch::new(Arc::clone(&self.owner.shared.registry))
    }

    /// Commits `batch` and waits until it is as durable as the options say and visible to readers.
    ///
    /// # Errors
    /// `Unavailable` when the store takes no writes, `LimitExceeded` when the batch is too large, `Io` when the log
    /// cannot be written; nothing of the batch is stored then. Single samples that are refused are in the report.
    pub fn append(&self, batch: WriteBatch) -> Result<CommitReport> {
        let (sender, receiver) = sync_channel(1);
        let done = Box::new(move |result| {
            // The receiver waits below and is gone only when this thread is.
            let _ = sender.send(result);
        });
        let shared = &self.owner.shared;
        shared.submit(batch, true, Done::new(done));
        shared.wait(&receiver).unwrap_or_else(|| Err(closed()))
    }

    /// Commits `batch`; `done` is called once with the outcome, on the commit thread, or at once with `Unavailable` when
    /// the queue is full. It must not block, so it must not call [`Storage::append`], [`Storage::flush`] or the like; it
    /// may drop the last clone of the store.
    pub fn submit(&self, batch: WriteBatch, done: Box<dyn FnOnce(Result<CommitReport>) + Send>) {
        self.owner.shared.submit(batch, false, Done::new(done));
    }

    /// Makes everything committed so far survive a power cut, and waits for it: what [`Durability::Interval`] and
    /// [`Durability::Os`] leave to a later moment.
    ///
    /// # Errors
    /// The disk refusing: writes are refused then until the store is opened again.
    ///
    /// [`Durability::Interval`]: crate::options::Durability::Interval
    /// [`Durability::Os`]: crate::options::Durability::Os
    pub fn sync(&self) -> Result<()> {
        self.owner.shared.ask_writer(Message::Sync)
    }

    /// Writes everything committed so far into blocks, and waits for it.
    ///
    /// # Errors
    /// The disk refusing; the samples stay in memory and in the log, and the flush is tried again later.
    pub fn flush(&self) -> Result<()> {
        self.owner.shared.freeze_and_flush(Message::Freeze)
    }

    /// Looks at age, retention and free space now instead of at the next interval, and waits for it.
    ///
    /// # Errors
    /// The store is closed.
    pub fn maintain(&self) -> Result<()> {
        self.owner.shared.ask_background(Job::Maintain)
    }

    /// Whether new series are refused: there are as many as may be, or their labels take all memory they may.
    pub fn is_full(&self) -> bool {
        let registry = &self.owner.shared.registry;
        registry.is_at_limit() || registry.is_full().is_some()
    }

    /// From now on `rules` hold in place of [`Options::retention_rules`]: reads that begin, writes, and what maintenance drops next go
    /// by them. What earlier rules dropped does not come back.
    ///
    /// # Errors
    /// `Invalid`: a rule makes no sense; then nothing changes.
    pub fn set_retention_rules(&self, rules: Vec<RetentionRule>) -> Result<()> {
        rules.iter().try_for_each(RetentionRule::validate)?;
        *self.owner.shared.retention_rules.write() = rules.into();
        Ok(())
    }

    /// Whether writes are taken.
    pub fn health(&self) -> Health {
        self.owner.shared.health.current()
    }

    /// The numbers of the store.
    pub fn stats(&self) -> Stats {
        self.owner.shared.stats()
    }

    /// The blocks in use, by their first sample; what each says of itself, and the size of its file.
    pub fn blocks(&self) -> Vec<ManifestBlock> {
        let mut blocks = self.owner.shared.manifest.lock().blocks.clone();
        blocks.sort_by_key(|block| (block.meta.min_time, block.meta.sequence));
        blocks
    }

    /// What was last said about each metric family, sorted by family.
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        self.owner.shared.metadata.lock().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Whether the last thing said about `family` is `metadata`.
    pub fn knows_metadata(&self, family: &str, metadata: &Metadata) -> bool {
        self.owner.shared.metadata.lock().get(family) == Some(metadata)
    }

    /// The exemplars in `range` of all series that match one of `matcher_sets` (all series if there is none).
    ///
    /// # Errors
    /// `LimitExceeded`: there are too many for one answer; or the disk refusing.
    pub fn exemplars(&self, range: TimeRange, matcher_sets: &[Vec<Matcher>]) -> Result<Exemplars> {
        self.owner.shared.querier(range).exemplars(matcher_sets)
    }

    /// Flushes the head if the log is longer than [`Options::flush_on_close_bytes`], so that the next start has little to
    /// read; then stops taking writes, makes all that was committed durable, and ends the threads of the store. Reads of
    /// views taken before go on; later calls are answered `Unavailable`. A store that is dropped without this is not
    /// flushed: its samples come back from the log.
    ///
    /// # Errors
    /// The disk refusing; or `Invalid` when called by a thread of the store (see [`Storage::submit`]), which would wait
    /// for itself. A flush that fails is only reported in the log of the process: nothing is lost by it.
    pub fn close(&self) -> Result<()> {
        let (shared, running) = (&self.owner.shared, &self.owner.running);
        if running.is_current() {
            return Err(Error::invalid("a callback of the store cannot close it"));
        }
        let is_open = shared.queue.read().is_some();
        let is_long = shared.wal_live_bytes.load(Ordering::Relaxed) > shared.options.flush_on_close_bytes;
        if is_open
            && is_long
            && let Err(error) = self.flush()
        {
            tracing::warn!(%error, "the head is not flushed on closing; the next start reads the log");
        }
        running.close()
    }
}

impl Owner {
    fn new(shared: &Arc<Shared>, lock: DirLock, steps: Option<Arc<Steps>>) -> Self {
        let running = Running {
            shared: Arc::clone(shared),
            threads: Mutex::default(),
            ids: Mutex::default(),
            steps,
            lock: Mutex::new(Some(lock)),
        };
        Self { shared: Arc::clone(shared), running: Arc::new(running) }
    }
}

impl Running {
    /// Starts a thread. If a bug ends it, the store takes no more writes: what the thread did for it is not done any more.
    fn spawn(&self, name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let supervised = move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                shared.health.poison(format!("the thread {name} met a bug and ended; see the log"));
                resume_unwind(panic);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(supervised);
        let thread = thread.map_err(|e| Error::io(format!("start the thread {name}"), e))?;
        self.ids.lock().push(thread.thread().id());
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Whether this is one of the threads.
    fn is_current(&self) -> bool {
        self.ids.lock().contains(&thread::current().id())
    }

    fn close(&self) -> Result<()> {
        let mut threads = self.threads.lock();
        if self.lock.lock().is_none() {
            return Ok(());
        }
        self.shared.stop.set();
        if let Some(jobs) = self.shared.compactor.write().take() {
            // A full queue ends with this sender.
            let _ = jobs.try_send(CompactJob::Stop);
        }
        if let Some(jobs) = self.shared.background.write().take() {
            // A thread that is gone needs no word to stop; here and below.
            let _ = self.shared.send(&jobs, Job::Stop);
        }
        let closed = self.shared.ask_writer(Message::Stop);
        let mut panicked = false;
        for thread in threads.drain(..) {
            panicked |= thread.join().is_err();
        }
        drop(self.lock.lock().take());
        if panicked { Err(Error::internal("a thread of the store panicked")) } else { closed }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let running = Arc::clone(&self.running);
        let close = move || {
            if let Err(error) = running.close() {
                tracing::error!(%error, "closing the store");
            }
        };
        if !self.running.is_current() {
            close();
        } else if let Err(error) = thread::Builder::new().name("kymo-close".to_owned()).spawn(close) {
            // The threads go on until the process ends; what was acknowledged is in the log.
            tracing::error!(%error, "no thread to close the store");
        }
    }
}

impl Queryable for Storage {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>> {
        Ok(Box::new(self.owner.shared.querier(range)))
    }
}

impl Shared {
    fn querier(&self, range: TimeRange) -> StoreQuerier {
        let min_time = range.min_time.max(self.retention_start());
        StoreQuerier {
            registry: Arc::clone(&self.registry),
            order: Arc::clone(&self.order),
            view: Arc::new(self.view.snapshot(&self.registry)),
            missing: Arc::clone(&self.missing),
            keep: self.keep_rules(),
            range: TimeRange { min_time, max_time: range.max_time },
        }
    }

    /// Sends a message to the commit thread and waits for its answer.
    fn ask_writer(&self, message: impl FnOnce(Answer) -> Message) -> Result<()> {
        let queue = self.queue.read().clone().ok_or_else(closed)?;
        let (answer, receiver) = answered();
        self.send(&queue, message(answer)).map_err(|_| closed())?;
        drop(queue);
        self.wait(&receiver).unwrap_or_else(|| Err(closed()))
    }

    /// Sends a message that freezes the head as soon as there is room for one more frozen generation, then flushes.
    ///
    /// # Errors
    /// The disk refusing, or other flushes leave no room.
    fn freeze_and_flush(&self, message: impl Fn(Answer) -> Message) -> Result<()> {
        for _ in 0..FLUSH_ATTEMPTS {
            self.ask_background(Job::FlushAnd)?;
            match self.ask_writer(&message) {
                // Others froze the head as often as it may be meanwhile.
                Err(error)
                    if error.kind() == ErrorKind::Unavailable
                        && !matches!(self.health.current(), Health::Poisoned(_)) => {}
                frozen => {
                    frozen?;
                    return self.ask_background(Job::FlushAnd);
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "other flushes leave no room for one more"))
    }

    /// The oldest time that is kept of any series.
    pub(crate) fn retention_start(&self) -> Timestamp {
        let rules = Arc::clone(&self.retention_rules.read());
        let oldest = rules.iter().map(|rule| self.oldest_kept_for(Some(rule.keep)));
        oldest.fold(self.oldest_kept_for(self.options.retention), Timestamp::min)
    }

    /// The oldest time that is kept of samples that are kept so long.
    fn oldest_kept_for(&self, keep: Option<Duration>) -> Timestamp {
        let newest = Some(self.newest.load(Ordering::Relaxed)).filter(|newest| *newest != i64::MIN);
        let now = without_jump(self.clock.now_ms(), self.clock.monotonic(), self.opened);
        oldest_kept(now, newest, self.options.limits.future, keep)
    }

    /// The oldest time that is kept of each series, now.
    pub(crate) fn keep_rules(&self) -> KeepRules {
        let rules = Arc::clone(&self.retention_rules.read());
        let rules = rules.iter().map(|rule| (rule.matchers.clone(), self.oldest_kept_for(Some(rule.keep))));
        KeepRules { oldest: self.oldest_kept_for(self.options.retention), rules: rules.collect() }
    }

    /// Keeps what batches say about metric families; new families beyond the limit are left out.
    pub(crate) fn remember_metadata(&self, said: Vec<(String, Metadata)>) {
        if said.is_empty() {
            return;
        }
        let mut known = self.metadata.lock();
        for (family, metadata) in said {
            if known.len() < self.options.limits.metadata_families || known.contains_key(&family) {
                known.insert(family, metadata);
            }
        }
    }

    fn stats(&self) -> Stats {
        let counters = &self.counters;
        // Before the rest: whoever holds this lock twice may wait for a creator of series who waits for the first hold.
        let symbols = self.registry.catalog().symbol_count() as u64;
        let blocks = self.view.peek(|view| Arc::clone(&view.blocks));
        let (head_samples, head_exemplars, head_bytes, head_times) = self.view.peek(|view| {
            let generations = || view.frozen.iter().map(|f| &f.generation).chain([&view.active]);
            let times = generations().filter_map(crate::head::generation::Generation::times);
            (
                generations().map(|g| g.samples()).sum(),
                generations().map(|g| g.exemplar_count() as u64).sum(),
                generations().map(|g| g.memory_bytes() as u64).sum(),
                times.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))),
            )
        });
        Stats {
            samples_accepted: counters.samples_accepted.get(),
            samples_late: counters.samples_late.get(),
            samples_refused: counters.samples_refused.get(),
            batches: counters.batches.get(),
            commit_groups: counters.commit_groups.get(),
            exemplars_accepted: counters.exemplars_accepted.get(),
            exemplars_refused: counters.exemplars_refused.get(),
            samples_queued: self.queued.load(Ordering::Relaxed) as u64,
            series: u64::from(self.registry.series_count()),
            series_dropped: counters.series_dropped.get(),
            symbols,
            head_samples,
            head_exemplars,
            head_bytes,
            registry_bytes: (self.registry.memory_bytes() + self.order.memory_bytes()) as u64,
            head_times,
            wal_bytes: self.wal_live_bytes.load(Ordering::Relaxed),
            wal_failures: counters.wal_failures.get(),
            wal_syncs: counters.wal_syncs.get(),
            wal_sync_micros: counters.wal_sync_micros.get(),
            wal_lost_frames: counters.wal_lost_frames.get(),
            replayed_samples: counters.replayed_samples.get(),
            open_millis: counters.open_millis.get(),
            flushes: counters.flushes.get(),
            flush_failures: counters.flush_failures.get(),
            blocks_dropped: counters.blocks_dropped.get(),
            scrub_bytes: counters.scrub_bytes.get(),
            scrub_rounds: counters.scrub_rounds.get(),
            blocks_damaged: self.damaged.lock().len() as u64,
            compactions: counters.compactions.get(),
            compaction_failures: counters.compaction_failures.get(),
            compaction_bytes_read: counters.compaction_bytes_read.get(),
            compaction_bytes_written: counters.compaction_bytes_written.get(),
            compaction_millis: counters.compaction_millis.get(),
            blocks_quarantined: counters.blocks_quarantined.get(),
            tombstones: self.tombstones.lock().len() as u64,
            blocks: blocks.len() as u64,
            block_bytes: blocks.iter().map(|b| b.block.file_bytes()).sum(),
            block_samples: blocks.iter().map(|b| b.block.meta().samples).sum(),
        }
    }
}

//! `Storage`: opening, writing, reading, flushing and closing a store.

mod health;
mod shared;
mod writer;

pub use crate::head::append::{CommitReport, Refusal, WriteBatch};
pub use health::Health;

use crate::api::{Querier, Queryable};
use crate::env::{Clock, DiskFs, Fs, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::head::commit::Committer;
use crate::head::hash::HashKey;
use crate::head::last::LastSamples;
use crate::head::registry::Registry;
use crate::model::{Metadata, TimeRange, Timestamp};
use crate::options::Options;
use crate::read::StoreQuerier;
use crate::stats::Stats;
use parking_lot::Mutex;
use shared::Shared;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;
use writer::{Message, Writer};

/// An open store. Clones are the same store; it is closed by [`Storage::close`] or when the last clone is gone.
#[derive(Clone)]
pub struct Storage {
    owner: Arc<Owner>,
}

/// The shared state, and the threads that serve it.
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
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
        options.validate()?;
        let registry = Arc::new(Registry::new(HashKey::random(), options.limits));
        let (queue, receiver) = writer::queue();
        let shared = Arc::new(Shared {
            options,
            fs,
            clock,
            dir: dir.to_path_buf(),
            registry: Arc::clone(&registry),
            order: Arc::default(),
            view: Arc::default(),
            health: health::HealthState::default(),
            counters: crate::stats::Counters::default(),
            metadata: Mutex::default(),
            queue: parking_lot::RwLock::new(Some(queue)),
            queued: std::sync::atomic::AtomicUsize::new(0),
            newest: std::sync::atomic::AtomicI64::new(i64::MIN),
        });
        let committer = Committer::new(registry, Arc::clone(&shared.view), LastSamples::default());
        let writer = Writer::new(Arc::clone(&shared), committer, receiver);
        let thread = std::thread::Builder::new()
            .name("kymo-commit".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| Error::io("start the commit thread", e))?;
        Ok(Self { owner: Arc::new(Owner { shared, threads: Mutex::new(vec![thread]) }) })
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
        self.owner.shared.submit(batch, true, done);
        receiver.recv().unwrap_or_else(|_| Err(Error::new(ErrorKind::Unavailable, "the store is closed")))
    }

    /// Commits `batch`; `done` is called with the outcome, on the commit thread, or at once with `Unavailable` when the
    /// queue is full. It must not block.
    pub fn submit(&self, batch: WriteBatch, done: Box<dyn FnOnce(Result<CommitReport>) + Send>) {
        self.owner.shared.submit(batch, false, done);
    }

    /// Writes everything committed so far into blocks, and waits for it.
    ///
    /// # Errors
    /// The disk refusing; the samples stay in memory and in the log, and the flush is tried again later.
    pub fn flush(&self) -> Result<()> {
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

    /// What was last said about each metric family, sorted by family.
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        self.owner.shared.metadata.lock().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Stops taking writes, makes all that was committed durable, and ends the threads of the store. Reads of views
    /// taken before go on; later calls are answered `Unavailable`.
    ///
    /// # Errors
    /// The disk refusing.
    pub fn close(&self) -> Result<()> {
        self.owner.close()
    }
}

impl Owner {
    fn close(&self) -> Result<()> {
        if let Some(queue) = self.shared.queue.write().take() {
            // A commit thread that is gone needs no word to stop.
            let _ = queue.send(Message::Stop);
        }
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                return Err(Error::internal("a thread of the store panicked"));
            }
        }
        Ok(())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the store");
        }
    }
}

impl Queryable for Storage {
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>> {
        let shared = &self.owner.shared;
        let min_time = range.min_time.max(shared.retention_start());
        Ok(Box::new(StoreQuerier {
            registry: Arc::clone(&shared.registry),
            order: Arc::clone(&shared.order),
            view: Arc::new(shared.view.snapshot()),
            range: TimeRange { min_time, max_time: range.max_time },
        }))
    }
}

impl Shared {
    /// The oldest time that is kept. The clock is believed only as far as samples confirm it: a jump of the clock into
    /// the future must not delete anything.
    pub(crate) fn retention_start(&self) -> Timestamp {
        let Some(retention) = self.options.retention else { return i64::MIN };
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let newest = self.newest.load(Ordering::Relaxed);
        let believed = newest.saturating_add(millis(self.options.limits.future));
        let now = if newest == i64::MIN { self.clock.now_ms() } else { self.clock.now_ms().min(believed) };
        now.saturating_sub(millis(retention))
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
        let (head_samples, head_bytes, head_times) = self.view.peek(|view| {
            let generations = || view.frozen.iter().map(|f| &f.generation).chain([&view.active]);
            let times = generations().filter_map(crate::head::generation::Generation::times);
            (
                generations().map(|g| g.samples()).sum(),
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
            samples_queued: self.queued.load(Ordering::Relaxed) as u64,
            series: u64::from(self.registry.len()),
            symbols: self.registry.catalog().symbol_count() as u64,
            head_samples,
            head_bytes,
            registry_bytes: (self.registry.memory_bytes() + self.order.memory_bytes()) as u64,
            head_times,
            wal_bytes: counters.wal_bytes.get(),
            wal_syncs: counters.wal_syncs.get(),
            wal_failures: counters.wal_failures.get(),
            wal_lost_frames: counters.wal_lost_frames.get(),
            replayed_samples: counters.replayed_samples.get(),
            open_millis: counters.open_millis.get(),
            flushes: counters.flushes.get(),
            flush_failures: counters.flush_failures.get(),
            blocks_dropped: counters.blocks_dropped.get(),
            blocks_quarantined: counters.blocks_quarantined.get(),
            ..Stats::default()
        }
    }
}

//! The background thread: flushes frozen generations, drops expired blocks, watches the free space.

use super::idle::IdleSeries;
use super::requests::{Answer, Job, Message, answered, closed};
use super::shared::Shared;
use crate::block::{Block, ManifestBlock};
use crate::env::Space;
use crate::error::{Error, Result};
use crate::head::checkpoint;
use crate::head::view::{Flushed, Frozen, LiveBlock};
use crate::maintain::flush::Flush;
use crate::maintain::retention;
use crate::options::{FREE_SPACE_LEAST, FREE_SPACE_MOST};
use crate::sync::atomic::Ordering;
use crate::sync::mpsc::{Receiver, RecvTimeoutError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How often it is seen whether writes are refused: whoever made room should not have to wait long.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// So long it is remembered what the newest samples were at a flush: until then every series that goes on has newer ones.
const FLUSHED_KEPT: Duration = Duration::from_secs(600);

/// When the head was first seen with samples.
#[derive(Debug, Clone, Copy)]
struct Filled {
    /// How many flushes there had been.
    flushes: u64,
    /// Monotonic time.
    since: Duration,
    /// The newest sample of the store then.
    newest: i64,
}

/// What the background thread remembers from one look at the store to the next.
#[derive(Default)]
pub(crate) struct Background {
    filled_since: Option<Filled>,
    idle: IdleSeries,
}

impl Background {
    /// Does a job; without one, looks after the store.
    pub(crate) fn work(&mut self, shared: &Shared, job: Option<Job>) {
        match job {
            Some(Job::Flush) => log_failure(shared.flush_frozen()),
            Some(Job::FlushAnd(answer)) => answer(shared.flush_frozen()),
            Some(Job::Maintain(answer)) => {
                shared.maintain(&mut self.filled_since, &mut self.idle);
                answer(Ok(()));
            }
            Some(Job::Stop) | None => shared.maintain(&mut self.filled_since, &mut self.idle),
        }
    }
}

/// Serves `jobs`, and looks after the store at regular intervals, until told to stop.
pub(crate) fn run(shared: &Shared, jobs: &Receiver<Job>) {
    let mut background = Background::default();
    shared.order.prepare(&shared.registry);
    // The disk may be full before the first look at the store.
    shared.keep_reserve();
    let interval = shared.options.maintenance_interval;
    let look = interval.min(LOOK_INTERVAL);
    let (mut waited, mut looked) = (Duration::ZERO, shared.clock.monotonic());
    loop {
        let job = match jobs.recv_timeout(look) {
            Ok(Job::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(job) => Some(job),
            Err(RecvTimeoutError::Timeout) => {
                waited += look;
                if waited < interval && shared.health.check_writable().is_ok() {
                    continue;
                }
                None
            }
        };
        // Jobs that come without a pause must not keep the store from being looked after.
        let now = shared.clock.monotonic();
        let is_due = job.is_none() || now.saturating_sub(looked) >= interval;
        if is_due {
            (waited, looked) = (Duration::ZERO, now);
        }
        let worked = catch_unwind(AssertUnwindSafe(|| {
            if job.is_some() {
                background.work(shared, job);
            }
            if is_due {
                background.work(shared, None);
            }
        }));
        if worked.is_err() {
            // Its state is in the shared structures, which change in single steps; so it may go on. Failures are counted.
            shared.counters.flush_failures.add(1);
            tracing::error!("the background thread met a bug and goes on");
        }
    }
}

fn log_failure(result: Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "a flush failed and will be tried again");
    }
}

impl Shared {
    /// Asks for a flush of what is frozen, soon.
    pub(crate) fn wake_background(&self) {
        if let Some(jobs) = self.background.read().as_ref() {
            // A full queue has a flush in it already.
            let _ = jobs.try_send(Job::Flush);
        }
    }

    fn maintain(&self, filled_since: &mut Option<Filled>, idle: &mut IdleSeries) {
        self.watch_space();
        log_failure(self.with_reserve(|| self.drop_expired()));
        if self.view.peek(|view| view.active.is_empty()) {
            *filled_since = None;
        } else if self.is_head_old(filled_since) {
            *filled_since = None;
            if let Some(queue) = self.queue.read().clone() {
                // When the commit thread is busy the next round will do.
                let _ = queue.try_send(Message::Freeze(Box::new(log_failure)));
            }
        }
        if self.view.peek(|view| !view.frozen.is_empty()) {
            log_failure(self.flush_frozen());
        }
        let now = self.clock.monotonic();
        self.view.change(|view| view.flushed.take_if(|f| now.saturating_sub(f.since) >= FLUSHED_KEPT));
        self.drop_idle(idle);
        self.keep_reserve();
    }

    /// Whether the head holds samples for long enough, by the clock or by the samples themselves: who sends hours of them in minutes
    /// must not have to wait for hours of log at the next start. Late samples do not count.
    fn is_head_old(&self, filled: &mut Option<Filled>) -> bool {
        let now = Filled {
            flushes: self.counters.flushes.get(),
            since: self.clock.monotonic(),
            newest: self.newest.load(Ordering::Relaxed),
        };
        let begun = *filled.get_or_insert(now);
        if begun.flushes != now.flushes {
            *filled = Some(now);
            return false;
        }
        let age = self.options.flush_age;
        now.since.saturating_sub(begun.since) >= age
            || now.newest.saturating_sub(begun.newest) >= retention::millis(age)
    }

    /// So many bytes of the disk are to stay free.
    pub(super) fn least_free(&self, space: Space) -> u64 {
        self.options
            .free_space_min
            .unwrap_or_else(|| (space.total_bytes / 100).clamp(FREE_SPACE_LEAST, FREE_SPACE_MOST))
    }

    /// Refuses writes while the disk is nearly full, and takes them again when there is room.
    pub(crate) fn watch_space(&self) {
        let Ok(space) = self.fs.space(&self.dir) else { return };
        let least = self.least_free(space);
        if space.free_bytes < least {
            let (free, dir) = (space.free_bytes, self.dir.display());
            self.health.set_read_only(format!(
                "{free} bytes are free at {dir}, the least (free_space_min) is {least}"
            ));
        } else {
            self.health.set_writable();
        }
    }

    /// Writes every frozen generation into blocks, oldest first.
    ///
    /// # Errors
    /// The disk refusing; what is not flushed stays frozen.
    pub(crate) fn flush_frozen(&self) -> Result<()> {
        while let Some(frozen) = self.view.peek(|view| view.frozen.first().cloned()) {
            if let Err(error) = self.flush_one(&frozen) {
                self.counters.flush_failures.add(1);
                return Err(error.context("flush the head"));
            }
            self.counters.flushes.add(1);
        }
        Ok(())
    }

    fn flush_one(&self, frozen: &Arc<Frozen>) -> Result<()> {
        let mut manifest = self.manifest.lock();
        let blocks_dir = self.dir.join(super::open::BLOCKS);
        let oldest = frozen.generation.times().map_or(i64::MAX, |times| times.0);
        let decide = || retention::oldest_flushed(&manifest.blocks, oldest, self.retention_start());
        let oldest_kept = *frozen.oldest_kept.get_or_init(decide);
        let flush = Flush {
            fs: &self.fs,
            blocks_dir: &blocks_dir,
            registry: &self.registry,
            order: &self.order,
            generation: &frozen.generation,
            oldest_kept,
        };
        let written = flush.write(manifest.next_sequence)?;
        let mut live = Vec::with_capacity(written.len());
        for block in &written {
            live.push(Arc::new(LiveBlock::new(Block::open(&self.fs, &blocks_dir.join(&block.file))?, &[])));
        }
        let checkpoint = self.write_checkpoint(frozen)?;

        let mut next = manifest.clone();
        next.next_sequence =
            written.iter().map(|b| b.meta.sequence + 1).max().unwrap_or(0).max(next.next_sequence);
        next.blocks.extend(written);
        next.first_wal_segment = frozen.boundary;
        let replaced = next.checkpoint.replace(checkpoint);
        next.store(&self.fs, &self.dir)?;
        *manifest = next;
        drop(manifest);
        self.registry.note_checkpoint();

        let flushed = Flushed::of(frozen, &live, self.clock.monotonic());
        self.view.change(|view| {
            let blocks = Arc::make_mut(&mut view.blocks);
            blocks.extend(live);
            view.flushed = Some(flushed);
            view.frozen.retain(|other| !Arc::ptr_eq(other, frozen));
        });
        self.remove_old_checkpoints(replaced.as_deref());
        if let Some(queue) = self.queue.read().clone() {
            // If the queue is full, the segments go with the next flush.
            let _ = queue.try_send(Message::Release(frozen.boundary));
        }
        self.registry.catalog_mut().optimize();
        Ok(())
    }

    /// Writes the registry checkpoint that belongs to the start of the log behind `frozen`. Answers its file name.
    fn write_checkpoint(&self, frozen: &Frozen) -> Result<String> {
        let dir = self.dir.join(super::open::HEAD);
        let name = super::open::checkpoint_name(frozen.boundary);
        let (path, temporary) = (dir.join(&name), dir.join(format!("{name}.tmp")));
        // What an interrupted flush left; if there is nothing or it cannot be removed, creating tells.
        let _ = self.fs.remove(&temporary);
        let metadata: Vec<_> =
            self.metadata.lock().iter().map(|(family, about)| (family.clone(), about.clone())).collect();
        checkpoint::write(self.fs.as_ref(), &temporary, &self.registry, &frozen.last, &metadata)
            .inspect_err(|_| {
                // On a full disk its room may be what the next attempt needs; the next start removes what stays.
                let _ = self.fs.remove(&temporary);
            })?;
        let named = self.fs.rename(&temporary, &path).and_then(|()| self.fs.sync_dir(&dir));
        named.map_err(|e| Error::io(format!("rename {}", temporary.display()), e))?;
        Ok(name)
    }

    /// Removes all checkpoints but the live one and the one before, which is what is left if the live one is damaged.
    fn remove_old_checkpoints(&self, before: Option<&str>) {
        let live = self.manifest.lock().checkpoint.clone();
        let dir = self.dir.join(super::open::HEAD);
        for path in self.fs.list(&dir).unwrap_or_default() {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if live.as_deref() != Some(&name) && before != Some(&name) {
                self.remove_file(&path);
            }
        }
    }

    /// Drops the blocks whose samples are all older than the retention, and the oldest if all take too much room.
    fn drop_expired(&self) -> Result<()> {
        let oldest = self.retention_start();
        let mut manifest = self.manifest.lock();
        let mut expired = retention::expired(&manifest.blocks, oldest);
        if let Some(limit) = self.options.retention_bytes {
            let log = self.wal_live_bytes.load(Ordering::Relaxed);
            let is_kept = |block: &&ManifestBlock| !expired.contains(block);
            let kept: Vec<ManifestBlock> = manifest.blocks.iter().filter(is_kept).cloned().collect();
            expired.extend(retention::over_size(&kept, log, limit));
        }
        if expired.is_empty() {
            return Ok(());
        }
        let mut next = manifest.clone();
        next.blocks.retain(|block| expired.iter().all(|gone| gone.meta.sequence != block.meta.sequence));
        next.store(&self.fs, &self.dir)?;
        *manifest = next;
        self.view.change(|view| {
            view.flushed = None;
            Arc::make_mut(&mut view.blocks)
                .retain(|live| expired.iter().all(|block| block.meta.sequence != live.block.meta().sequence));
        });
        for block in &expired {
            tracing::info!(file = block.file, "dropped by retention");
            self.remove_file(&self.dir.join(super::open::BLOCKS).join(&block.file));
            self.counters.blocks_dropped.add(1);
        }
        Ok(())
    }

    /// Removes a file nothing refers to; the next start removes what is left.
    pub(super) fn remove_file(&self, path: &std::path::Path) {
        if let Err(error) = self.fs.remove(path) {
            tracing::warn!(%error, path = %path.display(), "a file that is no longer needed stays");
        }
    }

    /// Sends `job` to the background thread and waits for its end.
    ///
    /// # Errors
    /// `Unavailable` if the store is closed; or what the job answers.
    pub(crate) fn ask_background(&self, job: impl FnOnce(Answer) -> Job) -> Result<()> {
        let jobs = self.background.read().clone().ok_or_else(closed)?;
        let (answer, receiver) = answered();
        self.send(&jobs, job(answer)).map_err(|_| closed())?;
        self.wait(&receiver).unwrap_or_else(|| Err(self.unanswered()))
    }
}

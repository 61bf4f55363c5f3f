//! The commit thread: takes groups of batches from a bounded queue, commits each group, answers each batch.

use super::requests::{Answer, Done, Message, call, closed};
use super::reserve::is_disk_full;
use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::head::append::WriteBatch;
use crate::head::commit::{Committer, Judged};
use crate::head::last::Bounds;
use crate::head::view::View;
use crate::maintain::retention::millis;
use crate::sync::atomic::Ordering;
use crate::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, TrySendError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Samples after which a group is full.
const GROUP_SAMPLES: usize = 1_000_000;
/// Batches after which a group is full.
const GROUP_BATCHES: usize = 1024;

/// What fits into one record of the log: a batch comes back whole or not at all.
const BATCH_BYTES_MAX: usize = 250 << 20;

impl Shared {
    /// Hands `batch` to the commit thread; `done` is called at once if it cannot be taken.
    pub(crate) fn submit(&self, batch: WriteBatch, may_wait: bool, done: Done) {
        let limits = &self.options.limits;
        let samples = batch.len();
        if samples > limits.samples_per_batch {
            let text = format!("a batch of {samples} samples; the limit is {}", limits.samples_per_batch);
            return done.answer(Err(Error::new(ErrorKind::LimitExceeded, text)));
        }
        let bytes = batch.log_bytes_max();
        if bytes > BATCH_BYTES_MAX {
            let text = format!("a batch of up to {bytes} bytes; the limit is {BATCH_BYTES_MAX}");
            return done.answer(Err(Error::new(ErrorKind::LimitExceeded, text)));
        }
        if let Err(error) = self.health.check_writable() {
            return done.answer(Err(error));
        }
        let Some(queue) = self.queue.read().clone() else { return done.answer(Err(closed())) };
        let weight = batch.weight();
        let waiting = self.queued.fetch_add(weight, Ordering::Relaxed);
        let is_full = waiting > 0 && waiting.saturating_add(weight) > limits.samples_queued && !may_wait;
        let refused = if is_full {
            Some((Message::Batch(batch, done), "the write queue is full"))
        } else if may_wait {
            self.send(&queue, Message::Batch(batch, done)).err().map(|e| (e.0, "the store is closed"))
        } else {
            queue.try_send(Message::Batch(batch, done)).err().map(|e| match e {
                TrySendError::Full(message) => (message, "the write queue is full"),
                TrySendError::Disconnected(message) => (message, "the store is closed"),
            })
        };
        if let Some((Message::Batch(_, done), why)) = refused {
            self.queued.fetch_sub(weight, Ordering::Relaxed);
            done.answer(Err(Error::new(ErrorKind::Unavailable, why)));
        }
    }

    /// What is accepted now.
    fn bounds(&self) -> Bounds {
        let newest = self.clock.now_ms().saturating_add(millis(self.options.limits.future));
        Bounds { oldest: self.retention_start().max(i64::MIN + 1), newest }
    }
}

/// Frozen generations that may wait to be flushed.
const FROZEN_MAX: usize = 2;

/// The state of the commit thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    committer: Committer,
    receiver: Receiver<Message>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, committer: Committer, receiver: Receiver<Message>) -> Self {
        Self { shared, committer, receiver }
    }

    /// Serves the queue until it is told to stop. A bug that panics here poisons the store instead of stopping it
    /// silently.
    pub(crate) fn run(mut self) {
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        self.end(served);
    }

    /// Commits what waits, without waiting for more. Answers itself, unless it was told to stop, and whether there was
    /// anything to do.
    pub(crate) fn step(mut self) -> (Option<Self>, bool) {
        let stopped = match self.receiver.try_recv() {
            Ok(message) => match self.serve_from(message, &mut Vec::new()) {
                None => return (Some(self), true),
                stopped => stopped,
            },
            Err(TryRecvError::Empty) => {
                let is_due = self.committer.wal().sync_due_in() == Some(Duration::ZERO);
                self.sync_if_due();
                return (Some(self), is_due);
            }
            Err(TryRecvError::Disconnected) => None,
        };
        self.end(Ok(stopped));
        (None, true)
    }

    /// Takes nothing more, and says so to who is still in the queue and to who asked for it.
    fn end(self, served: std::thread::Result<Option<Answer>>) {
        let shared = Arc::clone(&self.shared);
        shared.queue.write().take();
        while let Ok(message) = self.receiver.try_recv() {
            match message {
                Message::Freeze(answer)
                | Message::Forget(_, _, answer)
                | Message::Sync(answer)
                | Message::Stop(answer) => {
                    call(|| answer(Err(closed())));
                }
                // Who waits for the others sees that nobody will answer.
                _ => {}
            }
        }
        match served {
            Ok(answer) => {
                let closed = self.committer.close();
                if let Some(answer) = answer {
                    call(|| answer(closed));
                }
            }
            Err(_) => shared.health.poison("the commit thread met a bug; see the log".to_owned()),
        }
    }

    /// Answers who is to be told of the end, if anyone is left.
    fn serve(&mut self) -> Option<Answer> {
        let mut group = Vec::new();
        loop {
            let message = self.wait()?;
            if let Some(answer) = self.serve_from(message, &mut group) {
                return Some(answer);
            }
        }
    }

    /// Takes `message` and what waits behind it, as one group. Answers who is to be told of the end.
    fn serve_from(&mut self, mut message: Message, group: &mut Vec<(WriteBatch, Done)>) -> Option<Answer> {
        let mut samples = 0;
        loop {
            match message {
                Message::Batch(batch, done) => {
                    samples += batch.weight();
                    group.push((batch, done));
                }
                other => {
                    self.commit(group);
                    if let Some(answer) = self.control(other) {
                        return Some(answer);
                    }
                }
            }
            if samples >= GROUP_SAMPLES || group.len() >= GROUP_BATCHES {
                break;
            }
            match self.receiver.try_recv() {
                Ok(next) => message = next,
                Err(_) => break,
            }
        }
        self.commit(group);
        self.freeze_if_large();
        None
    }

    /// The next message; meanwhile the log is synced when its interval is over. Nothing when nobody can send any more.
    fn wait(&mut self) -> Option<Message> {
        loop {
            let Some(due) = self.committer.wal().sync_due_in() else { return self.receiver.recv().ok() };
            match self.receiver.recv_timeout(due) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.sync_if_due(),
            }
        }
    }

    fn sync_if_due(&mut self) {
        if self.committer.wal().sync_if_due().is_err() {
            self.note_poison();
        }
    }

    /// Answers who asked to stop.
    fn control(&mut self, message: Message) -> Option<Answer> {
        match message {
            Message::Freeze(answer) => {
                let frozen = self.freeze();
                call(|| answer(frozen));
            }
            Message::Forget(series, range, answer) => {
                let forgotten = self.check_frozen().and_then(|()| self.committer.forget(&series, range));
                self.note_poison();
                call(|| answer(forgotten));
            }
            Message::Sync(answer) => {
                let synced = self.committer.wal().sync();
                self.note_poison();
                // Who is answered sees it in the numbers.
                self.note_wal();
                call(|| answer(synced));
            }
            Message::FindIdle(range, newest, answer) => drop(answer.send(self.committer.idle(range, newest))),
            Message::Unlink(series, answer) => drop(answer.send(self.committer.unlink(&series))),
            Message::Release(boundary) => {
                if let Err(error) = self.committer.wal().release_before(boundary) {
                    tracing::warn!(%error, "segments of the log that are no longer needed stay for now");
                }
                if self.shared.health.check_writable().is_err() {
                    self.committer.wal().drop_spares();
                }
            }
            Message::Stop(answer) => return Some(answer),
            Message::Batch(..) => {}
        }
        self.note_wal();
        None
    }

    /// Whether one more generation may be frozen.
    fn check_frozen(&self) -> Result<()> {
        if self.shared.view.peek(|view| view.frozen.len() >= FROZEN_MAX) {
            return Err(Error::new(ErrorKind::Unavailable, "earlier flushes are not finished"));
        }
        Ok(())
    }

    fn freeze(&mut self) -> Result<()> {
        self.check_frozen()?;
        let frozen = self.committer.freeze();
        self.note_poison();
        frozen.map(|_| ())
    }

    fn freeze_if_large(&mut self) {
        let options = &self.shared.options;
        let look = |view: &View| (view.active.memory_bytes(), view.active.series_count(), view.frozen.len());
        let (bytes, series, frozen) = self.shared.view.peek(look);
        let is_long = frozen == 0 && self.committer.log_bytes() >= options.flush_wal_bytes_of(series);
        let is_large = bytes >= self.flush_bytes() || is_long;
        if is_large && frozen < FROZEN_MAX {
            match self.freeze() {
                Ok(()) => self.shared.wake_background(),
                Err(error) => tracing::error!(%error, "the head cannot be frozen"),
            }
        }
    }

    /// When the head is flushed.
    fn flush_bytes(&self) -> usize {
        let options = &self.shared.options;
        match options.memory_budget {
            Some(_) => {
                let labels = self.shared.registry.believed_bytes() + self.shared.order.memory_bytes();
                options.flush_bytes_beside(labels)
            }
            None => options.flush_bytes,
        }
    }

    /// Why nothing can be written now.
    fn check_room(&self) -> Result<()> {
        self.shared.health.check_writable()?;
        let flush_bytes = self.flush_bytes();
        let is_behind = self.shared.view.peek(|view| {
            view.frozen.len() >= FROZEN_MAX && view.active.memory_bytes() >= flush_bytes.saturating_mul(2)
        });
        if is_behind {
            return Err(Error::new(ErrorKind::Unavailable, "the flush to disk is behind and memory is full"));
        }
        Ok(())
    }

    /// Commits `group` and answers each of its batches.
    fn commit(&mut self, group: &mut Vec<(WriteBatch, Done)>) {
        if group.is_empty() {
            return;
        }
        let total: usize = group.iter().map(|(batch, _)| batch.weight()).sum();
        self.shared.queued.fetch_sub(total, Ordering::Relaxed);
        if let Err(error) = self.check_room() {
            return answer_all(group, &error);
        }
        let bounds = self.shared.bounds();
        self.committer.begin();
        let judged: Vec<Judged> =
            group.iter().map(|(batch, _)| self.committer.judge(batch, bounds)).collect();
        let batches: Vec<&WriteBatch> = group.iter().map(|(batch, _)| batch).collect();
        if let Err(error) = self.committer.log(&judged, &batches) {
            self.shared.counters.wal_failures.add(1);
            self.note_poison();
            return answer_all(group, &self.explain_failure(error));
        }
        for judged in &judged {
            self.committer.apply(judged);
        }
        self.shared.counters.commit_groups.add(1);
        for ((batch, done), judged) in group.drain(..).zip(judged) {
            self.count(&judged);
            self.shared.remember_metadata(batch.metadata);
            done.answer(Ok(judged.report));
        }
        self.note_wal();
    }

    /// A full disk is not the sender's fault and passes: the store is read-only until there is room.
    fn explain_failure(&mut self, error: Error) -> Error {
        if !is_disk_full(&error) {
            return error;
        }
        self.committer.wal().drop_spares();
        self.shared.health.set_read_only(error.to_string());
        Error::new(ErrorKind::Unavailable, format!("the store is read-only: {error}"))
    }

    fn note_poison(&self) {
        if let Some(why) = self.committer.poisoned() {
            self.shared.health.poison(why.to_owned());
        }
    }

    fn note_wal(&mut self) {
        let syncs = self.committer.wal().take_syncs();
        self.shared.counters.wal_syncs.add(syncs.count);
        self.shared.counters.wal_sync_micros.add(syncs.time.as_micros() as u64);
        self.shared.wal_live_bytes.store(self.committer.wal().live_bytes(), Ordering::Relaxed);
    }

    fn count(&self, judged: &Judged) {
        let counters = &self.shared.counters;
        counters.batches.add(1);
        counters.samples_accepted.add(judged.report.accepted);
        counters.samples_refused.add(judged.report.refused_total);
        counters.samples_late.add(judged.late);
        counters.exemplars_accepted.add(judged.report.exemplars_accepted);
        counters.exemplars_refused.add(judged.report.exemplars_refused_total);
        if let Some(newest) = judged.newest {
            self.shared.newest.fetch_max(newest, Ordering::Relaxed);
        }
    }
}

/// Answers all of `group` with one error.
fn answer_all(group: &mut Vec<(WriteBatch, Done)>, error: &Error) {
    for (_, done) in group.drain(..) {
        done.answer(Err(Error::new(error.kind(), error.to_string())));
    }
}

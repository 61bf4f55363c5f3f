//! The commit thread: takes groups of batches from a bounded queue, commits each group, answers each batch.

use super::shared::Shared;
use crate::error::{Error, ErrorKind, Result};
use crate::head::append::{CommitReport, WriteBatch};
use crate::head::commit::{Committer, Judged};
use crate::head::last::Bounds;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Called once, on the commit thread, with what became of a batch.
pub(crate) type Done = Box<dyn FnOnce(Result<CommitReport>) + Send>;
/// The same for other requests.
pub(crate) type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// What the commit thread is asked to do.
pub(crate) enum Message {
    /// Commit a batch.
    Batch(WriteBatch, Done),
    /// Freeze the active generation so that it can be flushed.
    Freeze(Answer),
    /// Sync what is written and end.
    Stop,
}

/// The way to the commit thread.
pub(crate) type Queue = SyncSender<Message>;

/// Messages that may wait; each batch has its own limit besides.
const QUEUE_MESSAGES: usize = 4096;
/// Samples after which a group is full.
const GROUP_SAMPLES: usize = 1_000_000;
/// Batches after which a group is full.
const GROUP_BATCHES: usize = 1024;

/// A queue and its other end.
pub(crate) fn queue() -> (Queue, Receiver<Message>) {
    sync_channel(QUEUE_MESSAGES)
}

fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is closed")
}

impl Shared {
    /// Hands `batch` to the commit thread; `done` is called at once if it cannot be taken.
    pub(crate) fn submit(&self, batch: WriteBatch, may_wait: bool, done: Done) {
        let limits = &self.options.limits;
        let samples = batch.len();
        if samples > limits.samples_per_batch {
            let text = format!("a batch of {samples} samples; the limit is {}", limits.samples_per_batch);
            return done(Err(Error::new(ErrorKind::LimitExceeded, text)));
        }
        if let Err(error) = self.health.check_writable() {
            return done(Err(error));
        }
        let Some(queue) = self.queue.read().clone() else { return done(Err(closed())) };
        let waiting = self.queued.fetch_add(samples, Ordering::Relaxed);
        let is_full = waiting > 0 && waiting.saturating_add(samples) > limits.samples_queued && !may_wait;
        let refused = if is_full {
            Some((Message::Batch(batch, done), "the write queue is full"))
        } else if may_wait {
            queue.send(Message::Batch(batch, done)).err().map(|e| (e.0, "the store is closed"))
        } else {
            queue.try_send(Message::Batch(batch, done)).err().map(|e| match e {
                TrySendError::Full(message) => (message, "the write queue is full"),
                TrySendError::Disconnected(message) => (message, "the store is closed"),
            })
        };
        if let Some((Message::Batch(_, done), why)) = refused {
            self.queued.fetch_sub(samples, Ordering::Relaxed);
            done(Err(Error::new(ErrorKind::Unavailable, why)));
        }
    }

    /// What is accepted now.
    fn bounds(&self) -> Bounds {
        let now = self.clock.now_ms();
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        let newest = now.saturating_add(millis(self.options.limits.future));
        Bounds { oldest: self.retention_start().max(i64::MIN + 1), newest }
    }
}

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
        let shared = Arc::clone(&self.shared);
        if catch_unwind(AssertUnwindSafe(|| self.serve())).is_err() {
            shared.health.poison("the commit thread met a bug; see the log".to_owned());
            shared.queue.write().take();
        }
    }

    fn serve(&mut self) {
        let mut group = Vec::new();
        let mut stops = false;
        while !stops {
            let mut next = self.receiver.recv().ok();
            let mut samples = 0;
            while let Some(message) = next.take() {
                match message {
                    Message::Batch(batch, done) => {
                        samples += batch.len();
                        group.push((batch, done));
                    }
                    other => {
                        self.commit(&mut group);
                        stops |= self.control(other);
                    }
                }
                if samples < GROUP_SAMPLES && group.len() < GROUP_BATCHES && !stops {
                    next = self.receiver.try_recv().ok();
                }
            }
            self.commit(&mut group);
        }
    }

    /// Answers whether to stop.
    fn control(&mut self, message: Message) -> bool {
        match message {
            Message::Freeze(answer) => {
                call(|| answer(Ok(())));
                false
            }
            Message::Stop => true,
            Message::Batch(..) => false,
        }
    }

    /// Commits `group` and answers each of its batches.
    fn commit(&mut self, group: &mut Vec<(WriteBatch, Done)>) {
        if group.is_empty() {
            return;
        }
        let total: usize = group.iter().map(|(batch, _)| batch.len()).sum();
        self.shared.queued.fetch_sub(total, Ordering::Relaxed);
        if let Err(error) = self.shared.health.check_writable() {
            return answer_all(group, &error);
        }
        let bounds = self.shared.bounds();
        self.committer.begin();
        let judged: Vec<Judged> =
            group.iter().map(|(batch, _)| self.committer.judge(batch, bounds)).collect();
        for judged in &judged {
            self.committer.apply(judged);
        }
        self.shared.counters.commit_groups.add(1);
        for ((batch, done), judged) in group.drain(..).zip(judged) {
            self.count(&judged);
            self.shared.remember_metadata(batch.metadata);
            call(|| done(Ok(judged.report)));
        }
    }

    fn count(&self, judged: &Judged) {
        let counters = &self.shared.counters;
        counters.batches.add(1);
        counters.samples_accepted.add(judged.report.accepted);
        counters.samples_refused.add(judged.report.refused_total);
        counters.samples_late.add(judged.late);
        if let Some(newest) = judged.newest {
            self.shared.newest.fetch_max(newest, Ordering::Relaxed);
        }
    }
}

/// Answers all of `group` with one error.
fn answer_all(group: &mut Vec<(WriteBatch, Done)>, error: &Error) {
    for (_, done) in group.drain(..) {
        call(|| done(Err(Error::new(error.kind(), error.to_string()))));
    }
}

/// Calls what a caller gave us; its panic is its own.
fn call(callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!("a callback of a write panicked");
    }
}

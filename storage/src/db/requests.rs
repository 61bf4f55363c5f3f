//! What the threads of a store ask each other, and the queues the requests lie in.

use crate::error::{Error, ErrorKind, Result};
use crate::head::append::{CommitReport, WriteBatch};
use crate::model::{TimeRange, Timestamp};
use crate::sync::mpsc::{Receiver, SyncSender, sync_channel};
use roaring::RoaringBitmap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whom to tell what became of a batch: called once, on the commit thread as a rule. Who is dropped unanswered, because
/// the commit thread ended with messages on their way to it, hears that the store is closed.
pub(crate) struct Done(Option<Callback>);

type Callback = Box<dyn FnOnce(Result<CommitReport>) + Send>;

impl Done {
    pub(crate) fn new(callback: Callback) -> Self {
        Self(Some(callback))
    }

    pub(crate) fn answer(mut self, result: Result<CommitReport>) {
        if let Some(callback) = self.0.take() {
            call(|| callback(result));
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if let Some(callback) = self.0.take() {
            call(|| callback(Err(closed())));
        }
    }
}

/// Calls what a caller gave us; its panic is its own.
pub(crate) fn call(callback: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(callback)).is_err() {
        tracing::error!("a callback of a write panicked");
    }
}

/// The answer of a store that takes no more requests.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is closed")
}

/// Called with the outcome of another request; dropped if there is none.
pub(crate) type Answer = Box<dyn FnOnce(Result<()>) + Send>;

/// An answer, and where it arrives.
pub(crate) fn answered() -> (Answer, Receiver<Result<()>>) {
    let (sender, receiver) = sync_channel(1);
    // The receiver waits and is gone only when its thread is.
    (Box::new(move |result| drop(sender.send(result))), receiver)
}

/// What the commit thread is asked to do.
pub(crate) enum Message {
    /// Commit a batch.
    Batch(WriteBatch, Done),
    /// Freeze the active generation so that it can be flushed.
    Freeze(Answer),
    /// Forget the newest samples of these series in this range, and freeze what is in memory of them.
    Forget(RoaringBitmap, TimeRange, Answer),
    /// Make everything committed so far durable.
    Sync(Answer),
    /// Find series of these numbers that have nothing in memory and no sample newer than that.
    FindIdle(Range<u32>, Timestamp, SyncSender<RoaringBitmap>),
    /// Make those of these series unknown that are still idle, and say which.
    Unlink(RoaringBitmap, SyncSender<RoaringBitmap>),
    /// Everything before this segment of the log is in blocks.
    Release(u64),
    /// Make everything durable and end.
    Stop(Answer),
}

/// The way to the commit thread.
pub(crate) type Queue = SyncSender<Message>;

/// Messages that may wait; each batch has its own limit besides.
const QUEUE_MESSAGES: usize = 4096;

/// A queue and its other end.
pub(crate) fn queue() -> (Queue, Receiver<Message>) {
    sync_channel(QUEUE_MESSAGES)
}

/// What the background thread is asked to do.
pub(crate) enum Job {
    /// Flush what is frozen.
    Flush,
    /// The same, and say what became of it.
    FlushAnd(Answer),
    /// Look at age, retention and free space now.
    Maintain(Answer),
    /// End.
    Stop,
}

/// The way to the background thread.
pub(crate) type Jobs = SyncSender<Job>;

/// A queue of jobs and its other end.
pub(crate) fn jobs() -> (Jobs, Receiver<Job>) {
    sync_channel(16)
}

/// What the thread that merges blocks is asked to do.
pub(crate) enum CompactJob {
    /// Merge without rest.
    Compact(Merges, Answer),
    /// End.
    Stop,
}

/// What is to be merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Merges {
    /// What the planner says.
    Due,
    /// The same, and every block with deleted samples.
    Deleted,
    /// Everything, as far as the widest windows allow.
    All,
}

/// The way to the thread that merges blocks.
pub(crate) type CompactJobs = SyncSender<CompactJob>;

/// A queue of merges and its other end.
pub(crate) fn compact_jobs() -> (CompactJobs, Receiver<CompactJob>) {
    sync_channel(16)
}

//! What the threads of a store ask each other, and the queues the requests lie in.

use crate::error::Result;
use crate::head::append::{CommitReport, WriteBatch};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

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

//! What the threads of an open store share.

use super::health::HealthState;
use super::requests::{CompactJobs, Jobs, Queue, closed};
use crate::block::{Manifest, Tombstone};
use crate::env::{Clock, Fs};
use crate::error::Error;
use crate::head::order::LabelOrder;
use crate::head::registry::Registry;
use crate::head::view::SharedView;
use crate::maintain::throttle::StopSignal;
use crate::model::{Metadata, Timestamp};
use crate::options::{Options, RetentionRule};
use crate::read::Missing;
use crate::stats::Counters;
use crate::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
use crate::sync::mpsc::{Receiver, SendError, SyncSender, TryRecvError, TrySendError};
use crate::sync::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// Who does the work of a store without threads.
pub(crate) trait Help: Send + Sync {
    /// Does some of it.
    fn help(&self);
}

/// See the module.
pub(crate) struct Shared {
    pub(crate) options: Options,
    /// The rules in force; those of `options` until others are set.
    pub(crate) retention_rules: RwLock<Arc<[RetentionRule]>>,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) dir: PathBuf,
    pub(crate) registry: Arc<Registry>,
    pub(crate) order: Arc<LabelOrder>,
    pub(crate) view: Arc<SharedView>,
    pub(crate) health: HealthState,
    pub(crate) counters: Counters,
    pub(crate) metadata: Mutex<BTreeMap<String, Metadata>>,
    /// The way to the commit thread; gone once the store is closed.
    pub(crate) queue: RwLock<Option<Queue>>,
    /// The way to the background thread.
    pub(crate) background: RwLock<Option<Jobs>>,
    /// Which blocks are live, as on disk. Locked while a flush or retention changes it.
    pub(crate) manifest: Mutex<Manifest>,
    /// What was deleted and may still lie in blocks, as on disk. Locked after `manifest`.
    pub(crate) tombstones: Mutex<Vec<Arc<Tombstone>>>,
    /// One delete at a time.
    pub(crate) deleting: Mutex<()>,
    /// The way to the thread that merges blocks; gone once the store is closed.
    pub(crate) compactor: RwLock<Option<CompactJobs>>,
    /// Says to merges that the store is closing.
    pub(crate) stop: StopSignal,
    /// Blocks that turned out to be damaged when they were to be merged, by sequence.
    pub(crate) damaged: Mutex<BTreeSet<u64>>,
    /// Bytes of the log that a restart would read.
    pub(crate) wal_live_bytes: AtomicU64,
    /// What waits in the queue; see `WriteBatch::weight`.
    pub(crate) queued: AtomicUsize,
    /// What is known to be missing since the start.
    pub(crate) missing: Arc<[Missing]>,
    /// What the wall clock and the monotonic one showed when the store was opened.
    pub(crate) opened: (Timestamp, Duration),
    /// The newest timestamp ever stored, or `i64::MIN`.
    pub(crate) newest: AtomicI64,
    /// The work, if no threads do it.
    pub(crate) help: OnceLock<Weak<dyn Help>>,
}

impl Shared {
    fn help(&self) -> Option<Arc<dyn Help>> {
        self.help.get().and_then(Weak::upgrade)
    }

    /// Waits for what somebody was asked. Nothing if nobody answers any more.
    pub(super) fn wait<T>(&self, receiver: &Receiver<T>) -> Option<T> {
        let Some(helper) = self.help() else { return receiver.recv().ok() };
        loop {
            match receiver.try_recv() {
                Ok(answer) => return Some(answer),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => helper.help(),
            }
        }
    }

    /// Puts `message` into `queue` as soon as there is room.
    ///
    /// # Errors
    /// Nobody takes from the queue any more; the message comes back.
    pub(super) fn send<T>(&self, queue: &SyncSender<T>, message: T) -> std::result::Result<(), SendError<T>> {
        let Some(helper) = self.help() else { return queue.send(message) };
        let mut message = message;
        loop {
            match queue.try_send(message) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(back)) => return Err(SendError(back)),
                Err(TrySendError::Full(back)) => {
                    message = back;
                    helper.help();
                }
            }
        }
    }

    /// Why a request that was taken is not answered.
    pub(super) fn unanswered(&self) -> Error {
        if self.stop.is_set() {
            return closed();
        }
        Error::internal("the work met a bug and ended unfinished; see the log")
    }
}

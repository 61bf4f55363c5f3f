//! What the threads of an open store share.

use super::health::HealthState;
use super::requests::{CompactJobs, Jobs, Queue};
use crate::block::{Manifest, Tombstone};
use crate::env::{Clock, Fs};
use crate::head::order::LabelOrder;
use crate::head::registry::Registry;
use crate::head::view::SharedView;
use crate::maintain::throttle::StopSignal;
use crate::model::{Metadata, Timestamp};
use crate::options::{Options, RetentionRule};
use crate::read::Missing;
use crate::stats::Counters;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize};
use std::time::Duration;

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
}

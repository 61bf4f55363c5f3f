//! What a store counts about itself: plain numbers; whoever shows them knows the format.

use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of a store at one moment. Totals count since the store was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Samples stored (equal ones sent again are counted too).
    pub samples_accepted: u64,
    /// Samples older than the newest of their series.
    pub samples_late: u64,
    /// Samples refused.
    pub samples_refused: u64,
    /// Exemplars stored (equal ones sent again are counted too).
    pub exemplars_accepted: u64,
    /// Exemplars refused.
    pub exemplars_refused: u64,
    /// Batches committed.
    pub batches: u64,
    /// Groups of batches that shared one write to the log.
    pub commit_groups: u64,
    /// Samples waiting to be committed.
    pub samples_queued: u64,
    /// Series in memory: those that get samples, and those that stopped not long ago.
    pub series: u64,
    /// Series that stopped and left memory. Their samples are in blocks.
    pub series_dropped: u64,
    /// Distinct label names and values known.
    pub symbols: u64,
    /// Samples in the head.
    pub head_samples: u64,
    /// Exemplars in the head.
    pub head_exemplars: u64,
    /// Bytes of memory the samples of the head take.
    pub head_bytes: u64,
    /// Bytes of memory labels and their index take.
    pub registry_bytes: u64,
    /// The oldest and newest timestamp in the head, in milliseconds.
    pub head_times: Option<(i64, i64)>,
    /// Bytes of the write-ahead log that a start would read.
    pub wal_bytes: u64,
    /// Writes or syncs of the write-ahead log that failed.
    pub wal_failures: u64,
    /// Syncs of the write-ahead log.
    pub wal_syncs: u64,
    /// Microseconds they took together.
    pub wal_sync_micros: u64,
    /// Frames of the write-ahead log that were lost to damage at the last start.
    pub wal_lost_frames: u64,
    /// Samples read from the write-ahead log at the last start.
    pub replayed_samples: u64,
    /// Milliseconds the last start took.
    pub open_millis: u64,
    /// Blocks in use.
    pub blocks: u64,
    /// Bytes of the blocks in use.
    pub block_bytes: u64,
    /// Samples in the blocks in use.
    pub block_samples: u64,
    /// Deletes whose samples may still take room in blocks.
    pub tombstones: u64,
    /// Blocks put aside because of damage.
    pub blocks_quarantined: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Flushes that failed and will be tried again.
    pub flush_failures: u64,
    /// Blocks dropped by retention.
    pub blocks_dropped: u64,
    /// Bytes of blocks read again in search of rot.
    pub scrub_bytes: u64,
    /// Blocks in use in which rot was found.
    pub blocks_damaged: u64,
    /// Times all blocks have been read again.
    pub scrub_rounds: u64,
    /// Merges of blocks done.
    pub compactions: u64,
    /// Merges that failed.
    pub compaction_failures: u64,
    /// Bytes of the blocks that were merged.
    pub compaction_bytes_read: u64,
    /// Bytes of the blocks that merges made.
    pub compaction_bytes_written: u64,
    /// Milliseconds merges took, rests included.
    pub compaction_millis: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) samples_accepted: Counter,
    pub(crate) samples_late: Counter,
    pub(crate) samples_refused: Counter,
    pub(crate) exemplars_accepted: Counter,
    pub(crate) exemplars_refused: Counter,
    pub(crate) batches: Counter,
    pub(crate) commit_groups: Counter,
    pub(crate) series_dropped: Counter,
    pub(crate) wal_failures: Counter,
    pub(crate) wal_syncs: Counter,
    pub(crate) wal_sync_micros: Counter,
    pub(crate) wal_lost_frames: Counter,
    pub(crate) replayed_samples: Counter,
    pub(crate) open_millis: Counter,
    pub(crate) flushes: Counter,
    pub(crate) flush_failures: Counter,
    pub(crate) blocks_dropped: Counter,
    pub(crate) scrub_bytes: Counter,
    pub(crate) scrub_rounds: Counter,
    pub(crate) compactions: Counter,
    pub(crate) compaction_failures: Counter,
    pub(crate) compaction_bytes_read: Counter,
    pub(crate) compaction_bytes_written: Counter,
    pub(crate) compaction_millis: Counter,
    pub(crate) blocks_quarantined: Counter,
}

/// One number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

//! The write-ahead log: what is acknowledged is here first, and comes back from here after a crash.
//!
//! One thread owns the [`Wal`] and appends groups of records; a group is one write and, with [`Durability::Sync`], one
//! `fdatasync`:
//!
//! ```text
//! let (mut wal, report) = Wal::open(fs, clock, dir, WalOptions::default(), first_needed, &mut visitor)?;
//! wal.push_series([(7, label_bytes)])?;                     // records are encoded at once into a buffer
//! wal.push_batch(&BatchRecord { samples, histograms, exemplars, metadata })?;
//! match wal.commit() {                                      // Ok: written, and durable as the options say
//!     Ok(()) => …,
//!     Err(e) if wal.poisoned().is_some() => …,              // a sync failed: no write is taken any more
//!     Err(e) => …,                                          // refused and cut back: the next group may succeed
//! }
//! let boundary = wal.cut()?;                                // everything so far lies in segments below `boundary`
//! wal.release_before(boundary)?;                            // after the flush: their files are used again or removed
//! ```
//!
//! Each record is a frame of its own, so damage costs one record (all that one request stored), not a group. Records need
//! nothing but the SERIES records before them. See [`record`] for their bytes and [`segment`] for the files.

pub mod record;
pub mod segment;

mod active;
mod aside;
mod columns;
mod prepare;
mod reader;
mod writer;

pub(crate) use aside::given_up;
pub(crate) use reader::check;
pub use reader::{DamagedPlace, LogDamage, ReplayReport, ReplayVisitor};
pub use record::{BatchRecord, ExemplarRecord, HistogramsRecord, SamplesRecord};
pub use writer::Wal;

use std::path::PathBuf;
use std::time::Duration;

/// When a commit counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After `fdatasync`: survives a power cut.
    #[default]
    Sync,
    /// After the write; synced at least so often: a power cut may take the commits of about one interval.
    Interval(Duration),
    /// After the write; synced when the operating system pleases: survives a kill of the process only.
    Os,
}

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// When a commit counts as done.
    pub durability: Durability,
    /// The size of a segment, in bytes. A group larger than that gets a longer segment of its own.
    pub segment_bytes: u64,
    /// How many released segments are kept to be written again. Overwriting in place halves the cost of `fdatasync`,
    /// because neither the size nor the extents of the file change.
    pub spare_segments: usize,
    /// Whether a thread makes the next segment ready (filled with zeros and synced) once half of this one is written. Without
    /// it segments grow as they are written, which is right for tests and simulations.
    pub prepare_in_background: bool,
    /// Whether SAMPLES records are compressed with lz4 when that saves at least 15 %. Off by default: it saves a fifth
    /// of the bytes of records that live for two hours at most, and doubles the cost of encoding them.
    pub compress_samples: bool,
    /// Where damaged segments are copied; `quarantine` beside the log's directory if not given.
    pub quarantine: Option<PathBuf>,
    /// Mixed into the checksums of new segments, so that those of another store never validate here.
    pub nonce: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            segment_bytes: 16 << 20,
            spare_segments: 2,
            prepare_in_background: true,
            compress_samples: false,
            quarantine: None,
            nonce: 0,
        }
    }
}

/// What syncing took since the last question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Syncs {
    /// How often.
    pub count: u64,
    /// How long together.
    pub time: Duration,
}

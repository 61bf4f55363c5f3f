//! The next segment, made ready while the present one is written.

use crate::env::{File, Fs, lay_down_zeros};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

/// A file that can become a segment.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) sequence: u64,
    pub(super) file: Arc<dyn File>,
    /// Its size: writes below change neither size nor extents.
    pub(super) allocated: u64,
}

/// A file being made ready on a thread of its own.
#[derive(Debug)]
pub(super) struct Preparation {
    pub(super) sequence: u64,
    thread: JoinHandle<io::Result<Prepared>>,
}

impl Preparation {
    /// Starts to fill a new segment with zeros; `None` if no thread is to be had.
    pub(super) fn start(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        path: PathBuf,
        sequence: u64,
        bytes: u64,
    ) -> Option<Self> {
        let work = move || {
            let file = lay_down_zeros(fs.as_ref(), &dir, &path, bytes)?;
            Ok(Prepared { sequence, file, allocated: bytes })
        };
        let thread = std::thread::Builder::new().name("kymo-wal-prepare".to_owned()).spawn(work).ok()?;
        Some(Self { sequence, thread })
    }

    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the thread.
    pub(super) fn join(self) -> io::Result<Prepared> {
        self.thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the thread that prepares segments failed")))
    }
}

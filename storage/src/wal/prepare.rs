//! The next segment: made ready while the present one is written, or one that was released.

use super::segment;
use crate::env::{File, Fs, lay_down_zeros};
use std::io;
use std::path::{Path, PathBuf};
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

/// Whether the released segment at `path` can be written again. One longer than `bytes_max`, or without a whole header, is not worth it.
pub(super) fn is_reusable(fs: &dyn Fs, path: &Path, bytes_max: u64) -> bool {
    let look = || {
        let file = fs.open(path)?;
        let mut header = [0; segment::HEADER_BYTES];
        let len = file.len()?;
        if len < header.len() as u64 || len > bytes_max {
            return Ok(false);
        }
        file.read_exact_at(&mut header, 0)?;
        io::Result::Ok(segment::is_reusable(&header))
    };
    look().unwrap_or(false)
}

/// Gives a released segment of the log in `dir` the name of a new one.
pub(super) fn reuse(fs: &dyn Fs, dir: &Path, spare: &Path, sequence: u64) -> io::Result<Prepared> {
    let path = segment::path_of(dir, sequence);
    fs.rename(spare, &path)?;
    let opened = || {
        // The new name is durable before a frame is: else a crash could leave new frames under the old name.
        fs.sync_dir(dir)?;
        let file = fs.open_write(&path)?;
        let allocated = file.len()?;
        Ok(Prepared { sequence, file, allocated })
    };
    opened().inspect_err(|_| {
        let _ = fs.remove(&path);
    })
}

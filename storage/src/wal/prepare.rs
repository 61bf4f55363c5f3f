//! The next segment, made ready while the present one is written.

use crate::env::{File, Fs};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

/// How many zeros one write lays down.
const CHUNK_BYTES: usize = 1 << 20;

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
        let work = move || zeroed(fs.as_ref(), &dir, &path, sequence, bytes);
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

/// A new file of `bytes` zeros, durable with its name. What cannot be finished is removed again.
fn zeroed(fs: &dyn Fs, dir: &Path, path: &Path, sequence: u64, bytes: u64) -> io::Result<Prepared> {
    let file = fs.create(path)?;
    let fill = || {
        let zeros = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < bytes {
            let len = usize::try_from(bytes - at).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            file.write_all_at(zeros.get(..len).unwrap_or_default(), at)?;
            at += len as u64;
        }
        file.sync_data()?;
        fs.sync_dir(dir)
    };
    match fill() {
        Ok(()) => Ok(Prepared { sequence, file, allocated: bytes }),
        Err(error) => {
            // The disk may be full: give back what was taken. A file that stays is an unused segment to the next start.
            let _ = fs.remove(path);
            Err(error)
        }
    }
}

//! The door: the only way to the disk, the clock and chance, so that tests can put memory, faults, simulated time and a seed behind it.

mod clock;
mod crash;
mod disk;
mod fault;
mod lock;
mod memory;
mod mmap;
mod read_only;
mod zeros;

pub use clock::{Clock, SimClock, SystemClock};
pub use crash::CrashChoice;
pub use disk::DiskFs;
pub use fault::{Fault, FaultFs, FaultOp, FaultPlan};
pub use lock::DirLock;
pub use memory::MemoryFs;
pub use mmap::Mapped;
pub use read_only::ReadOnlyFs;
pub(crate) use zeros::lay_down_zeros;

use std::fmt::Debug;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system. Paths are used as given; errors are the operating system's, the caller adds what it was doing.
pub trait Fs: Send + Sync + Debug {
    /// Opens an existing file for reading. To this, [`Fs::open_write`], [`Fs::map`] and [`Fs::remove`] a directory in its place is
    /// `IsADirectory`.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Creates a file for reading and writing; fails if it exists.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>>;
    /// Maps a sealed file (never written again, never truncated) for reading.
    fn map(&self, path: &Path) -> io::Result<Mapped>;
    /// Moves a file over another, or a directory to a name that is free, atomically. Durable after [`Fs::sync_dir`] of the
    /// parent.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file one more name, which must be free, on the same file system. Durable after [`Fs::sync_dir`] of its parent.
    fn link(&self, file: &Path, name: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Fs::sync_dir`] of the parent.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The entries of a directory (files and directories), sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Creates a directory and its parents.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the entries of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes free for us on the file system of `path`, and its size.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// Takes the lock of the data directory `path`, or says who holds it (`WouldBlock`).
    fn lock(&self, path: &Path) -> io::Result<DirLock>;
    /// Sixteen random bytes that no other call gives: identities of directories and files, and seeds that nobody outside can
    /// foresee.
    fn unique(&self) -> [u8; 16] {
        random()
    }
}

/// Sixteen bytes of the operating system's randomness.
#[allow(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub(crate) fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    for half in bytes.as_chunks_mut::<8>().0 {
        // A `RandomState` is keyed by it.
        *half = RandomState::new().build_hasher().finish().to_le_bytes();
    }
    bytes
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Free for an unprivileged writer.
    pub free_bytes: u64,
    /// In all.
    pub total_bytes: u64,
}

/// The largest file that is read whole, in bytes: none of those that are comes near it.
const WHOLE_BYTES_MAX: u64 = 1 << 30;

/// The bytes of a small file. What the device cannot read is an error here; in a map it would end the process.
///
/// # Errors
/// The operating system refuses, or the file is larger than any of ours is (`InvalidData`).
pub(crate) fn read_whole(fs: &dyn Fs, path: &Path) -> io::Result<Vec<u8>> {
    let file = fs.open(path)?;
    let len = file.len()?;
    if len > WHOLE_BYTES_MAX {
        let text = format!("{len} bytes are more than the {WHOLE_BYTES_MAX} it may have");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// An open file. All offsets are explicit; a handle has no position and can be used from several threads.
pub trait File: Send + Sync + Debug {
    /// Fills `buffer` from `offset`; `UnexpectedEof` if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file if need be.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents (and the size) durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// The size in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

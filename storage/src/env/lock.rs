//! `DirLock`: one process, one store on a data directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

/// The name of the lock file inside a data directory. The file stays; what counts is the lock on it.
pub(super) const LOCK_FILE: &str = "LOCK";

/// The lock of a data directory, held until dropped.
pub struct DirLock {
    holder: Holder,
}

enum Holder {
    /// The lock goes with the file's last descriptor.
    Disk(#[expect(dead_code, reason = "held for its lock")] File),
    Memory(Box<dyn FnOnce() + Send + Sync>),
    Released,
}

impl DirLock {
    /// Locks `dir` by its lock file.
    pub(super) fn on_disk(dir: &Path) -> io::Result<Self> {
        let path = dir.join(LOCK_FILE);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The number is a courtesy: without it the refusal stands all the same.
                let _ = file.take(32).read_to_string(&mut text);
                return Err(held_by(dir, text.trim()));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        // On a full disk there is no room even for the courtesy, and the lock holds without it.
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self { holder: Holder::Disk(file) })
    }

    /// A lock that is given back by `release`.
    pub(super) fn in_memory(release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { holder: Holder::Memory(Box::new(release)) }
    }
}

/// The refusal, naming the holder.
pub(super) fn held_by(dir: &Path, pid: &str) -> io::Error {
    let who = if pid.is_empty() { "another process".to_owned() } else { format!("process {pid}") };
    let text = format!("{} is in use by {who}; a data directory serves one process", dir.display());
    io::Error::new(io::ErrorKind::WouldBlock, text)
}

impl Drop for DirLock {
    fn drop(&mut self) {
        if let Holder::Memory(release) = std::mem::replace(&mut self.holder, Holder::Released) {
            release();
        }
    }
}

impl std::fmt::Debug for DirLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DirLock")
    }
}

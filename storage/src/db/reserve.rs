//! A file that gives up its room when the disk is full, so that samples can be deleted and retention goes on.

use super::shared::Shared;
use crate::env::{Fs, lay_down_zeros};
use crate::error::{Error, Result};
use std::io;
use std::path::Path;

/// The name of the file in the data directory.
pub(crate) const RESERVE: &str = "RESERVE";

/// Whether an error says that the disk is full.
pub(crate) fn is_disk_full(error: &Error) -> bool {
    matches!(error.io_kind(), Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// Does something that must be possible on a full disk too: if there is no room for it, the reserve makes some, and it is done again.
///
/// # Errors
/// What `work` says at last.
pub(crate) fn with_reserve<T>(fs: &dyn Fs, dir: &Path, mut work: impl FnMut() -> Result<T>) -> Result<T> {
    let result = work();
    match result {
        Err(error) if is_disk_full(&error) && release(fs, dir) => work(),
        result => result,
    }
}

/// Gives up the reserve; answers whether there was one.
fn release(fs: &dyn Fs, dir: &Path) -> bool {
    let removed = fs.remove(&dir.join(RESERVE)).is_ok();
    if removed {
        tracing::warn!("the disk is full: the reserve of the store is given up for what must be done now");
    }
    removed
}

impl Shared {
    /// Lays the reserve down if it is not there and the disk has room for it beyond what must stay free.
    pub(crate) fn keep_reserve(&self) {
        let bytes = self.options.reserve_bytes;
        let path = self.dir.join(RESERVE);
        let found = self.fs.open(&path).and_then(|file| file.len());
        if found.as_ref().is_ok_and(|len| *len == bytes) || (bytes == 0 && found.is_err()) {
            return;
        }
        if found.is_ok() {
            // Cut off by a crash, or of another size than it should be.
            self.remove_file(&path);
        }
        let Ok(space) = self.fs.space(&self.dir) else { return };
        if bytes == 0 || space.free_bytes < self.least_free(space).saturating_add(bytes) {
            return;
        }
        if let Err(error) = lay_down_zeros(self.fs.as_ref(), &self.dir, &path, bytes) {
            // It is tried again later.
            tracing::warn!(%error, "the reserve for a full disk cannot be laid down");
        }
    }

    /// As [`with_reserve`], in this store.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn with_reserve<T>(&self, work: impl FnMut() -> Result<T>) -> Result<T> {
        with_reserve(self.fs.as_ref(), &self.dir, work)
    }
}

//! Blocks of Prometheus, in and out.

mod export;
mod import;
mod stored;

pub use export::{ExportProgress, ExportReport, ExportedBlock};
pub use import::{ImportProgress, ImportReport};

use crate::db::Db;
use crate::error::guarded;
use crate::{Error, Result};
use kymo_storage::env::{DiskFs, Fs};
use kymo_storage::model::TimeRange;
use std::path::Path;
use std::sync::Arc;

impl Db {
    /// Stores the samples of the blocks of Prometheus in `path`: its data directory, a snapshot of it, or one block. Floats, native
    /// histograms and staleness markers, without what was deleted there, block by block in the order of time. What is stored already is
    /// found the same and not stored once more, so an import that was interrupted can be run again. What is older than the
    /// retention is refused.
    ///
    /// # Errors
    /// `NotFound`: there are no blocks in `path`. `Corrupt`: a block is damaged; those before it are stored. `Invalid`: opened for
    /// reading. Otherwise as [`Ack::wait`](crate::Ack::wait).
    pub fn import_blocks(&self, path: impl AsRef<Path>) -> Result<ImportReport> {
        self.import_blocks_watched(path, |_| {})
    }

    /// As [`Db::import_blocks`]; `progress` is called before the first series and after each.
    ///
    /// # Errors
    /// As [`Db::import_blocks`].
    pub fn import_blocks_watched(
        &self,
        path: impl AsRef<Path>,
        mut progress: impl FnMut(ImportProgress<'_>),
    ) -> Result<ImportReport> {
        self.require_writer()?;
        let storage = self.storage();
        guarded(|| Ok(import::import(&storage, &disk(), path.as_ref(), &mut progress)?))
    }

    /// Writes the samples in `range` as blocks of Prometheus into the folder `path`, which is created if need be: one for each two hours
    /// that have samples, each named by a ULID. Prometheus and `promtool tsdb` open them.
    ///
    /// # Errors
    /// `Io`: the disk refuses; blocks that are finished stay.
    pub fn export_blocks(&self, path: impl AsRef<Path>, range: TimeRange) -> Result<ExportReport> {
        self.export_blocks_watched(path, range, |_| {})
    }

    /// As [`Db::export_blocks`]; `progress` is called before the first block and after each.
    ///
    /// # Errors
    /// As [`Db::export_blocks`].
    pub fn export_blocks_watched(
        &self,
        path: impl AsRef<Path>,
        range: TimeRange,
        mut progress: impl FnMut(ExportProgress),
    ) -> Result<ExportReport> {
        let storage = self.storage();
        let clock = &self.options().clock;
        guarded(|| {
            export::export(&storage, &disk(), clock, path.as_ref(), range, &mut progress).map_err(Error::from)
        })
    }
}

/// Blocks of other programs are on the disk, wherever the database is.
fn disk() -> Arc<dyn Fs> {
    Arc::new(DiskFs)
}

//! Looking after a database: delete, flush, maintenance, snapshot, verify, numbers.

use crate::db::Db;
use crate::error::guarded;
use crate::{Error, Result};
use kymo_storage::db::{DeleteReport, Health};
use kymo_storage::env::{DiskFs, Fs};
use kymo_storage::model::{Matcher, TimeRange};
use kymo_storage::stats::Stats as StoreStats;
use kymo_storage::verify::{VerifyReport, verify};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The numbers of a database at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Those of the store: samples, series, log, blocks, maintenance. Totals count since the database was opened.
    pub store: StoreStats,
    /// Bytes that queries that run, and answers that are held, have reserved.
    pub query_bytes: u64,
    /// Bytes of batches that wait to be committed.
    pub waiting_bytes: u64,
    /// Whether writes are taken, and if not why.
    pub health: Health,
}

/// Where the copy lies that [`Db::verify`] looks at.
const VERIFY_DIR: &str = "verify";

impl Db {
    /// Deletes the samples in `range` of all series that match all matchers of one of `matcher_sets`, late ones too. They are gone
    /// from every read that begins after this returns, also after a crash; what is committed after it is new and stays. Their
    /// room on disk is free when the blocks they lie in are merged next, or after [`Db::reclaim`].
    ///
    /// # Errors
    /// `Invalid`: there is no set of matchers, or the database is opened for reading. `LimitExceeded`: too many deletes wait for
    /// [`Db::reclaim`]. `Io`: the disk refuses. Nothing is deleted then.
    pub fn delete(&self, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<DeleteReport> {
        self.require_writer()?;
        guarded(|| Ok(self.storage().delete(range, matcher_sets)?))
    }

    /// Rewrites all blocks that hold deleted samples without them, and waits for it: their room is free then.
    ///
    /// # Errors
    /// `Io`: the disk refuses, or has too little room; the blocks are as they were. `Invalid`: opened for reading.
    pub fn reclaim(&self) -> Result<()> {
        self.require_writer()?;
        guarded(|| Ok(self.storage().clean_tombstones()?))
    }

    /// Makes everything committed so far survive a power cut, and waits for it.
    ///
    /// # Errors
    /// `Io`: the disk refuses; no writes are taken then until the database is opened again. `Invalid`: opened for reading.
    pub fn sync(&self) -> Result<()> {
        self.require_writer()?;
        guarded(|| Ok(self.storage().sync()?))
    }

    /// Writes everything committed so far into blocks, and waits for it. It happens by itself when the memory for samples is full;
    /// many small blocks serve nobody.
    ///
    /// # Errors
    /// `Io`: the disk refuses; the samples stay in memory and in the log. `Invalid`: opened for reading.
    pub fn flush(&self) -> Result<()> {
        self.require_writer()?;
        guarded(|| Ok(self.storage().flush()?))
    }

    /// Does what is to be done now, and waits for it: drops what is older than the retention, looks at free space, merges blocks
    /// at full speed. Needed with [`Maintenance::Manual`](crate::Maintenance::Manual) only.
    ///
    /// # Errors
    /// `Io`: the disk refuses, or has too little room; the blocks are as they were. `Invalid`: opened for reading.
    pub fn maintain(&self) -> Result<()> {
        self.require_writer()?;
        guarded(|| {
            let storage = self.storage();
            storage.maintain()?;
            Ok(storage.compact()?)
        })
    }

    /// Makes a snapshot in `directory`, which is created if need be and lies on the same file system as the database, and answers its
    /// path there. It holds everything committed before the call, takes no room (its files are those of the database under another
    /// name) and opens as a database.
    ///
    /// # Errors
    /// `Io`: the disk refuses; there is no snapshot then. `Invalid`: opened for reading, or in memory.
    pub fn snapshot(&self, directory: impl AsRef<Path>) -> Result<PathBuf> {
        self.require_writer()?;
        self.require_disk("snapshots")?;
        guarded(|| Ok(self.storage().snapshot(directory.as_ref(), true)?))
    }

    /// Reads every byte of everything committed so far and says whether it is whole: it makes a snapshot (which flushes), looks at
    /// that and removes it. Writes and reads go on.
    ///
    /// # Errors
    /// `Io`: the disk refuses. Damage is not an error but a finding. `Invalid`: opened for reading; use [`verify_path`] then.
    pub fn verify(&self) -> Result<VerifyReport> {
        self.require_writer()?;
        guarded(|| {
            let folder = self.path().join(VERIFY_DIR);
            let snapshot = self.storage().snapshot(&folder, true)?;
            let report = verify(self.fs(), &snapshot);
            remove_tree(self.fs(), &folder);
            let mut report = report?;
            // What lies in quarantine is beside the blocks, and in no snapshot.
            for live in &mut report.findings {
                if let Ok(inside) = live.file.strip_prefix(&snapshot) {
                    live.file = self.path().join(inside);
                }
            }
            Ok(report)
        })
    }

    /// The numbers of the database.
    pub fn stats(&self) -> Stats {
        let storage = self.storage();
        Stats {
            store: storage.stats(),
            query_bytes: self.engine().memory_used(),
            waiting_bytes: self.gate().bytes() as u64,
            health: storage.health(),
        }
    }
}

/// Reads every byte of the database in `path`, which nobody has open for writing, and says whether it is whole. Nothing is changed.
///
/// # Errors
/// `NotFound` or `Io`: `path` cannot be listed. Damage is not an error but a finding.
pub fn verify_path(path: impl AsRef<Path>) -> Result<VerifyReport> {
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    guarded(|| verify(&fs, path.as_ref()).map_err(Error::from))
}

/// Removes a folder of links as far as it goes; what stays is tried again next time.
fn remove_tree(fs: &Arc<dyn Fs>, folder: &Path) {
    let mut folders = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = folders.get(next).cloned() {
        next += 1;
        for path in fs.list(&folder).unwrap_or_default() {
            if fs.remove(&path).is_err() {
                folders.push(path);
            }
        }
    }
    while let Some(folder) = folders.pop() {
        let _ = fs.remove_dir(&folder);
    }
}

//! Opening a store for reading only, beside the process that writes it: no lock, no thread, no byte changed.

use super::later;
use super::open::{BLOCKS, Found, HEAD, Opening, WAL};
use super::{Owner, Running, Storage};
use crate::block::Manifest;
use crate::env::{Clock, Fs, ReadOnlyFs};
use crate::error::{Error, ErrorKind, Result};
use crate::head::replay::{Replay, Replayed};
use crate::options::Options;
use crate::sync::Mutex;
use crate::wal;
use std::path::Path;
use std::sync::Arc;

/// How often it is tried to read a store that its writer changes meanwhile.
const ATTEMPTS_MAX: usize = 32;
/// How often damage in the log is looked at again: a write that is under way looks like damage.
const DAMAGE_ATTEMPTS: usize = 4;

impl Storage {
    /// Opens the store in `dir` for reading, whether or not another process has it open for writing. What is seen is what was
    /// committed before this call began (acknowledged writes, whatever their durability), and perhaps some that were committed
    /// during it, each request as a whole or not at all; later writes are not seen. It takes the time and memory of a start:
    /// the log is read.
    ///
    /// Nothing is changed: all writes, deletes and maintenance are answered `Unavailable`, and damage is stepped around but not
    /// put aside.
    ///
    /// # Errors
    /// Options that make no sense; `NotFound` if there is no store; `Unavailable` if the writer changes files faster than they
    /// can be opened; the operating system refusing.
    pub fn open_read_only(
        fs: &Arc<dyn Fs>,
        clock: &Arc<dyn Clock>,
        dir: &Path,
        options: &Options,
    ) -> Result<Self> {
        options.validate()?;
        let fs: Arc<dyn Fs> = Arc::new(ReadOnlyFs::new(Arc::clone(fs)));
        later::refuse(&fs, dir, (BLOCKS, WAL))?;
        let mut damaged = 0;
        for _ in 0..ATTEMPTS_MAX {
            let manifest = load_manifest(&fs, dir)?;
            let looked = look(&fs, clock, dir, options, manifest.clone());
            if load_manifest(&fs, dir)? != manifest {
                continue;
            }
            let (store, is_damaged) = looked?;
            damaged += usize::from(is_damaged);
            if !is_damaged || damaged >= DAMAGE_ATTEMPTS {
                return Ok(store);
            }
        }
        let text = format!(
            "open {} for reading: its writer changed it {ATTEMPTS_MAX} times meanwhile",
            dir.display()
        );
        Err(Error::new(ErrorKind::Unavailable, text))
    }
}

fn load_manifest(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Manifest> {
    Manifest::load(fs, dir)?.ok_or_else(|| {
        let text = format!("there is no store in {}: no MANIFEST", dir.display());
        Error::new(ErrorKind::NotFound, text)
    })
}

/// Reads the store once, and says whether its log looks damaged.
fn look(
    fs: &Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    dir: &Path,
    options: &Options,
    mut manifest: Manifest,
) -> Result<(Storage, bool)> {
    let mut opening = Opening::new(fs, dir);
    let tombstones = opening.load_tombstones(&mut manifest)?;
    let blocks = opening.open_blocks(&mut manifest, &tombstones);
    if let Some(name) = &manifest.checkpoint {
        let path = dir.join(HEAD).join(name);
        fs.open(&path).map_err(|e| Error::io(format!("open {}", path.display()), e))?;
    }
    let loaded = opening.load_checkpoint(&mut manifest, options)?;
    opening.put_deletes_aside();
    opening.note_quarantined();
    let registry = Arc::new(loaded.registry);
    let mut replay = Replay::new(&registry, loaded.last, &|_| {});
    let log = dir.join(WAL);
    let report = wal::check(fs.as_ref(), &log, manifest.first_wal_segment, &mut replay)?;
    let Replayed { last, generation, metadata, lost_samples, samples, .. } = replay.finish()?;
    let is_damaged = report.is_damaged() || lost_samples > 0;
    opening.note_replay(&report, manifest.first_wal_segment, (samples, lost_samples));
    let Opening { counters, missing, .. } = opening;
    let found = Found {
        manifest,
        tombstones,
        blocks,
        registry,
        generation,
        newest: last.newest(),
        metadata: loaded.metadata.into_iter().chain(metadata).collect(),
        missing,
        counters,
        wal_live_bytes: report.bytes,
    };
    let shared = Arc::new(found.share(Arc::clone(fs), Arc::clone(clock), dir, options.clone()));
    shared.health.set_read_only("it is opened for reading".to_owned());
    let running = Running {
        shared: Arc::clone(&shared),
        threads: Mutex::default(),
        ids: Mutex::default(),
        steps: None,
        lock: Mutex::default(),
    };
    Ok((Storage { owner: Arc::new(Owner { shared, running: Arc::new(running) }) }, is_damaged))
}

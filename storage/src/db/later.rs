//! Stores that a later release wrote: refused by the name of the file and its format, before anything is changed or put aside.
//!
//! Each kind of file says by itself what it is, under a checksum, so that a damaged byte is never taken for a later format. The
//! registry checkpoint is only read by way of the manifest: who changes its form changes the manifest's version.

use crate::block::{self, BLOCK_EXTENSION, Manifest, load_tombstones};
use crate::env::Fs;
use crate::error::{Error, ErrorKind, Result};
use crate::wal::segment;
use std::path::Path;
use std::sync::Arc;

/// Looks whether a later release wrote anything in the store at `dir`, whose blocks and log are in these folders. Damage, and what
/// cannot be read, is seen to afterwards.
///
/// # Errors
/// `Invalid`: it did.
pub(super) fn refuse(fs: &Arc<dyn Fs>, dir: &Path, (blocks, log): (&str, &str)) -> Result<()> {
    for read in [Manifest::load(fs, dir).map(drop), load_tombstones(fs, dir).map(drop)] {
        if let Err(error) = read
            && error.kind() == ErrorKind::Invalid
        {
            return Err(error);
        }
    }
    for path in fs.list(&dir.join(blocks)).unwrap_or_default() {
        if path.extension().is_some_and(|extension| extension == BLOCK_EXTENSION)
            && let Some(version) = start_of(fs.as_ref(), &path).and_then(|b| block::later_version(&b))
        {
            return Err(later(&path, version, block::VERSION));
        }
    }
    for path in fs.list(&dir.join(log)).unwrap_or_default() {
        if let Some(sequence) = segment::sequence_of(&path)
            && let Some(version) =
                start_of(fs.as_ref(), &path).and_then(|b| segment::later_version(&b, sequence))
        {
            return Err(later(&path, version.into(), segment::VERSION.into()));
        }
    }
    Ok(())
}

/// The bytes in which a block or a segment says what it is.
fn start_of(fs: &dyn Fs, path: &Path) -> Option<Vec<u8>> {
    let file = fs.open(path).ok()?;
    let mut bytes = vec![0; segment::HEADER_BYTES.min(usize::try_from(file.len().ok()?).ok()?)];
    file.read_exact_at(&mut bytes, 0).ok()?;
    Some(bytes)
}

fn later(path: &Path, version: u32, known: u32) -> Error {
    Error::invalid(format!(
        "{} is of format {version}, written by a later release; this one knows {known}",
        path.display()
    ))
}

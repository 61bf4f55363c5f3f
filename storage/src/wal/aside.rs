//! Segments that the device refused to read: kept under a second name in quarantine from the start that met them on, so that no flush
//! gives up what may yet be read.
//!
//! The second name is a link to the file itself. It is durable before anything can be flushed, so the bytes stay whenever the power
//! goes between the flush and the release of the segment. Where no link can be made an empty file stands for it, in whose place the
//! segment comes at its release. A start that reads the segment takes the second name away again.

use super::segment;
use crate::env::Fs;
use std::io;
use std::path::{Path, PathBuf};

const KEPT: &str = ".unread.wal";

fn place_of(quarantine: &Path, sequence: u64) -> PathBuf {
    quarantine.join(format!("{sequence:016}{KEPT}"))
}

/// The sequences of the segments kept in quarantine.
///
/// # Errors
/// The directory cannot be listed.
pub(super) fn kept(fs: &dyn Fs, quarantine: &Path) -> io::Result<Vec<u64>> {
    let files = match fs.list(quarantine).or_else(|_| fs.list(quarantine)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed?,
    };
    let sequence = |path: PathBuf| {
        let digits = path.file_name()?.to_str()?.strip_suffix(KEPT)?.parse().ok()?;
        Some(digits).filter(|sequence| place_of(quarantine, *sequence) == path)
    };
    Ok(files.into_iter().filter_map(sequence).collect())
}

/// Where the segments lie that the log in `dir`, needed from `first_needed` on, has let go of unread.
pub(crate) fn given_up(fs: &dyn Fs, dir: &Path, quarantine: &Path, first_needed: u64) -> Vec<PathBuf> {
    let sequences = kept(fs, quarantine).unwrap_or_default();
    let in_log = if sequences.is_empty() { Vec::new() } else { fs.list(dir).unwrap_or_default() };
    let is_gone =
        |sequence: &u64| *sequence < first_needed || !in_log.contains(&segment::path_of(dir, *sequence));
    sequences.into_iter().filter(is_gone).map(|sequence| place_of(quarantine, sequence)).collect()
}

/// Whether `path` is a folder, which is left to whoever made it, or not there.
fn is_none_of_ours(fs: &dyn Fs, path: &Path) -> bool {
    use io::ErrorKind::{IsADirectory, NotFound};
    fs.open(path).is_err_and(|error| matches!(error.kind(), IsADirectory | NotFound))
}

/// Gives a segment its second name, and answers whether it is to be let go of with [`let_go`]; that no second name is to be had never
/// stops a start.
pub(super) fn keep(fs: &dyn Fs, path: &Path, quarantine: &Path, sequence: u64) -> bool {
    if is_none_of_ours(fs, path) {
        return false;
    }
    let place = place_of(quarantine, sequence);
    let attempt = || {
        fs.create_dir_all(quarantine)?;
        let linked = match fs.link(path, &place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => fs.create(&place).map(drop),
            linked => linked,
        };
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs.sync_dir(quarantine),
        }
    };
    match attempt() {
        Ok(()) => {
            tracing::warn!(path = %path.display(), place = %place.display(), "a log segment is kept until it is read");
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a log segment that is not read has no second name yet");
        }
    }
    true
}

/// The segment was read: takes its second name away, so that its file may be used again.
///
/// # Errors
/// The disk refuses; the second name may be there.
pub(super) fn withdraw(fs: &dyn Fs, quarantine: &Path, sequence: u64) -> io::Result<()> {
    fs.remove(&place_of(quarantine, sequence))?;
    fs.sync_dir(quarantine)
}

/// Leaves a segment to quarantine and takes it out of the log.
///
/// # Errors
/// The disk refuses; it is in the log, or in quarantine, or in both.
pub(super) fn let_go(fs: &dyn Fs, path: &Path, quarantine: &Path, sequence: u64) -> io::Result<()> {
    if is_none_of_ours(fs, path) {
        return Ok(());
    }
    let place = place_of(quarantine, sequence);
    fs.create_dir_all(quarantine)?;
    fs.rename(path, &place)?;
    // Nothing is renamed if both are names of one file already.
    match fs.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tracing::warn!(path = %path.display(), place = %place.display(), "a log segment that was not read is put aside");
    fs.sync_dir(quarantine)?;
    path.parent().map_or(Ok(()), |dir| fs.sync_dir(dir))
}

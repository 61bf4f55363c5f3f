//! Quarantine: a bad file is set aside with the reason, never deleted and never read again.

use super::{BLOCK_EXTENSION, TOMBSTONES_FILE};
use crate::env::{Fs, read_whole};
use crate::error::{Error, Result};
use crate::model::{TimeRange, Timestamp};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIRECTORY: &str = "quarantine";
const REASON: &str = ".reason";
/// The last line of the reason of a block, before two numbers.
const TIMES: &str = "milliseconds of the oldest and the newest sample:";
/// What is said of a file whose reason could not be written, or read.
const NO_REASON: &str = "was put aside; the reason is not there to be read";
/// What is read of a reason.
const REASON_BYTES_MAX: usize = 4096;
/// How many files of one name are kept apart.
const SAME_NAME_MAX: u32 = 1000;

/// A block in quarantine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Where it is.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
    /// The times it has samples of, as far as known.
    pub times: TimeRange,
}

/// The reason that stands beside a block whose oldest and newest sample are known.
fn with_times(reason: &str, times: Option<(Timestamp, Timestamp)>) -> String {
    match times {
        Some((oldest, newest)) => format!("{reason}\n{TIMES} {oldest} {newest}\n"),
        None => reason.to_owned(),
    }
}

fn read_reason(text: &str) -> (String, TimeRange) {
    let mut times = TimeRange::ALL;
    let mut lines: Vec<&str> = text.lines().collect();
    let numbers = lines.last().and_then(|line| line.strip_prefix(TIMES)?.trim().split_once(' '));
    if let Some((Ok(oldest), Ok(newest))) = numbers.map(|(a, b)| (a.parse(), b.parse())) {
        times = TimeRange::closed(oldest, newest);
        lines.pop();
    }
    (lines.join(" "), times)
}

/// The blocks (and lists of deletes) in quarantine under the data directory `dir`. What cannot be read there is passed over.
pub fn quarantined_blocks(fs: &Arc<dyn Fs>, dir: &Path) -> Vec<Quarantined> {
    let files = fs.list(&dir.join(DIRECTORY)).unwrap_or_default();
    let blocks = files.into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        (name.contains(&format!(".{BLOCK_EXTENSION}")) && !name.ends_with(REASON)) || is_of_deletes(path)
    });
    let described = blocks.map(|path| {
        let text = read_whole(fs.as_ref(), &reason_file(&path)).unwrap_or_default();
        let text = text.get(..REASON_BYTES_MAX).unwrap_or(&text);
        let (mut reason, times) = read_reason(&String::from_utf8_lossy(text));
        if reason.is_empty() {
            NO_REASON.clone_into(&mut reason);
            if is_of_deletes(&path) {
                reason.push_str(": samples that were deleted may be back");
            }
        }
        Quarantined { path, reason, times }
    });
    described.collect()
}

/// Moves `file` into `quarantine/` of the data directory `dir`, writes `reason` beside it (same name and `.reason`), and
/// gives the new place. `times` are those of the oldest and the newest sample of a block, if known.
///
/// # Errors
/// The disk refuses; the file is then where it was, or already in quarantine if only the reason could not be written.
pub fn quarantine(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    file: &Path,
    reason: &str,
    times: Option<(Timestamp, Timestamp)>,
) -> Result<PathBuf> {
    let place = dir.join(DIRECTORY);
    let describe = || format!("move {} to {}", file.display(), place.display());
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let attempt = || -> io::Result<PathBuf> {
        fs.create_dir_all(&place)?;
        let taken = fs.list(&place)?;
        let free = (0..SAME_NAME_MAX)
            .map(|n| place.join(if n == 0 { name.clone() } else { format!("{name}.{n}") }))
            .find(|candidate| !taken.contains(candidate) && !taken.contains(&reason_file(candidate)))
            .ok_or(io::ErrorKind::AlreadyExists)?;
        fs.rename(file, &free)?;
        fs.sync_dir(&place)?;
        if let Some(parent) = file.parent() {
            fs.sync_dir(parent)?;
        }
        let note = fs.create(&reason_file(&free))?;
        note.write_all_at(with_times(reason, times).as_bytes(), 0)?;
        note.sync_data()?;
        fs.sync_dir(&place)?;
        Ok(free)
    };
    attempt().map_err(|e| Error::io(describe(), e))
}

/// Whether `path` is that of a list of deletes in quarantine.
fn is_of_deletes(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(TOMBSTONES_FILE) && !name.ends_with(REASON)
}

fn reason_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(REASON);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::MemoryFs;

    #[test]
    fn files_of_one_name_are_kept_apart() {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
        let (dir, file) = (Path::new("/data"), Path::new("/data/blocks/1.block"));
        fs.create_dir_all(Path::new("/data/blocks")).unwrap();
        for (content, place) in [("a", "/data/quarantine/1.block"), ("b", "/data/quarantine/1.block.1")] {
            fs.create(file).unwrap().write_all_at(content.as_bytes(), 0).unwrap();
            assert_eq!(quarantine(&fs, dir, file, "checksum mismatch", None).unwrap(), Path::new(place));
            assert_eq!(&fs.map(Path::new(place)).unwrap()[..], content.as_bytes());
            assert!(fs.open(file).is_err());
        }
        assert_eq!(&fs.map(Path::new("/data/quarantine/1.block.reason")).unwrap()[..], b"checksum mismatch");
        assert!(quarantine(&fs, dir, file, "gone", None).is_err());
        fs.create(file).unwrap();
        quarantine(&fs, dir, file, "torn", Some((-5, 7))).unwrap();
        let times: Vec<_> = quarantined_blocks(&fs, dir).into_iter().map(|q| (q.reason, q.times)).collect();
        let known = ("torn".to_owned(), TimeRange::closed(-5, 7));
        let unknown = ("checksum mismatch".to_owned(), TimeRange::ALL);
        assert_eq!(times, [unknown.clone(), unknown, known]);
    }
}

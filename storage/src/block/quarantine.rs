//! Quarantine: a bad file is set aside with the reason, never deleted and never read again.

use crate::env::Fs;
use crate::error::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIRECTORY: &str = "quarantine";
/// How many files of one name are kept apart.
const SAME_NAME_MAX: u32 = 1000;

/// Moves `file` into `quarantine/` of the data directory `dir`, writes `reason` beside it (same name and `.reason`), and
/// gives the new place.
///
/// # Errors
/// The disk refuses; the file is then where it was, or already in quarantine if only the reason could not be written.
pub fn quarantine(fs: &Arc<dyn Fs>, dir: &Path, file: &Path, reason: &str) -> Result<PathBuf> {
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
        note.write_all_at(reason.as_bytes(), 0)?;
        note.sync_data()?;
        fs.sync_dir(&place)?;
        Ok(free)
    };
    attempt().map_err(|e| Error::io(describe(), e))
}

fn reason_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".reason");
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
            assert_eq!(quarantine(&fs, dir, file, "checksum mismatch").unwrap(), Path::new(place));
            assert_eq!(&fs.map(Path::new(place)).unwrap()[..], content.as_bytes());
            assert!(fs.open(file).is_err());
        }
        assert_eq!(&fs.map(Path::new("/data/quarantine/1.block.reason")).unwrap()[..], b"checksum mismatch");
        assert!(quarantine(&fs, dir, file, "gone").is_err());
    }
}

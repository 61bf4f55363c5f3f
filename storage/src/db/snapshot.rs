//! Snapshots: a directory of hard links that opens as a store.

use super::Storage;
use super::open::{BLOCKS, HEAD};
use super::shared::Shared;
use crate::block::{Manifest, TOMBSTONES_FILE};
use crate::error::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};

/// The ending of a snapshot that is not finished.
const UNFINISHED: &str = "tmp";

impl Storage {
    /// Makes a snapshot in `directory`, which is created if need be and lies on the same file system as the store, and
    /// answers its path there: a directory named after time and chance (`20060102T150405Z-00f067aa0ba902b7`) that can be
    /// opened as a store. It takes no room: its files are those of the store under another name, and no file that is
    /// finished ever changes.
    ///
    /// With `include_head` everything acknowledged before the call is in it (the head is written into blocks first);
    /// without, what is in blocks.
    ///
    /// # Errors
    /// The disk refusing; nothing has the name of a snapshot then.
    pub fn snapshot(&self, directory: &Path, include_head: bool) -> Result<PathBuf> {
        if include_head {
            self.flush()?;
        }
        self.owner.shared.link_snapshot(directory)
    }
}

impl Shared {
    fn link_snapshot(&self, directory: &Path) -> Result<PathBuf> {
        let [a, b, c, d, e, f, g, h, ..] = self.fs.unique();
        let chance = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let name = format!("{}-{chance:016x}", utc_name(self.clock.now_ms()));
        let (unfinished, path) = (directory.join(format!("{name}.{UNFINISHED}")), directory.join(&name));
        let describe = |e| Error::io(format!("make the snapshot {}", path.display()), e);
        self.fs.create_dir_all(directory).map_err(describe)?;
        // Nothing on the list is removed, and nothing new comes on it, while this is held; and whoever makes a snapshot holds it, so
        // that what is unfinished was left behind.
        let manifest = self.manifest.lock();
        self.remove_unfinished(directory);
        let linked = self.link_files(&manifest, &unfinished).map_err(describe).and_then(|present| {
            present.store(&self.fs, &unfinished)?;
            self.fs.rename(&unfinished, &path).map_err(describe)
        });
        drop(manifest);
        if let Err(error) = linked {
            self.remove_tree(&unfinished);
            return Err(error);
        }
        self.fs.sync_dir(directory).map_err(describe)?;
        Ok(path)
    }

    /// Links all files of the manifest into `target` and makes their names durable. Answers the manifest of those that
    /// there are: a block that is missing here is missing there.
    fn link_files(&self, manifest: &Manifest, target: &Path) -> io::Result<Manifest> {
        for folder in [target.to_path_buf(), target.join(BLOCKS), target.join(HEAD)] {
            self.fs.create_dir_all(&folder)?;
        }
        let mut present = manifest.clone();
        let mut blocks = Vec::new();
        for block in present.blocks.drain(..) {
            let (from, to) = (self.dir.join(BLOCKS).join(&block.file), target.join(BLOCKS).join(&block.file));
            match self.fs.link(&from, &to) {
                Ok(()) => blocks.push(block),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(file = %from.display(), "a block is missing and not in the snapshot");
                }
                Err(e) => return Err(e),
            }
        }
        present.blocks = blocks;
        if let Some(name) = &manifest.checkpoint {
            self.fs.link(&self.dir.join(HEAD).join(name), &target.join(HEAD).join(name))?;
        }
        match self.fs.link(&self.dir.join(TOMBSTONES_FILE), &target.join(TOMBSTONES_FILE)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        for folder in [target.join(BLOCKS), target.join(HEAD), target.to_path_buf()] {
            self.fs.sync_dir(&folder)?;
        }
        Ok(present)
    }

    /// Removes what crashes left of snapshots.
    fn remove_unfinished(&self, directory: &Path) {
        for path in self.fs.list(directory).unwrap_or_default() {
            if path.extension().is_some_and(|e| e == UNFINISHED) {
                self.remove_tree(&path);
            }
        }
    }

    /// Removes an unfinished snapshot, as far as it goes.
    fn remove_tree(&self, unfinished: &Path) {
        for folder in [unfinished.join(BLOCKS), unfinished.join(HEAD), unfinished.to_path_buf()] {
            for path in self.fs.list(&folder).unwrap_or_default() {
                let _ = self.fs.remove(&path);
            }
            // What cannot be removed is tried again by the next snapshot.
            let _ = self.fs.remove_dir(&folder);
        }
    }
}

/// A time of the UTC calendar as `20060102T150405Z`.
fn utc_name(ms: i64) -> String {
    let seconds = ms.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days since 1970-01-01: years that begin in March have their leap day at the end.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_times() {
        let cases = [
            (0, "19700101T000000Z"),
            (1_512_940_344_999, "20171210T211224Z"),
            (951_782_399_000, "20000228T235959Z"),
            (951_868_800_000, "20000301T000000Z"),
            (-1, "19691231T235959Z"),
            (4_107_542_399_000, "21000228T235959Z"),
            (4_107_542_400_000, "21000301T000000Z"),
        ];
        for (ms, name) in cases {
            assert_eq!(utc_name(ms), name);
        }
    }
}

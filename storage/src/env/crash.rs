//! What a power cut leaves: the operations of a log that survive, whole or torn.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The unit in which a disk writes.
const SECTOR: usize = 512;
/// Which unsynced operations survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashChoice {
    /// None of them.
    Nothing,
    /// All of them, as after a kill of the process.
    Everything,
    /// All but the one with this number (counted among the unsynced ones, from 0).
    AllBut(usize),
    /// All, but of the last write only every other sector.
    LastTorn,
    /// Each one survives, is lost or is torn, as the seed has it.
    Seed(u64),
}

/// Names and contents. Contents are shared until written.
#[derive(Debug, Clone, Default)]
pub(super) struct Tree {
    pub(super) names: BTreeMap<PathBuf, usize>,
    pub(super) dirs: BTreeSet<PathBuf>,
    pub(super) contents: BTreeMap<usize, Arc<Vec<u8>>>,
    pub(super) next_file: usize,
}

/// An operation of the log. Files are numbered, since names move.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A new file, or one more name of one.
    Create {
        file: usize,
        path: PathBuf,
    },
    Write {
        file: usize,
        offset: usize,
        bytes: Arc<[u8]>,
    },
    SetLen {
        file: usize,
        len: usize,
    },
    Sync {
        file: usize,
    },
    Rename {
        file: usize,
        from: PathBuf,
        to: PathBuf,
    },
    RenameDir {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        file: usize,
        path: PathBuf,
    },
    SyncDir {
        dir: PathBuf,
    },
}

impl Operation {
    fn is_sync(&self) -> bool {
        matches!(self, Self::Sync { .. } | Self::SyncDir { .. })
    }
}

impl Tree {
    fn content_mut(&mut self, file: usize) -> &mut Vec<u8> {
        Arc::make_mut(self.contents.entry(file).or_default())
    }

    fn write(&mut self, file: usize, offset: usize, bytes: &[u8]) {
        let content = self.content_mut(file);
        let end = offset + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        if let Some(target) = content.get_mut(offset..end) {
            target.copy_from_slice(bytes);
        }
    }

    pub(super) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create { file, path } => {
                self.names.insert(path.clone(), *file);
                self.next_file = self.next_file.max(file + 1);
            }
            Operation::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Operation::SetLen { file, len } => self.content_mut(*file).resize(*len, 0),
            Operation::Rename { file, from, to } => {
                if self.names.get(from) == Some(file) {
                    self.names.remove(from);
                }
                self.names.insert(to.clone(), *file);
            }
            Operation::RenameDir { from, to } => {
                let inside: Vec<PathBuf> =
                    self.names.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in inside {
                    if let (Some(file), Ok(rest)) = (self.names.remove(&path), path.strip_prefix(from)) {
                        self.names.insert(to.join(rest), file);
                    }
                }
            }
            Operation::Remove { file, path } => {
                if self.names.get(path) == Some(file) {
                    self.names.remove(path);
                }
            }
            Operation::Sync { .. } | Operation::SyncDir { .. } => {}
        }
    }

    /// Forgets contents without a name (open handles of removed files are gone after a crash).
    pub(super) fn prune(&mut self) {
        let named: BTreeSet<usize> = self.names.values().copied().collect();
        self.contents.retain(|file, _| named.contains(file));
    }
}

/// A small generator (SplitMix64) so that a seed always gives the same image.
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is left of `base` and the first `at` operations of `log` after a power cut.
pub(super) fn survivors(base: &Tree, log: &[Operation], at: usize, choice: CrashChoice) -> Tree {
    let log = log.get(..at).unwrap_or(log);
    let durable = durable(log, log.len());
    let last_write = log.iter().zip(&durable).rposition(|(o, d)| !d && matches!(o, Operation::Write { .. }));
    let mut tree = base.clone();
    let mut random = if let CrashChoice::Seed(seed) = choice { seed } else { 0 };
    let mut unsynced = 0;
    for (number, operation) in log.iter().enumerate() {
        if durable.get(number).copied().unwrap_or(false) {
            tree.apply(operation);
            continue;
        }
        let mine = unsynced;
        unsynced += 1;
        let fate = match choice {
            CrashChoice::Nothing => Fate::Lost,
            CrashChoice::Everything => Fate::Kept,
            CrashChoice::AllBut(lost) => {
                if lost == mine {
                    Fate::Lost
                } else {
                    Fate::Kept
                }
            }
            CrashChoice::LastTorn => {
                if last_write == Some(number) {
                    Fate::Torn(0xaaaa_aaaa_aaaa_aaaa)
                } else {
                    Fate::Kept
                }
            }
            CrashChoice::Seed(_) => match next_random(&mut random) % 3 {
                0 => Fate::Lost,
                1 => Fate::Kept,
                _ => Fate::Torn(next_random(&mut random)),
            },
        };
        fate.apply(&mut tree, operation);
    }
    tree
}

/// Which of the first `at` operations are durable after them.
pub(super) fn durable(log: &[Operation], at: usize) -> Vec<bool> {
    let log = log.get(..at).unwrap_or(log);
    let mut synced_files: BTreeSet<usize> = BTreeSet::new();
    let mut synced_dirs: BTreeSet<&Path> = BTreeSet::new();
    let mut flags = vec![false; log.len()];
    for (operation, flag) in log.iter().zip(flags.iter_mut()).rev() {
        match operation {
            Operation::Sync { file } => {
                synced_files.insert(*file);
            }
            Operation::SyncDir { dir } => {
                synced_dirs.insert(dir);
            }
            Operation::Write { file, .. } | Operation::SetLen { file, .. } => {
                *flag = synced_files.contains(file);
            }
            Operation::Create { path, .. }
            | Operation::Remove { path, .. }
            | Operation::Rename { to: path, .. }
            | Operation::RenameDir { to: path, .. } => {
                *flag = path.parent().is_some_and(|dir| synced_dirs.contains(dir));
            }
        }
        // A sync has nothing of its own to lose.
        *flag |= operation.is_sync();
    }
    flags
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    Kept,
    /// Of a write, the sectors whose bit is set (repeating every 64); other operations are kept by bit 0.
    Torn(u64),
}

impl Fate {
    fn apply(self, tree: &mut Tree, operation: &Operation) {
        match (self, operation) {
            (Self::Lost, _) => {}
            (Self::Kept, _) => tree.apply(operation),
            (Self::Torn(mask), Operation::Write { file, offset, bytes }) => {
                let mut start = 0;
                while start < bytes.len() {
                    // Sectors are those of the file, not of the write.
                    let end = bytes.len().min((offset + start) / SECTOR * SECTOR + SECTOR - offset);
                    let sector = (offset + start) / SECTOR;
                    if mask >> (sector % 64) & 1 == 1
                        && let Some(part) = bytes.get(start..end)
                    {
                        tree.write(*file, offset + start, part);
                    }
                    start = end;
                }
            }
            (Self::Torn(mask), _) => {
                if mask & 1 == 1 {
                    tree.apply(operation);
                }
            }
        }
    }
}

//! `MemoryFs`: files in memory with a log of operations, from which every state a power cut may leave can be made.
//!
//! A write, a resize, a new name are *cached* until the file or its directory is synced, then *durable*. The model is the
//! strict one of POSIX: syncing a file makes its bytes durable, not its name; unsynced operations reach the disk in any
//! order or not at all, and an unsynced write may reach it in part, by sectors of 512 bytes.

use super::crash::{CrashChoice, Operation, Tree, durable, next_random, survivors};
use super::lock::held_by;
use super::{DirLock, File, Fs, Mapped, Space, random};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest file; a wild offset must not take the memory of the machine.
const FILE_BYTES_MAX: u64 = 1 << 32;

/// A file system in memory; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryFs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Where the log starts.
    base: Tree,
    /// What programs see.
    now: Tree,
    log: Vec<Operation>,
    unrecorded: bool,
    locks: BTreeSet<PathBuf>,
    space: Option<Space>,
    /// Where chance comes from, if not from the operating system.
    chance: Option<u64>,
    /// What all files may take together.
    capacity: Option<u64>,
}

impl MemoryFs {
    /// An empty file system that logs its operations.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty file system without a log: it takes no memory beyond its files and makes no crash images.
    pub fn unrecorded() -> Self {
        let fs = Self::default();
        fs.state.lock().unrecorded = true;
        fs
    }

    /// An empty file system that logs its operations and whose chance comes from `seed`: everything that happens on it can
    /// happen again.
    pub fn seeded(seed: u64) -> Self {
        let fs = Self::default();
        fs.state.lock().chance = Some(seed);
        fs
    }

    /// The number of operations logged.
    pub fn log_len(&self) -> usize {
        self.state.lock().log.len()
    }

    /// Takes everything as durable and starts the log anew.
    pub fn settle(&self) {
        let mut state = self.state.lock();
        state.base = state.now.clone();
        state.log.clear();
    }

    /// Sets what [`Fs::space`] answers.
    pub fn set_space(&self, space: Space) {
        self.state.lock().space = Some(space);
    }

    /// From now on all files together hold no more than `bytes`: what would need more is refused with `StorageFull`, and
    /// [`Fs::space`] tells what is left.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = Some(bytes);
    }

    /// How many operations of the first `at` would not be durable after a power cut then.
    pub fn unsynced(&self, at: usize) -> usize {
        let state = self.state.lock();
        durable(&state.log, at).into_iter().filter(|durable| !durable).count()
    }

    /// The file system as a power cut after the first `at` operations leaves it, on its own and without open files.
    #[must_use]
    pub fn crash_image(&self, at: usize, choice: CrashChoice) -> Self {
        let state = self.state.lock();
        let mut tree = survivors(&state.base, &state.log, at, choice);
        // Directories appear with their first use; a store that relies on their absence does not exist.
        tree.dirs.clone_from(&state.now.dirs);
        // A file may have kept its second name and lost the first: its number must not become another file's.
        tree.next_file = state.now.next_file;
        let chance = state.chance;
        drop(state);
        tree.prune();
        let state = State { base: tree.clone(), now: tree, chance, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

impl State {
    /// Does an operation and remembers it.
    fn perform(&mut self, operation: Operation) {
        self.now.apply(&operation);
        if !self.unrecorded {
            self.log.push(operation);
        }
    }

    /// Bytes of the files that have a name.
    fn used(&self) -> u64 {
        let files: BTreeSet<usize> = self.now.names.values().copied().collect();
        files.iter().map(|file| self.bytes_of(*file)).sum()
    }

    fn bytes_of(&self, file: usize) -> u64 {
        self.now.contents.get(&file).map_or(0, |content| content.len() as u64)
    }

    /// Whether `file` may grow to `bytes`.
    fn require_room(&self, file: usize, bytes: u64) -> io::Result<()> {
        let Some(capacity) = self.capacity else { return Ok(()) };
        let more = bytes.saturating_sub(self.bytes_of(file));
        if more > 0 && self.used().saturating_add(more) > capacity {
            return Err(io::Error::new(io::ErrorKind::StorageFull, format!("{capacity} bytes are used")));
        }
        Ok(())
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        if self.now.dirs.contains(path) {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        self.now.names.get(path).copied().ok_or_else(|| not_found(path))
    }

    /// Whether something new may get the name.
    fn require_free(&self, path: &Path) -> io::Result<()> {
        self.require_parent(path)?;
        if self.now.names.contains_key(path) || self.now.dirs.contains(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{} exists", path.display())));
        }
        Ok(())
    }

    fn rename_dir(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.require_free(to)?;
        let inside: Vec<PathBuf> =
            self.now.dirs.iter().filter(|dir| dir.starts_with(from)).cloned().collect();
        for dir in inside {
            self.now.dirs.remove(&dir);
            if let Ok(rest) = dir.strip_prefix(from) {
                self.now.dirs.insert(if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) });
            }
        }
        self.perform(Operation::RenameDir { from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn require_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() && !self.now.dirs.contains(parent) => {
                Err(not_found(parent))
            }
            _ => Ok(()),
        }
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no such file or directory: {}", path.display()))
}

impl Fs for MemoryFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.state.lock().find(path)?;
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), file, writable: false }))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        state.require_free(path)?;
        let file = state.now.next_file;
        state.perform(Operation::Create { file, path: path.to_owned() });
        drop(state);
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), file, writable: true }))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = self.state.lock().find(path)?;
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), file, writable: true }))
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        let state = self.state.lock();
        let file = state.find(path)?;
        Ok(Mapped::from_bytes(state.now.contents.get(&file).cloned().unwrap_or_default()))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.now.dirs.contains(from) {
            return state.rename_dir(from, to);
        }
        let file = state.find(from)?;
        state.require_parent(to)?;
        state.perform(Operation::Rename { file, from: from.to_owned(), to: to.to_owned() });
        Ok(())
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.find(file)?;
        state.require_free(name)?;
        state.perform(Operation::Create { file, path: name.to_owned() });
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let is_used = state.now.names.keys().chain(&state.now.dirs).any(|p| p.parent() == Some(dir));
        if is_used {
            return Err(io::Error::from(io::ErrorKind::DirectoryNotEmpty));
        }
        if state.now.dirs.remove(dir) { Ok(()) } else { Err(not_found(dir)) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let file = state.find(path)?;
        state.perform(Operation::Remove { file, path: path.to_owned() });
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state.lock();
        if !state.now.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        let inside = |path: &&PathBuf| path.parent() == Some(dir);
        let mut paths: Vec<PathBuf> = state.now.names.keys().filter(inside).cloned().collect();
        paths.extend(state.now.dirs.iter().filter(inside).cloned());
        paths.sort_unstable();
        Ok(paths)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let ancestors = dir.ancestors().filter(|d| !d.as_os_str().is_empty());
        state.now.dirs.extend(ancestors.map(Path::to_owned));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.now.dirs.contains(dir) {
            return Err(not_found(dir));
        }
        state.perform(Operation::SyncDir { dir: dir.to_owned() });
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let state = self.state.lock();
        let total_bytes = state.capacity.unwrap_or(1 << 40);
        let free_bytes = total_bytes.saturating_sub(state.capacity.map_or(0, |_| state.used()));
        Ok(state.space.unwrap_or(Space { free_bytes, total_bytes }))
    }

    fn unique(&self) -> [u8; 16] {
        let mut state = self.state.lock();
        let Some(chance) = &mut state.chance else { return random() };
        let mut bytes = [0; 16];
        for half in bytes.as_chunks_mut::<8>().0 {
            *half = next_random(chance).to_le_bytes();
        }
        bytes
    }

    fn lock(&self, path: &Path) -> io::Result<DirLock> {
        if !self.state.lock().locks.insert(path.to_owned()) {
            return Err(held_by(path, &std::process::id().to_string()));
        }
        let (shared, path) = (Arc::clone(&self.state), path.to_owned());
        Ok(DirLock::in_memory(move || {
            shared.lock().locks.remove(&path);
        }))
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    file: usize,
    writable: bool,
}

impl std::fmt::Debug for MemoryFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryFile({})", self.file)
    }
}

impl MemoryFile {
    fn perform(&self, end: u64, make: impl FnOnce() -> Operation) -> io::Result<()> {
        if !self.writable {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file was opened for reading"));
        }
        if end > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "files in memory end at 4 GiB"));
        }
        let mut state = self.state.lock();
        state.require_room(self.file, end)?;
        state.perform(make());
        Ok(())
    }
}

impl File for MemoryFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state.lock();
        let content = state.now.contents.get(&self.file).map_or(&[][..], |c| c.as_slice());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let part = start.checked_add(buffer.len()).and_then(|end| content.get(start..end));
        let part = part.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        self.perform(end, || Operation::Write {
            file: self.file,
            offset: offset as usize,
            bytes: Arc::from(bytes),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state.lock().perform(Operation::Sync { file: self.file });
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.perform(len, || Operation::SetLen { file: self.file, len: len as usize })
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().now.contents.get(&self.file).map_or(0, |c| c.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fs: &MemoryFs, path: &str) -> Option<Vec<u8>> {
        fs.map(Path::new(path)).ok().map(|m| m.to_vec())
    }

    /// A file made durable step by step.
    fn scripted() -> MemoryFs {
        let fs = MemoryFs::new();
        fs.create_dir_all(Path::new("/d")).unwrap();
        let file = fs.create(Path::new("/d/a")).unwrap(); // 1
        file.write_all_at(&[1; 1024], 0).unwrap(); // 2
        file.sync_data().unwrap(); // 3
        fs.sync_dir(Path::new("/d")).unwrap(); // 4
        file.write_all_at(&[2; 1024], 512).unwrap(); // 5
        fs.rename(Path::new("/d/a"), Path::new("/d/b")).unwrap(); // 6
        fs
    }

    #[test]
    fn bytes_and_names_become_durable_apart() {
        let fs = scripted();
        assert_eq!(fs.log_len(), 6);
        let image = |at, choice| fs.crash_image(at, choice);
        assert_eq!(read(&image(3, CrashChoice::Nothing), "/d/a"), None, "synced bytes have no name yet");
        assert_eq!(read(&image(4, CrashChoice::Nothing), "/d/a"), Some(vec![1; 1024]));
        assert_eq!(read(&image(6, CrashChoice::Nothing), "/d/a"), Some(vec![1; 1024]));
        let everything = image(6, CrashChoice::Everything);
        assert_eq!(read(&everything, "/d/a"), None);
        assert_eq!(read(&everything, "/d/b").map(|b| b.len()), Some(1536));
        assert_eq!(fs.unsynced(6), 2);
        let renamed_only = image(6, CrashChoice::AllBut(0));
        assert_eq!(read(&renamed_only, "/d/b"), Some(vec![1; 1024]));
    }

    #[test]
    fn a_torn_write_keeps_whole_sectors() {
        let fs = scripted();
        let torn = read(&fs.crash_image(6, CrashChoice::LastTorn), "/d/b").unwrap();
        assert_eq!(torn.len(), 1024, "sector 1 is written, sector 2 is not");
        assert!(torn[..512].iter().all(|b| *b == 1) && torn[512..].iter().all(|b| *b == 2));
    }

    #[test]
    fn a_seed_gives_one_image_and_seeds_give_many() {
        let fs = scripted();
        let look = |seed| {
            let image = fs.crash_image(6, CrashChoice::Seed(seed));
            (read(&image, "/d/a"), read(&image, "/d/b"))
        };
        let mut distinct = BTreeSet::new();
        for seed in 0..64 {
            assert_eq!(look(seed), look(seed));
            distinct.insert(look(seed));
        }
        assert!(distinct.len() >= 6, "{}", distinct.len());
    }

    #[test]
    fn after_a_crash_a_new_file_is_not_one_that_is_there() {
        let fs = MemoryFs::new();
        fs.create_dir_all(Path::new("/d")).unwrap();
        fs.create(Path::new("/d/a.tmp")).unwrap().write_all_at(&[1; 9], 0).unwrap();
        fs.rename(Path::new("/d/a.tmp"), Path::new("/d/a")).unwrap();
        // The first name is lost, the second is kept.
        let image = fs.crash_image(3, CrashChoice::AllBut(0));
        assert_eq!(read(&image, "/d/a"), Some(vec![1; 9]));
        image.create(Path::new("/d/b")).unwrap().write_all_at(&[2; 3], 0).unwrap();
        assert_eq!((read(&image, "/d/a"), read(&image, "/d/b")), (Some(vec![1; 9]), Some(vec![2; 3])));
    }

    #[test]
    fn a_full_disk_takes_no_more_until_something_is_removed() {
        let fs = MemoryFs::new();
        fs.create_dir_all(Path::new("/d")).unwrap();
        let (a, b) = (fs.create(Path::new("/d/a")).unwrap(), fs.create(Path::new("/d/b")).unwrap());
        fs.set_capacity(1000);
        a.write_all_at(&[1; 600], 0).unwrap();
        fs.link(Path::new("/d/a"), Path::new("/d/c")).unwrap();
        assert_eq!(b.write_all_at(&[1; 401], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
        a.write_all_at(&[2; 600], 0).unwrap();
        b.set_len(400).unwrap();
        assert_eq!(fs.space(Path::new("/d")).unwrap(), Space { free_bytes: 0, total_bytes: 1000 });
        fs.remove(Path::new("/d/a")).unwrap();
        assert!(b.set_len(401).is_err(), "the file has another name");
        fs.remove(Path::new("/d/c")).unwrap();
        b.set_len(1000).unwrap();
    }

    #[test]
    fn it_refuses_what_a_disk_refuses() {
        let fs = MemoryFs::new();
        fs.create_dir_all(Path::new("/d/e")).unwrap();
        let kind = |r: io::Result<Arc<dyn File>>| r.map(|_| ()).map_err(|e| e.kind());
        assert_eq!(kind(fs.open(Path::new("/d/x"))), Err(io::ErrorKind::NotFound));
        assert_eq!(kind(fs.create(Path::new("/no/x"))), Err(io::ErrorKind::NotFound));
        assert_eq!(kind(fs.create(Path::new("/d/x"))), Ok(()));
        assert_eq!(kind(fs.create(Path::new("/d/x"))), Err(io::ErrorKind::AlreadyExists));
        let file = fs.open(Path::new("/d/x")).unwrap();
        assert!(file.write_all_at(b"a", 0).is_err(), "opened for reading");
        assert!(file.read_exact_at(&mut [0], u64::MAX).is_err());
        let file = fs.open_write(Path::new("/d/x")).unwrap();
        assert!(file.write_all_at(b"a", u64::MAX).is_err());
        assert_eq!(fs.list(Path::new("/d")).unwrap(), [Path::new("/d/e"), Path::new("/d/x")]);
        fs.link(Path::new("/d/x"), Path::new("/d/e/y")).unwrap();
        assert!(fs.link(Path::new("/d/x"), Path::new("/d/e/y")).is_err(), "taken");
        assert!(fs.remove_dir(Path::new("/d/e")).is_err(), "not empty");
        fs.rename(Path::new("/d/e"), Path::new("/d/f")).unwrap();
        fs.remove(Path::new("/d/x")).unwrap();
        assert!(fs.open(Path::new("/d/f/y")).is_ok() && fs.open(Path::new("/d/e/y")).is_err());
        fs.remove(Path::new("/d/f/y")).unwrap();
        fs.remove_dir(Path::new("/d/f")).unwrap();
        assert!(fs.list(Path::new("/d")).unwrap().is_empty());
        let lock = fs.lock(Path::new("/d")).unwrap();
        assert!(fs.lock(Path::new("/d")).is_err());
        drop(lock);
        assert!(fs.lock(Path::new("/d")).is_ok());
    }
}

//! A file system that remembers, as one number, all that is asked of it, in order; two runs of one seed must give the same.

use kymo_storage::env::{DirLock, File, Fs, Mapped, MemoryFs, Space};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use xxhash_rust::xxh3::Xxh3;

/// All that happened so far; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<(Xxh3, u64)>>);

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trace({:016x})", self.hash())
    }
}

impl Trace {
    /// Notes that something happened.
    pub(crate) fn note(&self, what: &str, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap();
        for part in [what.as_bytes(), bytes] {
            state.0.update(&(part.len() as u64).to_le_bytes());
            state.0.update(part);
        }
        state.1 += 1;
    }

    pub(crate) fn hash(&self) -> u64 {
        self.0.lock().unwrap().0.digest()
    }

    /// How much happened.
    pub(crate) fn events(&self) -> u64 {
        self.0.lock().unwrap().1
    }
}

/// Files in memory under a trace.
#[derive(Debug, Clone)]
pub(crate) struct TraceFs {
    inner: MemoryFs,
    trace: Trace,
    /// Syncs of files whose path contains this do nothing: the lie of a bad disk, to see whether it is found out.
    lie: Option<&'static str>,
}

impl TraceFs {
    pub(crate) fn new(inner: MemoryFs, trace: Trace, lie: Option<&'static str>) -> Self {
        Self { inner, trace, lie }
    }

    fn note(&self, what: &str, path: &Path) {
        self.trace.note(what, path.as_os_str().as_encoded_bytes());
    }

    fn wrap(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        let lies = self.lie.is_some_and(|part| path.to_string_lossy().contains(part));
        Arc::new(TraceFile { inner: file, trace: self.trace.clone(), lies })
    }
}

impl Fs for TraceFs {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.note("open", path);
        Ok(self.wrap(path, self.inner.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.note("create", path);
        Ok(self.wrap(path, self.inner.create(path)?))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.note("open_write", path);
        Ok(self.wrap(path, self.inner.open_write(path)?))
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        self.note("map", path);
        self.inner.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", from);
        self.note("to", to);
        self.inner.rename(from, to)
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.note("link", file);
        self.note("to", name);
        self.inner.link(file, name)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("remove_dir", dir);
        self.inner.remove_dir(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.note("remove", path);
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.note("list", dir);
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.note("create_dir_all", dir);
        self.inner.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("sync_dir", dir);
        self.inner.sync_dir(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.note("space", path);
        self.inner.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<DirLock> {
        self.note("lock", path);
        self.inner.lock(path)
    }

    fn unique(&self) -> [u8; 16] {
        let bytes = self.inner.unique();
        self.trace.note("unique", &bytes);
        bytes
    }
}

#[derive(Debug)]
struct TraceFile {
    inner: Arc<dyn File>,
    trace: Trace,
    lies: bool,
}

impl File for TraceFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.trace.note("read", &[offset.to_le_bytes(), (buffer.len() as u64).to_le_bytes()].concat());
        self.inner.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.trace.note("write at", &offset.to_le_bytes());
        self.trace.note("bytes", bytes);
        self.inner.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.trace.note("sync", &[]);
        if self.lies { Ok(()) } else { self.inner.sync_data() }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.trace.note("set_len", &len.to_le_bytes());
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.trace.note("len", &[]);
        self.inner.len()
    }
}

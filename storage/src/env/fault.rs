//! `FaultFs`: a file system that fails on demand, with the operating system's real error numbers. For tests.

use super::{DirLock, File, Fs, Mapped, Space};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The operations that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultOp {
    /// [`Fs::open`]
    Open,
    /// [`Fs::create`]
    Create,
    /// [`Fs::open_write`]
    OpenWrite,
    /// [`Fs::map`]
    Map,
    /// [`Fs::rename`]; the path is the target.
    Rename,
    /// [`Fs::link`]; the path is the new name.
    Link,
    /// [`Fs::remove_dir`]
    RemoveDir,
    /// [`Fs::remove`]
    Remove,
    /// [`Fs::list`]
    List,
    /// [`Fs::create_dir_all`]
    CreateDir,
    /// [`Fs::sync_dir`]
    SyncDir,
    /// [`Fs::space`]
    Space,
    /// [`Fs::lock`]
    Lock,
    /// [`File::read_exact_at`]
    Read,
    /// [`File::write_all_at`]
    Write,
    /// [`File::sync_data`]
    Sync,
    /// [`File::set_len`]
    SetLen,
    /// [`File::len`]
    Len,
}

#[derive(Debug, Clone, Copy)]
enum Effect {
    Error(i32),
    ShortWrite { bytes: usize, errno: i32 },
    Delay(Duration),
    Space(Space),
    Panic,
}

/// One fault: which call, how often, and what happens. Made by [`Fault::on`], EIO at the first call unless said otherwise.
#[derive(Debug, Clone)]
pub struct Fault {
    op: FaultOp,
    path_part: Option<String>,
    skip: u64,
    forever: bool,
    effect: Effect,
}

impl Fault {
    /// EIO, the number of a failed device.
    pub const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
    /// ENOSPC, the number of a full device.
    pub const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
    /// EROFS, the number of a file system remounted read-only.
    pub const EROFS: i32 = rustix::io::Errno::ROFS.raw_os_error();

    /// The next call of `op` fails once, with EIO.
    pub fn on(op: FaultOp) -> Self {
        Self { op, path_part: None, skip: 0, forever: false, effect: Effect::Error(Self::EIO) }
    }

    /// Only calls on paths that contain `part`.
    #[must_use]
    pub fn path(mut self, part: &str) -> Self {
        self.path_part = Some(part.to_owned());
        self
    }

    /// Lets `count` matching calls pass first.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// From then on every matching call, not only one.
    #[must_use]
    pub fn forever(mut self) -> Self {
        self.forever = true;
        self
    }

    /// Fails with this error number.
    #[must_use]
    pub fn errno(mut self, errno: i32) -> Self {
        self.effect = Effect::Error(errno);
        self
    }

    /// Writes only the first `bytes`, then fails with `errno`. For [`FaultOp::Write`].
    #[must_use]
    pub fn short_write(mut self, bytes: usize, errno: i32) -> Self {
        self.effect = Effect::ShortWrite { bytes, errno };
        self
    }

    /// Succeeds, but later.
    #[must_use]
    pub fn delay(mut self, by: Duration) -> Self {
        self.effect = Effect::Delay(by);
        self
    }

    /// Does not come back: stands for a bug of the code that called.
    #[must_use]
    pub fn panic(mut self) -> Self {
        self.effect = Effect::Panic;
        self
    }

    /// Claims this much room. For [`FaultOp::Space`].
    #[must_use]
    pub fn space(mut self, space: Space) -> Self {
        self.effect = Effect::Space(space);
        self
    }
}

/// What is to fail; clones share it, so that a test can change it while the store runs.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan {
    state: Arc<Mutex<PlanState>>,
}

#[derive(Debug, Default)]
struct PlanState {
    faults: Vec<Fault>,
    calls: BTreeMap<FaultOp, u64>,
    hits: u64,
}

impl FaultPlan {
    /// A plan in which nothing fails.
    pub fn new() -> Self {
        Self::default()
    }

    /// Arms one more fault.
    pub fn add(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Disarms all faults; the counts stay.
    pub fn clear(&self) {
        self.state.lock().faults.clear();
    }

    /// How often `op` was called so far.
    pub fn calls(&self, op: FaultOp) -> u64 {
        self.state.lock().calls.get(&op).copied().unwrap_or(0)
    }

    /// How often a fault took effect.
    pub fn hits(&self) -> u64 {
        self.state.lock().hits
    }

    fn next(&self, op: FaultOp, path: &Path) -> Option<Effect> {
        let mut state = self.state.lock();
        *state.calls.entry(op).or_insert(0) += 1;
        let matches = |fault: &Fault| {
            fault.op == op
                && fault.path_part.as_ref().is_none_or(|part| path.to_string_lossy().contains(part.as_str()))
        };
        let mut due = None;
        for (at, fault) in state.faults.iter_mut().enumerate() {
            if !matches(fault) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if due.is_none() {
                due = Some(at);
            }
        }
        let at = due?;
        let fault = state.faults.get(at)?;
        let (effect, forever) = (fault.effect, fault.forever);
        if !forever {
            state.faults.remove(at);
        }
        state.hits += 1;
        Some(effect)
    }

    fn check(&self, op: FaultOp, path: &Path) -> io::Result<()> {
        match self.next(op, path) {
            None | Some(Effect::Space(_)) => Ok(()),
            Some(Effect::Error(errno) | Effect::ShortWrite { errno, .. }) => {
                Err(io::Error::from_raw_os_error(errno))
            }
            Some(Effect::Delay(by)) => {
                std::thread::sleep(by);
                Ok(())
            }
            Some(Effect::Panic) => panic_here(op, path),
        }
    }
}

#[allow(clippy::panic, reason = "it is what was asked for")]
fn panic_here(op: FaultOp, path: &Path) -> ! {
    std::panic::panic_any(format!("a panic was asked for: {op:?} of {}", path.display()))
}

/// A file system that follows a [`FaultPlan`] before it asks the one it wraps.
#[derive(Debug, Clone)]
pub struct FaultFs<F> {
    inner: F,
    plan: FaultPlan,
}

impl<F: Fs> FaultFs<F> {
    /// Wraps `inner`.
    pub fn new(inner: F, plan: FaultPlan) -> Self {
        Self { inner, plan }
    }

    /// The file system inside.
    pub fn inner(&self) -> &F {
        &self.inner
    }

    fn wrap(&self, path: &Path, file: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(FaultFile { inner: file, path: path.to_owned(), plan: self.plan.clone() })
    }
}

impl<F: Fs> Fs for FaultFs<F> {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.plan.check(FaultOp::Open, path)?;
        Ok(self.wrap(path, self.inner.open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.plan.check(FaultOp::Create, path)?;
        Ok(self.wrap(path, self.inner.create(path)?))
    }

    fn open_write(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        self.plan.check(FaultOp::OpenWrite, path)?;
        Ok(self.wrap(path, self.inner.open_write(path)?))
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        self.plan.check(FaultOp::Map, path)?;
        self.inner.map(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.check(FaultOp::Rename, to)?;
        self.inner.rename(from, to)
    }

    fn link(&self, file: &Path, name: &Path) -> io::Result<()> {
        self.plan.check(FaultOp::Link, name)?;
        self.inner.link(file, name)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.plan.check(FaultOp::RemoveDir, dir)?;
        self.inner.remove_dir(dir)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.plan.check(FaultOp::Remove, path)?;
        self.inner.remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        self.plan.check(FaultOp::List, dir)?;
        self.inner.list(dir)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.plan.check(FaultOp::CreateDir, dir)?;
        self.inner.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.plan.check(FaultOp::SyncDir, dir)?;
        self.inner.sync_dir(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        match self.plan.next(FaultOp::Space, path) {
            Some(Effect::Space(space)) => Ok(space),
            Some(Effect::Error(errno)) => Err(io::Error::from_raw_os_error(errno)),
            _ => self.inner.space(path),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<DirLock> {
        self.plan.check(FaultOp::Lock, path)?;
        self.inner.lock(path)
    }

    fn unique(&self) -> [u8; 16] {
        self.inner.unique()
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn File>,
    path: PathBuf,
    plan: FaultPlan,
}

impl File for FaultFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.plan.check(FaultOp::Read, &self.path)?;
        self.inner.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.plan.next(FaultOp::Write, &self.path) {
            None | Some(Effect::Space(_)) => {}
            Some(Effect::Error(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Effect::ShortWrite { bytes: count, errno }) => {
                let written = bytes.get(..count).unwrap_or(bytes);
                self.inner.write_all_at(written, offset)?;
                return Err(io::Error::from_raw_os_error(errno));
            }
            Some(Effect::Delay(by)) => std::thread::sleep(by),
            Some(Effect::Panic) => panic_here(FaultOp::Write, &self.path),
        }
        self.inner.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.check(FaultOp::Sync, &self.path)?;
        self.inner.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.plan.check(FaultOp::SetLen, &self.path)?;
        self.inner.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.plan.check(FaultOp::Len, &self.path)?;
        self.inner.len()
    }
}

//! `Db`: a store and a query engine in one handle; opening and closing.

use crate::ack::Gate;
use crate::error::guarded;
use crate::{Error, ErrorKind, Options, Result};
use kymo_query::Engine;
use kymo_storage::Storage;
use kymo_storage::api::Room;
use kymo_storage::env::{Clock, DiskFs, Fs, MemoryFs};
use parking_lot::RwLock;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open database. Clones are the same database, and may be used from any thread. It is closed by [`Db::close`], or when the last
/// clone (and the last [`Appender`](crate::Appender)) is gone: what was acknowledged is in its log and comes back.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    /// Another one after [`Db::refresh`].
    storage: RwLock<Storage>,
    engine: Engine,
    gate: Arc<Gate>,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    options: Options,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Disk,
    Memory,
    /// On disk, and not ours to write.
    ReadOnly,
}

impl Db {
    /// Opens the database in the directory `path`, which is created if need be. Nobody else may have it open for writing;
    /// [`Db::open_read_only`] may. After a crash it reads its log back: 26 to 40 ns of CPU a sample that is not in a block yet. Damage is
    /// stepped around, put aside, and told as a warning of the answers it concerns.
    ///
    /// # Errors
    /// `Invalid`: options that make no sense. `Unavailable`: another process holds the directory; the text names its number.
    /// `Io`: the operating system refuses.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::open_on(Arc::new(DiskFs), path.as_ref().to_owned(), options, Place::Disk)
    }

    /// A database that lives in memory and ends with its last handle; for tests, and for what need not last. It keeps everything it
    /// is given: its blocks are in memory too.
    ///
    /// # Errors
    /// `Io`: the operating system refuses a thread.
    pub fn in_memory() -> Result<Self> {
        Self::in_memory_with(Options::new().retention(None))
    }

    /// As [`Db::in_memory`], with options: with a retention it forgets what is old, with a [`SimClock`](crate::SimClock) a test says what time it is.
    ///
    /// # Errors
    /// As [`Db::in_memory`]; `Invalid`: options that make no sense.
    pub fn in_memory_with(options: Options) -> Result<Self> {
        let mut options = options;
        // Memory has no disk that may be full.
        options.store.reserve_bytes = 0;
        Self::open_on(Arc::new(MemoryFs::unrecorded()), PathBuf::from("/kymo"), options, Place::Memory)
    }

    /// Opens the database in `path` for reading, also while another process writes it. It sees what was committed before this call
    /// began, whatever its durability, and stays at that point until [`Db::refresh`]; of requests that are committed during the
    /// call it sees each as a whole or not at all. Nothing in the directory is changed, and right to read it is enough.
    ///
    /// Of the options those about reading count: memory, clock, retention (what is older is not shown), queries.
    ///
    /// # Errors
    /// `NotFound`: there is no database in `path`. `Invalid`: options that make no sense. `Unavailable`: its writer changes files
    /// faster than they can be opened. `Io`: the operating system refuses.
    pub fn open_read_only(path: impl AsRef<Path>, options: Options) -> Result<Self> {
        Self::open_on(Arc::new(DiskFs), path.as_ref().to_owned(), options, Place::ReadOnly)
    }

    fn open_on(fs: Arc<dyn Fs>, dir: PathBuf, options: Options, place: Place) -> Result<Self> {
        guarded(|| {
            options.validate()?;
            let (clock, store) = (Arc::clone(&options.clock), options.store());
            let storage = match place {
                Place::ReadOnly => Storage::open_read_only(&fs, &clock, &dir, &store)?,
                _ => Storage::open_with(Arc::clone(&fs), Arc::clone(&clock), &dir, store)?,
            };
            let (engine, gate) = (Engine::new(options.engine()?), Gate::new(options.waiting_bytes()));
            let (storage, gate) = (RwLock::new(storage), Arc::new(gate));
            Ok(Self { inner: Arc::new(Inner { storage, engine, gate, fs, clock, dir, options, place }) })
        })
    }

    /// Of a database that was opened for reading: looks at the directory again, so that reads that begin from now on (of all clones) see what was
    /// committed before this call. It takes what opening took. Otherwise there is nothing to do: a writer sees everything.
    ///
    /// # Errors
    /// As [`Db::open_read_only`]; reads go on at the point before then.
    pub fn refresh(&self) -> Result<()> {
        let inner = &self.inner;
        if inner.place != Place::ReadOnly {
            return Ok(());
        }
        guarded(|| {
            let store = inner.options.store();
            let newer = Storage::open_read_only(&inner.fs, &inner.clock, &inner.dir, &store)?;
            *inner.storage.write() = newer;
            Ok(())
        })
    }

    /// Whether the database was opened for reading.
    pub fn is_read_only(&self) -> bool {
        self.inner.place == Place::ReadOnly
    }

    /// The directory; that of a database in memory exists there only.
    pub fn path(&self) -> &Path {
        &self.inner.dir
    }

    /// Commits what was handed over, makes it durable, ends the threads and gives up the lock of the directory. If a restart would have to read
    /// much of the log, it is put into blocks first. Later writes by other clones are answered `Unavailable`; selections that were
    /// begun go on. Closing twice is no mistake.
    ///
    /// # Errors
    /// `Io`: the disk refuses; what was acknowledged as durable is durable all the same.
    pub fn close(&self) -> Result<()> {
        guarded(|| Ok(self.storage().close()?))
    }

    pub(crate) fn storage(&self) -> Storage {
        self.inner.storage.read().clone()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// Does `work` with room for a list that counts as memory of a query as long as it lasts.
    pub(crate) fn with_room<T>(
        &self,
        work: impl FnOnce(&mut Room<'_>) -> kymo_storage::Result<T>,
    ) -> Result<T> {
        let mut held = Vec::new();
        let mut grant = |bytes: u64| {
            let granted = self.engine().hold(bytes);
            held.push(granted.map_err(|e| kymo_storage::Error::new(ErrorKind::LimitExceeded, e.message))?);
            Ok(())
        };
        Ok(work(&mut Room::new(&mut grant))?)
    }

    pub(crate) fn gate(&self) -> &Arc<Gate> {
        &self.inner.gate
    }

    pub(crate) fn fs(&self) -> &Arc<dyn Fs> {
        &self.inner.fs
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    /// # Errors
    /// `Invalid`: it was opened for reading.
    pub(crate) fn require_writer(&self) -> Result<()> {
        if self.is_read_only() { Err(Error::read_only()) } else { Ok(()) }
    }

    /// # Errors
    /// `Invalid`: it is in memory.
    pub(crate) fn require_disk(&self, what: &str) -> Result<()> {
        if self.inner.place != Place::Memory {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, format!("a database in memory has no {what}")))
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Db({:?}, {})", self.inner.place, self.inner.dir.display())
    }
}

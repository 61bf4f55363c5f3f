//! Kymo in your process: a metrics time-series database with PromQL, without a server.
//!
//! ```
//! use kymo::{Db, Labels, Value};
//!
//! let db = Db::in_memory()?;
//! let up = Labels::from_pairs([("__name__", "temperature_celsius"), ("room", "attic")]);
//! let mut batch = db.batch();
//! let series = batch.series_labels(&up).map_err(|refusal| kymo::Error::invalid(refusal.reason))?;
//! for minute in 0..10 {
//!     batch.sample(series, minute * 60_000, 20.0 + minute as f64);
//! }
//! let report = db.append(batch)?;
//! assert_eq!(report.accepted, 10);
//!
//! let answer = db.instant("max_over_time(temperature_celsius[5m])", 9 * 60_000).unwrap();
//! let Value::Vector(samples) = answer.value else { unreachable!("a function of a range gives a vector") };
//! assert_eq!(samples[0].point.value, 29.0);
//! # Ok::<(), kymo::Error>(())
//! ```
//!
//! What it is not: a server (that is the binary `kymo` of the package `kymo-server`), a relational database, a cluster.
//! There is no async runtime and no network code in here.

pub use kymo_query::{
    Engine, EngineOptions, FailureKind, HistogramPoint, Point, QueryError, QueryLimits, QueryOptions,
    QueryResult, QueryStats, Series, Value, VectorSample,
};
pub use kymo_query::{Held, OnLong, Operator, Progress};
pub use kymo_storage::api::{LabelColumn, Names, Querier, Queryable, Samples, SeriesSet};
pub use kymo_storage::db::{CommitReport, Health, Refusal, Storage, WriteBatch};
pub use kymo_storage::model::{
    AnyHistogram, FloatHistogram, IntHistogram, Labels, LabelsBuilder, MatchOp, Matcher, Metadata,
    MetricType, SeriesRef, TimeRange, Timestamp,
};
pub use kymo_storage::{Error, ErrorKind, Result};
pub use kymo_storage::{options::Durability, options::Limits, options::Options, stats::Stats};

use kymo_storage::env::{MemoryFs, SystemClock};
use std::path::Path;
use std::sync::Arc;

/// An open database: a store and a query engine in one handle. Clones are the same database.
#[derive(Clone)]
pub struct Db {
    storage: Storage,
    engine: Arc<Engine>,
}

impl Db {
    /// Opens the database in `dir`, which is created if need be, with the options of a server.
    ///
    /// # Errors
    /// Options that make no sense, a directory that another process holds, the operating system refusing.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        Ok(Self::from_storage(Storage::open(dir.as_ref(), options)?, EngineOptions::default()))
    }

    /// A database that lives in memory and ends with its last handle; for tests and for what need not last.
    ///
    /// # Errors
    /// The operating system refusing a thread.
    pub fn in_memory() -> Result<Self> {
        let options = Options { retention: None, ..Options::default() };
        let fs = Arc::new(MemoryFs::new());
        let storage = Storage::open_with(fs, Arc::new(SystemClock::new()), Path::new("/kymo"), options)?;
        Ok(Self::from_storage(storage, EngineOptions::default()))
    }

    /// A database over an open store.
    pub fn from_storage(storage: Storage, engine: EngineOptions) -> Self {
        Self { storage, engine: Arc::new(Engine::new(engine)) }
    }

    /// An empty batch of writes; nothing happens until [`Db::append`].
    pub fn batch(&self) -> WriteBatch {
        self.storage.batch()
    }

    /// Commits a batch and waits until it is durable and visible. Samples that are refused are named in the report; the
    /// rest is stored.
    ///
    /// # Errors
    /// The store takes no writes, a limit is met, or the disk refuses; nothing of the batch is stored then.
    pub fn append(&self, batch: WriteBatch) -> Result<CommitReport> {
        self.storage.append(batch)
    }

    /// Evaluates PromQL at one instant, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// A text that is not PromQL, a limit met, damage that cannot be confined.
    pub fn instant(&self, query: &str, time: Timestamp) -> std::result::Result<QueryResult, QueryError> {
        self.engine.instant(&self.storage, query, time, &QueryOptions::default())
    }

    /// Evaluates PromQL at `start`, `start + step`, ... up to `end`, in milliseconds. The answer is a matrix.
    ///
    /// # Errors
    /// As [`Db::instant`]; a step that is not positive, an end before the start, too many steps.
    pub fn range(
        &self,
        query: &str,
        start: Timestamp,
        end: Timestamp,
        step: i64,
    ) -> std::result::Result<QueryResult, QueryError> {
        self.engine.range(&self.storage, query, start, end, step, &QueryOptions::default())
    }

    /// The store beneath: selects, label names, statistics, flush.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The engine, for queries with limits, time-outs and cancellation of their own.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Makes everything durable and ends the background threads.
    ///
    /// # Errors
    /// The disk refusing.
    pub fn close(&self) -> Result<()> {
        self.storage.close()
    }
}

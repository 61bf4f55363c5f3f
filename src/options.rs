//! `Options`: what the owner of a database chooses, each with its default, checked together.

use crate::query_options::QueryOptions;
use crate::{Error, Result};
use kymo_query::EngineOptions;
use kymo_query::features::Switches;
use kymo_storage::env::{Clock, SystemClock};
use kymo_storage::model::Matcher;
use kymo_storage::options::{Durability, Limits, Options as StoreOptions, RetentionRule};
use std::sync::Arc;
use std::time::Duration;

/// Who looks after age, retention, free space and the merging of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Maintenance {
    /// Threads of the database, at regular intervals and with at most half of one core.
    #[default]
    Background,
    /// The caller, by [`Db::maintain`](crate::Db::maintain). One thing happens without it: samples go into a block when the memory for
    /// them is full, because otherwise writes would have to be refused.
    Manual,
}

/// How a database behaves. The default is what most programs should run with.
///
/// ```
/// use kymo::{Durability, Options};
/// use std::time::Duration;
///
/// let options = Options::new()
///     .retention(Some(Duration::from_secs(30 * 24 * 3600)))
///     .memory_bytes(256 << 20)
///     .durability(Durability::Interval(Duration::from_millis(200)));
/// options.validate()?;
/// # Ok::<(), kymo::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Options {
    pub(crate) memory_bytes: usize,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) query: QueryOptions,
    maintenance: Maintenance,
    features: String,
    query_threads: usize,
    pub(crate) store: StoreOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 30,
            clock: Arc::new(SystemClock::new()),
            query: QueryOptions::default(),
            maintenance: Maintenance::default(),
            features: String::new(),
            query_threads: 0,
            store: StoreOptions::default(),
        }
    }
}

/// The least memory a database works with.
const MEMORY_BYTES_MIN: usize = 32 << 20;
/// What a sample that waits takes: as it was appended, as it was judged, and in the buffer of the log.
pub(crate) const WAITING_SAMPLE_BYTES: usize = 96;
/// Threads that nobody wants to start.
const QUERY_THREADS_MAX: usize = 256;
/// How often nothing is done by itself under [`Maintenance::Manual`].
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Options {
    /// The defaults: 15 days of retention, 1 GiB of memory, [`Durability::Sync`], maintenance in the background.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long samples are kept, from the newest of clock and stored time on; at least a second. `None` keeps them for ever.
    /// The default is 15 days.
    pub fn retention(mut self, keep: Option<Duration>) -> Self {
        self.store.retention = keep;
        self
    }

    /// How many bytes of disk blocks and log may take; when they take more, the oldest blocks go first. The default, `None`,
    /// sets no bound.
    pub fn retention_bytes(mut self, bytes: Option<u64>) -> Self {
        self.store.retention_bytes = bytes;
        self
    }

    /// Below how many free bytes of disk writes are refused with [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable), until
    /// there is room again. The default, `None`, is 1 % of the disk, at least 256 MiB and at most 1 GiB.
    pub fn free_space_min(mut self, bytes: Option<u64>) -> Self {
        self.store.free_space_min = bytes;
        self
    }

    /// Keeps the series that match all of `matchers` for `keep` instead of [`Options::retention`]. Of several rules the first that
    /// matches a series decides.
    pub fn retention_rule(mut self, matchers: Vec<Matcher>, keep: Duration) -> Self {
        self.store.retention_rules.push(RetentionRule { matchers, keep });
        self
    }

    /// The memory of the database, in bytes: half is for labels, their index and samples that are not in blocks yet, a quarter for
    /// queries, an eighth for batches that wait to be committed; the rest is left for what the others round up. When a part is used
    /// up, samples go into blocks earlier, new series or queries are refused with [`ErrorKind::LimitExceeded`], and
    /// [`Appender::commit`] waits. At least 32 MiB; the default is 1 GiB. Not in it: what a caller holds (answers, batches
    /// before their commit), the page cache through which blocks are read, and all blocks of a database in memory.
    ///
    /// [`ErrorKind::LimitExceeded`]: crate::ErrorKind::LimitExceeded
    /// [`Appender::commit`]: crate::Appender::commit
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// What a commit that was waited for survives; the default is power loss.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.store.durability = durability;
        self
    }

    /// Who looks after the database; by default it does so itself.
    pub fn maintenance(mut self, maintenance: Maintenance) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// The clock that tells which samples are too old or too far in the future; the default is that of the system. A
    /// [`SimClock`](crate::SimClock) moves when it is told to.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// How far ahead of the clock a sample may be; the default is 10 minutes.
    pub fn future_max(mut self, ahead: Duration) -> Self {
        self.store.limits.future = ahead;
        self
    }

    /// The most series known at one time; the default is 20 million. More are refused.
    pub fn series_max(mut self, series: u32) -> Self {
        self.store.limits.series = series;
        self
    }

    /// The most labels of a series (64 by default, `__name__` included), and the most bytes of a name (256) and a value (4096).
    pub fn label_limits(mut self, labels: usize, name_bytes: usize, value_bytes: usize) -> Self {
        self.store.limits.labels_per_series = labels;
        self.store.limits.label_name_bytes = name_bytes;
        self.store.limits.label_value_bytes = value_bytes;
        self
    }

    /// The most exemplars kept of a series between two flushes; of more the oldest go. The default is 128, 0 stores none.
    pub fn exemplars_per_series(mut self, exemplars: usize) -> Self {
        self.store.limits.exemplars_per_series = exemplars;
        self
    }

    /// What holds for queries that bring nothing else: time limit, look-back, limits.
    pub fn query(mut self, query: QueryOptions) -> Self {
        self.query = query;
        self
    }

    /// Threads one query may use; 1 means only the caller's, 0 (the default) as many as the machine has, up to 8. Answers do not
    /// depend on it.
    pub fn query_threads(mut self, threads: usize) -> Self {
        self.query_threads = threads;
        self
    }

    /// Parts of PromQL to switch on, or off by `no-NAME`, under Prometheus' names for them, with commas between them:
    /// `use-start-timestamps,no-promql-duration-expr`. [`kymo_query::features::FEATURES`] lists them.
    pub fn promql_features(mut self, list: impl Into<String>) -> Self {
        self.features = list.into();
        self
    }

    /// Checks that the choices make sense together. Opening does so too.
    ///
    /// # Errors
    /// `Invalid`, naming the option, what was given and what is possible.
    pub fn validate(&self) -> Result<()> {
        let refuse = |text: String| Err(Error::invalid(text));
        if self.memory_bytes < MEMORY_BYTES_MIN {
            return refuse(format!("memory_bytes is {}; the least is {MEMORY_BYTES_MIN}", self.memory_bytes));
        }
        if self.query_threads > QUERY_THREADS_MAX {
            return refuse(format!(
                "query_threads is {}; the most is {QUERY_THREADS_MAX}",
                self.query_threads
            ));
        }
        self.switches()?;
        self.query.validate()?;
        Ok(self.store().validate()?)
    }

    fn switches(&self) -> Result<Switches> {
        self.features.parse().map_err(|e: kymo_query::features::UnknownFeature| Error::invalid(e.to_string()))
    }

    /// Bytes of samples that may wait to be committed.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.memory_bytes / 8
    }

    pub(crate) fn durability_chosen(&self) -> Durability {
        self.store.durability
    }

    /// What the store is told.
    pub(crate) fn store(&self) -> StoreOptions {
        let mut store = self.store.clone();
        store.memory_budget = Some(self.memory_bytes / 2);
        let room = self.waiting_bytes() / WAITING_SAMPLE_BYTES;
        store.limits = Limits {
            samples_per_batch: store.limits.samples_per_batch.min(room),
            samples_queued: usize::MAX,
            ..store.limits
        };
        if self.maintenance == Maintenance::Manual {
            store.compaction_percent = 0;
            store.scrub_bytes_per_second = 0;
            store.flush_age = NEVER;
            store.maintenance_interval = NEVER;
        }
        store
    }

    /// What the engine is told.
    pub(crate) fn engine(&self) -> Result<EngineOptions> {
        let bytes = self.memory_bytes as u64 / 4;
        let mut engine = EngineOptions {
            memory_bytes: bytes,
            threads: self.query_threads,
            ..self.switches()?.apply(EngineOptions::default())
        };
        engine.limits.bytes = engine.limits.bytes.min(bytes);
        engine.limits = self.query.limits_over(&engine.limits);
        engine.lookback = self.query.lookback_chosen().unwrap_or(engine.lookback);
        Ok(engine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_nonsense_is_named() {
        assert!(Options::new().validate().is_ok());
        let cases = [
            ("memory_bytes is 1024", Options::new().memory_bytes(1024)),
            ("query_threads", Options::new().query_threads(100_000)),
            ("promql-foo", Options::new().promql_features("promql-foo")),
            ("retention", Options::new().retention(Some(Duration::ZERO))),
            ("interval", Options::new().durability(Durability::Interval(Duration::ZERO))),
            ("no matchers", Options::new().retention_rule(vec![], Duration::from_secs(5))),
            ("labels_per_series", Options::new().label_limits(0, 1, 1)),
            ("timeout", Options::new().query(QueryOptions::new().timeout(Duration::ZERO))),
        ];
        for (word, options) in cases {
            let error = options.validate().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn the_parts_are_less_than_the_whole() {
        for bytes in [MEMORY_BYTES_MIN, 1 << 30, 64 << 30] {
            let options = Options::new().memory_bytes(bytes);
            let (store, engine) = (options.store(), options.engine().unwrap());
            let parts = store.memory_budget.unwrap() + options.waiting_bytes();
            assert!(parts as u64 + engine.memory_bytes < bytes as u64);
            assert!(engine.limits.bytes <= engine.memory_bytes);
            assert!(store.validate().is_ok());
        }
    }
}

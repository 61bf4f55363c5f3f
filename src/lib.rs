//! Kymo in your process: a metrics database with PromQL in one folder, without a server.
//!
//! ```
//! use kymo::{Db, Labels, Options, Value};
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path();
//!
//! let db = Db::open(path, Options::new().retention(None))?;
//!
//! // Writing: a series is named once, then a sample is a handle, a time and a number.
//! let mut appender = db.appender();
//! let attic = appender.series(&Labels::from_pairs([("__name__", "celsius"), ("room", "attic")]))?;
//! for minute in 0..10 {
//!     appender.append(attic, minute * 60_000, 20.0 + minute as f64);
//! }
//! let receipt = appender.commit()?;
//! let report = db.wait_durable(receipt)?; // from here on it survives a power cut
//! assert_eq!((report.accepted, report.refused_total), (10, 0));
//!
//! // Reading: PromQL, typed.
//! let answer = db.instant("max_over_time(celsius[5m])", 9 * 60_000)?;
//! let Value::Vector(samples) = &answer.value else { unreachable!("this function gives a vector") };
//! assert_eq!((samples[0].labels.value("room"), samples[0].point.value), ("attic", 29.0));
//! db.close()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises
//!
//! - **What was acknowledged is kept.** With [`Durability::Sync`], the default, a batch that [`Ack::wait`] answered survives `kill -9` and
//!   power loss; the others trade that for speed, knowingly. A batch is there as a whole or not at all, for readers and after a crash.
//! - **Values come back bit for bit**: NaN payloads, -0, infinities, subnormals.
//! - **Late data is welcome**, at any age within the retention.
//! - **Damage is confined**: a damaged file never becomes a wrong value and never stops the opening. It is put aside, and named in the
//!   warnings of the answers it concerns.
//! - **PromQL is Prometheus' PromQL**, native histograms and start timestamps included: the same scripts test both.
//! - **Memory has one bound**, [`Options::memory_bytes`], and every other limit has a name, a default, and an error that names it.
//! - **No call panics.** A bug ends the call, with [`ErrorKind::Internal`].
//!
//! # What it is not
//!
//! Not a server: that is the binary `kymo` (package `kymo-server`), which speaks Prometheus' protocols. Not a relational database, not a
//! log store, not a cluster; one process writes a folder. There is no async runtime, no HTTP and no TLS in its dependencies: calls block,
//! and an async program makes them where blocking is allowed.
//!
//! # Units and shapes
//!
//! Times are `i64` milliseconds since the Unix epoch, ranges of time are half-open ([`TimeRange`]), values are `f64`. A series is a set of
//! labels, among them `__name__`. At one time a series has one float or one native histogram. Sizes are in bytes, and say so in their name.
//!
//! # Where things are
//!
//! | to do | call |
//! |---|---|
//! | open | [`Db::open`], [`Db::in_memory`], [`Db::open_read_only`] beside a running writer, [`Options`] |
//! | write | [`Db::appender`], [`Appender`], [`Ack`], [`Db::wait_durable`] |
//! | read | [`Db::select`] streams samples; [`Db::series`], [`Db::labels`], [`Db::label_values`], [`Db::exemplars`], [`Db::metadata`], [`Db::cardinality`] |
//! | ask | [`Db::instant`], [`Db::range`], [`QueryOptions`], [`Cancel`], [`Db::explain`] |
//! | look after it | [`Db::delete`], [`Db::snapshot`], [`Db::verify`], [`Db::stats`], [`Db::maintain`] |
//! | meet Prometheus | [`Db::import_blocks`], [`Db::export_blocks`] |
//!
//! `examples/` has whole programs: a sensor logger that survives power cuts, an in-process dashboard, a test that asserts on metrics, a replay
//! of Prometheus' blocks. `python/` has the same database as a Python package.
//!
//! # Features and versions
//!
//! `arrow` (off by default): samples and answers as Arrow record batches. The least Rust is 1.90; raising it is a minor version. Enums and structs
//! that may grow are `non_exhaustive`. `tests/testdata/api.txt` lists everything public.
//!
//! # The server and this library
//!
//! They are the same engine. The server's commands that move blocks (`kymo tsdb import-blocks`, `export-blocks`) are clients of this library.
//! Its request handlers talk to `kymo-storage` and `kymo-query` directly, because going through here would cost: remote write resolves series
//! from the bytes on the wire, without making [`Labels`]; a commit answers by a callback on the commit thread instead of a thread that waits; an
//! answer is written as JSON while its memory is still counted; tests put other file systems beneath.

#![deny(unsafe_code)]

mod ack;
mod admin;
mod append;
#[cfg(feature = "arrow")]
pub mod arrow;
mod blocks;
mod cardinality;
mod db;
mod error;
mod options;
mod promql;
mod query_options;
mod read;

pub use ack::Ack;
pub use admin::{Stats, verify_path};
pub use append::Appender;
pub use blocks::{ExportProgress, ExportReport, ExportedBlock, ImportProgress, ImportReport};
pub use cardinality::Cardinality;
pub use db::Db;
pub use error::{Error, ErrorKind, Mistake, Result};
pub use options::{Maintenance, Options};
pub use promql::Answer;
pub use query_options::{Cancel, QueryOptions};
pub use read::{Batch, Selection, SeriesLabels, SeriesReader, parse_selector};

pub use kymo_query::{HistogramPoint, Operator, Point, QueryStats, Series, Value, VectorSample};
pub use kymo_storage::api::{ExemplarSeries, Exemplars, HistogramSample, Names};
pub use kymo_storage::db::{CommitReport, DeleteReport, Health, Refusal};
pub use kymo_storage::env::{Clock, SimClock, SystemClock};
pub use kymo_storage::model::{
    AnyHistogram, BucketCount, Buckets, EXEMPLAR_LABEL_CHARS_MAX, Exemplar, FloatHistogram, Histogram,
    HistogramError, IntHistogram, Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, Metadata, MetricType,
    RegexError, ResetHint, SeriesRef, Span, TimeRange, Timestamp, is_stale, stale_nan,
};
pub use kymo_storage::options::Durability;
pub use kymo_storage::stats::Stats as StoreStats;
pub use kymo_storage::verify::{Finding, VerifyReport};

//! `Appender`: batches of samples, histograms, exemplars and metadata on their way into a database. Hot path.

use crate::ack::{Ack, Outcome};
use crate::db::Db;
use crate::error::guarded;
use crate::options::WAITING_SAMPLE_BYTES;
use crate::{Error, Result};
use kymo_storage::db::WriteBatch;
use kymo_storage::model::{AnyHistogram, Exemplar, Labels, Metadata, SeriesRef, Timestamp};
use std::sync::Arc;

/// Gathers what is to be committed together: readers see all of a batch or nothing, and after a crash it is there as a whole or
/// not at all. What was not committed when the appender is dropped, or at [`Appender::rollback`], is forgotten.
///
/// A series is named once, by [`Appender::series`]; its handle is good for every appender of the database for as long as it is open.
/// Samples may come in any order and late, at any age within the retention; of one series and timestamp the first value stays.
///
/// ```
/// use kymo::{Db, Labels};
///
/// let db = Db::in_memory()?;
/// let mut appender = db.appender();
/// let room = appender.series(&Labels::from_pairs([("__name__", "celsius"), ("room", "attic")]))?;
/// for minute in 0..60 {
///     appender.append(room, minute * 60_000, 20.5);
/// }
/// let report = appender.commit()?.wait()?;
/// assert_eq!((report.accepted, report.refused_total), (60, 0));
/// # Ok::<(), kymo::Error>(())
/// ```
#[derive(Debug)]
pub struct Appender {
    db: Db,
    /// There is one from the first word to the commit: a batch keeps the store from dropping series that are not used any more.
    batch: Option<WriteBatch>,
    /// How many samples the batch before had.
    expected: usize,
}

/// Samples for which room is made in advance, at most.
const RESERVED_MAX: usize = 1 << 20;

impl Appender {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, batch: None, expected: 0 }
    }

    #[inline]
    fn batch(&mut self) -> &mut WriteBatch {
        let (db, expected) = (&self.db, self.expected);
        self.batch.get_or_insert_with(|| {
            let mut batch = db.storage().batch();
            batch.reserve(expected.min(RESERVED_MAX));
            batch
        })
    }

    /// The handle of the series with `labels`, which is known from now on, whether or not a sample of it is committed. Labels
    /// have a `__name__`; those with an empty value count as missing.
    ///
    /// # Errors
    /// `Invalid`: the labels have no name, or the database is opened for reading. `LimitExceeded`: there are too many series, or
    /// too many or too long labels; the text names the limit.
    pub fn series(&mut self, labels: &Labels) -> Result<SeriesRef> {
        if self.db.is_read_only() {
            return Err(Error::read_only());
        }
        Ok(self.batch().series_labels(labels)?)
    }

    /// Adds a sample: `timestamp` in milliseconds since the Unix epoch (negative before 1970), any `value`
    /// ([`stale_nan`](crate::stale_nan) says that the series ended). The handle comes from this database; one that it does not
    /// know, or dropped because nothing was written to the series for long, is refused in the report with `NotFound` and to be
    /// asked for again. It never stands for another series.
    #[inline]
    pub fn append(&mut self, series: SeriesRef, timestamp: Timestamp, value: f64) {
        self.batch().sample(series, timestamp, value);
    }

    /// As [`Appender::append`], for a sample that counts since `start` (milliseconds since the Unix epoch): that of a counter
    /// which tells when it began.
    pub fn append_with_start(
        &mut self,
        series: SeriesRef,
        timestamp: Timestamp,
        start: Timestamp,
        value: f64,
    ) {
        self.batch().sample_with_start(series, timestamp, start, value);
    }

    /// Adds many samples of one series: as many of `timestamps` as there are `values`, pair by pair.
    ///
    /// # Errors
    /// `Invalid`: the two have not the same length; nothing is added.
    pub fn append_column(
        &mut self,
        series: SeriesRef,
        timestamps: &[Timestamp],
        values: &[f64],
    ) -> Result<()> {
        require_equal("timestamps", timestamps.len(), values.len())?;
        self.batch().samples(series, timestamps, values);
        Ok(())
    }

    /// Adds one sample of each of many series, all at one time: `values` in the order of `series`.
    ///
    /// # Errors
    /// `Invalid`: the two have not the same length; nothing is added.
    pub fn append_row(&mut self, series: &[SeriesRef], timestamp: Timestamp, values: &[f64]) -> Result<()> {
        require_equal("series", series.len(), values.len())?;
        let batch = self.batch();
        batch.reserve(values.len());
        for (series, value) in series.iter().zip(values) {
            batch.sample(*series, timestamp, *value);
        }
        Ok(())
    }

    /// [`Appender::series`] and [`Appender::append`] in one call, for those who keep no handles: it costs the hashing of the labels.
    ///
    /// # Errors
    /// As [`Appender::series`].
    pub fn append_labels(&mut self, labels: &Labels, timestamp: Timestamp, value: f64) -> Result<SeriesRef> {
        let series = self.series(labels)?;
        self.append(series, timestamp, value);
        Ok(series)
    }

    /// Adds a native histogram ([`IntHistogram`](crate::IntHistogram) or [`FloatHistogram`](crate::FloatHistogram)). At one timestamp a series has a
    /// float or a histogram; within one batch floats come first.
    ///
    /// # Errors
    /// `Invalid`: it contradicts itself; `LimitExceeded`: it has too many buckets. The batch is as before.
    pub fn histogram(
        &mut self,
        series: SeriesRef,
        timestamp: Timestamp,
        histogram: impl Into<AnyHistogram>,
    ) -> Result<()> {
        Ok(self.batch().histogram(series, timestamp, histogram.into())?)
    }

    /// As [`Appender::histogram`], for one that counts since `start` (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// As [`Appender::histogram`].
    pub fn histogram_with_start(
        &mut self,
        series: SeriesRef,
        timestamp: Timestamp,
        start: Timestamp,
        histogram: impl Into<AnyHistogram>,
    ) -> Result<()> {
        Ok(self.batch().histogram_with_start(series, timestamp, start, histogram.into())?)
    }

    /// Adds an exemplar: a single observation with labels of its own, such as the id of a trace. Those of one series come in the order
    /// of time.
    ///
    /// # Errors
    /// `LimitExceeded`: its labels have more than [`EXEMPLAR_LABEL_CHARS_MAX`](crate::EXEMPLAR_LABEL_CHARS_MAX) characters. The batch is as before.
    pub fn exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) -> Result<()> {
        Ok(self.batch().exemplar(series, exemplar)?)
    }

    /// Says of what type the metric family `family` is, in which unit, and what it means.
    pub fn metadata(&mut self, family: &str, metadata: Metadata) {
        self.batch().metadata(family, metadata);
    }

    /// Samples and histograms added since the last commit or rollback.
    pub fn len(&self) -> usize {
        self.batch.as_ref().map_or(0, WriteBatch::len)
    }

    /// Whether nothing was added since the last commit or rollback.
    pub fn is_empty(&self) -> bool {
        self.batch.as_ref().is_none_or(WriteBatch::is_empty)
    }

    /// Forgets what was added since the last commit.
    pub fn rollback(&mut self) {
        self.batch = None;
    }

    /// Hands the batch over to be committed and goes on with an empty one. Batches are committed in the order of these calls, several
    /// with one sync of the disk; [`Ack::wait`] says when, and with what result. Waits only if more batches wait already than
    /// [`Options::memory_bytes`](crate::Options::memory_bytes) leaves room for.
    ///
    /// # Errors
    /// `Invalid`: the database is opened for reading. Everything else is told by the receipt.
    pub fn commit(&mut self) -> Result<Ack> {
        let Some(batch) = self.batch.take().filter(|batch| !batch.is_empty()) else {
            return Ok(Ack::empty());
        };
        if self.db.is_read_only() {
            return Err(Error::read_only());
        }
        self.expected = batch.len();
        guarded(|| Ok(self.db.submit(batch)))
    }
}

impl Db {
    /// A new appender. It holds the database open.
    pub fn appender(&self) -> Appender {
        Appender::new(self.clone())
    }

    /// Waits until what `ack` stands for survives a power cut: with [`Durability::Sync`](crate::Durability::Sync) that is
    /// [`Ack::wait`]; with the others the log is synced now, and with it everything committed before.
    ///
    /// # Errors
    /// As [`Ack::wait`]; or the disk refuses the sync: no writes are taken then until the database is opened again.
    pub fn wait_durable(&self, ack: Ack) -> Result<kymo_storage::db::CommitReport> {
        let report = ack.wait()?;
        if self.options().durability_chosen() != kymo_storage::options::Durability::Sync {
            self.sync()?;
        }
        Ok(report)
    }

    fn submit(&self, batch: WriteBatch) -> Ack {
        let gate = Arc::clone(self.gate());
        let bytes = batch.weight().saturating_mul(WAITING_SAMPLE_BYTES);
        gate.enter(bytes);
        let outcome = Arc::new(Outcome::default());
        let told = Arc::clone(&outcome);
        let done = move |result: kymo_storage::Result<_>| {
            gate.leave(bytes);
            told.tell(result.map_err(Error::from));
        };
        self.storage().submit(batch, Box::new(done));
        Ack::waiting(outcome)
    }
}

fn require_equal(what: &str, met: usize, values: usize) -> Result<()> {
    if met == values {
        return Ok(());
    }
    Err(Error::invalid(format!("there are {met} {what} and {values} values; they go pair by pair")))
}

//! `Database` and `Appender`: everything but answers.

use crate::answer::{Answer, labels_dict};
use crate::failure::raise;
use ::kymo as library;
use library::{Cancel, Db, Durability, Labels, Maintenance, Options, QueryOptions, TimeRange};
use numpy::{AllowTypeChange, IntoPyArray, PyArray1, PyArrayLike1};
use pyo3::exceptions::{PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

type Times<'py> = PyArrayLike1<'py, i64, AllowTypeChange>;
type Values<'py> = PyArrayLike1<'py, f64, AllowTypeChange>;

/// How often a query that runs asks whether Ctrl-C was pressed.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// A handle of a series, as `Appender.series` gives it.
#[pyclass(frozen, module = "kymo")]
#[derive(Clone, Copy)]
pub(crate) struct Series(library::SeriesRef);

/// An open database. A context manager: it is closed at the end of the block.
#[pyclass(frozen, module = "kymo")]
pub(crate) struct Database {
    db: Db,
}

fn range(start: Option<i64>, end: Option<i64>) -> TimeRange {
    TimeRange { min_time: start.unwrap_or(i64::MIN), max_time: end.unwrap_or(i64::MAX) }
}

fn seconds(value: f64, what: &str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value).map_err(|e| PyValueError::new_err(format!("{what} is {value} seconds: {e}")))
}

fn selectors(texts: Option<Vec<String>>) -> PyResult<Vec<Vec<library::Matcher>>> {
    let parse = |text: String| library::parse_selector(&text).map_err(|e| raise(&e));
    texts.unwrap_or_default().into_iter().map(parse).collect()
}

/// Does `work` without the lock of the interpreter.
fn freely<T: Send>(py: Python<'_>, work: impl FnOnce() -> library::Result<T> + Send) -> PyResult<T> {
    py.detach(work).map_err(|e| raise(&e))
}

/// A query on a thread of its own, so that Ctrl-C ends it.
fn ask(
    py: Python<'_>,
    timeout: Option<f64>,
    work: impl FnOnce(&QueryOptions) -> library::Result<library::Answer> + Send,
) -> PyResult<Answer> {
    let cancel = Cancel::new();
    let mut options = QueryOptions::new().cancel(&cancel);
    if let Some(timeout) = timeout {
        options = options.timeout(seconds(timeout, "timeout")?);
    }
    let mut interrupted = None;
    let answer = py.detach(|| {
        let (send, receive) = std::sync::mpsc::sync_channel(1);
        let options = &options;
        std::thread::scope(|scope| {
            // The receiver waits below.
            scope.spawn(move || drop(send.send(work(options))));
            loop {
                match receive.recv_timeout(SIGNALS_EVERY) {
                    Ok(answer) => return Some(answer),
                    Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return None,
                    Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                        if interrupted.is_none()
                            && let Err(error) = Python::attach(|py| py.check_signals())
                        {
                            cancel.cancel();
                            interrupted = Some(error);
                        }
                    }
                }
            }
        })
    });
    match (interrupted, answer) {
        (Some(error), _) => Err(error),
        (None, Some(answer)) => answer.map(Answer::new).map_err(|e| raise(&e)),
        (None, None) => Err(PyValueError::new_err("the query ended without an answer")),
    }
}

#[pymethods]
impl Database {
    /// Opens the database in the folder `path`, which is created if need be; without a path a database in memory. `retention` in
    /// seconds (None: for ever). `durability`: "sync", "os", or the seconds between two syncs. `manual`: nothing is merged or dropped but by `maintain()`.
    #[new]
    #[pyo3(signature = (path=None, *, retention=None, memory_bytes=1 << 30, durability=None, manual=false, read_only=false))]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        retention: Option<f64>,
        memory_bytes: usize,
        durability: Option<Bound<'_, PyAny>>,
        manual: bool,
        read_only: bool,
    ) -> PyResult<Self> {
        let retention = retention.map(|value| seconds(value, "retention")).transpose()?;
        let mut options = Options::new().retention(retention).memory_bytes(memory_bytes);
        if manual {
            options = options.maintenance(Maintenance::Manual);
        }
        if let Some(chosen) = durability {
            options = options.durability(read_durability(&chosen)?);
        }
        let db = freely(py, move || match path {
            Some(path) if read_only => Db::open_read_only(path, options),
            Some(path) => Db::open(path, options),
            None => Db::in_memory_with(options),
        })?;
        Ok(Self { db })
    }

    /// A new appender. As a context manager it commits at the end of the block, and rolls back if an exception leaves it.
    fn appender(&self) -> Appender {
        Appender { db: self.db.clone(), appender: std::sync::Mutex::new(self.db.appender()) }
    }

    /// Appends samples of one series and waits for the commit: `labels` is a dict with `__name__`, `timestamps` are milliseconds since
    /// the Unix epoch (int64), `values` float64, of equal length. Answers a dict with `accepted`, `refused` and `refusals`.
    fn append<'py>(
        &self,
        py: Python<'py>,
        labels: BTreeMap<String, String>,
        timestamps: Times<'py>,
        values: Values<'py>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut appender = self.db.appender();
        let added = appender
            .series(&Labels::from_pairs(labels))
            .and_then(|series| appender.append_column(series, &contiguous(&timestamps), &contiguous_values(&values)));
        added.map_err(|e| raise(&e))?;
        let report = freely(py, move || appender.commit()?.wait())?;
        report_dict(py, &report)
    }

    /// Evaluates PromQL at `time` (milliseconds). `timeout` in seconds.
    #[pyo3(signature = (query, time, *, timeout=None))]
    fn query(&self, py: Python<'_>, query: &str, time: i64, timeout: Option<f64>) -> PyResult<Answer> {
        ask(py, timeout, |options| self.db.instant_with(query, time, options))
    }

    /// Evaluates PromQL at `start`, `start + step`, ... up to `end` (milliseconds). `timeout` in seconds.
    #[pyo3(signature = (query, start, end, step, *, timeout=None))]
    fn query_range(
        &self,
        py: Python<'_>,
        query: &str,
        start: i64,
        end: i64,
        step: u64,
        timeout: Option<f64>,
    ) -> PyResult<Answer> {
        ask(py, timeout, |options| self.db.range_with(query, start, end, Duration::from_millis(step), options))
    }

    /// The series that match `selector` with samples from `start` on and before `end` (milliseconds): an iterator of `(labels,
    /// timestamps, values)`. Native histograms are left out.
    #[pyo3(signature = (selector, start=None, end=None))]
    fn select(&self, py: Python<'_>, selector: &str, start: Option<i64>, end: Option<i64>) -> PyResult<Selection> {
        let matchers = library::parse_selector(selector).map_err(|e| raise(&e))?;
        let found = freely(py, || self.db.select(&matchers, range(start, end)))?;
        Ok(Selection { found, next: 0 })
    }

    /// The labels of the series that match one of `selectors` (of all without): a list of dicts.
    #[pyo3(signature = (selectors=None, start=None, end=None))]
    fn series<'py>(
        &self,
        py: Python<'py>,
        selectors: Option<Vec<String>>,
        start: Option<i64>,
        end: Option<i64>,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let sets = self::selectors(selectors)?;
        let found = freely(py, || self.db.series(&sets, range(start, end)))?;
        found.series.iter().map(|labels| labels_dict(py, labels)).collect()
    }

    /// The label names of the series that match one of `selectors` (of all without), sorted.
    #[pyo3(signature = (selectors=None, start=None, end=None))]
    fn labels(
        &self,
        py: Python<'_>,
        selectors: Option<Vec<String>>,
        start: Option<i64>,
        end: Option<i64>,
    ) -> PyResult<Vec<String>> {
        let sets = self::selectors(selectors)?;
        Ok(freely(py, || self.db.labels(&sets, range(start, end)))?.names)
    }

    /// The values of label `name` in the series that match one of `selectors` (in all without), sorted.
    #[pyo3(signature = (name, selectors=None, start=None, end=None))]
    fn label_values(
        &self,
        py: Python<'_>,
        name: &str,
        selectors: Option<Vec<String>>,
        start: Option<i64>,
        end: Option<i64>,
    ) -> PyResult<Vec<String>> {
        let sets = self::selectors(selectors)?;
        Ok(freely(py, || self.db.label_values(name, &sets, range(start, end)))?.names)
    }

    /// Deletes the samples of the series that match one of `selectors`. Answers how many series that concerned.
    #[pyo3(signature = (selectors, start=None, end=None))]
    fn delete(&self, py: Python<'_>, selectors: Vec<String>, start: Option<i64>, end: Option<i64>) -> PyResult<u64> {
        let sets = self::selectors(Some(selectors))?;
        Ok(freely(py, || self.db.delete(&sets, range(start, end)))?.series)
    }

    /// Makes a snapshot in the folder `directory` and answers its path.
    fn snapshot(&self, py: Python<'_>, directory: PathBuf) -> PyResult<PathBuf> {
        freely(py, || self.db.snapshot(directory))
    }

    /// Reads every byte and answers what is wrong: an empty list if nothing is.
    fn verify(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let report = freely(py, || self.db.verify())?;
        Ok(report.findings.iter().map(ToString::to_string).collect())
    }

    /// Stores the samples of the blocks of Prometheus in `path`. Answers a dict of counts.
    fn import_blocks<'py>(&self, py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
        let report = freely(py, || self.db.import_blocks(path))?;
        let dict = PyDict::new(py);
        let counts = [
            ("blocks", report.blocks),
            ("samples", report.samples),
            ("histograms", report.histograms),
            ("known", report.known),
            ("refused", report.refused_total),
        ];
        counts.iter().try_for_each(|(name, count)| dict.set_item(name, count))?;
        Ok(dict)
    }

    /// Writes the samples from `start` on and before `end` as blocks of Prometheus into `path`. Answers the names of the blocks.
    #[pyo3(signature = (path, start=None, end=None))]
    fn export_blocks(
        &self,
        py: Python<'_>,
        path: PathBuf,
        start: Option<i64>,
        end: Option<i64>,
    ) -> PyResult<Vec<String>> {
        let report = freely(py, || self.db.export_blocks(path, range(start, end)))?;
        Ok(report.blocks.into_iter().map(|block| block.name).collect())
    }

    /// Numbers of the database.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = py.detach(|| self.db.stats());
        let dict = PyDict::new(py);
        let store = &stats.store;
        let numbers = [
            ("samples_accepted", store.samples_accepted),
            ("samples_refused", store.samples_refused),
            ("series", store.series),
            ("head_samples", store.head_samples),
            ("head_bytes", store.head_bytes),
            ("wal_bytes", store.wal_bytes),
            ("blocks", store.blocks),
            ("block_samples", store.block_samples),
            ("block_bytes", store.block_bytes),
            ("query_bytes", stats.query_bytes),
        ];
        numbers.iter().try_for_each(|(name, number)| dict.set_item(name, number))?;
        Ok(dict)
    }

    /// Writes everything committed into blocks.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        freely(py, || self.db.flush())
    }

    /// Makes everything committed survive a power cut.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        freely(py, || self.db.sync())
    }

    /// Drops what is too old and merges blocks, now.
    fn maintain(&self, py: Python<'_>) -> PyResult<()> {
        freely(py, || self.db.maintain())
    }

    /// Of a database opened with `read_only`: looks at what was committed since.
    fn refresh(&self, py: Python<'_>) -> PyResult<()> {
        freely(py, || self.db.refresh())
    }

    /// Closes the database.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        freely(py, || self.db.close())
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_why))]
    fn __exit__(&self, py: Python<'_>, _why: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        self.close(py)
    }

    fn __repr__(&self) -> String {
        format!("<kymo.Database {}>", self.db.path().display())
    }
}

fn read_durability(chosen: &Bound<'_, PyAny>) -> PyResult<Durability> {
    if let Ok(interval) = chosen.extract::<f64>() {
        return Ok(Durability::Interval(seconds(interval, "durability")?));
    }
    match chosen.extract::<String>()?.as_str() {
        "sync" => Ok(Durability::Sync),
        "os" => Ok(Durability::Os),
        other => Err(PyValueError::new_err(format!("durability is {other:?}; it is \"sync\", \"os\" or seconds"))),
    }
}

/// The numbers of an array, copied if they do not lie side by side.
fn contiguous<'a>(array: &'a Times<'_>) -> std::borrow::Cow<'a, [i64]> {
    match array.as_slice() {
        Ok(slice) => slice.into(),
        Err(_) => array.as_array().iter().copied().collect::<Vec<_>>().into(),
    }
}

fn contiguous_values<'a>(array: &'a Values<'_>) -> std::borrow::Cow<'a, [f64]> {
    match array.as_slice() {
        Ok(slice) => slice.into(),
        Err(_) => array.as_array().iter().copied().collect::<Vec<_>>().into(),
    }
}

fn report_dict<'py>(py: Python<'py>, report: &library::CommitReport) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("accepted", report.accepted)?;
    dict.set_item("refused", report.refused_total)?;
    let texts = report.refused.iter().map(|refusal| library::Error::from(refusal.clone()).to_string());
    dict.set_item("refusals", texts.collect::<Vec<_>>())?;
    Ok(dict)
}

/// Gathers samples that are committed together. Nothing is stored before `commit()`.
#[pyclass(frozen, module = "kymo")]
pub(crate) struct Appender {
    db: Db,
    appender: std::sync::Mutex<library::Appender>,
}

impl Appender {
    fn with<T>(&self, work: impl FnOnce(&mut library::Appender) -> library::Result<T>) -> PyResult<T> {
        let mut appender = self.appender.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        work(&mut appender).map_err(|e| raise(&e))
    }
}

#[pymethods]
impl Appender {
    /// The handle of the series with these labels (a dict with `__name__`); good for all appenders of the database.
    fn series(&self, labels: BTreeMap<String, String>) -> PyResult<Series> {
        self.with(|appender| appender.series(&Labels::from_pairs(labels)).map(Series))
    }

    /// Adds samples of one series: arrays of equal length, milliseconds (int64) and float64.
    fn append(&self, series: &Series, timestamps: Times<'_>, values: Values<'_>) -> PyResult<()> {
        let (times, values) = (contiguous(&timestamps), contiguous_values(&values));
        self.with(|appender| appender.append_column(series.0, &times, &values))
    }

    /// Adds one sample of each series of a list, all at one time.
    fn append_row(&self, series: Vec<PyRef<'_, Series>>, timestamp: i64, values: Values<'_>) -> PyResult<()> {
        let handles: Vec<library::SeriesRef> = series.iter().map(|series| series.0).collect();
        let values = contiguous_values(&values);
        self.with(|appender| appender.append_row(&handles, timestamp, &values))
    }

    /// Commits what was added and waits; with `durable` until it survives a power cut, whatever the durability of the database. Answers a
    /// dict with `accepted`, `refused` and `refusals`.
    #[pyo3(signature = (*, durable=false))]
    fn commit<'py>(&self, py: Python<'py>, durable: bool) -> PyResult<Bound<'py, PyDict>> {
        let ack = py.detach(|| self.with(library::Appender::commit))?;
        let report = freely(py, || if durable { self.db.wait_durable(ack) } else { ack.wait() })?;
        report_dict(py, &report)
    }

    /// Forgets what was added since the last commit.
    fn rollback(&self) -> PyResult<()> {
        self.with(|appender| {
            appender.rollback();
            Ok(())
        })
    }

    fn __len__(&self) -> PyResult<usize> {
        self.with(|appender| Ok(appender.len()))
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (error, *_why))]
    fn __exit__(
        &self,
        py: Python<'_>,
        error: &Bound<'_, PyAny>,
        _why: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<()> {
        if !error.is_none() {
            return self.rollback();
        }
        let ack = py.detach(|| self.with(library::Appender::commit))?;
        let report = freely(py, || ack.wait())?;
        match report.refused.first() {
            // There is nobody to read the report, so that silence must mean success.
            Some(first) => Err(raise(&library::Error::from(first.clone()))),
            None => Ok(()),
        }
    }
}

/// An iterator of `(labels, timestamps, values)`.
#[pyclass(module = "kymo")]
pub(crate) struct Selection {
    found: library::Selection,
    next: usize,
}

#[pymethods]
impl Selection {
    fn __len__(&self) -> usize {
        self.found.len()
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    #[allow(clippy::type_complexity, reason = "the shape of a Python tuple")]
    fn __next__<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<f64>>)> {
        let Some(mut series) = self.found.series(self.next) else { return Err(PyStopIteration::new_err(())) };
        self.next += 1;
        let labels = series.labels();
        let (times, values) = freely(py, move || {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            while let Some(batch) = series.next_batch()? {
                times.extend_from_slice(batch.timestamps);
                values.extend_from_slice(batch.values);
            }
            Ok((times, values))
        })?;
        Ok((labels_dict(py, &labels)?, times.into_pyarray(py), values.into_pyarray(py)))
    }
}


//! The engine in this process as a [`Backend`]: over a plain list of series, over a store's memory, over its blocks.

use super::notation::Stored;
use super::run::Backend;
use super::script::When;
use crate::answer::{Answer, LabelMap, Outcome, SampleValue};
use crate::series_list::SeriesList;
use kymo_query::{
    Engine, EngineOptions, HistogramPoint, QueryError, QueryOptions, QueryResult, Series, Value, VectorSample,
};
use kymo_storage::Storage;
use kymo_storage::api::Queryable;
use kymo_storage::env::{MemoryFs, SimClock};
use kymo_storage::model::{AnyHistogram, FloatHistogram, Labels};
use kymo_storage::options::Options;
use std::path::Path;
use std::sync::Arc;

/// Where the series of a script lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a list that knows nothing of stores.
    List,
    /// In the memory of a store.
    Head,
    /// In the blocks of a store, everything flushed.
    Blocks,
}

/// The engine over a store that is new after every `clear`.
pub struct InProcess {
    engine: Engine,
    place: Place,
    store: Store,
}

enum Store {
    List(SeriesList),
    Real(Box<Storage>),
}

/// The wall clock of the store: long after any sample of a script, so that none lies in the future. (15 July 2026.)
pub const NOW_MS: i64 = 1_784_073_600_000;

impl InProcess {
    /// An engine with `threads` threads a query, with all that Prometheus' scripts expect to be on.
    ///
    /// # Panics
    /// A store in memory cannot be opened.
    pub fn new(place: Place, threads: usize) -> Self {
        let engine = Engine::new(engine_options(threads));
        Self { engine, place, store: Store::new(place) }
    }
}

/// The options under which Prometheus' scripts are carried out.
pub fn engine_options(threads: usize) -> EngineOptions {
    EngineOptions {
        threads,
        delayed_name_removal: true,
        use_start_timestamps: true,
        ..EngineOptions::default()
    }
}

/// An empty store in memory that keeps samples of any age.
///
/// # Panics
/// It cannot be opened.
pub fn memory_store() -> Storage {
    let options = Options { retention: None, ..Options::default() };
    let fs = Arc::new(MemoryFs::unrecorded());
    let clock = Arc::new(SimClock::new(NOW_MS));
    Storage::open_with(fs, clock, Path::new("/data"), options).expect("open a store in memory")
}

/// Stores series in one batch.
///
/// # Errors
/// One is refused.
pub fn append(storage: &Storage, series: &[Stored]) -> Result<(), String> {
    let mut batch = storage.batch();
    for Stored { labels, points, starts } in series {
        let id = batch.series_labels(&Labels::from_pairs(labels)).map_err(|r| r.reason)?;
        for (index, (timestamp, value)) in points.iter().enumerate() {
            let start = starts.get(index).copied().unwrap_or(0);
            match value {
                SampleValue::Float(value) => batch.sample_with_start(id, *timestamp, start, *value),
                SampleValue::Histogram(histogram) => {
                    let histogram = AnyHistogram::Float(FloatHistogram::clone(histogram));
                    batch.histogram_with_start(id, *timestamp, start, histogram).map_err(|r| r.reason)?;
                }
                SampleValue::Shown(_) => return Err("only answers show histograms".to_owned()),
            }
        }
    }
    let report = storage.append(batch).map_err(|e| e.to_string())?;
    match report.refused.first() {
        Some(refusal) => Err(format!("{} samples refused, the first: {refusal:?}", report.refused_total)),
        None => Ok(()),
    }
}

/// What a query of the engine came to.
pub fn outcome(result: Result<QueryResult, QueryError>) -> Outcome {
    match result {
        Err(error) => Outcome::error(error.to_string()),
        Ok(result) => {
            let answer = read_value(result.value);
            Outcome { result: Ok(answer), warnings: result.warnings, infos: result.infos }
        }
    }
}

impl Store {
    fn new(place: Place) -> Self {
        if place == Place::List {
            return Self::List(SeriesList::new());
        }
        Self::Real(Box::new(memory_store()))
    }

    fn queryable(&self) -> &dyn Queryable {
        match self {
            Self::List(list) => list,
            Self::Real(storage) => &**storage,
        }
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        if let Store::Real(storage) = &self.store {
            let _ = storage.close();
        }
    }
}

impl Backend for InProcess {
    fn clear(&mut self) -> Result<(), String> {
        if let Store::Real(storage) = &self.store {
            storage.close().map_err(|e| e.to_string())?;
        }
        self.store = Store::new(self.place);
        Ok(())
    }

    fn load(&mut self, series: &[Stored]) -> Result<(), String> {
        let storage = match &mut self.store {
            Store::List(list) => {
                for Stored { labels, points, starts } in series {
                    list.append(Labels::from_pairs(labels), points.iter().cloned());
                    let times = points.iter().map(|(time, _)| *time);
                    list.append_starts(&Labels::from_pairs(labels), times.zip(starts.iter().copied()));
                }
                return Ok(());
            }
            Store::Real(storage) => storage,
        };
        append(storage, series)?;
        if self.place == Place::Blocks {
            storage.flush().map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn ask(&mut self, query: &str, when: When) -> Outcome {
        let (store, options) = (self.store.queryable(), QueryOptions::default());
        outcome(match when {
            When::Instant { at_ms } => self.engine.instant(store, query, at_ms, &options),
            When::Range { start_ms, end_ms, step_ms } => {
                self.engine.range(store, query, start_ms, end_ms, step_ms, &options)
            }
        })
    }
}

fn read_labels(labels: &Labels) -> LabelMap {
    labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
}

/// The answer of the engine in the words of the scripts.
pub fn read_value(value: Value) -> Answer {
    let points = |series: &Series| {
        let floats = series.points.iter().map(|p| (p.timestamp, SampleValue::Float(p.value)));
        let histogram = |p: &HistogramPoint| (p.timestamp, SampleValue::Histogram(p.histogram.clone()));
        let mut all: Vec<_> = floats.chain(series.histograms.iter().map(histogram)).collect();
        all.sort_by_key(|point| point.0);
        all
    };
    let one = |sample: &VectorSample| match &sample.histogram {
        Some(histogram) => SampleValue::Histogram(histogram.clone()),
        None => SampleValue::Float(sample.point.value),
    };
    match value {
        Value::Scalar(point) => Answer::Scalar(point.value),
        Value::String { text, .. } => Answer::Text(text),
        Value::Vector(samples) => {
            Answer::Vector(samples.iter().map(|s| (read_labels(&s.labels), one(s))).collect())
        }
        Value::Matrix(series) => {
            Answer::Matrix(series.iter().map(|s| (read_labels(&s.labels), points(s))).collect())
        }
    }
}

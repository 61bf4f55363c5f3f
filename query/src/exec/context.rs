//! One running query: its budget, its annotations, the series its selectors found.

use crate::annotations::Annotations;
use crate::budget::Budget;
use crate::failure::QueryError;
use crate::math::histogram_note::HistogramNote;
use crate::plan::Select;
use crate::span::Span;
use kymo_storage::api::{Querier, SeriesSet};
use kymo_storage::model::Matcher;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is switched on and changes answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    /// Names go away at the end of the query instead of at each operator.
    pub(crate) delayed_names: bool,
    /// Functions of counters pay attention to start timestamps.
    pub(crate) start_timestamps: bool,
    /// Whether a metric is a counter is told by its label `__type__` instead of its name.
    pub(crate) type_labels: bool,
}

/// What all operators of one query share.
pub(crate) struct Context {
    /// Time and memory.
    pub(crate) budget: Arc<Budget>,
    /// Threads to use; 1 means none but the caller's.
    pub(crate) threads: usize,
    /// What was switched on.
    pub(crate) behaviour: Behaviour,
    /// How far an instant selector looks back, in milliseconds.
    pub(crate) lookback: i64,
    querier: Box<dyn Querier>,
    selects: Vec<Select>,
    sets: Mutex<Vec<Option<Arc<dyn SeriesSet>>>>,
    extra_sets: Mutex<Vec<Arc<dyn SeriesSet>>>,
    annotations: Mutex<Annotations>,
    leaves: AtomicUsize,
}

impl Context {
    /// A query about to run.
    pub(crate) fn new(
        budget: Arc<Budget>,
        querier: Box<dyn Querier>,
        selects: Vec<Select>,
        threads: usize,
        behaviour: Behaviour,
        lookback: i64,
    ) -> Self {
        Self {
            budget,
            threads: threads.max(1),
            behaviour,
            lookback,
            querier,
            sets: Mutex::new(selects.iter().map(|_| None).collect()),
            selects,
            extra_sets: Mutex::default(),
            annotations: Mutex::default(),
            leaves: AtomicUsize::new(0),
        }
    }

    /// The conditions of select `index`.
    pub(crate) fn matchers(&self, index: usize) -> &[Matcher] {
        self.selects.get(index).map_or(&[], |s| &s.matchers)
    }

    /// The series of select `index`, looked up once.
    ///
    /// # Errors
    /// The store, or too many series.
    pub(crate) fn series(&self, index: usize) -> Result<Arc<dyn SeriesSet>, QueryError> {
        let select = self
            .selects
            .get(index)
            .ok_or_else(|| QueryError::internal("a select is planned before it is read"))?;
        if let Some(Some(set)) = self.sets.lock().get(index) {
            return Ok(set.clone());
        }
        self.budget.check()?;
        let set: Arc<dyn SeriesSet> = Arc::from(self.querier.select(select.range, &select.matchers)?);
        self.budget.count_series(set.len())?;
        if let Some(slot) = self.sets.lock().get_mut(index) {
            *slot = Some(set.clone());
        }
        Ok(set)
    }

    /// Series that no selector of the text names (those of `info`).
    ///
    /// # Errors
    /// The store, or too many series.
    pub(crate) fn more_series(
        &self,
        range: kymo_storage::model::TimeRange,
        matchers: &[Matcher],
    ) -> Result<Arc<dyn SeriesSet>, QueryError> {
        let set: Arc<dyn SeriesSet> = Arc::from(self.querier.select(range, matchers)?);
        self.budget.count_series(set.len())?;
        self.extra_sets.lock().push(set.clone());
        Ok(set)
    }

    /// A number for a new leaf, by which workers keep its buffers.
    pub(crate) fn new_leaf(&self) -> usize {
        self.leaves.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds what users should know about histograms: `metric` is the name they have, empty if unknown.
    pub(crate) fn note(&self, notes: &[HistogramNote], span: Span, metric: &str) {
        if !notes.is_empty() {
            self.annotate(|a| notes.iter().for_each(|note| a.note(*note, span, metric)));
        }
    }

    /// Adds annotations.
    pub(crate) fn annotate(&self, add: impl FnOnce(&mut Annotations)) {
        add(&mut self.annotations.lock());
    }

    /// All annotations, and the store's warnings about damage it stepped around.
    pub(crate) fn finish(self) -> (Annotations, Vec<String>) {
        let mut warnings: Vec<String> = Vec::new();
        for set in self.sets.into_inner().into_iter().flatten().chain(self.extra_sets.into_inner()) {
            warnings.extend(set.warnings());
        }
        warnings.sort();
        warnings.dedup();
        (self.annotations.into_inner(), warnings)
    }
}

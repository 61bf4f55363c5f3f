//! One running query: its budget, its annotations, the series its selectors found.

use super::operator::Operator;
use super::pool::Pool;
use super::profile::Profile;
use super::step_counts::StepCounts;
use crate::annotations::Annotations;
use crate::budget::{Budget, Reservation};
use crate::failure::QueryError;
use crate::math::histogram_note::HistogramNote;
use crate::plan::Select;
use crate::span::Span;
use kymo_storage::api::{Querier, SeriesSet};
use kymo_storage::model::{Matcher, TimeRange};
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

/// What a set of series takes for each of them.
const SELECTED_BYTES: u64 = 64;

/// How far apart scrapes usually are, in milliseconds.
const USUAL_INTERVAL: i64 = 15_000;

/// What the longest of `selects` may read of a series.
fn samples_a_series(selects: &[Select]) -> usize {
    let length = |select: &Select| select.range.last().saturating_sub(select.range.min_time);
    let longest = selects.iter().map(length).max().unwrap_or(0);
    usize::try_from(longest / USUAL_INTERVAL).unwrap_or(0)
}

/// What all operators of one query share.
pub(crate) struct Context {
    /// Time and memory.
    pub(crate) budget: Arc<Budget>,
    /// Threads to use; 1 means none but the caller's.
    pub(crate) threads: usize,
    /// Where the others are.
    pub(super) pool: Arc<Pool>,
    /// How many samples a series may have at most, if its scrapes are as far apart as they usually are.
    pub(super) samples_a_series: usize,
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
    held: Mutex<Option<Reservation>>,
    /// What each operator does, if somebody asks.
    pub(crate) profile: Option<Profile>,
    /// The samples of each step, if somebody asks.
    pub(crate) step_counts: Option<StepCounts>,
}

/// What was asked to be told about a query besides its answer.
pub(crate) struct Watch {
    /// What each operator did.
    pub(crate) explain: Option<Operator>,
    /// The samples of each step.
    pub(crate) step_samples: Option<Vec<u64>>,
}

impl Context {
    /// A query about to run.
    pub(crate) fn new(
        budget: Arc<Budget>,
        querier: Box<dyn Querier>,
        selects: Vec<Select>,
        pool: Arc<Pool>,
        behaviour: Behaviour,
        lookback: i64,
    ) -> Self {
        Self {
            budget,
            threads: pool.threads(),
            pool,
            samples_a_series: samples_a_series(&selects),
            behaviour,
            lookback,
            querier,
            sets: Mutex::new(selects.iter().map(|_| None).collect()),
            selects,
            extra_sets: Mutex::default(),
            annotations: Mutex::default(),
            leaves: AtomicUsize::new(0),
            held: Mutex::default(),
            profile: None,
            step_counts: None,
        }
    }

    /// The same query, watched: each operator if `explain`, the samples of each of `steps`.
    pub(crate) fn watched(mut self, explain: bool, steps: Option<usize>) -> Self {
        self.profile = explain.then(Profile::default);
        self.step_counts = steps.map(StepCounts::new);
        self
    }

    /// Reserves memory for the rest of the query: for tables that live about as long.
    ///
    /// # Errors
    /// Too little memory.
    pub(crate) fn hold(&self, samples: usize, bytes: u64) -> Result<(), QueryError> {
        let mut held = self.held.lock();
        match &mut *held {
            Some(held) => held.grow(samples as u64, bytes),
            none => {
                *none = Some(self.budget.reserve(samples as u64, bytes)?);
                Ok(())
            }
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
        let set = self.select(select.range, &select.matchers)?;
        self.budget.count_series(set.len())?;
        self.hold(0, set.len() as u64 * SELECTED_BYTES)?;
        if let Some(slot) = self.sets.lock().get_mut(index) {
            *slot = Some(set.clone());
        }
        Ok(set)
    }

    /// Asks the store, which stops looking when the budget says so.
    fn select(&self, range: TimeRange, matchers: &[Matcher]) -> Result<Arc<dyn SeriesSet>, QueryError> {
        match self.querier.select_while(range, matchers, &|| self.budget.check().is_ok()) {
            Ok(set) => Ok(Arc::from(set)),
            Err(error) => {
                self.budget.check()?;
                Err(error.into())
            }
        }
    }

    /// Series that no selector of the text names (those of `info`).
    ///
    /// # Errors
    /// The store, or too many series.
    pub(crate) fn more_series(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
    ) -> Result<Arc<dyn SeriesSet>, QueryError> {
        let set = self.select(range, matchers)?;
        self.budget.count_series(set.len())?;
        self.hold(0, set.len() as u64 * SELECTED_BYTES)?;
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

    /// All annotations, the store's warnings about damage it stepped around, and what else was asked for; `text` is that of the query.
    pub(crate) fn finish(self, text: &str) -> (Annotations, Vec<String>, Watch) {
        let mut warnings: Vec<String> = Vec::new();
        for set in self.sets.into_inner().into_iter().flatten().chain(self.extra_sets.into_inner()) {
            warnings.extend(set.warnings());
        }
        warnings.sort();
        warnings.dedup();
        let watch = Watch {
            explain: self.profile.and_then(|profile| profile.finish(text)),
            step_samples: self.step_counts.map(StepCounts::finish),
        };
        (self.annotations.into_inner(), warnings, watch)
    }
}

//! Series held in memory, and the places where they must be: equal label sets are merged, names are dropped.

use super::adapted::adapted;
use super::context::Context;
use super::fan_out::drain;
use super::source::{Source, Worker};
use crate::budget::{Pace, Reservation};
use crate::column::Column;
use crate::failure::QueryError;
use kymo_storage::api::LabelColumn;
use kymo_storage::model::{Labels, METRIC_NAME};
use std::collections::HashMap;
use std::sync::Arc;

/// The labels that name a metric: they go away when an operation makes something else of it.
pub(crate) const NAMING_LABELS: [&str; 3] = [METRIC_NAME, "__type__", "__unit__"];

/// `labels` without those that name the metric.
pub(crate) fn without_name(labels: &Labels) -> Labels {
    labels.without(|name| NAMING_LABELS.contains(&name))
}

/// Series held in memory.
#[derive(Default)]
pub(crate) struct Matrix {
    rows: Vec<Row>,
    distinct: bool,
    memory: Vec<Reservation>,
}

/// One series of a [`Matrix`].
pub(crate) struct Row {
    /// Its labels.
    pub(crate) labels: Labels,
    /// Whether its name goes away at the end of the query.
    pub(crate) drops_name: bool,
    /// Its values.
    pub(crate) column: Column,
}

impl Matrix {
    /// A matrix of these rows; `distinct` if it is known that all labels differ.
    pub(crate) fn new(rows: Vec<Row>, distinct: bool, memory: Option<Reservation>) -> Self {
        Self { rows, distinct, memory: memory.into_iter().collect() }
    }

    /// All series of `source`, computed.
    ///
    /// # Errors
    /// As [`drain`], or too little memory.
    pub(crate) fn collect(context: &Context, source: &dyn Source, steps: usize) -> Result<Self, QueryError> {
        let mut memory = context.budget.reserve(0, 0)?;
        let mut rows = Vec::new();
        drain(context, source, steps, |index, column| {
            let labels = source.labels(index);
            let (samples, bytes) = column.size();
            memory.grow(samples, bytes + (labels.as_bytes().len() + size_of::<Row>()) as u64)?;
            rows.push(Row { labels, drops_name: source.drops_name(index), column: std::mem::take(column) });
            Ok(())
        })?;
        Ok(Self { rows, distinct: source.is_distinct(), memory: vec![memory] })
    }

    /// These series and then `more`, whose memory is reserved in `memory`.
    pub(crate) fn followed_by(mut self, more: Vec<Row>, memory: Reservation) -> Self {
        self.rows.extend(more);
        self.distinct = false;
        self.memory.push(memory);
        self
    }

    /// The column of series `index`.
    pub(crate) fn column(&self, index: usize) -> &Column {
        &self.rows[index].column
    }
}

impl Source for Matrix {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.rows[index].labels.clone()
    }

    fn drops_name(&self, index: usize) -> bool {
        self.rows[index].drops_name
    }

    fn is_distinct(&self) -> bool {
        self.distinct
    }

    fn is_ready(&self) -> bool {
        true
    }

    fn fill(&self, index: usize, _worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        out.values.clone_from(&self.rows[index].column.values);
        out.present.clone_from(&self.rows[index].column.present);
        out.histograms.clone_from(&self.rows[index].column.histograms);
        Ok(())
    }
}

/// A source with other labels than its input.
struct Labelled {
    input: Arc<dyn Source>,
    labels: Vec<Labels>,
    drops_name: Option<Vec<bool>>,
    distinct: bool,
}

impl Source for Labelled {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.labels[index].clone()
    }

    fn drops_name(&self, index: usize) -> bool {
        self.drops_name.as_ref().map_or_else(|| self.input.drops_name(index), |drops| drops[index])
    }

    fn is_distinct(&self) -> bool {
        self.distinct
    }

    fn is_ready(&self) -> bool {
        self.input.is_ready()
    }

    fn may_tell(&self) -> bool {
        self.input.may_tell()
    }

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        self.input.fill(index, worker, out)
    }
}

/// `input` with these labels, one for each series, and whether each name goes away later (as before if `None`).
pub(crate) fn relabelled(
    input: Arc<dyn Source>,
    labels: Vec<Labels>,
    drops_name: Option<Vec<bool>>,
) -> Arc<dyn Source> {
    Arc::new(Labelled { input, labels, drops_name, distinct: false })
}

/// What the search for equal labels takes for each series, without the labels themselves.
const DISTINCT_BYTES: u64 = 64;
/// After so many bytes of labels the budget is asked whether to go on.
const CHECK_EVERY: u64 = 1 << 16;
/// What a series is besides its labels, in the same measure.
const SERIES_COST: u64 = 256;

/// What to do with series of the same labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnSame {
    /// They become one series unless both have a value at one step, which is an error.
    Merge,
    /// They are an error if both have any value.
    Refuse,
}

/// The same series with all labels different.
///
/// # Errors
/// Series of the same labels that must not be, as `on_same` says.
pub(crate) fn distinct(
    context: &Context,
    source: Arc<dyn Source>,
    steps: usize,
    on_same: OnSame,
) -> Result<Arc<dyn Source>, QueryError> {
    if source.is_distinct() {
        return Ok(source);
    }
    // A label set, its place in the table, and its target.
    context.hold(0, source.len() as u64 * DISTINCT_BYTES)?;
    let mut pace = Pace::new(&context.budget, CHECK_EVERY);
    let mut worked = |labels: &Labels| pace.work(labels.as_bytes().len() as u64 + SERIES_COST);
    let mut labels: Vec<Labels> = Vec::with_capacity(source.len());
    for index in 0..source.len() {
        labels.push(source.labels(index));
        worked(&labels[index])?;
    }
    let new: usize = labels.iter().map(|l| l.as_bytes().len()).sum();
    context.hold(0, new as u64)?;
    let mut rows_by_labels: HashMap<&Labels, usize> = HashMap::with_capacity(labels.len());
    let mut targets = Vec::with_capacity(labels.len());
    let mut firsts = Vec::new();
    for (index, labels) in labels.iter().enumerate() {
        worked(labels)?;
        let target = *rows_by_labels.entry(labels).or_insert_with(|| {
            firsts.push(index);
            firsts.len() - 1
        });
        targets.push(target);
    }
    drop(rows_by_labels);
    if firsts.len() == labels.len() {
        return Ok(Arc::new(Labelled { input: source, labels, drops_name: None, distinct: true }));
    }
    let mut memory = context.budget.reserve(0, 0)?;
    let mut rows: Vec<Option<Row>> = Vec::new();
    rows.resize_with(firsts.len(), || None);
    drain(context, &*source, steps, |index, column| {
        if column.is_empty() {
            return Ok(());
        }
        let drops_name = source.drops_name(index);
        match &mut rows[targets[index]] {
            Some(row) => {
                if on_same == OnSame::Refuse || row.column.steps().overlaps(&column.steps()) {
                    return Err(QueryError::same_labelset());
                }
                memory.hold(column.histogram_size())?;
                row.column.absorb(column);
                row.drops_name |= drops_name;
            }
            slot => {
                memory.hold(column.size())?;
                *slot =
                    Some(Row { labels: labels[index].clone(), drops_name, column: std::mem::take(column) });
            }
        }
        Ok(())
    })?;
    Ok(Arc::new(Matrix::new(rows.into_iter().flatten().collect(), true, Some(memory))))
}

/// A source whose names go away: at once, or at the end of the query.
struct Nameless {
    input: Arc<dyn Source>,
    delayed: bool,
    /// The labels that go away if it is at once.
    names: &'static [&'static str],
}

impl Source for Nameless {
    fn len(&self) -> usize {
        self.input.len()
    }

    fn labels(&self, index: usize) -> Labels {
        let labels = self.input.labels(index);
        if self.delayed { labels } else { labels.without(|name| self.names.contains(&name)) }
    }

    fn drops_name(&self, _index: usize) -> bool {
        self.delayed
    }

    fn label_column(&self, name: &str) -> LabelColumn {
        if !self.delayed && self.names.contains(&name) {
            LabelColumn::from_values((0..self.len()).map(|_| String::new()))
        } else {
            self.input.label_column(name)
        }
    }

    fn is_distinct(&self) -> bool {
        self.input.is_distinct() && (self.delayed || self.input.has_one_name())
    }

    fn has_one_name(&self) -> bool {
        self.input.has_one_name()
    }

    fn is_ready(&self) -> bool {
        self.input.is_ready()
    }

    fn may_tell(&self) -> bool {
        self.input.may_tell()
    }

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        self.input.fill(index, worker, out)
    }
}

/// `input` without names; series that become the same are dealt with as `on_same` says.
///
/// # Errors
/// As [`distinct`].
pub(crate) fn nameless(
    context: &Context,
    input: Arc<dyn Source>,
    steps: usize,
    on_same: OnSame,
) -> Result<Arc<dyn Source>, QueryError> {
    without_labels(context, input, steps, on_same, &NAMING_LABELS)
}

/// `input` without names, but (unless names go away at the end) with the labels that tell a metric's type and unit.
///
/// # Errors
/// As [`distinct`].
pub(crate) fn without_metric_name(
    context: &Context,
    input: Arc<dyn Source>,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    without_labels(context, input, steps, OnSame::Merge, &[METRIC_NAME])
}

fn without_labels(
    context: &Context,
    input: Arc<dyn Source>,
    steps: usize,
    on_same: OnSame,
    names: &'static [&'static str],
) -> Result<Arc<dyn Source>, QueryError> {
    let source: Arc<dyn Source> =
        Arc::new(Nameless { input, delayed: context.behaviour.delayed_names, names });
    if context.behaviour.delayed_names { Ok(source) } else { distinct(context, source, steps, on_same) }
}

/// The last act of a query that put off the removal of names.
///
/// # Errors
/// As [`distinct`].
pub(crate) fn remove_delayed_names(
    context: &Context,
    source: Arc<dyn Source>,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    if !context.behaviour.delayed_names {
        return Ok(source);
    }
    let labels = (0..source.len())
        .map(|i| if source.drops_name(i) { without_name(&source.labels(i)) } else { source.labels(i) })
        .collect();
    distinct(context, relabelled(source, labels, None), steps, OnSame::Merge)
}

/// `input`, which has one step, at `steps` steps.
pub(crate) fn repeated(input: Arc<dyn Source>, steps: usize) -> Arc<dyn Source> {
    adapted(input, move |input, index, worker, out| {
        let mut once = worker.take_column();
        input.fill(index, worker, &mut once)?;
        out.reset(steps);
        if !once.is_empty()
            && let Some(value) = once.get(0)
        {
            out.values.fill(value);
            out.present.fill();
        }
        if let Some((_, histogram)) = once.histograms.first() {
            out.histograms.extend((0..steps).map(|step| (step, Arc::clone(histogram))));
        }
        worker.put_column(once);
        Ok(())
    })
}

//! Leaves: the samples of one series, their windows, and a kernel over them. Hot path.

use super::context::Context;
use super::histogram_kernel::{Both, HistogramWindows};
use super::kernel::Kernel;
use super::profile::{Counters, Profile};
use super::source::{Leaf, LeafHistograms, Source, Worker};
use super::step_counts::{Counted, StepCounts};
use crate::budget::Reservation;
use crate::column::{Column, histogram_size};
use crate::failure::QueryError;
use crate::format::quote;
use crate::math::histogram_note::HistogramNote;
use crate::math::window::Windows;
use crate::plan::{Grid, Window};
use crate::span::Span;
use kymo_storage::api::{HistogramSample, LabelColumn, SeriesSet};
use kymo_storage::model::{FloatHistogram, Labels, METRIC_NAME, MatchOp, ResetHint, TimeRange};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Whose samples a leaf reads.
pub(crate) enum Input {
    /// Series of the store.
    Series {
        /// The series.
        set: Arc<dyn SeriesSet>,
        /// The time to read.
        range: TimeRange,
        /// Whether a matcher demands one metric name, and which.
        name: Option<String>,
        /// Whether of histograms only count and sum are asked for.
        totals: bool,
    },
    /// An expression on its own grid.
    Subquery {
        /// The expression.
        inner: Arc<dyn Source>,
        /// Its steps.
        grid: Grid,
        /// The memory of its columns on all threads.
        _memory: Reservation,
    },
}

impl Input {
    /// The series that select `index` found.
    ///
    /// # Errors
    /// As [`Context::series`].
    pub(crate) fn series(
        context: &Context,
        index: usize,
        range: TimeRange,
        totals: bool,
    ) -> Result<Self, QueryError> {
        let name = context
            .matchers(index)
            .iter()
            .find(|m| m.name() == METRIC_NAME && m.op() == MatchOp::Equal && !m.value().is_empty())
            .map(|m| m.value().to_owned());
        Ok(Self::Series { set: context.series(index)?, range, name, totals })
    }

    /// An expression on its own grid, whose columns may be far longer than those of the query.
    ///
    /// # Errors
    /// Too little memory.
    pub(crate) fn subquery(
        context: &Context,
        inner: Arc<dyn Source>,
        grid: Grid,
    ) -> Result<Self, QueryError> {
        // Each thread holds a column or two at a time, and the samples made of one.
        let columns = (context.threads as u64 + 1).saturating_mul(3);
        let memory = context.budget.reserve(0, Column::bytes(grid.count).saturating_mul(columns))?;
        Ok(Self::Subquery { inner, grid, _memory: memory })
    }

    /// How many series.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Series { set, .. } => set.len(),
            Self::Subquery { inner, .. } => inner.len(),
        }
    }

    /// The labels of series `index`.
    pub(crate) fn labels(&self, index: usize) -> Labels {
        match self {
            Self::Series { set, .. } => set.labels(index),
            Self::Subquery { inner, .. } => inner.labels(index),
        }
    }

    /// Whether the name of series `index` goes away at the end of the query.
    pub(crate) fn drops_name(&self, index: usize) -> bool {
        match self {
            Self::Series { .. } => false,
            Self::Subquery { inner, .. } => inner.drops_name(index),
        }
    }

    /// Reads series `index` into `leaf`; says whether staleness markers were taken out (then the samples are in `leaf.clean`).
    ///
    /// # Errors
    /// The store, a limit, or the inner expression.
    pub(crate) fn read(
        &self,
        index: usize,
        (keep_stale, newest): (bool, bool),
        worker: &mut Worker<'_>,
        leaf: &mut Leaf,
    ) -> Result<bool, QueryError> {
        let context = worker.context;
        match self {
            Self::Series { set, range, .. } => {
                if newest {
                    set.read_newest(index, *range, &mut leaf.raw)?;
                } else {
                    set.read(index, *range, &mut leaf.raw)?;
                }
                let histograms = leaf.raw.histograms.iter().map(|h| histogram_size(&h.histogram).0);
                context.budget.count_read(leaf.raw.values.len() + histograms.sum::<u64>() as usize);
            }
            Self::Subquery { inner, grid, .. } => {
                let mut column = worker.take_column();
                inner.fill(index, worker, &mut column)?;
                context.budget.count_computed(grid.count);
                let full = column.present.is_full() && column.len() == grid.count;
                leaf.raw.histograms.clear();
                if full && leaf.raw.timestamps.len() == grid.count {
                    // The grid is the same for all series: the timestamps stand.
                    leaf.raw.values.clone_from(&column.values);
                } else {
                    leaf.raw.clear();
                    for (step, value) in column.iter() {
                        leaf.raw.push(grid.time(step), value);
                    }
                }
                for (step, histogram) in column.histograms.drain(..) {
                    let histogram = of_subquery(histogram);
                    leaf.raw.histograms.push(HistogramSample {
                        timestamp: grid.time(step),
                        start_timestamp: 0,
                        histogram,
                    });
                }
                worker.put_column(column);
            }
        }
        let totals = matches!(self, Self::Series { totals: true, .. });
        leaf.histograms.take(&mut leaf.raw, (keep_stale, totals), &context.budget)?;
        let held = leaf.raw.values.capacity();
        if held > leaf.reserved_samples {
            let more = (held - leaf.reserved_samples) as u64;
            match &mut leaf.reserved {
                Some(reserved) => reserved.grow(0, more.saturating_mul(16))?,
                none => *none = Some(context.budget.reserve(0, more.saturating_mul(16))?),
            }
            leaf.reserved_samples = held;
        }
        Ok(!keep_stale && leaf.without_stale())
    }
}

/// What a hint says of the sample before is no longer true of a selection of samples.
fn of_subquery(mut histogram: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    if matches!(histogram.hint, ResetHint::Reset | ResetHint::NotReset) {
        Arc::make_mut(&mut histogram).hint = ResetHint::Unknown;
    }
    histogram
}

/// What to say if a function for counters meets something else.
struct CounterCheck {
    said: AtomicBool,
}

/// A leaf.
pub(crate) struct Scan {
    input: Input,
    window: Window,
    kernel: Kernel,
    leaf: usize,
    span: Span,
    check: Option<CounterCheck>,
    counted: Counted,
    counters: Option<Arc<Counters>>,
    one_name: OnceLock<bool>,
}

impl Scan {
    /// A leaf that computes `kernel` over `window`, whose samples come from `input` and which stands at `span`. `counter` if the
    /// function is meant for counters.
    pub(crate) fn new(
        context: &Context,
        input: Input,
        window: Window,
        kernel: Kernel,
        span: Span,
        counter: bool,
    ) -> Self {
        let check = counter.then(|| CounterCheck { said: AtomicBool::new(false) });
        let counted = context.step_counts.as_ref().map_or(Counted::Nowhere, StepCounts::mode);
        let counters = context.profile.as_ref().and_then(Profile::current);
        if let (Some(counters), Input::Series { set, .. }) = (&counters, &input) {
            counters.reads(set);
        }
        let (leaf, one_name) = (context.new_leaf(), OnceLock::new());
        Self { input, window, kernel, leaf, span, check, counted, counters, one_name }
    }

    fn compute(
        &self,
        index: usize,
        worker: &mut Worker<'_>,
        leaf: &mut Leaf,
        out: &mut Column,
    ) -> Result<(), QueryError> {
        let keep_stale = self.kernel.sees_stale() && self.window.border.is_none();
        // Older samples matter to no other step.
        let newest = keep_stale && self.window.steps.count == 1;
        let cleaned = self.input.read(index, (keep_stale, newest), worker, leaf)?;
        let samples = if cleaned { &leaf.clean } else { &leaf.raw };
        let version = samples.timestamps_version;
        let (plan, grown) = leaf.plans.of(version, &samples.timestamps, &self.window.read);
        if let Some(reserved) = leaf.reserved.as_mut().filter(|_| grown > 0) {
            reserved.grow(0, grown as u64)?;
        }
        leaf.scratch.resets.exchange_stretches(&mut plan.stretches);
        let windows = Windows {
            timestamps: &samples.timestamps,
            values: &samples.values,
            bounds: plan.windows.bounds(),
            steps: self.window.read,
            budget: Some(&worker.context.budget),
        };
        out.reset(self.window.steps.count);
        let with_starts = worker.context.behaviour.start_timestamps;
        let starts = if with_starts { samples.start_timestamps.as_slice() } else { &[] };
        let overlaps = if starts.is_empty() {
            self.kernel.run(&windows, &self.window, &mut leaf.scratch, out);
            0
        } else {
            self.kernel.run_started(&windows, starts, &self.window, &mut leaf.scratch, out)
        };
        leaf.scratch.resets.exchange_stretches(&mut plan.stretches);
        if overlaps > 0 {
            let notes = [HistogramNote::StartOverlap(overlaps)];
            worker.context.note(&notes, self.span, self.input.labels(index).metric_name());
        }
        if !leaf.histograms.histograms.is_empty() {
            leaf.histograms.plan.compute(&leaf.histograms.timestamps, &self.window.read);
            let histograms = HistogramWindows {
                timestamps: &leaf.histograms.timestamps,
                histograms: &leaf.histograms.histograms,
                starts: if with_starts { &leaf.histograms.starts } else { &[] },
                bounds: leaf.histograms.plan.bounds(),
            };
            let both = Both {
                floats: &windows,
                float_starts: starts,
                histograms: &histograms,
                window: &self.window,
            };
            let notes = both.run(&self.kernel, out);
            if !notes.is_empty() {
                worker.context.note(&notes, self.span, self.input.labels(index).metric_name());
            }
        }
        let read = leaf.raw.values.len();
        if let Some(counters) = &self.counters {
            counters.add_samples((leaf.raw.values.len() + leaf.histograms.histograms.len()) as u64);
        }
        if let Some(counts) = &worker.context.step_counts {
            self.count(windows.bounds, &leaf.histograms, counts, out);
        }
        worker.worked(read)?;
        self.check_counter(index, worker.context, out);
        Ok(())
    }

    /// Counts what each step looks at: one sample, or those of its window. A histogram counts as several.
    fn count(&self, bounds: &[(u32, u32)], native: &LeafHistograms, counts: &StepCounts, out: &Column) {
        if self.counted == Counted::Nowhere {
            return;
        }
        let size = |histogram: &FloatHistogram| histogram_size(histogram).0;
        if self.kernel.is_newest() {
            out.present.ones().for_each(|step| counts.add(self.counted, step, 1));
            for (step, histogram) in &out.histograms {
                counts.add(self.counted, *step, size(histogram));
            }
            return;
        }
        for (step, (first, end)) in bounds.iter().enumerate() {
            counts.add(self.counted, step, u64::from(end - first));
        }
        let histograms = &native.histograms;
        if !histograms.is_empty() {
            for (step, (first, end)) in native.plan.bounds().iter().enumerate() {
                let window = histograms.get(*first as usize..*end as usize).unwrap_or_default();
                counts.add(self.counted, step, window.iter().map(|h| size(h)).sum());
            }
        }
    }

    fn check_counter(&self, index: usize, context: &Context, out: &Column) {
        let Some(check) = &self.check else { return };
        if check.said.load(Ordering::Relaxed) || out.present.is_empty() {
            return;
        }
        let (labels, name);
        let (name, all_the_same) = match &self.input {
            Input::Series { name: Some(name), .. } => (name.as_str(), true),
            _ => {
                labels = self.input.labels(index);
                name = labels.metric_name();
                (name, false)
            }
        };
        if context.behaviour.type_labels {
            self.check_type(&self.input.labels(index), context);
            return;
        }
        if all_the_same {
            check.said.store(true, Ordering::Relaxed);
        }
        let known = ["_total", "_sum", "_count", "_bucket"];
        if name.is_empty() || known.iter().any(|suffix| name.ends_with(suffix)) {
            return;
        }
        context.annotate(|a| {
            let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
            a.info(self.span, format!("{text} {}", quote(name.as_bytes())));
        });
    }
}

impl Scan {
    /// As [`Scan::check_counter`], by the label that tells the type.
    fn check_type(&self, labels: &Labels, context: &Context) {
        let (name, kind) = (labels.metric_name(), labels.value("__type__"));
        if name.is_empty() || kind == "counter" || kind == "histogram" {
            return;
        }
        let (kind, name) = (quote(kind.as_bytes()), quote(name.as_bytes()));
        let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\"";
        context.annotate(|a| a.info(self.span, format!("{text}, got {kind}: {name}")));
    }
}

impl Source for Scan {
    fn len(&self) -> usize {
        self.input.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.input.labels(index)
    }

    fn drops_name(&self, index: usize) -> bool {
        self.input.drops_name(index)
    }

    fn label_column(&self, name: &str) -> LabelColumn {
        match &self.input {
            Input::Series { set, .. } => set.label_column(name),
            Input::Subquery { inner, .. } => inner.label_column(name),
        }
    }

    fn is_distinct(&self) -> bool {
        match &self.input {
            Input::Series { .. } => true,
            Input::Subquery { inner, .. } => inner.is_distinct(),
        }
    }

    fn has_one_name(&self) -> bool {
        *self.one_name.get_or_init(|| match &self.input {
            Input::Series { set, name: Some(_), .. } => {
                ["__type__", "__unit__"].iter().all(|name| set.label_column(name).values.len() <= 1)
            }
            Input::Series { name: None, .. } => false,
            Input::Subquery { inner, .. } => inner.has_one_name(),
        })
    }

    fn may_tell(&self) -> bool {
        let interpolates = self.window.border.is_some();
        !self.kernel.sees_stale() || interpolates || matches!(self.input, Input::Subquery { .. })
    }

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        let mut leaf = worker.take_leaf(self.leaf);
        let result = self.compute(index, worker, &mut leaf, out);
        worker.put_leaf(self.leaf, leaf);
        result
    }
}

//! `sum`, `avg`, `count`, `min`, `max`, `group`, `stddev`, `stdvar`. Hot path.
//!
//! One accumulator a group and step; series come in order, so compensated sums do not depend on the number of threads.

use super::super::context::Context;
use super::super::fan_out::drain;
use super::super::matrix::{Matrix, Row};
use super::super::source::Source;
use super::folds::Folds;
use super::group::Groups;
use crate::ast::Grouping;
use crate::catalog::AggregatorId;
use crate::column::{Bitmap, Column};
use crate::failure::QueryError;
use crate::math::histogram_note::HistogramNote;
use crate::math::kahan::{KahanMean, KahanSum, KahanSums, Spread, Spreads};
use crate::span::Span;
use std::sync::Arc;

/// What happens to the values of one group at one step.
trait Accumulator: Copy {
    /// Before the first value.
    fn empty() -> Self;
    /// One value more.
    fn add(&mut self, value: f64);
    /// The answer, once there was a value.
    fn answer(self) -> f64;
}

/// What happens to the values of one group at all steps.
trait Accumulators {
    /// What each step takes, in bytes.
    const STEP_BYTES: usize;
    /// Before the first value of any step.
    fn empty(steps: usize) -> Self;
    /// One value more at each step.
    fn add_all(&mut self, values: &[f64]);
    /// One value more at one step.
    fn add(&mut self, step: usize, value: f64);
    /// The answers; those of steps without a value mean nothing.
    fn answers(self) -> Vec<f64>;
}

impl<A: Accumulator> Accumulators for Vec<A> {
    const STEP_BYTES: usize = size_of::<A>();
    fn empty(steps: usize) -> Self {
        vec![A::empty(); steps]
    }
    #[inline]
    fn add_all(&mut self, values: &[f64]) {
        for (state, value) in self.iter_mut().zip(values) {
            state.add(*value);
        }
    }
    #[inline]
    fn add(&mut self, step: usize, value: f64) {
        self[step].add(value);
    }
    fn answers(self) -> Vec<f64> {
        self.into_iter().map(A::answer).collect()
    }
}

impl Accumulators for KahanSums {
    const STEP_BYTES: usize = size_of::<KahanSum>();
    fn empty(steps: usize) -> Self {
        Self::new(steps)
    }
    #[inline]
    fn add_all(&mut self, values: &[f64]) {
        Self::add_all(self, values);
    }
    #[inline]
    fn add(&mut self, step: usize, value: f64) {
        Self::add(self, step, value);
    }
    fn answers(self) -> Vec<f64> {
        self.totals()
    }
}

/// Standard deviations (`ROOT`) or variances.
struct Deviations<const ROOT: bool>(Spreads);

impl<const ROOT: bool> Accumulators for Deviations<ROOT> {
    const STEP_BYTES: usize = size_of::<Spread>();
    fn empty(steps: usize) -> Self {
        Self(Spreads::new(steps))
    }
    #[inline]
    fn add_all(&mut self, values: &[f64]) {
        self.0.add_all(values);
    }
    #[inline]
    fn add(&mut self, step: usize, value: f64) {
        self.0.add(step, value);
    }
    fn answers(self) -> Vec<f64> {
        let mut variances = self.0.variances();
        if ROOT {
            variances.iter_mut().for_each(|variance| *variance = variance.sqrt());
        }
        variances
    }
}

impl Accumulator for KahanMean {
    fn empty() -> Self {
        Self::default()
    }
    #[inline]
    fn add(&mut self, value: f64) {
        Self::add(self, value);
    }
    fn answer(self) -> f64 {
        self.mean()
    }
}

#[derive(Clone, Copy)]
struct Count(f64);

impl Accumulator for Count {
    fn empty() -> Self {
        Self(0.0)
    }
    #[inline]
    fn add(&mut self, _value: f64) {
        self.0 += 1.0;
    }
    fn answer(self) -> f64 {
        self.0
    }
}

#[derive(Clone, Copy)]
struct One;

impl Accumulator for One {
    fn empty() -> Self {
        Self
    }
    #[inline]
    fn add(&mut self, _value: f64) {}
    fn answer(self) -> f64 {
        1.0
    }
}

/// The smallest value; `NaN` only if there is nothing else.
#[derive(Clone, Copy)]
struct Least(f64);

impl Accumulator for Least {
    fn empty() -> Self {
        Self(f64::NAN)
    }
    #[inline]
    fn add(&mut self, value: f64) {
        if self.0 > value || self.0.is_nan() {
            self.0 = value;
        }
    }
    fn answer(self) -> f64 {
        self.0
    }
}

/// The greatest value; `NaN` only if there is nothing else.
#[derive(Clone, Copy)]
struct Greatest(f64);

impl Accumulator for Greatest {
    fn empty() -> Self {
        Self(f64::NAN)
    }
    #[inline]
    fn add(&mut self, value: f64) {
        if self.0 < value || self.0.is_nan() {
            self.0 = value;
        }
    }
    fn answer(self) -> f64 {
        self.0
    }
}

/// The source of a reducing aggregation; the span is that of what is aggregated.
///
/// # Errors
/// As [`drain`], or too little memory.
pub(super) fn reduce(
    context: &Context,
    input: &dyn Source,
    grouping: &Grouping,
    (id, span): (AggregatorId, Span),
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let plan = |histograms| Plan { context, input, grouping, steps, span, histograms };
    let ignored = |name| Histograms::Ignored(name);
    match id {
        AggregatorId::Sum => run::<KahanSums>(&plan(Histograms::Folded { mean: false })),
        AggregatorId::Avg => run::<Vec<KahanMean>>(&plan(Histograms::Folded { mean: true })),
        AggregatorId::Count => run::<Vec<Count>>(&plan(Histograms::Counted)),
        AggregatorId::Group => run::<Vec<One>>(&plan(Histograms::Counted)),
        AggregatorId::Min => run::<Vec<Least>>(&plan(ignored("min"))),
        AggregatorId::Max => run::<Vec<Greatest>>(&plan(ignored("max"))),
        AggregatorId::Stddev => run::<Deviations<true>>(&plan(ignored("stddev"))),
        AggregatorId::Stdvar => run::<Deviations<false>>(&plan(ignored("stdvar"))),
        _ => Err(QueryError::internal(format!("the aggregator {id:?} does not reduce"))),
    }
}

/// What happens to native histograms.
#[derive(Debug, Clone, Copy)]
enum Histograms {
    /// They are summed up, or their mean is taken.
    Folded { mean: bool },
    /// They count as any float.
    Counted,
    /// They are passed over by the aggregator of this name.
    Ignored(&'static str),
}

/// What is aggregated and how.
struct Plan<'a> {
    context: &'a Context,
    input: &'a dyn Source,
    grouping: &'a Grouping,
    steps: usize,
    span: Span,
    histograms: Histograms,
}

/// The accumulators of one group, made when its first series with a value comes.
struct Group<A> {
    states: A,
    present: Bitmap,
    drops_name: bool,
    /// Empty until the first histogram comes.
    folds: Folds,
}

fn run<A: Accumulators>(plan: &Plan<'_>) -> Result<Arc<dyn Source>, QueryError> {
    let Plan { context, input, steps, span, .. } = *plan;
    let groups = Groups::new(context, input, plan.grouping)?;
    let mut memory = context.budget.reserve(0, 0)?;
    let mut states: Vec<Option<Group<A>>> = Vec::new();
    states.resize_with(groups.len(), || None);
    let state_bytes = (A::STEP_BYTES * steps) as u64;
    drain(context, input, steps, |index, column| {
        if !column.histograms.is_empty() {
            match plan.histograms {
                Histograms::Folded { .. } => {}
                Histograms::Counted => {
                    for (step, _) in std::mem::take(&mut column.histograms) {
                        column.set(step, 0.0);
                    }
                }
                Histograms::Ignored(name) => {
                    context.note(&[HistogramNote::IgnoredInGroup(name)], span, "");
                    column.histograms.clear();
                }
            }
        }
        if column.is_empty() {
            return Ok(());
        }
        let slot = &mut states[groups.of[index] as usize];
        if slot.is_none() {
            memory.grow(steps as u64, Column::bytes(steps).saturating_add(state_bytes))?;
        }
        let group = slot.get_or_insert_with(|| Group {
            states: A::empty(steps),
            present: Bitmap::new(steps),
            drops_name: false,
            folds: Folds::default(),
        });
        group.drops_name |= input.drops_name(index);
        if !column.histograms.is_empty() || !group.folds.is_empty() {
            let mean = matches!(plan.histograms, Histograms::Folded { mean: true });
            let metric = || input.labels(index);
            group.folds.add(column, &group.present, mean, &mut memory, |note| {
                context.note(&[note], span, metric().metric_name());
            })?;
        }
        group.present.or(&column.present);
        if column.present.is_full() {
            group.states.add_all(&column.values);
        } else {
            for (step, value) in column.iter() {
                group.states.add(step, value);
            }
        }
        Ok(())
    })?;
    let rows = states
        .into_iter()
        .zip(groups.labels)
        .filter_map(|(group, labels)| {
            let Group { states, present, drops_name, folds } = group?;
            let values = states.answers();
            let mut column = Column { values, present, histograms: Vec::new() };
            folds.finish(&mut column, |note| context.note(&[note], span, ""));
            Some(Row { labels, drops_name, column })
        })
        .collect();
    Ok(Arc::new(Matrix::new(rows, true, Some(memory))))
}

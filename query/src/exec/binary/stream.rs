//! Operations whose series meet in pairs that are known from labels alone: nothing is held but what several series share. Hot path.

use super::super::context::Context;
use super::super::matrix::Matrix;
use super::super::source::{Source, Worker};
use super::sides::Sides;
use crate::ast::Cardinality;
use crate::column::Column;
use crate::failure::QueryError;
use kymo_storage::model::Labels;
use std::sync::Arc;

/// What a pair takes besides the labels of its result.
const PAIR_BYTES: u64 = 48;
/// After so many pairs the budget is asked whether to go on.
const CHECK_EVERY: usize = 256;

/// `many op one` for pairs of series.
struct Pairs {
    sides: Sides,
    /// Series of both sides.
    pairs: Vec<(u32, u32)>,
    labels: Vec<Labels>,
    drops_name: Vec<bool>,
}

/// The source of an operation in which each group has one series on the one side (and, one to one, on the other).
///
/// # Errors
/// As [`Matrix::collect`].
pub(super) fn build(
    context: &Context,
    mut sides: Sides,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let mut pairs = Vec::new();
    for meeting in &sides.meetings {
        if let Some(one) = meeting.one.first() {
            pairs.extend(meeting.many.iter().map(|many| (*many as u32, *one as u32)));
        }
    }
    // In the order of the many side, so that neighbours in the store are read one after the other.
    pairs.sort_unstable();
    if sides.operation.matching.card != Cardinality::OneToOne && !sides.one.is_ready() {
        sides.one = Arc::new(Matrix::collect(context, &*sides.one, steps)?);
    }
    context.hold(0, pairs.len() as u64 * PAIR_BYTES)?;
    // Each thread computes the one side in a column of its own.
    context.hold(0, Column::bytes(steps).saturating_mul(context.threads as u64 + 1))?;
    let mut labels = Vec::with_capacity(pairs.len());
    for (at, (many, one)) in pairs.iter().enumerate() {
        if at % CHECK_EVERY == 0 {
            context.budget.check()?;
        }
        let (many, one) = (sides.many.labels(*many as usize), sides.one.labels(*one as usize));
        let result = sides.result_labels(context, &many, &one);
        context.hold(0, result.as_bytes().len() as u64)?;
        labels.push(result);
    }
    let drops_name = pairs
        .iter()
        .map(|(many, _)| sides.drops_name(context, sides.many.drops_name(*many as usize)))
        .collect();
    Ok(Arc::new(Pairs { sides, pairs, labels, drops_name }))
}

impl Source for Pairs {
    fn len(&self) -> usize {
        self.pairs.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.labels[index].clone()
    }

    fn drops_name(&self, index: usize) -> bool {
        self.drops_name[index]
    }

    fn is_distinct(&self) -> bool {
        true
    }

    fn is_ready(&self) -> bool {
        self.sides.many.is_ready() && self.sides.one.is_ready()
    }

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        let (many, one) = self.pairs[index];
        self.sides.many.fill(many as usize, worker, out)?;
        let mut other = worker.take_column();
        self.sides.one.fill(one as usize, worker, &mut other)?;
        let met = self.sides.element().combine(out, &other);
        worker.context.note(&met.notes, self.sides.operation.span, "");
        worker.put_column(other);
        Ok(())
    }
}

//! Operations with a vector on both sides: which way to compute them.

use super::super::context::Context;
use super::super::fan_out::drain;
use super::super::matrix::{OnSame, distinct};
use super::super::source::{Source, Worker};
use super::sides::{Meeting, Operation, Sides};
use super::{general, stream};
use crate::ast::Cardinality;
use crate::column::Column;
use crate::failure::QueryError;
use kymo_storage::model::Labels;
use std::collections::HashSet;
use std::sync::Arc;

/// The source of `left op right` for arithmetic and comparison.
///
/// # Errors
/// Groups with more series than their side may have at one step, results that are the same.
pub(super) fn build(
    context: &Context,
    left: Arc<dyn Source>,
    right: Arc<dyn Source>,
    operation: Operation,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let sides = Sides::new(context, left, right, operation)?;
    let one_to_one = sides.operation.matching.card == Cardinality::OneToOne;
    let simple = sides.operation.matching.fill.is_none()
        && sides.meetings.iter().all(|m| {
            m.many.is_empty() || m.one.is_empty() || (m.one.len() == 1 && (!one_to_one || m.many.len() == 1))
        })
        // A side with a group of several series is an error where they overlap, even if nothing meets them.
        && sides.meetings.iter().all(|m| m.one.len() <= 1);
    if simple
        && (one_to_one && sides.operation.matching.include.is_empty() || results_differ(context, &sides)?)
    {
        let ours: Vec<usize> = alone(&sides, |m| (&m.many, m.one.is_empty()));
        tell(context, &*sides.many, ours, steps)?;
        let theirs: Vec<usize> = alone(&sides, |m| (&m.one, m.many.is_empty()));
        tell(context, &*sides.one, theirs, steps)?;
        return stream::build(context, sides, steps);
    }
    let results = general::build(context, &sides, steps)?;
    distinct(context, Arc::new(results), steps, OnSame::Merge)
}

/// The series of one side that meet none of the other.
fn alone<'a>(sides: &'a Sides, of: impl Fn(&'a Meeting) -> (&'a Vec<usize>, bool)) -> Vec<usize> {
    let mut alone: Vec<usize> =
        sides.meetings.iter().map(of).filter(|side| side.1).flat_map(|side| side.0).copied().collect();
    alone.sort_unstable();
    alone
}

/// Some series of a source, of which only what they tell the user counts.
struct Chosen<'a> {
    source: &'a dyn Source,
    indices: Vec<usize>,
}

impl Source for Chosen<'_> {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.source.labels(self.indices[index])
    }

    fn is_distinct(&self) -> bool {
        self.source.is_distinct()
    }

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        self.source.fill(self.indices[index], worker, out)
    }
}

/// Computes series of which nothing is made, for what they may tell the user.
fn tell(context: &Context, source: &dyn Source, indices: Vec<usize>, steps: usize) -> Result<(), QueryError> {
    if indices.is_empty() || !source.may_tell() {
        return Ok(());
    }
    drain(context, &Chosen { source, indices }, steps, |_, _| Ok(()))
}

/// Whether no two results have the same labels.
fn results_differ(context: &Context, sides: &Sides) -> Result<bool, QueryError> {
    let mut memory = context.budget.reserve(0, 0)?;
    let mut seen = HashSet::new();
    for meeting in &sides.meetings {
        let Some(one) = meeting.one.first() else { continue };
        let one = sides.one.labels(*one);
        for many in &meeting.many {
            let labels = sides.result_labels(context, &sides.many.labels(*many), &one);
            memory.grow(0, labels.as_bytes().len() as u64 + 48)?;
            if !seen.insert(labels) {
                return Ok(false);
            }
        }
        context.budget.check()?;
    }
    Ok(true)
}

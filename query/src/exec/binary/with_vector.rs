//! Operations with a vector on both sides: which way to compute them.

use super::super::context::Context;
use super::super::matrix::{OnSame, distinct};
use super::super::source::Source;
use super::sides::{Operation, Sides};
use super::{general, stream};
use crate::ast::Cardinality;
use crate::failure::QueryError;
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
    let sides = Sides::new(left, right, operation);
    let one_to_one = sides.operation.matching.card == Cardinality::OneToOne;
    let simple = sides.operation.matching.fill.is_none()
        && sides.meetings.iter().all(|m| {
            m.many.is_empty() || m.one.is_empty() || (m.one.len() == 1 && (!one_to_one || m.many.len() == 1))
        })
        // A side with a group of several series is an error where they overlap, even if nothing meets them.
        && sides.meetings.iter().all(|m| m.one.len() <= 1);
    if simple
        && (one_to_one && sides.operation.matching.include.is_empty() || results_differ(context, &sides))
    {
        return stream::build(context, sides, steps);
    }
    let results = general::build(context, &sides, steps)?;
    distinct(context, Arc::new(results), steps, OnSame::Merge)
}

/// Whether no two results have the same labels.
fn results_differ(context: &Context, sides: &Sides) -> bool {
    let mut seen = HashSet::new();
    for meeting in &sides.meetings {
        let Some(one) = meeting.one.first() else { continue };
        let one = sides.one.labels(*one);
        for many in &meeting.many {
            if !seen.insert(sides.result_labels(context, &sides.many.labels(*many), &one)) {
                return false;
            }
        }
    }
    true
}

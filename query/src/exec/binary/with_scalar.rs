//! A vector and a scalar. Hot path.

use super::super::adapted::mapped_columns;
use super::super::context::Context;
use super::super::matrix::{OnSame, nameless};
use super::super::scalar::Scalar;
use super::super::source::Source;
use super::elements::{Element, Met};
use super::makes_new;
use crate::ast::BinaryOp;
use crate::column::Column;
use crate::failure::QueryError;
use crate::math::elementwise::{compare, operate};
use crate::span::Span;
use std::sync::Arc;

/// What is computed.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// The operator.
    pub(super) op: BinaryOp,
    /// Comparisons answer 0 and 1.
    pub(super) return_bool: bool,
    /// The scalar stands on the left.
    pub(super) swapped: bool,
    /// Where the operation stands.
    pub(super) span: Span,
}

/// The source of `vector op scalar`, or of `scalar op vector` if swapped.
///
/// # Errors
/// As [`nameless`].
pub(super) fn build(
    context: &Context,
    vector: Arc<dyn Source>,
    scalar: Scalar,
    operation: &Operation,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let Operation { op, return_bool, swapped, span } = *operation;
    let element = Element { op, return_bool, swapped };
    let note = move |met: Met, context: &Context| context.note(&met.notes, span, "");
    if matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower) {
        return Ok(mapped_columns(vector, move |column: &mut Column, context: &Context| {
            note(element.with_scalar(column, |step| scalar.at(step)), context);
        }));
    }
    if op.is_comparison() && !return_bool {
        return Ok(mapped_columns(vector, move |column: &mut Column, context: &Context| {
            for step in 0..column.len() {
                let (a, b) = order(column.values[step], scalar.at(step), swapped);
                if !compare(op, a, b) {
                    column.present.clear(step);
                }
            }
            note(element.with_scalar(column, |step| scalar.at(step)), context);
        }));
    }
    let changed: Arc<dyn Source> = match scalar {
        Scalar::Same(scalar) if !swapped => {
            mapped_columns(vector, move |column: &mut Column, context: &Context| {
                column.map(|v| operate(op, v, scalar));
                note(element.with_scalar(column, |_| scalar), context);
            })
        }
        scalar => mapped_columns(vector, move |column: &mut Column, context: &Context| {
            for (step, value) in column.values.iter_mut().enumerate() {
                let (a, b) = order(*value, scalar.at(step), swapped);
                *value = operate(op, a, b);
            }
            note(element.with_scalar(column, |step| scalar.at(step)), context);
        }),
    };
    debug_assert!(makes_new(op) || return_bool);
    nameless(context, changed, steps, OnSame::Merge)
}

#[inline]
fn order(vector: f64, scalar: f64, swapped: bool) -> (f64, f64) {
    if swapped { (scalar, vector) } else { (vector, scalar) }
}

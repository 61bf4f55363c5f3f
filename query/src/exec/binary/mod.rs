//! Operators with a vector on at least one side.

mod elements;
mod general;
mod set;
mod sides;
mod stream;
mod with_scalar;
mod with_vector;

use super::build::{scalar, vector};
use super::context::Context;
use super::source::Source;
use crate::ast::{BinaryOp, ValueType};
use crate::failure::QueryError;
use crate::plan::{Grid, Matching, Node};
use crate::span::Span;
use std::sync::Arc;

/// An operation.
pub(crate) struct Request {
    /// The operator.
    pub(crate) op: BinaryOp,
    /// The left side.
    pub(crate) left: Box<Node>,
    /// The right side.
    pub(crate) right: Box<Node>,
    /// How the sides are paired.
    pub(crate) matching: Matching,
    /// Where it stands.
    pub(crate) span: Span,
}

/// The source of an operation.
///
/// # Errors
/// Sides that cannot be paired as asked, and as [`vector`].
pub(crate) fn build(context: &Context, request: Request, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let Request { op, left, right, matching, span } = request;
    let steps = grid.count;
    match (left.value_type, right.value_type) {
        (ValueType::Vector, ValueType::Scalar) => {
            let left = vector(context, *left, grid)?;
            let right = scalar(context, *right, grid)?;
            let operation =
                with_scalar::Operation { op, return_bool: matching.return_bool, swapped: false, span };
            with_scalar::build(context, left, right, &operation, steps)
        }
        (ValueType::Scalar, ValueType::Vector) => {
            let left = scalar(context, *left, grid)?;
            let right = vector(context, *right, grid)?;
            let operation =
                with_scalar::Operation { op, return_bool: matching.return_bool, swapped: true, span };
            with_scalar::build(context, right, left, &operation, steps)
        }
        _ => {
            let left = vector(context, *left, grid)?;
            let right = vector(context, *right, grid)?;
            match op {
                BinaryOp::And => set::and(context, left, &*right, &matching, steps, true),
                BinaryOp::Unless => set::and(context, left, &*right, &matching, steps, false),
                BinaryOp::Or => set::or(context, &*left, &*right, &matching, steps),
                _ => with_vector::build(context, left, right, sides::Operation { op, matching, span }, steps),
            }
        }
    }
}

/// Whether the result is something else than what the operator was given, so that it has no name.
fn makes_new(op: BinaryOp) -> bool {
    !op.is_comparison() && !op.is_set() && !matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
}

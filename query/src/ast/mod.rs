//! The syntax tree: plain values with the place in the text each came from.
//!
//! # How deep a tree can be
//!
//! Every tree the parser returns is at most [`HEIGHT_MAX`] nodes high, whatever made it high: brackets (these alone are held
//! to 128 levels) or a flat chain such as `a or b or c or ...`, which is a left-deep tree with one level an operator. A text
//! that needs more is refused with a message. So whoever walks a tree may recurse without a guard of its own: checking,
//! printing, planning and dropping need a bounded stack. An n-ary node for chains was the other choice; it would have made
//! every reader of the tree handle two shapes of the same operator.

mod duration;
mod expr;
mod operator;

pub use crate::value_type::ValueType;
pub(crate) use duration::SECONDS_MAX;
pub use duration::{DurationExpr, DurationOp};
pub use expr::{
    Aggregate, At, Binary, Call, Expr, Grouping, MatrixSelector, NumberLiteral, Paren, StringLiteral,
    Subquery, Unary, VectorSelector,
};
pub use operator::{BinaryOp, Cardinality, Fill, UnaryOp, VectorMatching};

/// The greatest height of a tree (a single literal has height one).
pub const HEIGHT_MAX: usize = 256;

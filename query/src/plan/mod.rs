//! From a syntax tree to a plan: all times resolved, constants folded, equal selectors shared, parts that do not change
//! from step to step marked.

mod build;
mod grid;
mod invariant;
mod node;

pub(crate) use build::{Question, plan, read_range};
pub(crate) use grid::Grid;
pub(crate) use node::{Matching, Node, NodeKind, Plan, Select, Window, WindowSource};

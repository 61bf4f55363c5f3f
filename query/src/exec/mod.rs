//! Execution: one series at a time, all steps at once.
//!
//! A plan is turned into [`source::Source`]s from the leaves up. A source knows its series and their labels before any sample is
//! read, and computes any one of them when asked, so a chain of functions over a selector never holds more than one series a
//! thread. Operators that need all of their input at once (aggregations, set operators, sorting) drain it when they are built.

mod adapted;
mod aggregate;
mod binary;
mod build;
mod call;
pub(crate) mod context;
mod fan_out;
mod histogram_kernel;
mod kernel;
mod matrix;
mod metered;
mod operator;
pub(crate) mod pool;
mod profile;
mod result;
mod scalar;
mod scan;
mod source;
mod step_counts;

pub use operator::Operator;
pub(crate) use result::run;

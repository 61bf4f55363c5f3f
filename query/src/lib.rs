//! PromQL for Kymo: from text to a streaming execution over [`kymo_storage::api`].
//!
//! Floors, lowest first: [`span`], [`error`]; [`ast`], [`catalog`]; `syntax`; `check`, `print`.

pub mod ast;
pub mod catalog;
pub mod error;
pub mod span;

pub use error::ParseError;
pub use span::Span;

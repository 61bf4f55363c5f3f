//! PromQL for Kymo: from text to a streaming execution over [`kymo_storage::api`].
//!
//! Floors, lowest first: [`span`], [`mod@format`], `column`; [`catalog`], [`error`], [`value`]; [`ast`], [`failure`], [`limits`];
//! `math`; [`syntax`], [`print`](mod@print); [`check`](mod@check), [`pretty`](mod@pretty); `plan`; `exec`; [`engine`].
//!
//! [`Engine`] answers queries over anything that is a [`Queryable`](kymo_storage::api::Queryable).

mod annotations;
pub mod ast;
mod budget;
pub mod catalog;
pub mod check;
mod clock;
mod column;
pub mod engine;
pub mod error;
mod exec;
pub mod failure;
pub mod format;
pub mod histogram_json;
pub mod limits;
mod math;
mod plan;
pub mod pretty;
pub mod print;
pub mod span;
mod sync;
pub mod syntax;
pub mod value;
mod value_type;

pub use budget::{Held, MemoryUse, OnLong, Progress};
pub use engine::features;
pub use engine::{Engine, EngineOptions, QueryOptions, QueryResult, QueryStats};
pub use error::ParseError;
pub use exec::Operator;
pub use failure::{FailureKind, QueryError};
pub use limits::QueryLimits;
pub use span::Span;
pub use syntax::ParseOptions;
pub use value::{HistogramPoint, Point, Series, Value, VectorSample};
pub use value_type::ValueType;

/// Reads and checks an expression: the one way from a text to a tree that can be planned.
///
/// # Errors
/// All mistakes found, never an empty list. Clients are shown the first.
///
/// ```
/// let options = kymo_query::ParseOptions::default();
/// let expr = kymo_query::parse("sum(rate(up[300])) by(job)", &options).unwrap();
/// assert_eq!(expr.to_string(), "sum by (job) (rate(up[5m]))");
/// let errors = kymo_query::parse("rate(up)", &options).unwrap_err();
/// let text = "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector";
/// assert_eq!(errors[0].to_string(), text);
/// ```
pub fn parse(text: &str, options: &ParseOptions) -> Result<ast::Expr, Vec<ParseError>> {
    let mut expr = syntax::parse(text, options)?;
    check::check(&mut expr, text)?;
    Ok(expr)
}

#[cfg(test)]
mod tests {
    /// Also in releases: what overflows is a bug that must not become a wrong value.
    #[test]
    #[should_panic(expected = "overflow")]
    fn arithmetic_is_checked_in_every_profile() {
        let most = std::hint::black_box(u64::MAX);
        assert_ne!(most + std::hint::black_box(1), 0, "it wrapped");
    }
}

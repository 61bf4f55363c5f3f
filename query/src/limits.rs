//! The limits of one query: each has a name, a default and a message that says what was met.

use crate::failure::{FailureKind, QueryError};
use std::time::Duration;

/// What one query may use. Passing a limit ends the query with an error that names the limit, its value and the value met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryLimits {
    /// The longest text, in bytes.
    pub text_bytes: usize,
    /// How deep brackets may nest.
    pub depth: usize,
    /// The most samples held in memory at one time.
    pub samples: u64,
    /// The most steps of a range query, not counting the first.
    pub points_per_series: u64,
    /// The most series that one selector may find.
    pub series: u64,
    /// The most memory for intermediate and final results, in bytes.
    pub bytes: u64,
    /// The longest time from start to end.
    pub timeout: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            text_bytes: 64 << 10,
            depth: 128,
            samples: 50_000_000,
            points_per_series: 11_000,
            series: 5_000_000,
            bytes: 2 << 30,
            timeout: Duration::from_secs(120),
        }
    }
}

/// Samples in memory, in the words clients of Prometheus know.
pub(crate) fn too_many_samples(limit: u64, met: u64) -> QueryError {
    QueryError::limit(
        FailureKind::Execution,
        format!(
            "query processing would load too many samples into memory in query execution: the limit of samples is {limit}, the query needs {met}"
        ),
    )
}

/// Memory of one query or of all queries together.
pub(crate) fn too_many_bytes(name: &str, limit: u64, met: u64) -> QueryError {
    QueryError::limit(
        FailureKind::Execution,
        format!(
            "the query needs too much memory: the limit of {name} is {limit} bytes, the query would bring it to {met}"
        ),
    )
}

/// The longest value a label may be given by a query, in bytes: replacements of replacements grow without bound.
pub(crate) const LABEL_VALUE_BYTES_MAX: usize = 1 << 20;

/// The most that matching one value of a label may be, as [`kymo_storage::model::Regex::cost`] counts: a match cannot be
/// interrupted. Any expression fits values of 8 KiB, usual ones fit the longest there are.
pub(crate) const MATCH_COST_MAX: u64 = 1 << 24;

/// A value too long for the expression it is matched with.
pub(crate) fn too_costly_match(limit: u64, met: u64) -> QueryError {
    QueryError::limit(
        FailureKind::Execution,
        format!(
            "a label value is too long for so large a regular expression: the limit of bytes of the value times KiB of the expression is {limit}, this is {met}; use a shorter value or a simpler expression"
        ),
    )
}

/// A value that a query makes for a label.
pub(crate) fn too_long_label(limit: usize, met: usize) -> QueryError {
    QueryError::limit(
        FailureKind::Execution,
        format!(
            "the query makes a label value that is too long: the limit of bytes of a label value is {limit}, the value may have {met}"
        ),
    )
}

/// Series of one selector.
pub(crate) fn too_many_series(limit: u64, met: u64) -> QueryError {
    QueryError::limit(
        FailureKind::Execution,
        format!("a selector finds too many series: the limit of series is {limit}, it finds {met}"),
    )
}

/// Steps of a range query, in the words clients of Prometheus know.
pub(crate) fn too_many_points(limit: u64, met: u64) -> QueryError {
    let mut grouped = limit.to_string();
    let mut at = grouped.len();
    while at > 3 {
        at -= 3;
        grouped.insert(at, ',');
    }
    QueryError::limit(
        FailureKind::BadData,
        format!(
            "exceeded maximum resolution of {grouped} points per timeseries. Try decreasing the query resolution (?step=XX); the query asks for {met}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_the_limit_and_what_was_met() {
        let text = too_many_points(11_000, 20_000).message;
        assert!(text.starts_with("exceeded maximum resolution of 11,000 points per timeseries."), "{text}");
        assert!(too_many_samples(10, 11).message.contains("limit of samples is 10, the query needs 11"));
        assert!(too_many_series(1, 2).message.contains("is 1, it finds 2"));
        assert!(too_many_bytes("bytes", 1, 2).message.contains("the limit of bytes is 1 bytes"));
    }
}

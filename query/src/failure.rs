//! Why a query has no answer: a kind that says whose fault it is, and a message for the person who asked.

use crate::error::ParseError;
use kymo_storage::error::{Error, ErrorKind};
use std::fmt;

/// Whose fault it is that a query has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The text does not parse or does not type-check, or the parameters make no sense.
    BadData,
    /// The query cannot be evaluated on this data, or passes a limit.
    Execution,
    /// The time is up.
    Timeout,
    /// The caller left.
    Canceled,
    /// The store refused or holds damaged data.
    Storage,
    /// A bug of Kymo.
    Internal,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryError {
    /// Whose fault it is.
    pub kind: FailureKind,
    /// What is wrong, in the words clients of Prometheus know where there are such.
    pub message: String,
    /// All mistakes in the text, if that is what is wrong; `message` holds the first.
    pub parse_errors: Vec<ParseError>,
    /// Whether a limit was passed; `message` names it.
    pub is_limit: bool,
}

impl QueryError {
    /// An error of this kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), parse_errors: Vec::new(), is_limit: false }
    }

    /// A limit is passed.
    pub(crate) fn limit(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { is_limit: true, ..Self::new(kind, message) }
    }

    /// The query cannot be evaluated on this data.
    pub fn execution(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Execution, message)
    }

    /// A broken invariant of our own.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Internal, message)
    }

    /// Two series of one vector have the same labels.
    pub(crate) fn same_labelset() -> Self {
        Self::execution("vector cannot contain metrics with the same labelset")
    }

    /// The time is up.
    pub(crate) fn timeout() -> Self {
        Self::new(FailureKind::Timeout, "query timed out in expression evaluation")
    }

    /// The caller left.
    pub(crate) fn canceled() -> Self {
        Self::new(FailureKind::Canceled, "query was canceled in expression evaluation")
    }
}

impl From<Vec<ParseError>> for QueryError {
    fn from(parse_errors: Vec<ParseError>) -> Self {
        let message = parse_errors.first().map_or_else(|| "parse error".to_owned(), ToString::to_string);
        Self { kind: FailureKind::BadData, message, parse_errors, is_limit: false }
    }
}

impl From<Error> for QueryError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Cancelled => Self::canceled(),
            ErrorKind::Deadline => Self::timeout(),
            ErrorKind::LimitExceeded => Self::limit(FailureKind::Execution, error.to_string()),
            ErrorKind::Internal => Self::internal(error.to_string()),
            _ => Self::new(FailureKind::Storage, format!("expanding series: {error}")),
        }
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for QueryError {}

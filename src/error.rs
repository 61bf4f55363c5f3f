//! `Error`: one error for every call, with a kind that says what the caller can do.

use kymo_query::{FailureKind, ParseError, QueryError};
use kymo_storage::db::Refusal;
use kymo_storage::model::RegexError;
use std::fmt;

pub use kymo_storage::ErrorKind;

/// The result of every fallible call.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong. [`Error::kind`] is the contract and says what to do; texts may change.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    mistakes: Vec<Mistake>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// A mistake in a PromQL text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mistake {
    /// Line and column of the first byte it concerns, both from 1; `None` if it concerns the text as a whole.
    pub position: Option<(u32, u32)>,
    /// The bytes of the text it concerns.
    pub bytes: Option<std::ops::Range<usize>>,
    /// What is wrong, without the position.
    pub message: String,
}

impl Error {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// All mistakes in the PromQL text, if that is what is wrong, in the order they were found; else nothing.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Whether the same call may succeed later without anything being changed by the caller.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind, ErrorKind::Unavailable | ErrorKind::Deadline)
    }

    /// An error of `kind`.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), mistakes: Vec::new(), source: None }
    }

    /// The call can never succeed.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// An answer to a write on a database that was opened for reading.
    pub(crate) fn read_only() -> Self {
        Self::invalid("the database is opened for reading; a writer opens it by Db::open")
    }
}

/// Does `work`; a panic in it is a bug of Kymo, which ends the call and not the caller.
pub(crate) fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Error::new(ErrorKind::Internal, format!("the call ended in a panic, which is a bug: {text}")))
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as &(dyn std::error::Error + 'static))
    }
}

impl From<kymo_storage::Error> for Error {
    fn from(error: kymo_storage::Error) -> Self {
        let kind = match error.io_kind() {
            // Another process holds the directory.
            Some(std::io::ErrorKind::WouldBlock) => ErrorKind::Unavailable,
            Some(std::io::ErrorKind::NotFound) => ErrorKind::NotFound,
            _ => error.kind(),
        };
        Self { message: error.to_string(), source: Some(Box::new(error)), ..Self::new(kind, "") }
    }
}

impl From<QueryError> for Error {
    fn from(error: QueryError) -> Self {
        let kind = match error.kind {
            _ if error.is_limit => ErrorKind::LimitExceeded,
            FailureKind::BadData | FailureKind::Execution => ErrorKind::Invalid,
            FailureKind::Timeout => ErrorKind::Deadline,
            FailureKind::Canceled => ErrorKind::Cancelled,
            FailureKind::Storage => ErrorKind::Io,
            FailureKind::Internal => ErrorKind::Internal,
        };
        let mistakes = error.parse_errors.iter().map(Mistake::from).collect();
        Self { mistakes, ..Self::new(kind, error.message) }
    }
}

impl From<Vec<ParseError>> for Error {
    fn from(errors: Vec<ParseError>) -> Self {
        Self::from(QueryError::from(errors))
    }
}

impl From<&ParseError> for Mistake {
    fn from(error: &ParseError) -> Self {
        let bytes = error.span.map(|span| span.start as usize..span.end as usize);
        Self { position: error.position, bytes, message: error.message.clone() }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let at = refusal.timestamp.map_or(String::new(), |time| format!(" at {time}"));
        Self::new(refusal.kind, format!("{}{at}: {}", refusal.labels, refusal.reason))
    }
}

impl From<RegexError> for Error {
    fn from(error: RegexError) -> Self {
        Self { message: error.to_string(), source: Some(Box::new(error)), ..Self::invalid("") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let error = guarded::<()>(|| panic!("the sentence of an invariant")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(error.to_string().contains("the sentence of an invariant"));
    }

    #[test]
    fn causes_stay_to_be_looked_at() {
        let cause = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = Error::from(kymo_storage::Error::io("write /data/wal", cause));
        assert_eq!(error.kind(), ErrorKind::Io);
        let source = std::error::Error::source(&error).and_then(std::error::Error::source).unwrap();
        assert_eq!(
            source.downcast_ref::<std::io::Error>().map(std::io::Error::kind),
            Some(std::io::ErrorKind::StorageFull)
        );
    }
}

//! The one table that says which HTTP status and which `errorType` a failure has.

use axum::http::StatusCode;
use kymo_query::{FailureKind, QueryError};
use kymo_storage::{Error, ErrorKind};

/// Who asked: the same kind of failure has different answers for a query and for a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A query, or any other question.
    Read,
    /// Samples coming in.
    Write,
}

/// A failure on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The status of the response.
    pub status: StatusCode,
    /// `errorType` of the envelope.
    pub error_type: &'static str,
    /// `error` of the envelope.
    pub message: String,
}

/// The status nginx gave to "the client closed the request"; only logs and metrics see it.
const CLIENT_CLOSED_REQUEST: u16 = 499;

impl ApiError {
    /// The answer to a failure of `kind`.
    pub fn new(side: Side, kind: ErrorKind, message: impl Into<String>) -> Self {
        let (status, error_type) = row(side, kind);
        Self { status, error_type, message: message.into() }
    }

    /// A parameter is missing or wrong: 400 `bad_data`.
    pub fn bad_data(message: impl Into<String>) -> Self {
        Self::new(Side::Read, ErrorKind::Invalid, message)
    }

    /// The client has left; nobody reads this.
    pub fn cancelled() -> Self {
        Self::new(Side::Read, ErrorKind::Cancelled, "the client closed the request")
    }

    /// `invalid parameter "name": cause`.
    pub fn parameter(name: &str, cause: impl std::fmt::Display) -> Self {
        Self::bad_data(format!("invalid parameter {name:?}: {cause}"))
    }

    /// 413: the body is larger than it may be.
    pub fn body_too_large(message: impl Into<String>) -> Self {
        Self { status: StatusCode::PAYLOAD_TOO_LARGE, ..Self::bad_data(message) }
    }

    /// 408: the body comes too slowly.
    pub fn body_too_slow(message: impl Into<String>) -> Self {
        let (status, error_type) = (StatusCode::REQUEST_TIMEOUT, "timeout");
        Self { status, error_type, message: message.into() }
    }

    /// 415: the body is of a type or encoding that is not accepted.
    pub fn unsupported_media(message: impl Into<String>) -> Self {
        Self { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, ..Self::bad_data(message) }
    }

    /// Why a query has no answer.
    pub fn query(error: &QueryError) -> Self {
        let kind = match error.kind {
            FailureKind::BadData => ErrorKind::Invalid,
            FailureKind::Execution => ErrorKind::LimitExceeded,
            FailureKind::Timeout => ErrorKind::Deadline,
            FailureKind::Canceled => ErrorKind::Cancelled,
            FailureKind::Storage => ErrorKind::Io,
            FailureKind::Internal => ErrorKind::Internal,
        };
        Self::new(Side::Read, kind, error.message.clone())
    }

    /// A failure of storage.
    pub fn storage(side: Side, error: &Error) -> Self {
        Self::new(side, error.kind(), error.to_string())
    }
}

fn row(side: Side, kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::Invalid | ErrorKind::OutOfBounds | ErrorKind::Duplicate => {
            (StatusCode::BAD_REQUEST, "bad_data")
        }
        ErrorKind::LimitExceeded => match side {
            Side::Read => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
            Side::Write => (StatusCode::TOO_MANY_REQUESTS, "execution"),
        },
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ErrorKind::Cancelled => {
            (StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST), "canceled")
        }
        ErrorKind::Deadline => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_row() {
        let cases = [
            (ErrorKind::Invalid, 400, 400, "bad_data"),
            (ErrorKind::OutOfBounds, 400, 400, "bad_data"),
            (ErrorKind::Duplicate, 400, 400, "bad_data"),
            (ErrorKind::LimitExceeded, 422, 429, "execution"),
            (ErrorKind::NotFound, 404, 404, "not_found"),
            (ErrorKind::Unavailable, 503, 503, "unavailable"),
            (ErrorKind::Cancelled, 499, 499, "canceled"),
            (ErrorKind::Deadline, 503, 503, "timeout"),
            (ErrorKind::Corrupt, 500, 500, "internal"),
            (ErrorKind::Io, 500, 500, "internal"),
            (ErrorKind::Internal, 500, 500, "internal"),
        ];
        for (kind, read, write, error_type) in cases {
            assert_eq!(row(Side::Read, kind), (StatusCode::from_u16(read).unwrap(), error_type), "{kind:?}");
            assert_eq!(row(Side::Write, kind).0.as_u16(), write, "{kind:?}");
        }
    }
}

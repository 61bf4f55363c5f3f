//! One error for the whole crate: a kind that says what the caller can do, a context that says what and where, a source.

use std::fmt;

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What the caller can do about an [`Error`]. The kinds are the contract; texts may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request can never succeed: correct it.
    Invalid,
    /// A sample lies outside what is accepted (too old, too far in the future); others of its batch may be in.
    OutOfBounds,
    /// A sample conflicts with one already stored at the same timestamp; others of its batch may be in.
    Duplicate,
    /// A named limit was met: ask for less, or raise it.
    LimitExceeded,
    /// There is no such thing.
    NotFound,
    /// Starting, stopping, queue full or read-only: try again later.
    Unavailable,
    /// The caller left.
    Cancelled,
    /// The time is up.
    Deadline,
    /// Bytes on disk fail their check; the text names file and offset.
    Corrupt,
    /// The operating system refused.
    Io,
    /// A bug of Kymo; the text holds the sentence of the invariant.
    Internal,
}

/// What went wrong, where, and what it means for the caller.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of `kind`; `context` says in the present tense what was attempted, on what, and what was met.
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// The request can never succeed.
    pub fn invalid(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, context)
    }

    /// Stored bytes fail their check; name the file and the offset.
    pub fn corrupt(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, context)
    }

    /// A broken invariant of our own.
    pub fn internal(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, context)
    }

    /// The operating system refused `context`, for example `write /data/wal/00000001.wal at 4096`.
    pub fn io(context: impl Into<String>, source: std::io::Error) -> Self {
        Self { kind: ErrorKind::Io, context: context.into(), source: Some(Box::new(source)) }
    }

    /// The same error with one more layer of context in front.
    #[must_use]
    pub fn context(mut self, outer: impl fmt::Display) -> Self {
        self.context = format!("{outer}: {}", self.context);
        self
    }

    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the bytes of a file are wrong or gone for good: its checks fail, it is cut off, a directory has its name, or the device
    /// cannot read it. Other refusals of the operating system (too many open files, no permission) may pass.
    pub(crate) fn is_damage(&self) -> bool {
        let io = self.source.as_ref().and_then(|source| source.downcast_ref::<std::io::Error>());
        self.kind == ErrorKind::Corrupt
            || io.is_some_and(|e| {
                use rustix::io::Errno;
                use std::io::ErrorKind::{InvalidData, IsADirectory, UnexpectedEof};
                // The last two are of a file system whose own checks fail.
                let unreadable = [Errno::IO, Errno::UCLEAN, Errno::BADMSG].map(Errno::raw_os_error);
                matches!(e.kind(), UnexpectedEof | IsADirectory | InvalidData)
                    || e.raw_os_error().is_some_and(|code| unreadable.contains(&code))
            })
    }

    /// Reads once more what the device could not read: a sector that stays unreadable is damage, a hiccup is not.
    ///
    /// # Errors
    /// Those of `read`.
    pub(crate) fn or_again<T>(read: impl Fn() -> Result<T>) -> Result<T> {
        read().or_else(
            |error| {
                if error.kind == ErrorKind::Io && error.is_damage() { read() } else { Err(error) }
            },
        )
    }

    /// The operating system's error kind, when that is the cause (for example `StorageFull`).
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        self.source.as_ref()?.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)?;
        match &self.source {
            Some(source) => write!(f, ": {source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as &(dyn std::error::Error + 'static))
    }
}

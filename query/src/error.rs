//! What is wrong with a query text, and where.

use crate::span::Span;
use std::fmt;

/// One mistake in a query. `Display` is the text Prometheus' clients know: `LINE:COL: parse error: MESSAGE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The offending piece; `None` if there was nothing to point at.
    pub span: Option<Span>,
    /// Line and column of its first byte, from one; `None` if unknown.
    pub position: Option<(u32, u32)>,
    /// What is wrong, without the position.
    pub message: String,
}

impl ParseError {
    /// A mistake at `span` of `text`.
    pub fn new(text: &str, span: Span, message: impl Into<String>) -> Self {
        let position = if text.is_empty() { None } else { span.line_column(text) };
        Self { span: Some(span), position, message: message.into() }
    }

    /// A mistake of the text as a whole.
    pub fn without_position(message: impl Into<String>) -> Self {
        Self { span: None, position: None, message: message.into() }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some((line, column)) => write!(f, "{line}:{column}: parse error: {}", self.message),
            None => write!(f, "unknown position: parse error: {}", self.message),
        }
    }
}

impl std::error::Error for ParseError {}

/// Collects mistakes found in one text, the first found first, up to a fixed number.
#[derive(Debug)]
pub struct ErrorList<'t> {
    text: &'t str,
    errors: Vec<ParseError>,
}

/// More mistakes than these help nobody; a hostile text could hold thousands.
const ERRORS_MAX: usize = 32;

impl<'t> ErrorList<'t> {
    /// No mistakes in `text` so far.
    pub fn new(text: &'t str) -> Self {
        Self { text, errors: Vec::new() }
    }

    /// One more mistake; dropped if the list is full.
    pub fn add(&mut self, span: Span, message: impl Into<String>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(ParseError::new(self.text, span, message));
        }
    }

    /// Whether further mistakes are dropped.
    pub fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    /// `value` if nothing was found.
    ///
    /// # Errors
    /// All mistakes found, never an empty list.
    pub fn finish<T>(self, value: T) -> Result<T, Vec<ParseError>> {
        if self.errors.is_empty() { Ok(value) } else { Err(self.errors) }
    }

    /// All mistakes found.
    ///
    /// # Errors
    /// Always; never an empty list.
    pub fn fail<T>(mut self) -> Result<T, Vec<ParseError>> {
        if self.errors.is_empty() {
            self.errors.push(ParseError::without_position("unexpected error"));
        }
        Err(self.errors)
    }
}

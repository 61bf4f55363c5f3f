//! Regular expressions of matchers: anchored at both ends, dot matches newline, of limited size.

use std::fmt;
use std::sync::Arc;

/// A compiled, anchored expression; cheap to clone.
#[derive(Clone)]
pub struct Regex {
    program: Arc<regex_automata::meta::Regex>,
}

/// Why a text is not an expression, in the words Prometheus' users know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {message}")]
pub struct RegexError {
    message: String,
}

/// The largest compiled program of one expression.
const PROGRAM_BYTES_MAX: usize = 1 << 20;
/// How deep groups may nest.
const NEST_MAX: u32 = 100;

impl Regex {
    /// Compiles `^(?s:pattern)$`.
    ///
    /// # Errors
    /// The pattern is malformed or its program too large.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let anchored = format!("^(?s:{pattern})$");
        let syntax = regex_automata::util::syntax::Config::new().nest_limit(NEST_MAX);
        let config = regex_automata::meta::Config::new().nfa_size_limit(Some(PROGRAM_BYTES_MAX));
        let program = regex_automata::meta::Builder::new()
            .configure(config)
            .syntax(syntax)
            .build(&anchored)
            .map_err(|e| RegexError { message: e.to_string() })?;
        Ok(Self { program: Arc::new(program) })
    }

    /// Whether the whole of `text` matches.
    pub fn is_match(&self, text: &str) -> bool {
        self.program.is_match(text)
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Regex")
    }
}

//! From text to tree.
//!
//! The lexer splits the text first; the parser then reads tokens. At a token that fits nowhere, the innermost construct that can
//! say what it expected does so and counts as read; what follows and does not fit is passed over, until something does. A list
//! of errors can so hold several, with the texts of Prometheus and in its order.

mod call;
mod duration;
mod expr;
mod lexer;
mod literal;
mod modifier;
mod number;
mod selector;
mod series_histogram;
pub mod series_text;
mod stream;
mod token;

use crate::ast::Expr;
use crate::error::ParseError;
use crate::span::Span;
use kymo_storage::model::Matcher;
use stream::{Parsed, Stream};
use token::TokenKind;

pub use duration::parse_duration;

/// What the parser accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseOptions {
    /// The longest text, in bytes.
    pub bytes_max: usize,
    /// How deep parentheses, calls and aggregations may nest.
    pub depth_max: usize,
    /// How many different regular expressions one text may hold: compiling them is the costly part of parsing.
    pub regexes_max: usize,
    /// How large their compiled programs may be together, in bytes.
    pub regex_bytes_max: usize,
    /// Whether functions and aggregators marked experimental are known.
    pub experimental_functions: bool,
    /// Whether `anchored` and `smoothed` are known.
    pub extended_ranges: bool,
    /// Whether `fill`, `fill_left` and `fill_right` are known.
    pub fill_modifiers: bool,
    /// Whether durations may be computed.
    pub duration_expressions: bool,
}

impl Default for ParseOptions {
    /// 64 KiB, 128 levels, 256 regular expressions of 4 MiB together, and the whole language.
    fn default() -> Self {
        Self {
            bytes_max: 64 * 1024,
            depth_max: 128,
            regexes_max: 256,
            regex_bytes_max: 4 << 20,
            experimental_functions: true,
            extended_ranges: true,
            fill_modifiers: true,
            duration_expressions: true,
        }
    }
}

/// Reads an expression. The tree still has to pass [`crate::check::check`].
///
/// # Errors
/// All mistakes found, the first one first; never an empty list.
pub fn parse(text: &str, options: &ParseOptions) -> Result<Expr, Vec<ParseError>> {
    run(text, options, |stream| {
        if stream.peek().kind == TokenKind::End {
            stream.errors.add(Span::default(), "no expression found in input");
            return Err(stream::Stop::End);
        }
        Ok(expr::expression(stream)?.0)
    })
}

/// Reads a selector without range and modifiers, as in `match[]`. Whether some matcher refuses the empty value is left to
/// the caller.
///
/// # Errors
/// All mistakes found, the first one first; never an empty list.
pub fn parse_metric_selector(text: &str) -> Result<Vec<Matcher>, Vec<ParseError>> {
    run(text, &ParseOptions::default(), |stream| Ok(selector::vector_selector(stream)?.matchers))
}

/// Applies `rule` to the whole of `text`.
fn run<T>(
    text: &str,
    options: &ParseOptions,
    rule: impl FnOnce(&mut Stream<'_>) -> Parsed<T>,
) -> Result<T, Vec<ParseError>> {
    if text.len() > options.bytes_max {
        let (met, max) = (text.len(), options.bytes_max);
        let message = format!("query of {met} bytes is longer than the limit of {max} bytes");
        return Err(vec![ParseError::without_position(message)]);
    }
    let mut stream = Stream::new(text, options);
    let result = rule(&mut stream);
    let result = result.and_then(|value| stream.until(|kind| kind == TokenKind::End).map(|_| value));
    if matches!(result, Err(stream::Stop::Stuck)) {
        stream.unexpected("", "");
        stream.pass_over_rest();
    }
    match result {
        Ok(value) => stream.errors.finish(value),
        Err(_) => stream.errors.fail(),
    }
}

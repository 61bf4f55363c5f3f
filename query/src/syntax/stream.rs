//! The cursor over the tokens, with the guards and the errors every part of the parser shares.

use super::ParseOptions;
use super::lexer::{Lexed, lex};
use super::token::{Keyword, Token, TokenKind};
use crate::ast::Expr;
use crate::error::ErrorList;
use crate::span::Span;
use kymo_storage::model::{MatchOp, Matcher};
use std::collections::HashMap;

/// The text makes no sense from here on; the error list says why.
#[derive(Debug)]
pub(super) struct Stop;

/// The result of every rule of the grammar.
pub(super) type Parsed<T> = Result<T, Stop>;

/// An expression and the height of its tree.
pub(super) type Node = (Expr, usize);

/// A rule that reads an expression. Calls are given it for their arguments, for it is the one that reads calls.
pub(super) type Rule = fn(&mut Stream<'_>) -> Parsed<Node>;

/// Reads tokens and collects mistakes.
pub(super) struct Stream<'t> {
    pub(super) text: &'t str,
    pub(super) options: &'t ParseOptions,
    tokens: Vec<Token>,
    at: usize,
    /// Why the last token is an error.
    lex_error: String,
    pub(super) errors: ErrorList<'t>,
    depth: usize,
    /// How many aggregations are open; messages name the innermost thing that is.
    pub(super) aggregations: usize,
    /// Compiled once for each distinct text.
    regexes: HashMap<(String, MatchOp, String), Matcher>,
}

impl<'t> Stream<'t> {
    pub(super) fn new(text: &'t str, options: &'t ParseOptions) -> Self {
        let Lexed { tokens, error } = lex(text);
        Self {
            text,
            options,
            tokens,
            at: 0,
            lex_error: error,
            errors: ErrorList::new(text),
            depth: 0,
            aggregations: 0,
            regexes: HashMap::new(),
        }
    }

    /// The next token, which stays.
    pub(super) fn peek(&self) -> Token {
        self.peek_at(0)
    }

    /// The token `ahead` places after the next one; past the end it is the last one.
    pub(super) fn peek_at(&self, ahead: usize) -> Token {
        let at = self.at.saturating_add(ahead);
        // The lexer always ends with a token of kind End or Error.
        let end = Token { kind: TokenKind::End, span: Span::new(self.text.len(), self.text.len()) };
        self.tokens.get(at).or(self.tokens.last()).copied().unwrap_or(end)
    }

    /// Takes the next token. The last one is never used up.
    pub(super) fn next(&mut self) -> Token {
        let token = self.peek();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    /// Takes the next token if it is of this kind.
    pub(super) fn accept(&mut self, kind: TokenKind) -> Option<Token> {
        (self.peek().kind == kind).then(|| self.next())
    }

    /// Takes the next token if it is this word.
    pub(super) fn accept_word(&mut self, word: Keyword) -> Option<Token> {
        self.accept(TokenKind::Keyword(word))
    }

    /// Takes a token of this kind; anything else is a mistake without a context of its own.
    pub(super) fn expect(&mut self, kind: TokenKind) -> Parsed<Token> {
        match self.accept(kind) {
            Some(token) => Ok(token),
            None => Err(self.unexpected_here()),
        }
    }

    /// The next token fits nothing, and the thing being parsed has no name.
    pub(super) fn unexpected_here(&mut self) -> Stop {
        self.unexpected(if self.aggregations > 0 { "aggregation" } else { "" }, "")
    }

    /// The next token does not fit into `context`.
    pub(super) fn unexpected(&mut self, context: &str, expected: &str) -> Stop {
        let token = self.peek();
        if token.kind == TokenKind::Error {
            let message = std::mem::take(&mut self.lex_error);
            self.errors.add(token.span, message);
            return Stop;
        }
        let mut message = format!("unexpected {}", token.describe(self.text));
        if !context.is_empty() {
            message.push_str(" in ");
            message.push_str(context);
        }
        if !expected.is_empty() {
            message.push_str(", expected ");
            message.push_str(expected);
        }
        self.errors.add(token.span, message);
        Stop
    }

    /// Runs `rule` one level of nesting deeper.
    pub(super) fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let max = self.options.depth_max;
        if self.depth >= max {
            let span = self.peek().span;
            self.errors.add(span, format!("expression is nested deeper than {max} levels"));
            return Err(Stop);
        }
        self.depth += 1;
        let result = rule(self);
        self.depth -= 1;
        result
    }

    /// The height of a node above children of these heights, if it is allowed.
    pub(super) fn height(&mut self, span: Span, children: usize) -> Parsed<usize> {
        let height = children.saturating_add(1);
        if height > crate::ast::HEIGHT_MAX {
            let max = crate::ast::HEIGHT_MAX;
            self.errors.add(span, format!("expression is more than {max} operations deep"));
            return Err(Stop);
        }
        Ok(height)
    }

    /// A matcher; a mistake in its regular expression ends the parse.
    pub(super) fn matcher(&mut self, span: Span, op: MatchOp, name: &str, value: &str) -> Parsed<Matcher> {
        if !matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            return self.compiled(span, op, name, value);
        }
        let key = (name.to_owned(), op, value.to_owned());
        if let Some(known) = self.regexes.get(&key) {
            return Ok(known.clone());
        }
        let max = self.options.regexes_max;
        if self.regexes.len() >= max {
            self.errors.add(span, format!("more than {max} different regular expressions"));
            return Err(Stop);
        }
        let matcher = self.compiled(span, op, name, value)?;
        self.regexes.insert(key, matcher.clone());
        Ok(matcher)
    }

    fn compiled(&mut self, span: Span, op: MatchOp, name: &str, value: &str) -> Parsed<Matcher> {
        Matcher::new(op, name, value).map_err(|problem| {
            self.errors.add(span, problem.to_string());
            // A compilation that fails can be as costly as one that does not: go no further.
            Stop
        })
    }
}

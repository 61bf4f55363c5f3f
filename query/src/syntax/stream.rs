//! The cursor over the tokens, with the guards and the errors every part of the parser shares.

use super::ParseOptions;
use super::lexer::{Lexed, lex};
use super::token::{Keyword, Token, TokenKind};
use crate::ast::Expr;
use crate::error::ErrorList;
use crate::span::Span;
use kymo_storage::model::{MatchOp, Matcher, Regex};
use std::collections::HashMap;

/// Why a rule has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The next token fits nowhere. The innermost construct that can name itself notes that and goes on behind it.
    Stuck,
    /// There is nothing more to read, or nothing more is to be read; the error list says why.
    End,
}

/// The result of every rule of the grammar.
pub(super) type Parsed<T> = Result<T, Stop>;

/// An expression and the height of its tree.
pub(super) type Node = (Expr, usize);

/// A rule that reads an expression. Calls are given it for their arguments, for it is the one that reads calls.
pub(super) type Rule = fn(&mut Stream<'_>) -> Parsed<Node>;

/// The state right after a mistake, before a token fits again.
const PASSING_OVER: u8 = 3;

/// Reads tokens and collects mistakes.
pub(super) struct Stream<'t> {
    pub(super) text: &'t str,
    pub(super) options: &'t ParseOptions,
    tokens: Vec<Token>,
    at: usize,
    /// Why the last token is an error; taken once that token was looked at.
    lex_error: Option<String>,
    /// After a mistake, tokens that do not fit are passed over in silence until one does; and so many more must fit before the
    /// next mistake is not taken for an echo of the last. Counts down from [`PASSING_OVER`].
    recovery: u8,
    pub(super) errors: ErrorList<'t>,
    depth: usize,
    /// Compiled once for each distinct text; `None` for those that cannot be.
    regexes: HashMap<(String, MatchOp, String), Option<Matcher>>,
    /// What their programs hold together.
    regex_bytes: usize,
}

impl<'t> Stream<'t> {
    pub(super) fn new(text: &'t str, options: &'t ParseOptions) -> Self {
        let Lexed { tokens, error } = lex(text);
        Self {
            text,
            options,
            tokens,
            at: 0,
            lex_error: Some(error),
            recovery: 0,
            errors: ErrorList::new(text),
            depth: 0,
            regexes: HashMap::new(),
            regex_bytes: 0,
        }
    }

    /// The next token, which stays. If the lexer stopped there, that is noted.
    pub(super) fn peek(&mut self) -> Token {
        let token = self.peek_at(0);
        if token.kind == TokenKind::Error
            && let Some(message) = self.lex_error.take()
        {
            self.errors.add(token.span, message);
        }
        token
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
        self.recovery = self.recovery.saturating_sub(1);
        self.pass_over();
        token
    }

    fn pass_over(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    /// Takes the next token if it is of this kind.
    pub(super) fn accept(&mut self, kind: TokenKind) -> Option<Token> {
        (self.peek().kind == kind).then(|| self.next())
    }

    /// Takes the next token if it is this word.
    pub(super) fn accept_word(&mut self, word: Keyword) -> Option<Token> {
        self.accept(TokenKind::Keyword(word))
    }

    /// Takes a token of this kind.
    pub(super) fn expect(&mut self, kind: TokenKind) -> Parsed<Token> {
        self.until(|met| met == kind)?;
        Ok(self.next())
    }

    /// The next token that `fits`. Right after a mistake others are passed over.
    pub(super) fn until(&mut self, fits: impl Fn(TokenKind) -> bool) -> Parsed<Token> {
        loop {
            let token = self.peek();
            if fits(token.kind) {
                return Ok(token);
            }
            self.pass_over_one()?;
        }
    }

    /// Passes over a token that does not fit, if a mistake was just noted.
    pub(super) fn pass_over_one(&mut self) -> Parsed<()> {
        if self.recovery < PASSING_OVER {
            return Err(self.stuck());
        }
        if self.is_at_end() {
            return Err(Stop::End);
        }
        self.pass_over();
        Ok(())
    }

    /// Reads up to a comma, which is taken, or to `close`, which is not. Anything else is a mistake in `context`.
    pub(super) fn separator(&mut self, close: TokenKind, context: &str, expected: &str) -> Parsed<()> {
        loop {
            match self.peek().kind {
                TokenKind::Comma => {
                    self.next();
                    return Ok(());
                }
                kind if kind == close => return Ok(()),
                _ if self.recovery < PASSING_OVER => self.mistake(context, expected),
                _ => self.pass_over_one()?,
            }
        }
    }

    /// Passes over the rest, in which only the lexer may find another mistake.
    pub(super) fn pass_over_rest(&mut self) {
        while !self.is_at_end() {
            self.pass_over();
        }
    }

    fn is_at_end(&mut self) -> bool {
        matches!(self.peek().kind, TokenKind::End | TokenKind::Error)
    }

    /// The next token fits nowhere.
    pub(super) fn stuck(&mut self) -> Stop {
        self.recovery = PASSING_OVER;
        Stop::Stuck
    }

    /// The next token does not fit into `context`, where reading goes on.
    pub(super) fn mistake(&mut self, context: &str, expected: &str) {
        self.recovery = PASSING_OVER;
        self.unexpected(context, expected);
    }

    /// The result of a part of `context`; `None`, and a note, if it got stuck.
    pub(super) fn part<T>(
        &mut self,
        result: Parsed<T>,
        (context, expected): (&str, &str),
    ) -> Parsed<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Stop::Stuck) => {
                self.unexpected(context, expected);
                Ok(None)
            }
            Err(Stop::End) => Err(Stop::End),
        }
    }

    /// Notes that the next token does not fit into `context`. What the lexer has said is not said again.
    pub(super) fn unexpected(&mut self, context: &str, expected: &str) {
        let token = self.peek();
        if token.kind == TokenKind::Error || self.errors.is_full() {
            return;
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
    }

    /// The end of the last token up to the next one that closes something or is a number; `start` if none is behind it.
    pub(super) fn last_closing(&self, start: u32) -> u32 {
        let read = self.tokens.get(..=self.at).unwrap_or_default();
        let behind = read.iter().rev().take_while(|token| token.span.start >= start);
        let closes = |token: &&Token| {
            use TokenKind::{Duration, Number, RightBrace, RightBracket, RightParen};
            matches!(token.kind, RightBrace | RightParen | RightBracket | Duration | Number)
        };
        let mut behind = behind;
        behind.find(closes).map_or(start, |token| token.span.end)
    }

    /// Runs `rule` one level of nesting deeper.
    pub(super) fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        let max = self.options.depth_max;
        if self.depth >= max {
            let span = self.peek().span;
            self.errors.add(span, format!("expression is nested deeper than {max} levels"));
            return Err(Stop::End);
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
            return Err(Stop::End);
        }
        Ok(height)
    }

    /// A matcher; `None`, and a note, if its regular expression is none.
    pub(super) fn matcher(
        &mut self,
        span: Span,
        op: MatchOp,
        name: &str,
        value: &str,
    ) -> Parsed<Option<Matcher>> {
        if !matches!(op, MatchOp::Regex | MatchOp::NotRegex) {
            return Ok(self.compiled(span, op, name, value));
        }
        let key = (name.to_owned(), op, value.to_owned());
        if let Some(known) = self.regexes.get(&key) {
            return Ok(known.clone());
        }
        let max = self.options.regexes_max;
        if self.regexes.len() >= max {
            self.errors.add(span, format!("more than {max} different regular expressions"));
            return Err(Stop::End);
        }
        let matcher = self.compiled(span, op, name, value);
        let (met, max) = (self.regex_bytes, self.options.regex_bytes_max);
        if met > max {
            self.errors.add(
                span,
                format!("regular expressions of {met} bytes compiled are more than the {max} allowed"),
            );
            return Err(Stop::End);
        }
        self.regexes.insert(key, matcher.clone());
        Ok(matcher)
    }

    fn compiled(&mut self, span: Span, op: MatchOp, name: &str, value: &str) -> Option<Matcher> {
        let compiled = Matcher::new(op, name, value);
        self.regex_bytes += match &compiled {
            Ok(matcher) => matcher.regex().map_or(0, Regex::program_bytes),
            Err(problem) => problem.program_bytes(),
        };
        compiled.map_err(|problem| self.errors.add(span, problem.to_string())).ok()
    }
}

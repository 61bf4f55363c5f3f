//! The pieces a query text is made of.

use crate::ast::BinaryOp;
use crate::catalog::Aggregator;
use crate::format;
use crate::span::Span;

/// A token and where it stands; its text is `span.of(query)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// The end of the text.
    End,
    /// The lexer stopped here; it says why.
    Error,
    /// A name without a colon.
    Identifier,
    /// A name with a colon, good for metrics only.
    MetricIdentifier,
    Number,
    Duration,
    String,
    Comma,
    Colon,
    /// `=`
    Assign,
    LeftParen,
    RightParen,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `@`
    At,
    /// `=~`
    MatchRegex,
    /// `!~`
    MatchNotRegex,
    /// An operator between two expressions; `!=` between a label and a value, too.
    Op(BinaryOp),
    Aggregator(&'static Aggregator),
    Keyword(Keyword),
}

/// A word with a meaning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Anchored,
    Bool,
    By,
    End,
    Fill,
    FillLeft,
    FillRight,
    GroupLeft,
    GroupRight,
    Ignoring,
    MaxOf,
    MinOf,
    Offset,
    On,
    Range,
    Smoothed,
    Start,
    Step,
    Without,
}

impl Keyword {
    /// Whether the word names a function when a parenthesis follows.
    pub(super) fn is_function(self) -> bool {
        matches!(self, Self::Start | Self::End | Self::Step | Self::Range | Self::MaxOf | Self::MinOf)
    }

    /// Whether the word is one of duration expressions.
    pub(super) fn is_duration(self) -> bool {
        matches!(self, Self::Step | Self::Range | Self::MaxOf | Self::MinOf)
    }

    /// `fill`, `fill_left`, `fill_right`.
    pub(super) fn is_fill(self) -> bool {
        matches!(self, Self::Fill | Self::FillLeft | Self::FillRight)
    }

    /// Whether the word may be the name of a metric.
    fn is_metric_name(self) -> bool {
        !matches!(self, Self::Bool | Self::On | Self::Ignoring | Self::GroupLeft | Self::GroupRight)
    }
}

/// All words that are not plain names, lower case, sorted.
const WORDS: &[(&str, TokenKind)] = &[
    ("anchored", TokenKind::Keyword(Keyword::Anchored)),
    ("and", TokenKind::Op(BinaryOp::And)),
    ("atan2", TokenKind::Op(BinaryOp::Atan2)),
    ("bool", TokenKind::Keyword(Keyword::Bool)),
    ("by", TokenKind::Keyword(Keyword::By)),
    ("end", TokenKind::Keyword(Keyword::End)),
    ("fill", TokenKind::Keyword(Keyword::Fill)),
    ("fill_left", TokenKind::Keyword(Keyword::FillLeft)),
    ("fill_right", TokenKind::Keyword(Keyword::FillRight)),
    ("group_left", TokenKind::Keyword(Keyword::GroupLeft)),
    ("group_right", TokenKind::Keyword(Keyword::GroupRight)),
    ("ignoring", TokenKind::Keyword(Keyword::Ignoring)),
    ("inf", TokenKind::Number),
    ("max_of", TokenKind::Keyword(Keyword::MaxOf)),
    ("min_of", TokenKind::Keyword(Keyword::MinOf)),
    ("nan", TokenKind::Number),
    ("offset", TokenKind::Keyword(Keyword::Offset)),
    ("on", TokenKind::Keyword(Keyword::On)),
    ("or", TokenKind::Op(BinaryOp::Or)),
    ("range", TokenKind::Keyword(Keyword::Range)),
    ("smoothed", TokenKind::Keyword(Keyword::Smoothed)),
    ("start", TokenKind::Keyword(Keyword::Start)),
    ("step", TokenKind::Keyword(Keyword::Step)),
    ("unless", TokenKind::Op(BinaryOp::Unless)),
    ("without", TokenKind::Keyword(Keyword::Without)),
];

/// No word of the language is longer.
const WORD_MAX: usize = 16;

impl TokenKind {
    /// What a word outside of braces is, in any case of letters; `None` for a plain name.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        if word.len() > WORD_MAX {
            return None;
        }
        let lower = word.to_ascii_lowercase();
        if let Ok(at) = WORDS.binary_search_by_key(&lower.as_str(), |(w, _)| w) {
            return WORDS.get(at).map(|(_, kind)| *kind);
        }
        Aggregator::by_name(&lower).map(Self::Aggregator)
    }

    /// Whether the token can be the name of a metric in front of braces.
    pub(super) fn is_metric_name(self) -> bool {
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Aggregator(_) => true,
            Self::Op(op) => op.is_set(),
            Self::Keyword(keyword) => keyword.is_metric_name(),
            _ => false,
        }
    }

    /// Whether an expression can begin with the token.
    pub(super) fn starts_expression(self) -> bool {
        let opens = matches!(
            self,
            Self::LeftParen
                | Self::LeftBrace
                | Self::Number
                | Self::Duration
                | Self::String
                | Self::Op(BinaryOp::Add | BinaryOp::Sub)
        );
        opens || self.is_metric_name()
    }

    /// Whether the token can be a label in a list of labels.
    pub(super) fn is_label(self) -> bool {
        match self {
            Self::Identifier | Self::MetricIdentifier | Self::Aggregator(_) => true,
            Self::Keyword(keyword) => keyword != Keyword::Without,
            Self::Op(op) => op.is_set() || op == BinaryOp::Atan2,
            _ => false,
        }
    }
}

impl Token {
    /// The token as messages name it: `identifier "foo"`, `<op:+>`, `end of input`.
    pub(super) fn describe(self, query: &str) -> String {
        let text = self.span.of(query);
        match self.kind {
            TokenKind::End => "end of input".to_owned(),
            TokenKind::Identifier => format!("identifier {}", format::quote(text.as_bytes())),
            TokenKind::MetricIdentifier => {
                format!("metric identifier {}", format::quote(text.as_bytes()))
            }
            TokenKind::Number => format!("number {}", shortened(text)),
            TokenKind::Duration => format!("duration {}", shortened(text)),
            TokenKind::String => format!("string {}", shortened(text)),
            TokenKind::Op(_) | TokenKind::At | TokenKind::MatchRegex | TokenKind::MatchNotRegex => {
                format!("<op:{text}>")
            }
            TokenKind::Aggregator(_) => format!("<aggr:{text}>"),
            TokenKind::Keyword(keyword) if !keyword.is_function() => format!("<{text}>"),
            _ => shortened(text),
        }
    }
}

/// `text` quoted, cut after ten characters.
fn shortened(text: &str) -> String {
    if text.len() > 10 {
        format!("{}...", format::quote_start(text, 10))
    } else {
        format::quote(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_in_any_case() {
        assert!(WORDS.is_sorted_by_key(|(w, _)| *w));
        assert_eq!(TokenKind::of_word("OffSet"), Some(TokenKind::Keyword(Keyword::Offset)));
        assert_eq!(TokenKind::of_word("NaN"), Some(TokenKind::Number));
        assert!(matches!(TokenKind::of_word("COUNT_values"), Some(TokenKind::Aggregator(_))));
        assert_eq!(TokenKind::of_word("foo"), None);
    }
}

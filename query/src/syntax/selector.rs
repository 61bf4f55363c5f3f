//! Selectors: names, matchers, lists of labels.

use super::literal::unquote;
use super::stream::{Parsed, Stream};
use super::token::{Token, TokenKind};
use crate::ast::{BinaryOp, VectorSelector};
use crate::format::quote;
use crate::span::Span;
use kymo_storage::model::{METRIC_NAME, MatchOp, Matcher};

/// `name`, `name{...}` or `{...}`.
pub(super) fn vector_selector(stream: &mut Stream<'_>) -> Parsed<VectorSelector> {
    let mut span = stream.peek().span;
    let mut name = None;
    if stream.peek().kind.is_metric_name() {
        name = Some(stream.next().span.of(stream.text).to_owned());
    } else if stream.peek().kind != TokenKind::LeftBrace {
        return Err(stream.stuck());
    }
    let mut matchers = Vec::new();
    if stream.accept(TokenKind::LeftBrace).is_some() {
        let close = braces(stream, &mut matchers)?;
        span = span.to(close);
    }
    if let Some(name) = &name {
        matchers.push(Matcher::equal(METRIC_NAME, name));
    }
    Ok(VectorSelector { name, matchers, offset: None, at: None, anchored: false, smoothed: false, span })
}

const MATCHING: &str = "label matching";

/// The matchers behind `{`, up to and with `}`.
fn braces(stream: &mut Stream<'_>, matchers: &mut Vec<Matcher>) -> Parsed<Span> {
    loop {
        // Right behind `{` or a comma; both may be followed by `}`.
        if let Some(close) = stream.accept(TokenKind::RightBrace) {
            return Ok(close.span);
        }
        matchers.extend(matcher(stream)?);
        stream.separator(TokenKind::RightBrace, MATCHING, "\",\" or \"}\"")?;
    }
}

fn match_op(kind: TokenKind) -> Option<MatchOp> {
    Some(match kind {
        TokenKind::Assign => MatchOp::Equal,
        TokenKind::Op(BinaryOp::NotEqual) => MatchOp::NotEqual,
        TokenKind::MatchRegex => MatchOp::Regex,
        TokenKind::MatchNotRegex => MatchOp::NotRegex,
        _ => return None,
    })
}

/// `label op "value"`, or a quoted metric name; `None`, and a note, if it is neither.
fn matcher(stream: &mut Stream<'_>) -> Parsed<Option<Matcher>> {
    let token = stream.peek();
    let label = match token.kind {
        TokenKind::Identifier => token.span.of(stream.text).to_owned(),
        TokenKind::String => string(stream, token),
        _ => {
            stream.mistake(MATCHING, "identifier or \"}\"");
            return Ok(None);
        }
    };
    stream.next();
    let Some(op) = match_op(stream.peek().kind) else {
        if token.kind == TokenKind::String {
            return Ok(Some(Matcher::equal(METRIC_NAME, &label)));
        }
        stream.mistake(MATCHING, "label matching operator");
        return Ok(None);
    };
    stream.next();
    let value_token = stream.peek();
    if value_token.kind != TokenKind::String {
        stream.mistake(MATCHING, "string");
        return Ok(None);
    }
    stream.next();
    let value = string(stream, value_token);
    stream.matcher(token.span.to(value_token.span), op, &label, &value)
}

/// The text of a string token that must be UTF-8, as all names and values of labels are.
fn string(stream: &mut Stream<'_>, token: Token) -> String {
    String::from_utf8(unquote(token.span.of(stream.text))).unwrap_or_else(|problem| {
        let text = quote(problem.as_bytes());
        stream.errors.add(token.span, format!("label name or value is not valid UTF-8: {text}"));
        String::new()
    })
}

const GROUPING: &str = "grouping opts";

/// `(a, "b.c", by)`: the labels of `by`, `on`, `group_left` and their like. Also answers where `)` is.
pub(super) fn label_list(stream: &mut Stream<'_>) -> Parsed<(Vec<String>, Span)> {
    if stream.peek().kind != TokenKind::LeftParen {
        let span = stream.peek().span;
        stream.mistake(GROUPING, "\"(\"");
        return Ok((Vec::new(), span));
    }
    stream.next();
    let mut labels = Vec::new();
    loop {
        if let Some(close) = stream.accept(TokenKind::RightParen) {
            return Ok((labels, close.span));
        }
        labels.extend(grouping_label(stream));
        stream.separator(TokenKind::RightParen, GROUPING, "\",\" or \")\"")?;
    }
}

fn grouping_label(stream: &mut Stream<'_>) -> Option<String> {
    let token = stream.peek();
    let text = token.span.of(stream.text);
    if token.kind.is_label() {
        stream.next();
        return Some(text.to_owned());
    }
    if token.kind != TokenKind::String {
        stream.mistake(GROUPING, "label");
        return None;
    }
    stream.next();
    let label = unquote(text);
    match String::from_utf8(label) {
        Ok(label) if !label.is_empty() => Some(label),
        refused => {
            let label =
                refused.map_or_else(|problem| quote(problem.as_bytes()), |label| quote(label.as_bytes()));
            stream.errors.add(token.span, format!("invalid label name for grouping: {label}"));
            None
        }
    }
}

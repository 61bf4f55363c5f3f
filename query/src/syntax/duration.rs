//! Durations such as `1h30m`, and arithmetic on them inside `[]` and behind `offset`.

use super::number;
use super::stream::{Parsed, Stop, Stream};
use super::token::{Keyword, TokenKind};
use crate::ast::{BinaryOp, DurationExpr, DurationOp, SECONDS_MAX};
use crate::format::quote;
use crate::span::Span;

/// Units from the greatest to the smallest, in milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The longest duration: what fits an `i64` of nanoseconds, about 292 years.
const MILLIS_MAX: u64 = i64::MAX as u64 / 1_000_000;

/// Reads a duration such as `1h30m` as milliseconds: units `y w d h m s ms` in this order, each at most once, or `0`.
///
/// # Errors
/// The text is not a duration, or one of more than 292 years.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    if text == "0" {
        return Ok(0);
    }
    if text.is_empty() {
        return Err("empty duration string".to_owned());
    }
    let malformed = || format!("not a valid duration string: {}", quote(text.as_bytes()));
    let too_long = || "duration out of range".to_owned();
    let mut total: u64 = 0;
    let mut rest = text;
    let mut units = UNITS.as_slice();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (count, behind) = rest.split_at(digits);
        let count: u64 = count.parse().map_err(|_| malformed())?;
        let unit = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        if unit.is_empty() {
            return Err(malformed());
        }
        if !UNITS.iter().any(|(name, _)| *name == unit) {
            let (unit, text) = (quote(unit.as_bytes()), quote(text.as_bytes()));
            return Err(format!("unknown unit {unit} in duration {text}"));
        }
        let place = units.iter().position(|(name, _)| *name == unit).ok_or_else(malformed)?;
        let (_, length) = units.get(place).copied().unwrap_or_default();
        units = units.get(place + 1..).unwrap_or_default();
        total = count.checked_mul(length).and_then(|t| t.checked_add(total)).ok_or_else(too_long)?;
        if total > MILLIS_MAX {
            return Err(too_long());
        }
        rest = behind;
    }
    i64::try_from(total).map_err(|_| too_long())
}

/// A number or duration token in seconds; a mistake in it is noted and it counts as zero.
pub(super) fn number_value(stream: &mut Stream<'_>) -> Option<(f64, bool, Span)> {
    let token = stream.peek();
    let text = token.span.of(stream.text);
    let (value, duration) = match token.kind {
        TokenKind::Number => (number::value(text), false),
        TokenKind::Duration => (parse_duration(text).map(|ms| ms as f64 / 1000.0), true),
        _ => return None,
    };
    stream.next();
    let value = value.unwrap_or_else(|message| {
        stream.errors.add(token.span, message);
        0.0
    });
    Some((value, duration, token.span))
}

/// An expression and how high its tree is.
type Sized = (DurationExpr, usize);

/// What waits for its right side.
enum Pending {
    Minus(Span),
    Plus,
    Op(DurationOp, u8, Span),
}

impl Pending {
    fn precedence(&self) -> u8 {
        match self {
            Self::Minus(_) | Self::Plus => BinaryOp::Mul.precedence(),
            Self::Op(_, precedence, _) => *precedence,
        }
    }
}

/// The duration behind `[` or `:`, which must be positive.
pub(super) fn positive(stream: &mut Stream<'_>) -> Parsed<DurationExpr> {
    let (expr, _) = expression(stream)?;
    if let DurationExpr::Number { seconds, span, .. } = &expr
        && *seconds <= 0.0
    {
        let span = *span;
        stream.errors.add(span, "duration must be greater than 0");
    }
    Ok(plain(expr))
}

/// A number on its own is a duration however it was written: `[300]` is `[5m]`.
fn plain(mut expr: DurationExpr) -> DurationExpr {
    if let DurationExpr::Number { duration, .. } = &mut expr {
        *duration = true;
    }
    expr
}

/// The duration behind `offset`: without parentheses it ends after one number or call, whatever operator follows; a
/// parenthesised one, and one behind two signs, may be the start of an expression.
pub(super) fn offset(stream: &mut Stream<'_>) -> Parsed<DurationExpr> {
    let is_sign = |kind| matches!(kind, TokenKind::Op(BinaryOp::Add | BinaryOp::Sub));
    let two_signs = is_sign(stream.peek().kind) && is_sign(stream.peek_at(1).kind);
    if two_signs || stream.peek().kind == TokenKind::LeftParen {
        return Ok(plain(expression(stream)?.0));
    }
    let sign = match stream.peek().kind {
        TokenKind::Op(BinaryOp::Add) => Some(Pending::Plus),
        TokenKind::Op(BinaryOp::Sub) => Some(Pending::Minus(stream.peek().span)),
        _ => None,
    };
    if sign.is_some() {
        stream.next();
    }
    let operand = primary(stream)?;
    let (expr, _) = match sign {
        Some(sign) => signed(stream, sign, operand)?,
        None => operand,
    };
    Ok(plain(expr))
}

/// A whole duration expression.
fn expression(stream: &mut Stream<'_>) -> Parsed<Sized> {
    let mut operands: Vec<Sized> = Vec::new();
    let mut pending: Vec<Pending> = Vec::new();
    loop {
        loop {
            let span = stream.peek().span;
            match stream.peek().kind {
                TokenKind::Op(BinaryOp::Add) => pending.push(Pending::Plus),
                TokenKind::Op(BinaryOp::Sub) => pending.push(Pending::Minus(span)),
                _ => break,
            }
            stream.next();
        }
        operands.push(primary(stream)?);
        let token = stream.peek();
        let Some((op, binary)) = operator(token.kind) else { break };
        reduce(stream, &mut operands, &mut pending, |top| {
            top > binary.precedence() || top == binary.precedence() && !binary.is_right_associative()
        })?;
        stream.next();
        pending.push(Pending::Op(op, binary.precedence(), token.span));
    }
    reduce(stream, &mut operands, &mut pending, |_| true)?;
    operands.pop().ok_or(Stop::End)
}

fn operator(kind: TokenKind) -> Option<(DurationOp, BinaryOp)> {
    let TokenKind::Op(op) = kind else { return None };
    Some((
        match op {
            BinaryOp::Add => DurationOp::Add,
            BinaryOp::Sub => DurationOp::Sub,
            BinaryOp::Mul => DurationOp::Mul,
            BinaryOp::Div => DurationOp::Div,
            BinaryOp::Mod => DurationOp::Mod,
            BinaryOp::Pow => DurationOp::Pow,
            _ => return None,
        },
        op,
    ))
}

fn reduce(
    stream: &mut Stream<'_>,
    operands: &mut Vec<Sized>,
    pending: &mut Vec<Pending>,
    due: impl Fn(u8) -> bool,
) -> Parsed<()> {
    while let Some(top) = pending.pop_if(|top| due(top.precedence())) {
        let Some(right) = operands.pop() else { return Err(Stop::End) };
        let result = match top {
            Pending::Plus | Pending::Minus(_) => signed(stream, top, right)?,
            Pending::Op(op, _, op_span) => {
                let Some(left) = operands.pop() else { return Err(Stop::End) };
                binary(stream, op, op_span, left, right)?
            }
        };
        operands.push(result);
    }
    Ok(())
}

fn binary(
    stream: &mut Stream<'_>,
    op: DurationOp,
    op_span: Span,
    left: Sized,
    right: Sized,
) -> Parsed<Sized> {
    let span = left.0.span().to(right.0.span());
    let height = stream.height(span, left.1.max(right.1))?;
    computed(stream, left.0.span());
    if let DurationExpr::Number { seconds, .. } = &right.0
        && *seconds == 0.0
    {
        let problem = match op {
            DurationOp::Div => Some("division by zero"),
            DurationOp::Mod => Some("modulo by zero"),
            _ => None,
        };
        if let Some(problem) = problem {
            stream.errors.add(op_span, problem);
            // It counts as a zero that stands nowhere, which is too short for a range.
            return Ok((
                DurationExpr::Number { seconds: 0.0, duration: false, span: Span::default() },
                height,
            ));
        }
    }
    let (left, right) = (Box::new(left.0), Box::new(right.0));
    Ok((DurationExpr::Binary { op, left, right, span }, height))
}

/// Notes an expression at `span` that is more than a number, if only numbers are allowed.
fn computed(stream: &mut Stream<'_>, span: Span) {
    if !stream.options.duration_expressions {
        stream.errors.add(span, "experimental duration expression is not enabled");
    }
}

/// Puts a sign in front: numbers take it in, `+` changes nothing else.
fn signed(stream: &mut Stream<'_>, sign: Pending, operand: Sized) -> Parsed<Sized> {
    let (expr, height) = operand;
    match (sign, expr) {
        (Pending::Minus(sign), DurationExpr::Number { seconds, duration, span }) => Ok((
            DurationExpr::Number { seconds: number::negated(seconds), duration, span: sign.to(span) },
            height,
        )),
        (Pending::Minus(sign), expr) => {
            let span = sign.to(expr.span());
            let height = stream.height(span, height)?;
            Ok((DurationExpr::Negate { operand: Box::new(expr), span }, height))
        }
        (_, expr) => Ok((expr, height)),
    }
}

/// A number, a call, or an expression in parentheses.
fn primary(stream: &mut Stream<'_>) -> Parsed<Sized> {
    if let Some((seconds, duration, span)) = number_value(stream) {
        // A NaN is let through here and refused by the evaluation.
        if seconds.abs() > SECONDS_MAX {
            stream.errors.add(span, "duration out of range");
        }
        return Ok((DurationExpr::Number { seconds, duration, span }, 1));
    }
    let token = stream.peek();
    match token.kind {
        TokenKind::LeftParen => {
            stream.next();
            let (inner, height) = stream.nested(expression)?;
            let close = stream.expect(TokenKind::RightParen)?;
            let span = token.span.to(close.span);
            computed(stream, inner.span());
            // More than one pair is as good as one.
            if let DurationExpr::Paren { inner, .. } = inner {
                return Ok((DurationExpr::Paren { inner, span }, height));
            }
            let height = stream.height(span, height)?;
            Ok((DurationExpr::Paren { inner: Box::new(inner), span }, height))
        }
        TokenKind::Keyword(word @ (Keyword::Step | Keyword::Range)) => {
            stream.next();
            stream.expect(TokenKind::LeftParen)?;
            let span = token.span.to(stream.expect(TokenKind::RightParen)?.span);
            let expr = if word == Keyword::Step {
                DurationExpr::Step { span }
            } else {
                DurationExpr::Range { span }
            };
            computed(stream, span);
            Ok((expr, 1))
        }
        TokenKind::Keyword(word @ (Keyword::MinOf | Keyword::MaxOf)) => {
            stream.next();
            stream.expect(TokenKind::LeftParen)?;
            let left = stream.nested(expression)?;
            stream.expect(TokenKind::Comma)?;
            let right = stream.nested(expression)?;
            let span = token.span.to(stream.expect(TokenKind::RightParen)?.span);
            let op = if word == Keyword::MinOf { DurationOp::Min } else { DurationOp::Max };
            let height = stream.height(span, left.1.max(right.1))?;
            computed(stream, span);
            let (left, right) = (Box::new(left.0), Box::new(right.0));
            Ok((DurationExpr::Binary { op, left, right, span }, height))
        }
        _ => Err(stream.stuck()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_texts() {
        let good = [
            ("0", 0),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1y2w3d4h5m6s7ms", 33_019_506_007),
            ("1500ms", 1500),
        ];
        for (text, millis) in good {
            assert_eq!(parse_duration(text), Ok(millis), "{text}");
        }
        let bad = [
            ("", "empty duration string"),
            ("1", "not a valid duration string: \"1\""),
            ("1h1d", "not a valid duration string: \"1h1d\""),
            ("5m5m", "not a valid duration string: \"5m5m\""),
            ("-5m", "not a valid duration string: \"-5m\""),
            ("5hs", "unknown unit \"hs\" in duration \"5hs\""),
            ("300y", "duration out of range"),
            ("99999999999999999y", "duration out of range"),
        ];
        for (text, message) in bad {
            assert_eq!(parse_duration(text), Err(message.to_owned()), "{text}");
        }
    }
}

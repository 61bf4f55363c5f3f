//! What stands behind an expression (`[5m]`, `offset`, `@`, `anchored`) or behind an operator (`bool`, `on`, `fill`).

use super::duration;
use super::number::negated;
use super::selector::label_list;
use super::stream::{Parsed, Stream};
use super::token::{Keyword, TokenKind};
use crate::ast::{At, BinaryOp, Cardinality, DurationExpr, Expr, MatrixSelector, Subquery, VectorMatching};
use crate::format::float_general;
use crate::span::Span;

/// Takes all ranges and modifiers behind `expr`, whose tree has this height.
pub(super) fn postfix(stream: &mut Stream<'_>, mut expr: Expr, mut height: usize) -> Parsed<(Expr, usize)> {
    // Where a range of something that has none stands: what follows is about the range, not about that something.
    let mut no_range = None;
    loop {
        match stream.peek().kind {
            TokenKind::LeftBracket => (expr, height, no_range) = brackets(stream, expr, height)?,
            TokenKind::Keyword(Keyword::Offset) => offset(stream, &mut expr, no_range)?,
            TokenKind::At => at(stream, &mut expr, no_range)?,
            TokenKind::Keyword(Keyword::Anchored | Keyword::Smoothed)
                if no_range.is_some() && stream.options.extended_ranges =>
            {
                stream.next();
            }
            TokenKind::Keyword(word @ (Keyword::Anchored | Keyword::Smoothed)) => {
                extended(stream, &mut expr, word);
            }
            _ => return Ok((expr, height)),
        }
    }
}

const NUMBER_OR_CALL: &str = "number, duration, step(), or range()";

/// What stands in brackets, and where they end.
enum Brackets {
    Range(DurationExpr, Span),
    Subquery(DurationExpr, Option<DurationExpr>, Span),
}

/// `[range]` or `[range:step]`; broken ones leave `expr` as it is. If it can have no range, then also where both stand.
fn brackets(stream: &mut Stream<'_>, expr: Expr, height: usize) -> Parsed<(Expr, usize, Option<Span>)> {
    let open = stream.next().span;
    match inside_brackets(stream)? {
        None => Ok((expr, height, None)),
        Some(Brackets::Range(range, close)) => {
            let no_range = (!matches!(expr, Expr::VectorSelector(_))).then(|| expr.span().to(close));
            Ok((matrix(stream, expr, range, open.to(close)), height, no_range))
        }
        Some(Brackets::Subquery(range, step, close)) => {
            let span = expr.span().to(close);
            let height = stream.height(span, height)?;
            let expr = Box::new(expr);
            Ok((Expr::Subquery(Subquery { expr, range, step, offset: None, at: None, span }), height, None))
        }
    }
}

fn inside_brackets(stream: &mut Stream<'_>) -> Parsed<Option<Brackets>> {
    let range = duration::positive(stream);
    let Some(range) = stream.part(range, ("subquery or range selector", NUMBER_OR_CALL))? else {
        return Ok(None);
    };
    if let Some(close) = stream.accept(TokenKind::RightBracket) {
        return Ok(Some(Brackets::Range(range, close.span)));
    }
    if stream.accept(TokenKind::Colon).is_none() {
        stream.mistake("subquery or range", "\":\" or \"]\"");
        return Ok(None);
    }
    let mut step = None;
    if stream.peek().kind != TokenKind::RightBracket {
        let expected = "number, duration, step(), range(), or \"]\"";
        let duration = duration::positive(stream);
        step = stream.part(duration, ("subquery selector", expected))?;
        if step.is_none() {
            return Ok(None);
        }
    }
    let Some(close) = stream.accept(TokenKind::RightBracket) else {
        stream.mistake("subquery selector", "\"]\"");
        return Ok(None);
    };
    Ok(Some(Brackets::Subquery(range, step, close.span)))
}

const NO_RANGE: &str = "ranges only allowed for vector selectors";

fn matrix(stream: &mut Stream<'_>, expr: Expr, range: DurationExpr, brackets: Span) -> Expr {
    let Expr::VectorSelector(selector) = expr else {
        stream.errors.add(brackets, NO_RANGE);
        return expr;
    };
    if selector.offset.is_some() {
        stream.errors.add(brackets, "no offset modifiers allowed before range");
    } else if selector.at.is_some() {
        stream.errors.add(brackets, "no @ modifiers allowed before range");
    }
    let span = selector.span.to(brackets);
    Expr::MatrixSelector(MatrixSelector { selector, range, span })
}

/// The parts of an expression that `offset` and `@` set.
struct Pinned<'e> {
    offset: &'e mut Option<DurationExpr>,
    at: &'e mut Option<At>,
    span: &'e mut Span,
}

fn pinned(expr: &mut Expr) -> Option<Pinned<'_>> {
    match expr {
        Expr::VectorSelector(e) => Some(Pinned { offset: &mut e.offset, at: &mut e.at, span: &mut e.span }),
        Expr::MatrixSelector(e) => {
            Some(Pinned { offset: &mut e.selector.offset, at: &mut e.selector.at, span: &mut e.span })
        }
        Expr::Subquery(e) => Some(Pinned { offset: &mut e.offset, at: &mut e.at, span: &mut e.span }),
        _ => None,
    }
}

fn offset(stream: &mut Stream<'_>, expr: &mut Expr, no_range: Option<Span>) -> Parsed<()> {
    stream.next();
    let duration = duration::offset(stream);
    let Some(duration) = stream.part(duration, ("offset", NUMBER_OR_CALL))? else { return Ok(()) };
    if let Some(span) = no_range {
        stream.errors.add(span, NO_RANGE);
        return Ok(());
    }
    let span = expr.span();
    let Some(target) = pinned(expr) else {
        stream.errors.add(
            span,
            "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        );
        return Ok(());
    };
    if target.offset.is_some() {
        stream.errors.add(span, "offset may not be set multiple times");
    }
    *target.span = span.to(duration.span());
    // `offset 0` is the same as none.
    let zero = matches!(&duration, DurationExpr::Number { seconds, .. } if *seconds == 0.0);
    if !zero {
        *target.offset = Some(duration);
    }
    Ok(())
}

fn at(stream: &mut Stream<'_>, expr: &mut Expr, no_range: Option<Span>) -> Parsed<()> {
    stream.next();
    let span = no_range.unwrap_or(expr.span());
    let pin = pin(stream, span);
    let Some((value, end)) = stream.part(pin, ("@", "timestamp"))? else { return Ok(()) };
    if no_range.is_some() {
        stream.errors.add(span, NO_RANGE);
        return Ok(());
    }
    let Some(target) = pinned(expr) else {
        stream.errors.add(
            span,
            "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        );
        return Ok(());
    };
    if target.at.is_some() {
        stream.errors.add(span, "@ <timestamp> may not be set multiple times");
    }
    *target.at = Some(value);
    *target.span = span.to(end);
    Ok(())
}

/// What stands behind `@`, and where it ends; `span` is where mistakes in it are shown.
fn pin(stream: &mut Stream<'_>, span: Span) -> Parsed<(At, Span)> {
    if let TokenKind::Keyword(word @ (Keyword::Start | Keyword::End)) = stream.peek().kind {
        stream.next();
        stream.expect(TokenKind::LeftParen)?;
        let close = stream.expect(TokenKind::RightParen)?;
        return Ok((if word == Keyword::Start { At::Start } else { At::End }, close.span));
    }
    let Some((seconds, end)) = signed_number(stream) else { return Err(stream.stuck()) };
    // Every finite number below is within the range of an i64.
    if !seconds.is_finite() || seconds.abs() >= i64::MAX as f64 {
        let shown = if seconds.is_finite() { format!("{seconds:.6}") } else { float_general(seconds) };
        stream.errors.add(span, format!("timestamp out of bounds for @ modifier: {shown}"));
    }
    Ok((At::Timestamp((seconds * 1000.0).round() as i64), end))
}

/// A number with or without a sign; `None` leaves the offending token as the next one.
fn signed_number(stream: &mut Stream<'_>) -> Option<(f64, Span)> {
    let minus = match stream.peek().kind {
        TokenKind::Op(op @ (BinaryOp::Add | BinaryOp::Sub)) => {
            stream.next();
            op == BinaryOp::Sub
        }
        _ => false,
    };
    let (value, _, span) = duration::number_value(stream)?;
    Some((if minus { negated(value) } else { value }, span))
}

/// `anchored` and `smoothed`.
fn extended(stream: &mut Stream<'_>, expr: &mut Expr, word: Keyword) {
    let token = stream.next();
    let name = if word == Keyword::Anchored { "anchored" } else { "smoothed" };
    let span = expr.span();
    if !stream.options.extended_ranges {
        stream.errors.add(span, format!("{name} modifier is experimental and not enabled"));
        return;
    }
    let (selector, outer) = match expr {
        Expr::VectorSelector(e) => (e, None),
        Expr::MatrixSelector(e) => (&mut e.selector, Some(&mut e.span)),
        Expr::Subquery(_) => {
            stream.errors.add(span, format!("{name} modifier is not supported for subqueries"));
            return;
        }
        _ => {
            stream.errors.add(span, format!("{name} modifier not implemented"));
            return;
        }
    };
    match word {
        Keyword::Anchored => selector.anchored = true,
        _ => selector.smoothed = true,
    }
    if selector.anchored && selector.smoothed {
        stream.errors.add(span, "anchored and smoothed modifiers cannot be used together");
    }
    *outer.unwrap_or(&mut selector.span) = span.to(token.span);
}

/// What stands between a binary operator and its right side: whether `bool`, and how series are paired.
pub(super) fn binary_modifiers(stream: &mut Stream<'_>) -> Parsed<(bool, VectorMatching)> {
    let return_bool = stream.accept_word(Keyword::Bool).is_some();
    let mut matching = VectorMatching::default();
    let listed = match stream.peek().kind {
        TokenKind::Keyword(word @ (Keyword::On | Keyword::Ignoring)) => {
            stream.next();
            matching.on = word == Keyword::On;
            matching.labels = label_list(stream)?.0;
            true
        }
        _ => false,
    };
    if let TokenKind::Keyword(word @ (Keyword::GroupLeft | Keyword::GroupRight)) = stream.peek().kind
        && listed
    {
        stream.next();
        matching.card = match word {
            Keyword::GroupLeft => Cardinality::ManyToOne,
            _ => Cardinality::OneToMany,
        };
        // Labels are optional, but what is neither a label nor the right side is taken for bad labels.
        let next = stream.peek().kind;
        let is_left_out =
            matches!(next, TokenKind::Keyword(word) if word.is_fill()) || next.starts_expression();
        if next == TokenKind::LeftParen || !is_left_out {
            matching.include = label_list(stream)?.0;
        }
    }
    fill_modifiers(stream, &mut matching)?;
    Ok((return_bool, matching))
}

/// `fill(x)`, or `fill_left(x)` and `fill_right(x)` in any order, each at most once.
fn fill_modifiers(stream: &mut Stream<'_>, matching: &mut VectorMatching) -> Parsed<()> {
    if stream.accept_word(Keyword::Fill).is_some() {
        let value = Some(fill_value(stream)?);
        matching.fill.left = value;
        matching.fill.right = value;
        return Ok(());
    }
    loop {
        match stream.peek().kind {
            TokenKind::Keyword(Keyword::FillLeft) if matching.fill.left.is_none() => {
                stream.next();
                matching.fill.left = Some(fill_value(stream)?);
            }
            TokenKind::Keyword(Keyword::FillRight) if matching.fill.right.is_none() => {
                stream.next();
                matching.fill.right = Some(fill_value(stream)?);
            }
            _ => return Ok(()),
        }
    }
}

fn fill_value(stream: &mut Stream<'_>) -> Parsed<f64> {
    stream.expect(TokenKind::LeftParen)?;
    let Some((value, _)) = signed_number(stream) else {
        return Err(stream.stuck());
    };
    stream.expect(TokenKind::RightParen)?;
    Ok(value)
}

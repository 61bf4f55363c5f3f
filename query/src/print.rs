//! The canonical text of a tree, as Prometheus prints it: `parse` reads it back as the same tree.

use crate::ast::{
    At, Binary, BinaryOp, Cardinality, DurationExpr, DurationOp, Expr, Grouping, MatrixSelector, Subquery,
    VectorSelector,
};
use crate::format::{duration, float_general, float_plain, quote};
use kymo_storage::model::{METRIC_NAME, MatchOp, Matcher};
use std::fmt::{self, Write};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NumberLiteral(e) => f.write_str(&number(e.value, e.duration)),
            Self::StringLiteral(e) => f.write_str(&quote(&e.value)),
            Self::VectorSelector(e) => fmt::Display::fmt(e, f),
            Self::MatrixSelector(e) => fmt::Display::fmt(e, f),
            Self::Subquery(e) => fmt::Display::fmt(e, f),
            Self::Aggregate(e) => {
                write!(f, "{}{}(", e.op.name, e.grouping)?;
                if let Some(param) = &e.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", e.expr)
            }
            Self::Binary(e) => {
                match bare_base(e) {
                    Some(base) => write!(f, "{base} {}", e.op)?,
                    None => write!(f, "{} {}", e.left, e.op)?,
                }
                matching(e, f)?;
                write!(f, " {}", e.right)
            }
            Self::Unary(e) => write!(f, "{}{}", e.op, e.expr),
            Self::Call(e) => {
                write!(f, "{}(", e.function.name)?;
                for (index, arg) in e.args.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    fmt::Display::fmt(arg, f)?;
                }
                f.write_char(')')
            }
            Self::Paren(e) => write!(f, "({})", e.expr),
        }
    }
}

/// What stands left of `^` if that is an infinite number: without its sign, which would be read as a sign of the whole
/// power. Prometheus writes the sign here too, and then reads back another tree.
pub(crate) fn bare_base(e: &Binary) -> Option<&'static str> {
    match (e.op, &*e.left) {
        (BinaryOp::Pow, Expr::NumberLiteral(base)) if base.value == f64::INFINITY => Some("Inf"),
        _ => None,
    }
}

/// A number, or the duration it was written as.
fn number(value: f64, is_duration: bool) -> String {
    if !is_duration {
        return float_plain(value);
    }
    // The lexer reads no duration beyond 292 years, so milliseconds fit.
    let sign = if value.is_sign_negative() { "-" } else { "" };
    format!("{sign}{}", duration((value.abs() * 1000.0).round() as i64))
}

impl fmt::Display for Grouping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.without, self.labels.is_empty()) {
            (false, true) => Ok(()),
            (false, false) => write!(f, " by ({}) ", labels(&self.labels)),
            (true, _) => write!(f, " without ({}) ", labels(&self.labels)),
        }
    }
}

/// Whether a label name needs no quotes.
fn is_plain_label(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic())
        && bytes.all(|b| b == b'_' || b.is_ascii_alphanumeric())
}

fn label(name: &str) -> String {
    if is_plain_label(name) { name.to_owned() } else { quote(name.as_bytes()) }
}

fn labels(names: &[String]) -> String {
    names.iter().map(|n| label(n)).collect::<Vec<_>>().join(", ")
}

/// `bool`, `on`, `group_left`, `fill` and their like, each with a space in front.
pub(crate) struct Matching<'e>(pub(crate) &'e Binary);

impl fmt::Display for Matching<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        matching(self.0, f)
    }
}

fn matching(e: &Binary, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if e.return_bool {
        f.write_str(" bool")?;
    }
    let m = &e.matching;
    let group = match m.card {
        Cardinality::ManyToOne => Some("group_left"),
        Cardinality::OneToMany => Some("group_right"),
        Cardinality::OneToOne | Cardinality::ManyToMany => None,
    };
    if !m.labels.is_empty() || m.on || group.is_some() {
        let word = if m.on { "on" } else { "ignoring" };
        write!(f, " {word} ({})", labels(&m.labels))?;
    }
    if let Some(word) = group {
        write!(f, " {word} ({})", labels(&m.include))?;
    }
    match (m.fill.left, m.fill.right) {
        (Some(left), Some(right)) if left == right => write!(f, " fill ({})", float_general(left)),
        (left, right) => {
            if let Some(left) = left {
                write!(f, " fill_left ({})", float_general(left))?;
            }
            if let Some(right) = right {
                write!(f, " fill_right ({})", float_general(right))?;
            }
            Ok(())
        }
    }
}

/// A matcher as it stands in braces, its label in quotes if it must be.
pub fn matcher_text(matcher: &Matcher) -> String {
    format!("{}{}{}", label(matcher.name()), matcher.op(), quote(matcher.value().as_bytes()))
}

/// The selector without its modifiers. Matchers are sorted by their text.
fn series(e: &VectorSelector, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let name = e.name.as_deref().unwrap_or_default();
    f.write_str(name)?;
    let is_name = |m: &Matcher| {
        m.name() == METRIC_NAME && m.op() == MatchOp::Equal && m.value() == name && !name.is_empty()
    };
    let mut texts: Vec<String> = e.matchers.iter().filter(|m| !is_name(m)).map(matcher_text).collect();
    texts.sort();
    if texts.is_empty() && !name.is_empty() {
        return Ok(());
    }
    write!(f, "{{{}}}", texts.join(","))
}

fn at(at: Option<At>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match at {
        Some(At::Timestamp(ms)) => {
            let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
            write!(f, " @ {sign}{}.{:03}", ms / 1000, ms % 1000)
        }
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
        None => Ok(()),
    }
}

/// A range, step or offset: a number as a duration if it is one of whole milliseconds, arithmetic as written.
fn span_of_time(expr: &DurationExpr) -> String {
    match expr {
        DurationExpr::Number { seconds, .. } => {
            let is_whole = (seconds * 1000.0).round() / 1000.0 == *seconds;
            number(*seconds, is_whole)
        }
        _ => expr.to_string(),
    }
}

fn offset(offset: Option<&DurationExpr>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    offset.map_or(Ok(()), |o| write!(f, " offset {}", span_of_time(o)))
}

/// Whether an arithmetic operator behind this offset would be read as part of it. Such an offset is written in front of
/// the other modifiers, where the text meant it to end.
fn is_open(offset: Option<&DurationExpr>) -> bool {
    let mut first = offset;
    while let Some(DurationExpr::Binary { op, left, .. }) = first {
        if matches!(op, DurationOp::Min | DurationOp::Max) {
            return false;
        }
        first = Some(left);
    }
    matches!(first, Some(DurationExpr::Paren { .. }))
}

/// All modifiers. Those of the selector in a window come in another order than those of a selector on its own.
fn modifiers(e: &VectorSelector, window: bool, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let open = is_open(e.offset.as_ref());
    if open {
        offset(e.offset.as_ref(), f)?;
    }
    if window {
        extended(e, f)?;
        at(e.at, f)?;
    } else {
        at(e.at, f)?;
        extended(e, f)?;
    }
    if open { Ok(()) } else { offset(e.offset.as_ref(), f) }
}

fn extended(e: &VectorSelector, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match (e.anchored, e.smoothed) {
        (true, _) => f.write_str(" anchored"),
        (_, true) => f.write_str(" smoothed"),
        _ => Ok(()),
    }
}

impl fmt::Display for VectorSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        series(self, f)?;
        modifiers(self, false, f)
    }
}

impl fmt::Display for MatrixSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        series(&self.selector, f)?;
        write!(f, "[{}]", span_of_time(&self.range))?;
        modifiers(&self.selector, true, f)
    }
}

impl fmt::Display for Subquery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.expr, SubqueryRange(self))
    }
}

/// What stands behind the expression of a subquery: `[1h:5m] @ start() offset 1h`.
pub(crate) struct SubqueryRange<'e>(pub(crate) &'e Subquery);

impl fmt::Display for SubqueryRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let e = self.0;
        let step = e.step.as_ref().map(span_of_time).unwrap_or_default();
        write!(f, "[{}:{step}]", span_of_time(&e.range))?;
        if is_open(e.offset.as_ref()) {
            offset(e.offset.as_ref(), f)?;
            return at(e.at, f);
        }
        at(e.at, f)?;
        offset(e.offset.as_ref(), f)
    }
}

impl fmt::Display for DurationExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { seconds, duration, .. } => f.write_str(&number(*seconds, *duration)),
            Self::Step { .. } => f.write_str("step()"),
            Self::Range { .. } => f.write_str("range()"),
            Self::Negate { operand, .. } => write!(f, "-{operand}"),
            Self::Paren { inner, .. } => write!(f, "({inner})"),
            Self::Binary { op, left, right, .. } => {
                let sign = match op {
                    DurationOp::Add => "+",
                    DurationOp::Sub => "-",
                    DurationOp::Mul => "*",
                    DurationOp::Div => "/",
                    DurationOp::Mod => "%",
                    DurationOp::Pow => "^",
                    DurationOp::Min => return write!(f, "min_of({left}, {right})"),
                    DurationOp::Max => return write!(f, "max_of({left}, {right})"),
                };
                write!(f, "{left} {sign} {right}")
            }
        }
    }
}

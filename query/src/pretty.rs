//! The text of a tree broken into lines of at most 100 bytes where it can be, as Prometheus' `format_query` answers it.

use crate::ast::{Binary, Expr};
use crate::print;
use std::fmt::{self, Write};

/// An expression longer than this is split.
const LINE_MAX: usize = 100;

/// The formatted text: an expression that fits a line stays on one, any other is split at its outermost operator, call,
/// aggregation or parentheses, its parts indented by two spaces a level. Selectors are never split.
pub fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    write(expr, 0, &mut out);
    out
}

/// Refuses what goes beyond a line.
struct Line {
    left: usize,
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.left = self.left.checked_sub(s.len()).ok_or(fmt::Error)?;
        Ok(())
    }
}

fn fits(expr: &Expr) -> bool {
    write!(Line { left: LINE_MAX }, "{expr}").is_ok()
}

fn indent(level: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", level));
}

/// Appends; writing to a string cannot fail.
fn push(out: &mut String, text: impl fmt::Display) {
    let _ = write!(out, "{text}");
}

fn write(expr: &Expr, level: usize, out: &mut String) {
    match expr {
        Expr::Unary(e) => {
            indent(level, out);
            push(out, e.op);
            let mut inner = String::new();
            write(&e.expr, level, &mut inner);
            out.push_str(inner.trim());
        }
        Expr::Subquery(e) if !fits(expr) => {
            write(&e.expr, level, out);
            push(out, print::SubqueryRange(e));
        }
        // As Prometheus does: a short subquery is not indented.
        Expr::Subquery(_) => push(out, expr),
        Expr::Binary(e) if !fits(expr) => binary(e, level, out),
        Expr::Aggregate(e) if !fits(expr) => {
            indent(level, out);
            push(out, e.op.name);
            push(out, &e.grouping);
            let parts: Vec<&Expr> = e.param.iter().map(|p| &**p).chain([&*e.expr]).collect();
            bracketed(&parts, level, out);
        }
        Expr::Call(e) if !fits(expr) => {
            indent(level, out);
            push(out, e.function.name);
            bracketed(&e.args.iter().collect::<Vec<_>>(), level, out);
        }
        Expr::Paren(e) if !fits(expr) => {
            indent(level, out);
            bracketed(&[&e.expr], level, out);
        }
        _ => {
            indent(level, out);
            push(out, expr);
        }
    }
}

fn binary(e: &Binary, level: usize, out: &mut String) {
    match print::bare_base(e) {
        Some(base) => {
            indent(level + 1, out);
            out.push_str(base);
        }
        None => write(&e.left, level + 1, out),
    }
    out.push('\n');
    indent(level, out);
    push(out, e.op);
    push(out, print::Matching(e));
    out.push('\n');
    write(&e.right, level + 1, out);
}

/// `(`, each part on lines of its own, `)`.
fn bracketed(parts: &[&Expr], level: usize, out: &mut String) {
    out.push_str("(\n");
    for (index, part) in parts.iter().enumerate() {
        out.push_str(if index > 0 { ",\n" } else { "" });
        write(part, level + 1, out);
    }
    out.push('\n');
    indent(level, out);
    out.push(')');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn formatted(text: &str) -> String {
        pretty(&crate::parse(text, &crate::ParseOptions::default()).unwrap())
    }

    #[test]
    fn short_expressions_stay_on_one_line() {
        assert_eq!(formatted("sum(rate(x [5m]))by(a)"), "sum by (a) (rate(x[5m]))");
    }

    #[test]
    fn long_expressions_are_split_where_they_are_too_long() {
        let long = "requests_of_a_service_with_a_long_name_total{service=\"checkout\",zone=\"eu-west-1\"}";
        let text = format!("topk by (a) (3, -rate({long}[5m]) / on (b) (1 + {long}))");
        let expected = format!("topk by (a) (\n  3,\n    -rate({long}[5m])\n  / on (b)\n    (1 + {long})\n)");
        assert_eq!(formatted(&text), expected);
        assert_eq!(formatted(&expected), expected);
    }
}

//! Function calls and aggregations.

use super::selector::label_list;
use super::stream::{Node, Parsed, Rule, Stream};
use super::token::{Keyword, Token, TokenKind};
use crate::ast::{Aggregate, Call, Expr, Grouping, NumberLiteral};
use crate::catalog::{Aggregator, Function};
use crate::format::quote;
use crate::span::Span;

/// `(a, b, c)`: the arguments, the height of the highest and where `)` is.
fn arguments(stream: &mut Stream<'_>, argument: Rule) -> Parsed<(Vec<Expr>, usize, Span)> {
    stream.expect(TokenKind::LeftParen)?;
    let mut args = Vec::new();
    let mut height = 0;
    if let Some(close) = stream.accept(TokenKind::RightParen) {
        return Ok((args, height, close.span));
    }
    loop {
        let (expr, arg_height) = stream.nested(argument)?;
        args.push(expr);
        height = height.max(arg_height);
        loop {
            stream.until(|kind| matches!(kind, TokenKind::Comma | TokenKind::RightParen))?;
            let Some(comma) = stream.accept(TokenKind::Comma) else {
                return Ok((args, height, stream.next().span));
            };
            if stream.peek().kind.starts_expression() {
                break;
            }
            let message = "trailing commas not allowed in function call args";
            stream.errors.add(comma.span, message);
        }
    }
}

/// Stands where no expression can be made; only in trees that are thrown away because of the mistake noted.
fn placeholder(span: Span) -> Expr {
    Expr::NumberLiteral(NumberLiteral { value: 0.0, duration: false, span })
}

/// `name(args)`.
pub(super) fn function(stream: &mut Stream<'_>, argument: Rule) -> Parsed<Node> {
    let token = stream.next();
    let written = token.span.of(stream.text);
    let function = Function::by_name(written);
    let (args, height, close) = arguments(stream, argument)?;
    let span = token.span.to(close);
    let height = stream.height(span, height)?;
    let Some(function) = function else {
        let name = quote(written.as_bytes());
        stream.errors.add(token.span, format!("unknown function with name {name}"));
        return Ok((placeholder(span), height));
    };
    if function.experimental && !stream.options.experimental_functions {
        let name = quote(written.as_bytes());
        stream.errors.add(token.span, format!("function {name} is not enabled"));
    }
    Ok((Expr::Call(Call { function, args, span }), height))
}

/// `sum by (label) (x)`, `topk without (label) (3, x)`, or with the labels behind the arguments.
pub(super) fn aggregate(stream: &mut Stream<'_>, op: &'static Aggregator, argument: Rule) -> Parsed<Node> {
    let token = stream.next();
    let result = aggregate_body(stream, op, token, argument);
    if let Some(node) = stream.part(result, ("aggregation", ""))? {
        return Ok(node);
    }
    let start = token.span.start;
    let span = Span { start, end: stream.last_closing(start) };
    stream.errors.add(span, NO_ARGUMENTS);
    Ok((placeholder(span), 1))
}

const NO_ARGUMENTS: &str = "no arguments for aggregate expression provided";

fn aggregate_body(
    stream: &mut Stream<'_>,
    op: &'static Aggregator,
    token: Token,
    argument: Rule,
) -> Parsed<Node> {
    let mut grouping = grouping_clause(stream)?;
    let (args, height, mut end) = arguments(stream, argument)?;
    if grouping.is_none() {
        grouping = grouping_clause(stream)?;
        if let Some((_, close)) = &grouping {
            end = *close;
        }
    }
    let grouping = grouping.map(|(grouping, _)| grouping).unwrap_or_default();
    let span = token.span.to(end);
    let height = stream.height(span, height)?;
    let given = args.len();
    let mut args = args.into_iter();
    let wanted = if op.param.is_some() { 2 } else { 1 };
    if given == 0 {
        stream.errors.add(span, NO_ARGUMENTS);
        return Ok((placeholder(span), height));
    }
    if op.experimental && !stream.options.experimental_functions {
        let name = op.name;
        stream.errors.add(span, format!("{name}() is experimental and must be enabled with --enable-feature=promql-experimental-functions"));
    }
    if given != wanted {
        stream.errors.add(
            span,
            format!(
                "wrong number of arguments for aggregate expression provided, expected {wanted}, got {given}"
            ),
        );
        return Ok((placeholder(span), height));
    }
    let param = if wanted == 2 { args.next().map(Box::new) } else { None };
    let Some(expr) = args.next().map(Box::new) else { return Ok((placeholder(span), height)) };
    Ok((Expr::Aggregate(Aggregate { op, grouping, param, expr, span }), height))
}

/// `by (...)` or `without (...)`, if there is one, and where it ends.
fn grouping_clause(stream: &mut Stream<'_>) -> Parsed<Option<(Grouping, Span)>> {
    let TokenKind::Keyword(word @ (Keyword::By | Keyword::Without)) = stream.peek().kind else {
        return Ok(None);
    };
    stream.next();
    let (labels, close) = label_list(stream)?;
    Ok(Some((Grouping { without: word == Keyword::Without, labels }, close)))
}

/// Whether an aggregator's name in front of such a token begins an aggregation and is not a metric name.
pub(super) fn opens_aggregate(behind: TokenKind) -> bool {
    matches!(behind, TokenKind::LeftParen | TokenKind::Keyword(Keyword::By | Keyword::Without))
}

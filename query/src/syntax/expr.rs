//! Expressions: operators by precedence, with waiting operators on a stack of our own instead of the call stack.

use super::modifier::{binary_modifiers, postfix};
use super::number::negated;
use super::stream::{Node, Parsed, Stop, Stream};
use super::token::TokenKind;
use super::{call, duration, literal, selector};
use crate::ast::{
    Binary, BinaryOp, Expr, NumberLiteral, Paren, StringLiteral, Unary, UnaryOp, VectorMatching,
};
use crate::span::Span;

/// An operator waiting for its right side.
enum Pending {
    Unary(UnaryOp, Span),
    Binary { op: BinaryOp, return_bool: bool, matching: VectorMatching },
}

impl Pending {
    /// A sign binds like a multiplication, so `-1 ^ 2` is `-(1 ^ 2)`.
    fn precedence(&self) -> u8 {
        match self {
            Self::Unary(..) => BinaryOp::Mul.precedence(),
            Self::Binary { op, .. } => op.precedence(),
        }
    }
}

/// An expression, as far as it goes.
pub(super) fn expression(stream: &mut Stream<'_>) -> Parsed<Node> {
    expression_from(stream, None)
}

/// An expression whose first operand may be read already; only what stands behind it is then read.
fn expression_from(stream: &mut Stream<'_>, mut first: Option<Node>) -> Parsed<Node> {
    let mut operands: Vec<Node> = Vec::new();
    let mut pending: Vec<Pending> = Vec::new();
    loop {
        let (expr, height) = match first.take() {
            Some(node) => node,
            None => {
                while let Some(sign) = sign(stream.until(TokenKind::starts_expression)?.kind) {
                    pending.push(Pending::Unary(sign, stream.next().span));
                }
                primary(stream)?
            }
        };
        operands.push(postfix(stream, expr, height)?);
        let TokenKind::Op(op) = stream.peek().kind else { break };
        let precedence = op.precedence();
        reduce(stream, &mut operands, &mut pending, |top| {
            top > precedence || top == precedence && !op.is_right_associative()
        })?;
        stream.next();
        let (return_bool, matching) = binary_modifiers(stream)?;
        pending.push(Pending::Binary { op, return_bool, matching });
    }
    reduce(stream, &mut operands, &mut pending, |_| true)?;
    operands.pop().ok_or(Stop::End)
}

fn sign(kind: TokenKind) -> Option<UnaryOp> {
    match kind {
        TokenKind::Op(BinaryOp::Add) => Some(UnaryOp::Plus),
        TokenKind::Op(BinaryOp::Sub) => Some(UnaryOp::Minus),
        _ => None,
    }
}

/// Gives the waiting operators that are due, by their precedence, their operands.
fn reduce(
    stream: &mut Stream<'_>,
    operands: &mut Vec<Node>,
    pending: &mut Vec<Pending>,
    due: impl Fn(u8) -> bool,
) -> Parsed<()> {
    while let Some(top) = pending.pop_if(|top| due(top.precedence())) {
        // Each waiting operator has pushed or found its operands before it waits.
        let Some((right, right_height)) = operands.pop() else { return Err(Stop::End) };
        let node = match top {
            Pending::Unary(op, span) => unary(stream, op, span, right, right_height)?,
            Pending::Binary { op, return_bool, matching } => {
                let Some((left, left_height)) = operands.pop() else { return Err(Stop::End) };
                let span = left.span().to(right.span());
                if !matching.fill.is_none() && !stream.options.fill_modifiers {
                    let message = "binop fill modifiers are experimental and not enabled";
                    stream.errors.add(span, message);
                }
                let height = stream.height(span, left_height.max(right_height))?;
                let (left, right) = (Box::new(left), Box::new(right));
                (Expr::Binary(Binary { op, left, right, return_bool, matching, span }), height)
            }
        };
        operands.push(node);
    }
    Ok(())
}

/// Puts a sign in front; a number takes it in.
fn unary(stream: &mut Stream<'_>, op: UnaryOp, sign: Span, expr: Expr, height: usize) -> Parsed<Node> {
    let span = sign.to(expr.span());
    if let Expr::NumberLiteral(number) = expr {
        let value = if op == UnaryOp::Minus { negated(number.value) } else { number.value };
        let duration = number.duration;
        return Ok((Expr::NumberLiteral(NumberLiteral { value, duration, span }), height));
    }
    let height = stream.height(span, height)?;
    Ok((Expr::Unary(Unary { op, expr: Box::new(expr), span }), height))
}

/// A literal, a selector, a call, an aggregation or something in parentheses.
fn primary(stream: &mut Stream<'_>) -> Parsed<Node> {
    if let Some((value, duration, span)) = duration::number_value(stream) {
        return Ok((Expr::NumberLiteral(NumberLiteral { value, duration, span }), 1));
    }
    let token = stream.peek();
    let behind = stream.peek_at(1).kind;
    match token.kind {
        TokenKind::String => {
            stream.next();
            let value = literal::unquote(token.span.of(stream.text));
            Ok((Expr::StringLiteral(StringLiteral { value, span: token.span }), 1))
        }
        TokenKind::LeftParen => {
            stream.next();
            let (mut expr, mut height) = stream.nested(expression)?;
            let close = loop {
                if let Some(close) = stream.accept(TokenKind::RightParen) {
                    break close;
                }
                stream.pass_over_one()?;
                (expr, height) = expression_from(stream, Some((expr, height)))?;
            };
            let span = token.span.to(close.span);
            let height = stream.height(span, height)?;
            Ok((Expr::Paren(Paren { expr: Box::new(expr), span }), height))
        }
        TokenKind::Aggregator(op) if call::opens_aggregate(behind) => call::aggregate(stream, op, expression),
        TokenKind::Identifier if behind == TokenKind::LeftParen => call::function(stream, expression),
        TokenKind::Keyword(word) if word.is_function() && behind == TokenKind::LeftParen => {
            call::function(stream, expression)
        }
        _ => Ok((Expr::VectorSelector(selector::vector_selector(stream)?), 1)),
    }
}

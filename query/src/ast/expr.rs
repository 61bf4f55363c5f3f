//! The nodes of the tree.

use super::{BinaryOp, DurationExpr, UnaryOp, ValueType, VectorMatching};
use crate::catalog::{Aggregator, Function};
use crate::span::Span;
use kymo_storage::model::{Matcher, Timestamp};

/// Any expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// `1.5`, `0x1f`, `Inf`, `5m`.
    NumberLiteral(NumberLiteral),
    /// `"text"`.
    StringLiteral(StringLiteral),
    /// `name{label="value"}`.
    VectorSelector(VectorSelector),
    /// `name[5m]`.
    MatrixSelector(MatrixSelector),
    /// `expr[1h:5m]`.
    Subquery(Subquery),
    /// `sum by (label) (expr)`.
    Aggregate(Aggregate),
    /// `left op right`.
    Binary(Binary),
    /// `-expr`.
    Unary(Unary),
    /// `name(args)`.
    Call(Call),
    /// `(expr)`, kept because printing keeps it.
    Paren(Paren),
}

/// A number, written as such or as a duration (then it is in seconds).
#[derive(Debug, Clone)]
pub struct NumberLiteral {
    /// The number.
    pub value: f64,
    /// Whether it was written as a duration.
    pub duration: bool,
    /// Where.
    pub span: Span,
}

impl PartialEq for NumberLiteral {
    /// By bits, so that `NaN` equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.value.to_bits() == other.value.to_bits()
            && self.duration == other.duration
            && self.span == other.span
    }
}

/// A text after its escapes were resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringLiteral {
    /// The bytes; escapes such as `\xff` can make them something other than UTF-8.
    pub value: Vec<u8>,
    /// Where, with its quotes.
    pub span: Span,
}

impl StringLiteral {
    /// The text, or `None` if the bytes are not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.value).ok()
    }
}

/// The instant `@` pins a selector to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// Milliseconds since the epoch.
    Timestamp(Timestamp),
    /// `start()`: the first step of the query.
    Start,
    /// `end()`: the last step of the query.
    End,
}

/// Series by name and labels.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSelector {
    /// The metric name, if written in front of the braces (a quoted name inside them is only a matcher).
    pub name: Option<String>,
    /// All conditions in the order written; the one that `name` stands for (`__name__="name"`) is among them, last.
    pub matchers: Vec<Matcher>,
    /// `offset D`.
    pub offset: Option<DurationExpr>,
    /// `@ T`.
    pub at: Option<At>,
    /// `anchored`: windows use the real samples at their borders. Stands behind the range of a [`MatrixSelector`].
    pub anchored: bool,
    /// `smoothed`: values are interpolated at borders.
    pub smoothed: bool,
    /// Where, with modifiers.
    pub span: Span,
}

/// A window of samples of each series. `offset`, `@`, `anchored` and `smoothed` are those of the selector inside.
#[derive(Debug, Clone, PartialEq)]
pub struct MatrixSelector {
    /// The series.
    pub selector: VectorSelector,
    /// How long the window is.
    pub range: DurationExpr,
    /// Where, with modifiers.
    pub span: Span,
}

/// An expression evaluated at every multiple of a step inside a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    /// What is evaluated.
    pub expr: Box<Expr>,
    /// How long the window is.
    pub range: DurationExpr,
    /// Its step; `None` means the engine's default.
    pub step: Option<DurationExpr>,
    /// `offset D`.
    pub offset: Option<DurationExpr>,
    /// `@ T`.
    pub at: Option<At>,
    /// Where, with modifiers.
    pub span: Span,
}

/// Which labels make the groups of an aggregation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grouping {
    /// `true` for `without`, `false` for `by` and for neither.
    pub without: bool,
    /// The labels.
    pub labels: Vec<String>,
}

/// Many series into one per group.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// Which aggregator.
    pub op: &'static Aggregator,
    /// The groups.
    pub grouping: Grouping,
    /// The first argument of those that take one (`topk(3, x)`).
    pub param: Option<Box<Expr>>,
    /// What is aggregated.
    pub expr: Box<Expr>,
    /// Where.
    pub span: Span,
}

/// Two expressions and an operator.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    /// The operator.
    pub op: BinaryOp,
    /// The left side.
    pub left: Box<Expr>,
    /// The right side.
    pub right: Box<Expr>,
    /// `bool`: a comparison answers 0 and 1 instead of filtering.
    pub return_bool: bool,
    /// How series are paired.
    pub matching: VectorMatching,
    /// Where.
    pub span: Span,
}

/// A sign in front of an expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Unary {
    /// The sign.
    pub op: UnaryOp,
    /// What it stands in front of.
    pub expr: Box<Expr>,
    /// Where.
    pub span: Span,
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Which function; match on `function.id`.
    pub function: &'static Function,
    /// The arguments as written.
    pub args: Vec<Expr>,
    /// Where.
    pub span: Span,
}

/// An expression in parentheses.
#[derive(Debug, Clone, PartialEq)]
pub struct Paren {
    /// What is inside.
    pub expr: Box<Expr>,
    /// Where, with the parentheses.
    pub span: Span,
}

impl Expr {
    /// Where the expression stands.
    pub fn span(&self) -> Span {
        match self {
            Self::NumberLiteral(e) => e.span,
            Self::StringLiteral(e) => e.span,
            Self::VectorSelector(e) => e.span,
            Self::MatrixSelector(e) => e.span,
            Self::Subquery(e) => e.span,
            Self::Aggregate(e) => e.span,
            Self::Binary(e) => e.span,
            Self::Unary(e) => e.span,
            Self::Call(e) => e.span,
            Self::Paren(e) => e.span,
        }
    }

    /// What the expression yields, taking for granted that it passed the checker.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::NumberLiteral(_) => ValueType::Scalar,
            Self::StringLiteral(_) => ValueType::String,
            Self::VectorSelector(_) | Self::Aggregate(_) => ValueType::Vector,
            Self::MatrixSelector(_) | Self::Subquery(_) => ValueType::Matrix,
            Self::Binary(e) => {
                let scalar = |side: &Self| side.value_type() == ValueType::Scalar;
                if scalar(&e.left) && scalar(&e.right) { ValueType::Scalar } else { ValueType::Vector }
            }
            Self::Unary(e) => e.expr.value_type(),
            Self::Call(e) => e.function.returns,
            Self::Paren(e) => e.expr.value_type(),
        }
    }

    /// The expression without the parentheses around it.
    pub fn unwrap_parens(&self) -> &Self {
        let mut inner = self;
        while let Self::Paren(paren) = inner {
            inner = &paren.expr;
        }
        inner
    }

    /// Calls `visit` on this expression and all below, parents first, left before right.
    pub fn walk<'e>(&'e self, visit: &mut impl FnMut(&'e Self)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
    }

    /// The expressions directly below, left to right (a parameter before what is aggregated). The selector inside a
    /// [`MatrixSelector`] is part of it and not a child.
    pub fn children(&self) -> Vec<&Self> {
        match self {
            Self::NumberLiteral(_)
            | Self::StringLiteral(_)
            | Self::VectorSelector(_)
            | Self::MatrixSelector(_) => Vec::new(),
            Self::Subquery(e) => vec![&*e.expr],
            Self::Aggregate(e) => e.param.iter().map(|p| &**p).chain([&*e.expr]).collect(),
            Self::Binary(e) => vec![&*e.left, &*e.right],
            Self::Unary(e) => vec![&*e.expr],
            Self::Call(e) => e.args.iter().collect(),
            Self::Paren(e) => vec![&*e.expr],
        }
    }

    /// Forgets where everything stood, so that equal expressions compare as equal.
    pub fn clear_spans(&mut self) {
        let none = Span::default();
        match self {
            Self::NumberLiteral(e) => e.span = none,
            Self::StringLiteral(e) => e.span = none,
            Self::VectorSelector(e) => e.clear_spans(),
            Self::MatrixSelector(e) => {
                e.span = none;
                e.selector.clear_spans();
                e.range.clear_spans();
            }
            Self::Subquery(e) => {
                e.span = none;
                e.expr.clear_spans();
                e.range.clear_spans();
                e.step.iter_mut().chain(&mut e.offset).for_each(DurationExpr::clear_spans);
            }
            Self::Aggregate(e) => {
                e.span = none;
                e.param.iter_mut().for_each(|p| p.clear_spans());
                e.expr.clear_spans();
            }
            Self::Binary(e) => {
                e.span = none;
                e.left.clear_spans();
                e.right.clear_spans();
            }
            Self::Unary(e) => {
                e.span = none;
                e.expr.clear_spans();
            }
            Self::Call(e) => {
                e.span = none;
                e.args.iter_mut().for_each(Self::clear_spans);
            }
            Self::Paren(e) => {
                e.span = none;
                e.expr.clear_spans();
            }
        }
    }
}

impl VectorSelector {
    /// Forgets where everything stood.
    pub fn clear_spans(&mut self) {
        self.span = Span::default();
        self.offset.iter_mut().for_each(DurationExpr::clear_spans);
    }
}

//! Types: what each operator, function and aggregator takes.

use crate::ast::{Aggregate, Binary, Call, Cardinality, Expr, ValueType, VectorMatching, VectorSelector};
use crate::catalog::FunctionId;
use crate::error::{ErrorList, ParseError};
use crate::format::quote;
use crate::span::Span;
use kymo_storage::model::METRIC_NAME;
use std::collections::HashSet;

/// Checks a tree read from `text` and completes it: set operators become many-to-many, and the matching of operators that
/// do not join two vectors is dropped.
///
/// # Errors
/// All mistakes found, the innermost first; never an empty list.
pub fn check(expr: &mut Expr, text: &str) -> Result<ValueType, Vec<ParseError>> {
    let mut checker = Checker { text, errors: ErrorList::new(text) };
    let result = checker.expr(expr, false);
    checker.errors.finish(result)
}

struct Checker<'t> {
    text: &'t str,
    errors: ErrorList<'t>,
}

impl Checker<'_> {
    /// The type of `expr`. `any_series` lifts the rule that a selector must name something.
    fn expr(&mut self, expr: &mut Expr, any_series: bool) -> ValueType {
        match expr {
            Expr::NumberLiteral(_) => ValueType::Scalar,
            Expr::StringLiteral(_) => ValueType::String,
            Expr::VectorSelector(e) => {
                self.selector(e, e.span, any_series);
                ValueType::Vector
            }
            Expr::MatrixSelector(e) => {
                self.selector(&e.selector, e.selector.span, false);
                ValueType::Matrix
            }
            Expr::Subquery(e) => {
                let met = self.expr(&mut e.expr, false);
                if met != ValueType::Vector {
                    let met = met.api_name();
                    self.errors.add(
                        e.span,
                        format!("subquery is only allowed on instant vector, got {met} instead"),
                    );
                }
                ValueType::Matrix
            }
            Expr::Aggregate(e) => self.aggregate(e),
            Expr::Binary(e) => self.binary(e),
            Expr::Unary(e) => {
                let met = self.expr(&mut e.expr, false);
                if !is_number(met) {
                    let met = quote(met.to_string().as_bytes());
                    self.errors.add(e.span, format!("unary expression only allowed on expressions of type scalar or instant vector, got {met}"));
                }
                met
            }
            Expr::Call(e) => self.call(e),
            Expr::Paren(e) => self.expr(&mut e.expr, false),
        }
    }

    fn selector(&mut self, selector: &VectorSelector, span: Span, any_series: bool) {
        let Some(name) = &selector.name else {
            if !any_series && selector.matchers.iter().all(|m| m.matches_empty()) {
                self.errors.add(span, "vector selector must contain at least one non-empty matcher");
            }
            return;
        };
        // The last matcher is the one made of the name.
        let written = selector.matchers.split_last().map_or(&[][..], |(_, rest)| rest);
        for again in written.iter().filter(|m| m.name() == METRIC_NAME) {
            let (name, again) = (quote(name.as_bytes()), quote(again.value().as_bytes()));
            self.errors.add(span, format!("metric name must not be set twice: {name} or {again}"));
        }
    }

    fn expect(&mut self, expr: &mut Expr, want: ValueType, context: &str) {
        let met = self.expr(expr, false);
        if met != want {
            let message = format!("expected type {want} in {context}, got {met}");
            self.errors.add(expr.span(), message);
        }
    }

    fn aggregate(&mut self, e: &mut Aggregate) -> ValueType {
        self.expect(&mut e.expr, ValueType::Vector, "aggregation expression");
        if let (Some(param), Some(want)) = (&mut e.param, e.op.param) {
            self.expect(param, want, "aggregation parameter");
        }
        ValueType::Vector
    }

    fn binary(&mut self, e: &mut Binary) -> ValueType {
        let left = self.expr(&mut e.left, false);
        let right = self.expr(&mut e.right, false);
        let scalars = left == ValueType::Scalar && right == ValueType::Scalar;
        if e.return_bool && !e.op.is_comparison() {
            let message = "bool modifier can only be used on comparison operators";
            self.errors.add(self.operator_span(e), message);
        }
        if e.op.is_comparison() && !e.return_bool && scalars {
            let message = "comparisons between scalars must use BOOL modifier";
            self.errors.add(self.operator_span(e), message);
        }
        if e.op.is_set() && e.matching.card == Cardinality::OneToOne {
            e.matching.card = Cardinality::ManyToMany;
        }
        if e.matching.on {
            // A set, because lists of labels can be long and comparing each with each longer still.
            let include: HashSet<&String> = e.matching.include.iter().collect();
            for label in e.matching.labels.iter().filter(|l| include.contains(l)) {
                let label = quote(label.as_bytes());
                let message = format!("label {label} must not occur in ON and GROUP clause at once");
                self.errors.add(self.operator_span(e), message);
            }
        }
        for (side, met) in [(&e.left, left), (&e.right, right)] {
            if !is_number(met) {
                let message = "binary expression must contain only scalar and instant vector types";
                self.errors.add(side.span(), message);
            }
        }
        if left != ValueType::Vector || right != ValueType::Vector {
            self.no_matching(e);
        } else if e.op.is_set() {
            self.set_matching(e);
        }
        if e.op.is_set() && (left == ValueType::Scalar || right == ValueType::Scalar) {
            let op = e.op;
            let message = format!("set operator \"{op}\" not allowed in binary scalar expression");
            self.errors.add(e.span, message);
        }
        if scalars { ValueType::Scalar } else { ValueType::Vector }
    }

    /// The rules of operators that do not join two vectors.
    fn no_matching(&mut self, e: &mut Binary) {
        if !e.matching.labels.is_empty() {
            self.errors.add(e.span, "vector matching only allowed between instant vectors");
        }
        if !e.matching.fill.is_none() {
            let message = "filling in missing series only allowed between instant vectors";
            self.errors.add(e.span, message);
        }
        e.matching = VectorMatching::default();
    }

    /// The rules of set operators.
    fn set_matching(&mut self, e: &Binary) {
        if e.matching.card != Cardinality::ManyToMany {
            let op = e.op;
            self.errors.add(e.span, format!("no grouping allowed for \"{op}\" operation"));
            self.errors.add(e.span, "set operations must always be many-to-many");
        }
        if !e.matching.fill.is_none() {
            let message = "filling in missing series not allowed for set operators";
            self.errors.add(e.span, message);
        }
    }

    /// Where the operator is: from behind the left side up to the right side, without white space.
    fn operator_span(&self, e: &Binary) -> Span {
        let end = e.left.span().after();
        let between = Span { start: end.start, end: e.right.span().start };
        let text = between.of(self.text);
        let skipped = text.len() - text.trim_start().len();
        let start = (between.start as usize).saturating_add(skipped);
        Span::new(start, start.saturating_add(text.trim().len()))
    }

    fn call(&mut self, e: &mut Call) -> ValueType {
        let (name, given) = (e.function.name, e.args.len());
        let (min, max) = (e.function.args_min, e.function.args_max);
        if max == Some(min) {
            if given != min {
                let message = format!("expected {min} argument(s) in call to \"{name}\", got {given}");
                self.errors.add(e.span, message);
            }
        } else if given < min {
            let message = format!("expected at least {min} argument(s) in call to \"{name}\", got {given}");
            self.errors.add(e.span, message);
        } else if let Some(max) = max
            && given > max
        {
            let message = format!("expected at most {max} argument(s) in call to \"{name}\", got {given}");
            self.errors.add(e.span, message);
        }
        let info = e.function.id == FunctionId::Info;
        if info {
            self.info_selector(e);
        }
        // Arguments too many for a function that takes a fixed number have no type to check against.
        let checked = if max == Some(min) { e.function.args.len() } else { given };
        for (index, arg) in e.args.iter_mut().take(checked).enumerate() {
            let met = self.expr(arg, info && index == 1);
            if let Some(want) = e.function.arg(index)
                && met != want
            {
                let message = format!("expected type {want} in call to function \"{name}\", got {met}");
                self.errors.add(arg.span(), message);
            }
        }
        e.function.returns
    }

    /// The second argument of `info` only filters: a selector without a name, which may match everything.
    fn info_selector(&mut self, e: &Call) {
        match e.args.get(1) {
            Some(Expr::VectorSelector(selector)) if selector.name.is_some() => {
                let message = "expected label selectors only, got vector selector instead";
                self.errors.add(selector.span, message);
            }
            Some(Expr::VectorSelector(_)) | None => {}
            Some(other) => self.errors.add(other.span(), "expected label selectors only"),
        }
    }
}

fn is_number(met: ValueType) -> bool {
    matches!(met, ValueType::Scalar | ValueType::Vector)
}

//! Syntax tree -> plan.

use super::Grid;
use super::invariant::is_invariant;
use super::node::{Matching, Node, NodeKind, Plan, Select, Window, WindowSource, hull};
use crate::ast::{
    At, BinaryOp, DurationExpr, Expr, MatrixSelector, Subquery, UnaryOp, ValueType, VectorSelector,
};
use crate::catalog::FunctionId;
use crate::error::ParseError;
use crate::failure::{FailureKind, QueryError};
use crate::limits;
use crate::math::elementwise;
use crate::math::extended::Border;
use crate::math::window::WindowSteps;
use crate::span::Span;
use kymo_storage::model::{Labels, LabelsBuilder, METRIC_NAME, MatchOp, Matcher, TimeRange, Timestamp};

/// The query as asked, apart from its text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'t> {
    /// The text, for places in messages.
    pub(crate) text: &'t str,
    /// The first step.
    pub(crate) start: Timestamp,
    /// The last instant asked for; of an instant query the only step.
    pub(crate) end: Timestamp,
    /// Milliseconds between steps; zero for an instant query.
    pub(crate) step: i64,
    /// How far an instant selector looks back, in milliseconds.
    pub(crate) lookback: i64,
    /// The step of subqueries that give none, in milliseconds.
    pub(crate) subquery_step: i64,
    /// The most steps a subquery may have.
    pub(crate) steps_max: u64,
}

impl Question<'_> {
    /// The steps.
    pub(crate) fn grid(&self) -> Grid {
        if self.step == 0 {
            Grid::between(self.start, self.start, 1)
        } else {
            Grid::between(self.start, self.end, self.step)
        }
    }

    /// What the function `step()` says: a range of one instant has no step. (In durations it has: so it is in Prometheus.)
    fn shown_step(&self) -> i64 {
        if self.start == self.end { 0 } else { self.step }
    }

    fn range(&self) -> i64 {
        self.end.saturating_sub(self.start)
    }

    fn pinned(&self, at: Option<At>) -> Option<Timestamp> {
        at.map(|at| match at {
            At::Timestamp(t) => t,
            At::Start => self.start,
            At::End => self.end,
        })
    }

    fn bad_duration(&self, (span, message): (Span, &'static str)) -> QueryError {
        vec![ParseError::new(self.text, span, message)].into()
    }

    fn offset(&self, offset: Option<&DurationExpr>) -> Result<i64, QueryError> {
        offset.map_or(Ok(0), |d| d.millis(self.step, self.range()).map_err(|e| self.bad_duration(e)))
    }

    fn positive(&self, duration: &DurationExpr) -> Result<i64, QueryError> {
        duration.positive_millis(self.step, self.range()).map_err(|e| self.bad_duration(e))
    }
}

/// Plans `expr`, which has passed the checker.
///
/// # Errors
/// A duration that cannot be computed, a subquery of too many steps.
pub(crate) fn plan(expr: &Expr, question: &Question<'_>) -> Result<Plan, QueryError> {
    let mut planner = Planner { question, selects: Vec::new(), above: Above::default() };
    let root = planner.node(expr, question.grid())?;
    Ok(Plan { root, selects: planner.selects })
}

struct Planner<'q> {
    question: &'q Question<'q>,
    selects: Vec<Select>,
    above: Above,
}

/// What stands above an expression as far as it matters to the native histograms below.
#[derive(Debug, Clone, Copy, Default)]
struct Above {
    /// A function that asks only for counts and sums.
    totals: bool,
    /// Something that needs the buckets, if only to find out where counting began anew.
    buckets: bool,
}

impl Planner<'_> {
    fn node(&mut self, expr: &Expr, grid: Grid) -> Result<Node, QueryError> {
        let expr = expr.unwrap_parens();
        let span = expr.span();
        let value_type = expr.value_type();
        let by_steps = grid.count > 1 && matches!(value_type, ValueType::Scalar | ValueType::Vector);
        if by_steps && is_invariant(expr) {
            let inner = self.node(expr, grid.once())?;
            if matches!(inner.kind, NodeKind::Number(_)) {
                return Ok(inner);
            }
            return Ok(Node { kind: NodeKind::Once(Box::new(inner)), value_type, span });
        }
        let kind = match expr {
            Expr::NumberLiteral(e) => NodeKind::Number(e.value),
            Expr::StringLiteral(e) => NodeKind::Text(e.value.clone()),
            Expr::VectorSelector(e) => NodeKind::Instant(self.instant(e, grid)?),
            Expr::MatrixSelector(e) => NodeKind::Range(self.matrix(e, grid)?),
            Expr::Subquery(e) => NodeKind::Range(self.subquery(e, grid)?),
            Expr::Call(e) => self.call(e.function.id, &e.args, span, grid)?,
            Expr::Aggregate(e) => NodeKind::Aggregate {
                id: e.op.id,
                grouping: e.grouping.clone(),
                param: e.param.as_deref().map(|p| self.boxed(p, grid)).transpose()?,
                input: self.boxed(&e.expr, grid)?,
            },
            Expr::Binary(e) => {
                let above = self.above;
                self.above.buckets |= matches!(e.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
                let (left, right) = (self.boxed(&e.left, grid)?, self.boxed(&e.right, grid)?);
                self.above = above;
                if let (NodeKind::Number(a), NodeKind::Number(b)) = (&left.kind, &right.kind) {
                    NodeKind::Number(elementwise::operate(e.op, *a, *b))
                } else {
                    let m = &e.matching;
                    let matching = Matching {
                        card: m.card,
                        on: m.on,
                        labels: m.labels.clone(),
                        include: m.include.clone(),
                        fill: m.fill,
                        return_bool: e.return_bool,
                    };
                    NodeKind::Binary { op: e.op, left, right, matching }
                }
            }
            Expr::Unary(e) => {
                let inner = self.node(&e.expr, grid)?;
                match (e.op, &inner.kind) {
                    (UnaryOp::Plus, _) => return Ok(inner),
                    (UnaryOp::Minus, NodeKind::Number(v)) => NodeKind::Number(-v),
                    (UnaryOp::Minus, _) => NodeKind::Negate(Box::new(inner)),
                }
            }
            Expr::Paren(_) => return Err(QueryError::internal("parentheses are taken off before")),
        };
        Ok(Node { kind, value_type, span })
    }

    fn boxed(&mut self, expr: &Expr, grid: Grid) -> Result<Box<Node>, QueryError> {
        self.node(expr, grid).map(Box::new)
    }

    fn call(
        &mut self,
        id: FunctionId,
        args: &[Expr],
        span: Span,
        grid: Grid,
    ) -> Result<NodeKind, QueryError> {
        let seconds = |ms: i64| NodeKind::Number(ms as f64 / 1000.0);
        match id {
            FunctionId::Pi => return Ok(NodeKind::Number(std::f64::consts::PI)),
            FunctionId::Start => return Ok(seconds(self.question.start)),
            FunctionId::End => return Ok(seconds(self.question.end)),
            FunctionId::Step => return Ok(seconds(self.question.shown_step())),
            FunctionId::Range => return Ok(seconds(self.question.range())),
            FunctionId::Absent | FunctionId::AbsentOverTime => {
                let Some(arg) = args.first() else {
                    return Err(QueryError::internal("absent functions have an argument"));
                };
                let mut input = self.node(arg, grid)?;
                if id == FunctionId::AbsentOverTime {
                    // Presence is all that counts, and series that differ only in their names must not meet.
                    let kind = NodeKind::Call { id: FunctionId::LastOverTime, args: vec![input] };
                    input = Node { kind, value_type: ValueType::Vector, span };
                }
                return Ok(NodeKind::Absent { input: Box::new(input), labels: absent_labels(arg) });
            }
            _ => {}
        }
        if let (FunctionId::Timestamp, [arg]) = (id, args) {
            let mut input = match arg.unwrap_parens() {
                Expr::VectorSelector(e) => {
                    let kind = NodeKind::Instant(self.newest(e, grid)?);
                    Node { kind, value_type: ValueType::Vector, span: arg.span() }
                }
                _ => self.node(arg, grid)?,
            };
            // A selector behind a plus sign is none: what has been computed has the time of the step.
            if matches!(arg.unwrap_parens(), Expr::Unary(_)) {
                input = Node { kind: NodeKind::Negate(Box::new(input)), value_type: ValueType::Vector, span };
            }
            return Ok(NodeKind::Call { id, args: vec![input] });
        }
        let above = self.above;
        match id {
            FunctionId::HistogramCount | FunctionId::HistogramSum | FunctionId::HistogramAvg => {
                self.above.totals = true;
            }
            FunctionId::HistogramQuantile
            | FunctionId::HistogramQuantiles
            | FunctionId::HistogramFraction => self.above.buckets = true,
            _ => {}
        }
        let args: Vec<Node> = args.iter().map(|a| self.node(a, grid)).collect::<Result<_, _>>()?;
        self.above = above;
        if let (FunctionId::MinOf | FunctionId::MaxOf, [a, b]) = (id, &args[..])
            && let (NodeKind::Number(a), NodeKind::Number(b)) = (&a.kind, &b.kind)
        {
            let pick = if id == FunctionId::MinOf { elementwise::smaller } else { elementwise::greater };
            return Ok(NodeKind::Number(pick(*a, *b)));
        }
        for arg in &args {
            if let NodeKind::Range(Window { border: Some(border), .. }) = &arg.kind {
                check_border(id, *border)?;
            }
        }
        Ok(NodeKind::Call { id, args })
    }

    fn steps(&self, at: Option<At>, offset: i64, range: i64, grid: Grid) -> WindowSteps {
        match self.question.pinned(at) {
            Some(t) => WindowSteps { first: t.saturating_sub(offset), step: 0, count: grid.count, range },
            None => WindowSteps {
                first: grid.start.saturating_sub(offset),
                step: grid.step,
                count: grid.count,
                range,
            },
        }
    }

    fn instant(&mut self, e: &VectorSelector, grid: Grid) -> Result<Window, QueryError> {
        let offset = self.question.offset(e.offset.as_ref())?;
        let steps = self.steps(e.at, offset, self.question.lookback, grid);
        let border = e.smoothed.then_some(Border::Smoothed);
        let read = if e.smoothed { steps.widened(0, self.question.lookback) } else { steps };
        Ok(Window { source: self.select(&e.matchers, &read), steps, border, read, totals: self.totals() })
    }

    /// The window of a selector inside of `timestamp()`, where Prometheus does not interpolate and looks back from the time after
    /// `@` at what it has read for that time and the offset together.
    fn newest(&mut self, e: &VectorSelector, grid: Grid) -> Result<Window, QueryError> {
        let offset = self.question.offset(e.offset.as_ref())?;
        let mut steps = self.steps(e.at, offset, self.question.lookback, grid);
        if e.at.is_some() {
            steps.range = self.question.lookback.saturating_sub(offset.saturating_abs()).max(0);
            steps.first = steps.first.saturating_add(offset.min(0));
        }
        let source = self.select(&e.matchers, &steps);
        Ok(Window { source, steps, border: None, read: steps, totals: self.totals() })
    }

    fn matrix(&mut self, e: &MatrixSelector, grid: Grid) -> Result<Window, QueryError> {
        let offset = self.question.offset(e.selector.offset.as_ref())?;
        let range = self.question.positive(&e.range)?;
        let steps = self.steps(e.selector.at, offset, range, grid);
        let border = match (e.selector.anchored, e.selector.smoothed) {
            (true, _) => Some(Border::Anchored),
            (_, true) => Some(Border::Smoothed),
            _ => None,
        };
        let read = border.map_or(steps, |b| b.widen(&steps, self.question.lookback));
        let source = self.select(&e.selector.matchers, &read);
        Ok(Window { source, steps, border, read, totals: self.totals() })
    }

    fn subquery(&mut self, e: &Subquery, grid: Grid) -> Result<Window, QueryError> {
        let offset = self.question.offset(e.offset.as_ref())?;
        let range = self.question.positive(&e.range)?;
        let step = match &e.step {
            Some(step) => self.question.positive(step)?,
            None => self.question.subquery_step,
        };
        let steps = self.steps(e.at, offset, range, grid);
        let inner_grid = if grid.count == 0 {
            Grid { start: steps.first, step, count: 0, end: steps.first }
        } else {
            Grid::multiples(step, steps.first.saturating_sub(range), steps.last())
        };
        if inner_grid.count as u64 > self.question.steps_max {
            return Err(limits::too_many_samples(self.question.steps_max, inner_grid.count as u64));
        }
        let above = self.above;
        self.above.buckets = true;
        let inner = self.boxed(&e.expr, inner_grid)?;
        self.above = above;
        Ok(Window {
            source: WindowSource::Subquery { inner, grid: inner_grid },
            steps,
            border: None,
            read: steps,
            totals: false,
        })
    }

    fn totals(&self) -> bool {
        self.above.totals && !self.above.buckets
    }

    /// Equal selectors share one select over all the time they need.
    fn select(&mut self, matchers: &[Matcher], read: &WindowSteps) -> WindowSource {
        let range = read_range(read);
        if let Some(at) = self.selects.iter().position(|s| s.matchers == matchers) {
            let known = &mut self.selects[at].range;
            *known = hull(*known, range);
            return WindowSource::Select(at);
        }
        self.selects.push(Select { matchers: matchers.to_vec(), range });
        WindowSource::Select(self.selects.len() - 1)
    }
}

/// All the time that windows cover: their starts are outside.
pub(crate) fn read_range(read: &WindowSteps) -> TimeRange {
    let start = read.first.saturating_sub(read.range).saturating_add(1);
    TimeRange::closed(start.min(read.last()), read.last())
}

/// Only some functions know what to do with special borders.
fn check_border(id: FunctionId, border: Border) -> Result<(), QueryError> {
    let anchored = border == Border::Anchored;
    let known = match id {
        FunctionId::Rate | FunctionId::Increase | FunctionId::Delta => true,
        FunctionId::Changes | FunctionId::Resets => anchored,
        _ => false,
    };
    if known {
        return Ok(());
    }
    let name = crate::catalog::FUNCTIONS.iter().find(|f| f.id == id).map_or("", |f| f.name);
    let (what, allowed) = if anchored {
        ("anchored", "changes, delta, increase, rate, resets")
    } else {
        ("smoothed", "delta, increase, rate")
    };
    Err(QueryError::new(
        FailureKind::Execution,
        format!("{what} modifier can only be used with: {allowed} - not with {name}"),
    ))
}

/// The labels that `=` matchers of a selector say the missing series would have; a name that is matched twice says nothing.
fn absent_labels(expr: &Expr) -> Labels {
    let matchers = match expr.unwrap_parens() {
        Expr::VectorSelector(e) => &e.matchers,
        Expr::MatrixSelector(e) => &e.selector.matchers,
        _ => return Labels::empty(),
    };
    let mut builder = LabelsBuilder::new();
    let mut seen: Vec<&str> = Vec::new();
    for matcher in matchers.iter().filter(|m| m.name() != METRIC_NAME) {
        if matcher.op() == MatchOp::Equal && !seen.contains(&matcher.name()) {
            seen.push(matcher.name());
            builder.set(matcher.name(), matcher.value());
        } else {
            builder.remove(matcher.name());
        }
    }
    builder.build()
}

//! Plan -> sources.

use super::adapted::mapped_columns;
use super::aggregate;
use super::binary;
use super::call;
use super::context::Context;
use super::fan_out::drain;
use super::kernel::Kernel;
use super::matrix::{OnSame, nameless, repeated};
use super::metered::metered;
use super::scalar::Scalar;
use super::scan::{Input, Scan};
use super::source::Source;
use super::step_counts::Counted;
use crate::ast::ValueType;
use crate::catalog::FunctionId;
use crate::column::Column;
use crate::failure::QueryError;
use crate::math::elementwise;
use crate::math::histogram_arith::scale;
use crate::plan::{Grid, Node, NodeKind, Window, WindowSource, read_range};
use crate::span::Span;
use std::sync::Arc;

/// The source of a node that yields an instant vector.
///
/// # Errors
/// The store, a limit, or an expression that cannot be evaluated on this data.
pub(crate) fn vector(context: &Context, node: Node, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let Some(profile) = &context.profile else { return operator(context, node, grid) };
    let begun = profile.begin(&node, grid.count, context.budget.bytes_now());
    let built = operator(context, node, grid);
    profile.end(&begun, context.budget.bytes_now());
    Ok(metered(begun, built?))
}

/// Builds below a point from which samples count in another way.
pub(crate) fn counted<T>(context: &Context, counted: Counted, build: impl FnOnce() -> T) -> T {
    let Some(counts) = &context.step_counts else { return build() };
    let before = counts.enter(counted);
    let built = build();
    counts.leave(before);
    built
}

fn operator(context: &Context, node: Node, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let span = node.span;
    match node.kind {
        NodeKind::Instant(window) => leaf(context, window, Kernel::Newest, (span, false)),
        NodeKind::Once(inner) => {
            let once = counted(context, Counted::AtEveryStep, || vector(context, *inner, grid.once()))?;
            Ok(repeated(once, grid.count))
        }
        NodeKind::Negate(inner) => {
            let input = vector(context, *inner, grid)?;
            let negated = mapped_columns(input, |column: &mut Column, _: &Context| {
                column.map(|v| -v);
                for (_, histogram) in &mut column.histograms {
                    scale(Arc::make_mut(histogram), -1.0);
                }
            });
            nameless(context, negated, grid.count, OnSame::Merge)
        }
        NodeKind::Aggregate { id, grouping, param, input } => {
            aggregate::build(context, aggregate::Request { id, grouping, param, input, span }, grid)
        }
        NodeKind::Binary { op, left, right, matching } => {
            binary::build(context, binary::Request { op, left, right, matching, span }, grid)
        }
        NodeKind::Absent { input, labels } => call::absent(context, *input, labels, grid),
        NodeKind::Call { id, args } => call::build(context, call::Request { id, args, span }, grid),
        NodeKind::Number(_) | NodeKind::Text(_) | NodeKind::Range(_) => {
            Err(QueryError::internal("the checker admits only instant vectors here"))
        }
    }
}

/// The numbers of a node that yields a scalar.
///
/// # Errors
/// As [`vector`].
pub(crate) fn scalar(context: &Context, node: Node, grid: Grid) -> Result<Scalar, QueryError> {
    match node.kind {
        NodeKind::Number(value) => Ok(Scalar::Same(value)),
        NodeKind::Once(inner) => {
            let once = counted(context, Counted::AtEveryStep, || scalar(context, *inner, grid.once()))?;
            Ok(Scalar::Same(once.at(0)))
        }
        NodeKind::Negate(inner) => Ok(scalar(context, *inner, grid)?.map(|v| -v)),
        NodeKind::Binary { op, left, right, .. } => {
            context.hold(grid.count, grid.count as u64 * 8)?;
            let (left, right) = (scalar(context, *left, grid)?, scalar(context, *right, grid)?);
            Ok(left.zip(&right, grid.count, |a, b| elementwise::operate(op, a, b)))
        }
        NodeKind::Call { id: FunctionId::Time, .. } => {
            context.hold(grid.count, grid.count as u64 * 8)?;
            Ok(Scalar::Each((0..grid.count).map(|i| grid.time(i) as f64 / 1000.0).collect()))
        }
        NodeKind::Call { id: id @ (FunctionId::MinOf | FunctionId::MaxOf), args } => {
            let [a, b] = arguments(args)?;
            let (a, b) = (scalar(context, a, grid)?, scalar(context, b, grid)?);
            let pick = if id == FunctionId::MinOf { elementwise::smaller } else { elementwise::greater };
            Ok(a.zip(&b, grid.count, pick))
        }
        NodeKind::Call { id: FunctionId::Scalar, args } => {
            let [input] = arguments(args)?;
            let input = vector(context, input, grid)?;
            only_series(context, &*input, grid.count)
        }
        _ => Err(QueryError::internal("the checker admits only scalars here")),
    }
}

/// `scalar()`: the value at the steps with exactly one series, else `NaN`.
fn only_series(context: &Context, input: &dyn Source, steps: usize) -> Result<Scalar, QueryError> {
    context.hold(steps, steps as u64 * 12)?;
    let mut values = vec![f64::NAN; steps];
    let mut counts = vec![0u32; steps];
    drain(context, input, steps, |_, column| {
        for (step, value) in column.iter() {
            counts[step] = counts[step].saturating_add(1);
            values[step] = value;
        }
        Ok(())
    })?;
    for (value, count) in values.iter_mut().zip(counts) {
        if count != 1 {
            *value = f64::NAN;
        }
    }
    Ok(Scalar::Each(values))
}

/// The arguments of a call, whose number the checker has seen to.
///
/// # Errors
/// Another number of arguments.
pub(crate) fn arguments<const N: usize>(args: Vec<Node>) -> Result<[Node; N], QueryError> {
    args.try_into().map_err(|_| QueryError::internal("the checker sees to the number of arguments"))
}

/// The text of a string argument.
///
/// # Errors
/// The node is none.
pub(crate) fn text(node: Node) -> Result<Vec<u8>, QueryError> {
    match node.kind {
        NodeKind::Text(text) => Ok(text),
        _ => Err(QueryError::internal("the checker admits only strings here")),
    }
}

/// A leaf that computes `kernel` over `window`, which stands at `span`; `counter` if the function is meant for counters.
///
/// # Errors
/// As [`vector`].
pub(crate) fn leaf(
    context: &Context,
    window: Window,
    kernel: Kernel,
    (span, counter): (Span, bool),
) -> Result<Arc<dyn Source>, QueryError> {
    let (input, window) = input(context, window)?;
    Ok(Arc::new(Scan::new(context, input, window, kernel, span, counter)))
}

/// What a window reads, opened.
///
/// # Errors
/// As [`vector`].
pub(crate) fn input(context: &Context, window: Window) -> Result<(Input, Window), QueryError> {
    let Window { source, steps, border, read, totals } = window;
    let input = match source {
        WindowSource::Select(index) => Input::series(context, index, read_range(&read), totals)?,
        WindowSource::Subquery { inner, grid } => {
            debug_assert!(inner.value_type == ValueType::Vector || inner.value_type == ValueType::Scalar);
            let inner = counted(context, Counted::Nowhere, || {
                if inner.value_type == ValueType::Scalar {
                    call::vector_of(context, scalar(context, *inner, grid)?, grid.count)
                } else {
                    vector(context, *inner, grid)
                }
            })?;
            Input::subquery(context, inner, grid)?
        }
    };
    Ok((input, Window { source: WindowSource::Select(usize::MAX), steps, border, read, totals }))
}

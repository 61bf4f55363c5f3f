//! Functions of range vectors.

use super::super::build::{arguments, leaf, scalar};
use super::super::context::Context;
use super::super::kernel::Kernel;
use super::super::matrix::{OnSame, nameless};
use super::super::scalar::Scalar;
use super::super::source::Source;
use super::histogram::{has_samples, warn_about_quantiles};
use crate::catalog::FunctionId;
use crate::failure::QueryError;
use crate::plan::{Grid, Node, NodeKind, Window, WindowSource};
use crate::span::Span;
use std::sync::Arc;

/// Where what is said of a range vector is shown. Prometheus puts what it says of a subquery's values at the beginning.
fn place(node: &Node) -> Span {
    match &node.kind {
        NodeKind::Range(Window { source: WindowSource::Subquery { .. }, .. }) => Span::default(),
        _ => node.span,
    }
}

fn window(node: Node) -> Result<Window, QueryError> {
    match node.kind {
        NodeKind::Range(window) => Ok(window),
        _ => Err(QueryError::internal("the checker admits only range vectors here")),
    }
}

/// The source of a function of a range vector.
///
/// # Errors
/// As [`super::build`].
pub(super) fn build(
    context: &Context,
    id: FunctionId,
    args: Vec<Node>,
    grid: Grid,
) -> Result<Arc<dyn Source>, QueryError> {
    if let Some(kernel) = Kernel::of(id) {
        let [arg] = arguments(args)?;
        let counter = matches!(id, FunctionId::Rate | FunctionId::Increase);
        let at = (place(&arg), counter);
        let source = leaf(context, window(arg)?, kernel, at)?;
        if matches!(id, FunctionId::LastOverTime | FunctionId::FirstOverTime) {
            return Ok(source);
        }
        return nameless(context, source, grid.count, OnSame::Refuse);
    }
    let (arg, kernel) = match id {
        FunctionId::QuantileOverTime => {
            let [q, arg] = arguments(args)?;
            let span = q.span;
            let q = scalar(context, q, grid)?;
            // Prometheus puts the info about histograms at the first argument.
            let source = leaf(context, window(arg)?, Kernel::Quantile(q.clone()), (span, false))?;
            warn_about_quantiles(context, &*source, &q, span, grid.count)?;
            return nameless(context, source, grid.count, OnSame::Refuse);
        }
        FunctionId::PredictLinear => {
            let [arg, ahead] = arguments(args)?;
            (arg, Kernel::Predict(scalar(context, ahead, grid)?, grid))
        }
        FunctionId::DoubleExponentialSmoothing => {
            let [arg, level, trend] = arguments(args)?;
            let (level, trend) = (scalar(context, level, grid)?, scalar(context, trend, grid)?);
            let bad = check_factor(&level, "smoothing", "sf", grid)
                .and_then(|()| check_factor(&trend, "trend", "tf", grid));
            let kernel = Kernel::Smooth(level, trend);
            let Err(bad) = bad else {
                return over(context, arg, kernel, grid);
            };
            // Factors are looked at where there is something to smooth, and not before.
            let at = (place(&arg), false);
            let input = leaf(context, window(arg)?, Kernel::Count, at)?;
            return if has_samples(context, &*input)? { Err(bad) } else { Ok(input) };
        }
        _ => return Err(QueryError::internal(format!("the function {id:?} is not known to the executor"))),
    };
    over(context, arg, kernel, grid)
}

/// The source of a kernel over a range vector.
fn over(context: &Context, arg: Node, kernel: Kernel, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let at = (place(&arg), false);
    let source = leaf(context, window(arg)?, kernel, at)?;
    nameless(context, source, grid.count, OnSame::Refuse)
}

/// A factor of smoothing, checked at each step.
fn check_factor(factor: &Scalar, name: &str, short: &str, grid: Grid) -> Result<(), QueryError> {
    for value in factor.each_once(grid.count) {
        // NaN passes, as it does in Prometheus.
        if value <= 0.0 || value >= 1.0 {
            return Err(QueryError::execution(format!(
                "invalid {name} factor. Expected: 0 < {short} < 1, got: {value:.6}"
            )));
        }
    }
    Ok(())
}

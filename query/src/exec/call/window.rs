//! Functions of range vectors.

use super::super::build::{arguments, leaf, scalar};
use super::super::context::Context;
use super::super::kernel::Kernel;
use super::super::matrix::{OnSame, nameless};
use super::super::scalar::Scalar;
use super::super::source::Source;
use super::histogram::warn_about_quantiles;
use crate::catalog::FunctionId;
use crate::failure::QueryError;
use crate::plan::{Grid, Node, NodeKind, Window};
use std::sync::Arc;

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
        let at = (arg.span, counter);
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
            let level = factor(&scalar(context, level, grid)?, "smoothing", "sf", grid)?;
            let trend = factor(&scalar(context, trend, grid)?, "trend", "tf", grid)?;
            (arg, Kernel::Smooth(level, trend))
        }
        _ => return Err(QueryError::internal(format!("the function {id:?} is not known to the executor"))),
    };
    let at = (arg.span, false);
    let source = leaf(context, window(arg)?, kernel, at)?;
    nameless(context, source, grid.count, OnSame::Refuse)
}

/// A factor of smoothing, checked at each step.
fn factor(factor: &Scalar, name: &str, short: &str, grid: Grid) -> Result<Scalar, QueryError> {
    for value in factor.each_once(grid.count) {
        // NaN passes, as it does in Prometheus.
        if value <= 0.0 || value >= 1.0 {
            return Err(QueryError::execution(format!(
                "invalid {name} factor. Expected: 0 < {short} < 1, got: {value:.6}"
            )));
        }
    }
    Ok(factor.clone())
}

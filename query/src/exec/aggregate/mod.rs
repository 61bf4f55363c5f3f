//! Aggregations: groups are computed once, then series stream into them in the order of their labels.

mod collect;
mod folds;
mod group;
mod heap;
mod rank;
mod reduce;

pub(crate) use group::Groups;

use super::build::{scalar, text, vector};
use super::call::annotate_quantile_bounds;
use super::context::Context;
use super::source::Source;
use crate::ast::Grouping;
use crate::catalog::AggregatorId;
use crate::failure::QueryError;
use crate::plan::{Grid, Node};
use crate::span::Span;
use std::sync::Arc;

/// An aggregation.
pub(crate) struct Request {
    /// Which aggregator.
    pub(crate) id: AggregatorId,
    /// The groups.
    pub(crate) grouping: Grouping,
    /// Its parameter.
    pub(crate) param: Option<Box<Node>>,
    /// What is aggregated.
    pub(crate) input: Box<Node>,
    /// Where it stands.
    pub(crate) span: Span,
}

/// The source of an aggregation.
///
/// # Errors
/// A parameter out of range, and as [`vector`].
pub(crate) fn build(context: &Context, request: Request, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let Request { id, grouping, param, input, span } = request;
    let steps = grid.count;
    let param_span = param.as_ref().map_or(span, |p| p.span);
    let param = || param.ok_or_else(|| QueryError::internal("the checker sees to parameters"));
    match id {
        AggregatorId::CountValues => {
            let label = text(*param()?)?;
            let input = vector(context, *input, grid)?;
            collect::count_values(context, &*input, &grouping, label, steps)
        }
        AggregatorId::Quantile => {
            let q = scalar(context, *param()?, grid)?;
            let input_span = input.span;
            let input = vector(context, *input, grid)?;
            annotate_quantile_bounds(context, &q, param_span, steps);
            collect::quantile(context, &*input, &grouping, &q, input_span, steps)
        }
        AggregatorId::Topk | AggregatorId::Bottomk => {
            let k = scalar(context, *param()?, grid)?;
            let input = vector(context, *input, grid)?;
            let rank = rank::Rank { top: id == AggregatorId::Topk, span };
            rank::best(context, &*input, &grouping, &k, rank, steps)
        }
        AggregatorId::Limitk => {
            let k = scalar(context, *param()?, grid)?;
            let input = vector(context, *input, grid)?;
            rank::first(context, &*input, &grouping, &k, steps)
        }
        AggregatorId::LimitRatio => {
            let ratio = scalar(context, *param()?, grid)?;
            let input = vector(context, *input, grid)?;
            rank::share(context, &*input, &ratio, param_span, steps)
        }
        _ => {
            let input_span = input.span;
            let input = vector(context, *input, grid)?;
            reduce::reduce(context, &*input, &grouping, (id, input_span), steps)
        }
    }
}

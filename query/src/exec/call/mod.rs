//! Function calls that yield instant vectors.

mod absent;
mod histogram;
mod info;
mod labels;
mod sort;
mod window;

pub(crate) use absent::absent;
pub(crate) use histogram::annotate_quantile_bounds;

use super::adapted::{mapped, mapped_columns};
use super::build::{arguments, scalar, vector};
use super::context::Context;
use super::kernel::Kernel;
use super::matrix::{Matrix, OnSame, Row, nameless, without_metric_name};
use super::scalar::Scalar;
use super::source::Source;
use crate::catalog::FunctionId;
use crate::column::Column;
use crate::failure::QueryError;
use crate::math::datetime::{self, DatePart};
use crate::math::elementwise;
use crate::math::histogram_quantile::variance;
use crate::plan::{Grid, Node, NodeKind};
use crate::span::Span;
use kymo_storage::model::{FloatHistogram, Labels};
use std::sync::Arc;

/// A call.
pub(crate) struct Request {
    /// Which function.
    pub(crate) id: FunctionId,
    /// Its arguments.
    pub(crate) args: Vec<Node>,
    /// Where it stands.
    pub(crate) span: Span,
}

/// The source of a call.
///
/// # Errors
/// As [`vector`].
pub(crate) fn build(context: &Context, request: Request, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let Request { id, mut args, span } = request;
    if let Some(function) = elementwise::function(id) {
        let [input] = arguments(args)?;
        let input = vector(context, input, grid)?;
        return nameless(context, mapped(input, function), grid.count, OnSame::Merge);
    }
    if let Some(part) = date_part(id) {
        return dates(context, part, args.pop(), grid);
    }
    match id {
        FunctionId::Vector => {
            let [input] = arguments(args)?;
            vector_of(context, scalar(context, input, grid)?, grid.count)
        }
        FunctionId::Timestamp => timestamp(context, args, grid),
        FunctionId::Round | FunctionId::Clamp | FunctionId::ClampMin | FunctionId::ClampMax => {
            bounded(context, id, args, grid)
        }
        FunctionId::Sort | FunctionId::SortDesc | FunctionId::SortByLabel | FunctionId::SortByLabelDesc => {
            sort::build(context, id, args, span, grid)
        }
        FunctionId::LabelReplace => labels::replace(context, args, grid),
        FunctionId::LabelJoin => labels::join(context, args, grid),
        FunctionId::HistogramQuantile | FunctionId::HistogramFraction | FunctionId::HistogramQuantiles => {
            histogram::build(context, id, args, grid)
        }
        FunctionId::HistogramAvg
        | FunctionId::HistogramCount
        | FunctionId::HistogramStddev
        | FunctionId::HistogramStdvar
        | FunctionId::HistogramSum => {
            let [input] = arguments(args)?;
            let input = vector(context, input, grid)?;
            without_metric_name(context, mapped_histograms(input, property(id)), grid.count)
        }
        FunctionId::Info => info::build(context, args, grid),
        FunctionId::StartTimestamp => start_timestamp(context, args, grid),
        _ => window::build(context, id, args, grid),
    }
}

/// A scalar as a vector of one series without labels.
///
/// # Errors
/// Too little memory.
pub(crate) fn vector_of(
    context: &Context,
    scalar: Scalar,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    context.hold(steps, Column::bytes(steps))?;
    let mut column = Column::new(steps);
    match scalar {
        Scalar::Same(value) => column.values.fill(value),
        Scalar::Each(values) => column.values = values,
    }
    column.present.fill();
    let row = Row { labels: Labels::empty(), drops_name: false, column };
    Ok(Arc::new(Matrix::new(vec![row], true, None)))
}

/// What a function asks of a native histogram.
fn property(id: FunctionId) -> fn(&FloatHistogram) -> f64 {
    match id {
        FunctionId::HistogramCount => |h| h.count,
        FunctionId::HistogramSum => |h| h.sum,
        FunctionId::HistogramAvg => |h| h.sum / h.count,
        FunctionId::HistogramStddev => |h| variance(h).sqrt(),
        _ => variance,
    }
}

/// A number for each histogram of `input`, which loses its floats.
fn mapped_histograms(input: Arc<dyn Source>, of: fn(&FloatHistogram) -> f64) -> Arc<dyn Source> {
    mapped_columns(input, move |column: &mut Column, _: &Context| {
        column.present.reset(column.len());
        for (step, histogram) in std::mem::take(&mut column.histograms) {
            column.set(step, of(&histogram));
        }
    })
}

fn date_part(id: FunctionId) -> Option<DatePart> {
    Some(match id {
        FunctionId::Minute => DatePart::Minute,
        FunctionId::Hour => DatePart::Hour,
        FunctionId::DayOfMonth => DatePart::DayOfMonth,
        FunctionId::DayOfWeek => DatePart::DayOfWeek,
        FunctionId::DayOfYear => DatePart::DayOfYear,
        FunctionId::DaysInMonth => DatePart::DaysInMonth,
        FunctionId::Month => DatePart::Month,
        FunctionId::Year => DatePart::Year,
        _ => return None,
    })
}

fn dates(
    context: &Context,
    part: DatePart,
    arg: Option<Node>,
    grid: Grid,
) -> Result<Arc<dyn Source>, QueryError> {
    match arg {
        Some(arg) => {
            let input = mapped(vector(context, arg, grid)?, move |v| datetime::part(v, part));
            nameless(context, input, grid.count, OnSame::Merge)
        }
        None => {
            let times = (0..grid.count).map(|i| grid.time(i).div_euclid(1000) as f64);
            vector_of(context, Scalar::Each(times.map(|t| datetime::part(t, part)).collect()), grid.count)
        }
    }
}

/// `timestamp()`: the sample's own time of a selector, the time of the step of all else.
fn timestamp(context: &Context, args: Vec<Node>, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let [arg] = arguments(args)?;
    let span = arg.span;
    let input = match arg.kind {
        NodeKind::Instant(window) => super::build::leaf(context, window, Kernel::NewestTime, (span, false))?,
        _ => {
            let input = vector(context, arg, grid)?;
            mapped_columns(input, move |column: &mut Column, _: &Context| {
                for (step, _) in std::mem::take(&mut column.histograms) {
                    column.present.set(step);
                }
                for (step, value) in column.values.iter_mut().enumerate() {
                    *value = grid.time(step) as f64 / 1000.0;
                }
            })
        }
    };
    nameless(context, input, grid.count, OnSame::Merge)
}

/// `start_timestamp()`: since when the samples of a selector count; of all else that is not known.
fn start_timestamp(context: &Context, args: Vec<Node>, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let [arg] = arguments(args)?;
    let span = arg.span;
    let input = match arg.kind {
        NodeKind::Instant(window) if context.behaviour.start_timestamps => {
            super::build::leaf(context, window, Kernel::NewestStart, (span, false))?
        }
        _ => mapped_columns(vector(context, arg, grid)?, |column: &mut Column, _: &Context| {
            column.reset(column.len());
        }),
    };
    nameless(context, input, grid.count, OnSame::Merge)
}

/// `round`, `clamp`, `clamp_min`, `clamp_max`: functions of a vector and scalars.
fn bounded(
    context: &Context,
    id: FunctionId,
    args: Vec<Node>,
    grid: Grid,
) -> Result<Arc<dyn Source>, QueryError> {
    let mut args = args.into_iter();
    let Some(input) = args.next() else {
        return Err(QueryError::internal("the checker sees to the number of arguments"));
    };
    let input = vector(context, input, grid)?;
    let scalars: Vec<Scalar> = args.map(|a| scalar(context, a, grid)).collect::<Result<_, _>>()?;
    let first = scalars.first().cloned().unwrap_or(Scalar::Same(1.0));
    let second = scalars.get(1).cloned().unwrap_or(Scalar::Same(f64::INFINITY));
    let changed = mapped_columns(input, move |column: &mut Column, _: &Context| {
        column.histograms.clear();
        for step in 0..column.len() {
            let value = column.values[step];
            let (a, b) = (first.at(step), second.at(step));
            column.values[step] = match id {
                FunctionId::Round => elementwise::round(value, a),
                FunctionId::ClampMin => elementwise::greater(a, value),
                FunctionId::ClampMax => elementwise::smaller(a, value),
                _ if a > b => {
                    column.present.clear(step);
                    value
                }
                _ => elementwise::greater(a, elementwise::smaller(b, value)),
            };
        }
    });
    nameless(context, changed, grid.count, OnSame::Merge)
}

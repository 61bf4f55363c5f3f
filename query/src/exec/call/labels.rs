//! `label_replace` and `label_join`: functions of labels alone.

use super::super::build::{arguments, text, vector};
use super::super::context::Context;
use super::super::matrix::{OnSame, distinct, relabelled};
use super::super::source::Source;
use crate::budget::Pace;
use crate::failure::QueryError;
use crate::limits::{self, LABEL_VALUE_BYTES_MAX, MATCH_COST_MAX};
use crate::plan::{Grid, Node};
use kymo_storage::model::{Labels, METRIC_NAME, Regex};
use std::sync::Arc;

/// What a series takes here besides its labels.
const ROW_BYTES: usize = 64;
/// After so much work the budget is asked whether to go on: bytes that are matched, each as often as the expression is large
/// ([`Regex::cost`]), bytes of labels that are copied, and as many as [`SERIES_COST`] for each series.
const CHECK_EVERY: u64 = 1 << 16;
/// What a series is besides its values, in the same measure.
const SERIES_COST: u64 = 1 << 10;

/// A string argument that names a label; any text of UTF-8 that is not empty does.
fn name(node: Node, what: &str) -> Result<String, QueryError> {
    let bytes = text(node)?;
    match String::from_utf8(bytes) {
        Ok(name) if !name.is_empty() => Ok(name),
        Ok(name) => Err(QueryError::execution(format!("invalid {what}: {name}"))),
        Err(bytes) => {
            let shown = String::from_utf8_lossy(bytes.as_bytes()).into_owned();
            Err(QueryError::execution(format!("invalid {what}: {shown}")))
        }
    }
}

fn words(node: Node) -> Result<String, QueryError> {
    text(node).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// `label_replace(v, dst, replacement, src, regex)`.
///
/// # Errors
/// A bad expression or label name, series that become the same.
pub(super) fn replace(context: &Context, args: Vec<Node>, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let [input, target, template, source, pattern] = arguments(args)?;
    let (template, source, pattern) = (words(template)?, words(source)?, words(pattern)?);
    let regex = Regex::new(&pattern).map_err(|_| {
        QueryError::execution(format!("invalid regular expression in label_replace(): {pattern}"))
    })?;
    let target = name(target, "destination label name in label_replace()")?;
    // An expansion is at most the template with each reference replaced by the whole value.
    let references = template.matches('$').count();
    let size = |labels: &Labels| {
        labels.value(&source).len().saturating_mul(references).saturating_add(template.len())
    };
    let cost = |labels: &Labels| regex.cost(labels.value(&source).len());
    let size = Size { bytes: size, cost };
    relabel(context, input, grid, &target, &size, |labels| regex.expand(labels.value(&source), &template))
}

/// `label_join(v, dst, separator, src...)`.
///
/// # Errors
/// A bad label name, series that become the same.
pub(super) fn join(context: &Context, args: Vec<Node>, grid: Grid) -> Result<Arc<dyn Source>, QueryError> {
    let mut args = args.into_iter();
    let (Some(input), Some(target), Some(separator)) = (args.next(), args.next(), args.next()) else {
        return Err(QueryError::internal("the checker sees to the number of arguments"));
    };
    let separator = words(separator)?;
    let sources: Vec<String> =
        args.map(|a| name(a, "source label name in label_join()")).collect::<Result<_, _>>()?;
    let target = name(target, "destination label name in label_join()")?;
    let size = |labels: &Labels| {
        sources
            .iter()
            .map(|s| labels.value(s).len().saturating_add(separator.len()))
            .fold(0, usize::saturating_add)
    };
    let cost = |labels: &Labels| size(labels) as u64;
    relabel(context, input, grid, &target, &Size { bytes: &size, cost }, |labels| {
        let values: Vec<&str> = sources.iter().map(|s| labels.value(s)).collect();
        Some(values.join(&separator))
    })
}

/// What is known of a value before it is made: the bytes it has at most, and the work that it is.
struct Size<B, C> {
    bytes: B,
    cost: C,
}

/// Sets label `target` to what `value` says, if it says anything: at most `size` bytes. A name set this way stays.
fn relabel(
    context: &Context,
    input: Node,
    grid: Grid,
    target: &str,
    size: &Size<impl Fn(&Labels) -> usize, impl Fn(&Labels) -> u64>,
    mut value: impl FnMut(&Labels) -> Option<String>,
) -> Result<Arc<dyn Source>, QueryError> {
    let input = vector(context, input, grid)?;
    let mut labels = Vec::with_capacity(input.len());
    let mut drops = Vec::with_capacity(input.len());
    let mut pace = Pace::new(&context.budget, CHECK_EVERY);
    for index in 0..input.len() {
        let before = input.labels(index);
        let bound = (size.bytes)(&before);
        if bound > LABEL_VALUE_BYTES_MAX {
            return Err(limits::too_long_label(LABEL_VALUE_BYTES_MAX, bound));
        }
        context.hold(0, (before.as_bytes().len() + bound + ROW_BYTES) as u64)?;
        let cost = (size.cost)(&before);
        if cost > MATCH_COST_MAX {
            return Err(limits::too_costly_match(MATCH_COST_MAX, cost));
        }
        let copied = (before.as_bytes().len() + bound) as u64;
        pace.work(cost.saturating_add(copied).saturating_add(SERIES_COST))?;
        let value = value(&before);
        drops.push(input.drops_name(index) && (value.is_none() || target != METRIC_NAME));
        labels.push(match value {
            Some(value) => before.to_builder().set(target, &value).build(),
            None => before,
        });
    }
    distinct(context, relabelled(input, labels, Some(drops)), grid.count, OnSame::Merge)
}

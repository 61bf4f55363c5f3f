//! `sort`, `sort_desc`, `sort_by_label`, `sort_by_label_desc`: the order of an instant query's answer.

use super::super::adapted::mapped;
use super::super::build::{text, vector};
use super::super::context::Context;
use super::super::matrix::{Matrix, Row};
use super::super::source::Source;
use crate::catalog::FunctionId;
use crate::column::Column;
use crate::failure::QueryError;
use crate::plan::{Grid, Node};
use crate::span::Span;
use kymo_storage::model::Labels;
use std::cmp::Ordering;
use std::sync::Arc;

/// The source of a sorting function. In a range query, whose answer is sorted by labels, it changes nothing and says so.
///
/// # Errors
/// As [`vector`].
pub(super) fn build(
    context: &Context,
    id: FunctionId,
    args: Vec<Node>,
    span: Span,
    grid: Grid,
) -> Result<Arc<dyn Source>, QueryError> {
    let mut args = args.into_iter();
    let Some(input) = args.next() else {
        return Err(QueryError::internal("the checker sees to the number of arguments"));
    };
    let names: Vec<String> =
        args.map(|a| text(a).map(|t| String::from_utf8_lossy(&t).into_owned())).collect::<Result<_, _>>()?;
    let mut input = vector(context, input, grid)?;
    if matches!(id, FunctionId::Sort | FunctionId::SortDesc) {
        input = mapped(input, |value| value);
    }
    if grid.count > 0 && grid.start != grid.end {
        context.annotate(|a| {
            a.warn(
                span,
                "sort is ineffective for range queries since results are always ordered by labels".into(),
            );
        });
    }
    if grid.count != 1 {
        return Ok(input);
    }
    let matrix = Matrix::collect(context, &*input, grid.count)?;
    context.hold(0, (matrix.len() * (size_of::<Row>() + size_of::<(usize, f64, Labels)>() + 80)) as u64)?;
    let mut order: Vec<(usize, f64, Labels)> =
        (0..matrix.len()).filter_map(|i| Some((i, value(matrix.column(i))?, matrix.labels(i)))).collect();
    match id {
        FunctionId::Sort => order.sort_by(|a, b| by_value(a.1, b.1, false)),
        FunctionId::SortDesc => order.sort_by(|a, b| by_value(a.1, b.1, true)),
        FunctionId::SortByLabel => order.sort_by(|a, b| by_labels(&names, &a.2, &b.2)),
        _ => order.sort_by(|a, b| by_labels(&names, &b.2, &a.2)),
    }
    let rows = order
        .into_iter()
        .map(|(i, _, labels)| Row {
            labels,
            drops_name: matrix.drops_name(i),
            column: matrix.column(i).clone(),
        })
        .collect();
    Ok(Arc::new(Matrix::new(rows, input.is_distinct(), None)))
}

/// What to sort by; a histogram has none, but is there.
fn value(column: &Column) -> Option<f64> {
    column.get(0).or_else(|| column.histogram(0).map(|_| f64::NAN))
}

/// By value, `NaN` last either way.
fn by_value(a: f64, b: f64, descending: bool) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) => {
            let order = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
            if descending { order.reverse() } else { order }
        }
        (a, b) => a.cmp(&b),
    }
}

/// By the values of the labels named, in natural order, then by all labels.
fn by_labels(names: &[String], a: &Labels, b: &Labels) -> Ordering {
    for name in names {
        let order = natural(a.value(name), b.value(name));
        if order != Ordering::Equal {
            return order;
        }
    }
    a.cmp(b)
}

/// Runs of digits compare as numbers, all else by bytes.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a_rest, mut b_rest) = (a.as_bytes(), b.as_bytes());
    while let (Some(x), Some(y)) = (a_rest.first(), b_rest.first()) {
        let order = if x.is_ascii_digit() && y.is_ascii_digit() {
            let (m, n) = (digits(&mut a_rest), digits(&mut b_rest));
            m.len().cmp(&n.len()).then_with(|| m.cmp(n))
        } else {
            a_rest = &a_rest[1..];
            b_rest = &b_rest[1..];
            x.cmp(y)
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a_rest.len().cmp(&b_rest.len()).then_with(|| a.cmp(b))
}

/// Takes the digits in front, without leading zeros.
fn digits<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
    let (run, after) = rest.split_at(end);
    *rest = after;
    let zeros = run.iter().take_while(|b| **b == b'0').count();
    &run[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order() {
        let mut names = ["cpu10", "cpu9", "cpu1", "", "cpu", "a2b", "a2a", "a10"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["", "a2a", "a2b", "a10", "cpu", "cpu1", "cpu9", "cpu10"]);
    }

    #[test]
    fn nan_is_last_either_way() {
        let mut values = [2.0, f64::NAN, 1.0];
        values.sort_by(|a, b| by_value(*a, *b, false));
        assert_eq!(&values[..2], [1.0, 2.0]);
        values.sort_by(|a, b| by_value(*a, *b, true));
        assert_eq!(&values[..2], [2.0, 1.0]);
    }
}

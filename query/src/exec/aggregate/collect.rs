//! `quantile` and `count_values`: aggregations that look at all values of a group at once.

use super::super::context::Context;
use super::super::fan_out::drain;
use super::super::matrix::{Matrix, OnSame, Row, distinct};
use super::super::scalar::Scalar;
use super::super::source::Source;
use super::group::{Groups, without};
use crate::ast::Grouping;
use crate::column::Column;
use crate::failure::QueryError;
use crate::math::histogram_note::HistogramNote;
use crate::math::quantile as quantiles;
use crate::span::Span;
use crate::value::format_scalar;
use kymo_storage::model::{Labels, METRIC_NAME};
use std::collections::HashMap;
use std::sync::Arc;

/// The source of `quantile(q, input)`.
///
/// # Errors
/// As [`drain`], or too little memory.
pub(super) fn quantile(
    context: &Context,
    input: &dyn Source,
    grouping: &Grouping,
    q: &Scalar,
    span: Span,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let groups = Groups::new(context, input, grouping)?;
    let matrix = Matrix::collect(context, input, steps)?;
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
    for (index, group) in groups.of.iter().enumerate() {
        let column = matrix.column(index);
        if !column.histograms.is_empty() {
            context.note(&[HistogramNote::IgnoredInGroup("quantile")], span, "");
        }
        if !column.present.is_empty() {
            members[*group as usize].push(index);
        }
    }
    let mut memory = context.budget.reserve(0, 0)?;
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for (labels, members) in groups.labels.into_iter().zip(members) {
        if members.is_empty() {
            continue;
        }
        context.budget.check()?;
        memory.grow(steps as u64, Column::bytes(steps))?;
        let mut column = Column::new(steps);
        for step in 0..steps {
            context.budget.check()?;
            values.clear();
            values.extend(members.iter().filter_map(|m| matrix.column(*m).get(step)));
            if !values.is_empty() {
                column.set(step, quantiles::quantile(q.at(step), &mut values));
            }
        }
        let drops_name = members.iter().any(|m| matrix.drops_name(*m));
        rows.push(Row { labels, drops_name, column });
    }
    Ok(Arc::new(Matrix::new(rows, true, Some(memory))))
}

/// What a counted value takes besides its texts and its column.
const ROW_BYTES: usize = 160;

/// What tells values apart that are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// The value goes nowhere.
    Any,
    /// The bits of a float.
    Float(u64),
    /// A histogram as text.
    Histogram(String),
}

/// The source of `count_values("label", input)`.
///
/// # Errors
/// A label name that is none, and as [`drain`].
pub(super) fn count_values(
    context: &Context,
    input: &dyn Source,
    grouping: &Grouping,
    label: Vec<u8>,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let label = String::from_utf8(label).map_err(|e| invalid_name(e.as_bytes()))?;
    if label.is_empty() {
        return Err(invalid_name(b""));
    }
    // The value takes the place of what a series has under the label, so that does not tell groups apart.
    let base: Vec<Labels> = (0..input.len())
        .map(|index| {
            let labels = input.labels(index);
            let rest = if grouping.without {
                without(&labels, &grouping.labels)
            } else {
                labels.filter(|name| grouping.labels.iter().any(|g| g == name))
            };
            rest.without(|name| name == label)
        })
        .collect();
    let bytes: usize = base.iter().map(|labels| labels.as_bytes().len() + size_of::<Labels>()).sum();
    context.hold(0, bytes as u64)?;
    let keeps_value = !grouping.without || (label != METRIC_NAME && !grouping.labels.contains(&label));
    let mut memory = context.budget.reserve(0, 0)?;
    let mut known: HashMap<(&Labels, Key), usize> = HashMap::new();
    let mut rows: Vec<Row> = Vec::new();
    drain(context, input, steps, |index, column| {
        let floats = column.iter().map(|(step, value)| {
            let value = if value.is_nan() { f64::NAN } else { value };
            (step, if keeps_value { Key::Float(value.to_bits()) } else { Key::Any })
        });
        let histograms = column.histograms.iter().map(|(step, histogram)| {
            (*step, if keeps_value { Key::Histogram(histogram.to_string()) } else { Key::Any })
        });
        for (step, key) in floats.chain(histograms) {
            let at = match known.get(&(&base[index], key.clone())) {
                Some(at) => *at,
                None => {
                    let text = if let Key::Histogram(text) = &key { text.len() } else { 32 };
                    let bytes = (base[index].as_bytes().len() + text.saturating_mul(2) + ROW_BYTES) as u64;
                    memory.grow(steps as u64, Column::bytes(steps).saturating_add(bytes))?;
                    let mut labels = base[index].to_builder();
                    match &key {
                        Key::Any => {}
                        Key::Float(bits) => {
                            labels.set(&label, &format_scalar(f64::from_bits(*bits)));
                        }
                        Key::Histogram(text) => {
                            labels.set(&label, text);
                        }
                    }
                    rows.push(Row { labels: labels.build(), drops_name: false, column: Column::new(steps) });
                    known.insert((&base[index], key), rows.len() - 1);
                    rows.len() - 1
                }
            };
            let row = &mut rows[at];
            row.drops_name |= input.drops_name(index);
            let count = row.column.get(step).unwrap_or(0.0);
            row.column.set(step, count + 1.0);
        }
        Ok(())
    })?;
    let source: Arc<dyn Source> = Arc::new(Matrix::new(rows, false, Some(memory)));
    distinct(context, source, steps, OnSame::Merge)
}

/// Bytes that are not UTF-8 are shown as escapes, as in the text of the query.
fn invalid_name(bytes: &[u8]) -> QueryError {
    let mut shown = String::new();
    for chunk in bytes.utf8_chunks() {
        shown.push_str(chunk.valid());
        for byte in chunk.invalid() {
            shown.push_str(&format!("\\x{byte:02x}"));
        }
    }
    QueryError::execution(format!("invalid label name \"{shown}\""))
}

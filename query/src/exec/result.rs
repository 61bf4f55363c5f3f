//! The last operator: columns become the answer.

use super::build::{input, scalar, vector};
use super::context::Context;
use super::fan_out::drain;
use super::matrix::remove_delayed_names;
use super::scan::Input;
use super::source::LeafHistograms;
use super::source::Worker;
use crate::ast::ValueType;
use crate::column::histogram_size;
use crate::failure::QueryError;
use crate::math::extended;
use crate::plan::{Grid, Node, NodeKind, Window};
use crate::value::{HistogramPoint, Point, Series, Value, VectorSample};
use kymo_storage::model::Labels;
use std::sync::Arc;

/// Evaluates `root` at the steps of `grid`; an instant query has one.
///
/// # Errors
/// The store, a limit, or an expression that cannot be evaluated on this data.
pub(crate) fn run(context: &Context, root: Node, grid: Grid, instant: bool) -> Result<Value, QueryError> {
    match root.value_type {
        ValueType::Scalar => {
            let values = scalar(context, root, grid)?;
            let point = |step| Point { timestamp: grid.time(step), value: values.at(step) };
            if instant {
                return Ok(Value::Scalar(point(0)));
            }
            let _memory = context.budget.reserve(grid.count as u64, grid.count as u64 * 16)?;
            let points = (0..grid.count).map(point).collect();
            Ok(Value::Matrix(vec![Series { labels: Labels::empty(), points, histograms: Vec::new() }]))
        }
        ValueType::String => match root.kind {
            NodeKind::Text(text) => {
                Ok(Value::String { timestamp: grid.start, text: String::from_utf8_lossy(&text).into_owned() })
            }
            _ => Err(QueryError::internal("only a literal is a string")),
        },
        ValueType::Matrix => match root.kind {
            NodeKind::Range(window) => ranges(context, window),
            _ => Err(QueryError::internal("only selectors and subqueries are range vectors")),
        },
        ValueType::Vector => {
            let source = vector(context, root, grid)?;
            let source = remove_delayed_names(context, source, grid.count)?;
            let mut memory = context.budget.reserve(0, 0)?;
            if instant {
                let mut samples = Vec::new();
                drain(context, &*source, grid.count, |index, column| {
                    let histogram = column.histogram(0).cloned();
                    if let Some(value) = column.get(0).or_else(|| histogram.as_ref().map(|_| f64::NAN)) {
                        memory.grow(1, size_of::<VectorSample>() as u64)?;
                        memory.hold(column.histogram_size())?;
                        let point = Point { timestamp: grid.start, value };
                        samples.push(VectorSample { labels: source.labels(index), point, histogram });
                    }
                    Ok(())
                })?;
                return Ok(Value::Vector(samples));
            }
            let mut series = Vec::new();
            drain(context, &*source, grid.count, |index, column| {
                if !column.is_empty() {
                    let count = column.present.count();
                    memory.grow(count as u64, (count * size_of::<Point>()) as u64)?;
                    memory.hold(column.histogram_size())?;
                    let mut points = Vec::with_capacity(count);
                    points.extend(
                        column.iter().map(|(step, value)| Point { timestamp: grid.time(step), value }),
                    );
                    let histograms = column.histograms.drain(..);
                    let histograms = histograms
                        .map(|(step, histogram)| HistogramPoint { timestamp: grid.time(step), histogram })
                        .collect();
                    series.push(Series { labels: source.labels(index), points, histograms });
                }
                Ok(())
            })?;
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(Value::Matrix(series))
        }
    }
}

/// A range vector itself, which only an instant query can ask for.
fn ranges(context: &Context, window: Window) -> Result<Value, QueryError> {
    let (input, window) = input(context, window)?;
    let end = window.steps.first;
    let start = end.saturating_sub(window.steps.range);
    let mut worker = Worker::new(context);
    let mut leaf = worker.take_leaf(0);
    let mut memory = context.budget.reserve(0, 0)?;
    let mut series = Vec::new();
    for index in 0..input.len() {
        context.budget.check()?;
        let cleaned = input.read(index, false, &mut worker, &mut leaf)?;
        let samples = if cleaned { &leaf.clean } else { &leaf.raw };
        if let (Some(border), false) = (window.border, leaf.histograms.histograms.is_empty()) {
            let name = if border == extended::Border::Anchored { "anchored" } else { "smoothed" };
            return Err(QueryError::execution(format!("{name} modifier is not supported with histograms")));
        }
        let points: Vec<Point> = match window.border {
            Some(border) => extended::points(&samples.timestamps, &samples.values, (start, end), border)
                .into_iter()
                .map(|(timestamp, value)| Point { timestamp, value })
                .collect(),
            None => samples
                .timestamps
                .iter()
                .zip(&samples.values)
                .filter(|(t, _)| **t > start && **t <= end)
                .map(|(t, v)| Point { timestamp: *t, value: *v })
                .collect(),
        };
        let LeafHistograms { timestamps, histograms, .. } = &leaf.histograms;
        let histograms: Vec<HistogramPoint> = timestamps
            .iter()
            .zip(histograms)
            .filter(|(t, _)| **t > start && **t <= end)
            .map(|(t, h)| HistogramPoint { timestamp: *t, histogram: Arc::clone(h) })
            .collect();
        if !points.is_empty() || !histograms.is_empty() {
            for point in &histograms {
                memory.hold(histogram_size(&point.histogram))?;
            }
            memory.grow(points.len() as u64, (points.len() * size_of::<Point>()) as u64)?;
            series.push(Series { labels: final_labels(&input, index), points, histograms });
        }
    }
    Ok(Value::Matrix(series))
}

/// Names whose removal was put off go away now.
fn final_labels(input: &Input, index: usize) -> Labels {
    let labels = input.labels(index);
    if input.drops_name(index) { super::matrix::without_name(&labels) } else { labels }
}

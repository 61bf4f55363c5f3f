//! The last operator: columns become the answer.

use super::build::{input, scalar, vector};
use super::context::Context;
use super::fan_out::drain;
use super::matrix::remove_delayed_names;
use super::scan::Input;
use super::source::LeafHistograms;
use super::source::Worker;
use crate::ast::ValueType;
use crate::budget::Reservation;
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
pub(crate) fn run(
    context: &Context,
    root: Node,
    grid: Grid,
    instant: bool,
) -> Result<(Value, Reservation), QueryError> {
    let mut memory = context.budget.reserve(0, 0)?;
    let value = value(context, root, grid, instant, &mut memory)?;
    Ok((value, memory))
}

/// What a series of an answer takes besides its points.
fn labels_bytes(labels: &Labels) -> u64 {
    (labels.as_bytes().len() + size_of::<Series>()) as u64
}

/// As [`run`]; what the value holds is reserved in `memory`.
fn value(
    context: &Context,
    root: Node,
    grid: Grid,
    instant: bool,
    memory: &mut Reservation,
) -> Result<Value, QueryError> {
    match root.value_type {
        ValueType::Scalar => {
            let values = scalar(context, root, grid)?;
            let point = |step| Point { timestamp: grid.time(step), value: values.at(step) };
            if instant {
                return Ok(Value::Scalar(point(0)));
            }
            memory.grow(grid.count as u64, grid.count as u64 * 16)?;
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
            NodeKind::Range(window) => ranges(context, window, memory),
            _ => Err(QueryError::internal("only selectors and subqueries are range vectors")),
        },
        ValueType::Vector => {
            let source = vector(context, root, grid)?;
            let source = remove_delayed_names(context, source, grid.count)?;
            if instant {
                let mut samples = Vec::new();
                drain(context, &*source, grid.count, |index, column| {
                    let histogram = column.histogram(0).cloned();
                    if let Some(value) = column.get(0).or_else(|| histogram.as_ref().map(|_| f64::NAN)) {
                        let labels = source.labels(index);
                        memory.grow(1, labels_bytes(&labels))?;
                        memory.hold(column.histogram_size())?;
                        let point = Point { timestamp: grid.start, value };
                        samples.push(VectorSample { labels, point, histogram });
                    }
                    Ok(())
                })?;
                return Ok(Value::Vector(samples));
            }
            let mut series = Vec::new();
            drain(context, &*source, grid.count, |index, column| {
                if !column.is_empty() {
                    let count = column.present.count();
                    let labels = source.labels(index);
                    let bytes = (count * size_of::<Point>()) as u64 + labels_bytes(&labels);
                    memory.grow(count as u64, bytes)?;
                    memory.hold(column.histogram_size())?;
                    let mut points = Vec::with_capacity(count);
                    points.extend(
                        column.iter().map(|(step, value)| Point { timestamp: grid.time(step), value }),
                    );
                    let histograms = column.histograms.drain(..);
                    let histograms = histograms
                        .map(|(step, histogram)| HistogramPoint { timestamp: grid.time(step), histogram })
                        .collect();
                    series.push(Series { labels, points, histograms });
                }
                Ok(())
            })?;
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Ok(Value::Matrix(series))
        }
    }
}

/// A range vector itself, which only an instant query can ask for.
fn ranges(context: &Context, window: Window, memory: &mut Reservation) -> Result<Value, QueryError> {
    let (input, window) = input(context, window)?;
    let end = window.steps.first;
    let start = end.saturating_sub(window.steps.range);
    let mut worker = Worker::new(context);
    let mut leaf = worker.take_leaf(0);
    let mut series = Vec::new();
    for index in 0..input.len() {
        context.budget.check()?;
        let cleaned = input.read(index, (false, false), &mut worker, &mut leaf)?;
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
            None => {
                // As many as there are, and not as a vector grows.
                let first = samples.timestamps.partition_point(|t| *t <= start);
                let behind = samples.timestamps.partition_point(|t| *t <= end).max(first);
                let inside = samples.timestamps[first..behind].iter().zip(&samples.values[first..behind]);
                inside.map(|(t, v)| Point { timestamp: *t, value: *v }).collect()
            }
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
            let labels = final_labels(&input, index);
            let bytes = (points.len() * size_of::<Point>()) as u64 + labels_bytes(&labels);
            memory.grow(points.len() as u64, bytes)?;
            if let Some(counts) = &context.step_counts {
                let sizes = histograms.iter().map(|h| histogram_size(&h.histogram).0).sum::<u64>();
                counts.add(counts.mode(), 0, points.len() as u64 + sizes);
            }
            series.push(Series { labels, points, histograms });
        }
    }
    Ok(Value::Matrix(series))
}

/// Names whose removal was put off go away now.
fn final_labels(input: &Input, index: usize) -> Labels {
    let labels = input.labels(index);
    if input.drops_name(index) { super::matrix::without_name(&labels) } else { labels }
}

//! `histogram_quantile`, `histogram_quantiles` and `histogram_fraction`: classic buckets are grouped by their other labels once,
//! then each histogram is computed from its buckets, or from what it is as a native one.

use super::super::build::{scalar, text, vector};
use super::super::context::Context;
use super::super::matrix::{OnSame, distinct, nameless};
use super::super::scalar::Scalar;
use super::super::source::{Source, Worker};
use crate::annotations::{Repair, with_metric};
use crate::catalog::FunctionId;
use crate::column::Column;
use crate::failure::QueryError;
use crate::format::{float_general, quote};
use crate::math::classic_histogram::{self, Bucket};
use crate::math::histogram_note::HistogramNote;
use crate::math::histogram_quantile;
use crate::plan::{Grid, Node};
use crate::span::Span;
use kymo_storage::model::{FloatHistogram, Labels};
use std::collections::HashMap;
use std::sync::Arc;

/// The label that holds a bucket's upper bound.
const BOUND: &str = "le";

/// What a series takes in the table of histograms besides its labels.
const HISTOGRAM_BYTES: usize = 96;

/// What is asked of each histogram.
enum Ask {
    /// Quantiles, each an output series of its own, and the label that tells them apart.
    Quantiles(Vec<Quantile>, Option<String>),
    /// The share between two bounds.
    Fraction(Scalar, Scalar),
}

/// One output of each histogram.
struct Quantile {
    q: Arc<Scalar>,
    /// The value of the label that tells quantiles apart.
    label: Option<String>,
    /// Only the steps at which the quantile is this one: at others it has another label and is another output.
    only: Option<f64>,
}

impl Quantile {
    /// The outputs of a quantile with a label, which may be another at each step.
    fn labelled(q: &Scalar, steps: usize) -> impl Iterator<Item = Self> {
        let shared = Arc::new(q.clone());
        let changes = matches!(q, Scalar::Each(_));
        q.each_once(steps).into_iter().map(move |value| Self {
            q: shared.clone(),
            label: Some(label_value(value)),
            only: changes.then_some(value),
        })
    }

    /// The quantile at `step`, if this output has one there.
    fn at(&self, step: usize) -> Option<f64> {
        let q = self.q.at(step);
        self.only.is_none_or(|only| only.to_bits() == q.to_bits()).then_some(q)
    }
}

/// One histogram: its labels without the bound; its buckets, bound and series; and the series that may hold it as a native one.
struct Histogram {
    labels: Labels,
    drops_name: bool,
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
}

struct Histograms {
    input: Arc<dyn Source>,
    histograms: Vec<Histogram>,
    ask: Ask,
    span: Span,
    grid: Grid,
}

/// The source of one of the functions.
///
/// # Errors
/// As [`vector`].
pub(super) fn build(
    context: &Context,
    id: FunctionId,
    args: Vec<Node>,
    grid: Grid,
) -> Result<Arc<dyn Source>, QueryError> {
    let mut args = args.into_iter();
    let mut next =
        || args.next().ok_or_else(|| QueryError::internal("the checker sees to the number of arguments"));
    let steps = grid.count;
    let (input, ask, invalid) = match id {
        FunctionId::HistogramFraction => {
            let (lower, upper, input) = (next()?, next()?, next()?);
            (input, Ask::Fraction(scalar(context, lower, grid)?, scalar(context, upper, grid)?), Vec::new())
        }
        FunctionId::HistogramQuantile => {
            let (q, input) = (next()?, next()?);
            let span = q.span;
            let q = scalar(context, q, grid)?;
            let all = Quantile { q: Arc::new(q.clone()), label: None, only: None };
            (input, Ask::Quantiles(vec![all], None), vec![(q, span)])
        }
        _ => {
            let (input, label) = (next()?, next()?);
            let label = String::from_utf8(text(label)?)
                .map_err(|_| QueryError::execution("invalid label name in histogram_quantiles()"))?;
            let mut quantiles = Vec::new();
            let mut invalid = Vec::new();
            for node in args {
                let span = node.span;
                let q = scalar(context, node, grid)?;
                quantiles.extend(Quantile::labelled(&q, steps));
                invalid.push((q, span));
            }
            (input, Ask::Quantiles(quantiles, Some(label)), invalid)
        }
    };
    let span = input.span;
    let input = vector(context, input, grid)?;
    for (q, at) in &invalid {
        annotate_quantiles(context, q, *at, steps);
    }
    let histograms = group(&*input);
    let labels: usize = histograms.iter().map(|h| h.labels.as_bytes().len()).sum();
    let inputs = input.len();
    let asked = Histograms { input, histograms, ask, span, grid };
    context.hold(0, (labels + (inputs + asked.outputs()) * HISTOGRAM_BYTES) as u64)?;
    let asked: Arc<dyn Source> = Arc::new(asked);
    let source = nameless(context, asked, steps, OnSame::Merge)?;
    distinct(context, source, steps, OnSame::Merge)
}

/// Warns of the extreme quantiles of all steps if they lie outside 0 and 1, whether or not there is anything to take them of.
pub(crate) fn annotate_quantile_bounds(context: &Context, q: &Scalar, span: Span, steps: usize) {
    let all = q.each_once(steps);
    let extremes = if all.iter().any(|q| q.is_nan()) {
        vec![f64::NAN]
    } else {
        vec![all.iter().copied().fold(0.0, f64::min), all.iter().copied().fold(1.0, f64::max)]
    };
    for q in extremes {
        annotate_quantiles(context, &Scalar::Same(q), span, steps);
    }
}

/// Warns of quantiles outside 0 and 1.
pub(crate) fn annotate_quantiles(context: &Context, q: &Scalar, span: Span, steps: usize) {
    if steps == 0 {
        return;
    }
    for q in q.each_once(steps).into_iter().filter(|q| !(0.0..=1.0).contains(q)) {
        context.annotate(|a| {
            a.warn(span, format!("quantile value should be between 0 and 1, got {}", float_general(q)));
        });
    }
}

/// Warns of quantiles outside 0 and 1 if there is any sample to take them of.
///
/// # Errors
/// As [`Source::fill`].
pub(super) fn warn_about_quantiles(
    context: &Context,
    input: &dyn Source,
    q: &Scalar,
    span: Span,
    steps: usize,
) -> Result<(), QueryError> {
    let invalid = q.each_once(steps).into_iter().any(|q| !(0.0..=1.0).contains(&q));
    if invalid && has_samples(context, input)? {
        annotate_quantiles(context, q, span, steps);
    }
    Ok(())
}

/// Whether any series of `input` has a value at any step.
///
/// # Errors
/// As [`Source::fill`].
pub(super) fn has_samples(context: &Context, input: &dyn Source) -> Result<bool, QueryError> {
    let mut worker = Worker::new(context);
    let mut column = Column::default();
    for index in 0..input.len() {
        input.fill(index, &mut worker, &mut column)?;
        if !column.present.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Puts series that differ only in the bound together. A series whose bound is no number may hold native histograms.
fn group(input: &dyn Source) -> Vec<Histogram> {
    let mut histograms: Vec<Histogram> = Vec::new();
    let mut known: HashMap<Labels, usize> = HashMap::new();
    let mut at = |labels: Labels, index: usize, histograms: &mut Vec<Histogram>| {
        *known.entry(labels).or_insert_with_key(|labels| {
            let drops_name = input.drops_name(index);
            histograms.push(Histogram {
                labels: labels.clone(),
                drops_name,
                buckets: Vec::new(),
                native: None,
            });
            histograms.len() - 1
        })
    };
    for index in 0..input.len() {
        let labels = input.labels(index);
        match parse_bound(labels.value(BOUND)) {
            Some(bound) => {
                let at = at(labels.without(|name| name == BOUND), index, &mut histograms);
                histograms[at].buckets.push((bound, index));
            }
            None => {
                let at = at(labels, index, &mut histograms);
                histograms[at].native = Some(index);
            }
        }
    }
    histograms
}

/// A number as a label: a whole one ends in `.0`.
fn label_value(q: f64) -> String {
    let text = float_general(q);
    if q.is_finite() && !text.contains(['.', 'e']) { text + ".0" } else { text }
}

fn parse_bound(text: &str) -> Option<f64> {
    // Rust reads the same spellings of numbers, infinities and NaN, in any case; an empty text is none.
    text.parse().ok()
}

impl Histograms {
    fn outputs(&self) -> usize {
        match &self.ask {
            Ask::Quantiles(quantiles, _) => quantiles.len(),
            Ask::Fraction(..) => 1,
        }
    }

    /// The name to tell users: none if names go away before the end.
    fn metric<'l>(&self, histogram: &'l Histogram, context: &Context) -> &'l str {
        if context.behaviour.delayed_names { histogram.labels.metric_name() } else { "" }
    }

    fn compute(
        &self,
        histogram: &Histogram,
        output: usize,
        (columns, native): (&[Column], &Column),
        context: &Context,
        out: &mut Column,
    ) {
        let metric = self.metric(histogram, context);
        if !native.present.is_empty() {
            let bound = quote(histogram.labels.value(BOUND).as_bytes());
            let message = format!("bucket label \"le\" is missing or has a malformed value of {bound}");
            context.annotate(|a| a.warn(self.span, with_metric(&message, metric)));
        }
        let mut buckets: Vec<Bucket> = Vec::with_capacity(columns.len());
        let mut repair: Option<Repair> = None;
        let mut notes: Vec<HistogramNote> = Vec::new();
        for step in 0..self.grid.count {
            let Some(q) = self.quantile(output, step) else { continue };
            buckets.clear();
            for ((bound, _), column) in histogram.buckets.iter().zip(columns) {
                if let Some(count) = column.get(step) {
                    buckets.push(Bucket { bound: *bound, count });
                }
            }
            let (value, note) = match (native.histogram(step), buckets.is_empty()) {
                (None, true) => continue,
                (None, false) => {
                    let (value, repaired) = self.of_buckets(q, step, &mut buckets);
                    if let Some(new) = repaired {
                        match &mut repair {
                            Some(known) => known.merge(&new),
                            none => *none = Some(new),
                        }
                    }
                    (Some(value), None)
                }
                (Some(native), true) => {
                    let (value, note) = self.of_native(q, step, native);
                    (Some(value), note)
                }
                (Some(_), false) => (None, Some(HistogramNote::MixedClassic)),
            };
            notes.extend(note.filter(|note| !notes.contains(note)));
            if let Some(value) = value {
                out.set(step, value);
            }
        }
        context.note(&notes, self.span, metric);
        if let Some(repair) = repair {
            context.annotate(|a| a.repaired(self.span, metric, repair));
        }
    }

    /// The quantile asked for; `None` if the output has no value at `step`.
    fn quantile(&self, output: usize, step: usize) -> Option<f64> {
        match &self.ask {
            Ask::Quantiles(quantiles, _) => quantiles.get(output)?.at(step),
            Ask::Fraction(..) => Some(f64::NAN),
        }
    }

    fn of_buckets(&self, q: f64, step: usize, buckets: &mut Vec<Bucket>) -> (f64, Option<Repair>) {
        if let Ask::Fraction(lower, upper) = &self.ask {
            return (classic_histogram::fraction(lower.at(step), upper.at(step), buckets), None);
        }
        let (value, repaired) = classic_histogram::quantile(q, buckets);
        let time = self.grid.time(step);
        let repair = repaired.map(|r| Repair {
            buckets: (r.lowest, r.highest),
            diff: r.diff,
            times: (time, time),
            count: 1,
        });
        (value, repair)
    }

    fn of_native(&self, q: f64, step: usize, histogram: &FloatHistogram) -> (f64, Option<HistogramNote>) {
        match &self.ask {
            Ask::Fraction(lower, upper) => {
                histogram_quantile::fraction(lower.at(step), upper.at(step), histogram)
            }
            Ask::Quantiles(..) => histogram_quantile::quantile(q, histogram),
        }
    }
}

impl Source for Histograms {
    fn len(&self) -> usize {
        self.histograms.len() * self.outputs()
    }

    fn labels(&self, index: usize) -> Labels {
        let outputs = self.outputs();
        let labels = &self.histograms[index / outputs].labels;
        match &self.ask {
            Ask::Quantiles(quantiles, Some(name)) => {
                let value = quantiles[index % outputs].label.as_deref().unwrap_or_default();
                labels.to_builder().set(name, value).build()
            }
            _ => labels.clone(),
        }
    }

    fn drops_name(&self, index: usize) -> bool {
        self.histograms[index / self.outputs()].drops_name
    }

    fn is_distinct(&self) -> bool {
        self.outputs() == 1
    }

    fn has_one_name(&self) -> bool {
        self.outputs() == 1 && self.input.has_one_name()
    }

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        let outputs = self.outputs();
        let histogram = &self.histograms[index / outputs];
        let bytes = Column::bytes(self.grid.count).saturating_mul(histogram.buckets.len() as u64);
        let mut memory = worker.context.budget.reserve(0, bytes)?;
        let mut columns = Vec::with_capacity(histogram.buckets.len());
        for (_, series) in &histogram.buckets {
            let mut column = worker.take_column();
            self.input.fill(*series, worker, &mut column)?;
            columns.push(column);
        }
        let mut native = worker.take_column();
        match histogram.native {
            Some(series) => {
                self.input.fill(series, worker, &mut native)?;
                memory.hold(native.size())?;
            }
            None => native.reset(self.grid.count),
        }
        out.reset(self.grid.count);
        self.compute(histogram, index % outputs, (&columns, &native), worker.context, out);
        worker.put_column(native);
        for column in columns {
            worker.put_column(column);
        }
        Ok(())
    }
}

//! Answers of queries and lists as JSON, written bit by bit: what is in memory is the answer itself and one piece of text. Hot path.

use crate::http::respond::{BodyWriter, Notes, write_notes};
use crate::http::stream::Pieces;
use crate::wire::json;
use kymo_query::value::{HistogramPoint, Point, Series, Value, VectorSample};
use kymo_query::{Held, Operator, QueryStats};
use kymo_storage::model::Timestamp;
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;

/// Elements or points that are written at a time.
const AT_A_TIME: usize = 512;
/// Histograms that are written at a time: each may have many buckets.
const HISTOGRAMS_AT_A_TIME: usize = 8;

/// What is told of a query besides its answer.
pub struct Stats {
    /// What it took.
    pub stats: QueryStats,
    /// How long it waited for its turn.
    pub waited: Duration,
    /// The samples that each step looked at.
    pub per_step: Vec<(Timestamp, u64)>,
    /// Whether those are shown one by one.
    pub show_steps: bool,
}

/// The answer of a query on its way out.
pub struct Answer {
    /// The answer.
    pub value: Value,
    /// What the reader must be told.
    pub notes: Notes,
    /// What it took, if that was asked for.
    pub stats: Option<Stats>,
    /// What each operator did, if that was asked for.
    pub explain: Option<Operator>,
    /// The memory of `value`.
    pub memory: Held,
    /// How far it is written.
    pub place: Place,
}

/// How far an answer is written.
#[derive(Debug, Default)]
pub struct Place {
    begun: bool,
    element: usize,
    point: usize,
    histogram: usize,
    times: json::Times,
}

impl Pieces for Answer {
    fn write_next(&mut self, out: &mut BodyWriter) -> io::Result<bool> {
        if !std::mem::replace(&mut self.place.begun, true) {
            write!(
                out,
                "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{}\",\"result\":",
                self.value.type_name()
            )?;
        }
        let more = match &self.value {
            Value::Scalar(Point { timestamp, value }) => {
                out.write_all(b"[")?;
                json::short_timestamp(out, *timestamp)?;
                out.write_all(b",")?;
                json::fixed_value(out, *value)?;
                out.write_all(b"]")?;
                false
            }
            Value::String { timestamp, text } => {
                out.write_all(b"[")?;
                json::short_timestamp(out, *timestamp)?;
                out.write_all(b",")?;
                json::string(out, text)?;
                out.write_all(b"]")?;
                false
            }
            Value::Vector(samples) => {
                let at_a_time = if samples.get(self.place.element).is_some_and(|s| s.histogram.is_some()) {
                    HISTOGRAMS_AT_A_TIME
                } else {
                    AT_A_TIME
                };
                write_some(out, samples, &mut self.place.element, at_a_time, write_vector_sample)?
            }
            Value::Matrix(series) => write_matrix(out, series, &mut self.place)?,
        };
        if more {
            return Ok(true);
        }
        if let Some(stats) = &self.stats {
            out.write_all(b",\"stats\":")?;
            write_stats(out, stats)?;
        }
        if let Some(operator) = &self.explain {
            out.write_all(b",\"explain\":")?;
            json::page(out, &operator_json(operator))?;
        }
        out.write_all(b"}")?;
        write_notes(out, &self.notes)?;
        Ok(false)
    }
}

/// A list on its way out.
pub struct List<T> {
    /// What is in it.
    pub items: Vec<T>,
    /// Writes one.
    pub write_one: fn(&mut BodyWriter, &T) -> io::Result<()>,
    /// What the reader must be told.
    pub notes: Notes,
    /// The memory of the items.
    pub memory: Vec<Held>,
    /// How many are written.
    pub written: usize,
}

impl<T: Send + Unpin> Pieces for List<T> {
    fn write_next(&mut self, out: &mut BodyWriter) -> io::Result<bool> {
        if self.written == 0 {
            out.write_all(br#"{"status":"success","data":"#)?;
        }
        if write_some(out, &self.items, &mut self.written, AT_A_TIME, self.write_one)? {
            return Ok(true);
        }
        write_notes(out, &self.notes)?;
        Ok(false)
    }
}

/// Writes some elements of a list from number `at` on, with the brackets around all of them; says whether there are more.
fn write_some<T>(
    out: &mut BodyWriter,
    items: &[T],
    at: &mut usize,
    at_a_time: usize,
    write_one: impl Fn(&mut BodyWriter, &T) -> io::Result<()>,
) -> io::Result<bool> {
    if *at == 0 {
        out.write_all(b"[")?;
    }
    for item in items.iter().skip(*at).take(at_a_time) {
        if *at > 0 {
            out.write_all(b",")?;
        }
        write_one(out, item)?;
        *at += 1;
    }
    let more = *at < items.len();
    if !more {
        out.write_all(b"]")?;
    }
    Ok(more)
}

fn write_vector_sample(out: &mut BodyWriter, sample: &VectorSample) -> io::Result<()> {
    out.append(|text| push_vector_sample(text, sample))
}

fn push_vector_sample(out: &mut Vec<u8>, sample: &VectorSample) -> io::Result<()> {
    out.write_all(br#"{"metric":"#)?;
    json::labels(out, &sample.labels)?;
    match &sample.histogram {
        Some(histogram) => {
            out.write_all(br#","histogram":"#)?;
            json::histogram_sample(out, sample.point.timestamp, histogram)?;
        }
        None => {
            out.write_all(br#","value":"#)?;
            json::sample(out, sample.point.timestamp, sample.point.value)?;
        }
    }
    out.write_all(b"}")
}

/// Writes some points of the series at `place`; says whether there are more points or series.
fn write_matrix(out: &mut BodyWriter, all: &[Series], place: &mut Place) -> io::Result<bool> {
    let Some(series) = all.get(place.element) else {
        out.write_all(if place.element == 0 { b"[]" } else { b"]" })?;
        return Ok(false);
    };
    if (place.point, place.histogram) == (0, 0) {
        out.write_all(if place.element == 0 { br#"[{"metric":"# } else { br#",{"metric":"# })?;
        out.append(|text| json::labels(text, &series.labels))?;
    }
    if place.point < series.points.len() {
        if place.point == 0 {
            out.write_all(br#","values":"#)?;
        }
        let upto = place.point.saturating_add(AT_A_TIME).min(series.points.len());
        let some = series.points.get(place.point..upto).unwrap_or_default();
        let is_first = place.point == 0;
        out.append(|text| {
            for (at, point) in some.iter().enumerate() {
                text.push(if is_first && at == 0 { b'[' } else { b',' });
                place.times.sample(text, point.timestamp, point.value);
            }
            Ok(())
        })?;
        place.point = upto;
        if upto < series.points.len() {
            return Ok(true);
        }
        out.write_all(b"]")?;
    }
    if place.histogram < series.histograms.len() {
        if place.histogram == 0 {
            out.write_all(br#","histograms":"#)?;
        }
        let write_one = |out: &mut BodyWriter, point: &HistogramPoint| {
            json::histogram_sample(out, point.timestamp, &point.histogram)
        };
        if write_some(out, &series.histograms, &mut place.histogram, HISTOGRAMS_AT_A_TIME, write_one)? {
            return Ok(true);
        }
    }
    out.write_all(b"}")?;
    place.element += 1;
    (place.point, place.histogram) = (0, 0);
    Ok(true)
}

fn write_stats(out: &mut BodyWriter, told: &Stats) -> io::Result<()> {
    let Stats { stats, waited, per_step, show_steps } = told;
    let (prepare_s, evaluate_s) = (stats.prepare.as_secs_f64(), stats.evaluate.as_secs_f64());
    let total: u64 = per_step.iter().map(|step| step.1).sum();
    let mut page = json!({
        "timings": {
            "evalTotalTime": prepare_s + evaluate_s,
            "resultSortTime": 0.0,
            "queryPreparationTime": prepare_s,
            "innerEvalTime": evaluate_s,
            "execQueueTime": waited.as_secs_f64(),
            "execTotalTime": waited.as_secs_f64() + prepare_s + evaluate_s,
        },
        "samples": {
            "totalQueryableSamples": total,
            "peakSamples": stats.samples_peak,
            "samplesRead": stats.samples_read,
        },
    });
    if *show_steps {
        let steps: Vec<_> = per_step.iter().map(|(t, samples)| json!([seconds(*t), samples])).collect();
        page["samples"]["totalQueryableSamplesPerStep"] = steps.into();
    }
    json::page(out, &page)
}

/// Seconds, without a fraction if they are whole.
fn seconds(timestamp: Timestamp) -> serde_json::Value {
    if timestamp % 1_000 == 0 { json!(timestamp / 1_000) } else { json!(timestamp as f64 / 1_000.0) }
}

fn operator_json(operator: &Operator) -> serde_json::Value {
    json!({
        "operator": operator.name,
        "text": operator.text,
        "steps": operator.steps,
        "series": operator.series,
        "computed": operator.computed,
        "points": operator.points,
        "samples": operator.samples,
        "bytes": operator.bytes,
        "chunksDecoded": operator.chunks_decoded,
        "chunksSkipped": operator.chunks_skipped,
        "seconds": operator.time.as_secs_f64(),
        "children": operator.children.iter().map(operator_json).collect::<Vec<_>>(),
    })
}

//! Data points of every kind, as series of Prometheus.

use super::delta::{Sum, Total};
use super::labels::{LabelSource, series, text};
use super::{CUMULATIVE, DELTA, Sink, put};
use crate::config::otlp::OtlpSettings;
use crate::wire::otlp::messages::{
    Exemplar as SentExemplar, ExponentialBuckets, ExponentialPoint, HistogramPoint, NumberPoint, SummaryPoint,
};
use crate::wire::remote_write_histogram::SentHistogram;
use kymo_storage::model::{
    AnyHistogram, Buckets, CUSTOM_SCHEMA, EXEMPLAR_LABEL_CHARS_MAX, EXPONENTIAL_SCHEMAS, Exemplar,
    HistogramError, IntHistogram, Labels, Timestamp, stale_nan,
};
use std::collections::BTreeMap;

/// The flag of a point that says: nothing was recorded, the series has ended.
const NO_RECORDED_VALUE: u32 = 1;
/// The width of a zero bucket of which nothing is said.
const ZERO_THRESHOLD: f64 = 1e-128;

/// Where the points of one metric go.
pub(super) struct Target<'a, 'b> {
    pub(super) settings: &'a OtlpSettings,
    pub(super) source: &'a LabelSource<'a>,
    /// The translated name.
    pub(super) name: &'a str,
    pub(super) sink: &'a mut Sink<'b>,
}

type LabelMap = BTreeMap<String, String>;

/// When a point is and since when it counts.
#[derive(Clone, Copy)]
struct Times {
    time: Timestamp,
    start: Timestamp,
}

impl Times {
    fn new(time: u64, start: u64) -> Self {
        let millis = |nanos: u64| (nanos / 1_000_000).cast_signed();
        Self { time: millis(time), start: millis(start) }
    }
}

/// An explicit histogram on its way.
struct Explicit {
    bounds: Vec<f64>,
    counts: Vec<u64>,
    count: u64,
    sum: Option<f64>,
}

impl Target<'_, '_> {
    /// Whether a point of that temporality is a delta.
    fn is_delta(&mut self, temporality: i32, labels: &LabelMap, times: Times) -> Option<bool> {
        match temporality {
            CUMULATIVE => Some(false),
            DELTA => Some(true),
            other => {
                let reason =
                    format!("aggregation temporality {other} is neither delta (1) nor cumulative (2)");
                self.sink.reject(series(labels, self.name, None), times.time, reason);
                None
            }
        }
    }

    /// The total of a delta series after a point.
    fn accumulate(&mut self, labels: &LabelMap, times: Times, value: Sum) -> Option<Total<Sum>> {
        let labels = series(labels, self.name, None);
        let point = Total { time: times.time, start: times.start, value };
        let (deltas, staged) = (self.sink.deltas, &mut self.sink.staged);
        match deltas.add(staged, &labels, point) {
            Ok(total) => Some(total),
            Err(reason) => {
                self.sink.reject(labels, times.time, reason);
                None
            }
        }
    }

    pub(super) fn number(&mut self, point: &NumberPoint, temporality: i32) {
        let mut times = Times::new(point.time_unix_nano, point.start_time_unix_nano);
        self.sink.point(times.time);
        let labels = self.source.of_point(&point.attributes);
        let mut value = point.as_double.or_else(|| point.as_int.map(|v| v as f64)).unwrap_or(0.0);
        let Some(is_delta) = self.is_delta(temporality, &labels, times) else { return };
        if point.flags & NO_RECORDED_VALUE != 0 {
            value = stale_nan();
        } else if is_delta {
            let Some(total) = self.accumulate(&labels, times, Sum::Number(value)) else { return };
            times.start = total.start;
            value = if let Sum::Number(value) = total.value { value } else { value };
        }
        let own = series(&labels, self.name, None);
        if self.sink.sample(&own, times.time, times.start, value) {
            self.exemplars(&own, point.exemplars.iter());
        }
    }

    pub(super) fn summary(&mut self, point: &SummaryPoint) {
        let times = Times::new(point.time_unix_nano, point.start_time_unix_nano);
        self.sink.point(times.time);
        let labels = self.source.of_point(&point.attributes);
        let is_stale = point.flags & NO_RECORDED_VALUE != 0;
        let value = |value: f64| if is_stale { stale_nan() } else { value };
        for (suffix, number) in [("_sum", point.sum), ("_count", point.count as f64)] {
            let own = series(&labels, &format!("{}{suffix}", self.name), None);
            self.sink.sample(&own, times.time, times.start, value(number));
        }
        for quantile in &point.quantile_values {
            let own = series(&labels, self.name, Some(("quantile", &quantile.quantile.to_string())));
            self.sink.sample(&own, times.time, times.start, value(quantile.value));
        }
    }

    pub(super) fn histogram(&mut self, point: &HistogramPoint, temporality: i32) {
        let mut times = Times::new(point.time_unix_nano, point.start_time_unix_nano);
        self.sink.point(times.time);
        let labels = self.source.of_point(&point.attributes);
        let Some(is_delta) = self.is_delta(temporality, &labels, times) else { return };
        let is_stale = point.flags & NO_RECORDED_VALUE != 0;
        let mut explicit = Explicit {
            bounds: point.explicit_bounds.clone(),
            counts: point.bucket_counts.clone(),
            count: point.count,
            sum: point.sum,
        };
        let fits = explicit.counts.is_empty() && explicit.bounds.is_empty()
            || explicit.counts.len() == explicit.bounds.len() + 1;
        if !fits {
            let reason = format!(
                "the histogram has {} bounds and {} bucket counts",
                explicit.bounds.len(),
                explicit.counts.len()
            );
            return self.sink.reject(series(&labels, self.name, None), times.time, reason);
        }
        if is_delta && !is_stale {
            let Explicit { bounds, counts, count, sum } = explicit;
            let value = Sum::Explicit { bounds, counts, count, sum };
            let Some(total) = self.accumulate(&labels, times, value) else { return };
            let Sum::Explicit { bounds, counts, count, sum } = total.value else { return };
            times.start = total.start;
            explicit = Explicit { bounds, counts, count, sum };
        }
        if self.settings.convert_histograms_to_nhcb {
            let converted = if is_stale { Ok(IntHistogram::stale()) } else { custom_buckets(&explicit) };
            self.native(&labels, times, converted.map(AnyHistogram::Int), point.exemplars.iter());
        } else {
            self.classic(&labels, times, &explicit, is_stale, &point.exemplars);
        }
    }

    fn classic(
        &mut self,
        labels: &LabelMap,
        times: Times,
        histogram: &Explicit,
        is_stale: bool,
        exemplars: &[SentExemplar],
    ) {
        let value = |value: f64| if is_stale { stale_nan() } else { value };
        let mut frame = vec![("_count", histogram.count as f64)];
        frame.extend(histogram.sum.map(|sum| ("_sum", sum)));
        for (suffix, number) in frame {
            let own = series(labels, &format!("{}{suffix}", self.name), None);
            self.sink.sample(&own, times.time, times.start, value(number));
        }
        let name = format!("{}_bucket", self.name);
        let mut total = 0_u64;
        let mut below = f64::NEG_INFINITY;
        let bounds = histogram.bounds.iter().copied().filter(|b| *b != f64::INFINITY);
        for (i, bound) in bounds.chain([f64::INFINITY]).enumerate() {
            let is_last = bound == f64::INFINITY;
            total = total.saturating_add(histogram.counts.get(i).copied().unwrap_or(0));
            let count = if is_last { histogram.count } else { total };
            let le = if is_last { "+Inf".to_owned() } else { bound.to_string() };
            let own = series(labels, &name, Some(("le", &le)));
            if self.sink.sample(&own, times.time, times.start, value(count as f64)) {
                let inside = |e: &&SentExemplar| {
                    let value = exemplar_value(e);
                    (value > below || i == 0) && (value <= bound || is_last && value.is_nan())
                };
                self.exemplars(&own, exemplars.iter().filter(inside));
            }
            below = bound;
        }
    }

    pub(super) fn exponential(&mut self, point: &ExponentialPoint, temporality: i32) {
        let mut times = Times::new(point.time_unix_nano, point.start_time_unix_nano);
        self.sink.point(times.time);
        let labels = self.source.of_point(&point.attributes);
        let Some(is_delta) = self.is_delta(temporality, &labels, times) else { return };
        if point.flags & NO_RECORDED_VALUE != 0 {
            let stale = AnyHistogram::Int(IntHistogram::stale());
            return self.native(&labels, times, Ok(stale), point.exemplars.iter());
        }
        if point.scale < *EXPONENTIAL_SCHEMAS.start() {
            let reason = format!(
                "cannot convert exponential to native histogram: scale must be {} or more, it is {}",
                EXPONENTIAL_SCHEMAS.start(),
                point.scale
            );
            return self.sink.reject(series(&labels, self.name, None), times.time, reason);
        }
        let mut histogram = native(point).map(AnyHistogram::Int);
        if let (true, Ok(more)) = (is_delta, &histogram) {
            let value = Sum::Native(Box::new(more.to_float()));
            let Some(total) = self.accumulate(&labels, times, value) else { return };
            let Sum::Native(sum) = total.value else { return };
            times.start = total.start;
            histogram =
                Ok(sum.to_whole().map_or_else(|| AnyHistogram::Float(*sum.clone()), AnyHistogram::Int));
        }
        self.native(&labels, times, histogram, point.exemplars.iter());
    }

    fn native<'e>(
        &mut self,
        labels: &LabelMap,
        times: Times,
        histogram: Result<AnyHistogram, HistogramError>,
        exemplars: impl Iterator<Item = &'e SentExemplar>,
    ) {
        let own = series(labels, self.name, None);
        self.sink.sent += 1;
        let id = match self.sink.batch.series_labels(&own) {
            Ok(id) => id,
            Err(refusal) => return self.sink.refuse(refusal),
        };
        let sent =
            SentHistogram { timestamp: times.time, start_timestamp: times.start, histogram, numbers: 0 };
        if let Err(refusal) = put::histogram(&mut self.sink.batch, id, sent, || own.clone()) {
            self.sink.rejected += 1;
            return self.sink.refuse(refusal);
        }
        self.exemplars(&own, exemplars);
    }

    /// Adds exemplars of a series that was accepted, in the order of time.
    fn exemplars<'e>(&mut self, own: &Labels, sent: impl Iterator<Item = &'e SentExemplar>) {
        let mut exemplars: Vec<Exemplar> = sent.map(|e| self.exemplar(e)).collect();
        if exemplars.is_empty() {
            return;
        }
        exemplars.sort_by(Exemplar::order);
        let Ok(id) = self.sink.batch.series_labels(own) else { return };
        for exemplar in exemplars {
            self.sink.sent += 1;
            if let Err(refusal) = self.sink.batch.exemplar(id, exemplar) {
                self.sink.refuse(refusal);
            }
        }
    }

    fn exemplar(&self, sent: &SentExemplar) -> Exemplar {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let ids = [("trace_id", hex(&sent.trace_id)), ("span_id", hex(&sent.span_id))];
        let pairs = sent.filtered_attributes.iter().map(|a| {
            let name = super::names::label_name(self.settings, &a.key);
            (name, a.value.as_ref().map(text).unwrap_or_default())
        });
        let all = pairs.chain(ids.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
        let timestamp = Times::new(sent.time_unix_nano, 0).time;
        let mut exemplar =
            Exemplar { labels: Labels::from_pairs(all), value: exemplar_value(sent), timestamp };
        if exemplar.label_chars() > EXEMPLAR_LABEL_CHARS_MAX {
            // The ids are what an exemplar is for; the other attributes are left out.
            exemplar.labels = Labels::from_pairs(ids);
        }
        exemplar
    }
}

fn exemplar_value(exemplar: &SentExemplar) -> f64 {
    exemplar.as_double.or_else(|| exemplar.as_int.map(|v| v as f64)).unwrap_or(0.0)
}

/// An explicit histogram as a native one with custom buckets.
fn custom_buckets(histogram: &Explicit) -> Result<IntHistogram, HistogramError> {
    let mut bounds = histogram.bounds.clone();
    while bounds.last() == Some(&f64::INFINITY) {
        bounds.pop();
    }
    let mut counts = histogram.counts.clone();
    if counts.is_empty() {
        counts.push(histogram.count);
    }
    Ok(IntHistogram {
        schema: CUSTOM_SCHEMA,
        count: histogram.count,
        sum: histogram.sum.unwrap_or(0.0),
        positive: Buckets::run(0, counts)?,
        custom_bounds: bounds.into(),
        ..IntHistogram::default()
    })
}

/// One side of an exponential histogram. OpenTelemetry counts positions from the bucket whose lower bound is 1, Prometheus
/// from the one whose upper bound is.
fn side(buckets: Option<&ExponentialBuckets>, reduce_by: u32) -> Result<Buckets<u64>, HistogramError> {
    let Some(buckets) = buckets else { return Ok(Buckets::default()) };
    let populated = Buckets::run(buckets.offset.saturating_add(1), buckets.bucket_counts.clone());
    let mut populated = populated?.reduced(reduce_by);
    populated.compact();
    Ok(populated)
}

fn native(point: &ExponentialPoint) -> Result<IntHistogram, HistogramError> {
    let schema = point.scale.min(*EXPONENTIAL_SCHEMAS.end());
    let reduce_by = point.scale.abs_diff(schema);
    let threshold = point.zero_threshold;
    Ok(IntHistogram {
        schema,
        zero_threshold: if threshold > 0.0 { threshold } else { ZERO_THRESHOLD },
        zero_count: point.zero_count,
        count: point.count,
        sum: point.sum.unwrap_or(0.0),
        positive: side(point.positive.as_ref(), reduce_by).map_err(|e| e.on("positive"))?,
        negative: side(point.negative.as_ref(), reduce_by).map_err(|e| e.on("negative"))?,
        ..IntHistogram::default()
    })
}

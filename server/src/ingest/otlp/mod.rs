//! From a request of OTLP to a batch: names, labels, points, and deltas made cumulative.

mod delta;
mod labels;
mod names;
mod points;

pub use delta::DeltaState;

use super::put;
use super::receiver::{Prepared, Receiver};
use super::refusals::Refusals;
use crate::config::otlp::OtlpSettings;
use crate::wire::otlp::messages::{ExportMetricsRequest, Metric, ResourceMetrics};
use delta::Staged;
use kymo_storage::ErrorKind;
use kymo_storage::db::{Refusal, WriteBatch};
use kymo_storage::model::{Labels, Metadata, MetricType, Timestamp};
use labels::LabelSource;
use names::{NameKind, metric_name, unit_name};

/// `AGGREGATION_TEMPORALITY_DELTA`.
const DELTA: i32 = 1;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: i32 = 2;
/// Seconds between the samples of `target_info` over the time of a request: half of how far back queries look.
const TARGET_INFO_INTERVAL_MS: i64 = 150_000;
/// Samples of `target_info` of one resource in one request; of a longer time, the newest part gets them.
const TARGET_INFO_SAMPLES_MAX: i64 = 1_000;

/// A request resolved against the store, and what to remember once it is stored.
pub struct Translated {
    /// To be committed.
    pub prepared: Prepared,
    /// The new sums of delta series, for [`DeltaState::keep`].
    pub staged: Staged,
    /// How many data points came.
    pub points: u64,
    /// How many of them could not be translated.
    pub rejected: u64,
}

/// Translates a request. `deltas` is what delta series have come to so far.
pub fn translate(
    receiver: &Receiver,
    settings: &OtlpSettings,
    request: &ExportMetricsRequest,
    deltas: &DeltaState,
) -> Translated {
    let mut sink = Sink {
        receiver,
        batch: receiver.storage.batch(),
        refusals: Refusals::default(),
        deltas,
        staged: Staged::default(),
        sent: 0,
        points: 0,
        rejected: 0,
        times: None,
    };
    for resource in &request.resource_metrics {
        translate_resource(settings, resource, &mut sink);
    }
    let Sink { batch, refusals, staged, sent, points, rejected, .. } = sink;
    Translated { prepared: Prepared { batch, sent, refusals }, staged, points, rejected }
}

/// Whether a request has delta series.
pub fn has_deltas(request: &ExportMetricsRequest) -> bool {
    let metrics = request.resource_metrics.iter().flat_map(|r| &r.scope_metrics).flat_map(|s| &s.metrics);
    metrics.into_iter().any(|metric| {
        let sum = metric.sum.as_ref().map(|s| s.aggregation_temporality);
        let histogram = metric.histogram.as_ref().map(|h| h.aggregation_temporality);
        let native = metric.exponential_histogram.as_ref().map(|h| h.aggregation_temporality);
        [sum, histogram, native].contains(&Some(DELTA))
    })
}

/// Where the samples of a request go.
struct Sink<'a> {
    receiver: &'a Receiver,
    batch: WriteBatch,
    refusals: Refusals,
    deltas: &'a DeltaState,
    staged: Staged,
    /// Samples, histograms and exemplars.
    sent: u64,
    points: u64,
    rejected: u64,
    /// Oldest and newest point of the resource at hand.
    times: Option<(Timestamp, Timestamp)>,
}

impl Sink<'_> {
    /// Counts a data point of the resource at hand.
    fn point(&mut self, time: Timestamp) {
        self.points += 1;
        let (oldest, newest) = self.times.unwrap_or((time, time));
        self.times = Some((oldest.min(time), newest.max(time)));
    }

    /// Names a data point that is not stored.
    fn reject(&mut self, labels: Labels, time: Timestamp, reason: String) {
        self.rejected += 1;
        self.refuse(Refusal { kind: ErrorKind::Invalid, labels, timestamp: Some(time), reason });
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refusals.add(&self.receiver.metrics, refusal, 1);
    }

    /// Adds a float; says whether its series was accepted.
    fn sample(&mut self, labels: &Labels, time: Timestamp, start: Timestamp, value: f64) -> bool {
        self.sent += 1;
        match self.batch.series_labels(labels) {
            Ok(series) => {
                put::sample(&mut self.batch, series, time, start, value);
                true
            }
            Err(refusal) => {
                self.refuse(refusal);
                false
            }
        }
    }
}

fn translate_resource(settings: &OtlpSettings, metrics: &ResourceMetrics, sink: &mut Sink<'_>) {
    sink.times = None;
    let attributes = metrics.resource.as_ref().map_or(&[][..], |r| &r.attributes);
    for scope in &metrics.scope_metrics {
        let source = LabelSource::new(settings, attributes, scope.scope.as_ref(), &scope.schema_url);
        for metric in &scope.metrics {
            translate_metric(settings, &source, metric, sink);
        }
    }
    let Some((oldest, newest)) = sink.times else { return };
    let Some(labels) = labels::target_info(settings, attributes) else { return };
    let span = newest.saturating_sub(oldest);
    let whole = (span / TARGET_INFO_INTERVAL_MS).min(TARGET_INFO_SAMPLES_MAX);
    for back in (1..=whole).rev() {
        sink.sample(&labels, newest - back * TARGET_INFO_INTERVAL_MS, 0, 1.0);
    }
    if span > 0 && span < TARGET_INFO_INTERVAL_MS * TARGET_INFO_SAMPLES_MAX {
        sink.sample(&labels, oldest, 0, 1.0);
    }
    sink.sample(&labels, newest, 0, 1.0);
}

fn translate_metric(settings: &OtlpSettings, source: &LabelSource<'_>, metric: &Metric, sink: &mut Sink<'_>) {
    let (kind, metric_type) = match metric {
        Metric { gauge: Some(_), .. } => (NameKind::Gauge, MetricType::Gauge),
        Metric { sum: Some(sum), .. } if sum.is_monotonic => (NameKind::Counter, MetricType::Counter),
        Metric { sum: Some(_), .. } => (NameKind::Other, MetricType::Gauge),
        Metric { summary: Some(_), .. } => (NameKind::Other, MetricType::Summary),
        Metric { histogram: None, exponential_histogram: None, .. } => return,
        Metric { .. } => (NameKind::Other, MetricType::Histogram),
    };
    let name = metric_name(settings, &metric.name, &metric.unit, kind);
    let mut to = points::Target { settings, source, name: &name, sink };
    if let Some(gauge) = &metric.gauge {
        gauge.data_points.iter().for_each(|point| to.number(point, CUMULATIVE));
    }
    if let Some(sum) = &metric.sum {
        sum.data_points.iter().for_each(|point| to.number(point, sum.aggregation_temporality));
    }
    if let Some(histogram) = &metric.histogram {
        histogram.data_points.iter().for_each(|point| to.histogram(point, histogram.aggregation_temporality));
    }
    if let Some(histogram) = &metric.exponential_histogram {
        histogram
            .data_points
            .iter()
            .for_each(|point| to.exponential(point, histogram.aggregation_temporality));
    }
    if let Some(summary) = &metric.summary {
        summary.data_points.iter().for_each(|point| to.summary(point));
    }
    let unit = unit_name(settings, &metric.unit);
    let about = Metadata { metric_type, unit, help: metric.description.clone() };
    put::metadata(&mut sink.batch, &sink.receiver.storage, &name, &about);
}

//! `GET /api/v1/status/self_metrics`: Kymo's own metrics in the JSON form of `io.prometheus.client.MetricFamily`.

use super::status::page;
use crate::error::ApiError;
use crate::http::app::App;
use crate::http::params::Params;
use crate::ingest::self_monitor;
use crate::telemetry::registry::{Kind, Visitor};
use axum::extract::{Request, State};
use axum::response::Response;
use kymo_storage::model::Regex;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// All families, or those whose whole name matches `metric_name_pattern`.
pub async fn self_metrics(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let params = Params::parse(request.uri().query(), &[])?;
    let pattern = params.get("metric_name_pattern").map(Regex::new).transpose();
    let pattern = pattern.map_err(|e| ApiError::bad_data(format!("invalid metric_name_pattern: {e}")))?;
    let mut families = Families { pattern, list: Vec::new(), is_wanted: false };
    self_monitor::visit_all(&app.metrics, app.storage_if_open(), &mut families);
    let list: Vec<Value> = families.list.into_iter().map(Family::page).collect();
    Ok(page(&request, &Value::Array(list)))
}

struct Families {
    pattern: Option<Regex>,
    list: Vec<Family>,
    is_wanted: bool,
}

struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// By labels, without `le`.
    metrics: BTreeMap<Vec<(String, String)>, Metric>,
}

#[derive(Default)]
struct Metric {
    value: f64,
    sum: f64,
    count: f64,
    buckets: Vec<Value>,
}

impl Visitor for Families {
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        self.is_wanted = self.pattern.as_ref().is_none_or(|p| p.is_match(name));
        if self.is_wanted {
            self.list.push(Family { name, help, kind, metrics: BTreeMap::new() });
        }
    }

    fn sample(&mut self, suffix: &'static str, labels: &[(&str, &str)], value: f64) {
        let Some(family) = self.list.last_mut().filter(|_| self.is_wanted) else { return };
        let own = labels.iter().filter(|(name, _)| *name != "le");
        let key = own.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let metric = family.metrics.entry(key).or_default();
        match suffix {
            "_sum" => metric.sum = value,
            "_count" => metric.count = value,
            "_bucket" => {
                let bound = labels.iter().find(|(name, _)| *name == "le").map_or("", |(_, bound)| *bound);
                let bound = bound.parse::<f64>().unwrap_or(f64::INFINITY);
                metric
                    .buckets
                    .push(json!({ "cumulativeCount": value.to_string(), "upperBound": number(bound) }));
            }
            _ => metric.value = value,
        }
    }
}

impl Family {
    fn page(self) -> Value {
        let kind = match self.kind {
            Kind::Counter => "COUNTER",
            Kind::Gauge => "GAUGE",
            Kind::Histogram => "HISTOGRAM",
        };
        let metric = |(labels, metric): (Vec<(String, String)>, Metric)| {
            let labels: Vec<Value> =
                labels.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
            match self.kind {
                Kind::Counter => json!({ "label": labels, "counter": { "value": number(metric.value) } }),
                Kind::Gauge => json!({ "label": labels, "gauge": { "value": number(metric.value) } }),
                Kind::Histogram => json!({ "label": labels, "histogram": {
                    "sampleCount": metric.count.to_string(),
                    "sampleSum": number(metric.sum),
                    "bucket": metric.buckets,
                }}),
            }
        };
        let metrics: Vec<Value> = self.metrics.into_iter().map(metric).collect();
        json!({ "name": self.name, "help": self.help, "type": kind, "metric": metrics })
    }
}

/// A number as the JSON mapping of protobuf writes it.
fn number(value: f64) -> Value {
    if value.is_finite() {
        return json!(value);
    }
    json!(if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    })
}

//! Instant and range queries.

use super::status;
use crate::error::{ApiError, Side};
use crate::http::admission::{Cancel, run_query};
use crate::http::app::App;
use crate::http::params::Params;
use crate::http::respond::{self, BodyWriter, Encoding, Notes};
use crate::wire::json;
use axum::extract::{Request, State};
use axum::response::Response;
use kymo_query::value::{HistogramPoint, Point, Series, Value, VectorSample};
use kymo_query::{FailureKind, QueryError, QueryLimits, QueryOptions, QueryResult, QueryStats};
use kymo_storage::model::Timestamp;
use std::io::{self, Write};
use std::time::Duration;

/// What instant and range queries have in common.
struct Asked {
    query: String,
    limit: Option<usize>,
    timeout: Option<Duration>,
    lookback: Option<Duration>,
    stats: bool,
    notes: Notes,
}

impl Asked {
    fn from_params(params: &Params) -> Result<Self, ApiError> {
        let positive = |ms: Option<i64>| {
            ms.and_then(|ms| u64::try_from(ms).ok()).filter(|ms| *ms > 0).map(Duration::from_millis)
        };
        let mut notes = Notes::default();
        let stats = params.get("stats");
        if let Some(other) = stats.filter(|s| !["true", "all"].contains(s)) {
            notes.warnings.push(format!(
                "value {other:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
            ));
        }
        Ok(Self {
            query: params.get("query").unwrap_or_default().to_owned(),
            limit: params.limit("limit")?,
            timeout: positive(params.duration_ms("timeout")?),
            lookback: positive(params.duration_ms("lookback_delta")?),
            stats: stats.is_some(),
            notes,
        })
    }

    fn options(&self, app: &App, cancel: &Cancel) -> QueryOptions {
        let now = app.settings().query;
        let limits = QueryLimits {
            samples: now.samples_max,
            points_per_series: now.points_max,
            timeout: now.timeout,
            ..app.engine.options().limits
        };
        QueryOptions {
            timeout: Some(self.timeout.map_or(now.timeout, |asked| asked.min(now.timeout))),
            lookback: Some(self.lookback.unwrap_or(now.lookback)),
            limits: Some(limits),
            cancel: cancel.flag(),
        }
    }

    fn answer(self, app: &App, encoding: Encoding, result: QueryResult) -> Response {
        let QueryResult { mut value, warnings, infos, stats } = result;
        app.metrics.query_samples.add(stats.samples_read);
        let mut notes = self.notes;
        notes.warnings.extend(warnings);
        notes.infos.extend(infos);
        match &mut value {
            Value::Vector(samples) => notes.truncate(samples, self.limit),
            Value::Matrix(series) => notes.truncate(series, self.limit),
            Value::Scalar(_) | Value::String { .. } => {}
        }
        let stats = self.stats.then_some(stats);
        respond::success(encoding, &notes, |out| write_data(out, &value, stats.as_ref()))
    }
}

/// `GET|POST /api/v1/query`.
pub async fn instant(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let asked = Asked::from_params(&params)?;
    let time = params.time("time")?.unwrap_or_else(|| app.clock.now_ms());
    let storage = app.storage(Side::Read)?;
    let work_app = app.clone();
    run_query(&app.query_gate, &app.metrics, move |cancel| {
        let options = asked.options(&work_app, cancel);
        let result = work_app.engine.instant(&storage, &asked.query, time, &options);
        let result = result.map_err(|e| refused(&e))?;
        Ok(asked.answer(&work_app, encoding, result))
    })
    .await
}

/// `GET|POST /api/v1/query_range`.
pub async fn range(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let asked = Asked::from_params(&params)?;
    let start = params.required_time("start")?;
    let end = params.required_time("end")?;
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = params.required_duration_ms("step")?;
    if step <= 0 {
        let text = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", text));
    }
    check_points(start, end, step, app.settings().query.points_max)?;
    let storage = app.storage(Side::Read)?;
    let work_app = app.clone();
    run_query(&app.query_gate, &app.metrics, move |cancel| {
        let options = asked.options(&work_app, cancel);
        let result = work_app.engine.range(&storage, &asked.query, start, end, step, &options);
        let result = result.map_err(|e| refused(&e))?;
        Ok(asked.answer(&work_app, encoding, result))
    })
    .await
}

/// What is wrong with the text is wrong with the parameter `query`.
fn refused(error: &QueryError) -> ApiError {
    match error.kind {
        FailureKind::BadData => ApiError::parameter("query", error),
        _ => ApiError::query(error),
    }
}

fn check_points(start: Timestamp, end: Timestamp, step: i64, points_max: u64) -> Result<(), ApiError> {
    if (i128::from(end) - i128::from(start)) / i128::from(step.max(1)) <= i128::from(points_max) {
        return Ok(());
    }
    let mut limit = points_max.to_string();
    let mut at = limit.len();
    while at > 3 {
        at -= 3;
        limit.insert(at, ',');
    }
    Err(ApiError::bad_data(format!(
        "exceeded maximum resolution of {limit} points per timeseries. Try decreasing the query resolution (?step=XX)"
    )))
}

/// `GET|POST /api/v1/query_exemplars`: there are no exemplars. Grafana asks before it shows anything.
pub async fn exemplars(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    app.params(request).await?;
    Ok(status::empty_list(encoding))
}

fn write_data(out: &mut BodyWriter, value: &Value, stats: Option<&QueryStats>) -> io::Result<()> {
    write!(out, "{{\"resultType\":\"{}\",\"result\":", value.type_name())?;
    match value {
        Value::Scalar(Point { timestamp, value }) => {
            out.write_all(b"[")?;
            json::short_timestamp(out, *timestamp)?;
            out.write_all(b",")?;
            json::fixed_value(out, *value)?;
            out.write_all(b"]")?;
        }
        Value::String { timestamp, text } => {
            out.write_all(b"[")?;
            json::short_timestamp(out, *timestamp)?;
            out.write_all(b",")?;
            json::string(out, text)?;
            out.write_all(b"]")?;
        }
        Value::Vector(samples) => write_list(out, samples, write_vector_sample)?,
        Value::Matrix(series) => write_list(out, series, write_series)?,
    }
    if let Some(stats) = stats {
        out.write_all(b",\"stats\":")?;
        write_stats(out, stats)?;
    }
    out.write_all(b"}")
}

fn write_list<T>(
    out: &mut BodyWriter,
    items: &[T],
    write_one: impl Fn(&mut BodyWriter, &T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(b"[")?;
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        write_one(out, item)?;
    }
    out.write_all(b"]")
}

fn write_vector_sample(out: &mut BodyWriter, sample: &VectorSample) -> io::Result<()> {
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

fn write_series(out: &mut BodyWriter, series: &Series) -> io::Result<()> {
    out.write_all(br#"{"metric":"#)?;
    json::labels(out, &series.labels)?;
    if !series.points.is_empty() {
        out.write_all(br#","values":"#)?;
        write_list(out, &series.points, |out, point| json::sample(out, point.timestamp, point.value))?;
    }
    if !series.histograms.is_empty() {
        out.write_all(br#","histograms":"#)?;
        let write_one = |out: &mut BodyWriter, point: &HistogramPoint| {
            json::histogram_sample(out, point.timestamp, &point.histogram)
        };
        write_list(out, &series.histograms, write_one)?;
    }
    out.write_all(b"}")
}

fn write_stats(out: &mut BodyWriter, stats: &QueryStats) -> io::Result<()> {
    let (prepare_s, evaluate_s) = (stats.prepare.as_secs_f64(), stats.evaluate.as_secs_f64());
    let page = serde_json::json!({
        "timings": {
            "evalTotalTime": prepare_s + evaluate_s,
            "resultSortTime": 0.0,
            "queryPreparationTime": prepare_s,
            "innerEvalTime": evaluate_s,
            "execQueueTime": 0.0,
            "execTotalTime": prepare_s + evaluate_s,
        },
        "samples": {
            "totalQueryableSamples": stats.samples_read,
            "peakSamples": stats.samples_peak,
            "samplesRead": stats.samples_read,
        },
    });
    Ok(serde_json::to_writer(out, &page)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eleven_thousand_and_one_points_are_the_most() {
        assert!(check_points(0, 11_000_999, 1_000, 11_000).is_ok());
        let error = check_points(0, 11_001_000, 1_000, 11_000).unwrap_err();
        let text = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
        assert_eq!((error.status.as_u16(), error.message.as_str()), (400, text));
        assert!(check_points(i64::MIN, i64::MAX, 1, u64::MAX).is_ok());
        assert!(check_points(i64::MIN, i64::MAX, i64::MAX, 1).is_err());
    }
}

//! Instant and range queries.

use super::answer::{Answer, Place, Stats};
use crate::error::{ApiError, Side};
use crate::http::admission::{Running, run_listed};
use crate::http::app::App;
use crate::http::params::{Params, parse_duration_ms};
use crate::http::queries::{Peer, Question};
use crate::http::respond::{Encoding, Notes};
use crate::http::stream;
use axum::extract::{Request, State};
use axum::response::Response;
use kymo_query::value::Value;
use kymo_query::{FailureKind, QueryError, QueryLimits, QueryOptions, QueryResult};
use kymo_storage::model::Timestamp;
use std::time::Duration;

/// What instant and range queries have in common.
struct Asked {
    query: String,
    limit: Option<usize>,
    timeout: Option<Duration>,
    lookback: Option<Duration>,
    stats: Option<StatsAsked>,
    explain: bool,
    peer: Option<Peer>,
    notes: Notes,
}

impl Asked {
    fn new(params: &Params, peer: Option<Peer>) -> Result<Self, ApiError> {
        let duration = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
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
            // A time that is over before the query begins is one that ends it.
            timeout: params.duration_ms("timeout")?.map(duration),
            lookback: lookback(params)?.map(duration).filter(|lookback| !lookback.is_zero()),
            stats: stats.map(|s| if s == "all" { StatsAsked::All } else { StatsAsked::Totals }),
            explain: params.get("explain").is_some_and(|e| e == "true" || e == "1"),
            peer,
            notes,
        })
    }

    fn question(&self, kind: &'static str) -> Question {
        Question { kind, text: self.query.clone(), peer: self.peer }
    }

    fn options(&self, app: &App, running: &Running) -> QueryOptions {
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
            cancel: running.cancel.flag(),
            progress: running.progress.clone(),
            on_long: Some(running.on_long.clone()),
            step_stats: self.stats.is_some(),
            explain: self.explain,
        }
    }

    fn answer(self, app: &App, encoding: Encoding, result: QueryResult, waited: Duration) -> Response {
        let QueryResult { mut value, warnings, infos, stats, samples_per_step, explain, memory } = result;
        app.metrics.query_samples.add(stats.samples_read);
        let mut notes = self.notes;
        notes.warnings.extend(warnings);
        notes.infos.extend(infos);
        match &mut value {
            Value::Vector(samples) => notes.truncate(samples, self.limit),
            Value::Matrix(series) => notes.truncate(series, self.limit),
            Value::Scalar(_) | Value::String { .. } => {}
        }
        let show_steps = self.stats == Some(StatsAsked::All);
        let stats = samples_per_step.map(|per_step| Stats { stats, waited, per_step, show_steps });
        let answer = Answer { value, notes, stats, explain, memory, place: Place::default() };
        stream::streamed(app, encoding, Box::new(answer))
    }
}

/// What `stats` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatsAsked {
    /// Totals.
    Totals,
    /// And the samples of each step.
    All,
}

/// `GET|POST /api/v1/query`.
pub async fn instant(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let peer = Peer::of(&request);
    let params = app.params(request).await?;
    let asked = Asked::new(&params, peer)?;
    let time = params.time("time")?.unwrap_or_else(|| app.clock.now_ms());
    let storage = app.storage(Side::Read)?;
    let work_app = app.clone();
    run_listed(app.desk(), asked.question("instant"), move |running| {
        let options = asked.options(&work_app, running);
        let result = work_app.engine.instant(&storage, &asked.query, time, &options);
        let result = result.map_err(|e| refused(&e))?;
        Ok(asked.answer(&work_app, encoding, result, running.waited))
    })
    .await
}

/// `GET|POST /api/v1/query_range`.
pub async fn range(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let peer = Peer::of(&request);
    let params = app.params(request).await?;
    let asked = Asked::new(&params, peer)?;
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
    run_listed(app.desk(), asked.question("range"), move |running| {
        let options = asked.options(&work_app, running);
        let result = work_app.engine.range(&storage, &asked.query, start, end, step, &options);
        let result = result.map_err(|e| refused(&e))?;
        Ok(asked.answer(&work_app, encoding, result, running.waited))
    })
    .await
}

/// `lookback_delta` in milliseconds, with the text of its own that a mistake in it has.
fn lookback(params: &Params) -> Result<Option<i64>, ApiError> {
    let Some(text) = params.get("lookback_delta") else { return Ok(None) };
    let failed = |e| ApiError::bad_data(format!("error parsing lookback delta duration: {e}"));
    parse_duration_ms(text).map(Some).map_err(failed)
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

//! Exemplars of the series a query reads.

use crate::error::{ApiError, Side};
use crate::http::admission::run_query;
use crate::http::app::App;
use crate::http::respond::{self, BodyWriter, Encoding, Notes};
use crate::wire::json;
use axum::extract::{Request, State};
use axum::response::Response;
use kymo_query::ast::Expr;
use kymo_storage::api::ExemplarSeries;
use kymo_storage::model::{Matcher, TimeRange};
use std::io::{self, Write};

/// `GET|POST /api/v1/query_exemplars`: the exemplars of all series that the selectors of `query` match.
pub async fn exemplars(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let start = params.time("start")?.unwrap_or(i64::MIN);
    let end = params.time("end")?.unwrap_or(i64::MAX);
    if end < start {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp"));
    }
    let expr =
        app.engine.parse(params.get("query").unwrap_or_default()).map_err(|error| ApiError::query(&error))?;
    let storage = app.storage(Side::Read)?;
    let sets = selectors(&expr);
    run_query(&app.query_gate, &app.metrics, move |_| {
        // A query without selectors asks of no series.
        let found = if sets.is_empty() {
            kymo_storage::api::Exemplars::default()
        } else {
            let range = TimeRange::closed(start, end);
            storage.exemplars(range, &sets).map_err(|e| ApiError::storage(Side::Read, &e))?
        };
        let notes = Notes { warnings: found.warnings, ..Notes::default() };
        Ok(respond::success(encoding, &notes, |out| write_all(out, &found.series)))
    })
    .await
}

/// The matchers of every selector in `expr`.
fn selectors(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut sets = Vec::new();
    expr.walk(&mut |expr| match expr {
        Expr::VectorSelector(selector) => sets.push(selector.matchers.clone()),
        Expr::MatrixSelector(range) => sets.push(range.selector.matchers.clone()),
        _ => {}
    });
    sets
}

fn write_all(out: &mut BodyWriter, all: &[ExemplarSeries]) -> io::Result<()> {
    out.write_all(b"[")?;
    for (number, series) in all.iter().enumerate() {
        out.write_all(if number == 0 { b"{\"seriesLabels\":" } else { b",{\"seriesLabels\":" })?;
        json::labels(out, &series.labels)?;
        out.write_all(b",\"exemplars\":[")?;
        for (number, exemplar) in series.exemplars.iter().enumerate() {
            out.write_all(if number == 0 { b"{\"labels\":" } else { b",{\"labels\":" })?;
            json::labels(out, &exemplar.labels)?;
            out.write_all(b",\"value\":")?;
            json::value(out, exemplar.value)?;
            out.write_all(b",\"timestamp\":")?;
            json::timestamp(out, exemplar.timestamp)?;
            out.write_all(b"}")?;
        }
        out.write_all(b"]}")?;
    }
    out.write_all(b"]")
}

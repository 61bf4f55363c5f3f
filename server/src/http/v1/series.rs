//! Series, label names and label values that match selectors.

use crate::error::{ApiError, Side};
use crate::http::admission::run_query;
use crate::http::app::App;
use crate::http::params::Params;
use crate::http::respond::{self, Encoding, Notes};
use crate::wire::json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use kymo_query::syntax::parse_metric_selector;
use kymo_storage::api::Queryable;
use kymo_storage::model::{Labels, Matcher, TimeRange};
use std::io::Write;

/// How often a loop over series looks whether its client is still there.
const CANCEL_CHECK_EVERY: usize = 1_024;

/// What the three endpoints have in common.
struct Selection {
    range: TimeRange,
    matcher_sets: Vec<Vec<Matcher>>,
    limit: Option<usize>,
}

impl Selection {
    fn from_params(params: &Params) -> Result<Self, ApiError> {
        let start = params.time("start")?.unwrap_or(i64::MIN);
        let end = params.time("end")?.unwrap_or(i64::MAX);
        let mut matcher_sets = Vec::new();
        for text in params.all("match[]") {
            let matchers = parse_metric_selector(text).map_err(|errors| {
                let first = errors.first().map(ToString::to_string).unwrap_or_default();
                ApiError::parameter("match[]", first)
            })?;
            if matchers.iter().all(Matcher::matches_empty) {
                return Err(ApiError::parameter(
                    "match[]",
                    "match[] must contain at least one non-empty matcher",
                ));
            }
            matcher_sets.push(matchers);
        }
        if end < start {
            let text = "end timestamp must not be before start time";
            return Err(ApiError::parameter("end", text));
        }
        Ok(Self { range: TimeRange::closed(start, end), matcher_sets, limit: params.limit("limit")? })
    }
}

/// `GET|POST /api/v1/series`: the label sets that match one of `match[]`.
pub async fn series(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let selection = Selection::from_params(&params)?;
    let storage = app.storage(Side::Read)?;
    run_query(&app.query_gate, &app.metrics, move |cancel| {
        let failed = |e: kymo_storage::Error| ApiError::storage(Side::Read, &e);
        let querier = storage.querier(selection.range).map_err(failed)?;
        let mut found: Vec<Labels> = Vec::new();
        let mut notes = Notes::default();
        for matchers in &selection.matcher_sets {
            let set = querier.select(selection.range, matchers).map_err(failed)?;
            // One more than the limit shows that there are more; several sets may overlap.
            let wanted = selection.limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
            for index in 0..set.len().min(wanted) {
                if index % CANCEL_CHECK_EVERY == 0 && cancel.is_cancelled() {
                    return Err(ApiError::cancelled());
                }
                found.push(set.labels(index));
            }
            notes.warnings.extend(set.warnings());
        }
        if selection.matcher_sets.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        notes.truncate(&mut found, selection.limit);
        Ok(respond::success(encoding, &notes, |out| {
            out.write_all(b"[")?;
            for (i, labels) in found.iter().enumerate() {
                if i > 0 {
                    out.write_all(b",")?;
                }
                json::labels(out, labels)?;
            }
            out.write_all(b"]")
        }))
    })
    .await
}

/// `GET|POST /api/v1/labels`: the label names of matching series.
pub async fn labels(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    names(&app, request, None).await
}

/// `GET /api/v1/label/<name>/values`: the values of one label in matching series.
pub async fn label_values(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let Ok(Path(escaped)) = path else {
        return ApiError::bad_data("invalid label name: it is not valid UTF-8").into_response();
    };
    let name = unescape_label_name(&escaped);
    if name.is_empty() {
        return ApiError::bad_data(format!("invalid label name: {name:?}")).into_response();
    }
    names(&app, request, Some(name)).await.into_response()
}

async fn names(app: &App, request: Request, label: Option<String>) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let params = app.params(request).await?;
    let selection = Selection::from_params(&params)?;
    let storage = app.storage(Side::Read)?;
    run_query(&app.query_gate, &app.metrics, move |_| {
        let failed = |e: kymo_storage::Error| ApiError::storage(Side::Read, &e);
        let querier = storage.querier(selection.range).map_err(failed)?;
        let sets = &selection.matcher_sets;
        let found = match &label {
            Some(name) => querier.label_values(name, sets),
            None => querier.label_names(sets),
        };
        let mut found = found.map_err(failed)?;
        let mut notes = Notes { warnings: found.warnings, infos: Vec::new() };
        notes.truncate(&mut found.names, selection.limit);
        Ok(respond::success(encoding, &notes, |out| json::strings(out, &found.names)))
    })
    .await
}

/// The name behind Prometheus' `U__` escaping: `_HEX_` stands for a character, `__` for an underscore. What is not such an
/// escape is a name as it stands.
fn unescape_label_name(text: &str) -> String {
    let unescape = || {
        let mut rest = text.strip_prefix("U__")?;
        let mut name = String::new();
        while let Some(at) = rest.find('_') {
            let (plain, tail) = rest.split_at_checked(at)?;
            name.push_str(plain);
            let tail = tail.strip_prefix('_')?;
            if let Some(after) = tail.strip_prefix('_') {
                name.push('_');
                rest = after;
                continue;
            }
            let (digits, after) = tail.split_once('_')?;
            // `from_str_radix` would take a sign.
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            name.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
            rest = after;
        }
        name.push_str(rest);
        Some(name)
    };
    unescape().unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names() {
        let cases = [
            ("job", "job"),
            ("U__k_2e_x", "k.x"),
            ("U__a__b", "a_b"),
            ("U___1F600_", "😀"),
            ("U__bad_zz_", "U__bad_zz_"),
            ("U__bad_+2e_", "U__bad_+2e_"),
            ("U__open_2e", "U__open_2e"),
            ("U__surrogate_d800_", "U__surrogate_d800_"),
            ("U__", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(unescape_label_name(text), expected, "{text}");
        }
    }
}

//! Series, label names and label values that match selectors.

use super::answer::List;
use crate::error::{ApiError, Side};
use crate::http::admission::run_listed;
use crate::http::app::App;
use crate::http::params::Params;
use crate::http::queries::{Peer, Question};
use crate::http::respond::{self, BodyWriter, Encoding, Notes};
use crate::http::stream;
use crate::wire::json;
use crate::wire::regex_room::RegexRoom;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use kymo_query::Held;
use kymo_query::syntax::parse_metric_selector;
use kymo_storage::ErrorKind;
use kymo_storage::api::{Names, Queryable, Room};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use std::io::Write;

/// How often a loop over series looks whether its client is still there.
const CANCEL_CHECK_EVERY: usize = 1_024;

/// What a series of the answer takes besides its labels.
const SERIES_BYTES: usize = 64;

/// The answer to how much room a list may take, out of the memory of all queries; what is granted is put into `memory`.
pub(super) fn granting<'m>(
    app: &'m App,
    memory: &'m mut Vec<Held>,
) -> impl FnMut(u64) -> kymo_storage::Result<()> + use<'m> {
    move |bytes| match app.engine.hold(bytes) {
        Ok(held) => {
            memory.push(held);
            Ok(())
        }
        Err(refused) => Err(kymo_storage::Error::new(ErrorKind::LimitExceeded, refused.message)),
    }
}

/// What the three endpoints have in common.
struct Selection {
    range: TimeRange,
    matcher_sets: Vec<Vec<Matcher>>,
    /// The selectors as they were written.
    texts: String,
    limit: Option<usize>,
}

impl Selection {
    /// What is asked for; `None` if it is a range that ends before it begins, in which there is nothing.
    fn new(params: &Params, matcher_sets: Vec<Vec<Matcher>>) -> Result<Option<Self>, ApiError> {
        let start = params.time("start")?.unwrap_or(i64::MIN);
        let end = params.time("end")?.unwrap_or(i64::MAX);
        let limit = params.limit("limit")?;
        let texts = params.all("match[]").collect::<Vec<_>>().join(" ");
        let selection = || Self { range: TimeRange::closed(start, end), matcher_sets, texts, limit };
        Ok((start <= end).then(selection))
    }

    fn question(&self, kind: &'static str, peer: Option<Peer>) -> Question {
        Question { kind, text: self.texts.clone(), peer }
    }
}

/// The answer to a question about a range in which there is nothing.
fn nothing(encoding: Encoding) -> Response {
    respond::success(encoding, &Notes::default(), |out| out.write_all(b"[]"))
}

/// The matchers of a selector.
///
/// # Errors
/// The first mistake in it.
pub(super) fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    parse_metric_selector(text).map_err(|errors| errors.first().map(ToString::to_string).unwrap_or_default())
}

/// The matchers of each `match[]`.
///
/// # Errors
/// One of them is not a selector, or would match everything. Whether the parameter is named depends on the endpoint.
pub(super) fn matcher_sets(params: &Params) -> Result<Vec<Vec<Matcher>>, String> {
    let (mut matcher_sets, mut compiled) = (Vec::new(), RegexRoom::default());
    for text in params.all("match[]") {
        let matchers = selector(text)?;
        compiled.take(&matchers)?;
        if matchers.iter().all(Matcher::matches_empty) {
            return Err("match[] must contain at least one non-empty matcher".to_owned());
        }
        matcher_sets.push(matchers);
    }
    Ok(matcher_sets)
}

/// The same where the parameter is named and must be there.
///
/// # Errors
/// As [`matcher_sets`], and if there is none.
pub(super) fn needed_matcher_sets(params: &Params) -> Result<Vec<Vec<Matcher>>, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    matcher_sets(params).map_err(|why| ApiError::parameter("match[]", why))
}

/// `GET|POST /api/v1/series`: the label sets that match one of `match[]`.
pub async fn series(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let peer = Peer::of(&request);
    let params = app.params(request).await?;
    let sets = needed_matcher_sets(&params)?;
    let Some(selection) = Selection::new(&params, sets)? else { return Ok(nothing(encoding)) };
    let storage = app.storage(Side::Read)?;
    let (question, work_app) = (selection.question("series", peer), app.clone());
    run_listed(app.desk(), question, move |running| {
        let failed = |e: kymo_storage::Error| ApiError::storage(Side::Read, &e);
        let querier = storage.querier(selection.range).map_err(failed)?;
        let (mut found, mut memory): (Vec<Labels>, Vec<Held>) = (Vec::new(), Vec::new());
        let mut notes = Notes::default();
        // Bytes of labels that are there already and not yet reserved.
        let mut unheld = 0;
        for matchers in &selection.matcher_sets {
            let set = querier.select(selection.range, matchers).map_err(failed)?;
            // One more than the limit shows that there are more; several sets may overlap.
            let wanted = selection.limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
            for index in 0..set.len().min(wanted) {
                if index % CANCEL_CHECK_EVERY == 0 {
                    if running.cancel.is_cancelled() {
                        return Err(ApiError::cancelled());
                    }
                    memory.push(work_app.hold(unheld + CANCEL_CHECK_EVERY * SERIES_BYTES)?);
                    unheld = 0;
                }
                let labels = set.labels(index);
                unheld += labels.as_bytes().len();
                found.push(labels);
            }
            notes.warnings.extend(set.warnings());
        }
        if selection.matcher_sets.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        notes.truncate(&mut found, selection.limit);
        let write_one = |out: &mut BodyWriter, labels: &Labels| out.append(|text| json::labels(text, labels));
        let list = List { items: found, write_one, notes, memory, written: 0 };
        Ok(stream::streamed(&work_app, encoding, Box::new(list)))
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
    if escaped.is_empty() {
        // As in Prometheus, where this is no route.
        return respond::text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    let name = unescape_label_name(&escaped);
    if name.is_empty() {
        return ApiError::bad_data(format!("invalid label name: {name:?}")).into_response();
    }
    names(&app, request, Some(name)).await.into_response()
}

async fn names(app: &App, request: Request, label: Option<String>) -> Result<Response, ApiError> {
    let encoding = Encoding::accepted(request.headers());
    let peer = Peer::of(&request);
    let params = app.params(request).await?;
    let sets = matcher_sets(&params).map_err(ApiError::bad_data)?;
    let Some(selection) = Selection::new(&params, sets)? else { return Ok(nothing(encoding)) };
    let storage = app.storage(Side::Read)?;
    let failed = |e: kymo_storage::Error| ApiError::storage(Side::Read, &e);
    if selection.matcher_sets.is_empty() {
        // Handing this to another thread would take longer than doing it.
        let querier = storage.querier(selection.range).map_err(failed)?;
        let mut memory = Vec::new();
        let known = querier.known_list(label.as_deref(), &mut Room::new(&mut granting(app, &mut memory)));
        if let Some(found) = known.map_err(failed)? {
            return Ok(listed(app, encoding, found, memory, selection.limit));
        }
    }
    let kind = if label.is_some() { "label_values" } else { "labels" };
    let (question, work_app) = (selection.question(kind, peer), app.clone());
    run_listed(app.desk(), question, move |_| {
        let querier = storage.querier(selection.range).map_err(failed)?;
        let (sets, mut memory) = (&selection.matcher_sets, Vec::new());
        let mut grant = granting(&work_app, &mut memory);
        let mut room = Room::new(&mut grant);
        let found = match &label {
            Some(name) => querier.label_values(name, sets, &mut room),
            None => querier.label_names(sets, &mut room),
        };
        let found = found.map_err(failed)?;
        drop(grant);
        Ok(listed(&work_app, encoding, found, memory, selection.limit))
    })
    .await
}

/// The answer of a list of names or values.
fn listed(
    app: &App,
    encoding: Encoding,
    mut found: Names,
    memory: Vec<Held>,
    limit: Option<usize>,
) -> Response {
    let mut notes = Notes { warnings: found.warnings, infos: Vec::new() };
    notes.truncate(&mut found.names, limit);
    let write_one = |out: &mut BodyWriter, name: &String| json::string(out, name);
    let list = List { items: found.names, write_one, notes, memory, written: 0 };
    stream::streamed(app, encoding, Box::new(list))
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

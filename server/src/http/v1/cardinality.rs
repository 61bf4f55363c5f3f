//! `GET /api/v1/status/tsdb` and `/blocks`: what the store consists of.

use super::series::granting;
use super::status::page;
use crate::error::{ApiError, Side};
use crate::http::admission::{Cancel, run_query};
use crate::http::app::App;
use crate::http::params::Params;
use axum::extract::{Request, State};
use axum::response::Response;
use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Room};
use kymo_storage::model::{METRIC_NAME, MatchOp, Matcher, TimeRange};
use serde_json::{Value, json};
use std::cmp::Reverse;

/// Entries of each list if the request does not say.
const LIMIT_DEFAULT: usize = 10;
/// The most entries of each list.
const LIMIT_MAX: usize = 10_000;

/// The lists of the page, each with its largest numbers first.
#[derive(Debug, Default)]
struct Cardinality {
    series: u64,
    label_pairs: u64,
    by_metric: Ranking,
    values_by_label: Ranking,
    bytes_by_label: Ranking,
    by_pair: Ranking,
}

/// The largest of some numbers, with their names.
#[derive(Debug, Default)]
struct Ranking(Vec<(String, u64)>);

impl Ranking {
    /// How many entries more than asked for are gathered before the smallest are let go.
    const SLACK: usize = 4_096;

    fn push(&mut self, name: impl FnOnce() -> String, count: u64, limit: usize) {
        self.0.push((name(), count));
        if self.0.len() >= limit + Self::SLACK {
            self.cut(limit);
        }
    }

    /// Largest first, of equal ones by name.
    fn cut(&mut self, limit: usize) {
        self.0.sort_unstable_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
        self.0.truncate(limit);
    }

    fn page(mut self, limit: usize) -> Value {
        self.cut(limit);
        self.0.into_iter().map(|(name, count)| json!({ "name": name, "value": count })).collect()
    }
}

/// `GET /api/v1/status/tsdb`: which names and labels the series have, over all that is stored. `limit` (10) entries a list.
pub async fn tsdb(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let params = Params::parse(head.uri.query(), &[])?;
    let sentence = "limit must be a positive number";
    let limit = match params.number("limit", sentence)?.map(usize::try_from) {
        None => LIMIT_DEFAULT,
        Some(Ok(limit @ 1..)) => limit,
        Some(_) => return Err(ApiError::bad_data(sentence)),
    };
    if limit > LIMIT_MAX {
        return Err(ApiError::bad_data(format!("limit must not exceed {LIMIT_MAX}")));
    }
    let request = Request::from_parts(head, body);
    let (storage, work_app) = (app.storage(Side::Read)?, app.clone());
    let stats = storage.stats();
    let found =
        run_query(&app.query_gate, &app.metrics, move |cancel| count(&work_app, &storage, limit, cancel))
            .await?;
    let (min_time, max_time) = stats.head_times.unwrap_or((0, 0));
    let data = json!({
        "headStats": {
            "numSeries": found.series,
            "numLabelPairs": found.label_pairs,
            "chunkCount": stats.blocks,
            "minTime": min_time,
            "maxTime": max_time,
        },
        "seriesCountByMetricName": found.by_metric.page(limit),
        "labelValueCountByLabelName": found.values_by_label.page(limit),
        "memoryInBytesByLabelName": found.bytes_by_label.page(limit),
        "seriesCountByLabelValuePair": found.by_pair.page(limit),
    });
    Ok(page(&request, &data))
}

/// Goes through the values of one label after the other, so that one column is in memory at a time.
fn count(app: &App, storage: &Storage, limit: usize, cancel: &Cancel) -> Result<Cardinality, ApiError> {
    let failed = |e: kymo_storage::Error| ApiError::storage(Side::Read, &e);
    let range = TimeRange::closed(i64::MIN, i64::MAX);
    let querier = storage.querier(range).map_err(failed)?;
    let all = Matcher::new(MatchOp::Regex, METRIC_NAME, ".*")
        .map_err(|e| ApiError::bad_data(format!("select everything: {e}")))?;
    let set = querier.select(range, &[all]).map_err(failed)?;
    let mut found = Cardinality { series: set.len() as u64, ..Cardinality::default() };
    let mut memory = Vec::new();
    let mut grant = granting(app, &mut memory);
    for label in querier.label_names(&[], &mut Room::new(&mut grant)).map_err(failed)?.names {
        if cancel.is_cancelled() {
            return Err(ApiError::cancelled());
        }
        let column = set.label_column(&label);
        let mut counts = vec![0u64; column.values.len()];
        for id in &column.ids {
            if let Some(count) = counts.get_mut(*id as usize) {
                *count += 1;
            }
        }
        let (mut values, mut bytes) = (0, 0);
        for (value, count) in column.values.iter().zip(counts).filter(|(v, n)| !v.is_empty() && *n > 0) {
            values += 1;
            bytes += value.len() as u64 * count;
            if label == METRIC_NAME {
                found.by_metric.push(|| value.to_string(), count, limit);
            }
            found.by_pair.push(|| format!("{label}={value}"), count, limit);
        }
        found.label_pairs += values;
        if values > 0 {
            found.values_by_label.push(|| label.clone(), values, limit);
            found.bytes_by_label.push(|| label.clone(), bytes, limit);
        }
    }
    Ok(found)
}

/// `GET /api/v1/status/tsdb/blocks`: the blocks in use, in the shape of Prometheus' `meta.json`, with the bytes of the file.
pub async fn blocks(State(app): State<App>, request: Request) -> Result<Response, ApiError> {
    let storage = app.storage(Side::Read)?;
    let entry = |block: kymo_storage::block::ManifestBlock| {
        let (meta, ulid) = (block.meta, ulid(block.meta.uuid));
        let range = meta.range();
        json!({
            "ulid": ulid,
            "minTime": range.min_time,
            "maxTime": range.max_time,
            "stats": { "numSamples": meta.samples, "numSeries": meta.series, "numBytes": block.bytes },
            "compaction": { "level": u64::from(meta.level) + 1, "sources": [ulid] },
            "version": 1,
        })
    };
    let blocks: Vec<Value> = storage.blocks().into_iter().map(entry).collect();
    Ok(page(&request, &json!({ "blocks": blocks })))
}

/// The 26 characters (<https://github.com/ulid/spec>, base 32 of Crockford) that stand for 128 bits.
fn ulid(bytes: [u8; 16]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let number = u128::from_be_bytes(bytes);
    let digit = |place: u32| DIGITS.get((number >> (5 * place)) as usize % 32).copied().unwrap_or(b'0');
    (0..26).rev().map(|place| char::from(digit(place))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ulids() {
        assert_eq!(ulid([0; 16]), "0".repeat(26));
        assert_eq!(ulid([0xff; 16]), format!("7{}", "Z".repeat(25)));
        assert_eq!(ulid(0x0123_4567_89ab_cdef_u128.to_be_bytes()), "0000000000000028T5CY4TQKFF");
    }

    #[test]
    fn the_largest_stay_whatever_comes() {
        let mut ranking = Ranking::default();
        for i in 0..20_000u64 {
            ranking.push(|| format!("n{i}"), i % 9_973, 3);
        }
        let page = ranking.page(3);
        let values: Vec<u64> =
            page.as_array().unwrap().iter().map(|e| e["value"].as_u64().unwrap()).collect();
        assert_eq!(values, [9_972, 9_972, 9_971]);
    }
}

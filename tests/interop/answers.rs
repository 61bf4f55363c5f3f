//! Questions asked of two servers, and whether they answer alike.

use kymo_tests::answer::{Answer, LabelMap, Outcome, SampleValue};
use kymo_tests::compare::same_bits;
use kymo_tests::http::Client;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Labels, and milliseconds with values.
pub(crate) type Series = (LabelMap, Vec<(i64, SampleValue)>);

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Milliseconds as the API takes them.
pub(crate) fn seconds(ms: i64) -> String {
    format!("{:.3}", ms as f64 / 1000.0)
}

fn ask(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> Outcome {
    let answer = client.post_form(path, fields).unwrap();
    Outcome::from_json(&answer.json().unwrap()).unwrap()
}

pub(crate) fn instant(client: &mut Client, query: &str, time_ms: i64) -> Outcome {
    ask(client, "/api/v1/query", &[("query", query), ("time", &seconds(time_ms))])
}

pub(crate) fn range(client: &mut Client, query: &str, start_ms: i64, end_ms: i64, step: &str) -> Outcome {
    let (start, end) = (seconds(start_ms), seconds(end_ms));
    ask(client, "/api/v1/query_range", &[("query", query), ("start", &start), ("end", &end), ("step", step)])
}

/// The series a query such as `m[5m]` finds, with all their samples.
pub(crate) fn raw(client: &mut Client, query: &str, time_ms: i64) -> Vec<Series> {
    match instant(client, query, time_ms).result {
        Ok(Answer::Matrix(series)) => series,
        other => panic!("{query} gives no matrix: {other:?}"),
    }
}

/// Asks until the answer is good, for half a minute at most.
pub(crate) fn wait_for<T>(mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match attempt() {
            Ok(good) => return good,
            Err(reason) => assert!(Instant::now() < deadline, "{reason}"),
        }
        sleep(Duration::from_millis(200));
    }
}

/// Waits until a Prometheus that scrapes sends to `ours`: it sends only what is newer than the start of its sender.
pub(crate) fn wait_for_sending(ours: &mut Client) {
    wait_for(|| {
        let found = raw(ours, "up[1m]", now_ms());
        if found.is_empty() { Err("nothing is sent".to_owned()) } else { Ok(()) }
    });
}

/// Waits until two servers have the same samples, bit for bit; gives their number.
pub(crate) fn wait_until_same(theirs: &mut Client, ours: &mut Client, query: &str, time_ms: i64) -> usize {
    wait_for(|| {
        compare_series(raw(theirs, query, time_ms), raw(ours, query, time_ms), same_bits)
            .map_err(|reason| format!("{query}: {reason}"))
    })
}

/// Compares two answers; gives the number of values compared.
pub(crate) fn compare_outcomes(
    theirs: Outcome,
    ours: Outcome,
    same: impl Fn(f64, f64) -> bool,
) -> Result<usize, String> {
    let points = |v: Vec<(LabelMap, SampleValue)>| v.into_iter().map(|(l, x)| (l, vec![(0, x)])).collect();
    match (theirs.result, ours.result) {
        (Ok(Answer::Scalar(a)), Ok(Answer::Scalar(b))) if same(a, b) => Ok(1),
        (Ok(Answer::Text(a)), Ok(Answer::Text(b))) if a == b => Ok(1),
        (Ok(Answer::Vector(a)), Ok(Answer::Vector(b))) => compare_series(points(a), points(b), same),
        (Ok(Answer::Matrix(a)), Ok(Answer::Matrix(b))) => compare_series(a, b, same),
        (a, b) => Err(format!("they: {a:?}\n  Kymo: {b:?}")),
    }
}

/// Compares series whatever their order; gives the number of values compared.
pub(crate) fn compare_series(
    mut theirs: Vec<Series>,
    mut ours: Vec<Series>,
    same: impl Fn(f64, f64) -> bool,
) -> Result<usize, String> {
    theirs.sort_by(|a, b| a.0.cmp(&b.0));
    ours.sort_by(|a, b| a.0.cmp(&b.0));
    let labels = |s: &[Series]| -> Vec<LabelMap> { s.iter().map(|s| s.0.clone()).collect() };
    if labels(&theirs) != labels(&ours) {
        return Err(format!("they have {:?}\n  Kymo has {:?}", labels(&theirs), labels(&ours)));
    }
    let mut values = 0;
    for ((labels, a), (_, b)) in theirs.iter().zip(&ours) {
        if a.len() != b.len() || a.iter().zip(b).any(|(a, b)| a.0 != b.0 || !alike(&a.1, &b.1, &same)) {
            return Err(format!("{labels:?}:\n  they {a:?}\n  Kymo {b:?}"));
        }
        values += a.len();
    }
    Ok(values)
}

fn alike(a: &SampleValue, b: &SampleValue, same: &impl Fn(f64, f64) -> bool) -> bool {
    match (a, b) {
        (SampleValue::Float(a), SampleValue::Float(b)) => same(*a, *b),
        (SampleValue::Shown(a), SampleValue::Shown(b)) => {
            let bounds = |h: &[kymo_tests::answer::ShownBucket]| -> Vec<(u8, u64, u64)> {
                h.iter().map(|b| (b.boundary_rule, b.lower.to_bits(), b.upper.to_bits())).collect()
            };
            bounds(&a.buckets) == bounds(&b.buckets)
                && same(a.count, b.count)
                && same(a.sum, b.sum)
                && a.buckets.iter().zip(&b.buckets).all(|(a, b)| same(a.count, b.count))
        }
        _ => false,
    }
}

//! How vectors are paired, step by step.

use super::{engine, labels};
use crate::memory::MemoryStore;
use kymo_query::{QueryOptions, Value};

/// `old` gives way to `new` at one minute; both belong to host `a`.
fn store() -> MemoryStore {
    let mut store = MemoryStore::default();
    let stale = kymo_storage::model::stale_nan();
    store.add(&labels(&[("__name__", "used"), ("host", "a")]), [(0, 10.0), (60_000, 20.0)]);
    store.add(
        &labels(&[("__name__", "info"), ("host", "a"), ("version", "old")]),
        [(0, 1.0), (60_000, stale)],
    );
    store.add(&labels(&[("__name__", "info"), ("host", "a"), ("version", "new")]), [(60_000, 2.0)]);
    store.add(&labels(&[("__name__", "twin"), ("host", "a"), ("n", "1")]), [(0, 1.0)]);
    store.add(&labels(&[("__name__", "twin"), ("host", "a"), ("n", "2")]), [(0, 1.0)]);
    store
}

fn rows(query: &str, end: i64) -> Result<Vec<String>, String> {
    let result = engine(1).range(&store(), query, 0, end, 60_000, &QueryOptions::default());
    let Value::Matrix(series) = result.map_err(|e| e.message)?.value else { panic!("a matrix") };
    let row = |s: &kymo_query::Series| {
        let points = s.points.iter().map(|p| format!(" {}@{}", p.value, p.timestamp / 1000));
        format!("{}{}", s.labels, points.collect::<String>())
    };
    Ok(series.iter().map(row).collect())
}

#[test]
fn a_series_may_take_over_from_another() {
    let cases: [(&str, &[&str]); 5] = [
        ("used * on(host) info", &[r#"{host="a"} 10@0 40@60"#]),
        (
            "used * on(host) group_left(version) info",
            &[r#"{host="a", version="new"} 40@60"#, r#"{host="a", version="old"} 10@0"#],
        ),
        ("used > on(host) (info * 12)", &[]),
        ("used and on(host) info > 1", &[r#"{__name__="used", host="a"} 20@60"#]),
        ("used unless on(host) info > 1", &[r#"{__name__="used", host="a"} 10@0"#]),
    ];
    for (query, expected) in cases {
        assert_eq!(rows(query, 60_000).unwrap(), expected, "{query}");
    }
}

#[test]
fn sides_with_too_many_series_are_refused() {
    let error = rows("used * on(host) twin", 0).unwrap_err();
    assert_eq!(
        error,
        "found duplicate series for the match group {host=\"a\"} on the right hand-side of the operation: [{__name__=\"twin\", host=\"a\", n=\"1\"}, {__name__=\"twin\", host=\"a\", n=\"2\"}];many-to-many matching not allowed: matching labels must be unique on one side"
    );
    let error = rows("twin * on(host) used", 0).unwrap_err();
    assert_eq!(
        error,
        "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
    );
    let error = rows("used * on(host) group_right twin * on(host) group_left(n) used", 0);
    assert_eq!(error.unwrap_err(), "multiple matches for labels: grouping labels must ensure unique matches");
    // Where the other side is empty nothing is refused.
    assert_eq!(rows("nothing * on(host) twin", 0), Ok(Vec::new()));
}

#[test]
fn stand_ins_fill_missing_sides() {
    let filled = rows("used + on(host) fill(100) (info > 1)", 60_000).unwrap();
    assert_eq!(filled, [r#"{host="a"} 110@0 22@60"#]);
}

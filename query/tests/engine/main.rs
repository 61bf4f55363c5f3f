//! The engine from outside: whole queries over series in memory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod bordered;
#[path = "../syntax/expressions.rs"]
#[allow(dead_code, reason = "the tests of the syntax need more of it")]
mod expressions;
mod matching;
mod memory;
mod parallel;
mod random;
mod refusals;
mod switches;
mod windows;

use kymo_query::{Engine, EngineOptions, QueryOptions, Value};
use kymo_storage::model::Labels;
use memory::MemoryStore;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// `series` counters of `samples` samples, 15 s apart, in `groups` groups; some have gaps, resets and ends.
fn fleet(series: usize, samples: usize, groups: usize) -> MemoryStore {
    let mut store = MemoryStore::default();
    for s in 0..series {
        let name = labels(&[
            ("__name__", "requests_total"),
            ("group", &format!("g{}", s % groups)),
            ("host", &format!("h{s:04}")),
        ]);
        let points = (0..samples).filter(|i| s % 7 != 3 || i % 11 != 5).map(|i| {
            let value = ((i * (s % 13 + 1)) % 1000) as f64 + 0.1 * s as f64;
            let last = s % 17 == 4 && i == samples / 2;
            let value = if last { kymo_storage::model::stale_nan() } else { value };
            (i as i64 * 15_000, value)
        });
        store.add(&name, points);
    }
    store
}

fn engine(threads: usize) -> Engine {
    Engine::new(EngineOptions { threads, ..EngineOptions::default() })
}

#[test]
fn a_range_query_is_sorted_by_labels_and_aligned_to_its_steps() {
    let store = fleet(20, 100, 3);
    let result = engine(1)
        .range(
            &store,
            "sum by (group) (rate(requests_total[1m]))",
            300_000,
            600_000,
            60_000,
            &QueryOptions::default(),
        )
        .unwrap();
    let Value::Matrix(series) = result.value else { panic!("a range query answers a matrix") };
    let names: Vec<String> = series.iter().map(|s| s.labels.to_string()).collect();
    assert_eq!(names, [r#"{group="g0"}"#, r#"{group="g1"}"#, r#"{group="g2"}"#]);
    let times: Vec<i64> = series[0].points.iter().map(|p| p.timestamp).collect();
    assert_eq!(times, [300_000, 360_000, 420_000, 480_000, 540_000, 600_000]);
    assert_eq!(result.stats.series, 20);
    assert!(result.stats.samples_read > 0 && result.warnings.is_empty() && result.infos.is_empty());
}

#[test]
fn names_go_away_and_what_becomes_the_same_is_refused() {
    let mut store = MemoryStore::default();
    store.add(&labels(&[("__name__", "a"), ("x", "1")]), [(0, 1.0)]);
    store.add(&labels(&[("__name__", "b"), ("x", "1")]), [(0, 2.0)]);
    let ask = |text: &str| engine(1).instant(&store, text, 0, &QueryOptions::default());
    let Value::Vector(vector) = ask("abs(a)").unwrap().value else { panic!("a vector") };
    assert_eq!(vector[0].labels, labels(&[("x", "1")]));
    let error = ask(r#"abs({x="1"})"#).unwrap_err();
    assert_eq!(error.message, "vector cannot contain metrics with the same labelset");
    let Value::Vector(vector) = ask(r#"{x="1"} > 1"#).unwrap().value else { panic!("a vector") };
    assert_eq!(vector[0].labels.metric_name(), "b");
}

#[test]
fn counters_are_told_apart_by_name() {
    let mut store = MemoryStore::default();
    store.add(&labels(&[("__name__", "temperature")]), [(0, 1.0), (30_000, 2.0)]);
    let result =
        engine(1).instant(&store, "rate(temperature[5m])", 60_000, &QueryOptions::default()).unwrap();
    let text = "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: \"temperature\" (1:6)";
    assert_eq!(result.infos, [text]);
}

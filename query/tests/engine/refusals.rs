//! What the engine refuses: wrong types, limits, time, a caller who left.

use super::memory::MemoryStore;
use super::{engine, fleet, labels};
use kymo_query::{FailureKind, QueryLimits, QueryOptions};
use kymo_storage::env::{Clock, SystemClock};
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
fn range_queries_of_other_types_are_refused() {
    let store = fleet(1, 2, 1);
    let ask =
        |text: &str| engine(1).range(&store, text, 0, 60_000, 15_000, &QueryOptions::default()).unwrap_err();
    let error = ask("requests_total[5m]");
    assert_eq!(error.kind, FailureKind::BadData);
    assert_eq!(
        error.message,
        "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"
    );
    assert!(ask("\"text\"").message.starts_with("invalid expression type \"string\""));
    let error = ask("rate(requests_total)");
    assert_eq!(error.kind, FailureKind::BadData);
    assert!(error.message.contains("parse error") && !error.parse_errors.is_empty());
}

#[test]
fn steps_are_limited() {
    let store = fleet(1, 2, 1);
    let ask = |end, step| engine(1).range(&store, "1", 0, end, step, &QueryOptions::default());
    assert!(ask(11_000, 1).is_ok());
    let error = ask(11_001, 1).unwrap_err();
    assert!(error.message.starts_with("exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"));
    assert_eq!(ask(10, 0).unwrap_err().kind, FailureKind::BadData);
    assert_eq!(ask(-10, 5).unwrap_err().kind, FailureKind::BadData);
}

#[test]
fn limits_name_themselves() {
    let store = fleet(200, 100, 3);
    let ask = |limits: QueryLimits, text: &str| {
        let engine = engine(2);
        let options = QueryOptions { limits: Some(limits), ..QueryOptions::default() };
        let result = engine.range(&store, text, 0, 1_500_000, 15_000, &options);
        let ended = result.map(|_| ()).map_err(|e| (e.kind, e.message));
        assert_eq!(engine.memory_used(), 0, "all memory is given back with the answer");
        ended
    };
    let few = || QueryLimits { samples: 1000, ..QueryLimits::default() };
    let (kind, message) = ask(few(), "requests_total").unwrap_err();
    assert_eq!(kind, FailureKind::Execution);
    assert!(
        message.starts_with("query processing would load too many samples into memory in query execution")
    );
    // An aggregation holds its groups, not its input.
    assert_eq!(ask(few(), "sum(rate(requests_total[5m]))"), Ok(()));
    let (_, message) =
        ask(QueryLimits { series: 10, ..QueryLimits::default() }, "requests_total").unwrap_err();
    assert!(message.contains("the limit of series is 10, it finds 200"), "{message}");
    let (_, message) =
        ask(QueryLimits { bytes: 100_000, ..QueryLimits::default() }, "sort(requests_total) + 1")
            .unwrap_err();
    assert!(message.contains("the limit of bytes of one query is 100000"), "{message}");
    let (_, message) = ask(few(), "max_over_time(vector(1)[1w:1ms])").unwrap_err();
    assert!(message.contains("too many samples"), "{message}");
}

#[test]
fn time_and_the_caller_end_queries() {
    let store = fleet(50, 100, 3);
    let options = QueryOptions { timeout: Some(Duration::ZERO), ..QueryOptions::default() };
    let error = engine(1).instant(&store, "requests_total", 0, &options).unwrap_err();
    assert_eq!(
        (error.kind, &*error.message),
        (FailureKind::Timeout, "query timed out in expression evaluation")
    );
    let options = QueryOptions::default();
    options.cancel.store(true, Ordering::Relaxed);
    let error = engine(1).instant(&store, "requests_total", 0, &options).unwrap_err();
    assert_eq!(error.kind, FailureKind::Canceled);
}

/// A match cannot be interrupted, but between two of them somebody looks at the clock, and none takes long.
#[test]
fn time_ends_what_matches_long_labels() {
    let mut store = MemoryStore::default();
    for i in 0..1_000 {
        let long = format!("{i:04}{}", "word ".repeat(800));
        store.add(&labels(&[("__name__", "m"), ("text", &long)]), [(0, 1.0)]);
    }
    let slow = r#"label_replace(m, "x", "$1", "text", "(?:(\\w{1,60})\\W?)+")"#;
    let options = QueryOptions { timeout: Some(Duration::from_millis(100)), ..QueryOptions::default() };
    let clock = SystemClock::new();
    let began = clock.now_ms();
    let error = engine(1).instant(&store, slow, 0, &options).unwrap_err();
    assert_eq!(error.kind, FailureKind::Timeout, "{}", error.message);
    let took = clock.now_ms() - began;
    assert!(took < 3_000, "{took} ms");
}

#[test]
fn a_match_that_would_take_too_long_is_refused() {
    let mut store = MemoryStore::default();
    for (name, bytes) in [("short", 4 << 10), ("long", 512 << 10)] {
        store.add(&labels(&[("__name__", name), ("text", &"w".repeat(bytes))]), [(0, 1.0)]);
    }
    let ask = |name: &str, pattern: &str| {
        let text = format!("label_replace({name}, \"x\", \"$1\", \"text\", \"{pattern}\")");
        engine(1).instant(&store, &text, 0, &QueryOptions::default()).map(drop).map_err(|e| e.message)
    };
    let large = r"(?:(\\w{1,900})\\W?)+";
    assert_eq!(ask("short", large), Ok(()));
    assert_eq!(ask("long", "(.*)w"), Ok(()), "what is small may be long");
    let message = ask("long", large).unwrap_err();
    assert!(
        message.contains("the limit of bytes of the value times KiB of the expression is 16777216"),
        "{message}"
    );
}

#[test]
fn deep_trees_do_not_overflow_the_stack() {
    let store = fleet(3, 10, 1);
    let text = format!("{}requests_total{}", "abs(".repeat(100), ")".repeat(100));
    assert!(engine(1).instant(&store, &text, 60_000, &QueryOptions::default()).is_ok());
    let text = vec!["requests_total"; 200].join(" or ");
    assert!(engine(1).range(&store, &text, 0, 60_000, 15_000, &QueryOptions::default()).is_ok());
}

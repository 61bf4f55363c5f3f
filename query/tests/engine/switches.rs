//! What features change when they are switched on, and leave alone when they are not.

use super::labels;
use super::memory::MemoryStore;
use kymo_query::features::Switches;
use kymo_query::{Engine, EngineOptions, QueryOptions, QueryResult, Value};

fn engine(switches: &str) -> Engine {
    let options = EngineOptions { threads: 1, ..EngineOptions::default() };
    Engine::new(switches.parse::<Switches>().unwrap().apply(options))
}

fn ask(switches: &str, store: &MemoryStore, query: &str) -> Result<QueryResult, String> {
    engine(switches).instant(store, query, 60_000, &QueryOptions::default()).map_err(|e| e.message)
}

/// The label sets of the answer, or the error.
fn answer(switches: &str, store: &MemoryStore, query: &str) -> String {
    match ask(switches, store, query) {
        Err(message) => message,
        Ok(result) => {
            let Value::Vector(vector) = result.value else { panic!("{query}: a vector") };
            vector
                .iter()
                .map(|s| s.labels.to_string())
                .collect::<Vec<_>>()
                .join(" ")
                .replace("__name__", "name")
        }
    }
}

#[test]
fn names_go_away_at_once_or_at_the_end() {
    let mut store = MemoryStore::default();
    for name in ["a_total", "b_total"] {
        store.add(&labels(&[("__name__", name), ("x", "1")]), [(0, 1.0), (30_000, 2.0), (60_000, 3.0)]);
    }
    const A: &str = r#"{name="a_total", x="1"}"#;
    const SAME: &str = "vector cannot contain metrics with the same labelset";
    let both = r#"{__name__=~"a_total|b_total"}"#;
    // Query, at once, at the end.
    for (query, at_once, at_the_end) in [
        ("a_total", A, A),
        ("-a_total", r#"{x="1"}"#, r#"{x="1"}"#),
        ("rate(a_total[1m])", r#"{x="1"}"#, r#"{x="1"}"#),
        (&format!("rate({both}[1m])"), SAME, SAME),
        (&format!("sum by (x) (rate({both}[1m]))"), SAME, r#"{x="1"}"#),
        // Groups by the names that are there, and the groups are the same once those are gone.
        (&format!("sum by (__name__) (rate({both}[1m]))"), SAME, SAME),
        (&format!("count by (__name__, x) (-{both})"), SAME, SAME),
        (
            r#"label_replace(-a_total, "was", "$1", "__name__", "(.+)")"#,
            r#"{x="1"}"#,
            r#"{was="a_total", x="1"}"#,
        ),
        (
            r#"label_replace(rate(a_total[1m]), "__name__", "rate_$1", "__name__", "(.+)")"#,
            r#"{x="1"}"#,
            r#"{name="rate_a_total", x="1"}"#,
        ),
        ("max by (__name__) (a_total * 2)", "{}", "{}"),
        ("last_over_time(a_total[1m])", A, A),
    ] {
        assert_eq!(answer("", &store, query), at_once, "{query}");
        assert_eq!(answer("promql-delayed-name-removal", &store, query), at_the_end, "{query}");
    }
}

#[test]
fn a_counter_is_told_by_its_name_or_by_its_type() {
    let mut store = MemoryStore::default();
    for (name, kind) in [("a_total", ""), ("b", "counter"), ("c_total", "gauge"), ("d", "histogram")] {
        let labels = labels(&[("__name__", name), ("__type__", kind)]);
        store.add(&labels, [(10_000, 1.0), (30_000, 2.0)]);
    }
    let infos = |switches: &str, query: &str| ask(switches, &store, query).unwrap().infos.join("\n");
    let by_name = |name: &str| {
        format!(
            "PromQL info: metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name:?} (1:10)"
        )
    };
    let by_type = |kind: &str, name: &str| {
        format!(
            "PromQL info: metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got {kind:?}: {name:?} (1:10)"
        )
    };
    for (name, off, on) in [
        ("a_total", String::new(), by_type("", "a_total")),
        ("b", by_name("b"), String::new()),
        ("c_total", String::new(), by_type("gauge", "c_total")),
        ("d", by_name("d"), String::new()),
    ] {
        let query = format!("increase({name}[1m])");
        assert_eq!(infos("", &query), off, "{query}");
        assert_eq!(infos("type-and-unit-labels", &query), on, "{query}");
    }
}

#[test]
fn what_is_off_is_not_known() {
    let store = MemoryStore::default();
    for (feature, query) in [
        ("promql-experimental-functions", "mad_over_time(a[1m])"),
        ("promql-extended-range-selectors", "rate(a[1m] smoothed)"),
        ("promql-binop-fill-modifiers", "a + fill(0) a"),
        ("promql-duration-expr", "rate(a[1m + 1s])"),
    ] {
        assert_eq!(answer("", &store, query), "", "{query}");
        let error = answer(&format!("no-{feature}"), &store, query);
        assert!(error.contains("not enabled") || error.contains("must be enabled"), "{query}: {error}");
    }
}

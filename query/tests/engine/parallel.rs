//! Answers do not depend on the number of threads, to the bit.

use super::{engine, fleet};
use kymo_query::QueryOptions;

const QUERIES: [&str; 16] = [
    "requests_total",
    "rate(requests_total[2m])",
    "sum(rate(requests_total[5m]))",
    "avg by (group) (requests_total)",
    "stddev without (host) (requests_total)",
    "topk(3, requests_total)",
    "bottomk by (group) (2, rate(requests_total[1m]))",
    "quantile(0.9, requests_total)",
    "count_values(\"v\", requests_total % 3)",
    "requests_total - on(host) group_left requests_total offset 1m",
    "requests_total and requests_total > 100",
    "requests_total > 500 or requests_total < 100",
    "sum_over_time(rate(requests_total[1m])[10m:30s])",
    "limit_ratio(0.5, requests_total)",
    "max_over_time(requests_total[20m]) unless on(group) requests_total{group=\"g1\"}",
    "label_replace(sum by (host) (requests_total), \"n\", \"$1\", \"host\", \"h(.*)\")",
];

#[test]
fn one_thread_and_many_answer_alike() {
    let store = fleet(400, 240, 5);
    for query in QUERIES {
        let answers: Vec<_> = [1, 2, 5]
            .map(|threads| {
                engine(threads).range(&store, query, 0, 3_600_000, 7_000, &QueryOptions::default()).unwrap()
            })
            .into_iter()
            .map(|r| (r.value, r.warnings, r.infos))
            .collect();
        assert!(answers[0] == answers[1] && answers[0] == answers[2], "{query}");
    }
}

#[test]
fn each_step_of_a_range_query_is_an_instant_query() {
    let store = fleet(30, 120, 4);
    let engine = engine(1);
    for query in QUERIES {
        let range = engine.range(&store, query, 600_000, 900_000, 100_000, &QueryOptions::default()).unwrap();
        let kymo_query::Value::Matrix(series) = range.value else { panic!("a matrix") };
        for time in [600_000, 700_000, 800_000, 900_000] {
            let instant = engine.instant(&store, query, time, &QueryOptions::default()).unwrap();
            let kymo_query::Value::Vector(mut vector) = instant.value else { panic!("a vector") };
            vector.sort_by(|a, b| a.labels.cmp(&b.labels));
            let column: Vec<_> = series
                .iter()
                .filter_map(|s| Some((s.labels.clone(), *s.points.iter().find(|p| p.timestamp == time)?)))
                .collect();
            let vector: Vec<_> = vector.into_iter().map(|s| (s.labels, s.point)).collect();
            assert_eq!(column, vector, "{query} at {time}");
        }
    }
}

//! Random expressions: answers do not depend on the number of threads, to the bit.

use super::expressions::Source;
use super::memory::MemoryStore;
use super::{engine, labels};
use kymo_query::QueryOptions;
use kymo_storage::model::stale_nan;
use proptest::prelude::*;
use std::sync::OnceLock;

/// Series of the names and labels that the expressions select: more of them than one thread takes at a time.
fn store() -> &'static MemoryStore {
    static STORE: OnceLock<MemoryStore> = OnceLock::new();
    STORE.get_or_init(|| {
        let mut store = MemoryStore::default();
        for (n, name) in
            ["up", "http_requests_total", "a:b", "sum", "by", "start", "fill", "offset"].iter().enumerate()
        {
            for s in 0..48 {
                let pick = |values: &[&'static str], by: usize| values[(s / by) % values.len()];
                let series = labels(&[
                    ("__name__", name),
                    ("job", pick(&["x", "a", "b"], 1)),
                    ("le", pick(&["1", "5", "+Inf", "x"], 3)),
                    ("a", pick(&["x", "", "b"], 12)),
                    ("z", "q"),
                    ("host", &format!("h{s}")),
                ]);
                let points = (0..90_i64).filter(|i| (i + s as i64) % 9 != 4).map(|i| {
                    let value = match (i as usize * (s + 3) + n) % 61 {
                        0 => f64::NAN,
                        1 => f64::INFINITY,
                        2 => stale_nan(),
                        other => (other as f64 + i as f64) * 0.1,
                    };
                    (i * 10_000, value)
                });
                store.add(&series, points);
            }
        }
        store
    })
}

/// What a query answers, written down: equal texts are equal bits, of NaN and zeros, too.
fn answer(threads: usize, query: &str) -> String {
    match engine(threads).range(store(), query, 300_000, 840_000, 45_000, &QueryOptions::default()) {
        Ok(result) => format!("{:?} {:?} {:?}", result.value, result.warnings, result.infos),
        Err(error) => error.message,
    }
}

fn cases() -> u32 {
    std::env::var("KYMO_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn one_thread_and_up_to_eight_answer_alike(
        choices in prop::collection::vec(any::<u16>(), 1..60),
        threads in 2usize..=8,
    ) {
        let query = Source::new(&choices).vector();
        prop_assert_eq!(answer(threads, &query), answer(1, &query), "{} on {} threads", query, threads);
    }
}

/// The property says something only if many of the expressions have an answer.
#[test]
fn many_expressions_have_answers() {
    let answered = (0..200_u16)
        .filter(|seed| {
            let choices: Vec<u16> =
                (0..40_u16).map(|i| (seed + 1).wrapping_mul(i.wrapping_mul(7919).wrapping_add(31))).collect();
            answer(1, &Source::new(&choices).vector()).contains("Point {")
        })
        .count();
    assert!(answered >= 40, "{answered} of 200");
}

//! Random expressions: answers do not depend on the number of threads, to the bit.

use super::expressions::Source;
use super::labels;
use super::memory::MemoryStore;
use kymo_query::{Engine, EngineOptions, QueryOptions};
use kymo_storage::api::HistogramSample;
use kymo_storage::model::{Buckets, CUSTOM_SCHEMA, FloatHistogram, ResetHint, stale_nan};
use proptest::prelude::*;
use std::sync::{Arc, OnceLock};

/// A native histogram of exponential buckets, or of listed bounds, that grows from step to step and begins anew now and then.
fn histogram(series: usize, step: usize) -> FloatHistogram {
    let age = (step % 37) as f64;
    let counts: Vec<f64> = (0..3 + series % 4).map(|b| age * (b + series % 5) as f64).collect();
    let custom = series % 3 == 2;
    let bounds = (0..counts.len() - 1).map(|b| b as f64 * 0.5);
    FloatHistogram {
        hint: if series % 7 == 6 { ResetHint::Gauge } else { ResetHint::Unknown },
        schema: if custom { CUSTOM_SCHEMA } else { (series % 2) as i32 },
        zero_threshold: if custom { 0.0 } else { 0.001 },
        zero_count: if custom { 0.0 } else { age },
        count: counts.iter().sum::<f64>() + if custom { 0.0 } else { age },
        sum: age * 2.5 - series as f64,
        positive: Buckets::run(if custom { 0 } else { series as i32 % 3 - 1 }, counts).unwrap(),
        custom_bounds: if custom { bounds.collect() } else { Arc::default() },
        ..FloatHistogram::default()
    }
}

/// Series of the names and labels that the expressions select: more of them than one thread takes at a time. Some are of
/// native histograms, some of both kinds, and some know since when they count.
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
                let is_native = |i: i64| n % 4 <= 1 && (s % 8 < 4 || s % 8 == 4 && i > 50) || n >= 6;
                let times = (0..90_i64).filter(|i| (i + s as i64) % 9 != 4);
                let points = times.clone().filter(|i| !is_native(*i)).map(|i| {
                    let value = match (i as usize * (s + 3) + n) % 61 {
                        0 => f64::NAN,
                        1 => f64::INFINITY,
                        2 => stale_nan(),
                        other => (other as f64 + i as f64) * 0.1,
                    };
                    let start = if s % 5 == 3 { i / 20 * 200_000 - 5_000 } else { 0 };
                    (i * 10_000, start, value)
                });
                store.add_started(&series, points);
                let histograms = times.filter(|i| is_native(*i)).map(|i| {
                    let stale = (i as usize + s) % 31 == 7;
                    let histogram =
                        if stale { FloatHistogram::stale() } else { histogram(s + n, i as usize) };
                    let start_timestamp = if s % 5 == 3 { i / 20 * 200_000 - 5_000 } else { 0 };
                    HistogramSample { timestamp: i * 10_000, start_timestamp, histogram: Arc::new(histogram) }
                });
                store.add_histograms(&series, histograms);
            }
        }
        store
    })
}

/// What a query answers, written down: equal texts are equal bits, of NaN and zeros, too.
fn answer(threads: usize, starts: bool, query: &str) -> String {
    let engine =
        Engine::new(EngineOptions { threads, use_start_timestamps: starts, ..EngineOptions::default() });
    match engine.range(store(), query, 300_000, 840_000, 45_000, &QueryOptions::default()) {
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
        starts in any::<bool>(),
    ) {
        let query = Source::new(&choices).vector();
        prop_assert_eq!(answer(threads, starts, &query), answer(1, starts, &query), "{} on {} threads", query, threads);
    }
}

/// The property says something only if many of the expressions have an answer, and some of them histograms.
#[test]
fn many_expressions_have_answers() {
    let answers: Vec<String> = (0..200_u16)
        .map(|seed| {
            let choices: Vec<u16> =
                (0..40_u16).map(|i| (seed + 1).wrapping_mul(i.wrapping_mul(7919).wrapping_add(31))).collect();
            answer(1, seed % 2 == 0, &Source::new(&choices).vector())
        })
        .collect();
    let with = |what: &str| answers.iter().filter(|answer| answer.contains(what)).count();
    assert!(
        with("Point {") >= 40 && with("Histogram {") >= 10,
        "{} and {}",
        with("Point {"),
        with("Histogram {")
    );
}

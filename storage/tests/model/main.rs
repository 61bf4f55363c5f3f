//! A store against a map: whatever is written, in whatever order, with deletes, flushes, merges, snapshots, retention and restarts
//! in between, reads the same.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed expectation is a failed test")]

mod blocks;
mod book;
mod pair;
mod steps;

use kymo_storage::model::TimeRange;
use pair::Pair;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use steps::{NOW, Step, step};

/// How many sequences are tried; `KYMO_MODEL_CASES` sets it.
fn cases() -> u32 {
    std::env::var("KYMO_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

#[test]
fn a_store_answers_as_a_map_does() {
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::with_cases(cases()) };
    let mut runner = TestRunner::new(config);
    let steps = proptest::collection::vec(step(), 1..60);
    let total = std::cell::Cell::new(0);
    let outcome = runner.run(&(steps, -100_000i64..300_000, 0i64..200_000), |(steps, from, len)| {
        total.set(total.get() + steps.len());
        let mut pair = Pair::new();
        for step in &steps {
            pair.apply(step);
        }
        pair.check(TimeRange::ALL);
        pair.check(TimeRange::closed(NOW + from, NOW + from + len));
        pair.apply(&Step::Flush);
        prop_assert_eq!(pair.store().stats().head_samples, 0);
        pair.check(TimeRange::ALL);
        pair.apply(&Step::Kill);
        pair.check(TimeRange::ALL);
        Ok(())
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
    println!("restart sequences={} steps={} differing=0", cases(), total.get());
}

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

/// Does all of it, and looks at everything and at a part.
fn carry_out(steps: &[Step], part: TimeRange) {
    let mut pair = Pair::new();
    for step in steps {
        pair.apply(step);
    }
    pair.check(TimeRange::ALL);
    pair.check(part);
    pair.apply(&Step::Flush);
    assert_eq!(pair.store().stats().head_samples, 0);
    pair.check(TimeRange::ALL);
    pair.apply(&Step::Kill);
    pair.check(TimeRange::ALL);
}

/// What a search of tens of thousands of sequences came upon once.
#[test]
fn rare_sequences() {
    let exemplar = |series| Step::Exemplars { series, len: 1, after: 0, id: 0 };
    let sequences = [
        // A repeated exemplar, after a flush, is not held again: its series may leave memory, another stays.
        vec![exemplar(3), Step::Flush, exemplar(0), exemplar(3), Step::Forget],
        // The same when the log is all that is known of it.
        vec![exemplar(3), Step::Kill, exemplar(0), exemplar(3), Step::Forget],
        // And when it left memory, and is held anew.
        vec![exemplar(3), Step::Flush, Step::Forget, exemplar(3), Step::Kill, exemplar(3), Step::Forget],
    ];
    for steps in sequences {
        carry_out(&steps, TimeRange::closed(NOW, NOW));
    }
}

#[test]
fn a_store_answers_as_a_map_does() {
    let config = ProptestConfig { source_file: Some(file!()), ..ProptestConfig::with_cases(cases()) };
    let mut runner = TestRunner::new(config);
    let steps = proptest::collection::vec(step(), 1..60);
    let total = std::cell::Cell::new(0);
    let outcome = runner.run(&(steps, -100_000i64..300_000, 0i64..200_000), |(steps, from, len)| {
        total.set(total.get() + steps.len());
        carry_out(&steps, TimeRange::closed(NOW + from, NOW + from + len));
        Ok(())
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
    println!("restart sequences={} steps={} differing=0", cases(), total.get());
}

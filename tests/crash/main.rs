//! `kill -9` at random instants under load: nothing acknowledged is lost, nothing refused is there, nothing is torn.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test; the figures are printed, and the clock is the real one"
)]

use kymo_tests::kill_nine;
use kymo_tests::rng::Rng;
use std::path::Path;

/// Trials unless `KYMO_CRASH_TRIALS` says otherwise: some seconds, for every run of the tests.
const TRIALS: usize = 20;

#[test]
fn nothing_acknowledged_is_lost() {
    let trials = std::env::var("KYMO_CRASH_TRIALS").ok().and_then(|t| t.parse().ok()).unwrap_or(TRIALS);
    let seed = Rng::seed_from_env();
    let dir = tempfile::tempdir().unwrap();
    let summary = kill_nine::run(Path::new(env!("CARGO_BIN_EXE_kymo")), dir.path(), &[], trials, seed);
    println!("kill9 {summary} seed={seed}");
    assert!(summary.kept(), "{summary}; repeat with KYMO_SEED={seed}");
    assert!(summary.acked > trials as u64, "hardly anything was written: {summary}");
}

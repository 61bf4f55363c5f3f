//! The PromQL scripts over the engine in this process: our own in `tests/testdata/promql`, and Prometheus' where
//! `KYMO_PROMQLTEST` names their folder or `../shared/promqltest` holds them. Over HTTP: `tests/promql_http`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod coverage;

use kymo::Db;
use kymo_tests::answer::Outcome;
use kymo_tests::promqltest::backend::{InProcess, Place, append, engine_options, memory_store, outcome};
use kymo_tests::promqltest::folder::{own_scripts, prometheus_scripts, require_all, run_all};
use kymo_tests::promqltest::notation::Stored;
use kymo_tests::promqltest::run::Backend;
use kymo_tests::promqltest::script::When;

/// The embedded database, new after every `clear`.
struct Embedded(Db);

impl Embedded {
    fn new() -> Self {
        Self(Db::from_storage(memory_store(), engine_options(2)))
    }
}

impl Backend for Embedded {
    fn clear(&mut self) -> Result<(), String> {
        self.0.close().map_err(|e| e.to_string())?;
        *self = Self::new();
        Ok(())
    }

    fn load(&mut self, series: &[Stored]) -> Result<(), String> {
        append(self.0.storage(), series)
    }

    fn ask(&mut self, query: &str, when: When) -> Outcome {
        outcome(match when {
            When::Instant { at_ms } => self.0.instant(query, at_ms),
            When::Range { start_ms, end_ms, step_ms } => self.0.range(query, start_ms, end_ms, step_ms),
        })
    }
}

fn own(place: Place, threads: usize) {
    let title = format!("all ({place:?}, {threads} threads)");
    require_all(&run_all(&own_scripts(), &title, || InProcess::new(place, threads)));
}

fn prometheus(place: Place, threads: usize) {
    let title = format!("all ({place:?}, {threads} threads)");
    prometheus_scripts(&title, || InProcess::new(place, threads));
}

#[test]
fn own_scripts_over_a_list_of_series() {
    own(Place::List, 1);
}

#[test]
fn own_scripts_over_the_head_of_a_store() {
    own(Place::Head, 4);
}

#[test]
fn own_scripts_over_the_blocks_of_a_store() {
    own(Place::Blocks, 1);
}

#[test]
fn own_scripts_over_the_embedded_database() {
    require_all(&run_all(&own_scripts(), "all (embedded)", Embedded::new));
}

#[test]
fn prometheus_scripts_over_a_list_of_series() {
    prometheus(Place::List, 1);
}

#[test]
fn prometheus_scripts_over_the_head_of_a_store() {
    prometheus(Place::Head, 4);
}

#[test]
fn prometheus_scripts_over_the_blocks_of_a_store() {
    prometheus(Place::Blocks, 1);
}

#[test]
fn prometheus_scripts_over_the_embedded_database() {
    prometheus_scripts("all (embedded)", Embedded::new);
}

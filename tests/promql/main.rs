//! The PromQL scripts over the engine in this process: our own in `tests/testdata/promql`, and Prometheus' where
//! `KYMO_PROMQLTEST` names their folder or `../shared/promqltest` holds them. Over HTTP: `tests/promql_http`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

mod coverage;

use kymo::{AnyHistogram, Db, Labels, Options, SimClock};
use kymo_tests::answer::Outcome;
use kymo_tests::answer::SampleValue;
use kymo_tests::promqltest::backend::{InProcess, NOW_MS, Place, read_value};
use kymo_tests::promqltest::folder::{own_scripts, prometheus_scripts, require_all, run_all};
use kymo_tests::promqltest::notation::Stored;
use kymo_tests::promqltest::run::Backend;
use kymo_tests::promqltest::script::When;
use std::time::Duration;

/// The embedded database, new after every `clear`.
struct Embedded(Db);

impl Embedded {
    fn new() -> Self {
        let options = Options::new()
            .retention(None)
            .clock(SimClock::new(NOW_MS))
            .query_threads(2)
            .promql_features("promql-delayed-name-removal,use-start-timestamps");
        Self(Db::in_memory_with(options).expect("open a database in memory"))
    }
}

impl Backend for Embedded {
    fn clear(&mut self) -> Result<(), String> {
        self.0.close().map_err(|e| e.to_string())?;
        *self = Self::new();
        Ok(())
    }

    fn load(&mut self, series: &[Stored]) -> Result<(), String> {
        let mut appender = self.0.appender();
        for Stored { labels, points, starts } in series {
            let id = appender.series(&Labels::from_pairs(labels)).map_err(|e| e.to_string())?;
            for (index, (timestamp, value)) in points.iter().enumerate() {
                let start = starts.get(index).copied().unwrap_or(0);
                match value {
                    SampleValue::Float(value) => appender.append_with_start(id, *timestamp, start, *value),
                    SampleValue::Histogram(histogram) => {
                        let histogram = AnyHistogram::Float((**histogram).clone());
                        let added = appender.histogram_with_start(id, *timestamp, start, histogram);
                        added.map_err(|e| e.to_string())?;
                    }
                    SampleValue::Shown(_) => return Err("only answers show histograms".to_owned()),
                }
            }
        }
        let report = appender.commit().and_then(kymo::Ack::wait).map_err(|e| e.to_string())?;
        match report.refused.first() {
            Some(refusal) => Err(format!("{} samples refused: {refusal:?}", report.refused_total)),
            None => Ok(()),
        }
    }

    fn ask(&mut self, query: &str, when: When) -> Outcome {
        let answer = match when {
            When::Instant { at_ms } => self.0.instant(query, at_ms),
            When::Range { start_ms, end_ms, step_ms } => {
                self.0.range(query, start_ms, end_ms, Duration::from_millis(step_ms.unsigned_abs()))
            }
        };
        match answer {
            Err(error) => Outcome::error(error.to_string()),
            Ok(answer) => Outcome {
                result: Ok(read_value(answer.value)),
                warnings: answer.warnings,
                infos: answer.infos,
            },
        }
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

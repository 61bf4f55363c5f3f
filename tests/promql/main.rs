//! The PromQL scripts: our own in `tests/testdata/promql`, and Prometheus' where `KYMO_PROMQLTEST` names their folder
//! or `../shared/promqltest` holds them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

use kymo_tests::promqltest::backend::{InProcess, Place};
use kymo_tests::promqltest::classify::{Class, classify};
use kymo_tests::promqltest::run::{Report, run};
use kymo_tests::promqltest::script::{Eval, parse};
use std::path::{Path, PathBuf};

/// Prometheus' own scripts, if they are on this machine.
fn foreign_scripts() -> Option<PathBuf> {
    let named = std::env::var_os("KYMO_PROMQLTEST").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = [root.join("../shared/promqltest"), root.join("../../shared/promqltest")];
    named.into_iter().chain(beside).find(|dir| dir.is_dir())
}

fn scripts(dir: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut found: Vec<(String, String)> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "test"))
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// Our scripts.
fn own_scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/promql")
}

/// `KYMO_PROMQL_ONLY=functions.test` or `functions.test:123` carries out one script or one evaluation of it.
fn chosen(script: &str, eval: &Eval) -> bool {
    let Ok(only) = std::env::var("KYMO_PROMQL_ONLY") else { return true };
    match only.split_once(':') {
        Some((name, line)) => script == name && eval.line.to_string() == line,
        None => script == only,
    }
}

/// What the store cannot hold yet: evaluations that need it are counted as such, and not carried out.
const NOT_YET: [Class; 1] = [Class::StartTimestamps];

/// Carries out all scripts of `dir`.
fn run_all(dir: &Path, place: Place, threads: usize) -> Report {
    let mut total = Report::default();
    for (name, text) in scripts(dir) {
        let mut backend = InProcess::new(place, threads);
        let wanted =
            |class, eval: &Eval| (place == Place::List || !NOT_YET.contains(&class)) && chosen(&name, eval);
        let report = run(&name, &text, &mut backend, &wanted).unwrap_or_else(|e| panic!("{e}"));
        println!("{}", report.line(&name));
        total.add(report);
    }
    println!("{}", total.line(&format!("all ({place:?}, {threads} threads)")));
    println!("{} variations asked", total.variations);
    for (class, failure) in &total.failures {
        println!("{class:?} {failure}");
    }
    total
}

fn require_all(report: &Report) {
    assert!(report.failures.is_empty(), "{} evaluations failed", report.failures.len());
}

#[test]
fn own_scripts_over_a_list_of_series() {
    require_all(&run_all(&own_scripts(), Place::List, 1));
}

#[test]
fn own_scripts_over_the_head_of_a_store() {
    require_all(&run_all(&own_scripts(), Place::Head, 4));
}

#[test]
fn own_scripts_over_the_blocks_of_a_store() {
    require_all(&run_all(&own_scripts(), Place::Blocks, 1));
}

/// How many evaluations of Prometheus' scripts need floats only and nothing experimental, in the edition this runner was
/// written for. A newer edition may have more, never fewer.
const FLOAT_EVALUATIONS: usize = 605;
/// How many need native histograms.
const HISTOGRAM_EVALUATIONS: usize = 1307;
/// How many need start timestamps.
const START_EVALUATIONS: usize = 26;

fn prometheus_scripts(place: Place, threads: usize) {
    let Some(dir) = foreign_scripts() else {
        println!("skipped: KYMO_PROMQLTEST names no folder");
        return;
    };
    let report = run_all(&dir, place, threads);
    if std::env::var("KYMO_PROMQL_ONLY").is_err() {
        let classes: Vec<Class> =
            scripts(&dir).iter().flat_map(|(_, text)| classify(&parse(text).unwrap())).collect();
        let asked = |class: Class, least: usize| {
            let expected = classes.iter().filter(|c| **c == class).count();
            assert!(expected >= least, "the scripts hold only {expected} evaluations of {class:?}");
            let counts = report.of(class);
            let left_out = expected - counts.passed - counts.failed;
            assert_eq!(left_out, 0, "evaluations of {class:?} were left out");
        };
        asked(Class::Floats, FLOAT_EVALUATIONS);
        asked(Class::Histograms, HISTOGRAM_EVALUATIONS);
        if place == Place::List {
            asked(Class::StartTimestamps, START_EVALUATIONS);
        }
    }
    require_all(&report);
}

#[test]
fn prometheus_scripts_over_a_list_of_series() {
    prometheus_scripts(Place::List, 1);
}

#[test]
fn prometheus_scripts_over_the_head_of_a_store() {
    prometheus_scripts(Place::Head, 4);
}

#[test]
fn prometheus_scripts_over_the_blocks_of_a_store() {
    prometheus_scripts(Place::Blocks, 1);
}

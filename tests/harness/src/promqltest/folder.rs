//! The folders of scripts, and all scripts of one carried out side by side.

use super::classify::{Class, classify};
use super::run::{Backend, Report, run};
use super::script::{Eval, parse};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Our own scripts.
pub fn own_scripts() -> PathBuf {
    root().join("tests/testdata/promql")
}

/// Prometheus' own scripts, if they are on this machine: where `KYMO_PROMQLTEST` says, or in `shared/promqltest` beside the workspace.
pub fn foreign_scripts() -> Option<PathBuf> {
    let named = std::env::var_os("KYMO_PROMQLTEST").map(PathBuf::from);
    let beside = [root().join("../shared/promqltest"), root().join("../../shared/promqltest")];
    named.into_iter().chain(beside).find(|dir| dir.is_dir())
}

/// Names and texts of the scripts in `dir`, by name.
///
/// # Panics
/// The folder or a script cannot be read.
pub fn scripts(dir: &Path) -> Vec<(String, String)> {
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

/// `KYMO_PROMQL_ONLY=functions.test` or `functions.test:123` carries out one script or one evaluation of it.
fn chosen(script: &str, eval: &Eval) -> bool {
    let Ok(only) = std::env::var("KYMO_PROMQL_ONLY") else { return true };
    match only.split_once(':') {
        Some((name, line)) => script == name && eval.line.to_string() == line,
        None => script == only,
    }
}

/// Scripts that are carried out at the same time.
const SIDE_BY_SIDE: usize = 4;

/// Carries out all scripts of `dir`, each on a backend of its own.
///
/// # Panics
/// A script cannot be read, or its series not be stored.
pub fn run_all<B: Backend>(dir: &Path, title: &str, backend: impl Fn() -> B + Sync) -> Report {
    let scripts = scripts(dir);
    let reports: Mutex<Vec<Option<Report>>> = Mutex::new(scripts.iter().map(|_| None).collect());
    // The longest first, so that none is left alone at the end.
    let mut order: Vec<usize> = (0..scripts.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(scripts[*at].1.len()));
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(at) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (name, text) = &scripts[*at];
            let wanted = |_: Class, eval: &Eval| chosen(name, eval);
            let report = run(name, text, &mut backend(), &wanted).unwrap_or_else(|e| panic!("{e}"));
            reports.lock().unwrap()[*at] = Some(report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(work);
        }
    });
    let mut total = Report::default();
    for ((name, _), report) in scripts.iter().zip(reports.into_inner().unwrap()) {
        let report = report.unwrap_or_else(|| panic!("{name} was not carried out"));
        println!("{}", report.line(name));
        total.add(report);
    }
    println!("{}", total.line(title));
    println!("{} variations asked", total.variations);
    for (class, failure) in &total.failures {
        println!("{class:?} {failure}");
    }
    total
}

/// # Panics
/// Something failed.
pub fn require_all(report: &Report) {
    assert!(report.failures.is_empty(), "{} evaluations failed", report.failures.len());
}

/// How many evaluations of Prometheus' scripts need floats only and nothing experimental, in the edition this runner was
/// written for. A newer edition may have more, never fewer.
const FLOAT_EVALUATIONS: usize = 605;
/// How many need native histograms.
const HISTOGRAM_EVALUATIONS: usize = 1307;
/// How many need start timestamps.
const START_EVALUATIONS: usize = 26;

/// Carries out Prometheus' scripts and requires that none is left out and none fails. Without the scripts it says so.
///
/// # Panics
/// As [`run_all`] and [`require_all`], or evaluations were left out.
pub fn prometheus_scripts<B: Backend>(title: &str, backend: impl Fn() -> B + Sync) {
    let Some(dir) = foreign_scripts() else {
        println!("skipped: KYMO_PROMQLTEST names no folder");
        return;
    };
    let report = run_all(&dir, title, backend);
    if std::env::var("KYMO_PROMQL_ONLY").is_err() {
        let classes: Vec<Class> =
            scripts(&dir).iter().flat_map(|(_, text)| classify(&parse(text).unwrap())).collect();
        let asked = |class: Class, least: usize| {
            let expected = classes.iter().filter(|c| **c == class).count();
            assert!(expected >= least, "the scripts hold only {expected} evaluations of {class:?}");
            let counts = report.of(class);
            let skipped = expected - counts.passed - counts.failed;
            assert_eq!(skipped, 0, "evaluations of {class:?} were left out");
        };
        asked(Class::Floats, FLOAT_EVALUATIONS);
        asked(Class::Histograms, HISTOGRAM_EVALUATIONS);
        asked(Class::StartTimestamps, START_EVALUATIONS);
    }
    require_all(&report);
}

//! The PromQL scripts: our own in `tests/testdata/promql`, and Prometheus' where `KYMO_PROMQLTEST` names their folder
//! or `../shared/promqltest` holds them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

use kymo_tests::promqltest::classify::{Class, classify};
use kymo_tests::promqltest::script::parse;
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

#[test]
fn every_script_can_be_read() {
    let Some(dir) = foreign_scripts() else {
        println!("skipped: KYMO_PROMQLTEST names no folder");
        return;
    };
    let mut totals = [0; 3];
    for (name, text) in scripts(&dir) {
        let commands = parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut counts = [0; 3];
        for class in classify(&commands) {
            counts[class as usize] += 1;
            totals[class as usize] += 1;
        }
        println!("{name:<28} {counts:?}");
    }
    println!("{totals:?}");
    assert!(totals[Class::Floats as usize] > 600, "{totals:?}");
}

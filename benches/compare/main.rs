//! Kymo beside Prometheus and VictoriaMetrics on the same load, on this machine: one table.
//!
//! ```text
//! cargo bench --bench compare
//! cargo bench --bench compare -- --instances 100 --frames 480 --only kymo,victoria-metrics
//! ```
//!
//! The load is a fleet made of captured scrapes (`KYMO_CAPTURES` names their folder, else `../shared/captures`), or a
//! synthetic one where there are none. Every subject gets the same bytes over the same number of connections, on a fresh
//! directory and with its default settings. Peers that are not installed are left out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::disallowed_methods)]

mod fleet;
mod queries;
mod report;
mod subject;
mod trial;

use fleet::Shape;
use std::path::PathBuf;
use subject::Subject;

/// What to run.
struct Plan {
    shape: Shape,
    only: Vec<String>,
    dir: PathBuf,
}

fn plan() -> Plan {
    let default = std::env::temp_dir().join(format!("kymo-compare-{}", std::process::id()));
    let mut plan = Plan { shape: Shape::default(), only: Vec::new(), dir: default };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|w| w.parse().ok()).expect("a number after the flag");
        match word.as_str() {
            "--instances" => plan.shape.instances = number(),
            "--frames" => plan.shape.frames = number(),
            "--connections" => plan.shape.connections = number(),
            "--only" => {
                plan.only = words.next().expect("names after --only").split(',').map(str::to_owned).collect();
            }
            "--dir" => plan.dir = words.next().expect("a folder after --dir").into(),
            // Cargo itself passes this one.
            "--bench" => {}
            other => {
                println!(
                    "unknown flag {other}; there are --instances N, --frames N, --connections N, --only NAMES, --dir PATH"
                );
                std::process::exit(2);
            }
        }
    }
    plan
}

fn main() {
    let plan = plan();
    let subjects: Vec<Subject> = subject::installed(env!("CARGO_BIN_EXE_kymo"))
        .into_iter()
        .filter(|s| plan.only.is_empty() || plan.only.iter().any(|n| n == s.name))
        .collect();
    let load = fleet::build(&plan.shape);
    println!("{}", load.describe(&plan.shape));
    let mut results = Vec::new();
    for subject in &subjects {
        let dir = plan.dir.join(subject.name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("create a folder for the data");
        results.push(trial::run(subject, &load, &dir));
        let _ = std::fs::remove_dir_all(&dir);
    }
    let _ = std::fs::remove_dir(&plan.dir);
    println!("{}", report::table(&subjects, &results));
}

//! Kymo beside Prometheus and VictoriaMetrics on the same load, on this machine: a table of writing, storing and restarting,
//! one of disk and memory with what is promised, and one of queries of every kind.
//!
//! ```text
//! cargo bench --bench compare
//! cargo bench --bench compare -- --part store --instances 100 --frames 480 --only kymo,victoria-metrics
//! cargo bench --bench compare -- --part disk --fleet wide
//! cargo bench --bench compare -- --part queries --fleet long
//! cargo bench --bench compare -- --part queries --fleet long --dir /tmp/fleet --keep    # stores to profile
//! cargo bench --bench compare -- --part queries --fleet long --dir /tmp/fleet --again   # asks those once more
//! cargo bench --bench compare -- --part protocols          # remote write 2.0 against 1.0, of Kymo alone
//! KYMO_COMPARE_SCALE=0.05 cargo bench --bench compare      # a small one, to see that it works
//! ```
//!
//! The load is a fleet made of captured scrapes (`KYMO_CAPTURES` names their folder, else `../shared/captures`), or a
//! synthetic one where there are none. Every subject gets the same bytes over the same number of connections, on a fresh
//! directory and with its default settings. Peers that are not installed are left out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a bench prints, reads the clock, and stops at a failure"
)]

mod disk;
mod fleet;
mod protocols;
mod queries;
mod report;
mod subject;
mod suite;
mod trial;

use fleet::Shape;
use std::path::PathBuf;
use subject::Subject;
use suite::{Scale, Stores};

/// What to run.
struct Plan {
    shape: Shape,
    only: Vec<String>,
    dir: PathBuf,
    part: String,
    fleet: String,
    scale: Scale,
    stores: Stores,
}

fn plan() -> Plan {
    let default = std::env::temp_dir().join(format!("kymo-compare-{}", std::process::id()));
    let scale = std::env::var("KYMO_COMPARE_SCALE").ok().and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let mut plan = Plan {
        shape: Shape::default(),
        only: Vec::new(),
        dir: default,
        part: "all".to_owned(),
        fleet: String::new(),
        scale: Scale(scale),
        stores: Stores::Fresh,
    };
    if scale < 1.0 {
        plan.shape.frames = 40;
    }
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
            "--part" => {
                plan.part = words.next().expect("store, protocols, disk, queries or all after --part");
            }
            "--fleet" => plan.fleet = words.next().expect("wide or long after --fleet"),
            "--keep" => plan.stores = Stores::Keep,
            "--again" => plan.stores = Stores::Again,
            "--dir" => plan.dir = words.next().expect("a folder after --dir").into(),
            // Cargo itself passes this one.
            "--bench" => {}
            other => {
                println!(
                    "unknown flag {other}; there are --part store|protocols|disk|queries|all, --fleet wide|long, --instances N, --frames N, \
                     --connections N, --only NAMES, --dir PATH, --keep, --again"
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
    let does = |part: &str| plan.part == part || plan.part == "all";
    if does("store") {
        store(&plan, &subjects);
    }
    if does("protocols")
        && let Some(kymo) = subjects.iter().find(|s| s.name == "kymo")
    {
        protocols::run(kymo, &plan.dir, if plan.scale.0 < 1.0 { 20 } else { 500 });
    }
    if does("disk") {
        disk::run(&subjects, &plan.dir, plan.scale, &plan.fleet);
    }
    if does("queries") {
        suite::run(&subjects, &plan.dir, plan.scale, &plan.fleet, plan.stores);
    }
    let _ = std::fs::remove_dir(&plan.dir);
}

fn store(plan: &Plan, subjects: &[Subject]) {
    let load = fleet::build(&plan.shape);
    println!("{}", load.describe(&plan.shape));
    let mut results = Vec::new();
    for subject in subjects {
        let dir = plan.dir.join(subject.name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("create a folder for the data");
        results.push(trial::run(subject, &load, &dir));
        let _ = std::fs::remove_dir_all(&dir);
    }
    println!("{}", report::table(subjects, &results));
}

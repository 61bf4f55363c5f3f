//! A whole store, its disk and its clock, simulated on one thread: writes, reads, deletes, merges, retention, full disks, failing
//! disks, power cuts and clocks that jump, in an order that follows from a seed. What is acknowledged is there, nothing else
//! is, and a seed always gives the same run. Each run has one thread; seeds are shared out among the cores.
//!
//! ```text
//! cargo test -p kymo-storage --test simulation                                       100 seeds
//! KYMO_SIM_SEEDS=100000 cargo test --release -p kymo-storage --test simulation -- --nocapture
//! KYMO_SIM_SEED=42 cargo test -p kymo-storage --test simulation -- --nocapture       one of them, told step by step
//! ```
//! `KYMO_SIM_WATCH=1` looks at everything after each step, which is another run of the seed, but often shows the first step that is wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed expectation is a failed test; the figures are printed"
)]

mod acts;
mod chance;
mod oracle;
#[path = "../model/steps.rs"]
#[allow(dead_code, reason = "only its series and histograms are used")]
mod steps;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use world::{Figures, World};

/// A run is mostly small pieces of memory that come and go.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Seeds tried unless `KYMO_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 100;
/// What happens in one run.
const ACTIONS: u64 = 120;
/// Every so manieth seed is run twice.
const TWICE_EVERY: u64 = 10;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Runs a seed; what went wrong is said in one line that can be copied to run it again.
fn run(seed: u64, lie: Option<&'static str>) -> Result<Figures, String> {
    let world = AssertUnwindSafe(|| World::new(seed, lie).live(ACTIONS));
    catch_unwind(world).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words");
        format!(
            "{text}; again: KYMO_SIM_SEED={seed} cargo test -p kymo-storage --test simulation -- --nocapture"
        )
    })
}

/// What came of some seeds.
#[derive(Debug, Default)]
struct Tried {
    figures: Figures,
    violations: Vec<String>,
    different: Vec<String>,
}

/// Runs one seed after the other until none is left.
fn tried(seeds: &[u64], next: &AtomicUsize) -> Tried {
    let mut all = Tried::default();
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(seed) = seeds.get(index).copied() else { return all };
        let figures = match run(seed, None) {
            Ok(figures) => figures,
            Err(violation) => {
                // Seen at once: the others may take their time.
                println!("{violation}");
                all.violations.push(violation);
                continue;
            }
        };
        if (index as u64).is_multiple_of(TWICE_EVERY) {
            let again = run(seed, None).map(|figures| figures.trace);
            if again != Ok(figures.trace) {
                all.different.push(format!("seed {seed}: {:016x}, then {again:x?}", figures.trace));
            }
        }
        all.figures.add(&figures);
    }
}

#[test]
fn what_is_acknowledged_is_there_whatever_happens() {
    let first = number("PROPTEST_RNG_SEED").unwrap_or(0).wrapping_mul(1_000_003);
    let seeds: Vec<u64> = match number("KYMO_SIM_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("KYMO_SIM_SEEDS").unwrap_or(SEEDS)).map(|i| first.wrapping_add(i)).collect(),
    };
    if number("KYMO_SIM_SEED").is_some() {
        // What the store says of it, between what happens to it.
        let _ = tracing_subscriber::fmt().without_time().with_ansi(false).try_init();
    }
    let next = AtomicUsize::new(0);
    let work = || tried(&seeds, &next);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let parts: Vec<Tried> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores.min(seeds.len())).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (mut all, mut violations, mut different) = (Figures::default(), Vec::new(), Vec::new());
    for part in parts {
        all.add(&part.figures);
        violations.extend(part.violations);
        different.extend(part.different);
    }
    violations.sort();
    println!(
        "sim seeds={} days={} actions={} disk_calls={} faults={} crashes={} unreadable={} acknowledged={} violations={} deterministic={}",
        seeds.len(),
        all.simulated_ms / 86_400_000,
        all.actions,
        all.events,
        all.faults,
        all.crashes,
        all.rotten,
        all.acknowledged,
        violations.len(),
        u8::from(different.is_empty()),
    );
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
    assert!(different.is_empty(), "a seed does not always give the same run:\n{}", different.join("\n"));
    assert!(seeds.len() == 1 || (all.faults > 0 && all.crashes > 0 && all.acknowledged > 0), "{all:?}");
}

/// A simulation that finds nothing proves nothing unless it finds what is there.
#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    for lie in ["wal", "blocks", "head"] {
        let found = (0..200).find_map(|seed| run(seed, Some(lie)).err());
        assert!(found.is_some(), "no seed shows that syncs of {lie} do nothing");
    }
}

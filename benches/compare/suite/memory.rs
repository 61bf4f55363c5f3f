//! How much memory one query takes, by the length of its range and by its steps.

use super::feed::Fleet;
use crate::subject::Subject;
use kymo_tests::http::escape;
use kymo_tests::peers::Peer;
use kymo_tests::process::Usage;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const QUERIES: [&str; 2] = [
    "sum by (job) (rate(namedprocess_namegroup_cpu_seconds_total[5m]))",
    "max by (instance) (max_over_time(namedprocess_namegroup_num_threads[1h]))",
];

/// By how many bytes memory that is no file's lies above what it was before, at most, while a query is answered.
struct Rise {
    /// The first time something like it is asked: threads take their buffers, the allocator takes pages and keeps them a while.
    first: u64,
    /// Asked once more.
    again: u64,
}

/// The most that `id` holds in memory that is no file's until `over` is set.
fn watch_anonymous(id: u32, over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = most.max(Usage::of(id).anonymous_bytes);
        std::thread::sleep(Duration::from_micros(200));
    }
    most.max(Usage::of(id).anonymous_bytes)
}

fn rise(peer: &Peer, fleet: &Fleet, target: &str) -> Rise {
    let mut client = peer.client();
    // Opens all blocks and indexes, and touches the code, with a query that reads next to nothing.
    let (query, start, end) =
        (escape("sum(rate(namedprocess_scrape_errors[5m]))"), fleet.start_ms / 1000, fleet.end_ms() / 1000);
    let first =
        format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={}", (end - start) / 120);
    assert_eq!(client.get(&first).expect("an answer").status, 200);
    let mut rise = || {
        let (id, over) = (peer.process.id(), AtomicBool::new(false));
        let before = Usage::of(id).anonymous_bytes;
        let most = std::thread::scope(|scope| {
            let watch = scope.spawn(|| watch_anonymous(id, &over));
            let answer = client.get(target).expect("an answer");
            over.store(true, Ordering::Relaxed);
            assert_eq!(answer.status, 200, "{target}");
            watch.join().expect("the watch ends")
        });
        most.saturating_sub(before)
    };
    Rise { first: rise(), again: rise() }
}

/// Prints the table. Each figure is that of a server just started, which has opened its blocks.
pub(crate) fn print(subject: &Subject, mut peer: Peer, dir: &Path, fleet: &Fleet) {
    let end = fleet.end_ms() / 1000;
    let length = end - fleet.start_ms / 1000;
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let target = |query: &str, range: i64, steps: i64| {
        let (query, start, step) = (escape(query), end - range, (range / steps).max(1));
        format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step}")
    };
    println!();
    println!(
        "| rise of anonymous memory, asked first / again, MiB | 1 h in 120 steps | 6 h in 120 steps | 24 h in 120 steps | 24 h in 1920 steps |"
    );
    println!("|---|---:|---:|---:|---:|");
    for query in QUERIES {
        let shapes = [(length / 24, 120), (length / 4, 120), (length, 120), (length, 1920)];
        let cells = shapes.map(|(range, steps)| {
            peer.process.terminate(Duration::from_secs(60));
            peer = subject.start(dir);
            let rise = rise(&peer, fleet, &target(query, range, steps));
            format!("{} / {}", mib(rise.first), mib(rise.again))
        });
        println!("| `{query}` | {} |", cells.join(" | "));
    }
}

//! How much memory one query takes, by the length of its range and by its steps.

use super::feed::Fleet;
use crate::subject::Subject;
use kymo_tests::http::escape;
use kymo_tests::peers::Peer;
use std::path::Path;
use std::time::Duration;

const QUERIES: [&str; 2] = [
    "sum by (job) (rate(namedprocess_namegroup_cpu_seconds_total[5m]))",
    "max by (instance) (max_over_time(namedprocess_namegroup_num_threads[1h]))",
];

/// By how many bytes the peak of resident memory lies above what was resident before, for the first query of its kind.
fn rise(peer: &Peer, fleet: &Fleet, target: &str) -> u64 {
    let mut client = peer.client();
    // Opens blocks and indexes, and touches the code, with a query that reads next to nothing.
    let end = fleet.end_ms() / 1000;
    let first =
        format!("/api/v1/query?query={}&time={end}", escape("sum(rate(namedprocess_scrape_errors[5m]))"));
    assert_eq!(client.get(&first).expect("an answer").status, 200);
    // Resets the peak of the process to what is resident now.
    let _ = std::fs::write(format!("/proc/{}/clear_refs", peer.process.id()), "5");
    let before = peer.process.usage().resident_bytes;
    let answer = client.get(target).expect("an answer");
    assert_eq!(answer.status, 200, "{target}");
    peer.process.usage().peak_resident_bytes.saturating_sub(before)
}

/// Prints the table. Each figure is that of a server just started: one that has answered before has memory to spare.
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
        "| rise of resident memory, MiB | 1 h in 120 steps | 6 h in 120 steps | 24 h in 120 steps | 24 h in 1920 steps |"
    );
    println!("|---|---:|---:|---:|---:|");
    for query in QUERIES {
        let shapes = [(length / 24, 120), (length / 4, 120), (length, 120), (length, 1920)];
        let cells = shapes.map(|(range, steps)| {
            peer.process.terminate(Duration::from_secs(60));
            peer = subject.start(dir);
            mib(rise(&peer, fleet, &target(query, range, steps)))
        });
        println!("| `{query}` | {} |", cells.join(" | "));
    }
}

//! One subject under the load: ingest, memory, queries, disk, restart, loss.

use super::fleet::{Body, FleetLoad};
use super::queries::{self, Query};
use super::subject::{Subject, Written};
use kymo_tests::http::{Client, escape};
use kymo_tests::peers::Peer;
use kymo_tests::remote_write::HEADERS;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often each query is asked; the median counts.
const ROUNDS: usize = 5;

/// What was measured.
pub(crate) struct Measured {
    /// Acknowledged samples.
    pub(crate) samples: u64,
    /// From the first request to the last answer.
    pub(crate) wall: Duration,
    /// CPU of the server for it.
    pub(crate) cpu: Duration,
    /// Of each request.
    pub(crate) ack: Vec<Duration>,
    /// Resident when the last request was answered.
    pub(crate) resident_bytes: u64,
    /// The most until then.
    pub(crate) peak_bytes: u64,
    /// Bytes on disk.
    pub(crate) written: Written,
    /// From `kill -9` and start to the answer of a first query.
    pub(crate) restart: Duration,
    /// Series of the last scrape that are missing after a kill 0.2 s after its acknowledgement.
    pub(crate) lost: u64,
    /// Name, median time, series answered.
    pub(crate) queries: Vec<(&'static str, Duration, usize)>,
    /// CPU of the server for all rounds of all queries.
    pub(crate) query_cpu: Duration,
    /// Requests that were refused.
    pub(crate) refused: u64,
}

/// Measures `subject` in the empty folder `dir`.
pub(crate) fn run(subject: &Subject, load: &FleetLoad, dir: &Path) -> Measured {
    println!("measuring {} ({})", subject.name, subject.version);
    let mut peer = subject.start(dir);
    let before = peer.process.usage();
    let start = Instant::now();
    let (ack, refused) = ingest(subject, &peer, load);
    let wall = start.elapsed();
    let after = peer.process.usage();
    // Some take samples into a buffer and make them visible a little later.
    std::thread::sleep(Duration::from_secs(2));
    let list = if load.real { &queries::REAL } else { &queries::SYNTHETIC };
    let asked = peer.process.usage().cpu;
    let queries = list.iter().map(|query| ask(subject, &mut peer.client(), load, query)).collect();
    let query_cpu = peer.process.usage().cpu.saturating_sub(asked);
    let written = subject.written_bytes(&mut peer, dir);
    let restart = restart(subject, &mut peer, dir, load);
    let lost = lost_after_kill(subject, peer, dir, load);
    Measured {
        samples: load.samples,
        wall,
        cpu: after.cpu.saturating_sub(before.cpu),
        ack,
        resident_bytes: after.resident_bytes,
        peak_bytes: after.peak_resident_bytes,
        written,
        restart,
        lost,
        queries,
        query_cpu,
        refused,
    }
}

/// Sends everything from all connections; gives the time of each request and the number refused.
fn ingest(subject: &Subject, peer: &Peer, load: &FleetLoad) -> (Vec<Duration>, u64) {
    let lanes = std::thread::scope(|scope| {
        let threads: Vec<_> =
            load.lanes.iter().map(|lane| scope.spawn(|| send_all(subject, peer.client(), lane))).collect();
        threads.into_iter().map(|t| t.join().expect("a sender ends")).collect::<Vec<_>>()
    });
    let refused = lanes.iter().map(|l| l.1).sum();
    (lanes.into_iter().flat_map(|l| l.0).collect(), refused)
}

fn send_all(subject: &Subject, mut client: Client, bodies: &[Body]) -> (Vec<Duration>, u64) {
    let mut times = Vec::with_capacity(bodies.len());
    let mut refused = 0;
    for body in bodies {
        let start = Instant::now();
        loop {
            let answer =
                client.request("POST", subject.write_path, &HEADERS, &body.bytes).expect("an answer");
            match answer.status {
                200..300 => break,
                // Asked to come back, as a real sender would.
                429 | 500.. => std::thread::sleep(Duration::from_millis(30)),
                status => {
                    if refused == 0 {
                        println!("  refused with {status}: {}", answer.text());
                    }
                    refused += 1;
                    break;
                }
            }
        }
        times.push(start.elapsed());
    }
    (times, refused)
}

fn target(subject: &Subject, load: &FleetLoad, query: &Query) -> String {
    let (start, end) = (load.start_ms / 1000, load.end_ms / 1000);
    let text = escape(query.1);
    let no_cache = subject.no_cache;
    if query.2 {
        let step = ((end - start) / 120).max(1);
        format!("/api/v1/query_range?query={text}&start={start}&end={end}&step={step}{no_cache}")
    } else {
        format!("/api/v1/query?query={text}&time={end}{no_cache}")
    }
}

fn ask(
    subject: &Subject,
    client: &mut Client,
    load: &FleetLoad,
    query: &Query,
) -> (&'static str, Duration, usize) {
    let target = target(subject, load, query);
    let mut times = Vec::new();
    let mut series = 0;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let answer = client.get(&target).expect("an answer");
        times.push(start.elapsed());
        let json = answer.json().expect("JSON");
        assert_eq!(json["status"], "success", "{}: {json}", query.1);
        series = json["data"]["result"].as_array().map_or(0, Vec::len);
    }
    times.sort();
    (query.0, times[times.len() / 2], series)
}

/// Kills it and measures until a query is answered again.
fn restart(subject: &Subject, peer: &mut Peer, dir: &Path, load: &FleetLoad) -> Duration {
    peer.process.kill();
    let start = Instant::now();
    *peer = subject.start(dir);
    let target = target(subject, load, &("", "count({job=~\".+\"})", false));
    while !peer.client().get(&target).is_ok_and(|r| r.status == 200) {
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// Sends one more scrape, kills the server 0.2 s later, starts it and counts what is missing.
fn lost_after_kill(subject: &Subject, mut peer: Peer, dir: &Path, load: &FleetLoad) -> u64 {
    send_all(subject, peer.client(), &load.last);
    std::thread::sleep(Duration::from_millis(200));
    peer.process.kill();
    peer = subject.start(dir);
    let time = load.end_ms / 1000 + 15;
    let query = escape("count(last_over_time({job=~\".+\"}[15s]))");
    let target = format!("/api/v1/query?query={query}&time={time}{}", subject.no_cache);
    let json = peer.client().get(&target).expect("an answer").json().expect("JSON");
    let count = json["data"]["result"][0]["value"][1].as_str().and_then(|c| c.parse::<u64>().ok());
    load.last_alive.saturating_sub(count.unwrap_or(0))
}

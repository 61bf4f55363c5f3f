//! Bytes on disk, anonymous memory, and restarts after `kill -9`, over two fleets made of captures: what the promises about
//! them are, and what each subject needs.

mod readback;
mod throughput;

use crate::fleet;
use crate::subject::{Subject, Written};
use crate::suite::Scale;
use crate::suite::feed::{Fleet, INTERVAL_MS, Loaded};
use kymo_storage::Storage;
use kymo_storage::options::Options;
use kymo_tests::http::escape;
use kymo_tests::peers::Peer;
use kymo_tests::process::{Usage, directory_bytes};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two looks at the memory of a subject.
const LOOK: Duration = Duration::from_millis(50);
/// How long a subject rests after the load, before its memory counts: garbage collectors may do their work.
const REST: Duration = Duration::from_secs(5);

/// What one subject needed for one fleet.
struct Measured {
    subject: &'static str,
    loaded: Loaded,
    /// CPU of the server for the load.
    cpu: Duration,
    /// The most anonymous memory while it was loaded.
    anonymous_peak: u64,
    /// And after a rest.
    anonymous_rest: u64,
    /// From the start after `kill -9` to the first answer.
    restart: Duration,
    /// Acknowledged samples that are not there after it.
    missing: i64,
    written: Written,
}

/// Runs the fleets named (all if none is) and prints what it finds.
pub(crate) fn run(subjects: &[Subject], dir: &Path, scale: Scale, only: &str) {
    for (word, name, instances, scrapes) in
        [("wide", "100,000 series x 1 h", 56, 240), ("long", "30,000 series x 5 h", 17, 1200)]
    {
        if !only.is_empty() && only != word {
            continue;
        }
        let (instances, scrapes) = (scale.of(instances, 4), scale.of(scrapes, 60));
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64;
        let length = (scrapes as i64 + 4) * INTERVAL_MS;
        let start_ms = (now - length) / 60_000 * 60_000;
        let kinds = fleet::kinds(scrapes + 1).0;
        let fleet = Fleet { name, instances, scrapes, scrapes_a_request: 1, start_ms, kinds };
        println!(
            "\nfleet {word}: {name}, {instances} instances, {scrapes} scrapes every {} s",
            INTERVAL_MS / 1000
        );
        let measured: Vec<Measured> = subjects.iter().map(|subject| measure(subject, &fleet, dir)).collect();
        print(&measured);
        if subjects.iter().any(|s| s.name == "kymo") {
            throughput::print(&fleet, &dir.join("disk-merges"));
        }
    }
}

fn measure(subject: &Subject, fleet: &Fleet, dir: &Path) -> Measured {
    let dir = dir.join(format!("disk-{}", subject.name));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("create a folder for the data");
    let mut peer = subject.start(&dir);
    let (loaded, anonymous_peak) = watched(&peer, || fleet.send(subject, &peer));
    let cpu = peer.process.usage().cpu;
    std::thread::sleep(REST);
    let anonymous_rest = peer.process.usage().anonymous_bytes;
    peer.process.kill();
    let begin = Instant::now();
    peer = subject.start(&dir);
    number(subject, &peer, fleet, "count({instance=\"10.1.0.0:9256\"})");
    let restart = begin.elapsed();
    let missing = (loaded.samples - loaded.stale) as i64 - count_samples(subject, &peer, fleet) as i64;
    let written = written(subject, peer, fleet, &dir);
    println!(
        "  {}: {} series, {:.1} M samples in {:.0} s",
        subject.name,
        loaded.series,
        loaded.samples as f64 / 1e6,
        loaded.wall.as_secs_f64()
    );
    let _ = std::fs::remove_dir_all(&dir);
    Measured { subject: subject.name, loaded, cpu, anonymous_peak, anonymous_rest, restart, missing, written }
}

/// Does something and says how much anonymous memory the peer had at most meanwhile.
fn watched<T>(peer: &Peer, work: impl FnOnce() -> T) -> (T, u64) {
    let (id, done, most) = (peer.process.id(), AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(Usage::of(id).anonymous_bytes, Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, most.load(Ordering::Relaxed))
    })
}

/// Asks until there is an answer, and gives `data`.
fn get(peer: &Peer, target: &str) -> serde_json::Value {
    let mut client = peer.client().with_timeout(Duration::from_secs(300));
    loop {
        let answer = client.get(target).expect("an answer");
        if answer.status == 503 {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        let mut json = answer.json().expect("JSON");
        assert_eq!(json["status"], "success", "{target}: {json}");
        return json["data"].take();
    }
}

/// The only number that a query answers.
fn number(subject: &Subject, peer: &Peer, fleet: &Fleet, query: &str) -> u64 {
    let end = fleet.end_ms() / 1000 + 60;
    let target = format!("/api/v1/query?query={}&time={end}{}", escape(query), subject.no_cache);
    // No series, no number: whoever lost all of them has none.
    let value = get(peer, &target).pointer("/result/0/value/1").cloned().unwrap_or_default();
    value.as_str().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// How many samples there are, staleness markers apart. Each metric is asked for by itself, because its name is lost in the count.
fn count_samples(subject: &Subject, peer: &Peer, fleet: &Fleet) -> u64 {
    let (start, end) = (fleet.start_ms / 1000 - 60, fleet.end_ms() / 1000 + 60);
    let names = get(peer, &format!("/api/v1/label/__name__/values?start={start}&end={end}"));
    let names = names.as_array().cloned().unwrap_or_default();
    let count = |name: &serde_json::Value| {
        let name = name.as_str().unwrap_or_default();
        let query = format!("sum(count_over_time({name}{{cluster=\"eu-west-1\"}}[{}s]))", end - start);
        number(subject, peer, fleet, &query)
    };
    names.iter().map(count).sum()
}

/// Ends the subject with all it has in the form that stays, blocks merged. That of Kymo is read back.
fn written(subject: &Subject, mut peer: Peer, fleet: &Fleet, dir: &Path) -> Written {
    if subject.name != "kymo" {
        return subject.written_bytes(&mut peer, dir);
    }
    assert!(peer.process.terminate(Duration::from_secs(120)).is_some(), "kymo does not stop");
    let data = dir.join("kymo");
    let options =
        Options { retention: None, compaction_percent: 0, scrub_bytes_per_second: 0, ..Options::default() };
    let store = Storage::open(&data, options).expect("open the store");
    store.flush().expect("flush");
    store.compact_all().expect("merge all blocks");
    let final_bytes = directory_bytes(&data.join("blocks")).0;
    let read = readback::check(&store, fleet);
    println!("  kymo: {read} samples read back, all with the bits that were sent");
    store.close().expect("close the store");
    Written { cpu: Duration::ZERO, final_bytes, directory_bytes: directory_bytes(&data).0 }
}

fn print(measured: &[Measured]) {
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let per_sample = |m: &Measured| m.written.final_bytes as f64 / m.loaded.samples as f64;
    println!();
    println!("| | {} |", measured.iter().map(|m| m.subject).collect::<Vec<_>>().join(" | "));
    println!("|---|{}", "---:|".repeat(measured.len()));
    let row = |name: &str, show: &dyn Fn(&Measured) -> String| {
        println!("| {name} | {} |", measured.iter().map(show).collect::<Vec<_>>().join(" | "));
    };
    row("bytes a sample, blocks merged, index included", &|m| format!("{:.4}", per_sample(m)));
    row("bytes of all files then", &|m| m.written.directory_bytes.to_string());
    row("anonymous memory after the load, MiB", &|m| mib(m.anonymous_rest));
    row("anonymous memory at most, MiB", &|m| mib(m.anonymous_peak));
    row("bytes of anonymous memory a series", &|m| {
        format!("{:.0}", m.anonymous_rest as f64 / m.loaded.series as f64)
    });
    row("`kill -9` to the first answer, ms", &|m| format!("{:.0}", m.restart.as_secs_f64() * 1000.0));
    row("acknowledged samples missing then", &|m| m.missing.to_string());
    row("CPU s a million samples, load", &|m| {
        format!("{:.3}", m.cpu.as_secs_f64() / m.loaded.samples as f64 * 1e6)
    });
    println!();
    let Some(kymo) = measured.iter().find(|m| m.subject == "kymo") else { return };
    assert_eq!(kymo.missing, 0, "acknowledged samples are missing");
    for peer in measured.iter().filter(|m| m.subject != "kymo") {
        let is_prometheus = peer.subject == "prometheus";
        let say = |what: &str, ratio: f64, promised: f64| {
            let verdict = if ratio <= promised { "holds" } else { "MISSED" };
            println!("kymo / {}: {what} {ratio:.3}, promised at most {promised:.3}: {verdict}", peer.subject);
        };
        say("bytes a sample", per_sample(kymo) / per_sample(peer), if is_prometheus { 0.25 } else { 0.6 });
        let anonymous = |of: fn(&Measured) -> u64| of(kymo) as f64 / of(peer) as f64;
        say("anonymous memory after the load", anonymous(|m| m.anonymous_rest), 1.0 / 3.0);
        say("anonymous memory at most", anonymous(|m| m.anonymous_peak), 1.0 / 3.0);
        if is_prometheus {
            say(
                "time to the first answer after kill -9",
                kymo.restart.as_secs_f64() / peer.restart.as_secs_f64(),
                0.2,
            );
        }
    }
}

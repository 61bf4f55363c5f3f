//! Queries of many kinds over two fleets, one wide and one long, asked of each subject by the same client.

mod answers;
mod cases;
pub(crate) mod feed;
mod memory;
mod table;

use crate::fleet;
use crate::subject::Subject;
use answers::Answer;
use cases::{Ask, CASES, Case, On};
use feed::{Fleet, INTERVAL_MS};
use kymo_tests::http::{Client, escape};
use kymo_tests::peers::Peer;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A warm query is asked until this much time is spent on it.
const SPENT_MAX: Duration = Duration::from_millis(1200);
/// And at least and at most so often.
const RUNS: std::ops::RangeInclusive<usize> = 2..=15;

/// What one subject needed for one case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timed {
    /// The median of the warm runs; `None` if it failed.
    pub(crate) time: Option<Duration>,
    /// What it answered.
    pub(crate) answer: Answer,
}

/// How large the fleets are; 1 is what the table in the README shows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale(pub(crate) f64);

impl Scale {
    /// So many of `full`, but no fewer than `least`.
    pub(crate) fn of(self, full: usize, least: usize) -> usize {
        ((full as f64 * self.0).round() as usize).max(least)
    }
}

/// What becomes of the stores the subjects fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stores {
    /// They are removed when all is asked.
    Fresh,
    /// They are left where they are.
    Keep,
    /// Those that were left are asked once more.
    Again,
}

/// Where the beginning of a fleet is noted, for who asks its stores again.
fn start_file(dir: &Path, word: &str) -> PathBuf {
    dir.join(format!("{word}.start"))
}

fn fleet(on: On, scale: Scale, start_before: Option<i64>) -> Fleet {
    let (name, instances, scrapes, scrapes_a_request) = match on {
        On::Wide => ("100,000 series x 1 h", scale.of(56, 4), 240, 1),
        On::Long => ("15,000 series x 24 h", scale.of(9, 4), scale.of(5760, 240), 40),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_millis() as i64;
    let length = (scrapes as i64 + 4) * INTERVAL_MS;
    let start_ms = start_before.unwrap_or((now - length) / 60_000 * 60_000);
    Fleet { name, instances, scrapes, scrapes_a_request, start_ms, kinds: fleet::kinds(scrapes + 1).0 }
}

/// Runs the suite over the fleets named (all if none is) and prints what it finds.
pub(crate) fn run(subjects: &[Subject], dir: &Path, scale: Scale, only: &str, stores: Stores) {
    let mut timed: Vec<Vec<Timed>> = CASES.iter().map(|_| vec![Timed::default(); subjects.len()]).collect();
    for (on, word) in [(On::Wide, "wide"), (On::Long, "long")] {
        if !only.is_empty() && only != word {
            continue;
        }
        let noted = std::fs::read_to_string(start_file(dir, word)).ok().and_then(|text| text.parse().ok());
        let fleet = fleet(on, scale, noted.filter(|_| stores == Stores::Again));
        println!("\nfleet {word}: {}, {} instances, {} scrapes", fleet.name, fleet.instances, fleet.scrapes);
        for (number, subject) in subjects.iter().enumerate() {
            let folder = dir.join(format!("{word}-{}", subject.name));
            let peer = match stores {
                Stores::Again => subject.start(&folder),
                Stores::Fresh | Stores::Keep => load(subject, &fleet, &folder),
            };
            for (case, row) in CASES.iter().zip(&mut timed).filter(|c| c.0.on == on) {
                row[number] = ask(subject, &mut peer.client(), &fleet, case);
            }
            if subject.name == "kymo" && on == On::Long {
                memory::print(subject, peer, &folder, &fleet);
            } else {
                drop(peer);
            }
            if stores == Stores::Fresh {
                let _ = std::fs::remove_dir_all(&folder);
            }
        }
        if stores == Stores::Keep {
            std::fs::write(start_file(dir, word), fleet.start_ms.to_string()).expect("note the start");
        }
    }
    table::print(subjects, &timed);
}

/// Starts a subject on an empty folder and sends it all of the fleet.
fn load(subject: &Subject, fleet: &Fleet, folder: &Path) -> Peer {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder).expect("create a folder for the data");
    let peer = subject.start(folder);
    let loaded = fleet.send(subject, &peer);
    let settled = settle(subject, &peer);
    println!(
        "  {}: {} series, {:.1} M samples in {:.0} s, settled after {:.0} s",
        subject.name,
        loaded.series,
        loaded.samples as f64 / 1e6,
        loaded.wall.as_secs_f64(),
        settled.as_secs_f64()
    );
    peer
}

/// Waits until the subject has written down what it wants to and does nothing any more.
fn settle(subject: &Subject, peer: &Peer) -> Duration {
    let begin = Instant::now();
    subject.flush(peer);
    let mut quiet = 0;
    let mut before = peer.process.usage().cpu;
    while quiet < 3 && begin.elapsed() < Duration::from_secs(90) {
        std::thread::sleep(Duration::from_millis(700));
        let now = peer.process.usage().cpu;
        quiet = if now.saturating_sub(before) <= Duration::from_millis(60) { quiet + 1 } else { 0 };
        before = now;
    }
    begin.elapsed()
}

/// Path and parameters of a case.
fn target(subject: &Subject, fleet: &Fleet, case: &Case) -> String {
    let (start, end) = (fleet.start_ms / 1000, fleet.end_ms() / 1000);
    let no_cache = subject.no_cache;
    match case.ask {
        Ask::Instant(query) => format!("/api/v1/query?query={}&time={end}{no_cache}", escape(query)),
        Ask::Range(query, steps) => {
            let step = ((end - start) / steps).max(1);
            let query = escape(query);
            format!("/api/v1/query_range?query={query}&start={start}&end={end}&step={step}{no_cache}")
        }
        Ask::Labels(path, selector) => {
            let selector =
                if selector.is_empty() { String::new() } else { format!("&match[]={}", escape(selector)) };
            format!("/api/v1/{path}?start={start}&end={end}{selector}")
        }
    }
}

fn ask(subject: &Subject, client: &mut Client, fleet: &Fleet, case: &Case) -> Timed {
    let target = target(subject, fleet, case);
    // The first run warms caches, and its answer is the one that is compared.
    let answer = match client.get(&target).map_err(|e| e.to_string()).and_then(|r| Answer::read(&r.body)) {
        Ok(answer) => answer,
        Err(error) => {
            println!("    {} fails {}: {error}", subject.name, case.text());
            return Timed::default();
        }
    };
    let mut times = Vec::new();
    let mut spent = Duration::ZERO;
    while times.len() < *RUNS.start() || (spent < SPENT_MAX && times.len() < *RUNS.end()) {
        let begin = Instant::now();
        let answer = client.get(&target).expect("an answer");
        let time = begin.elapsed();
        assert_eq!(answer.status, 200, "{target}");
        spent += time;
        times.push(time);
    }
    times.sort();
    Timed { time: times.get(times.len() / 2).copied(), answer }
}

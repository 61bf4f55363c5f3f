//! A server that is killed, or worse, at random instants under load, judged by an outside oracle: what was acknowledged is
//! there, what was refused is not, what is unknown is there whole or not at all.

use crate::http::Client;
use crate::oracle::{self, Oracle, Outcome};
use crate::remote_write::{Request, label_bytes, send};
use crate::rng::{Rng, mix};
use crate::server::Server;
use serde_json::Value as Json;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Clients that write at the same time, each to series of its own.
const CLIENTS: u64 = 4;
/// Series of each client; each request has one sample for each of them.
const SERIES: u64 = 20;
/// Between the samples of two requests of one client.
const STEP_MS: i64 = 20;
/// The value of the samples that must be refused. No other sample has it.
const REFUSED_VALUE: f64 = -1.0;

/// Between two orders to flush and merge.
const UPKEEP_PAUSE: Duration = Duration::from_millis(100);
/// After so many trials the next ones begin with an empty store: what is read back at the end of each grows.
const TRIALS_OF_A_STORE: usize = 50;

/// How long a client waits after a 503.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// What the trials showed.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Kills.
    pub trials: usize,
    /// Requests that were answered 2xx.
    pub acked: u64,
    /// Requests of which a part was refused.
    pub refused: u64,
    /// Requests without an answer.
    pub unknown: u64,
    /// Requests that were answered when the disk had no power any more: what became of them is open.
    pub late: u64,
    /// Of those the ones that are not there.
    pub late_gone: u64,
    /// Samples that were acknowledged and are not there, or have another value.
    pub lost: u64,
    /// Samples that were refused and are there.
    pub refused_present: u64,
    /// Requests without an answer of which only a part is there.
    pub torn: u64,
    /// Samples that are there although nobody sent them.
    pub invented: u64,
    /// Start to ready, each trial, in milliseconds.
    pub reopen_ms: Vec<u64>,
    /// Orders to write the head into blocks that were carried out.
    pub flushes: u64,
    /// Orders to merge and rewrite blocks that were carried out.
    pub merges: u64,
    /// What is lost, request by request.
    pub notes: Vec<String>,
}

impl Summary {
    /// Whether every promise was kept.
    pub fn kept(&self) -> bool {
        self.lost + self.refused_present + self.torn + self.invented == 0
    }

    /// Adds what trials on another store showed.
    pub fn add(&mut self, other: &Self) {
        self.trials += other.trials;
        self.acked += other.acked;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.late += other.late;
        self.late_gone += other.late_gone;
        self.lost += other.lost;
        self.refused_present += other.refused_present;
        self.torn += other.torn;
        self.invented += other.invented;
        self.reopen_ms.extend(&other.reopen_ms);
        self.flushes += other.flushes;
        self.merges += other.merges;
        self.notes.extend_from_slice(&other.notes);
    }

    /// The time to become ready that 99 of 100 trials kept, in milliseconds.
    pub fn reopen_p99_ms(&self) -> u64 {
        let mut reopen = self.reopen_ms.clone();
        reopen.sort_unstable();
        reopen.get((reopen.len() * 99 / 100).min(reopen.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trials,
            acked,
            refused,
            unknown,
            late,
            late_gone,
            lost,
            refused_present,
            torn,
            invented,
            flushes,
            merges,
            ..
        } = self;
        write!(
            f,
            "trials={trials} acked={acked} refused={refused} unknown={unknown} lost={lost} refused_present={refused_present} \
             torn={torn} invented={invented} flushes={flushes} merges={merges} reopen_p99_ms={}",
            self.reopen_p99_ms()
        )?;
        if *late > 0 { write!(f, " answered_after_the_cut={late} of_them_gone={late_gone}") } else { Ok(()) }
    }
}

/// What the requests of a run are made of.
#[derive(Debug, Clone, Copy)]
struct Plan {
    seed: u64,
    base_ms: i64,
}

/// The samples of one request.
struct Contents {
    /// By series; the timestamp is the same for all.
    good: Vec<(u64, i64, f64)>,
    /// Whether series 0 comes with a second value for the time of the request before.
    conflict: bool,
}

impl Plan {
    fn contents(self, client: u64, request: u64) -> Contents {
        let conflict = request % 8 == 7;
        // Some requests bring late data: it takes another way through the store.
        let late = request % 8 == 3;
        let distance = request as i64 * STEP_MS;
        let timestamp = if late { self.base_ms - distance } else { self.base_ms + distance };
        let value = |series| (mix(&[self.seed, client, series, request]) >> 12) as f64;
        let first = u64::from(conflict);
        Contents { good: (first..SERIES).map(|s| (s, timestamp, value(s))).collect(), conflict }
    }

    fn body(self, client: u64, request: u64) -> Vec<u8> {
        let contents = self.contents(client, request);
        let mut body = Request::new();
        if contents.conflict {
            let before = self.base_ms + (request as i64 - 1) * STEP_MS;
            body.push(&series_labels(client, 0), &[(before, REFUSED_VALUE)]);
        }
        for (series, timestamp, value) in contents.good {
            body.push(&series_labels(client, series), &[(timestamp, value)]);
        }
        body.compress()
    }
}

fn series_labels(client: u64, series: u64) -> Vec<u8> {
    let (client, series) = (client.to_string(), series.to_string());
    label_bytes(&[("__name__", "kill_nine"), ("client", &client), ("series", &series)])
}

/// Carries out `trials` kills of `program`, one after the other, each `TRIALS_OF_A_STORE` on one data directory below `dir`, and
/// judges all that was ever written to it after each.
///
/// # Panics
/// The server does not start again, or answers what is no answer.
pub fn run(program: &Path, dir: &Path, arguments: &[&str], trials: usize, seed: u64) -> Summary {
    let mut summary = Summary::default();
    while summary.trials < trials && summary.kept() {
        let store = dir.join(format!("store-{}", summary.trials));
        std::fs::create_dir_all(&store).expect("a directory");
        let seed = mix(&[seed, summary.trials as u64]);
        let mut trial = Trials::start(program, &store.join("data"), &store, arguments, seed);
        let count = TRIALS_OF_A_STORE.min(trials - summary.trials);
        while trial.summary.trials < count && trial.summary.kept() {
            let pause = Duration::from_millis(10 + trial.rng.below(350));
            trial.one(|server| {
                std::thread::sleep(pause);
                server.kill();
                None
            });
        }
        summary.add(&trial.summary);
        drop(trial);
        if summary.kept() {
            let _ = std::fs::remove_dir_all(&store);
        }
    }
    summary
}

/// A server, its clients, and what they know.
#[derive(Debug)]
pub struct Trials {
    plan: Plan,
    server: Server,
    oracles: Vec<PathBuf>,
    next: Vec<u64>,
    /// What the trials so far showed.
    pub summary: Summary,
    /// Where chance comes from.
    pub rng: Rng,
}

impl Trials {
    /// Starts `program` on the data directory `data`; what the clients know, and what the server prints, is kept in `dir`.
    ///
    /// # Panics
    /// The server does not start.
    pub fn start(program: &Path, data: &Path, dir: &Path, arguments: &[&str], seed: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let arguments = [arguments, &["--web-enable-admin-api"]].concat();
        Self {
            // Far enough back that a long run does not reach the future, near enough that retention keeps it.
            plan: Plan { seed, base_ms: now.as_millis() as i64 - 24 * 3_600_000 },
            server: Server::start_with_log(program, data, &dir.join("server.log"), &arguments),
            oracles: (0..CLIENTS).map(|c| dir.join(format!("oracle.{c}"))).collect(),
            next: vec![0; CLIENTS as usize],
            summary: Summary::default(),
            rng: Rng::new(seed),
        }
    }

    /// Lets the clients write and read until `end` has ended the server, in whatever way; starts it again and judges. If the power was
    /// cut before the server ended, `end` answers when.
    ///
    /// # Panics
    /// The server does not start again, or answers what is no answer.
    pub fn one(&mut self, end: impl FnOnce(&mut Server) -> Option<SystemTime>) {
        let (next, cut) = self.write_until_ended(end);
        let ended = cut.unwrap_or_else(SystemTime::now);
        self.next = next;
        let late = cut.map_or_else(BTreeSet::new, |cut| {
            oracle::take_back(&self.oracles, cut).expect("write the oracle's files")
        });
        // The snapshots were made for the sake of the flushes.
        let _ = std::fs::remove_dir_all(self.server.data().join("snapshots"));
        let start = Instant::now();
        self.server.restart();
        self.summary.reopen_ms.push(start.elapsed().as_millis() as u64);
        self.summary.trials += 1;
        self.summary.late += late.len() as u64;
        let mut http = self.server.client();
        let hit = judge(self.plan, &mut http, &self.oracles, (&self.next, &late), &mut self.summary);
        for (id, lost) in hit {
            let before = oracle::answered_before(&self.oracles, id, ended).expect("read the oracle's files");
            self.summary.notes.push(format!(
                "trial {}: {lost} samples of request {} of client {} are lost, answered {before:?} before the end",
                self.summary.trials,
                id & 0xffff_ffff,
                id >> 32
            ));
        }
    }

    /// Gives the first unused request number of each client, and what `end` answers.
    fn write_until_ended<T>(&mut self, end: impl FnOnce(&mut Server) -> T) -> (Vec<u64>, T) {
        let stop = AtomicBool::new(false);
        let address = self.server.address();
        let (plan, oracles, next) = (self.plan, &self.oracles, &self.next);
        std::thread::scope(|scope| {
            let write = |client: usize| {
                let (stop, first, path) = (&stop, next[client], oracles[client].clone());
                move || write_until(plan, client as u64, first, Client::new(address), &path, stop)
            };
            let writers: Vec<_> = (0..oracles.len()).map(|client| scope.spawn(write(client))).collect();
            let reader = scope.spawn(|| read_until(Client::new(address), &stop));
            let upkeep = scope.spawn(|| keep_up_until(Client::new(address), &stop));
            let ended = end(&mut self.server);
            stop.store(true, Ordering::Relaxed);
            reader.join().expect("the reader ends");
            let (flushes, merges) = upkeep.join().expect("the upkeep ends");
            self.summary.flushes += flushes;
            self.summary.merges += merges;
            (writers.into_iter().map(|w| w.join().expect("a writer ends")).collect(), ended)
        })
    }
}

fn write_until(
    plan: Plan,
    client: u64,
    first: u64,
    mut http: Client,
    oracle: &Path,
    stop: &AtomicBool,
) -> u64 {
    let mut oracle = Oracle::open(oracle).expect("open the oracle's file");
    let mut request = first;
    while !stop.load(Ordering::Relaxed) {
        // A conflict needs the request before it to be stored for sure.
        if request == first && plan.contents(client, request).conflict {
            request += 1;
        }
        let id = (client << 32) | request;
        oracle.sent(id).expect("write the oracle's file");
        let body = plan.body(client, request);
        request += 1;
        match send(&mut http, &body) {
            Ok(answer) if answer.status < 300 || answer.status == 400 => {
                oracle.answered(id, answer.status < 300).expect("write the oracle's file");
            }
            Ok(answer) => {
                // 503 is a refusal for now; 500 says that the disk failed, and what became of the request is open.
                assert!([500, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
                std::thread::sleep(REFUSED_PAUSE);
            }
            Err(_) => break,
        }
    }
    request
}

/// Queries along, so that reads and their locks are part of what is killed.
fn read_until(mut http: Client, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        if http.get("/api/v1/query?query=count(rate(kill_nine%5B1m%5D))").is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Has the head written into blocks, deletes, and has the blocks merged, again and again, so that a kill meets all of that. Answers
/// how often a snapshot (which flushes) and a merge were carried out.
fn keep_up_until(mut http: Client, stop: &AtomicBool) -> (u64, u64) {
    let (mut flushes, mut merges) = (0, 0);
    let doomed = "/api/v1/admin/tsdb/delete_series?match%5B%5D=kill_nine_doomed";
    while !stop.load(Ordering::Relaxed) {
        let mut write = Request::new();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        write.push(&label_bytes(&[("__name__", "kill_nine_doomed")]), &[(now.as_millis() as i64, 1.0)]);
        let mut order = |target| http.request("POST", target, &[], &[]).map(|a| u64::from(a.status < 300));
        let Ok(flushed) = order("/api/v1/admin/tsdb/snapshot") else { break };
        let Ok(_) = order(doomed) else { break };
        let Ok(merged) = order("/api/v1/admin/tsdb/clean_tombstones") else { break };
        flushes += flushed;
        merges += merged;
        if send(&mut http, &write.compress()).is_err() {
            break;
        }
        std::thread::sleep(UPKEEP_PAUSE);
    }
    (flushes, merges)
}

/// Answers the requests of which something is lost, and how much.
fn judge(
    plan: Plan,
    http: &mut Client,
    oracles: &[PathBuf],
    (next, late): (&[u64], &BTreeSet<u64>),
    summary: &mut Summary,
) -> Vec<(u64, usize)> {
    let outcomes = oracle::read(oracles).expect("read the oracle's files");
    let mut hit = Vec::new();
    let count = |wanted| outcomes.values().filter(|o| **o == wanted).count() as u64;
    summary.acked = count(Outcome::Acked);
    summary.refused = count(Outcome::Refused);
    summary.unknown = count(Outcome::Unknown);
    for client in 0..oracles.len() as u64 {
        let mut stored = read_back(plan, http, client, next[client as usize]);
        summary.refused_present += stored.values().filter(|v| **v == REFUSED_VALUE).count() as u64;
        for (id, outcome) in outcomes.range(client << 32..(client + 1) << 32) {
            let good = plan.contents(client, id & 0xffff_ffff).good;
            let total = good.len();
            let present = good
                .into_iter()
                .filter(|(s, t, v)| stored.remove(&(*s, *t)).is_some_and(|got| got.to_bits() == v.to_bits()))
                .count();
            summary.late_gone += u64::from(present == 0 && late.contains(id));
            match outcome {
                Outcome::Unknown if present == 0 || present == total => {}
                Outcome::Unknown => summary.torn += 1,
                Outcome::Acked | Outcome::Refused => {
                    summary.lost += (total - present) as u64;
                    hit.extend((present < total).then_some((*id, total - present)));
                }
            }
        }
        summary.invented += stored.len() as u64;
    }
    hit
}

/// All stored samples of a client.
fn read_back(plan: Plan, http: &mut Client, client: u64, requests: u64) -> HashMap<(u64, i64), f64> {
    let reach_ms = (requests as i64 + 1) * STEP_MS;
    let query = format!("kill_nine{{client=\"{client}\"}}[{}ms]", 2 * reach_ms);
    let time = format!("{:.3}", (plan.base_ms + reach_ms) as f64 / 1000.0);
    let answer = http.post_form("/api/v1/query", &[("query", &query), ("time", &time)]).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let json = answer.json().expect("JSON");
    let mut stored = HashMap::new();
    for series in json["data"]["result"].as_array().expect("a matrix") {
        let number = series["metric"]["series"].as_str().and_then(|s| s.parse().ok()).expect("a series");
        for point in series["values"].as_array().expect("values") {
            let (time, value) = read_point(point);
            assert!(stored.insert((number, time), value).is_none(), "two samples at {time} of {number}");
        }
    }
    stored
}

fn read_point(point: &Json) -> (i64, f64) {
    let time = (point[0].as_f64().expect("a time") * 1000.0).round() as i64;
    (time, point[1].as_str().and_then(|v| v.parse().ok()).expect("a value"))
}

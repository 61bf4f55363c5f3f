//! A scripted run that is killed at every system call that changes files, judged after each.

use crate::change_calls::{ChangeCalls, Place};
use crate::http::Client;
use crate::server::{Launch, Product, Server};
use crate::steady::{Sent, Steady, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(60);
/// How long a start below `strace` may take on a machine that does other things, too.
const START_LIMIT: Duration = Duration::from_secs(180);
/// The windows of the two loads are so far apart: the blocks of the first are merged.
const EARLIER_MS: i64 = 20 * 3_600_000;
/// Runs that say which places there are: what is not in all of them depends on how threads meet.
const LISTINGS: usize = 3;
/// How often a place is tried before it counts as not reached.
const TRIES: usize = 3;
/// Runs at a time: each waits for the disk for most of its time.
const WORKERS: usize = 3;

/// What the runs came to.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    /// Calls by `strace` and by the library that kills; the same, or there are calls that cannot be killed at.
    pub seen: (u64, u64),
    /// Places that are in all listings.
    pub places: u64,
    /// Of them, those that were to be killed at.
    pub chosen: u64,
    /// Of those, the ones that were.
    pub killed: u64,
    /// Places that are in some listings only, and how many of them were killed at.
    pub varying: (u64, u64),
    /// Runs.
    pub runs: u64,
    /// What was there and was not, over all runs.
    pub verdict: Verdict,
    /// Runs after which a delete that was acknowledged was not in force.
    pub undeleted: u64,
    /// Runs after which something lay about that belongs to nothing.
    pub leftovers: u64,
    /// Runs after which the store was not whole.
    pub unsound: u64,
    /// The places of the listings by thread.
    pub threads: BTreeMap<String, u64>,
    /// Where something went wrong.
    pub notes: Vec<String>,
}

impl Runs {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.verdict.add(&other.verdict);
        self.undeleted += other.undeleted;
        self.leftovers += other.leftovers;
        self.unsound += other.unsound;
        self.notes.extend(other.notes);
    }
}

/// The script: what is written, and whether the delete was acknowledged.
struct Script {
    early: Steady,
    late: Steady,
    doomed: Steady,
    sent: [Vec<Sent>; 2],
    deleted: bool,
    /// It ran to its end.
    ended: bool,
}

impl Script {
    fn new(seed: u64) -> Self {
        let late = Steady::new(seed, 1, 20);
        let early = Steady { base_ms: late.base_ms - EARLIER_MS, ..late };
        let doomed = Steady { base_ms: late.base_ms - EARLIER_MS / 2, ..late };
        Self { early, late, doomed, sent: [Vec::new(), Vec::new()], deleted: false, ended: false }
    }

    /// Append, seal, flush, delete, merge, snapshot, append again. Stops where the server does.
    fn run(&mut self, http: &mut Client) {
        self.ended = self.steps(http).is_some();
    }

    fn steps(&mut self, http: &mut Client) -> Option<()> {
        self.write(http, 0, 0..3)?;
        self.doomed.send_one(http, 0, 0).status?;
        order(http, "/api/v1/admin/tsdb/snapshot", &[])?;
        self.write(http, 0, 3..6)?;
        order(http, "/api/v1/admin/tsdb/snapshot", &[])?;
        self.write(http, 1, 0..3)?;
        order(http, "/api/v1/admin/tsdb/snapshot", &[])?;
        let time = |ms: i64| format!("{:.3}", ms as f64 / 1000.0);
        let (start, end) = (time(self.doomed.base_ms - 1000), time(self.doomed.base_ms + 1000));
        let form = [("match[]", "steady"), ("start", &*start), ("end", &*end)];
        self.deleted = order(http, "/api/v1/admin/tsdb/delete_series", &form)? == 204;
        order(http, "/api/v1/admin/tsdb/clean_tombstones", &[])?;
        self.write(http, 1, 3..6)
    }

    fn write(&mut self, http: &mut Client, which: usize, requests: std::ops::Range<u64>) -> Option<()> {
        let load = if which == 0 { self.early } else { self.late };
        for request in requests {
            let sent = load.send_one(http, 0, request);
            self.sent[which].push(sent);
            sent.status?;
        }
        Some(())
    }
}

fn order(http: &mut Client, target: &str, form: &[(&str, &str)]) -> Option<u16> {
    http.post_form(target, form).ok().map(|answer| answer.status)
}

/// What all runs share.
struct Bench<'b> {
    program: &'b Path,
    dir: PathBuf,
    calls: ChangeCalls,
    seed: u64,
}

/// Kills a run of the script, from the start of the server to its orderly end, just before each call that changes files: each call of
/// each thread is a place. At most about `most` places, evenly chosen, with some of each thread and call among them.
///
/// # Errors
/// `strace` or a C compiler is not installed.
///
/// # Panics
/// The server does not start again, or answers what is no answer.
pub fn run(program: &Path, dir: &Path, most: usize, seed: u64) -> Result<Runs, String> {
    let dir = dir.canonicalize().map_err(|e| e.to_string())?;
    let calls = ChangeCalls::make(&dir)?;
    let bench = Bench { program, dir, calls, seed };
    let mut runs = Runs::default();
    let mut listings = vec![bench.counted_twice(&mut runs.seen)?];
    for number in 1..LISTINGS {
        listings.push(bench.listed(number)?);
    }
    let in_all = |place: &&Place| listings.iter().all(|list| list.contains(place));
    let all: BTreeSet<Place> = listings.iter().flatten().cloned().collect();
    let (stable, varying): (Vec<&Place>, Vec<&Place>) = all.iter().partition(in_all);
    for place in &all {
        *runs.threads.entry(place.thread.clone()).or_default() += 1;
    }
    let chosen = chosen(&stable, most);
    (runs.places, runs.chosen) = (stable.len() as u64, chosen.len() as u64);
    let missed = bench.kill_at_all(&chosen, &mut runs);
    runs.killed = runs.chosen - missed.len() as u64;
    runs.notes.extend(missed.iter().map(|place| format!("{place} was not reached")));
    let missed = bench.kill_at_all(&varying, &mut runs);
    runs.varying = (varying.len() as u64, (varying.len() - missed.len()) as u64);
    Ok(runs)
}

/// About `most` of the places, which are in order: every so many-th, and the first of each call of each thread.
fn chosen<'p>(places: &[&'p Place], most: usize) -> Vec<&'p Place> {
    let step = places.len().div_ceil(most.max(1)).max(1);
    let is_chosen = |(at, place): &(usize, &&Place)| at % step == 0 || place.n == 1;
    places.iter().enumerate().filter(is_chosen).map(|(_, place)| *place).collect()
}

impl Bench<'_> {
    fn launch(&self, name: &str, killed_at: Option<&Place>) -> (Launch, Launch, PathBuf, PathBuf) {
        let folder = self.dir.join(name);
        fs::create_dir_all(&folder).expect("a folder");
        let (data, list) = (folder.join("data"), folder.join("calls"));
        let launch = Launch::new(Product::Kymo, self.program, &data, &folder.join("server.log"))
            .arguments(&["--web-enable-admin-api", "--compaction-percent=0"])
            .within(START_LIMIT);
        let watched = self.calls.preload(launch.clone(), &data, &list, killed_at);
        (launch, watched, data, list)
    }

    /// The places of a run that nobody kills.
    fn listed(&self, number: usize) -> Result<Vec<Place>, String> {
        let (_, watched, data, list) = self.launch(&format!("listing-{number}"), None);
        self.to_the_end(&watched, &data)?;
        Ok(ChangeCalls::places(&list))
    }

    /// The same below `strace`; `seen` becomes how many calls it and the library saw.
    fn counted_twice(&self, seen: &mut (u64, u64)) -> Result<Vec<Place>, String> {
        let (_, watched, data, list) = self.launch("listing-0", None);
        let log = self.dir.join("strace.log");
        self.to_the_end(&watched.by(ChangeCalls::under_strace(&log)?), &data)?;
        let places = ChangeCalls::places(&list);
        *seen = (ChangeCalls::seen_by_strace(&log, &data).values().sum(), places.len() as u64);
        Ok(places)
    }

    fn to_the_end(&self, launch: &Launch, data: &Path) -> Result<(), String> {
        let mut script = Script::new(self.seed);
        let mut server = launch.try_start()?;
        script.run(&mut server.client());
        end(&mut server, data);
        if script.ended { Ok(()) } else { Err("the script does not come to its end".to_owned()) }
    }

    /// Kills at each of the places, some at a time; those that were not reached.
    fn kill_at_all<'p>(&self, places: &[&'p Place], runs: &mut Runs) -> Vec<&'p Place> {
        let next = AtomicUsize::new(0);
        let work = || {
            let (mut met, mut missed) = (Runs::default(), Vec::new());
            while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !(0..TRIES).any(|again| self.kill_at(place, again, &mut met)) {
                    missed.push(*place);
                }
            }
            (met, missed)
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
            let mut missed = Vec::new();
            for worker in workers {
                let (met, more) = worker.join().expect("a run is judged");
                runs.add(met);
                missed.extend(more);
            }
            missed
        })
    }

    /// Whether the place was reached; what was found afterwards is added to `runs`.
    fn kill_at(&self, place: &Place, again: usize, runs: &mut Runs) -> bool {
        let name = format!("{place} {again}").replace(' ', "-");
        let (launch, watched, data, list) = self.launch(&name, Some(place));
        let mut script = Script::new(self.seed);
        // A server that is killed while it starts is a place like any other.
        if let Ok(mut server) = watched.try_start() {
            script.run(&mut server.client());
            end(&mut server, &data);
        }
        let is_reached = ChangeCalls::places(&list).last() == Some(place);
        runs.runs += 1;
        let notes = runs.notes.len();
        self.judge(&launch, (&script, &data), place, runs);
        if runs.notes.len() == notes {
            let _ = fs::remove_dir_all(self.dir.join(name));
        }
        is_reached
    }

    fn judge(&self, launch: &Launch, (script, data): (&Script, &Path), place: &Place, runs: &mut Runs) {
        let mut server = launch.start();
        let mut http = server.client();
        let mut verdict = script.early.judge(&mut http, &script.sent[0]);
        verdict.add(&script.late.judge(&mut http, &script.sent[1]));
        let mut note = |what: String| runs.notes.push(format!("{place}: {what}"));
        if verdict.lost + verdict.wrong + verdict.refused_present > 0 {
            note(verdict.to_string());
        }
        runs.verdict.add(&verdict);
        if script.deleted && is_there(&mut http, &script.doomed) {
            runs.undeleted += 1;
            note("what was deleted is back".to_owned());
        }
        // One cycle of everything, after which nothing may lie about.
        for target in ["/api/v1/admin/tsdb/snapshot", "/api/v1/admin/tsdb/clean_tombstones"] {
            let status = order(&mut http, target, &[]);
            if status.is_none_or(|s| s >= 300) {
                note(format!("{target} answered {status:?}"));
                runs.unsound += 1;
            }
        }
        let lie_about = leftovers(data, metric(&mut http, "kymo_storage_blocks"));
        if !lie_about.is_empty() {
            runs.leftovers += 1;
            note(format!("{lie_about:?} lie about"));
        }
        server.kill();
        let mut verify = Command::new(self.program);
        verify.args(["tsdb", "verify"]).arg(format!("--data={}", data.display()));
        let output = verify.output().expect("the program can be started");
        if !output.status.success() {
            runs.unsound += 1;
            note(String::from_utf8_lossy(&output.stderr).trim().to_owned());
        }
    }
}

/// Asks the server to end and waits until it has. It may run below another program: its number is in its lock.
fn end(server: &mut Server, data: &Path) {
    let id = fs::read_to_string(data.join("LOCK")).unwrap_or_default();
    let deadline = Instant::now() + GONE_LIMIT;
    if server.ended().is_none() && !id.trim().is_empty() {
        let _ = Command::new("kill").args(["-TERM", id.trim()]).output();
    }
    while server.ended().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.kill();
}

fn is_there(http: &mut Client, load: &Steady) -> bool {
    let time = format!("{:.3}", load.base_ms as f64 / 1000.0);
    let form = [("query", "count(steady)"), ("time", &*time)];
    let answer = http.post_form("/api/v1/query", &form).expect("an answer");
    answer.json().expect("JSON")["data"]["result"].as_array().is_some_and(|list| !list.is_empty())
}

fn metric(http: &mut Client, name: &str) -> u64 {
    let text = http.get("/metrics").expect("an answer").text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    value.map_or(0, |v: f64| v as u64)
}

/// Temporary files anywhere, unfinished snapshots, and blocks beyond those in use.
fn leftovers(data: &Path, blocks: u64) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![data.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name.ends_with(".tmp") {
                found.push(name);
            } else if path.is_dir() {
                open.push(path);
            }
        }
    }
    let held = fs::read_dir(data.join("blocks")).into_iter().flatten().count() as u64;
    if held != blocks {
        found.push(format!("{held} files of {blocks} blocks"));
    }
    found
}

//! A scripted run that is killed at every system call that changes files, judged after each.

use crate::http::Client;
use crate::server::{Launch, Product, Server};
use crate::steady::{Sent, Steady, Verdict};
use crate::strace;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The calls by which a store changes its files.
pub const CALLS: [&str; 9] =
    ["pwrite64", "write", "fdatasync", "fsync", "rename", "unlink", "ftruncate", "linkat", "openat"];
/// How long the killed server may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(20);
/// The windows of the two loads are so far apart: the blocks of the first are merged.
const EARLIER_MS: i64 = 20 * 3_600_000;

/// What the runs came to.
#[derive(Debug, Clone, Default)]
pub struct Runs {
    /// Calls that were a place to kill at.
    pub calls: u64,
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
    /// The calls, and how often a thread made them.
    pub reached: Vec<(&'static str, u64)>,
    /// Where something went wrong.
    pub notes: Vec<String>,
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

/// Kills a run of the script at the first, second, ... of each of the [`CALLS`] until it lives to its end; at most `most` times
/// for each call, evenly chosen if it makes more.
///
/// # Errors
/// `strace` is not installed.
///
/// # Panics
/// The server does not start again, or answers what is no answer.
pub fn run(program: &Path, dir: &Path, most: u64, seed: u64) -> Result<Runs, String> {
    let mut runs = Runs::default();
    for call in CALLS {
        let (mut n, mut step, mut reached) = (1, 1, 0);
        loop {
            let place = dir.join(format!("{call}-{n}"));
            fs::create_dir_all(&place).map_err(|e| e.to_string())?;
            let ended = one(program, &place, (call, n), seed, &mut runs)?;
            runs.runs += 1;
            if runs.notes.is_empty() {
                fs::remove_dir_all(&place).map_err(|e| e.to_string())?;
            }
            if ended {
                break;
            }
            reached = n;
            runs.calls += 1;
            // Dense where starts and writes are, sparser behind.
            step = if n >= most { step * 2 } else { step };
            n += step;
        }
        runs.reached.push((call, reached));
    }
    Ok(runs)
}

/// Answers whether the script ran to its end.
fn one(
    program: &Path,
    place: &Path,
    (call, n): (&str, u64),
    seed: u64,
    runs: &mut Runs,
) -> Result<bool, String> {
    let (data, log) = (place.join("data"), place.join("server.log"));
    let launch = Launch::new(Product::Kymo, program, &data, &log)
        .arguments(&["--web-enable-admin-api", "--compaction-percent=0"]);
    let mut script = Script::new(seed);
    // A server that is killed while it starts is a place like any other.
    if let Ok(mut server) = launch.clone().by(strace::kill_at(call, n)?).try_start() {
        script.run(&mut server.client());
        end(&mut server, &data);
    }
    let mut server = launch.start();
    let mut http = server.client();
    let mut verdict = script.early.judge(&mut http, &script.sent[0]);
    verdict.add(&script.late.judge(&mut http, &script.sent[1]));
    let mut note = |what: String| runs.notes.push(format!("{call}:{n}: {what}"));
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
    let blocks = metric(&mut http, "kymo_storage_blocks");
    let lie_about = leftovers(&data, blocks);
    if !lie_about.is_empty() {
        runs.leftovers += 1;
        runs.notes.push(format!("{call}:{n}: {lie_about:?} lie about"));
    }
    server.kill();
    let mut verify = Command::new(program);
    verify.args(["tsdb", "verify"]).arg(format!("--data={}", data.display()));
    let output = verify.output().map_err(|e| e.to_string())?;
    if !output.status.success() {
        runs.unsound += 1;
        let said = String::from_utf8_lossy(&output.stderr);
        runs.notes.push(format!("{call}:{n}: {}", said.trim()));
    }
    Ok(script.ended)
}

/// The server runs below `strace`, which would let it go: its number is in its lock.
fn end(server: &mut Server, data: &Path) {
    let id = fs::read_to_string(data.join("LOCK")).unwrap_or_default();
    let deadline = Instant::now() + GONE_LIMIT;
    while server.ended().is_none() && Instant::now() < deadline {
        let _ = Command::new("kill").args(["-9", id.trim()]).output();
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

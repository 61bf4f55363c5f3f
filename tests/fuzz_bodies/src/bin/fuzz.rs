//! `cargo run -p kymo-fuzz-bodies --bin fuzz -- [--seconds N] [--keep] [TARGET ...]`: runs each target (all, if none is named) for
//! so long, one on each processor, and writes a line a target into `fuzz/ledger.txt`. Needs a nightly toolchain and cargo-fuzz.
//! `--seconds 0` runs nothing. `--keep` distils what was found into `fuzz/corpus`. An input that is a finding lands in
//! `fuzz/regressions`, where `cargo test` replays it.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program of the tests: it prints what it finds, and its clock is the real one"
)]

use kymo_fuzz_bodies::{TARGETS, Target};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes and files that are kept of a target's corpus.
const KEPT_BYTES: u64 = 40 << 10;
const KEPT_FILES: usize = 160;
/// No kept input is longer.
const KEPT_INPUT_BYTES: u64 = 4 << 10;

/// What a run came to.
#[derive(Debug, Default)]
struct Run {
    seconds: u64,
    executions: u64,
    coverage: u64,
    features: u64,
    corpus: usize,
    peak_mib: u64,
    findings: usize,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate is in tests/").to_owned()
}

/// Where inputs grow: not in the repository.
fn live(target: &Target) -> PathBuf {
    root().join("target/fuzz/live").join(target.name)
}

fn program(target: &Target) -> PathBuf {
    root().join("target/fuzz/x86_64-unknown-linux-gnu/release").join(target.name)
}

fn build() -> bool {
    let mut command = Command::new("cargo");
    command.args(["+nightly", "fuzz", "build", "-s", "none", "-O", "--debug-assertions", "--target-dir"]);
    command.arg(root().join("target/fuzz")).current_dir(root().join("fuzz"));
    // The toolchain of this program must not choose that of the fuzzers.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    command.status().is_ok_and(|status| status.success())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let mut files: Vec<PathBuf> = entries.unwrap_or_default();
    files.sort();
    files
}

/// Puts seeds and kept inputs beside what grew before.
fn prepare(target: &Target) -> std::io::Result<()> {
    let live = live(target);
    fs::create_dir_all(&live)?;
    for (number, seed) in (target.seeds)().iter().enumerate() {
        fs::write(live.join(format!("seed-{number:03}")), seed)?;
    }
    for kind in ["corpus", "regressions"] {
        for path in files(&root().join("fuzz").join(kind).join(target.name)) {
            fs::copy(&path, live.join(path.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// The number behind `name` in a line of libFuzzer.
fn number_after(line: &str, name: &str) -> Option<u64> {
    let rest = line.split_once(name)?.1.trim_start();
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn run(target: &Target, seconds: u64) -> std::io::Result<Run> {
    prepare(target)?;
    let regressions = root().join("fuzz/regressions").join(target.name);
    fs::create_dir_all(&regressions)?;
    let before = files(&regressions).len();
    let log = root().join("target/fuzz").join(format!("{}.log", target.name));
    let output = fs::File::create(&log)?;
    let status = Command::new(program(target))
        .arg(live(target))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", regressions.display()))
        // Some bodies open a whole store, with debug assertions, beside another fuzzer: what takes so long hangs.
        .args([
            "-timeout=20",
            "-rss_limit_mb=512",
            "-max_len=8192",
            "-print_final_stats=1",
            "-detect_leaks=0",
        ])
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()?;
    let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let last = |name: &str| text.lines().rev().find_map(|line| number_after(line, name)).unwrap_or(0);
    let found = files(&regressions).len() - before;
    // One that was ended, or ended itself without an input to show for it, has found something too.
    let ended_early = !status.success() || last("stat::number_of_executed_units:") == 0;
    Ok(Run {
        seconds: text
            .lines()
            .rev()
            .find_map(|l| l.split_once(" in "))
            .map_or(0, |(_, rest)| rest.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)),
        executions: last("stat::number_of_executed_units:"),
        coverage: last(" cov:"),
        features: last(" ft:"),
        corpus: files(&live(target)).len(),
        peak_mib: last("stat::peak_rss_mb:"),
        findings: found.max(usize::from(ended_early)),
    })
}

fn note(target: &Target, run: &Run) -> std::io::Result<()> {
    let day = date(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()) / 86_400);
    let mut ledger = fs::OpenOptions::new().append(true).open(root().join("fuzz/ledger.txt"))?;
    // In one write: another target may end at the same time.
    let line = format!(
        "{day} {:<10} {:>7} {:>11} {:>7} {:>8} {:>8} {:>8} {:>8}\n",
        target.name,
        run.seconds,
        run.executions,
        run.corpus,
        run.coverage,
        run.features,
        run.peak_mib,
        run.findings
    );
    ledger.write_all(line.as_bytes())
}

/// Days since 1970 as a date.
fn date(days: u64) -> String {
    let z = days + 719_468;
    let (era, day) = (z / 146_097, z % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * in_year + 2) / 153;
    let (d, m) = (in_year - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    format!("{:04}-{m:02}-{d:02}", year + era * 400 + u64::from(m <= 2))
}

/// Distils the live corpus to inputs that together reach what it reaches, the shortest first, and keeps what fits.
fn keep(target: &Target) -> std::io::Result<usize> {
    let distilled = root().join("target/fuzz/distilled").join(target.name);
    let _ = fs::remove_dir_all(&distilled);
    fs::create_dir_all(&distilled)?;
    let log = fs::File::create(root().join("target/fuzz").join(format!("{}.merge.log", target.name)))?;
    Command::new(program(target))
        .args(["-merge=1", "-timeout=20", "-rss_limit_mb=512"])
        .arg(&distilled)
        .arg(live(target))
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    let corpus = root().join("fuzz/corpus").join(target.name);
    let _ = fs::remove_dir_all(&corpus);
    fs::create_dir_all(&corpus)?;
    let mut sized: Vec<(u64, PathBuf)> =
        files(&distilled).into_iter().map(|p| (fs::metadata(&p).map_or(0, |m| m.len()), p)).collect();
    sized.sort();
    // Every so many-th, so that long inputs are among them.
    let step = sized.len().div_ceil(KEPT_FILES).max(1);
    let (mut left, mut kept) = (KEPT_BYTES, 0);
    for (bytes, path) in sized.into_iter().step_by(step).filter(|(bytes, _)| *bytes <= KEPT_INPUT_BYTES) {
        let Some(rest) = left.checked_sub(bytes) else { break };
        left = rest;
        kept += 1;
        fs::copy(&path, corpus.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(kept)
}

fn main() -> ExitCode {
    let (mut seconds, mut is_kept, mut names) = (60, false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => match arguments.next().and_then(|n| n.parse().ok()) {
                Some(n) => seconds = n,
                None => return usage(),
            },
            "--keep" => is_kept = true,
            name if TARGETS.iter().any(|target| target.name == name) => names.push(argument),
            _ => return usage(),
        }
    }
    if !build() {
        println!("the fuzzers cannot be built: they need a nightly toolchain and `cargo install cargo-fuzz`");
        return ExitCode::FAILURE;
    }
    let chosen = TARGETS.iter().filter(|t| names.is_empty() || names.iter().any(|name| name == t.name));
    let runs = run_all(&chosen.collect::<Vec<_>>(), seconds, is_kept);
    let total = |of: fn(&Run) -> u64| runs.iter().map(of).sum::<u64>();
    let findings = total(|run| run.findings as u64);
    println!(
        "fuzz targets={} execs={} seconds={} crashes={findings}",
        runs.len(),
        total(|run| run.executions),
        total(|run| run.seconds)
    );
    if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the targets, each on one processor: whoever is done takes the next.
fn run_all(targets: &[&Target], seconds: u64, is_kept: bool) -> Vec<Run> {
    let (next, runs) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            if seconds > 0 {
                let run = run(target, seconds).expect("the fuzzer runs");
                println!("  {} {run:?}", target.name);
                note(target, &run).expect("the ledger is written");
                runs.lock().expect("no run panics with it").push(run);
            }
            if is_kept {
                println!("  {} keeps {} inputs", target.name, keep(target).expect("the corpus is written"));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    runs.into_inner().expect("no run panics with it")
}

fn usage() -> ExitCode {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    println!("usage: fuzz [--seconds N] [--keep] [TARGET ...]; targets: {}", names.join(" "));
    ExitCode::FAILURE
}

//! `cargo run --release -p kymo-tests --bin reliability -- --tier nightly`: keeps the promises under attack, one line a check
//! with its figure, and a table at the end. `--only NAME` runs one check, `--skip NAME` all but one, `--list` shows them all,
//! `--peers` puts Prometheus and VictoriaMetrics under the same test where they are installed.

#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program of the tests: it prints what it finds, and its clock is the real one"
)]

mod checks;

use checks::{Check, Figures, Place, Tier};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// What the command line asks for.
#[derive(Debug)]
struct Asked {
    tier: Tier,
    only: Vec<String>,
    skip: Vec<String>,
    list: bool,
    peers: bool,
}

impl Asked {
    /// A name that is none of a check.
    fn unknown(&self) -> Option<&String> {
        self.only.iter().chain(&self.skip).find(|name| checks::all().all(|check| check.name != *name))
    }

    fn wants(&self, check: &Check) -> bool {
        let names = |list: &[String]| list.iter().any(|name| name == check.name);
        (self.only.is_empty() || names(&self.only)) && !names(&self.skip)
    }
}

const USAGE: &str =
    "usage: reliability [--tier smoke|nightly|weekly] [--only NAME]... [--skip NAME]... [--peers] [--list]";

fn asked() -> Result<Asked, String> {
    let mut asked =
        Asked { tier: Tier::Smoke, only: Vec::new(), skip: Vec::new(), list: false, peers: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value; {USAGE}"));
        match argument.as_str() {
            "--tier" => {
                asked.tier = match value()?.as_str() {
                    "smoke" => Tier::Smoke,
                    "nightly" => Tier::Nightly,
                    "weekly" => Tier::Weekly,
                    other => return Err(format!("no tier {other:?}; {USAGE}")),
                }
            }
            "--only" => asked.only.push(value()?),
            "--skip" => asked.skip.push(value()?),
            "--peers" => asked.peers = true,
            "--list" => asked.list = true,
            other => return Err(format!("{other:?} is no option; {USAGE}")),
        }
    }
    Ok(asked)
}

/// The project's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the harness is in tests/harness")
        .to_owned()
}

/// What is built is built as this program is.
pub(crate) fn profile() -> &'static [&'static str] {
    if cfg!(debug_assertions) { &[] } else { &["--release"] }
}

/// Builds the server, unless `KYMO_PROGRAM` names one; gives its path.
fn build() -> Result<PathBuf, String> {
    if let Some(other) = std::env::var_os("KYMO_PROGRAM") {
        return Ok(other.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "-p", "kymo-server"]).args(profile()).current_dir(root());
    let built = command.status().map_err(|e| format!("cargo: {e}"))?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?.with_file_name("kymo");
    if built.success() && program.exists() { Ok(program) } else { Err("the server cannot be built".into()) }
}

/// One line of the table.
struct Line {
    check: &'static Check,
    outcome: Result<Figures, String>,
    seconds: u64,
}

impl Line {
    fn is_kept(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|figures| figures.kept)
    }

    fn beside(&self) -> &[(String, String)] {
        self.outcome.as_ref().map_or(&[], |figures| &figures.beside)
    }

    fn figures(&self) -> String {
        match &self.outcome {
            Ok(figures) => figures.text.clone(),
            Err(why) => format!("not run: {}", why.replace('\n', "; ")),
        }
    }
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(message) => {
            println!("{message}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(name) = asked.unknown() {
        println!("no check is named {name:?}; --list shows them all");
        return ExitCode::FAILURE;
    }
    let chosen: Vec<&'static Check> = checks::all().filter(|check| asked.wants(check)).collect();
    if asked.list || chosen.is_empty() {
        for check in checks::all() {
            println!("{:4} {:14} {}", check.number, check.name, check.what);
        }
        return if asked.list { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let program = match build() {
        Ok(program) => program,
        Err(message) => {
            println!("{message}");
            return ExitCode::FAILURE;
        }
    };
    let seed = kymo_tests::rng::Rng::seed_from_env();
    println!("seed={seed} (repeat with KYMO_SEED={seed})");
    let mut lines = Vec::new();
    for check in chosen {
        let began = Instant::now();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (dir, tier, peers) = (dir.path(), asked.tier, asked.peers);
        // Some take minutes: who waits sees that it goes on.
        eprintln!("{:4} {} begins", check.number, check.name);
        let place = Place { program: &program, root: root(), dir, tier, seed, peers };
        let outcome = check.run(&place);
        let line = Line { check, outcome, seconds: began.elapsed().as_secs() };
        let verdict = if line.is_kept() { "pass" } else { "FAIL" };
        println!("{:4} {} {verdict} {} s={}", check.number, check.name, line.figures(), line.seconds);
        for (name, figures) in line.beside() {
            println!("{:4} {} {name}: {figures}", check.number, check.name);
        }
        lines.push(line);
    }
    let table = table(&lines);
    let path = root().join("target/reliability.md");
    println!("\n{table}");
    if let Err(error) = std::fs::write(&path, &table) {
        println!("{}: {error}", path.display());
    }
    if lines.iter().all(Line::is_kept) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The lines as Markdown.
fn table(lines: &[Line]) -> String {
    let mut out = String::from("| # | check | figures | kept | seconds |\n|---|---|---|---|---|\n");
    for line in lines {
        let kept = if line.is_kept() { "yes" } else { "**no**" };
        let (check, seconds) = (line.check, line.seconds);
        let _ =
            writeln!(out, "| {} | {} | {} | {kept} | {seconds} |", check.number, check.what, line.figures());
        for (name, figures) in line.beside() {
            let _ = writeln!(out, "| {} | {name} | {figures} | | |", check.number);
        }
    }
    out
}

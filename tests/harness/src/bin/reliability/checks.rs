//! The checks: what each does in which tier, and when its promise is kept.

use kymo_tests::hard_times::{cut_power, fill_disk};
use kymo_tests::kill_nine::{self, Summary};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Minutes.
    Smoke,
    /// A night.
    Nightly,
}

/// What a check is given.
#[derive(Debug)]
pub(crate) struct Place<'p> {
    /// The server.
    pub(crate) program: &'p Path,
    /// The project's root.
    pub(crate) root: PathBuf,
    /// An empty directory, removed afterwards.
    pub(crate) dir: &'p Path,
    /// How much to do.
    pub(crate) tier: Tier,
    /// Where chance comes from.
    pub(crate) seed: u64,
}

/// What a check found.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Names and numbers.
    pub(crate) text: String,
    /// Whether the promise is kept.
    pub(crate) kept: bool,
}

/// One check.
#[derive(Debug)]
pub(crate) struct Check {
    /// Its number in `storage/docs/reliability.md`.
    pub(crate) number: &'static str,
    /// Its name.
    pub(crate) name: &'static str,
    /// What is done, in a few words.
    pub(crate) what: &'static str,
    way: Way,
}

/// How a check is carried out.
#[derive(Debug)]
enum Way {
    /// By this program, against a server.
    Server(fn(&Place<'_>) -> Result<Figures, String>),
    /// By tests of the workspace, with the numbers of smoke and of the night in an environment variable. The figures are
    /// what a test prints behind the check's name.
    Tests { arguments: &'static [&'static str], variable: &'static str, count: (u64, u64) },
}

/// All checks, in the order in which they run.
pub(crate) const CHECKS: &[Check] = &[
    Check { number: "R1", name: "kill9", what: "`kill -9` under load", way: Way::Server(kill9) },
    Check {
        number: "R3",
        name: "states",
        what: "a crash after every operation of the file system, with each choice of what survived",
        way: Way::Tests {
            arguments: &["-p", "kymo-storage", "--test", "recovery", "every_crash"],
            variable: "KYMO_CRASH_HISTORIES",
            count: (4, 2000),
        },
    },
    Check {
        number: "R4",
        name: "powerloss",
        what: "the power of the disk is cut under load",
        way: Way::Server(powerloss),
    },
    Check {
        number: "R7",
        name: "restart",
        what: "random histories: a restart changes no answer",
        way: Way::Tests {
            arguments: &["-p", "kymo-storage", "--test", "model"],
            variable: "KYMO_MODEL_CASES",
            count: (200, 10_000),
        },
    },
    Check { number: "R10", name: "enospc", what: "the disk is full, then is not", way: Way::Server(enospc) },
];

impl Check {
    /// Carries it out.
    ///
    /// # Errors
    /// It cannot be carried out here, or a test of it failed.
    pub(crate) fn run(&self, place: &Place<'_>) -> Result<Figures, String> {
        match &self.way {
            Way::Server(run) => run(place),
            Way::Tests { arguments, variable, count } => {
                let count = match place.tier {
                    Tier::Smoke => count.0,
                    Tier::Nightly => count.1,
                };
                self.tests(place, arguments, (variable, count))
            }
        }
    }

    fn tests(
        &self,
        place: &Place<'_>,
        arguments: &[&str],
        (name, value): (&str, u64),
    ) -> Result<Figures, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["test", "--quiet"]).args(crate::profile()).args(arguments).args(["--", "--nocapture"]);
        command.env(name, value.to_string()).env("PROPTEST_RNG_SEED", place.seed.to_string());
        let output = command.current_dir(&place.root).output().map_err(|e| format!("cargo: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mark = format!("{} ", self.name);
        // The test harness writes a dot in front for a test that ended meanwhile.
        let figures = text.lines().find_map(|line| line.trim_start_matches('.').strip_prefix(&mark));
        match (output.status.success(), figures) {
            (kept, Some(figures)) => Ok(Figures { text: figures.to_owned(), kept }),
            (true, None) => Err(format!("no test printed a line that begins with {mark:?}")),
            (false, None) => {
                let tail: Vec<&str> = text.lines().rev().take(30).collect();
                Err(tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

fn judged(summary: &Summary, more: &str, kept: bool) -> Figures {
    Figures { text: format!("{summary}{more}"), kept: kept && summary.kept() && summary.acked > 0 }
}

fn kill9(place: &Place<'_>) -> Result<Figures, String> {
    let trials = if place.tier == Tier::Smoke { 20 } else { 500 };
    let summary = kill_nine::run(place.program, place.dir, &[], trials, place.seed);
    let kept = summary.trials == trials && summary.reopen_p99_ms() <= 2_000;
    Ok(judged(&summary, "", kept))
}

fn powerloss(place: &Place<'_>) -> Result<Figures, String> {
    let trials = if place.tier == Tier::Smoke { 3 } else { 100 };
    let summary = cut_power(place.program, place.dir, trials, place.seed)
        .map_err(|e| format!("no disk of our own: {e}"))?;
    Ok(judged(&summary, "", summary.trials == trials))
}

fn enospc(place: &Place<'_>) -> Result<Figures, String> {
    let full = Duration::from_secs(if place.tier == Tier::Smoke { 3 } else { 20 });
    let met = fill_disk(place.program, place.dir, full, place.seed)
        .map_err(|e| format!("no disk of our own: {e}"))?;
    let kept = met.reads.0 == met.reads.1 && met.resume_ms <= 5_000;
    let more = format!(
        " full_s={:.1} reads={} reads_answered={} resume_ms={}",
        met.full_s, met.reads.0, met.reads.1, met.resume_ms
    );
    Ok(judged(&met.summary, &more, kept))
}

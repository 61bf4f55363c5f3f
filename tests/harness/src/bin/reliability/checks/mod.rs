//! The checks, one file per group: what each does in which tier, and when its promise is kept.

mod access;
mod disk;
mod leaving;
mod life;
mod limits;
mod making;
mod measure;
mod mutants;
mod queries;
mod rot;
mod sandbox;
mod senders;
mod slow;
mod soak;
mod white_box;

use std::path::{Path, PathBuf};
use std::process::Command;

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// Minutes.
    Smoke,
    /// A night.
    Nightly,
    /// A day.
    Weekly,
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
    /// Whether the peers that are installed undergo the same test.
    pub(crate) peers: bool,
}

impl Place<'_> {
    /// The one number in smoke, the other in the night.
    pub(crate) fn count<N>(&self, smoke: N, nightly: N) -> N {
        match self.tier {
            Tier::Smoke => smoke,
            Tier::Nightly | Tier::Weekly => nightly,
        }
    }

    /// The same, with a number for what takes a day.
    pub(crate) fn count_weekly<N>(&self, smoke: N, nightly: N, weekly: N) -> N {
        match self.tier {
            Tier::Smoke => smoke,
            Tier::Nightly => nightly,
            Tier::Weekly => weekly,
        }
    }
}

/// What a check found.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Names and numbers.
    pub(crate) text: String,
    /// Whether the promise is kept.
    pub(crate) kept: bool,
    /// What others did under the same test: a name, names and numbers. They are not judged.
    pub(crate) beside: Vec<(String, String)>,
}

impl Figures {
    /// What was found, with nobody beside.
    pub(crate) fn new(text: impl Into<String>, kept: bool) -> Self {
        Self { text: text.into(), kept, beside: Vec::new() }
    }
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
    /// By tests of the workspace whose names hold `only`, with the numbers of smoke and of the night in an environment variable. The
    /// figures are what a test prints behind the check's name.
    Tests {
        arguments: &'static [&'static str],
        only: &'static str,
        variable: &'static str,
        count: (u64, u64),
    },
    /// By tests of the workspace that always do the same. The figures are all that they print behind the check's name.
    Suite(&'static [&'static str]),
}

/// All checks, group by group, in the order in which they run.
pub(crate) fn all() -> impl Iterator<Item = &'static Check> {
    GROUPS.iter().copied().flatten()
}

const GROUPS: &[&[Check]] = &[
    disk::CHECKS,
    rot::CHECKS,
    life::CHECKS,
    soak::CHECKS,
    making::CHECKS,
    mutants::CHECKS,
    queries::CHECKS,
    leaving::CHECKS,
    limits::CHECKS,
    senders::CHECKS,
    slow::CHECKS,
    access::CHECKS,
    sandbox::CHECKS,
    white_box::CHECKS,
];

/// A check whose expectations fail has failed, and the next ones run all the same.
fn run_guarded(run: fn(&Place<'_>) -> Result<Figures, String>, place: &Place<'_>) -> Result<Figures, String> {
    std::panic::catch_unwind(|| run(place)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(8)).copied().collect::<Vec<_>>();
        Ok(Figures::new(format!("ended by: {}", last.join("; ")), false))
    })
}

impl Check {
    /// Carries it out.
    ///
    /// # Errors
    /// It cannot be carried out here, or a test of it failed.
    pub(crate) fn run(&self, place: &Place<'_>) -> Result<Figures, String> {
        match &self.way {
            Way::Server(run) => run_guarded(*run, place),
            Way::Tests { arguments, only, variable, count } => {
                let arguments =
                    [*arguments, if only.is_empty() { &[][..] } else { std::slice::from_ref(only) }];
                self.tests(place, &arguments.concat(), Some((variable, place.count(count.0, count.1))))
            }
            Way::Suite(arguments) => self.tests(place, arguments, None),
        }
    }

    fn tests(
        &self,
        place: &Place<'_>,
        arguments: &[&str],
        variable: Option<(&str, u64)>,
    ) -> Result<Figures, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["test", "--quiet"]).args(crate::profile()).args(arguments).args(["--", "--nocapture"]);
        command.envs(variable.map(|(name, value)| (name, value.to_string())));
        command.env("PROPTEST_RNG_SEED", place.seed.to_string());
        let output = command.current_dir(&place.root).output().map_err(|e| format!("cargo: {e}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mark = format!("{} ", self.name);
        // The test harness writes a dot in front for a test that ended meanwhile.
        let told: Vec<&str> =
            text.lines().filter_map(|line| line.trim_start_matches('.').strip_prefix(&mark)).collect();
        let told = if variable.is_some() { told.get(..1).unwrap_or_default() } else { &told };
        let figures = (!told.is_empty()).then(|| told.join(" "));
        match (output.status.success(), figures) {
            (true, Some(figures)) => Ok(Figures::new(figures, true)),
            (false, Some(figures)) => {
                // How to see it again, where the test says so.
                let repeats = text.lines().filter(|line| line.contains("; again: ")).take(3);
                Ok(Figures::new(repeats.fold(figures, |all, line| all + "; " + line), false))
            }
            (true, None) => Err(format!("no test printed a line that begins with {mark:?}")),
            (false, None) => {
                let tail: Vec<&str> = text.lines().rev().take(30).collect();
                Err(tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
            }
        }
    }
}

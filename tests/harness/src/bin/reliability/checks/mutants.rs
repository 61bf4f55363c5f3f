//! Mutation testing: one change at a time is made to the code that must not be wrong, and a test must fail for it.
//!
//! `.cargo/mutants.toml` names the files, and each change that no test can see with the reason.

use super::{Check, Figures, Place, Way};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[Check {
    number: "R57",
    name: "mutants",
    what: "changes to codecs, log, set operations and window kernels, for each of which a test must fail (some; all in the week)",
    way: Way::Server(mutants),
}];

/// Of all changes, the explained ones are at most one in so many.
const EXPLAINED: usize = 20;

/// Of a property the first tests take so many cases at most; what they do not see meets all of them later.
const FIRST_CASES: (&str, &str) = ("PROPTEST_CASES", "32");

/// Names the package whose tests judge changes in another.
const ELSEWHERE: &str = "--test-package";

/// The tests for the changes that those beside the code do not see, by crate, the quicker ones first: PromQL is told by its scripts.
const LATER: [(&str, &[&str]); 4] = [
    ("query", &[ELSEWHERE, "kymo", "--", "--test", "promql", "over_a_list"]),
    ("query", &["--", "--tests"]),
    ("storage", &["--", "--test", "wal", "--test", "recovery", "--test", "model"]),
    ("storage", &["--", "--tests"]),
];

/// Seconds after which tests are taken for endless: those beside the code take three, all of a crate some minutes.
const FIRST_SECONDS: &str = "120";
const LATER_SECONDS: &str = "1200";

/// `cargo mutants` with these arguments. The folder of what it builds stays, so that the next run need not begin anew.
fn command(place: &Place<'_>, arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(["mutants", "--workspace", "--colors", "never"]).args(arguments);
    // The toolchain that runs this program is not necessarily that of the project.
    command.env_remove("CARGO").current_dir(&place.root);
    command.env("CARGO_TARGET_DIR", place.root.join("target/mutants/target")).env("CARGO_INCREMENTAL", "1");
    command.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_PROFILE_TEST_DEBUG", "0");
    // Thousands of builds: what the optimiser takes is more than the tests take without it.
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "0").env("CARGO_PROFILE_TEST_OPT_LEVEL", "0");
    // A copy is changed, which lies elsewhere: where tests look for what others wrote is to be said.
    let scripts = place.root.join("../shared/promqltest");
    if std::env::var_os("KYMO_PROMQLTEST").is_none() && scripts.is_dir() {
        command.env("KYMO_PROMQLTEST", scripts);
    }
    command
}

/// The changes that can be made, one a line.
fn list(place: &Place<'_>, arguments: &[&str]) -> Result<BTreeSet<String>, String> {
    let output = command(place, &[&["--list"], arguments].concat()).output();
    let output = output.map_err(|e| format!("cargo mutants: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.is_empty() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("no list of mutants (`cargo install cargo-mutants --locked`): {why}"));
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// The file that a line of a list is about.
fn file(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

/// What a run came to: names of changes.
#[derive(Debug, Default)]
struct Outcome {
    caught: Vec<String>,
    /// The tests did not end: seen as well.
    timeouts: Vec<String>,
    missed: Vec<String>,
    /// Not Rust.
    unviable: Vec<String>,
}

/// The tests of another package, `--test-package NAME -- ARGUMENTS`, as they are without a change.
fn passes_unchanged(place: &Place<'_>, tests: &[&str]) -> Result<(), String> {
    let [_, package, _, arguments @ ..] = tests else { return Err(format!("no tests: {tests:?}")) };
    let mut command = Command::new("cargo");
    command.args(["test", "--package", package]).args(arguments).env_remove("CARGO").current_dir(&place.root);
    let output = command.output().map_err(|e| format!("cargo test: {e}"))?;
    let why = || format!("{tests:?} fail without a change: {}", String::from_utf8_lossy(&output.stdout));
    output.status.success().then_some(()).ok_or_else(why)
}

/// Makes the changes chosen by `choice`, each against the tests chosen by `tests` for so many seconds, in an environment with
/// `variables`.
fn run(
    place: &Place<'_>,
    folder: &str,
    choice: &[&str],
    (tests, seconds): (&[&str], &str),
    variables: Option<(&str, &str)>,
) -> Result<Outcome, String> {
    let out = place.root.join("target/mutants").join(folder);
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let text = out.to_string_lossy();
    // First without a change: tests that fail anyway would see every change. The tool's own first run knows the changed packages only.
    let is_elsewhere = tests.contains(&ELSEWHERE);
    if is_elsewhere {
        passes_unchanged(place, tests)?;
    }
    let baseline = if is_elsewhere { "skip" } else { "run" };
    let fixed = ["--no-shuffle", "--baseline", baseline, "--timeout", seconds, "--output", &text];
    let mut command = command(place, &[&fixed[..], choice, tests].concat());
    let output = command.envs(variables).output().map_err(|e| format!("cargo mutants: {e}"))?;
    // Otherwise it has not tried them: 2 says that some are missed, 3 that some did not end.
    if !matches!(output.status.code(), Some(0 | 2 | 3)) {
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        return Err(format!("cargo mutants: {}: {said} {why}", output.status));
    }
    let read = |name: &str| lines(&out.join("mutants.out").join(name));
    match (read("caught.txt"), read("timeout.txt"), read("missed.txt"), read("unviable.txt")) {
        (Ok(caught), Ok(timeouts), Ok(missed), Ok(unviable)) => {
            Ok(Outcome { caught, timeouts, missed, unviable })
        }
        _ => Err(format!("cargo mutants: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

fn lines(path: &Path) -> std::io::Result<Vec<String>> {
    Ok(std::fs::read_to_string(path)?.lines().map(str::to_owned).collect())
}

/// A regular expression for exactly this text.
fn exactly(text: &str) -> String {
    let mut out = String::from("^");
    for c in text.chars() {
        // `\<` and `\>` are the edges of a word.
        if !c.is_alphanumeric() && !" <>".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out + "$"
}

fn mutants(place: &Place<'_>) -> Result<Figures, String> {
    let looked_at = list(place, &[])?;
    let files: BTreeSet<&str> = looked_at.iter().map(|line| file(line)).collect();
    let all = list(place, &["--no-config"])?;
    let explained = all.iter().filter(|line| files.contains(file(line))).count() - looked_at.len();
    let shards = place.count_weekly(400, 40, 1);
    let shard = format!("{}/{shards}", place.seed % shards);
    let choice = ["--shard", &shard, "--sharding", "round-robin"];
    // Most are seen by the tests beside the code, which are quick.
    let tests = (&["--", "--lib"][..], FIRST_SECONDS);
    let mut tried = run(place, "first", &choice, tests, Some(FIRST_CASES))?;
    for (number, (of, tests)) in LATER.iter().enumerate() {
        let (again, others) =
            tried.missed.iter().cloned().partition::<Vec<_>, _>(|name| name.starts_with(of));
        if again.is_empty() {
            continue;
        }
        let names: Vec<String> = again.iter().map(|name| exactly(name)).collect();
        let choice: Vec<&str> = names.iter().flat_map(|name| ["--re", name]).collect();
        let mut later = run(place, &format!("later_{number}"), &choice, (tests, LATER_SECONDS), None)?;
        // The tool tries fields left out of a struct whatever is chosen: of those, other tests judge. What it did not try is missed.
        for names in [&mut later.caught, &mut later.timeouts] {
            names.retain(|name| again.contains(name));
        }
        later.missed = again;
        later.missed.retain(|name| !later.caught.contains(name) && !later.timeouts.contains(name));
        tried.caught.extend(later.caught);
        tried.timeouts.extend(later.timeouts);
        tried.missed = [others, later.missed].concat();
    }
    let killed = tried.caught.len() + tried.timeouts.len();
    let mut figures = format!(
        "n={} of={} killed={killed} of_them_hung={} unviable={} survived={} explained={explained} shard={shard}",
        killed + tried.missed.len(),
        looked_at.len() + explained,
        tried.timeouts.len(),
        tried.unviable.len(),
        tried.missed.len(),
    );
    for name in &tried.missed {
        figures += &format!("; survived: {name}");
    }
    let is_explained_enough = explained * EXPLAINED <= looked_at.len() + explained;
    Ok(Figures::new(figures, killed > 0 && tried.missed.is_empty() && is_explained_enough))
}

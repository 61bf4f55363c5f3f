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

/// The tests of the changes that those beside the code do not see, by crate: PromQL is told by its scripts.
const LATER: [(&str, &[&str]); 2] =
    [("storage", &["--", "--tests"]), ("query", &["--test-package", "kymo", "--", "--test", "promql"])];

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

/// Makes the changes chosen by `choice`, each against the tests chosen by `tests` in an environment with `variables`.
fn run(
    place: &Place<'_>,
    folder: &str,
    choice: &[&str],
    tests: &[&str],
    variables: Option<(&str, &str)>,
) -> Result<Outcome, String> {
    let out = place.root.join("target/mutants").join(folder);
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let text = out.to_string_lossy();
    let fixed = ["--no-shuffle", "--baseline", "skip", "--timeout", "120", "--output", &text];
    let mut command = command(place, &[&fixed[..], choice, tests].concat());
    let output = command.envs(variables).output().map_err(|e| format!("cargo mutants: {e}"))?;
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
        if !c.is_alphanumeric() && c != ' ' {
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
    let mut first = run(place, "first", &choice, &["--", "--lib"], Some(FIRST_CASES))?;
    let mut survived = Vec::new();
    for (folder, tests) in LATER {
        let names = first.missed.iter().filter(|name| name.starts_with(folder)).map(|name| exactly(name));
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            continue;
        }
        let choice: Vec<&str> = names.iter().flat_map(|name| ["--re", name]).collect();
        let second = run(place, folder, &choice, tests, None)?;
        first.caught.extend(second.caught);
        first.timeouts.extend(second.timeouts);
        survived.extend(second.missed);
    }
    let killed = first.caught.len() + first.timeouts.len();
    let mut figures = format!(
        "n={} of={} killed={killed} unviable={} survived={} explained={explained} shard={shard}",
        killed + survived.len(),
        looked_at.len() + explained,
        first.unviable.len(),
        survived.len(),
    );
    for name in &survived {
        figures += &format!("; survived: {name}");
    }
    let is_explained_enough = explained * EXPLAINED <= looked_at.len() + explained;
    Ok(Figures::new(figures, killed > 0 && survived.is_empty() && is_explained_enough))
}

//! The making of the binary: what it is built from, and whether the code was looked at by the tools that see more than tests do.

use super::{Check, Figures, Place, Way};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[
    Check {
        number: "R53",
        name: "deps",
        what: "advisories, licences, duplicates and origins of all dependencies; a bill of materials",
        way: Way::Server(deps),
    },
    Check {
        number: "R58",
        name: "sim",
        what: "a whole store simulated on one thread: power cuts, failing disks, jumping clocks, from seeds",
        way: Way::Tests {
            arguments: &["-p", "kymo-storage", "--test", "simulation"],
            only: "what_is_acknowledged",
            variable: "KYMO_SIM_SEEDS",
            count: (100, 100_000),
        },
    },
    Check {
        number: "R55",
        name: "schedules_of_commit",
        what: "group commit, reads and a flush under a schedule explorer: who is answered is on the disk, no reader sees half",
        way: Way::Tests {
            arguments: &["-p", "kymo-storage", "--features", "shuttle", "--lib"],
            only: "explored",
            variable: "KYMO_SCHEDULES",
            count: (400, 100_000),
        },
    },
    Check {
        number: "R55",
        name: "schedules_of_memory",
        what: "memory and turns of queries under a schedule explorer: never more than there is, all is given back",
        way: Way::Tests {
            arguments: &["-p", "kymo-query", "--features", "shuttle", "--lib"],
            only: "explored",
            variable: "KYMO_SCHEDULES",
            count: (4_000, 1_000_000),
        },
    },
    Check {
        number: "R55",
        name: "miri",
        what: "codecs, and in the night chunks, index and model, under an interpreter that sees undefined behaviour",
        way: Way::Server(miri),
    },
];

/// A command of cargo in the project's root.
fn cargo(place: &Place<'_>, arguments: &[&str]) -> Result<Output, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(&place.root);
    command.output().map_err(|e| format!("cargo {}: {e}", arguments.join(" ")))
}

/// What `cargo deny` says about one of its subjects.
fn counted(summary: &Value, subject: &str, level: &str) -> u64 {
    summary["fields"][subject][level].as_u64().unwrap_or(0)
}

/// The summary of `cargo deny`. Offline it goes by the copy of the advisories that is there.
fn deny(place: &Place<'_>, mode: &[&str]) -> Result<Value, String> {
    let arguments = [&["deny", "--workspace"], mode, &["--format", "json", "check"]].concat();
    let output = cargo(place, &arguments)?;
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let summary = lines.into_iter().find(|line| line["type"] == "summary");
    summary.ok_or_else(|| format!("no summary of `cargo deny` (`cargo install cargo-deny --locked`): {text}"))
}

/// When the copy of the advisories was made.
fn date_of_advisories() -> String {
    let home = std::env::var_os("HOME").unwrap_or_default();
    let cargo_home =
        std::env::var_os("CARGO_HOME").map_or_else(|| Path::new(&home).join(".cargo"), Into::into);
    let copies = std::fs::read_dir(cargo_home.join("advisory-dbs")).into_iter().flatten().flatten();
    let dates = copies.filter_map(|copy| {
        let mut git = Command::new("git");
        git.arg("-C").arg(copy.path()).args(["log", "-1", "--format=%cs"]);
        Some(String::from_utf8_lossy(&git.output().ok()?.stdout).trim().to_owned())
    });
    dates.filter(|date| !date.is_empty()).max().unwrap_or_else(|| "unknown".to_owned())
}

/// Name and version of every package that cargo builds into the server, or while building it.
fn built(place: &Place<'_>) -> Result<BTreeSet<(String, String)>, String> {
    let arguments =
        ["tree", "-p", "kymo-server", "-e", "normal,build", "--prefix", "none", "--format", "{p}"];
    let output = cargo(place, &arguments)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let package = |line: &str| {
        let (name, rest) = line.split_once(' ')?;
        let version = rest.split(' ').next()?.strip_prefix('v')?;
        Some((name.to_owned(), version.to_owned()))
    };
    Ok(text.lines().filter_map(package).collect())
}

/// Writes the bill of materials; answers the packages that it lists.
fn bill(place: &Place<'_>) -> Result<BTreeSet<(String, String)>, String> {
    const NAME: &str = "kymo.cdx";
    let arguments = ["cyclonedx", "--manifest-path", "server/Cargo.toml", "--format", "json"];
    let more = ["--spec-version", "1.5", "--override-filename", NAME];
    let output = cargo(place, &[&arguments[..], &more].concat())?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(format!("no bill of materials (`cargo install cargo-cyclonedx --locked`): {text}"));
    }
    let mut listed = None;
    // There is one beside each manifest; that of the server lists all that is in it.
    for member in [".", "storage", "query", "server", "tests/harness", "tests/fuzz_bodies"] {
        let file = place.root.join(member).join(format!("{NAME}.json"));
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        std::fs::remove_file(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        if member == "server" {
            let kept = place.root.join("target").join(format!("{NAME}.json"));
            std::fs::write(&kept, &text).map_err(|e| format!("{}: {e}", kept.display()))?;
            listed = serde_json::from_str::<Value>(&text).ok();
        }
    }
    let listed = listed.ok_or("the bill of materials is not JSON")?;
    let component = |c: &Value| Some((c["name"].as_str()?.to_owned(), c["version"].as_str()?.to_owned()));
    let mut all: BTreeSet<_> =
        listed["components"].as_array().into_iter().flatten().filter_map(component).collect();
    all.extend(component(&listed["metadata"]["component"]));
    Ok(all)
}

/// Tests that passed and failed, of all `test result:` lines.
fn results(text: &str) -> (u64, u64) {
    let number = |line: &str, what: &str| {
        let before = line.split(what).next()?.trim_end();
        before.rsplit([' ', ';', '.']).next()?.parse::<u64>().ok()
    };
    let lines = text.lines().filter(|line| line.starts_with("test result:"));
    lines.fold((0, 0), |(passed, failed), line| {
        (passed + number(line, " passed").unwrap_or(0), failed + number(line, " failed").unwrap_or(0))
    })
}

fn miri(place: &Place<'_>) -> Result<Figures, String> {
    let modules = place.count(&["codec::"][..], &["codec::", "index::", "model::", "chunk::"][..]);
    let mut command = Command::new("cargo");
    command.args(["+nightly", "miri", "test", "-p", "kymo-storage", "--lib", "--"]).args(modules);
    // Regular expressions are compiled by a library, for minutes each.
    command.args(["--skip", "model::regex::"]);
    // The toolchain that runs this program is not the one that is asked for.
    command.env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN").current_dir(&place.root);
    // The interpreter would make logarithms wrong by chance; results must be those of the machine, to the bit.
    command.env("MIRIFLAGS", "-Zmiri-disable-isolation -Zmiri-deterministic-floats");
    let output = command.output().map_err(|e| format!("cargo +nightly miri: {e}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let ((passed, failed), undefined) = (results(&out), err.matches("Undefined Behavior").count());
    if passed == 0 && undefined == 0 {
        let why: Vec<&str> = err.lines().rev().take(5).collect();
        return Err(format!(
            "Miri does not run (`rustup component add miri rust-src --toolchain nightly`): {}",
            why.join("; ")
        ));
    }
    let kept = output.status.success() && failed == 0 && undefined == 0;
    Ok(Figures::new(format!("tests={passed} failed={failed} ub={undefined}"), kept))
}

/// How many advisories the rules let pass.
fn ignored(rules: &str) -> usize {
    let rules = rules.lines().filter(|line| !line.trim_start().starts_with('#'));
    rules.filter(|line| line.contains("id = \"RUSTSEC-")).count()
}

fn deps(place: &Place<'_>) -> Result<Figures, String> {
    let mut summary = deny(place, &[])?;
    if !summary["fields"]["advisories"].is_object() {
        // There is no way to the newest.
        summary = deny(place, &["--offline"])?;
    }
    let text =
        |file: &str| std::fs::read_to_string(place.root.join(file)).map_err(|e| format!("{file}: {e}"));
    let (lock, rules) = (text("Cargo.lock")?, text("deny.toml")?);
    let of = |subject: &str| counted(&summary, subject, "errors") + counted(&summary, subject, "warnings");
    let subjects = ["advisories", "licenses", "bans", "sources"];
    let is_said = |subject: &&str| summary["fields"][*subject].is_object();
    let (built, listed) = (built(place)?, bill(place)?);
    let unlisted = built.difference(&listed).count();
    let found: u64 = subjects.iter().map(|subject| of(subject)).sum();
    let kept = subjects.iter().all(is_said) && found == 0 && unlisted == 0 && built.len() > 100;
    let figures = format!(
        "n={} in_the_server={} advisories={} advisories_of={} ignored={} licences_refused={} duplicates={} \
         explained={} sources_refused={} bill_of_materials={} unlisted={unlisted}",
        lock.matches("[[package]]").count(),
        built.len(),
        of("advisories"),
        date_of_advisories(),
        ignored(&rules),
        of("licenses"),
        of("bans"),
        rules.matches("{ crate = \"").count(),
        of("sources"),
        listed.len(),
    );
    Ok(Figures::new(figures, kept))
}

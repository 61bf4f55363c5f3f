//! Checks inside of the process: tests of the crates that count through crash states, damage and failures, and the fuzzers.

use super::{Check, Figures, Place, Way};
use std::process::Command;

pub(super) const CHECKS: &[Check] = &[
    Check {
        number: "R22",
        name: "alloc",
        what: "hostile inputs to every reader under an allocator that counts",
        way: Way::Tests {
            arguments: &["-p", "kymo-fuzz-bodies", "--test", "replay", "changed_inputs"],
            variable: "KYMO_FUZZ_CHANGES",
            count: (5, 300),
        },
    },
    Check {
        number: "R20",
        name: "fuzz",
        what: "the fuzzers, each for its time (a minute; twenty minutes in the night)",
        way: Way::Server(fuzz),
    },
];

/// Runs every fuzz target for its time; what it came to is appended to `fuzz/ledger.txt`.
fn fuzz(place: &Place<'_>) -> Result<Figures, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let seconds = place.count("60", "1200");
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "-p", "kymo-fuzz-bodies", "--bin", "fuzz", "--", "--seconds", seconds]);
    let output = command.current_dir(&place.root).output().map_err(|e| format!("cargo: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find_map(|line| line.strip_prefix("fuzz ")) {
        Some(figures) => Ok(Figures::new(figures, output.status.success())),
        None => Err(text.lines().last().unwrap_or("the fuzzers did not run").to_owned()),
    }
}

//! Checks inside of the process: tests of the crates that count through crash states, damage and failures, and the fuzzers.

use super::{Check, Figures, Place, Way};
use std::process::Command;

/// Tests of `storage/tests/white_box` whose names begin with `only`; smoke tries a twentieth and the night everything.
const fn white_box(
    number: &'static str,
    name: &'static str,
    only: &'static str,
    what: &'static str,
) -> Check {
    let arguments = &["-p", "kymo-storage", "--test", "white_box"];
    Check {
        number,
        name,
        what,
        way: Way::Tests { arguments, only, variable: "KYMO_WHITE_BOX", count: (5, 100) },
    }
}

pub(super) const CHECKS: &[Check] = &[
    white_box("R5", "torn", "a_log_cut_anywhere", "a log cut at every byte of its last 64 KiB"),
    white_box("R6", "walflip_wb", "a_flipped_bit_of_a_log", "one bit flipped in every byte of a log"),
    white_box(
        "R8",
        "points",
        "a_kill_at_every_call",
        "a kill and a power cut at every call of flush, compaction, retention, delete, snapshot, import",
    ),
    white_box(
        "R11",
        "errno",
        "every_error_of_every_call",
        "every call of the file system fails with every error, once, later, for ever; at the start, in the run, at the end",
    ),
    white_box(
        "R14",
        "formats",
        "old_formats_are_read",
        "files of every released format, and of a later one, which is refused by name",
    ),
    white_box(
        "R15",
        "rot_wb",
        "one_flipped_bit",
        "one bit flipped in each page of each file, and in each byte of its edges",
    ),
    white_box(
        "R16",
        "damage",
        "structural_damage",
        "files cut at every border, blank, foreign, exchanged, gone, a folder in their place",
    ),
    white_box("R18", "manifest", "a_manifest_can_be", "the manifest lost, torn, an older copy"),
    white_box("R19", "misdirect", "misdirected", "sectors that hold another file's bytes, old ones or none"),
    Check {
        number: "R22",
        name: "alloc",
        what: "hostile inputs to every reader under an allocator that counts",
        way: Way::Tests {
            arguments: &["-p", "kymo-fuzz-bodies", "--test", "replay"],
            only: "changed_inputs",
            variable: "KYMO_FUZZ_CHANGES",
            count: (5, 300),
        },
    },
    Check {
        number: "R20",
        name: "fuzz",
        what: "the fuzzers, each for its time (a minute, twenty in the night, eight hours in the week)",
        way: Way::Server(fuzz),
    },
];

/// Runs every fuzz target for its time; what it came to is appended to `fuzz/ledger.txt`.
fn fuzz(place: &Place<'_>) -> Result<Figures, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let seconds = place.count_weekly("60", "1200", "28800");
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "-p", "kymo-fuzz-bodies", "--bin", "fuzz", "--", "--seconds", seconds]);
    let output = command.current_dir(&place.root).output().map_err(|e| format!("cargo: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find_map(|line| line.strip_prefix("fuzz ")) {
        Some(figures) => Ok(Figures::new(figures, output.status.success())),
        None => Err(text.lines().last().unwrap_or("the fuzzers did not run").to_owned()),
    }
}

//! Checks inside of the process: tests of the crates that count through crash states, damage and failures, and the fuzzers.

use super::{Check, Figures, Place, Way};
use std::process::Command;

/// A test of `storage/tests/white_box`, which tries a twentieth in smoke and everything in the night.
const fn white_box(arguments: &'static [&'static str]) -> Way {
    Way::Tests { arguments, variable: "KYMO_WHITE_BOX", count: (5, 100) }
}

pub(super) const CHECKS: &[Check] = &[
    Check {
        number: "R5",
        name: "torn",
        what: "a log cut at every byte of its last 64 KiB",
        way: white_box(&["-p", "kymo-storage", "--test", "white_box", "a_log_cut_anywhere"]),
    },
    Check {
        number: "R6",
        name: "walflip_wb",
        what: "one bit flipped in every byte of a log",
        way: white_box(&["-p", "kymo-storage", "--test", "white_box", "a_flipped_bit_of_a_log"]),
    },
    Check {
        number: "R8",
        name: "points",
        what: "a kill and a power cut at every call of flush, compaction, retention, delete, snapshot, import",
        way: white_box(&["-p", "kymo-storage", "--test", "white_box", "a_kill_at_every_call"]),
    },
    Check {
        number: "R15",
        name: "rot_wb",
        what: "one bit flipped in each page of each file, and in each byte of its edges",
        way: white_box(&["-p", "kymo-storage", "--test", "white_box", "one_flipped_bit"]),
    },
    Check {
        number: "R18",
        name: "manifest",
        what: "the manifest lost, torn, an older copy",
        way: white_box(&["-p", "kymo-storage", "--test", "white_box", "a_manifest_can_be"]),
    },
    Check {
        number: "R19",
        name: "misdirect",
        what: "sectors that hold another file's bytes or none",
        way: white_box(&["-p", "kymo-storage", "--test", "white_box", "misdirected"]),
    },
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

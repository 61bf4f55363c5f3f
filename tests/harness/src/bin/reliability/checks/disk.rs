//! Crash, power and disk: what happens to the machine below the server.

use super::{Check, Figures, Place, Way};
use kymo_tests::hard_times::{cut_power, fill_disk};
use kymo_tests::kill_nine::{self, Summary};
use std::time::Duration;

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[
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

fn judged(summary: &Summary, more: &str, kept: bool) -> Figures {
    Figures::new(format!("{summary}{more}"), kept && summary.kept() && summary.acked > 0)
}

fn kill9(place: &Place<'_>) -> Result<Figures, String> {
    let trials = place.count(20, 500);
    let summary = kill_nine::run(place.program, place.dir, &[], trials, place.seed);
    let kept = summary.trials == trials && summary.reopen_p99_ms() <= 2_000;
    Ok(judged(&summary, "", kept))
}

fn powerloss(place: &Place<'_>) -> Result<Figures, String> {
    let trials = place.count(3, 100);
    let summary = cut_power(place.program, place.dir, trials, place.seed)
        .map_err(|e| format!("no disk of our own: {e}"))?;
    Ok(judged(&summary, "", summary.trials == trials))
}

fn enospc(place: &Place<'_>) -> Result<Figures, String> {
    let full = Duration::from_secs(place.count(3, 20));
    let met = fill_disk(place.program, place.dir, full, place.seed)
        .map_err(|e| format!("no disk of our own: {e}"))?;
    let kept = met.reads.0 == met.reads.1 && met.resume_ms <= 5_000;
    let more = format!(
        " full_s={:.1} reads={} reads_answered={} resume_ms={}",
        met.full_s, met.reads.0, met.reads.1, met.resume_ms
    );
    Ok(judged(&met.summary, &more, kept))
}

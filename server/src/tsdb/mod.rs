//! `kymo tsdb`: blocks of Prometheus in and out, and looks at a store that no server has open.

mod analyze;
mod compact;
mod dump;
mod export;
mod import;
mod list;
mod verify;

use crate::config::tsdb_flags::{RangeFlags, TsdbCommand};
use crate::http::params::parse_time;
use crate::telemetry::log;
use indicatif::{ProgressBar, ProgressStyle};
use kymo_storage::db::Storage;
use kymo_storage::env::{DiskFs, Fs};
use kymo_storage::model::TimeRange;
use kymo_storage::options::{Durability, Limits, Options};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What other programs stored may lie in the future of this clock.
const FUTURE: Duration = Duration::from_secs(1000 * 365 * 86_400);
/// The memory of a command that writes.
const COMMAND_MEMORY_BYTES: usize = 4 << 30;
/// Labels of a series that a command takes; more than any server is asked to.
const LABELS_PER_SERIES: usize = 4096;
/// Bytes of a label name or value that a command takes: the most the formats hold.
const LABEL_BYTES: usize = 60_000;

/// Does what `command` says.
///
/// # Errors
/// A sentence for the operator.
pub fn run(command: &TsdbCommand) -> Result<(), String> {
    log::start("warn", false)?;
    match command {
        TsdbCommand::ImportBlocks(flags) => import::run(flags),
        TsdbCommand::ExportBlocks(flags) => export::run(flags),
        TsdbCommand::List(flags) => list::run(&flags.data),
        TsdbCommand::Analyze(flags) => analyze::run(flags),
        TsdbCommand::Dump(flags) => dump::run(flags),
        TsdbCommand::Compact(flags) => compact::run(&flags.data),
        TsdbCommand::Verify(flags) => verify::run(&flags.data),
    }
}

fn disk() -> Arc<dyn Fs> {
    Arc::new(DiskFs)
}

/// Opens the store in `data`, with nothing deleted for its age and nothing merged meanwhile.
fn open(data: &Path) -> Result<Storage, String> {
    let options = Options {
        retention: None,
        compaction_percent: 0,
        durability: Durability::Os,
        limits: Limits {
            future: FUTURE,
            labels_per_series: LABELS_PER_SERIES,
            label_name_bytes: LABEL_BYTES,
            label_value_bytes: LABEL_BYTES,
            ..Limits::default()
        },
        ..Options::default()
    };
    Storage::open(data, options).map_err(in_use)
}

fn in_use(error: impl std::fmt::Display) -> String {
    format!("{error}; a store is open in one process at a time: stop the server, or take a snapshot")
}

/// As [`open`], by the library.
fn open_database(data: &Path) -> Result<kymo::Db, String> {
    let options = kymo::Options::new()
        .retention(None)
        .maintenance(kymo::Maintenance::Manual)
        .durability(Durability::Os)
        .future_max(FUTURE)
        .label_limits(LABELS_PER_SERIES, LABEL_BYTES, LABEL_BYTES)
        .memory_bytes(COMMAND_MEMORY_BYTES);
    kymo::Db::open(data, options).map_err(in_use)
}

/// As [`open`], if there is a store.
fn open_existing(data: &Path) -> Result<Storage, String> {
    require_store(data)?;
    open(data)
}

fn require_store(data: &Path) -> Result<(), String> {
    let manifest = data.join("MANIFEST");
    disk()
        .open(&manifest)
        .map_err(|e| format!("{} is no store: open {}: {e}", data.display(), manifest.display()))?;
    Ok(())
}

fn range(flags: &RangeFlags) -> Result<TimeRange, String> {
    let time = |text: &Option<String>, name: &str, otherwise| match text {
        Some(text) => parse_time(text).map_err(|e| format!("--{name}: {e}")),
        None => Ok(otherwise),
    };
    let (start, end) = (time(&flags.start, "start", i64::MIN)?, time(&flags.end, "end", i64::MAX)?);
    if end < start {
        return Err("--end is before --start".to_owned());
    }
    Ok(TimeRange::closed(start, end))
}

/// A bar on standard error, if that is a terminal.
fn bar(length: u64, what: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let form = format!("{{bar:40}} {{pos}}/{{len}} {what} {{elapsed}} (about {{eta}} left) {{msg}}");
    if let Ok(style) = ProgressStyle::with_template(&form) {
        bar.set_style(style);
    }
    bar
}

/// Prints a line on standard output.
fn say(line: std::fmt::Arguments<'_>) -> Result<(), String> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(|e| format!("write to standard output: {e}"))
}

/// Prints what must be known beside the result.
fn warn(line: std::fmt::Arguments<'_>) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

//! `kymo tsdb verify`: every byte of a store is read.

use super::{disk, say, text, warn};
use kymo_storage::verify::verify;
use std::path::Path;

pub(super) fn run(data: &Path) -> Result<(), String> {
    let report = verify(&disk(), data).map_err(text)?;
    say(format_args!(
        "{} files with {} bytes read: {} blocks with {} series and {} samples, {} samples in the log",
        report.files, report.bytes, report.blocks, report.series, report.block_samples, report.wal_samples
    ))?;
    if report.is_whole() {
        return say(format_args!("the store is whole"));
    }
    report.findings.iter().for_each(|finding| warn(format_args!("{finding}")));
    Err(format!("{} findings: the store is not whole", report.findings.len()))
}

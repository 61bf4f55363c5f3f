//! `kymo tsdb export-blocks`: the library's export, with a bar and sentences for the operator.

use super::{bar, open_database, range, require_store, say, text, warn};
use crate::config::tsdb_flags::ExportFlags;

pub(super) fn run(flags: &ExportFlags) -> Result<(), String> {
    let wanted = range(&flags.range)?;
    require_store(&flags.store.data)?;
    let db = open_database(&flags.store.data)?;
    let bar = bar(0, "blocks of 2 h");
    let exported = db.export_blocks_watched(&flags.out, wanted, |at| {
        bar.set_length(at.windows_total);
        bar.set_position(at.windows);
    });
    let report = exported.map_err(text)?;
    db.close().map_err(text)?;
    bar.finish_and_clear();
    let (blocks, samples) = (report.blocks.len(), report.samples());
    say(format_args!("{blocks} blocks with {samples} samples are in {}", flags.out.display()))?;
    for block in &report.blocks {
        say(format_args!("{}: {} series, {} samples", block.name, block.series, block.samples))?;
    }
    if report.warnings.is_empty() {
        return Ok(());
    }
    report.warnings.iter().for_each(|warning| warn(format_args!("{warning}")));
    Err("damage was met: samples are missing in the blocks".to_owned())
}

//! `kymo tsdb import-blocks`: the library's import, with a bar and sentences for the operator.

use super::{bar, open_database, say, text, warn};
use crate::config::tsdb_flags::ImportFlags;

pub(super) fn run(flags: &ImportFlags) -> Result<(), String> {
    let db = open_database(&flags.store.data)?;
    let bar = bar(0, "series");
    let imported = db.import_blocks_watched(&flags.dir, |at| {
        bar.set_length(at.series_total);
        bar.set_position(at.series);
        bar.set_message(at.block.to_owned());
    });
    let report = imported.map_err(text)?;
    db.close().map_err(text)?;
    bar.finish_and_clear();
    let (dir, data) = (flags.dir.display(), flags.store.data.display());
    say(format_args!(
        "{} blocks, {} samples ({} of them histograms) from {dir} are in {data}",
        report.blocks, report.samples, report.histograms
    ))?;
    if report.known > 0 {
        say(format_args!("{} samples were there already", report.known))?;
    }
    say(format_args!("a server drops those that are older than its --retention"))?;
    if report.has_log {
        warn(format_args!(
            "note: the newest samples, up to three hours, lie in {dir}/wal and in no block. To get them too, POST to \
             /api/v1/admin/tsdb/snapshot of Prometheus (with --web.enable-admin-api) and import the folder it names"
        ));
    }
    if report.refused_total > 0 || !report.refused.is_empty() {
        for refusal in &report.refused {
            let at = refusal.timestamp.map_or(String::new(), |time| format!(" at {time}"));
            warn(format_args!("refused: {}{at}: {}", refusal.labels, refusal.reason));
        }
        return Err(format!("{} samples were refused", report.refused_total));
    }
    Ok(())
}

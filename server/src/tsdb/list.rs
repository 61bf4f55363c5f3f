//! `kymo tsdb list`: the blocks of a store, as its manifest has them; also beside a running server.

use super::{disk, say, text};
use kymo_storage::block::Manifest;
use std::path::Path;

pub(super) fn run(data: &Path) -> Result<(), String> {
    let manifest = Manifest::load(&disk(), data)
        .map_err(text)?
        .ok_or_else(|| format!("{} is no store: it has no MANIFEST", data.display()))?;
    say(format_args!(
        "{:<24} {:>5} {:>15} {:>15} {:>12} {:>10} {:>12}",
        "BLOCK", "LEVEL", "FIRST MS", "LAST MS", "SAMPLES", "SERIES", "BYTES"
    ))?;
    let mut blocks = manifest.blocks;
    blocks.sort_by_key(|b| (b.meta.min_time, b.meta.sequence));
    for block in &blocks {
        let meta = &block.meta;
        say(format_args!(
            "{:<24} {:>5} {:>15} {:>15} {:>12} {:>10} {:>12}",
            block.file, meta.level, meta.min_time, meta.max_time, meta.samples, meta.series, block.bytes
        ))?;
    }
    Ok(())
}

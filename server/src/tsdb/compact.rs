//! `kymo tsdb compact`: all blocks of a store are merged as far as they may.

use super::{disk, open_existing, say, text};
use kymo_storage::block::Manifest;
use std::path::Path;

pub(super) fn run(data: &Path) -> Result<(), String> {
    let storage = open_existing(data)?;
    storage.flush().map_err(text)?;
    let before = blocks(data)?;
    storage.compact_all().map_err(text)?;
    storage.close().map_err(text)?;
    let after = blocks(data)?;
    say(format_args!(
        "{} blocks of {} bytes are {} of {} bytes now, with {} samples",
        before.0, before.1, after.0, after.1, after.2
    ))
}

/// How many blocks there are, their bytes and their samples.
fn blocks(data: &Path) -> Result<(usize, u64, u64), String> {
    let manifest = Manifest::load(&disk(), data).map_err(text)?.unwrap_or_default();
    let blocks = &manifest.blocks;
    Ok((blocks.len(), blocks.iter().map(|b| b.bytes).sum(), blocks.iter().map(|b| b.meta.samples).sum()))
}

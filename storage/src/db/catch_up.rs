//! A manifest that is older than what lies beside it: a copy that was put back, or one whose successor did not reach the disk.
//!
//! Two things prove it. A checkpoint newer than the manifest's is written only when everything before its place in the log is
//! in blocks that are durable: they have the sequences that the manifest would give next. And what a merge has made is put in
//! the place of its inputs before these are removed: it has the sequence of one that is gone.

use super::open::{BLOCKS, Opening, checkpoint_boundary};
use crate::block::{BLOCK_EXTENSION, Block, Manifest, ManifestBlock};
use crate::error::{Error, Result};
use std::io::ErrorKind;
use std::path::Path;

impl Opening<'_> {
    /// Takes the blocks that are newer than the manifest into it, and recovery begins behind them.
    ///
    /// # Errors
    /// A folder cannot be listed, or the operating system refuses for now to open a block: what is not taken in is left over, and
    /// leftovers are removed.
    pub(super) fn catch_up(&self, manifest: &mut Manifest) -> Result<()> {
        let entries = self.list(BLOCKS)?;
        let is_there =
            |file: &str| entries.iter().any(|path| path.file_name().is_some_and(|name| name == file));
        let is_gone = |block: &&ManifestBlock| !is_there(&block.file);
        let gone: Vec<u64> = manifest.blocks.iter().filter(is_gone).map(|b| b.meta.sequence).collect();
        let newest = self.checkpoints()?.pop().filter(|name| Some(name) > manifest.checkpoint.as_ref());
        if gone.is_empty() && newest.is_none() {
            return Ok(());
        }
        let is_newer =
            |sequence| gone.contains(&sequence) || (newest.is_some() && sequence >= manifest.next_sequence);
        let mut newer: Vec<ManifestBlock> = Vec::new();
        for path in &entries {
            let Some(block) = self.unlisted(path, manifest)?.filter(|b| is_newer(b.meta.sequence)) else {
                continue;
            };
            // What a merge has made holds all that the input of the same sequence does.
            match newer.iter_mut().find(|known| known.meta.sequence == block.meta.sequence) {
                Some(known) if known.meta.level < block.meta.level => *known = block,
                Some(_) => {}
                None => newer.push(block),
            }
        }
        if newer.is_empty() {
            return Ok(());
        }
        tracing::warn!(blocks = newer.len(), "the manifest is older than the blocks: they are taken into it");
        let is_within = |old: &ManifestBlock, new: &ManifestBlock| {
            let (old, new) = (&old.meta, &new.meta);
            old.sequence == new.sequence
                || (old.sequence < new.sequence
                    && old.level < new.level
                    && new.min_time <= old.min_time
                    && old.max_time <= new.max_time)
        };
        manifest.blocks.retain(|old| is_there(&old.file) || !newer.iter().any(|new| is_within(old, new)));
        let next = newer.iter().map(|b| b.meta.sequence.saturating_add(1)).max().unwrap_or(0);
        manifest.next_sequence = manifest.next_sequence.max(next);
        manifest.blocks.extend(newer);
        if let Some(boundary) = newest.as_deref().and_then(checkpoint_boundary) {
            manifest.first_wal_segment = boundary;
            manifest.checkpoint = newest;
        }
        Ok(())
    }

    /// The block at `path`, if it is a sound one that the manifest does not have. Damaged ones are put aside later.
    fn unlisted(&self, path: &Path, manifest: &Manifest) -> Result<Option<ManifestBlock>> {
        let Some(file) = path.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
        let is_block = path.extension().is_some_and(|e| e == BLOCK_EXTENSION);
        if !is_block || manifest.blocks.iter().any(|b| b.file == file) {
            return Ok(None);
        }
        match Error::or_again(|| Block::open(self.fs, path)) {
            Ok(block) => {
                let (file, bytes) = (file.to_owned(), block.file_bytes());
                Ok(Some(ManifestBlock { file, bytes, meta: *block.meta() }))
            }
            // A name that leads nowhere is no block either.
            Err(error) if error.is_damage() || error.io_kind() == Some(ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

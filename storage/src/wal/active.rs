//! The segment being written: sealing frames for it, and cutting it back after a failed write.

use super::segment::{Epoch, HEADER_BYTES, SECOND_COPY};
use crate::codec::frame;
use crate::env::File;
use crate::error::{Error, Result};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes of a frame body before the record: number and durable count.
pub(super) const PREFIX_BYTES: usize = 8;

/// The segment being written.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn File>,
    pub(super) epoch: Epoch,
    pub(super) seed: u32,
    /// Where the next frame goes; 0 until the header is written.
    pub(super) offset: u64,
    /// The size of the file.
    pub(super) allocated: u64,
    pub(super) frames: u32,
    pub(super) durable_frames: u32,
}

impl Active {
    /// Numbers the frames of a group and fills in their headers.
    pub(super) fn seal(&self, buffer: &mut [u8], starts: &[usize]) -> Result<()> {
        let broken = || Error::internal("the frames of a group lie one behind the other");
        let mut ends = starts.iter().skip(1).copied().chain([buffer.len()]);
        let mut index = self.frames;
        for start in starts {
            let end = ends.next().ok_or_else(broken)?;
            let framed = buffer.get_mut(*start..end).ok_or_else(broken)?;
            let prefix =
                framed.get_mut(frame::HEADER_BYTES..).and_then(|b| b.first_chunk_mut::<PREFIX_BYTES>());
            let prefix = prefix.ok_or_else(broken)?;
            prefix[..4].copy_from_slice(&index.to_le_bytes());
            prefix[4..].copy_from_slice(&self.durable_frames.to_le_bytes());
            if !frame::finish(framed, self.seed) {
                return Err(broken());
            }
            index = index.checked_add(1).ok_or_else(broken)?;
        }
        Ok(())
    }

    /// After a failed write up to `end`: makes the segment end where it ended before, durably.
    ///
    /// A header that was begun stays. A write that fails spoils one of its two copies at most, and so leaves one of an earlier use or of
    /// this one whole; zeros that fail as well could spoil the other.
    pub(super) fn cut_back(&self, end: u64) -> io::Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let len = self.file.len()?;
        if len > self.allocated {
            self.file.set_len(self.allocated)?;
        }
        let end = end.min(self.allocated);
        let mut at = self.offset.max(HEADER_BYTES as u64);
        while at < end {
            let part = (end - at).min(ZEROS.len() as u64) as usize;
            self.file.write_all_at(&ZEROS[..part], at)?;
            at += part as u64;
        }
        self.file.sync_data()?;
        if self.offset > 0 || self.allocated < HEADER_BYTES as u64 {
            return Ok(());
        }
        // The next try writes the same header, and may spoil the second copy: the first is whole by then.
        let header = self.epoch.encode();
        self.file.write_all_at(header.get(..SECOND_COPY).unwrap_or_default(), 0)?;
        self.file.sync_data()
    }
}

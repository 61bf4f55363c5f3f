//! The file `tombstones` of a block: what was deleted of which series.
//!
//! ```text
//! 01 30 ba 30 | version 1 | { series uvarint  first varint  last varint } … | CRC-32C of the tombstones, 4 bytes
//! ```
//!
//! Both times lie inside of what is deleted; a series may come several times.

use super::crc32c;
use super::place::{self, Sink};
use crate::codec::varint::Cursor;
use crate::env::Fs;
use crate::error::{Error, Result};
use crate::model::Timestamp;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

const FILE: &str = "tombstones";
const MAGIC: u32 = 0x0130_ba30;
const VERSION: u8 = 1;
/// The most bytes such a file may have.
const BYTES_MAX: u64 = 256 << 20;

/// Deleted times by the reference of their series.
#[derive(Debug, Clone, Default)]
pub(super) struct Stones(HashMap<u64, Vec<(Timestamp, Timestamp)>>);

impl Stones {
    /// Whether the sample of `series` at `time` is deleted.
    pub(super) fn covers(&self, series: u64, time: Timestamp) -> bool {
        !self.0.is_empty()
            && self.0.get(&series).is_some_and(|all| all.iter().any(|s| s.0 <= time && time <= s.1))
    }

    /// Reads those of the block in `dir`; a block without the file has none.
    pub(super) fn read(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let bytes = match place::read_small(fs, &path, BYTES_MAX) {
            Err(error) if error.io_kind() == Some(std::io::ErrorKind::NotFound) => return Ok(Self::default()),
            read => read?,
        };
        let corrupt =
            |offset: usize, what: &str| Error::corrupt(format!("{} at {offset}: {what}", path.display()));
        let (body, crc) =
            bytes.split_last_chunk::<4>().ok_or_else(|| corrupt(0, "too short for a header"))?;
        let (magic, checked) =
            body.split_first_chunk::<4>().ok_or_else(|| corrupt(0, "too short for a header"))?;
        if u32::from_be_bytes(*magic) != MAGIC {
            return Err(corrupt(0, "not a file of tombstones"));
        }
        let (version, checked) = checked.split_first().ok_or_else(|| corrupt(4, "too short for a header"))?;
        if *version != VERSION {
            return Err(corrupt(4, "tombstones of another version; Kymo reads version 1"));
        }
        if crc32c(checked) != u32::from_be_bytes(*crc) {
            return Err(corrupt(5, "the checksum of the tombstones does not match"));
        }
        let mut cursor = Cursor::new(checked);
        let mut stones = Self::default();
        while !cursor.is_empty() {
            let at = 5 + cursor.position();
            let (Some(series), Some(first), Some(last)) =
                (cursor.uvarint(), cursor.ivarint(), cursor.ivarint())
            else {
                return Err(corrupt(at, "a tombstone is cut short"));
            };
            stones.0.entry(series).or_default().push((first, last));
        }
        Ok(stones)
    }

    /// Writes the file of a block in which nothing is deleted.
    pub(super) fn write_none(fs: &Arc<dyn Fs>, dir: &Path) -> Result<()> {
        let mut sink = Sink::create(fs, dir.join(FILE))?;
        sink.put(&MAGIC.to_be_bytes())?;
        sink.put(&[VERSION])?;
        sink.put(&crc32c(&[]).to_be_bytes())?;
        sink.finish()
    }
}

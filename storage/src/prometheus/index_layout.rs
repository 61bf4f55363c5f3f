//! The file `index` of a block: all texts, the series with their chunks, and which series have which label.
//!
//! Numbers of fixed width have their highest byte first. A *section* is `length u32 | bytes | CRC-32C of the bytes`.
//!
//! ```text
//! ba aa d7 00 | version 2
//! symbols          section: number u32 | { length uvarint, text } …      sorted
//! series           each at a multiple of 16, its reference is that offset / 16; sorted by labels:
//!                  length uvarint | labels uvarint { name uvarint, value uvarint: numbers of symbols } …
//!                  chunks uvarint { first, last, place } … | CRC-32C of what follows the length
//!                  of the first chunk: time varint, last - first uvarint, place uvarint
//!                  of the others: time - last time before uvarint, last - first uvarint, place - place before varint
//! label indices    sections that nobody reads any more; none are written
//! postings         for each label pair, and for all series, a section: number u32 | references u32 …    ascending
//! label table      section: number 0 u32
//! postings table   section: number u32 | { 2 u8, name, value: length uvarint and text, offset of the postings uvarint } …
//!                  sorted; the first, of the empty name and value, has all series
//! table of contents  offsets of symbols, series, label indices, label table, postings, postings table, u64 each | CRC-32C
//! ```

use super::crc32c;
use super::place::{Source, take_u64};
use crate::codec::varint::Cursor;
use crate::error::Result;

/// The file's name.
pub(super) const INDEX_FILE: &str = "index";
pub(super) const MAGIC: u32 = 0xbaaa_d700;
pub(super) const VERSION: u8 = 2;
pub(super) const HEADER_BYTES: u64 = 5;
/// Series begin at multiples of this.
pub(super) const SERIES_ALIGN: u64 = 16;
const TOC_BYTES: u64 = 6 * 8 + 4;

/// The table of contents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Toc {
    pub(super) symbols: u64,
    pub(super) series: u64,
    pub(super) label_indices: u64,
    pub(super) label_table: u64,
    pub(super) postings: u64,
    pub(super) postings_table: u64,
}

impl Toc {
    pub(super) fn write(&self) -> Vec<u8> {
        let Self { symbols, series, label_indices, label_table, postings, postings_table } = *self;
        let offsets = [symbols, series, label_indices, label_table, postings, postings_table];
        let mut bytes: Vec<u8> = offsets.iter().flat_map(|o| o.to_be_bytes()).collect();
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    pub(super) fn read(source: &Source) -> Result<Self> {
        let start = source.len().saturating_sub(TOC_BYTES);
        let bytes = source.bytes(start, TOC_BYTES, "the table of contents")?;
        let cut = || source.corrupt(start, "the table of contents is cut short");
        let (offsets, crc) = bytes.split_last_chunk::<4>().ok_or_else(cut)?;
        if crc32c(offsets) != u32::from_be_bytes(*crc) {
            return Err(source.corrupt(start, "the checksum of the table of contents does not match"));
        }
        let mut cursor = Cursor::new(offsets);
        let mut next = || take_u64(&mut cursor).ok_or_else(cut);
        Ok(Self {
            symbols: next()?,
            series: next()?,
            label_indices: next()?,
            label_table: next()?,
            postings: next()?,
            postings_table: next()?,
        })
    }
}

//! Immutable blocks: one file holds the samples of a time range and the index over their series.
//!
//! All integers are little endian. The file is written front to back under a name that ends in `.tmp`, synced, renamed,
//! and never changed again.
//!
//! ```text
//! header      magic "KYMOBLK1":8  version:u32  zero:u32  uuid:16  zero:28  crc:u32 of the 60 bytes before
//! DATA        pages of at most 64 KiB: payloads of values or histograms, one after another (see `chunk`); payloads of up to
//!             12 bytes lie in SERIES instead, equal payloads are stored once; a longer payload is a page of its own
//! SERIES      pages of 128 series, zstd, in the order of their labels (see `series_page.rs`)
//! TSCOL       count:u32, count+1 × { offset:u32 samples:u32 first:i64 last:i64 }, payloads; the last entry has only an
//!             offset. Each distinct column of timestamps is stored once
//! DATA_PAGES, SERIES_PAGES    for each page { offset:u64 stored:u32 raw:u32 crc:u32 }
//! NAMES       count:varint, for each label name, sorted:
//!             { length:varint name values:varint dictionary length:varint postings length:varint }
//! DICT        the dictionaries of all names, one after another (see `index::dictionary`)
//! POSTINGS    the postings of all names, one after another (see `index::postings`)
//! EXEMPLARS   if there are any: the directory of their pages, which lie among those of DATA (see `exemplars.rs`)
//! footer      n × { kind:u32 crc:u32 offset:u64 length:u64 }     kinds 1 DATA with SERIES, crc 0; 2 to 7 TSCOL, ..., POSTINGS
//!             in this order, then others that are there: 8 EXEMPLARS. A reader passes over kinds it does not know
//!             uuid:16 sequence:u64 min_time:i64 max_time:i64 series:u64 samples:u64 level:u32
//! end         crc:u32 of the footer  length of the footer:u32  magic "KYMOEND1":8
//! ```
//!
//! Version 2 is the same without start timestamps and exemplars, version 1 has no histograms either (see `series_page.rs`).
//!
//! Checks: header and footer when the file is opened; each section once, when it is first used; each page of DATA and SERIES
//! every time it is read. What fails is [`crate::ErrorKind::Corrupt`] and names the file and the offset; the rest of the
//! block stays readable.

mod check;
mod deletions;
mod exact;
mod exemplars;
mod format;
#[cfg(test)]
mod hostile;
mod label_cache;
mod label_index;
mod labels;
mod manifest;
mod quarantine;
mod reader;
mod samples;
mod sections;
mod series_page;
mod tombstone;
mod writer;

pub use check::{CheckCursor, Damage};
pub use deletions::Deletions;
pub use exact::{ExactReader, ExactSamples};
pub use format::BlockMeta;
pub(crate) use format::{VERSION, later_version};
pub use labels::NO_VALUE;
pub(crate) use manifest::MANIFEST_TEMPORARY;
pub use manifest::{Manifest, ManifestBlock, new_uuid};
pub use quarantine::{Quarantined, quarantine, quarantined_blocks};
pub use reader::Block;
pub use samples::BlockReader;
pub(crate) use tombstone::TOMBSTONES_TEMPORARY;
pub use tombstone::{TOMBSTONES_FILE, TOMBSTONES_MAX, Tombstone, load_tombstones, store_tombstones};
pub use writer::{BlockSpec, BlockWriter, SeriesContent};

/// The ending of a block's file name.
pub const BLOCK_EXTENSION: &str = "block";

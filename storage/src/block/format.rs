//! The fixed parts of a block file: header, section table, page directories, footer.

use crate::codec::crc::crc32;
use crate::model::{TimeRange, Timestamp};

/// First bytes of the file.
pub(super) const MAGIC: [u8; 8] = *b"KYMOBLK1";
/// Last bytes of the file.
pub(super) const END_MAGIC: [u8; 8] = *b"KYMOEND1";
/// The version this code writes: 2 has native histograms, 3 start timestamps and exemplars.
pub(crate) const VERSION: u32 = 3;
/// The oldest version this code reads.
pub(super) const VERSION_MIN: u32 = 1;
pub(super) const HEADER_BYTES: usize = 64;
const HEADER_CHECKED: usize = 60;
/// What follows the footer: crc, length, magic.
pub(super) const END_BYTES: usize = 16;
/// The largest DATA page of more than one payload.
pub(super) const DATA_PAGE_BYTES: usize = 64 << 10;
/// The largest DATA page: a chunk of wide histograms has one of its own.
pub(super) const DATA_PAGE_BYTES_MAX: usize = 8 << 20;
/// Payloads up to this size lie in SERIES.
pub(super) const INLINE_BYTES: usize = 12;
/// How many series share a SERIES page.
pub(super) const SERIES_PER_PAGE: u32 = 128;
/// The largest SERIES page before compression.
pub(super) const SERIES_PAGE_BYTES_MAX: usize = 64 << 20;
const SECTION_BYTES: usize = 24;
const META_BYTES: usize = 60;
/// A footer with more sections is none of ours.
const SECTIONS_MAX: usize = 64;
/// Bytes of one entry of a page directory.
pub(super) const PAGE_ENTRY_BYTES: usize = 20;

/// A part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    /// DATA and SERIES together; their pages have their own checksums.
    Pages,
    Tscol,
    DataPages,
    SeriesPages,
    Names,
    Dict,
    Postings,
    /// From version 3 on, if there are any.
    Exemplars,
}

impl Section {
    pub(super) const ALL: [Self; 8] = [
        Self::Pages,
        Self::Tscol,
        Self::DataPages,
        Self::SeriesPages,
        Self::Names,
        Self::Dict,
        Self::Postings,
        Self::Exemplars,
    ];
    /// So many are in every file, in this order; the others are optional.
    const REQUIRED: usize = 7;

    /// The place in the section table; the stored kind is one more.
    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn name(self) -> &'static str {
        ["DATA", "TSCOL", "DATA_PAGES", "SERIES_PAGES", "NAMES", "DICT", "POSTINGS", "EXEMPLARS"]
            [self.index()]
    }
}

/// Where each section lies, by [`Section::index`]. One that is not there is empty.
pub(super) type Sections = [Extent; Section::ALL.len()];

/// Where a section lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) crc: u32,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Where a page lies and what it must hash to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageEntry {
    pub(super) offset: u64,
    pub(super) stored: u32,
    pub(super) raw: u32,
    pub(super) crc: u32,
}

impl PageEntry {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_le_bytes());
        [self.stored, self.raw, self.crc].iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
    }

    pub(super) fn read(bytes: &[u8; PAGE_ENTRY_BYTES]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self { offset: fields.u64()?, stored: fields.u32()?, raw: fields.u32()?, crc: fields.u32()? })
    }
}

/// What a block says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockMeta {
    /// The identity of the file's content.
    pub uuid: [u8; 16],
    /// On equal timestamps the samples of the block with the higher sequence win.
    pub sequence: u64,
    /// Milliseconds; the first sample of the block (`i64::MAX` if it has none).
    pub min_time: Timestamp,
    /// Milliseconds; the last sample of the block (`i64::MIN` if it has none).
    pub max_time: Timestamp,
    /// How many series.
    pub series: u64,
    /// How many samples.
    pub samples: u64,
    /// How often its samples have been merged: 0 for a flush of the head.
    pub level: u32,
}

impl BlockMeta {
    /// From the first to the last sample.
    pub fn range(&self) -> TimeRange {
        if self.samples == 0 { TimeRange::new(0, 0) } else { TimeRange::closed(self.min_time, self.max_time) }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.uuid);
        out.extend_from_slice(&self.sequence.to_le_bytes());
        out.extend_from_slice(&self.min_time.to_le_bytes());
        out.extend_from_slice(&self.max_time.to_le_bytes());
        out.extend_from_slice(&self.series.to_le_bytes());
        out.extend_from_slice(&self.samples.to_le_bytes());
        out.extend_from_slice(&self.level.to_le_bytes());
    }

    pub(super) fn read(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            uuid: *fields.array()?,
            sequence: fields.u64()?,
            min_time: fields.i64()?,
            max_time: fields.i64()?,
            series: fields.u64()?,
            samples: fields.u64()?,
            level: fields.u32()?,
        })
    }
}

/// A reader of fixed-size fields.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(field)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(|b| u32::from_le_bytes(*b))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(|b| u64::from_le_bytes(*b))
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(|b| i64::from_le_bytes(*b))
    }
}

/// The header of a block.
pub(super) fn write_header(uuid: &[u8; 16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(uuid);
    out.resize(HEADER_CHECKED, 0);
    out.extend_from_slice(&crc32(0, &out).to_le_bytes());
    out
}

/// The version of a block that a later release wrote, from its first bytes.
pub(crate) fn later_version(bytes: &[u8]) -> Option<u32> {
    let header = bytes.get(..HEADER_BYTES)?;
    let version = Fields(header.strip_prefix(&MAGIC)?).u32()?;
    let crc = Fields(header.get(HEADER_CHECKED..)?).u32()?;
    (version > VERSION && crc32(0, header.get(..HEADER_CHECKED)?) == crc).then_some(version)
}

/// Checks a header and gives format version and uuid, or says what is wrong.
pub(super) fn read_header(bytes: &[u8]) -> Result<(u32, [u8; 16]), String> {
    let mut fields = Fields(bytes);
    let parsed = (|| {
        let magic = fields.array::<8>()?;
        let version = fields.u32()?;
        fields.u32()?;
        let uuid = *fields.array::<16>()?;
        fields.array::<28>()?;
        Some((magic, version, uuid, fields.u32()?))
    })();
    let Some((magic, version, uuid, crc)) = parsed else { return Err("the header is cut off".to_owned()) };
    if *magic != MAGIC {
        return Err("the header is not that of a block".to_owned());
    }
    if bytes.get(..HEADER_CHECKED).map(|b| crc32(0, b)) != Some(crc) {
        return Err("the header fails its checksum".to_owned());
    }
    if !(VERSION_MIN..=VERSION).contains(&version) {
        let known = format!("{VERSION_MIN} to {VERSION}");
        return Err(format!("the block has format version {version}, this program reads {known}"));
    }
    Ok((version, uuid))
}

/// Footer and end of a block. Optional sections that are empty are left out.
pub(super) fn write_footer(sections: &Sections, meta: &BlockMeta) -> Vec<u8> {
    let mut out = Vec::with_capacity(TAIL_BYTES_MAX);
    for (index, extent) in sections.iter().enumerate() {
        if index >= Section::REQUIRED && extent.length == 0 {
            continue;
        }
        out.extend_from_slice(&(index as u32 + 1).to_le_bytes());
        out.extend_from_slice(&extent.crc.to_le_bytes());
        out.extend_from_slice(&extent.offset.to_le_bytes());
        out.extend_from_slice(&extent.length.to_le_bytes());
    }
    meta.write(&mut out);
    let (crc, length) = (crc32(0, &out), out.len() as u32);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&END_MAGIC);
    out
}

/// Checks and reads the footer at the end of a file of `file_bytes` bytes, of which `tail` are the last (see
/// [`TAIL_BYTES_MAX`]); or says what is wrong. Every section lies inside the file. Sections this release does not know are
/// passed over.
pub(super) fn read_footer(tail: &[u8], file_bytes: u64) -> Result<(Sections, BlockMeta), String> {
    let cut_off = || "the footer is cut off or not that of a block".to_owned();
    let (before, end) = tail
        .len()
        .checked_sub(END_BYTES)
        .and_then(|start| tail.split_at_checked(start))
        .ok_or_else(cut_off)?;
    let mut fields = Fields(end);
    let (crc, length) = (fields.u32(), fields.u32().unwrap_or(0) as usize);
    let sections = length.saturating_sub(META_BYTES) / SECTION_BYTES;
    let is_sound = (Section::REQUIRED..=SECTIONS_MAX).contains(&sections)
        && length == sections * SECTION_BYTES + META_BYTES
        && fields.array() == Some(&END_MAGIC);
    let footer = before.len().checked_sub(length).filter(|_| is_sound).and_then(|start| before.get(start..));
    let footer = footer.ok_or_else(cut_off)?;
    if crc != Some(crc32(0, footer)) {
        return Err("the footer fails its checksum".to_owned());
    }
    parse_footer(footer, sections, file_bytes)
        .ok_or_else(|| "the footer names sections outside of the file".to_owned())
}

fn parse_footer(footer: &[u8], count: usize, file_bytes: u64) -> Option<(Sections, BlockMeta)> {
    let mut fields = Fields(footer);
    let mut sections = Sections::default();
    for number in 0..count {
        let index = (fields.u32()? as usize).checked_sub(1)?;
        let extent = Extent { crc: fields.u32()?, offset: fields.u64()?, length: fields.u64()? };
        let end = extent.offset.checked_add(extent.length)?;
        if end > file_bytes || (number < Section::REQUIRED && index != number) {
            return None;
        }
        if let Some(section) = sections.get_mut(index) {
            *section = extent;
        }
    }
    Some((sections, BlockMeta::read(&mut fields)?))
}

/// How many bytes at the end of a file [`read_footer`] needs at most.
pub(super) const TAIL_BYTES_MAX: usize = SECTIONS_MAX * SECTION_BYTES + META_BYTES + END_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn diagrams() {
        let uuid = *b"0123456789abcdef";
        let header = write_header(&uuid);
        assert_eq!(header.len(), HEADER_BYTES);
        assert_eq!(header[..12], *b"KYMOBLK1\x03\0\0\0");
        assert_eq!(header[16..32], uuid);
        assert_eq!(read_header(&header), Ok((3, uuid)));
        let meta =
            BlockMeta { uuid, sequence: 7, min_time: -5, max_time: 9, series: 2, samples: 3, level: 1 };
        let mut sections = Sections::from(std::array::from_fn(|i| Extent {
            crc: i as u32,
            offset: 64 + i as u64,
            length: 10,
        }));
        let with_all = write_footer(&sections, &meta);
        assert_eq!(with_all.len(), 8 * 24 + 60 + 16);
        assert_eq!(read_footer(&with_all, 1000), Ok((sections, meta)));
        sections[Section::Exemplars.index()] = Extent::default();
        let footer = write_footer(&sections, &meta);
        assert_eq!(footer.len(), 7 * 24 + 60 + 16);
        assert_eq!(footer[..4], [1, 0, 0, 0]);
        assert_eq!(footer[7 * 24..7 * 24 + 16], uuid);
        assert_eq!(footer[7 * 24 + 16], 7);
        assert_eq!(footer[footer.len() - 8..], END_MAGIC);
        assert_eq!(read_footer(&footer, 1000), Ok((sections, meta)));
        assert!(read_footer(&footer, 70).is_err());
        for at in 0..footer.len() {
            let mut bad = footer.clone();
            bad[at] ^= 1;
            assert!(read_footer(&bad, 1000).is_err(), "{at}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let mut header = write_header(&[0; 16]);
        header[8] = 4;
        let crc = crc32(0, &header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        assert!(read_header(&header).unwrap_err().contains("version 4"));
        assert_eq!(later_version(&header), Some(4));
        assert_eq!(later_version(&write_header(&[0; 16])), None);
        for at in 0..header.len() {
            header[at] ^= 1;
            assert_eq!(later_version(&header), None, "{at}");
            header[at] ^= 1;
            assert_eq!(later_version(&header[..at]), None, "{at}");
        }
    }
}

//! A page of SERIES: the labels and chunks of up to 128 series, before compression.
//!
//! ```text
//! series      shared:varint rest:varint, rest × { name:varint value:varint }, (chunks << 1 | more):varint
//!             if more = 1: features:varint; chunk entries; these are of floats
//!             if features & 1: chunks:varint, chunk entries; these are of histograms
//!             shared: how many leading labels are those of the series before (0 for the first of a page);
//!             name and value are numbers in NAMES and in the dictionary of the name
//! chunk       column:zigzag head:varint, then head & 1 = 1: head >> 1 bytes, the payload itself
//!                                             head & 1 = 0: position:zigzag of a payload of head >> 1 bytes in DATA
//!             if features & 2: the same from `head` on for the start timestamps (see `chunk::starts`; 0 bytes: none)
//! ```
//! `column` is the difference to the column expected: for the first chunk that of the first chunk of the same kind of the
//! series before, then the one after the last. `position` is the difference to where the last payload ended, with a position being
//! `page * 2^16 + offset`. Expectations start at 0 on each page. In version 2 of the format there is no `features` and `more` says
//! that there are histograms; in version 1 a series has `chunks:varint` and chunks of floats only.

use super::format::{SERIES_PER_PAGE, VERSION_MIN};
use crate::codec::varint::{Cursor, put_ivarint, put_uvarint};

/// Where a payload lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes `start..start + length` of the page.
    Inline { start: u32, length: u32 },
    /// In DATA at `page * 2^16 + offset`.
    Stored { position: u64, length: u32 },
}

/// One chunk of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ChunkEntry {
    pub(super) column: u32,
    pub(super) place: Place,
    /// Where the start timestamps are, if any is known.
    pub(super) starts: Option<Place>,
}

/// The payload of a chunk to be written.
#[derive(Debug, Clone, Copy)]
pub(super) enum NewPlace<'a> {
    Inline(&'a [u8]),
    Stored { position: u64, length: u32 },
}

/// One chunk of a series to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewChunk<'a> {
    pub(super) column: u32,
    pub(super) place: NewPlace<'a>,
    /// Empty if no start timestamp is known.
    pub(super) starts: NewPlace<'a>,
}

/// The series has histograms.
const HISTOGRAMS: u64 = 1;
/// Each chunk of the series says where its start timestamps are.
const STARTS: u64 = 2;

/// What the next entry is expected to be.
#[derive(Debug, Default, Clone, Copy)]
struct Expected {
    first_column: u32,
    first_histogram_column: u32,
    column: u32,
    position: u64,
}

/// The chunks of a series to be written: the column of timestamps and the payload of each.
#[derive(Debug, Default)]
pub(super) struct NewChunks<'a> {
    pub(super) floats: Vec<NewChunk<'a>>,
    pub(super) histograms: Vec<NewChunk<'a>>,
    /// Whether any has start timestamps.
    pub(super) has_starts: bool,
}

/// Writes pages.
#[derive(Debug, Default)]
pub(super) struct PageBuilder {
    bytes: Vec<u8>,
    series: u32,
    labels: Vec<(u32, u32)>,
    expected: Expected,
}

impl PageBuilder {
    /// Adds a series with its labels and chunks.
    pub(super) fn push(&mut self, labels: &[(u32, u32)], chunks: &NewChunks<'_>) {
        let shared = labels.iter().zip(&self.labels).take_while(|(a, b)| a == b).count();
        let rest = labels.get(shared..).unwrap_or_default();
        put_uvarint(&mut self.bytes, shared as u64);
        put_uvarint(&mut self.bytes, rest.len() as u64);
        for (name, value) in rest {
            put_uvarint(&mut self.bytes, u64::from(*name));
            put_uvarint(&mut self.bytes, u64::from(*value));
        }
        self.labels.clear();
        self.labels.extend_from_slice(labels);
        let NewChunks { floats, histograms, has_starts } = chunks;
        let mut features = if histograms.is_empty() { 0 } else { HISTOGRAMS };
        features |= if *has_starts { STARTS } else { 0 };
        put_uvarint(&mut self.bytes, (floats.len() as u64) << 1 | u64::from(features != 0));
        if features != 0 {
            put_uvarint(&mut self.bytes, features);
        }
        self.expected.column = self.expected.first_column;
        self.push_chunks(floats, *has_starts);
        if let Some(first) = floats.first() {
            self.expected.first_column = first.column;
        }
        if let Some(first) = histograms.first() {
            put_uvarint(&mut self.bytes, histograms.len() as u64);
            self.expected.column = self.expected.first_histogram_column;
            self.push_chunks(histograms, *has_starts);
            self.expected.first_histogram_column = first.column;
        }
        self.series += 1;
    }

    fn push_chunks(&mut self, chunks: &[NewChunk<'_>], has_starts: bool) {
        for NewChunk { column, place, starts } in chunks {
            put_ivarint(&mut self.bytes, i64::from(*column).wrapping_sub(i64::from(self.expected.column)));
            self.expected.column = column.wrapping_add(1);
            self.push_place(place);
            if has_starts {
                self.push_place(starts);
            }
        }
    }

    fn push_place(&mut self, place: &NewPlace<'_>) {
        match place {
            NewPlace::Inline(payload) => {
                put_uvarint(&mut self.bytes, (payload.len() as u64) << 1 | 1);
                self.bytes.extend_from_slice(payload);
            }
            NewPlace::Stored { position, length } => {
                put_uvarint(&mut self.bytes, u64::from(*length) << 1);
                put_ivarint(&mut self.bytes, position.wrapping_sub(self.expected.position) as i64);
                self.expected.position = position.wrapping_add(u64::from(*length));
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.series == SERIES_PER_PAGE
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series == 0
    }

    /// The bytes of the page; the builder starts the next one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(self).bytes
    }
}

/// A page taken apart.
#[derive(Debug, Default)]
pub(super) struct SeriesPage {
    bytes: Vec<u8>,
    labels: Vec<(u32, u32)>,
    chunks: Vec<ChunkEntry>,
    /// For each series, where its labels and its chunks end.
    ends: Vec<(u32, u32)>,
    /// The chunks of histograms of the few series that have any, by number of the series.
    histograms: Vec<(u32, Vec<ChunkEntry>)>,
}

impl SeriesPage {
    /// Takes a page of `series` series in format `version` apart; `None` if the bytes are not one.
    pub(super) fn parse(bytes: Vec<u8>, series: u32, version: u32) -> Option<Self> {
        let mut page = Self::default();
        let mut expected = Expected::default();
        let mut reader = Cursor::new(&bytes);
        let mut last_labels = 0..0;
        for number in 0..series {
            let start = page.labels.len();
            let shared = usize::try_from(reader.uvarint()?).ok()?;
            if shared > last_labels.len() {
                return None;
            }
            page.labels.extend_from_within(last_labels.start..last_labels.start + shared);
            let rest = reader.uvarint()?;
            for _ in 0..rest {
                // Each label takes at least two bytes, so the loop ends with the page.
                let name = u32::try_from(reader.uvarint()?).ok()?;
                page.labels.push((name, u32::try_from(reader.uvarint()?).ok()?));
            }
            last_labels = start..page.labels.len();
            let head = reader.uvarint()?;
            let (chunks, features) = match version {
                VERSION_MIN => (head, 0),
                2 => (head >> 1, head & HISTOGRAMS),
                _ => (head >> 1, if head & 1 == 1 { reader.uvarint()? } else { 0 }),
            };
            if features > (HISTOGRAMS | STARTS) {
                return None;
            }
            let has_starts = features & STARTS != 0;
            expected.column = expected.first_column;
            let first = page.chunks.len();
            for _ in 0..chunks {
                page.chunks.push(parse_chunk(&mut reader, &mut expected, has_starts)?);
            }
            expected.first_column = page.chunks.get(first).map_or(expected.first_column, |c| c.column);
            if features & HISTOGRAMS != 0 {
                expected.column = expected.first_histogram_column;
                let mut entries = Vec::new();
                for _ in 0..reader.uvarint()? {
                    entries.push(parse_chunk(&mut reader, &mut expected, has_starts)?);
                }
                expected.first_histogram_column = entries.first()?.column;
                page.histograms.push((number, entries));
            }
            page.ends.push((u32::try_from(page.labels.len()).ok()?, u32::try_from(page.chunks.len()).ok()?));
        }
        let is_whole = reader.is_empty();
        page.bytes = bytes;
        is_whole.then_some(page)
    }

    fn ends_before(&self, index: usize) -> (u32, u32) {
        index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default()
    }

    /// The labels of a series as numbers of names and values; none if there is no such series.
    pub(super) fn labels(&self, index: usize) -> &[(u32, u32)] {
        let start = self.ends_before(index).0 as usize;
        let end = self.ends.get(index).map_or(start, |e| e.0 as usize);
        self.labels.get(start..end).unwrap_or_default()
    }

    /// The chunks of histograms of a series; none for most.
    #[inline]
    pub(super) fn histogram_chunks(&self, index: usize) -> &[ChunkEntry] {
        let found = self.histograms.binary_search_by_key(&index, |(number, _)| *number as usize);
        found.ok().and_then(|at| self.histograms.get(at)).map_or(&[], |(_, chunks)| chunks)
    }

    /// The chunks of floats of a series; none if there is no such series.
    pub(super) fn chunks(&self, index: usize) -> &[ChunkEntry] {
        let start = self.ends_before(index).1 as usize;
        let end = self.ends.get(index).map_or(start, |e| e.1 as usize);
        self.chunks.get(start..end).unwrap_or_default()
    }

    /// An inline payload.
    pub(super) fn inline(&self, start: u32, length: u32) -> &[u8] {
        self.bytes.get(start as usize..).and_then(|b| b.get(..length as usize)).unwrap_or_default()
    }
}

fn parse_chunk(reader: &mut Cursor<'_>, expected: &mut Expected, has_starts: bool) -> Option<ChunkEntry> {
    let column = u32::try_from(i64::from(expected.column).checked_add(reader.ivarint()?)?).ok()?;
    expected.column = column.wrapping_add(1);
    let place = parse_place(reader, expected)?;
    let starts = if has_starts { Some(parse_place(reader, expected)?) } else { None };
    let starts = starts.filter(|place| !matches!(place, Place::Inline { length: 0, .. }));
    Some(ChunkEntry { column, place, starts })
}

fn parse_place(reader: &mut Cursor<'_>, expected: &mut Expected) -> Option<Place> {
    let head = reader.uvarint()?;
    let length = u32::try_from(head >> 1).ok()?;
    if head & 1 == 1 {
        let start = u32::try_from(reader.position()).ok()?;
        reader.bytes(length as usize)?;
        return Some(Place::Inline { start, length });
    }
    let position = expected.position.wrapping_add(reader.ivarint()? as u64);
    expected.position = position.wrapping_add(u64::from(length));
    Some(Place::Stored { position, length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunk(column: u32, place: NewPlace<'_>) -> NewChunk<'_> {
        NewChunk { column, place, starts: NewPlace::Inline(&[]) }
    }

    #[test]
    fn diagram() {
        let mut builder = PageBuilder::default();
        let floats = vec![chunk(3, NewPlace::Inline(b"xy"))];
        builder.push(&[(0, 5), (1, 2)], &NewChunks { floats, ..NewChunks::default() });
        let floats = vec![
            chunk(3, NewPlace::Stored { position: 2, length: 200 }),
            chunk(4, NewPlace::Stored { position: 202, length: 9 }),
        ];
        let histograms = vec![chunk(7, NewPlace::Stored { position: 211, length: 5 })];
        builder.push(&[(0, 5), (1, 3)], &NewChunks { floats, histograms, has_starts: false });
        let bytes = builder.take();
        let expected = b"\x00\x02\x00\x05\x01\x02\x02\x06\x05xy\
            \x01\x01\x01\x03\x05\x01\x00\x90\x03\x04\x00\x12\x00\x01\x0e\x0a\x00"
            .to_vec();
        assert_eq!(bytes, expected);
        let page = SeriesPage::parse(bytes.clone(), 2, 3).unwrap();
        assert_eq!(page.labels(1), [(0, 5), (1, 3)]);
        let place = Place::Inline { start: 9, length: 2 };
        assert_eq!(page.chunks(0), [ChunkEntry { column: 3, place, starts: None }]);
        assert_eq!(page.inline(9, 2), b"xy");
        assert_eq!(page.chunks(1)[1].place, Place::Stored { position: 202, length: 9 });
        let place = Place::Stored { position: 211, length: 5 };
        let histograms = [ChunkEntry { column: 7, place, starts: None }];
        assert_eq!((page.histogram_chunks(0), page.histogram_chunks(1)), (&[][..], &histograms[..]));
        assert_eq!((page.labels(2), page.chunks(2)), (&[][..], &[][..]));
        assert!(SeriesPage::parse(bytes[..20].to_vec(), 2, 3).is_none());
        let mut second = bytes;
        second.remove(16);
        let second = SeriesPage::parse(second, 2, 2).unwrap();
        assert_eq!((second.chunks(1), second.histogram_chunks(1)), (page.chunks(1), &histograms[..]));
        let first = b"\x00\x02\x00\x05\x01\x02\x01\x06\x05xy".to_vec();
        assert_eq!(SeriesPage::parse(first, 1, 1).unwrap().chunks(0), page.chunks(0));
    }

    #[test]
    fn diagram_of_start_timestamps() {
        let mut builder = PageBuilder::default();
        let starts = NewPlace::Stored { position: 200, length: 30 };
        let floats = vec![
            NewChunk { starts, ..chunk(0, NewPlace::Stored { position: 0, length: 200 }) },
            chunk(1, NewPlace::Inline(b"x")),
        ];
        builder.push(&[], &NewChunks { floats, has_starts: true, ..NewChunks::default() });
        let bytes = builder.take();
        assert_eq!(bytes, b"\x00\x00\x05\x02\x00\x90\x03\x00\x3c\x00\x00\x03x\x01");
        let page = SeriesPage::parse(bytes, 1, 3).unwrap();
        let starts = [Some(Place::Stored { position: 200, length: 30 }), None];
        assert_eq!(page.chunks(0).iter().map(|c| c.starts).collect::<Vec<_>>(), starts);
        assert!(
            SeriesPage::parse(b"\x00\x00\x01\x04".to_vec(), 1, 3).is_none(),
            "a feature of a later release"
        );
    }

    proptest! {
        #![proptest_config(crate::tests::cases(500))]

        #[test]
        fn hostile_bytes_do_no_harm(bytes in proptest::collection::vec(0_u8..9, 0..60), series in 0_u32..9, version in 1_u32..4) {
            if let Some(page) = SeriesPage::parse(bytes, series, version) {
                prop_assert!((0..9).all(|i| page.chunks(i).len() + page.histogram_chunks(i).len() < 60 && page.labels(i).len() < 600));
            }
        }
    }
}

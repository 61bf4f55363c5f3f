//! Exemplars of a block: pages of their own, in the order of series.
//!
//! ```text
//! EXEMPLARS   for each page { first series:u32 offset:u64 stored:u32 raw:u32 crc:u32 }
//! page        (zstd) to the end: series: difference to the one before (first: the directory's):varint count:varint,
//!             count × { time: difference to the one before:zigzag value bits:8 labels length:varint labels }
//! ```
//! The exemplars of a series are in the order of [`crate::model::Exemplar::follows`], the first told against time 0; those of
//! a series with many go on in the next page.

use super::format::{PAGE_ENTRY_BYTES, PageEntry, Section};
use super::reader::Block;
use crate::codec::compress::zstd_decode;
use crate::codec::varint::{Cursor, put_bytes, put_ivarint, put_uvarint};
use crate::error::Result;
use crate::model::{Exemplar, Labels, TimeRange};
use roaring::RoaringBitmap;

/// A page is closed when it has so many bytes.
const PAGE_BYTES: usize = 64 << 10;
/// The largest page: one more exemplar than fits, with labels as long as can be.
const PAGE_BYTES_MAX: usize = 2 * PAGE_BYTES;
const ENTRY_BYTES: usize = 4 + PAGE_ENTRY_BYTES;

/// The open page.
#[derive(Debug, Default)]
pub(super) struct ExemplarPage {
    bytes: Vec<u8>,
    first_series: u32,
    last_series: u32,
}

impl ExemplarPage {
    /// Adds exemplars of a series not below those before; answers how many fit into the page.
    pub(super) fn add(&mut self, series: u32, exemplars: &[Exemplar]) -> usize {
        if self.bytes.is_empty() {
            (self.first_series, self.last_series) = (series, series);
        }
        let (mut taken, mut time, mut body) = (0, 0, Vec::new());
        while let Some(exemplar) = exemplars.get(taken).filter(|_| self.bytes.len() + body.len() < PAGE_BYTES)
        {
            put_ivarint(&mut body, exemplar.timestamp.wrapping_sub(time));
            time = exemplar.timestamp;
            body.extend_from_slice(&exemplar.value.to_bits().to_le_bytes());
            put_bytes(&mut body, exemplar.labels.as_bytes());
            taken += 1;
        }
        put_uvarint(&mut self.bytes, u64::from(series.saturating_sub(self.last_series)));
        put_uvarint(&mut self.bytes, taken as u64);
        self.bytes.extend_from_slice(&body);
        self.last_series = series;
        taken
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= PAGE_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The first series and the bytes of the page; the next one begins.
    pub(super) fn take(&mut self) -> (u32, Vec<u8>) {
        (self.first_series, std::mem::take(&mut self.bytes))
    }
}

/// Appends an entry of the directory.
pub(super) fn put_entry(first_series: u32, entry: &PageEntry, out: &mut Vec<u8>) {
    out.extend_from_slice(&first_series.to_le_bytes());
    entry.write(out);
}

impl Block {
    /// Whether any series has exemplars.
    pub fn has_exemplars(&self) -> bool {
        self.section_bytes(Section::Exemplars) > 0
    }

    /// Calls `visit` with the exemplars in `range` of the series numbered in `series`: in the order of series, then of time.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] if the directory or a page that is needed is damaged.
    pub fn read_exemplars(
        &self,
        series: &RoaringBitmap,
        range: TimeRange,
        visit: &mut dyn FnMut(u32, Exemplar),
    ) -> Result<()> {
        let (entries, rest) = self.section(Section::Exemplars)?.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(self.corrupt(Section::Exemplars, "the directory is cut off"));
        }
        let first_of = |entry: &[u8; ENTRY_BYTES]| entry.first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
        for (number, entry) in entries.iter().enumerate() {
            let first = first_of(entry);
            let last = entries.get(number + 1).map_or(u32::MAX, first_of);
            if first > last {
                return Err(self.corrupt(Section::Exemplars, "the directory is not in order"));
            }
            if series.range(first..=last).next().is_none() {
                continue;
            }
            let page = entry.last_chunk::<PAGE_ENTRY_BYTES>().and_then(PageEntry::read);
            let raw = page
                .ok_or_else(|| self.corrupt(Section::Exemplars, "no entry"))
                .and_then(|e| self.exemplar_page(number as u32, &e))?;
            parse(&raw, first, &mut |number, exemplar| {
                if series.contains(number) && range.contains(exemplar.timestamp) {
                    visit(number, exemplar);
                }
            })
            .ok_or_else(|| self.corrupt(Section::Exemplars, format!("page {number} holds no exemplars")))?;
        }
        Ok(())
    }

    /// A page, checked and decompressed.
    fn exemplar_page(&self, page: u32, entry: &PageEntry) -> Result<Vec<u8>> {
        let stored = self.read_page("EXEMPLARS", page, entry, PAGE_BYTES_MAX)?;
        let mut raw = Vec::new();
        zstd_decode(&stored, entry.raw as usize, &mut raw).map_err(|_| {
            self.corrupt(
                Section::Exemplars,
                format!("page {page} at {} cannot be decompressed", entry.offset),
            )
        })?;
        Ok(raw)
    }
}

fn parse(bytes: &[u8], first: u32, visit: &mut dyn FnMut(u32, Exemplar)) -> Option<()> {
    let mut cursor = Cursor::new(bytes);
    let mut series = first;
    while !cursor.is_empty() {
        series = series.checked_add(u32::try_from(cursor.uvarint()?).ok()?)?;
        let mut timestamp = 0i64;
        for _ in 0..cursor.uvarint()? {
            // Each takes ten bytes at least, so the loop ends with the page.
            timestamp = timestamp.wrapping_add(cursor.ivarint()?);
            let value = cursor.f64()?;
            let labels = Labels::from_wire(cursor.prefixed()?).ok()?;
            visit(series, Exemplar { labels, value, timestamp });
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exemplar(id: &str, value: f64, timestamp: i64) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("t", id)]), value, timestamp }
    }

    fn parsed(bytes: &[u8], first: u32) -> Option<Vec<(u32, Exemplar)>> {
        let mut found = Vec::new();
        parse(bytes, first, &mut |series, exemplar| found.push((series, exemplar)))?;
        Some(found)
    }

    #[test]
    fn diagram() {
        let mut page = ExemplarPage::default();
        assert_eq!(page.add(7, &[exemplar("a", 1.0, 10), exemplar("b", -0.0, 8)]), 2);
        assert_eq!(page.add(9, &[exemplar("c", f64::NAN, 3)]), 1);
        let (first, bytes) = page.take();
        let label = |id: u8| [8, 0x0a, 6, 0x0a, 1, b't', 0x12, 1, id];
        let expected = [
            &[0, 2, 20][..],
            &1f64.to_le_bytes(),
            &label(b'a'),
            &[3],
            &(-0.0f64).to_le_bytes(),
            &label(b'b'),
            &[2, 1, 6],
            &f64::NAN.to_le_bytes(),
            &label(b'c'),
        ]
        .concat();
        assert_eq!((first, &bytes), (7, &expected));
        let found = parsed(&bytes, 7).unwrap();
        assert_eq!(found.iter().map(|f| f.0).collect::<Vec<_>>(), [7, 7, 9]);
        assert_eq!(found[1].1, exemplar("b", -0.0, 8));
        assert!(parsed(&bytes[..bytes.len() - 1], 7).is_none());
        assert!(parsed(&[1, 0], u32::MAX).is_none(), "a number that cannot be");
    }

    #[test]
    fn a_page_takes_what_fits() {
        let many: Vec<Exemplar> = (0..5000).map(|i| exemplar(&"x".repeat(100), 0.0, i)).collect();
        let (mut page, mut rest, mut pages) = (ExemplarPage::default(), &many[..], 0);
        while !rest.is_empty() {
            let taken = page.add(3, rest);
            assert!(taken > 0 && page.is_full() == (taken < rest.len()));
            rest = &rest[taken..];
            let (first, bytes) = page.take();
            assert!(bytes.len() < PAGE_BYTES_MAX && first == 3);
            pages += 1;
        }
        assert!((8..14).contains(&pages), "{pages}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(0u8..20, 0..80), first: u32) {
            parsed(&bytes, first);
        }
    }
}

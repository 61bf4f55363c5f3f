//! Reads the file `index` of a block (version 2), see [`super::index_layout`].

use super::crc32c;
use super::index_layout::{INDEX_FILE, MAGIC, SERIES_ALIGN, Toc, VERSION};
use super::index_writer::IndexedChunk;
use super::place::{Source, take_u32};
use crate::codec::varint::Cursor;
use crate::env::Fs;
use crate::error::Result;
use crate::model::Labels;
use std::path::Path;
use std::sync::Arc;

/// An open index. Memory: four bytes for each symbol and each series; the rest stays in the file.
#[derive(Debug)]
pub(super) struct IndexReader {
    source: Source,
    /// Where the section of symbols begins (behind its length), and where in it each symbol does.
    symbols_at: u64,
    symbols: Vec<u32>,
    /// References of all series, in the order of their labels.
    series: Vec<u32>,
}

impl IndexReader {
    pub(super) fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self> {
        let source = Source::open(fs, dir.join(INDEX_FILE))?;
        source.header(MAGIC, VERSION, "index")?;
        let toc = Toc::read(&source)?;
        let symbols = symbols(&source, toc.symbols)?;
        let series = all_series(&source, toc.postings_table)?;
        Ok(Self { symbols_at: toc.symbols.saturating_add(4), source, symbols, series })
    }

    /// References of all series.
    pub(super) fn series(&self) -> &[u32] {
        &self.series
    }

    fn symbol(&self, number: u32, offset: u64) -> Result<&str> {
        let Some(at) = self.symbols.get(number as usize) else {
            let have = self.symbols.len();
            return Err(self
                .source
                .corrupt(offset, format_args!("symbol {number} of a series; there are {have}")));
        };
        let start = self.symbols_at + u64::from(*at);
        let text = Cursor::new(self.source.rest(start, "a symbol")?).prefixed_str();
        text.ok_or_else(|| self.source.corrupt(start, "a symbol is not text"))
    }

    /// The labels and the chunks of a series.
    pub(super) fn read(&self, reference: u32, chunks: &mut Vec<IndexedChunk>) -> Result<Labels> {
        let offset = u64::from(reference) * SERIES_ALIGN;
        let cut = || self.source.corrupt(offset, "a series is cut short");
        let mut cursor = Cursor::new(self.source.rest(offset, "a series")?);
        let length = cursor.uvarint().ok_or_else(cut)?;
        let start = offset + cursor.position() as u64;
        let entry = self.source.bytes(start, length, "a series")?;
        let stored = self.source.number(start.saturating_add(length), "the checksum of a series")?;
        if crc32c(entry) != stored {
            return Err(self.source.corrupt(offset, "the checksum of a series does not match"));
        }
        let mut cursor = Cursor::new(entry);
        let count = cursor.count(2).ok_or_else(cut)?;
        let mut pairs = Vec::with_capacity(count);
        for _ in 0..count {
            let (name, value) = cursor.uvarint32().zip(cursor.uvarint32()).ok_or_else(cut)?;
            pairs.push((self.symbol(name, offset)?, self.symbol(value, offset)?));
        }
        if pairs.iter().any(|pair| pair.0.is_empty()) || !pairs.windows(2).all(|w| w[0].0 < w[1].0) {
            return Err(self.source.corrupt(offset, "the labels of a series are not sorted names"));
        }
        self.read_chunks(&mut cursor, offset, chunks)?;
        Ok(Labels::from_sorted_pairs(pairs))
    }

    fn read_chunks(
        &self,
        cursor: &mut Cursor<'_>,
        offset: u64,
        chunks: &mut Vec<IndexedChunk>,
    ) -> Result<()> {
        let cut = || self.source.corrupt(offset, "the chunks of a series are cut short");
        chunks.clear();
        let count = cursor.count(3).ok_or_else(cut)?;
        chunks.reserve(count);
        let mut before: Option<IndexedChunk> = None;
        for _ in 0..count {
            let first = match before {
                None => cursor.ivarint(),
                Some(before) => cursor.uvarint().map(|gap| before.last.wrapping_add(gap.cast_signed())),
            };
            let last =
                first.zip(cursor.uvarint()).map(|(first, long)| first.wrapping_add(long.cast_signed()));
            let reference = match before {
                None => cursor.uvarint(),
                Some(before) => {
                    cursor.ivarint().map(|more| before.reference.wrapping_add(more.cast_unsigned()))
                }
            };
            let (Some(first), Some(last), Some(reference)) = (first, last, reference) else {
                return Err(cut());
            };
            let chunk = IndexedChunk { first, last, reference };
            chunks.push(chunk);
            before = Some(chunk);
        }
        Ok(())
    }
}

/// Where in their section the symbols begin.
fn symbols(source: &Source, offset: u64) -> Result<Vec<u32>> {
    let section = source.section(offset, "the symbols")?;
    let cut = |at: usize| source.corrupt(offset + 4 + at as u64, "the symbols are cut short");
    let mut cursor = Cursor::new(section);
    let count = take_u32(&mut cursor).ok_or_else(|| cut(0))? as usize;
    if count > cursor.remaining() {
        let have = cursor.remaining();
        return Err(source.corrupt(offset, format_args!("{count} symbols in {have} bytes")));
    }
    let mut places = Vec::with_capacity(count);
    for _ in 0..count {
        let at = cursor.position();
        // A section has at most 2^32 bytes.
        places.push(at as u32);
        cursor.prefixed().ok_or_else(|| cut(at))?;
    }
    Ok(places)
}

/// The references of all series: the postings of the empty name and value, which the table lists first.
fn all_series(source: &Source, offset: u64) -> Result<Vec<u32>> {
    let table = source.section(offset, "the table of postings")?;
    let wrong = |what: &str| source.corrupt(offset, what);
    let mut cursor = Cursor::new(table);
    let count = take_u32(&mut cursor).ok_or_else(|| wrong("the table of postings is cut short"))?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let is_all = cursor.u8() == Some(2) && cursor.prefixed() == Some(b"") && cursor.prefixed() == Some(b"");
    let Some(place) = cursor.uvarint().filter(|_| is_all) else {
        return Err(wrong("the table of postings does not begin with that of all series"));
    };
    let list = source.section(place, "the list of all series")?;
    let (count, references) = list
        .split_first_chunk::<4>()
        .ok_or_else(|| source.corrupt(place, "a list of series is cut short"))?;
    let (references, rest) = references.as_chunks::<4>();
    let count = u32::from_be_bytes(*count) as usize;
    if references.len() != count || !rest.is_empty() {
        let have = references.len();
        return Err(source.corrupt(place, format_args!("a list of {count} series has {have}")));
    }
    let references: Vec<u32> = references.iter().map(|r| u32::from_be_bytes(*r)).collect();
    if !references.is_sorted() {
        return Err(source.corrupt(place, "a list of series is not sorted"));
    }
    Ok(references)
}

//! Writes the file `index` of a block (version 2), see [`super::index_layout`].

use super::crc32c;
use super::index_layout::{HEADER_BYTES, INDEX_FILE, MAGIC, SERIES_ALIGN, Toc, VERSION};
use super::place::Sink;
use crate::codec::varint::{put_bytes, put_ivarint, put_uvarint};
use crate::env::Fs;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{Labels, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// A chunk as the index lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexedChunk {
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
    pub(super) reference: u64,
}

/// Takes series in the order of their labels. Memory: the texts, and four bytes for each label of each series.
#[derive(Debug)]
pub(super) struct IndexWriter {
    sink: Sink,
    symbols: HashMap<String, u32>,
    /// Series by label pair. Symbols are numbered in their order, so pairs of numbers sort as the texts do.
    postings: BTreeMap<(u32, u32), Vec<u32>>,
    all: Vec<u32>,
    toc: Toc,
    last: Option<Labels>,
}

impl IndexWriter {
    /// Begins the index; `symbols` are all names and values that will come, or more.
    pub(super) fn create(fs: &Arc<dyn Fs>, dir: &Path, symbols: BTreeSet<String>) -> Result<Self> {
        let mut sink = Sink::create(fs, dir.join(INDEX_FILE))?;
        sink.put(&MAGIC.to_be_bytes())?;
        sink.put(&[VERSION])?;
        let mut table = too_many("symbols", symbols.len())?.to_be_bytes().to_vec();
        let mut numbers = HashMap::with_capacity(symbols.len());
        for (number, symbol) in (0..).zip(symbols) {
            put_bytes(&mut table, symbol.as_bytes());
            numbers.insert(symbol, number);
        }
        sink.put_section(&table)?;
        sink.align(SERIES_ALIGN)?;
        let toc = Toc { symbols: HEADER_BYTES, series: sink.position(), ..Toc::default() };
        Ok(Self { sink, symbols: numbers, postings: BTreeMap::new(), all: Vec::new(), toc, last: None })
    }

    /// Adds a series and its chunks.
    pub(super) fn add(&mut self, labels: &Labels, chunks: &[IndexedChunk]) -> Result<()> {
        if self.last.as_ref().is_some_and(|last| last >= labels) {
            return Err(Error::internal("the series of an index are added in the order of their labels"));
        }
        self.sink.align(SERIES_ALIGN)?;
        let reference = u32::try_from(self.sink.position() / SERIES_ALIGN).map_err(|_| {
            Error::new(ErrorKind::LimitExceeded, "the index of a block holds at most 64 GiB of series")
        })?;
        let mut entry = Vec::with_capacity(64 + 8 * chunks.len());
        put_uvarint(&mut entry, labels.len() as u64);
        for (name, value) in labels.iter() {
            let pair = (self.number(name)?, self.number(value)?);
            put_uvarint(&mut entry, u64::from(pair.0));
            put_uvarint(&mut entry, u64::from(pair.1));
            self.postings.entry(pair).or_default().push(reference);
        }
        put_uvarint(&mut entry, chunks.len() as u64);
        let mut before: Option<IndexedChunk> = None;
        for chunk in chunks {
            match before {
                None => put_ivarint(&mut entry, chunk.first),
                Some(before) => {
                    put_uvarint(&mut entry, chunk.first.wrapping_sub(before.last).cast_unsigned());
                }
            }
            put_uvarint(&mut entry, chunk.last.wrapping_sub(chunk.first).cast_unsigned());
            match before {
                None => put_uvarint(&mut entry, chunk.reference),
                Some(before) => {
                    put_ivarint(&mut entry, chunk.reference.wrapping_sub(before.reference).cast_signed());
                }
            }
            before = Some(*chunk);
        }
        let mut length = Vec::new();
        put_uvarint(&mut length, entry.len() as u64);
        self.sink.put(&length)?;
        self.sink.put(&entry)?;
        self.sink.put(&crc32c(&entry).to_be_bytes())?;
        self.all.push(reference);
        self.last = Some(labels.clone());
        Ok(())
    }

    fn number(&self, text: &str) -> Result<u32> {
        let number = self.symbols.get(text).copied();
        number
            .ok_or_else(|| Error::internal("the symbols of an index hold all names and values of its series"))
    }

    /// Writes what follows the series.
    pub(super) fn finish(mut self) -> Result<()> {
        self.toc.label_indices = self.sink.position();
        self.sink.align(4)?;
        self.toc.postings = self.sink.position();
        let mut texts: Vec<(u32, &str)> =
            self.symbols.iter().map(|(text, number)| (*number, text.as_str())).collect();
        texts.sort_unstable();
        let text = |number: u32| texts.get(number as usize).map_or("", |t| t.1);

        let postings = std::mem::take(&mut self.postings);
        let everything = (("", ""), std::mem::take(&mut self.all));
        let pairs = postings.into_iter().map(|((name, value), series)| ((text(name), text(value)), series));
        let mut table = Vec::new();
        let mut count = 0u64;
        for ((name, value), series) in std::iter::once(everything).chain(pairs) {
            table.push(2);
            put_bytes(&mut table, name.as_bytes());
            put_bytes(&mut table, value.as_bytes());
            self.sink.align(4)?;
            put_uvarint(&mut table, self.sink.position());
            let mut list = Vec::with_capacity(4 + 4 * series.len());
            list.extend_from_slice(&too_many("series", series.len())?.to_be_bytes());
            series.iter().for_each(|s| list.extend_from_slice(&s.to_be_bytes()));
            self.sink.put_section(&list)?;
            count += 1;
        }
        // Nobody reads the table of label indices any more, but its place must hold one.
        self.toc.label_table = self.sink.position();
        self.sink.put_section(&0u32.to_be_bytes())?;
        self.toc.postings_table = self.sink.position();
        let mut all = too_many("label pairs", count as usize)?.to_be_bytes().to_vec();
        all.append(&mut table);
        self.sink.put_section(&all)?;
        self.sink.put(&self.toc.write())?;
        self.sink.finish()
    }
}

fn too_many(what: &str, count: usize) -> Result<u32> {
    u32::try_from(count).map_err(|_| {
        Error::new(ErrorKind::LimitExceeded, format!("{count} {what} in an index; the most is 2^32"))
    })
}

//! Reading the samples of series, with what one read leaves used by the next. Hot path.

use super::format::{SERIES_PER_PAGE, Section};
use super::reader::Block;
use super::series_page::{ChunkEntry, Place, SeriesPage};
use crate::api::Samples;
use crate::chunk::ValueDecoder;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{TimeRange, Timestamp};
use std::sync::Arc;

/// How many DATA pages a reader keeps: the current one and those that equal payloads lie in.
const CACHED_DATA_PAGES: usize = 4;

/// What a reader keeps from one series to the next. One for each thread; works with any block.
#[derive(Debug, Default)]
pub struct BlockReader {
    series_page: Option<(u64, u32, Arc<SeriesPage>)>,
    /// Block, page, time of last use, bytes.
    data_pages: Vec<(u64, u32, u64, Vec<u8>)>,
    uses: u64,
    values: ValueDecoder,
    /// What the timestamps in the caller's buffer were made from.
    last: LastRead,
    spans: Vec<Span>,
    column: Vec<Timestamp>,
}

/// The part of a chunk inside of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    samples: u32,
    skip: u32,
    keep: u32,
    /// Which chunk of the series.
    chunk: u32,
}

#[derive(Debug, Default)]
struct LastRead {
    instance: u64,
    range: Option<TimeRange>,
    columns: Vec<u32>,
    spans: Vec<Span>,
    version: u64,
    buffer: (usize, usize),
}

impl LastRead {
    /// Whether `out` still holds the timestamps this read left there.
    fn is_in(&self, out: &Samples) -> bool {
        self.version == out.timestamps_version
            && self.buffer == (out.timestamps.as_ptr() as usize, out.timestamps.len())
    }
}

impl BlockReader {
    /// A reader.
    pub fn new() -> Self {
        Self::default()
    }

    fn series_page(&mut self, block: &Block, page: u32) -> Result<Arc<SeriesPage>> {
        if let Some((instance, number, found)) = &self.series_page
            && (*instance, *number) == (block.instance, page)
        {
            return Ok(Arc::clone(found));
        }
        let found = block.series_page(page)?;
        self.series_page = Some((block.instance, page, Arc::clone(&found)));
        Ok(found)
    }

    /// Brings a DATA page into the cache and gives its place there.
    fn data_page(&mut self, block: &Block, page: u32) -> Result<usize> {
        self.uses += 1;
        let uses = self.uses;
        let known =
            self.data_pages.iter_mut().enumerate().find(|(_, p)| (p.0, p.1) == (block.instance, page));
        if let Some((at, entry)) = known {
            entry.2 = uses;
            return Ok(at);
        }
        if self.data_pages.len() < CACHED_DATA_PAGES {
            self.data_pages.push((0, 0, 0, Vec::new()));
        }
        let oldest = self.data_pages.iter_mut().enumerate().min_by_key(|(_, p)| p.2);
        let Some((at, entry)) = oldest else { return Err(Error::internal("the page cache has room")) };
        // The instance 0 is no block: a failed read leaves an entry that is never found.
        entry.0 = 0;
        block.read_data_page(page, &mut entry.3)?;
        (entry.0, entry.1, entry.2) = (block.instance, page, uses);
        Ok(at)
    }

    /// Appends the values of a chunk to `out`.
    fn decode_values(
        &mut self,
        block: &Block,
        page: &SeriesPage,
        place: Place,
        samples: u32,
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let in_block =
            |e: Error, section, position: u64| block.corrupt(section, format!("payload {position}: {e}"));
        match place {
            Place::Inline { start, length } => self
                .values
                .decode_into(page.inline(start, length), samples as usize, out)
                .map_err(|e| in_block(e, Section::Pages, u64::from(start))),
            Place::Stored { position, length } => {
                let number = u32::try_from(position >> 16)
                    .map_err(|_| block.corrupt(Section::Pages, format!("no payload {position}")))?;
                let at = self.data_page(block, number)?;
                let payload = self
                    .data_pages
                    .get(at)
                    .and_then(|p| p.3.get((position & 0xffff) as usize..)?.get(..length as usize))
                    .ok_or_else(|| block.corrupt(Section::Pages, format!("no payload {position}")))?;
                self.values
                    .decode_into(payload, samples as usize, out)
                    .map_err(|e| in_block(e, Section::Pages, position))
            }
        }
    }

    /// Plans which part of which chunk is read and fills the timestamps, unless they are there from the read before.
    fn read_timestamps(
        &mut self,
        block: &Block,
        chunks: &[ChunkEntry],
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<()> {
        let same_columns = self.last.instance == block.instance
            && self.last.range == Some(range)
            && self.last.columns.iter().copied().eq(chunks.iter().map(|c| c.column));
        if same_columns && self.last.is_in(out) {
            self.spans.clone_from(&self.last.spans);
            return Ok(());
        }
        out.clear();
        self.spans.clear();
        self.last.range = None;
        let columns = block.columns()?;
        let mut last_time = None;
        for (chunk, entry) in chunks.iter().enumerate() {
            let broken = || block.corrupt(Section::Tscol, format!("column {} is damaged", entry.column));
            let column = columns.get(entry.column).ok_or_else(broken)?;
            if !range.overlaps(&TimeRange::closed(column.first, column.last)) {
                continue;
            }
            columns.decode(entry.column, &mut self.column).ok_or_else(broken)?;
            let is_ascending = self.column.windows(2).all(|w| w[0] < w[1]);
            if !is_ascending || last_time.is_some_and(|t| self.column.first().is_none_or(|first| *first <= t))
            {
                return Err(broken());
            }
            last_time = self.column.last().copied();
            let skip = self.column.partition_point(|t| *t < range.min_time);
            let end = self.column.partition_point(|t| *t <= range.last());
            let inside = self.column.get(skip..end).unwrap_or_default();
            if !inside.is_empty() {
                out.timestamps.extend_from_slice(inside);
                self.spans.push(Span {
                    samples: column.samples,
                    skip: skip as u32,
                    keep: inside.len() as u32,
                    chunk: chunk as u32,
                });
            }
        }
        self.last.instance = block.instance;
        self.last.range = Some(range);
        self.last.columns.clear();
        self.last.columns.extend(chunks.iter().map(|c| c.column));
        self.last.spans.clone_from(&self.spans);
        self.last.version = out.timestamps_version;
        self.last.buffer = (out.timestamps.as_ptr() as usize, out.timestamps.len());
        Ok(())
    }
}

impl Block {
    /// Reads the samples of series number `series` in `range` into `out`, replacing what is there. If the series has the
    /// same timestamp columns as the one this `reader` read before into the same buffer, the timestamps are left as they
    /// are and [`Samples::timestamps_version`] stands still.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] if a part of the block that is needed is damaged, or the disk refuses; `out` is then
    /// empty.
    pub fn read_series(
        &self,
        series: u32,
        range: TimeRange,
        reader: &mut BlockReader,
        out: &mut Samples,
    ) -> Result<()> {
        let read = self.try_read_series(series, range, reader, out);
        if read.is_err() {
            out.clear();
        }
        read
    }

    fn try_read_series(
        &self,
        series: u32,
        range: TimeRange,
        reader: &mut BlockReader,
        out: &mut Samples,
    ) -> Result<()> {
        if series >= self.series_count() {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("{}: no series {series}", self.path.display()),
            ));
        }
        let page = reader.series_page(self, series / SERIES_PER_PAGE)?;
        let chunks = page.chunks((series % SERIES_PER_PAGE) as usize);
        out.values.clear();
        reader.read_timestamps(self, chunks, range, out)?;
        let spans = std::mem::take(&mut reader.spans);
        let result = spans.iter().try_for_each(|span| {
            let entry = chunks
                .get(span.chunk as usize)
                .ok_or_else(|| Error::internal("a span names a chunk of its series"))?;
            let start = out.values.len();
            reader.decode_values(self, &page, entry.place, span.samples, &mut out.values)?;
            let (skip, keep) = (span.skip as usize, span.keep as usize);
            out.values.truncate(start + skip + keep);
            out.values.drain(start..start + skip);
            Ok(())
        });
        reader.spans = spans;
        result
    }
}

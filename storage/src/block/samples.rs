//! Reading the samples of series, with what one read leaves used by the next. Hot path.

use super::format::{SERIES_PER_PAGE, Section};
use super::reader::Block;
use super::sections::Columns;
use super::series_page::{ChunkEntry, Place, SeriesPage};
use crate::api::{ChunksRead, HistogramSample, Samples};
use crate::chunk::{HistogramDecoder, ValueDecoder, decode_starts};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AnyHistogram, FloatHistogram, TimeRange, Timestamp};
use std::sync::Arc;

/// How many DATA pages a reader keeps: the current one and those that equal payloads lie in.
const CACHED_DATA_PAGES: usize = 4;

/// How many decoded timestamp columns a reader keeps: those of a series in a few blocks, and of the next.
const CACHED_COLUMNS: usize = 24;
/// A longer column is not kept.
const CACHED_COLUMN_SAMPLES: usize = 1 << 14;

/// What a reader keeps from one series to the next. One for each thread; works with any block.
#[derive(Debug, Default)]
pub struct BlockReader {
    series_page: Option<(u64, u32, Arc<SeriesPage>)>,
    data_pages: DataPages,
    columns: DecodedColumns,
    values: ValueDecoder,
    histograms: HistogramDecoder,
    decoded: Vec<FloatHistogram>,
    /// What the timestamps in the caller's buffer were made from.
    last: LastRead,
    spans: Vec<Span>,
    column: Vec<Timestamp>,
    starts: Vec<Timestamp>,
    chunks: ChunksRead,
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

/// Timestamp columns last used, decoded and checked.
#[derive(Debug, Default)]
struct DecodedColumns {
    /// Block, column, time of last use, timestamps.
    columns: Vec<(u64, u32, u64, Vec<Timestamp>)>,
    uses: u64,
}

impl DecodedColumns {
    /// The timestamps of column `id`, strictly ascending; `None` if they are damaged.
    fn get(&mut self, block: &Block, columns: &Columns<'_>, id: u32) -> Option<&[Timestamp]> {
        self.uses += 1;
        let known = self.columns.iter().position(|c| (c.0, c.1) == (block.instance, id));
        let at = match known {
            Some(at) => at,
            None => {
                if self.columns.len() < CACHED_COLUMNS {
                    self.columns.push((0, 0, 0, Vec::new()));
                }
                let (at, slot) = self.columns.iter_mut().enumerate().min_by_key(|(_, c)| c.2)?;
                // The instance 0 is no block: what fails is never found.
                slot.0 = 0;
                columns.decode(id, &mut slot.3)?;
                if !slot.3.windows(2).all(|w| w[0] < w[1]) {
                    return None;
                }
                if slot.3.len() <= CACHED_COLUMN_SAMPLES {
                    (slot.0, slot.1) = (block.instance, id);
                }
                at
            }
        };
        let slot = self.columns.get_mut(at)?;
        slot.2 = self.uses;
        Some(&slot.3)
    }
}

/// The DATA pages last used.
#[derive(Debug, Default)]
struct DataPages {
    /// Block, page, time of last use, bytes.
    pages: Vec<(u64, u32, u64, Vec<u8>)>,
    uses: u64,
}

impl DataPages {
    /// Brings a DATA page into the cache and gives its place there.
    fn page(&mut self, block: &Block, page: u32) -> Result<usize> {
        self.uses += 1;
        let uses = self.uses;
        let known = self.pages.iter_mut().enumerate().find(|(_, p)| (p.0, p.1) == (block.instance, page));
        if let Some((at, entry)) = known {
            entry.2 = uses;
            return Ok(at);
        }
        if self.pages.len() < CACHED_DATA_PAGES {
            self.pages.push((0, 0, 0, Vec::new()));
        }
        let oldest = self.pages.iter_mut().enumerate().min_by_key(|(_, p)| p.2);
        let Some((at, entry)) = oldest else { return Err(Error::internal("the page cache has room")) };
        // The instance 0 is no block: a failed read leaves an entry that is never found.
        entry.0 = 0;
        block.read_data_page(page, &mut entry.3)?;
        (entry.0, entry.1, entry.2) = (block.instance, page, uses);
        Ok(at)
    }

    /// The payload of a chunk.
    fn payload<'a>(&'a mut self, block: &Block, page: &'a SeriesPage, place: Place) -> Result<&'a [u8]> {
        match place {
            Place::Inline { start, length } => Ok(page.inline(start, length)),
            Place::Stored { position, length } => {
                let missing = || block.corrupt(Section::Pages, format!("no payload {position}"));
                let number = u32::try_from(position >> 16).map_err(|_| missing())?;
                let at = self.page(block, number)?;
                self.pages
                    .get(at)
                    .and_then(|p| p.3.get((position & 0xffff) as usize..)?.get(..length as usize))
                    .ok_or_else(missing)
            }
        }
    }
}

impl BlockReader {
    /// A reader.
    pub fn new() -> Self {
        Self::default()
    }

    /// The chunks met since this was asked last.
    pub(crate) fn take_chunks(&mut self) -> ChunksRead {
        std::mem::take(&mut self.chunks)
    }

    pub(super) fn series_page(&mut self, block: &Block, page: u32) -> Result<Arc<SeriesPage>> {
        if let Some((instance, number, found)) = &self.series_page
            && (*instance, *number) == (block.instance, page)
        {
            return Ok(Arc::clone(found));
        }
        let found = block.series_page(page)?;
        self.series_page = Some((block.instance, page, Arc::clone(&found)));
        Ok(found)
    }

    /// Appends the values of a chunk to `out`.
    pub(super) fn decode_values(
        &mut self,
        block: &Block,
        page: &SeriesPage,
        place: Place,
        samples: u32,
        out: &mut Vec<f64>,
    ) -> Result<()> {
        let payload = self.data_pages.payload(block, page, place)?;
        let decoded = self.values.decode_into(payload, samples as usize, out);
        decoded.map_err(|e| in_payload(block, place, &e))
    }

    /// Decodes the start timestamps of a chunk, whose timestamps `self.column` holds: 0 for each if none is known.
    fn decode_starts(&mut self, block: &Block, page: &SeriesPage, entry: &ChunkEntry) -> Result<()> {
        let Some(place) = entry.starts else {
            self.starts.clear();
            self.starts.resize(self.column.len(), 0);
            return Ok(());
        };
        let payload = self.data_pages.payload(block, page, place)?;
        decode_starts(payload, &self.column, &mut self.starts).ok_or_else(|| {
            let error = Error::corrupt("start timestamps do not decode");
            in_payload(block, place, &error)
        })
    }

    /// Fills the start timestamps of the floats of a series that has any, as `self.spans` say.
    fn read_starts(
        &mut self,
        block: &Block,
        page: &SeriesPage,
        chunks: &[ChunkEntry],
        out: &mut Samples,
    ) -> Result<()> {
        let columns = block.columns()?;
        for span in std::mem::take(&mut self.spans) {
            let Some(entry) = chunks.get(span.chunk as usize) else { continue };
            columns.decode(entry.column, &mut self.column).ok_or_else(|| {
                block.corrupt(Section::Tscol, format!("column {} is damaged", entry.column))
            })?;
            self.decode_starts(block, page, entry)?;
            let inside = self.starts.get(span.skip as usize..).and_then(|s| s.get(..span.keep as usize));
            out.start_timestamps.extend_from_slice(inside.unwrap_or_default());
        }
        if out.start_timestamps.iter().all(|start| *start == 0) {
            out.start_timestamps.clear();
        }
        Ok(())
    }

    /// The start timestamps of a chunk with these timestamps: 0 for each if none is known.
    pub(super) fn starts_of(
        &mut self,
        block: &Block,
        page: &SeriesPage,
        entry: &ChunkEntry,
        times: &[Timestamp],
    ) -> Result<&[Timestamp]> {
        self.column.clear();
        self.column.extend_from_slice(times);
        self.decode_starts(block, page, entry)?;
        Ok(&self.starts)
    }

    /// Appends the histograms of a chunk to `out`, as they were sent.
    pub(super) fn decode_histograms(
        &mut self,
        block: &Block,
        page: &SeriesPage,
        place: Place,
        samples: usize,
        out: &mut Vec<AnyHistogram>,
    ) -> Result<()> {
        let payload = self.data_pages.payload(block, page, place)?;
        self.histograms.decode(payload, samples, out).map_err(|e| in_payload(block, place, &e))
    }

    /// Fills the histograms of a series in `range`; `out` holds its floats.
    fn read_histograms(
        &mut self,
        block: &Block,
        page: &SeriesPage,
        chunks: &[ChunkEntry],
        range: TimeRange,
        out: &mut Samples,
    ) -> Result<()> {
        let columns = block.columns()?;
        for entry in chunks {
            let broken = || block.corrupt(Section::Tscol, format!("column {} is damaged", entry.column));
            let column = columns.get(entry.column).ok_or_else(broken)?;
            if !range.overlaps(&TimeRange::closed(column.first, column.last)) {
                self.chunks.skipped += 1;
                continue;
            }
            self.chunks.decoded += 1;
            columns.decode(entry.column, &mut self.column).ok_or_else(broken)?;
            self.decoded.clear();
            let payload = self.data_pages.payload(block, page, entry.place)?;
            self.histograms
                .decode_floats(payload, column.samples as usize, &mut self.decoded)
                .map_err(|e| in_payload(block, entry.place, &e))?;
            self.decode_starts(block, page, entry)?;
            let times = self.column.iter().zip(&self.starts);
            for ((timestamp, start), histogram) in times.zip(self.decoded.drain(..)) {
                if range.contains(*timestamp) {
                    let (timestamp, start_timestamp) = (*timestamp, *start);
                    let histogram = Arc::new(histogram);
                    out.histograms.push(HistogramSample { timestamp, start_timestamp, histogram });
                }
            }
        }
        let mut floats = out.timestamps.iter().copied().peekable();
        let is_alone = |h: &HistogramSample| {
            while floats.next_if(|t| *t < h.timestamp).is_some() {}
            floats.peek() != Some(&h.timestamp)
        };
        let is_ascending = out.histograms.windows(2).all(|w| w[0].timestamp < w[1].timestamp);
        if is_ascending && out.histograms.iter().all(is_alone) {
            Ok(())
        } else {
            Err(block.corrupt(Section::Tscol, "the histograms of a series are not in time order"))
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

/// Damage inside of a payload.
fn in_payload(block: &Block, place: Place, error: &Error) -> Error {
    let position = match place {
        Place::Inline { start, .. } => u64::from(start),
        Place::Stored { position, .. } => position,
    };
    block.corrupt(Section::Pages, format!("payload {position}: {error}"))
}

/// Timestamps that a read is about to append, and what tells them from others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch<'a> {
    /// The open block and the column.
    pub(crate) key: (u64, u64),
    /// Which samples of the column.
    pub(crate) span: (u32, u32),
    /// Their timestamps; not empty.
    pub(crate) times: &'a [Timestamp],
}

impl Block {
    /// Appends the values of series number `series` in `range` to `values`; `announce` is told the timestamps of each stretch
    /// of them before and says whether to go on. Answers `false` if it said no or if the series has more than floats: the
    /// series is then to be read by [`Block::read_series`].
    ///
    /// # Errors
    /// As [`Block::read_series`]; `values` then holds a part.
    pub(crate) fn append_floats(
        &self,
        series: u32,
        range: TimeRange,
        reader: &mut BlockReader,
        values: &mut Vec<f64>,
        mut announce: impl FnMut(Stretch<'_>) -> bool,
    ) -> Result<bool> {
        let page = reader.series_page(self, series / SERIES_PER_PAGE)?;
        let number = (series % SERIES_PER_PAGE) as usize;
        if !page.histogram_chunks(number).is_empty() {
            return Ok(false);
        }
        if page.chunks(number).iter().any(|entry| entry.starts.is_some()) {
            return Ok(false);
        }
        let columns = self.columns()?;
        for entry in page.chunks(number) {
            let broken = || self.corrupt(Section::Tscol, format!("column {} is damaged", entry.column));
            let column = columns.get(entry.column).ok_or_else(broken)?;
            if !range.overlaps(&TimeRange::closed(column.first, column.last)) {
                reader.chunks.skipped += 1;
                continue;
            }
            let times = reader.columns.get(self, &columns, entry.column).ok_or_else(broken)?;
            let skip = times.partition_point(|t| *t < range.min_time);
            let end = times.partition_point(|t| *t <= range.last());
            let inside = times.get(skip..end).filter(|inside| !inside.is_empty());
            let Some(inside) = inside else { continue };
            let key = (self.instance, u64::from(entry.column));
            if !announce(Stretch { key, span: (skip as u32, end as u32), times: inside }) {
                return Ok(false);
            }
            let start = values.len();
            reader.chunks.decoded += 1;
            reader.decode_values(self, &page, entry.place, column.samples, values)?;
            values.truncate(start + end);
            values.drain(start..start + skip);
        }
        Ok(true)
    }

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
        let number = (series % SERIES_PER_PAGE) as usize;
        let chunks = page.chunks(number);
        out.values.clear();
        out.start_timestamps.clear();
        out.histograms.clear();
        reader.read_timestamps(self, chunks, range, out)?;
        let decoded = reader.spans.len() as u64;
        reader.chunks.decoded += decoded;
        reader.chunks.skipped += (chunks.len() as u64).saturating_sub(decoded);
        let spans = std::mem::take(&mut reader.spans);
        let result: Result<()> = spans.iter().try_for_each(|span| {
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
        result?;
        if chunks.iter().any(|chunk| chunk.starts.is_some()) {
            reader.read_starts(self, &page, chunks, out)?;
        }
        match page.histogram_chunks(number) {
            [] => Ok(()),
            histograms => reader.read_histograms(self, &page, histograms, range, out),
        }
    }
}

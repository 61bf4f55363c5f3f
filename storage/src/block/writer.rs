//! `BlockWriter`: series in label order become a block file, synced and renamed when it is complete.

use super::exemplars::{self, ExemplarPage};
use super::format::{
    self, BlockMeta, DATA_PAGE_BYTES, Extent, HEADER_BYTES, INLINE_BYTES, PageEntry, Section,
};
use super::label_index::{LabelCollector, LabelSections};
use super::sections::ColumnsBuilder;
use super::series_page::{NewChunk, NewChunks, NewPlace, PageBuilder};
use crate::chunk::{HistogramEncoder, SAMPLES_PER_CHUNK, ValueEncoder, encode_starts};
use crate::codec::compress::zstd_encode;
use crate::codec::crc::crc32;
use crate::codec::varint::{Cursor, put_uvarint};
use crate::env::{File, Fs};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AnyHistogram, Exemplar, Labels, Timestamp};
use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 1 << 20;
/// How many payloads are remembered to find equal ones; then the memory starts anew.
const REMEMBERED_PAYLOADS: usize = 1 << 18;
const ZSTD_LEVEL: i32 = 3;
/// The most histograms of one chunk: whoever wants one decodes them all.
const HISTOGRAMS_PER_CHUNK: usize = 240;
/// Wide histograms make shorter chunks, of about so many buckets.
const BUCKETS_PER_CHUNK: usize = 1 << 16;

/// What the caller decides about a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSpec {
    /// The identity of the file; see [`super::new_uuid`].
    pub uuid: [u8; 16],
    /// On equal timestamps the samples of the block with the higher sequence win.
    pub sequence: u64,
    /// How often its samples have been merged.
    pub level: u32,
}

/// Writes one block. Dropped before [`BlockWriter::finish`], it removes what it has written.
///
/// Memory: one series, and of each series its labels and places of chunks as numbers (about 30 bytes); distinct label
/// values; encoded distinct timestamp columns.
#[derive(Debug)]
pub struct BlockWriter {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    output: Output,
    meta: BlockMeta,
    encoder: ValueEncoder,
    histogram_encoder: HistogramEncoder,
    /// The open DATA page.
    page: Vec<u8>,
    data_pages: Vec<PageEntry>,
    /// Hash of a payload to its position and length.
    payloads: HashMap<u64, (u64, u32)>,
    columns: ColumnsBuilder,
    labels: LabelCollector,
    /// Of each series the numbers of its labels and the places of its chunks, until the numbers are final.
    rows: Vec<u8>,
    last_labels: Option<Labels>,
    exemplar_page: ExemplarPage,
    /// The directory of the pages of exemplars.
    exemplar_pages: Vec<u8>,
    is_finished: bool,
}

/// What a block keeps of one series.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeriesContent<'a> {
    /// Pieces of timestamps and as many values, which together are in time order.
    pub floats: &'a [(&'a [Timestamp], &'a [f64])],
    /// Start timestamps of the floats, 0 for unknown; or empty if none is known.
    pub float_starts: &'a [Timestamp],
    /// Times and histograms, in time order.
    pub histograms: (&'a [Timestamp], &'a [AnyHistogram]),
    /// Start timestamps of the histograms, 0 for unknown; or empty if none is known.
    pub histogram_starts: &'a [Timestamp],
    /// Exemplars, in the order of [`Exemplar::follows`].
    pub exemplars: &'a [Exemplar],
}

impl SeriesContent<'_> {
    /// The first and the last time of anything, if there is anything and all is in order.
    fn bounds(&self, timestamps: &[Timestamp], values: &[f64]) -> Result<Option<(Timestamp, Timestamp)>> {
        let Self { float_starts, histograms, histogram_starts, exemplars, .. } = self;
        let are_ascending = |times: &[Timestamp]| times.windows(2).all(|w| w[0] < w[1]);
        let are_starts = |starts: &[Timestamp], n: usize| starts.is_empty() || starts.len() == n;
        let lengths_agree = timestamps.len() == values.len()
            && histograms.0.len() == histograms.1.len()
            && are_starts(float_starts, timestamps.len())
            && are_starts(histogram_starts, histograms.0.len());
        if !(lengths_agree && are_ascending(timestamps) && are_ascending(histograms.0)) {
            return Err(Error::internal(
                "the samples of a series in a block are in time order, one a timestamp",
            ));
        }
        if !exemplars.windows(2).all(|w| w[1].follows(&w[0])) {
            return Err(Error::internal("the exemplars of a series in a block are in order"));
        }
        let (first, last) = (exemplars.first().map(|e| e.timestamp), exemplars.last().map(|e| e.timestamp));
        let ends = [timestamps.first(), timestamps.last(), histograms.0.first(), histograms.0.last()];
        let ends = ends.into_iter().flatten().copied().chain(first).chain(last);
        Ok(ends.clone().min().zip(ends.max()))
    }
}

impl BlockWriter {
    /// Starts the block that will be `path`; until then it is `path` with `.tmp` appended (what is there is replaced).
    ///
    /// # Errors
    /// The file cannot be created or written.
    pub fn create(fs: &Arc<dyn Fs>, path: &Path, spec: BlockSpec) -> Result<Self> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        // What an interrupted writer left; if there is nothing or it cannot be removed, creating tells.
        let _ = fs.remove(&temporary);
        let file =
            fs.create(&temporary).map_err(|e| Error::io(format!("create {}", temporary.display()), e))?;
        let mut output = Output { file, path: temporary, written: 0, buffer: Vec::new() };
        output.put(&format::write_header(&spec.uuid))?;
        let meta = BlockMeta {
            uuid: spec.uuid,
            sequence: spec.sequence,
            min_time: Timestamp::MAX,
            max_time: Timestamp::MIN,
            series: 0,
            samples: 0,
            level: spec.level,
        };
        Ok(Self {
            fs: Arc::clone(fs),
            path: path.to_owned(),
            output,
            meta,
            encoder: ValueEncoder::new(),
            histogram_encoder: HistogramEncoder::new(),
            page: Vec::with_capacity(DATA_PAGE_BYTES),
            data_pages: Vec::new(),
            payloads: HashMap::new(),
            columns: ColumnsBuilder::default(),
            labels: LabelCollector::default(),
            rows: Vec::new(),
            last_labels: None,
            exemplar_page: ExemplarPage::default(),
            exemplar_pages: Vec::new(),
            is_finished: false,
        })
    }

    /// How many series and samples are in so far.
    pub fn len(&self) -> (u64, u64) {
        (self.meta.series, self.meta.samples)
    }

    /// Whether no series is in.
    pub fn is_empty(&self) -> bool {
        self.meta.series == 0
    }

    /// How many chunks were written raw because the codec failed its own check.
    pub fn codec_fallbacks(&self) -> u64 {
        self.encoder.fallbacks()
    }

    /// Adds a series: floats and histograms as in [`SeriesContent`]. A series without samples is left out.
    ///
    /// # Errors
    /// As [`BlockWriter::add`].
    pub fn add_series(
        &mut self,
        labels: &Labels,
        floats: &[(&[Timestamp], &[f64])],
        histograms: (&[Timestamp], &[AnyHistogram]),
    ) -> Result<()> {
        self.add(labels, &SeriesContent { floats, histograms, ..SeriesContent::default() })
    }

    /// Adds a series. One without any content is left out.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`]: labels, timestamps or exemplars are not ascending, or lengths differ. Otherwise the disk
    /// refuses, or the block is full.
    pub fn add(&mut self, labels: &Labels, content: &SeriesContent<'_>) -> Result<()> {
        let (timestamps, values) = joined(content.floats);
        let Some((first, last)) = content.bounds(&timestamps, &values)? else { return Ok(()) };
        if self.last_labels.as_ref().is_some_and(|before| before >= labels) {
            return Err(Error::internal("the series of a block are added in the order of their labels"));
        }
        let too_many = |_| Error::new(ErrorKind::LimitExceeded, "a block holds at most 2^32 series");
        let series = u32::try_from(self.meta.series).map_err(too_many)?;
        let mut numbers = Vec::with_capacity(16);
        self.labels.add(series, labels, &mut numbers);
        put_uvarint(&mut self.rows, numbers.len() as u64);
        for (name, value) in numbers {
            put_uvarint(&mut self.rows, u64::from(name));
            put_uvarint(&mut self.rows, u64::from(value));
        }
        let is_known = |starts: &[Timestamp]| starts.iter().any(|start| *start != 0);
        let has_starts = is_known(content.float_starts) || is_known(content.histogram_starts);
        put_uvarint(&mut self.rows, u64::from(has_starts));
        let float_starts = has_starts.then_some(content.float_starts);
        let chunks = self.add_floats(&timestamps, &values, float_starts)?;
        let histogram_starts = has_starts.then_some(content.histogram_starts);
        self.add_histograms(chunks, content.histograms, histogram_starts)?;
        self.add_exemplars(series, content.exemplars)?;
        self.meta.min_time = self.meta.min_time.min(first);
        self.meta.max_time = self.meta.max_time.max(last);
        self.meta.series += 1;
        self.meta.samples += (timestamps.len() + content.histograms.0.len()) as u64;
        self.last_labels = Some(labels.clone());
        Ok(())
    }

    fn add_exemplars(&mut self, series: u32, mut exemplars: &[Exemplar]) -> Result<()> {
        while !exemplars.is_empty() {
            let taken = self.exemplar_page.add(series, exemplars);
            exemplars = exemplars.get(taken..).unwrap_or_default();
            if self.exemplar_page.is_full() {
                self.flush_exemplars()?;
            }
        }
        Ok(())
    }

    fn flush_exemplars(&mut self) -> Result<()> {
        if self.exemplar_page.is_empty() {
            return Ok(());
        }
        let (first_series, raw) = self.exemplar_page.take();
        let mut stored = Vec::new();
        zstd_encode(&raw, ZSTD_LEVEL, &mut stored)
            .map_err(|e| Error::internal(format!("compress a page of exemplars: {e}")))?;
        let entry = PageEntry {
            offset: self.output.offset(),
            stored: stored.len() as u32,
            raw: raw.len() as u32,
            crc: crc32(0, &stored),
        };
        self.output.put(&stored)?;
        exemplars::put_entry(first_series, &entry, &mut self.exemplar_pages);
        Ok(())
    }

    /// Adds the start timestamps of one chunk to its row, if its series has any.
    fn add_starts(&mut self, timestamps: &[Timestamp], starts: Option<&[Timestamp]>) -> Result<()> {
        let Some(starts) = starts else { return Ok(()) };
        let start = self.page.len();
        if starts.iter().any(|start| *start != 0) {
            encode_starts(timestamps, starts, &mut self.page);
        }
        self.add_payload(start)
    }

    /// Adds the chunks of floats of a series, and answers how many these are.
    fn add_floats(
        &mut self,
        timestamps: &[Timestamp],
        values: &[f64],
        starts: Option<&[Timestamp]>,
    ) -> Result<usize> {
        let chunks = timestamps.len().div_ceil(SAMPLES_PER_CHUNK);
        // All chunks of a series are about as long, so that no small rest is left.
        let per_chunk = timestamps.len().div_ceil(chunks.max(1)).max(1);
        let chunks = timestamps.len().div_ceil(per_chunk);
        put_uvarint(&mut self.rows, chunks as u64);
        let cut = timestamps.chunks(per_chunk).zip(values.chunks(per_chunk));
        for (index, (timestamps, values)) in cut.enumerate() {
            let column = self.columns.add(index, timestamps)?;
            put_uvarint(&mut self.rows, u64::from(column));
            let start = self.page.len();
            self.encoder.encode_verified(values, &mut self.page);
            self.add_payload(start)?;
            let from = index * per_chunk;
            let of_chunk = starts.map(|s| s.get(from..from + timestamps.len()).unwrap_or_default());
            self.add_starts(timestamps, of_chunk)?;
        }
        Ok(chunks)
    }

    /// Adds the chunks of histograms of a series that has `chunks` others.
    fn add_histograms(
        &mut self,
        chunks: usize,
        (mut times, mut histograms): (&[Timestamp], &[AnyHistogram]),
        mut starts: Option<&[Timestamp]>,
    ) -> Result<()> {
        let mut count = 0;
        let before = std::mem::take(&mut self.rows);
        while let Some(first) = histograms.first() {
            let fits = (BUCKETS_PER_CHUNK / first.buckets().max(1)).clamp(1, HISTOGRAMS_PER_CHUNK);
            let start = self.page.len();
            let candidates = histograms.get(..fits).unwrap_or(histograms);
            let rows = self.histogram_encoder.encode(candidates, &mut self.page).max(1);
            if self.page.len() - start > format::DATA_PAGE_BYTES_MAX {
                return Err(Error::new(ErrorKind::LimitExceeded, "a chunk of histograms exceeds 8 MiB"));
            }
            let of_chunk = times.get(..rows).unwrap_or_default();
            let column = self.columns.add(chunks + count, of_chunk)?;
            put_uvarint(&mut self.rows, u64::from(column));
            self.add_payload(start)?;
            self.add_starts(of_chunk, starts.map(|s| s.get(..rows).unwrap_or_default()))?;
            starts = starts.map(|s| s.get(rows..).unwrap_or_default());
            count += 1;
            times = times.get(rows..).unwrap_or_default();
            histograms = histograms.get(rows..).unwrap_or_default();
        }
        let row = std::mem::replace(&mut self.rows, before);
        put_uvarint(&mut self.rows, count as u64);
        self.rows.extend_from_slice(&row);
        Ok(())
    }

    /// Stores the payload at the end of the open page, from `start` on, if it is long and new, and notes its place in the
    /// row.
    fn add_payload(&mut self, start: usize) -> Result<()> {
        let payload = self.page.get(start..).unwrap_or_default();
        let length = payload.len() as u32;
        if payload.len() <= INLINE_BYTES {
            put_uvarint(&mut self.rows, u64::from(length) << 1 | 1);
            self.rows.extend_from_slice(payload);
            self.page.truncate(start);
            return Ok(());
        }
        put_uvarint(&mut self.rows, u64::from(length) << 1);
        let hash = xxh3_64(payload);
        if let Some((position, known)) = self.payloads.get(&hash).copied()
            && known == length
            && self.is_stored(position, start)?
        {
            put_uvarint(&mut self.rows, position);
            self.page.truncate(start);
            return Ok(());
        }
        let mut offset = start;
        if start > 0 && self.page.len() > DATA_PAGE_BYTES {
            let payload = self.page.split_off(start);
            self.flush_page()?;
            self.page = payload;
            offset = 0;
        }
        let position = (self.data_pages.len() as u64) << 16 | offset as u64;
        put_uvarint(&mut self.rows, position);
        if self.payloads.len() >= REMEMBERED_PAYLOADS {
            self.payloads.clear();
        }
        self.payloads.insert(hash, (position, length));
        if self.page.len() > DATA_PAGE_BYTES {
            self.flush_page()?;
        }
        Ok(())
    }

    /// Whether the payload at the end of the open page, from `start` on, is the one stored at `position`.
    fn is_stored(&self, position: u64, start: usize) -> Result<bool> {
        let payload = self.page.get(start..).unwrap_or_default();
        let (page, offset) = ((position >> 16) as usize, (position & 0xffff) as usize);
        match self.data_pages.get(page) {
            None => Ok(self.page.get(offset..offset + payload.len()) == Some(payload)),
            Some(entry) => {
                let mut stored = vec![0; payload.len()];
                self.output.read(&mut stored, entry.offset + offset as u64)?;
                Ok(stored == payload)
            }
        }
    }

    fn flush_page(&mut self) -> Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        let length = self.page.len() as u32;
        let crc = crc32(0, &self.page);
        self.data_pages.push(PageEntry { offset: self.output.offset(), stored: length, raw: length, crc });
        self.output.put(&self.page)?;
        self.page.clear();
        Ok(())
    }

    /// Writes the index, syncs the file, gives it its name and syncs the directory.
    ///
    /// # Errors
    /// The disk refuses, or a section exceeds 4 GiB; then nothing is left behind.
    pub fn finish(mut self) -> Result<BlockMeta> {
        self.flush_page()?;
        self.flush_exemplars()?;
        let labels = std::mem::take(&mut self.labels).finish();
        let series_pages = self.write_series(&labels)?;
        let mut sections = format::Sections::default();
        sections[Section::Pages.index()] = Extent {
            crc: 0,
            offset: HEADER_BYTES as u64,
            length: self.output.offset() - HEADER_BYTES as u64,
        };
        let parts = [
            (Section::Tscol, std::mem::take(&mut self.columns).finish()),
            (Section::DataPages, directory(&self.data_pages)),
            (Section::SeriesPages, directory(&series_pages)),
            (Section::Names, labels.names),
            (Section::Dict, labels.dict),
            (Section::Postings, labels.postings),
            (Section::Exemplars, std::mem::take(&mut self.exemplar_pages)),
        ];
        for (section, bytes) in parts {
            if u32::try_from(bytes.len()).is_err() {
                let name = section.name();
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!("section {name} of a block exceeds 4 GiB"),
                ));
            }
            sections[section.index()] =
                Extent { crc: crc32(0, &bytes), offset: self.output.offset(), length: bytes.len() as u64 };
            self.output.put(&bytes)?;
        }
        self.output.put(&format::write_footer(&sections, &self.meta))?;
        self.output.sync()?;
        let (from, to) = (&self.output.path, &self.path);
        let renaming = || format!("rename {} to {}", from.display(), to.display());
        self.fs.rename(from, to).map_err(|e| Error::io(renaming(), e))?;
        self.is_finished = true;
        let parent = self.path.parent().unwrap_or(Path::new("."));
        self.fs.sync_dir(parent).map_err(|e| Error::io(format!("sync directory {}", parent.display()), e))?;
        Ok(self.meta)
    }

    /// Writes the SERIES pages from the rows, now that the numbers of labels are final.
    fn write_series(&mut self, labels: &LabelSections) -> Result<Vec<PageEntry>> {
        let rows = std::mem::take(&mut self.rows);
        let mut reader = Cursor::new(&rows);
        let mut builder = PageBuilder::default();
        let mut pages = Vec::new();
        for _ in 0..self.meta.series {
            push_row(&mut reader, labels, &mut builder)
                .ok_or_else(|| Error::internal("the rows of a block under construction can be read back"))?;
            if builder.is_full() {
                pages.push(self.write_series_page(&mut builder)?);
            }
        }
        if !builder.is_empty() {
            pages.push(self.write_series_page(&mut builder)?);
        }
        Ok(pages)
    }

    fn write_series_page(&mut self, builder: &mut PageBuilder) -> Result<PageEntry> {
        let raw = builder.take();
        if raw.len() > format::SERIES_PAGE_BYTES_MAX {
            return Err(Error::new(ErrorKind::LimitExceeded, "the chunk table of 128 series exceeds 64 MiB"));
        }
        let mut stored = Vec::new();
        zstd_encode(&raw, ZSTD_LEVEL, &mut stored)
            .map_err(|e| Error::internal(format!("compress a series page: {e}")))?;
        let entry = PageEntry {
            offset: self.output.offset(),
            stored: stored.len() as u32,
            raw: raw.len() as u32,
            crc: crc32(0, &stored),
        };
        self.output.put(&stored)?;
        Ok(entry)
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // Best effort: what stays is removed at the next start.
            let _ = self.fs.remove(&self.output.path);
        }
    }
}

/// One contiguous column of each, borrowed if there is one piece only.
fn joined<'a>(pieces: &[(&'a [Timestamp], &'a [f64])]) -> (Cow<'a, [Timestamp]>, Cow<'a, [f64]>) {
    match pieces {
        [(timestamps, values)] => (Cow::Borrowed(timestamps), Cow::Borrowed(values)),
        _ => (
            pieces.iter().flat_map(|p| p.0).copied().collect(),
            pieces.iter().flat_map(|p| p.1).copied().collect(),
        ),
    }
}

fn push_row(reader: &mut Cursor<'_>, labels: &LabelSections, builder: &mut PageBuilder) -> Option<()> {
    let mut numbers = Vec::new();
    for _ in 0..reader.uvarint()? {
        let name = reader.uvarint()? as u32;
        numbers.push(labels.rank(name, reader.uvarint()? as u32)?);
    }
    let has_starts = reader.uvarint()? == 1;
    let floats = read_chunks(reader, has_starts)?;
    let histograms = read_chunks(reader, has_starts)?;
    builder.push(&numbers, &NewChunks { floats, histograms, has_starts });
    Some(())
}

fn read_chunks<'a>(reader: &mut Cursor<'a>, has_starts: bool) -> Option<Vec<NewChunk<'a>>> {
    let mut chunks = Vec::new();
    for _ in 0..reader.uvarint()? {
        let column = reader.uvarint()? as u32;
        let place = read_place(reader)?;
        let starts = if has_starts { read_place(reader)? } else { NewPlace::Inline(&[]) };
        chunks.push(NewChunk { column, place, starts });
    }
    Some(chunks)
}

fn read_place<'a>(reader: &mut Cursor<'a>) -> Option<NewPlace<'a>> {
    let head = reader.uvarint()?;
    Some(if head & 1 == 1 {
        NewPlace::Inline(reader.bytes((head >> 1) as usize)?)
    } else {
        NewPlace::Stored { position: reader.uvarint()?, length: (head >> 1) as u32 }
    })
}

fn directory(pages: &[PageEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pages.len() * format::PAGE_ENTRY_BYTES);
    pages.iter().for_each(|page| page.write(&mut out));
    out
}

/// The file under construction, written in large pieces.
#[derive(Debug)]
struct Output {
    file: Arc<dyn File>,
    path: PathBuf,
    written: u64,
    buffer: Vec<u8>,
}

impl Output {
    fn offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let describe = || format!("write {} at {}", self.path.display(), self.written);
        self.file.write_all_at(&self.buffer, self.written).map_err(|e| Error::io(describe(), e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Reads back what was put.
    fn read(&self, out: &mut [u8], offset: u64) -> Result<()> {
        if let Some(at) = offset.checked_sub(self.written) {
            let buffered = self.buffer.get(at as usize..).and_then(|b| b.get(..out.len()));
            let buffered =
                buffered.ok_or_else(|| Error::internal("a block reads back only what it has written"))?;
            out.copy_from_slice(buffered);
            return Ok(());
        }
        let describe = || format!("read {} at {offset}", self.path.display());
        self.file.read_exact_at(out, offset).map_err(|e| Error::io(describe(), e))
    }

    fn sync(&mut self) -> Result<()> {
        self.flush()?;
        self.file.sync_data().map_err(|e| Error::io(format!("sync {}", self.path.display()), e))
    }
}

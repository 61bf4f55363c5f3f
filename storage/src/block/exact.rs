//! Reading the samples of a series as they were sent: integer histograms stay integer histograms. For merging blocks.

use super::format::{SERIES_PER_PAGE, Section};
use super::reader::Block;
use super::samples::BlockReader;
use super::series_page::{ChunkEntry, SeriesPage};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{AnyHistogram, Exemplar, TimeRange, Timestamp};
use roaring::RoaringBitmap;
use std::collections::VecDeque;

/// The samples of a series, floats and histograms each in time order, one sample a timestamp.
#[derive(Debug, Clone, Default)]
pub struct ExactSamples {
    /// Milliseconds, of the floats.
    pub times: Vec<Timestamp>,
    /// As many values.
    pub values: Vec<f64>,
    /// As many start timestamps, 0 for unknown; or none, if none is known.
    pub starts: Vec<Timestamp>,
    /// Milliseconds, of the histograms; none is in `times`.
    pub histogram_times: Vec<Timestamp>,
    /// As many histograms.
    pub histograms: Vec<AnyHistogram>,
    /// As many start timestamps, 0 for unknown; or none, if none is known.
    pub histogram_starts: Vec<Timestamp>,
    /// In the order of [`Exemplar::order`].
    pub exemplars: Vec<Exemplar>,
}

impl ExactSamples {
    /// Empties all columns.
    pub fn clear(&mut self) {
        self.times.clear();
        self.values.clear();
        self.starts.clear();
        self.histogram_times.clear();
        self.histograms.clear();
        self.histogram_starts.clear();
        self.exemplars.clear();
    }

    /// How many samples.
    pub fn len(&self) -> usize {
        self.times.len() + self.histogram_times.len()
    }

    /// Whether there is neither a sample nor an exemplar.
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && self.exemplars.is_empty()
    }

    /// The first and the last timestamp of a sample.
    pub fn times(&self) -> Option<(Timestamp, Timestamp)> {
        let ends = |times: &[Timestamp]| Some((*times.first()?, *times.last()?));
        match (ends(&self.times), ends(&self.histogram_times)) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, other) => one.or(other),
        }
    }

    /// Keeps the samples and exemplars whose time `is_kept`.
    pub fn retain(&mut self, is_kept: impl Fn(Timestamp) -> bool) {
        if !self.times.iter().all(|t| is_kept(*t)) {
            let kept: Vec<bool> = self.times.iter().map(|t| is_kept(*t)).collect();
            keep_flagged(&mut self.times, &kept);
            keep_flagged(&mut self.values, &kept);
            keep_flagged(&mut self.starts, &kept);
        }
        if !self.histogram_times.iter().all(|t| is_kept(*t)) {
            let kept: Vec<bool> = self.histogram_times.iter().map(|t| is_kept(*t)).collect();
            keep_flagged(&mut self.histogram_times, &kept);
            keep_flagged(&mut self.histograms, &kept);
            keep_flagged(&mut self.histogram_starts, &kept);
        }
        self.exemplars.retain(|exemplar| is_kept(exemplar.timestamp));
    }
}

fn keep_flagged<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut flags = kept.iter();
    items.retain(|_| flags.next().copied().unwrap_or(false));
}

/// Columns of timestamps that are kept decoded: the series of one target share theirs.
const CACHED_COLUMNS: usize = 16;

/// The exemplars of so many series are read at once.
const EXEMPLAR_SERIES: u32 = 256;

/// Reads whole series; one for each block, in the order of the series.
#[derive(Debug, Default)]
pub struct ExactReader {
    reader: BlockReader,
    /// Number and timestamps, the last used at the end.
    columns: Vec<(u32, Vec<Timestamp>)>,
    /// Series and exemplar: those of the series before number `exemplars_until`.
    exemplars: VecDeque<(u32, Exemplar)>,
    exemplars_until: u32,
}

impl ExactReader {
    /// Brings a column to the end of the cache.
    fn column(&mut self, block: &Block, number: u32) -> Result<&[Timestamp]> {
        let known = self.columns.iter().position(|c| c.0 == number);
        let entry = match known {
            Some(at) => self.columns.remove(at),
            None => {
                let mut times = match self.columns.len() {
                    CACHED_COLUMNS.. => self.columns.remove(0).1,
                    _ => Vec::new(),
                };
                let broken = || block.corrupt(Section::Tscol, format!("column {number} is damaged"));
                block.columns()?.decode(number, &mut times).ok_or_else(broken)?;
                if !times.windows(2).all(|w| w[0] < w[1]) {
                    return Err(broken());
                }
                (number, times)
            }
        };
        self.columns.push(entry);
        Ok(self.columns.last().map_or(&[], |c| &c.1))
    }

    fn read_chunks(
        &mut self,
        block: &Block,
        page: &SeriesPage,
        chunks: &[ChunkEntry],
        (times, starts): (&mut Vec<Timestamp>, &mut Vec<Timestamp>),
        mut decode: impl FnMut(&mut BlockReader, &ChunkEntry, usize) -> Result<()>,
    ) -> Result<()> {
        let has_starts = chunks.iter().any(|chunk| chunk.starts.is_some());
        for chunk in chunks {
            let column = self.column(block, chunk.column)?;
            if times.last().is_some_and(|last| column.first().is_none_or(|first| first <= last)) {
                return Err(block.corrupt(Section::Tscol, "the chunks of a series are not in time order"));
            }
            let samples = column.len();
            times.extend_from_slice(column);
            if has_starts {
                let column = times.get(times.len() - samples..).unwrap_or_default();
                starts.extend_from_slice(self.reader.starts_of(block, page, chunk, column)?);
            }
            decode(&mut self.reader, chunk, samples)?;
        }
        Ok(())
    }

    /// Appends the exemplars of a series. The series before it are not asked for any more.
    fn read_exemplars(&mut self, block: &Block, series: u32, out: &mut Vec<Exemplar>) -> Result<()> {
        if !block.has_exemplars() {
            return Ok(());
        }
        if series >= self.exemplars_until {
            let until = series.saturating_add(EXEMPLAR_SERIES);
            let wanted: RoaringBitmap = (series..until).collect();
            self.exemplars.clear();
            let found = &mut self.exemplars;
            block.read_exemplars(&wanted, TimeRange::ALL, &mut |number, e| found.push_back((number, e)))?;
            self.exemplars_until = until;
        }
        let ready = self.exemplars.iter().take_while(|next| next.0 <= series).count();
        let of_series = self.exemplars.drain(..ready).filter(|next| next.0 == series);
        out.extend(of_series.map(|next| next.1));
        Ok(())
    }

    /// Reads all samples and exemplars of series number `series` of `block` into `out`, replacing what is there. The block must
    /// be the same at each call, and the series higher than before.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] if a part of the block that is needed is damaged, or the disk refuses.
    pub fn read(&mut self, block: &Block, series: u32, out: &mut ExactSamples) -> Result<()> {
        out.clear();
        if series >= block.series_count() {
            let text = format!("{}: no series {series}", block.path.display());
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        let page = self.reader.series_page(block, series / SERIES_PER_PAGE)?;
        let number = (series % SERIES_PER_PAGE) as usize;
        self.read_exemplars(block, series, &mut out.exemplars)?;
        let ExactSamples { times, values, starts, histogram_times, histograms, histogram_starts, .. } = out;
        self.read_chunks(block, &page, page.chunks(number), (times, starts), |reader, chunk, samples| {
            reader.decode_values(block, &page, chunk.place, samples as u32, values)
        })?;
        let columns = (&mut *histogram_times, histogram_starts);
        self.read_chunks(block, &page, page.histogram_chunks(number), columns, |reader, chunk, samples| {
            reader.decode_histograms(block, &page, chunk.place, samples, histograms)
        })?;
        let mut floats = times.iter().copied().peekable();
        let is_alone = histogram_times.iter().all(|time| {
            while floats.next_if(|t| t < time).is_some() {}
            floats.peek() != Some(time)
        });
        if is_alone {
            Ok(())
        } else {
            Err(block.corrupt(Section::Tscol, "a float and a histogram of a series have one timestamp"))
        }
    }
}

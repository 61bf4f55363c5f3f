//! `StoreSeriesSet`: the series a select found, read from every source that has them. Hot path.

use super::entries::{Entries, Entry, Part};
use super::laid_out::{Layouts, Piece};
use super::merge::{Source, are_in_sequence, join_starts, merge_kinds, merge_sources};
use super::warnings::Warnings;
use crate::api::{ChunksRead, HistogramSample, LabelColumn, Samples, SeriesSet, fresh_version};
use crate::block::BlockReader;
use crate::error::Result;
use crate::head::page::PAGE_SERIES;
use crate::head::registry::Registry;
use crate::head::runs as head;
use crate::head::view::View;
use crate::model::{FloatHistogram, Labels, TimeRange, Timestamp};
use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
pub(crate) struct StoreSeriesSet {
    registry: Arc<Registry>,
    view: Arc<View>,
    range: TimeRange,
    entries: Entries,
    warnings: Warnings,
    decoded: AtomicU64,
    skipped: AtomicU64,
    /// Tells sets apart, whose views of memory differ.
    instance: u64,
}

/// Where [`StoreSeriesSet::instance`] goes on.
static NEXT_INSTANCE: AtomicU64 = AtomicU64::new(1);
/// Tells sources in memory from blocks, which are numbered from 1.
const HEAD_SOURCE: u64 = 1 << 63;

/// The number among them of what the last flush knew; generations have lower ones.
const FLUSHED_SOURCE: u64 = 0xff;

/// The newest sample of a series.
struct Newest {
    /// What its timestamp is a piece of.
    piece: Piece,
    time: Timestamp,
    value: f64,
}

/// What a thread keeps from one read to the next.
#[derive(Default)]
struct Scratch {
    /// Timestamps of the series being read, compared with those of the one before.
    times: Vec<Timestamp>,
    /// Samples of sources to be merged.
    sources: Vec<Source>,
    layouts: Layouts,
    reader: BlockReader,
    samples: Samples,
    histograms: Vec<(Timestamp, FloatHistogram)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

impl StoreSeriesSet {
    pub(crate) fn new(
        registry: Arc<Registry>,
        view: Arc<View>,
        range: TimeRange,
        entries: Entries,
        warnings: Warnings,
    ) -> Self {
        let (decoded, skipped) = (AtomicU64::new(0), AtomicU64::new(0));
        let instance = NEXT_INSTANCE.fetch_add(1, Ordering::Relaxed);
        Self { registry, view, range, entries, warnings, decoded, skipped, instance }
    }

    /// Appends the samples of `entry` piece by piece in time order; `false` if they are not simply that: several sources have
    /// samples of the same time, or there is more than floats.
    fn read_in_sequence(
        &self,
        entry: Entry<'_>,
        range: TimeRange,
        scratch: &mut Scratch,
        out: &mut Samples,
    ) -> Result<bool> {
        out.values.clear();
        out.start_timestamps.clear();
        out.histograms.clear();
        let Scratch { reader, layouts, .. } = scratch;
        let Samples { timestamps, values, timestamps_version, .. } = out;
        let mut layout = layouts.begin(timestamps, timestamps_version);
        for part in self.in_time_order(entry.parts).as_ref() {
            let Some(live) = self.view.blocks.get(part.block as usize) else { continue };
            let is_whole = live.deletions().is_ok_and(|deletions| !deletions.touches(part.series));
            if !is_whole {
                layout.abandon();
                return Ok(false);
            }
            let appended = live.block.append_floats(part.series, range, reader, values, |stretch| {
                let piece = Piece { key: stretch.key, span: stretch.span };
                layout.add(piece, stretch.times.iter().copied())
            });
            // Damage is told and confined by the other way of reading.
            if !matches!(appended, Ok(true)) {
                layout.abandon();
                return Ok(false);
            }
        }
        if let Some(id) = entry.id {
            let frozen = self.view.frozen.iter().map(|frozen| &frozen.generation);
            for (number, generation) in frozen.chain([&self.view.active]).enumerate() {
                let is_simple = generation.visit_runs(id, range, |run| {
                    let piece = self.head_piece(id, run.group, run.span, number as u64 + 1);
                    Ok(layout.add(piece, run.times()) && run.values(values).map(|()| true)?)
                })?;
                if !is_simple || number as u64 + 1 >= FLUSHED_SOURCE {
                    layout.abandon();
                    return Ok(false);
                }
            }
        }
        layout.finish();
        if !entry.parts.is_empty() {
            self.count_chunks(reader);
        }
        Ok(true)
    }

    /// Timestamps of series `id` in generation `number` of the view; 0 is the active one where nothing else is read.
    fn head_piece(&self, id: u32, group: u32, span: (u32, u32), number: u64) -> Piece {
        let page = u64::from(id) / PAGE_SERIES as u64;
        let source = HEAD_SOURCE | self.instance << 8 | number;
        Piece { key: (source, page << 32 | u64::from(group)), span }
    }

    /// The newest sample of `entry`, if it is in memory and easily found.
    fn newest(&self, entry: Entry<'_>) -> Option<Newest> {
        let id = entry.id?;
        let mut blocks = entry.parts.iter().filter_map(|part| self.view.blocks.get(part.block as usize));
        if let Some(head::Newest { group, index, time, value }) = self.view.active.newest(id) {
            let piece = self.head_piece(id, group, (index, index + 1), 0);
            // Blocks that were imported may be about later times.
            return blocks.all(|b| b.block.meta().max_time < time).then_some(Newest { piece, time, value });
        }
        let flushed = self.view.flushed.as_ref()?;
        let last = flushed.newest(id).filter(|_| !self.view.has_in_memory(id))?;
        let source = HEAD_SOURCE | self.instance << 8 | FLUSHED_SOURCE;
        let piece = Piece { key: (source, last.time as u64), span: (0, 1) };
        let newest = Newest { piece, time: last.time, value: last.value };
        blocks.all(|live| flushed.is_newer_than(live, last.time)).then_some(newest)
    }

    fn count_chunks(&self, reader: &mut BlockReader) {
        let chunks = reader.take_chunks();
        self.decoded.fetch_add(chunks.decoded, Ordering::Relaxed);
        self.skipped.fetch_add(chunks.skipped, Ordering::Relaxed);
    }

    /// The parts by the time of their blocks.
    fn in_time_order<'a>(&self, parts: &'a [Part]) -> Cow<'a, [Part]> {
        let start = |part: &Part| self.view.blocks.get(part.block as usize).map(|b| b.block.meta().min_time);
        if parts.is_sorted_by_key(start) {
            return Cow::Borrowed(parts);
        }
        let mut sorted = parts.to_vec();
        sorted.sort_by_key(start);
        Cow::Owned(sorted)
    }

    /// Reads one block's samples into `out`; damage becomes a warning and no samples.
    fn read_part(
        &self,
        part: Part,
        range: TimeRange,
        reader: &mut BlockReader,
        out: &mut Samples,
    ) -> Result<()> {
        let Some(live) = self.view.blocks.get(part.block as usize) else {
            out.clear();
            return Ok(());
        };
        let read = live.deletions().and_then(|deletions| {
            live.block.read_series(part.series, range, reader, out)?;
            deletions.hide(part.series, out);
            Ok(())
        });
        self.count_chunks(reader);
        if self.warnings.confine(read)?.is_none() {
            out.clear();
        }
        Ok(())
    }

    /// Fills the sources with the samples of `entry`, lowest priority first, and answers how many have some.
    fn read_sources(&self, entry: Entry<'_>, range: TimeRange, scratch: &mut Scratch) -> Result<usize> {
        let Scratch { sources, reader, samples, histograms, .. } = scratch;
        let mut used = 0;
        for part in entry.parts {
            self.read_part(*part, range, reader, samples)?;
            let source = source_at(sources, used);
            source.times.extend_from_slice(&samples.timestamps);
            source.values.extend_from_slice(&samples.values);
            source.starts.extend_from_slice(&samples.start_timestamps);
            source.histograms.append(&mut samples.histograms);
            used += usize::from(!source.is_empty());
        }
        let Some(id) = entry.id else { return Ok(used) };
        let frozen = self.view.frozen.iter().map(|frozen| &frozen.generation);
        for generation in frozen.chain([&self.view.active]) {
            let source = source_at(sources, used);
            generation.read(id, range, &mut source.times, &mut source.values, histograms)?;
            source.histograms.extend(histograms.drain(..).map(|(timestamp, histogram)| HistogramSample {
                timestamp,
                start_timestamp: 0,
                histogram: Arc::new(histogram),
            }));
            if let Some(starts) = generation.starts(id) {
                source.read_starts(starts);
            }
            used += usize::from(!source.is_empty());
        }
        Ok(used)
    }

    fn read_merged(
        &self,
        entry: Entry<'_>,
        range: TimeRange,
        scratch: &mut Scratch,
        out: &mut Samples,
    ) -> Result<()> {
        out.values.clear();
        out.start_timestamps.clear();
        out.histograms.clear();
        let used = self.read_sources(entry, range, scratch)?;
        let Scratch { times, sources, .. } = scratch;
        let sources = sources.get_mut(..used).unwrap_or_default();
        let has_starts = sources.iter().any(|source| !source.starts.is_empty());
        let has_histograms = sources.iter().any(|source| !source.histograms.is_empty());
        if has_histograms || (has_starts && !are_in_sequence(sources)) {
            merge_kinds(sources, out);
            return Ok(());
        }
        if has_starts {
            join_starts(sources, &mut out.start_timestamps);
        }
        times.clear();
        merge_sources(sources, times, &mut out.values);
        if *times != out.timestamps {
            std::mem::swap(times, &mut out.timestamps);
            out.timestamps_version = fresh_version();
        }
        Ok(())
    }
}

/// The source numbered `at`, emptied.
fn source_at(sources: &mut Vec<Source>, at: usize) -> &mut Source {
    if at >= sources.len() {
        sources.resize_with(at + 1, Source::default);
    }
    let source = &mut sources[at];
    source.clear();
    source
}

impl SeriesSet for StoreSeriesSet {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.entries.get(index).map_or_else(Labels::empty, |entry| entry.labels(&self.registry))
    }

    fn label_column(&self, name: &str) -> LabelColumn {
        match self.entries.ids() {
            Some(ids) => self.registry.catalog().label_column(name, ids.iter().copied()),
            None => LabelColumn::from_values((0..self.len()).map(|i| self.labels(i).value(name).to_owned())),
        }
    }

    fn read(&self, index: usize, range: TimeRange, out: &mut Samples) -> Result<()> {
        let mut range = range.within(self.range);
        let entry = self.entries.get(index);
        range.min_time = range.min_time.max(entry.map_or(Timestamp::MIN, |entry| entry.oldest));
        let Some(entry) = entry.filter(|_| !range.is_empty()) else {
            out.clear();
            return Ok(());
        };
        let read = SCRATCH.with_borrow_mut(|scratch| {
            if self.read_in_sequence(entry, range, scratch, out)? {
                return Ok(());
            }
            out.clear();
            self.read_merged(entry, range, scratch, out)
        });
        if read.is_err() {
            out.clear();
        }
        read
    }

    fn read_newest(&self, index: usize, range: TimeRange, out: &mut Samples) -> Result<()> {
        let newest = self.entries.get(index).and_then(|entry| self.newest(entry));
        let within = range.within(self.range);
        let Some(newest) = newest.filter(|newest| within.contains(newest.time)) else {
            return self.read(index, range, out);
        };
        if self.entries.get(index).is_some_and(|entry| newest.time < entry.oldest) {
            out.clear();
            return Ok(());
        }
        SCRATCH.with_borrow_mut(|scratch| {
            out.values.clear();
            out.start_timestamps.clear();
            out.histograms.clear();
            let mut layout = scratch.layouts.begin(&mut out.timestamps, &mut out.timestamps_version);
            layout.add(newest.piece, std::iter::once(newest.time));
            layout.finish();
            out.values.push(newest.value);
        });
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.list()
    }

    fn bytes(&self) -> usize {
        self.entries.bytes()
    }

    fn chunks_read(&self) -> ChunksRead {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ChunksRead { decoded: load(&self.decoded), skipped: load(&self.skipped) }
    }
}

//! Import: the samples of Prometheus' blocks go through the store's own way of writing, block by block in the order of time, apart
//! from those that are there already. Memory: one chunk of the block, one batch, what is stored of one series, and what the store
//! itself holds before it flushes.

use super::stored::{Known, Stored};
use kymo_storage::api::Queryable;
use kymo_storage::db::{Refusal, Storage, WriteBatch};
use kymo_storage::env::Fs;
use kymo_storage::model::{Labels, SeriesRef, Timestamp};
use kymo_storage::prometheus::{BlockReader, BlockSample, Meta, Ulid};
use kymo_storage::{Error, ErrorKind, Result as StorageResult};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Samples that are committed together, at most.
const BATCH: usize = 100_000;
/// The store is flushed after so many samples: fewer than those at which it refuses writes because it cannot keep up.
const FLUSH: u64 = 10_000_000;
/// What a histogram counts in these two.
const HISTOGRAM_WEIGHT: usize = 50;
/// How many refusals are spelled out.
const REFUSALS: usize = 10;

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Blocks read.
    pub blocks: u64,
    /// Samples that are stored now and were not before.
    pub samples: u64,
    /// How many of these are histograms.
    pub histograms: u64,
    /// Samples that were stored already.
    pub known: u64,
    /// Samples refused.
    pub refused_total: u64,
    /// The first of them, and the first series.
    pub refused: Vec<Refusal>,
    /// Whether there is a write-ahead log beside the blocks: the newest samples, up to three hours, lie there and in no block. A
    /// snapshot by Prometheus' API has them.
    pub has_log: bool,
}

/// How far an import is.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ImportProgress<'a> {
    /// The folder name of the block that is read.
    pub block: &'a str,
    /// Series read so far, of all blocks.
    pub series: u64,
    /// Series of all blocks together.
    pub series_total: u64,
}

/// Imports the blocks in `dir`.
///
/// # Errors
/// `NotFound` without blocks; damage; the store refusing.
pub(super) fn import(
    storage: &Storage,
    fs: &Arc<dyn Fs>,
    dir: &Path,
    progress: &mut dyn FnMut(ImportProgress<'_>),
) -> StorageResult<ImportReport> {
    let blocks = find(fs, dir)?;
    // Every block is looked at before the first is taken in.
    for (path, _) in &blocks {
        BlockReader::open(fs, path)?;
    }
    let series_total = blocks.iter().map(|b| b.1.stats.num_series).sum();
    let mut importer = Importer::new(storage);
    let mut series = 0;
    for (path, meta) in &blocks {
        progress(ImportProgress { block: &meta.ulid, series, series_total });
        let block = BlockReader::open(fs, path)?;
        importer.block(&block, || {
            series += 1;
            progress(ImportProgress { block: &meta.ulid, series, series_total });
        })?;
        importer.report.blocks += 1;
    }
    storage.flush()?;
    let has_log = fs.list(&dir.join("wal")).is_ok_and(|files| !files.is_empty());
    Ok(ImportReport { has_log, ..importer.report })
}

/// The blocks in `dir`, or the one that it is, by time. Blocks that others replace are left out, as Prometheus does.
fn find(fs: &Arc<dyn Fs>, dir: &Path) -> StorageResult<Vec<(PathBuf, Meta)>> {
    if fs.open(&dir.join("meta.json")).is_ok() {
        return Ok(vec![(dir.to_owned(), Meta::read(fs, dir)?)]);
    }
    let listed = fs.list(dir).map_err(|e| Error::io(format!("list {}", dir.display()), e))?;
    let is_block = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).and_then(Ulid::parse).is_some();
    let mut blocks = Vec::new();
    for path in listed.into_iter().filter(is_block) {
        let meta = Meta::read(fs, &path)?;
        blocks.push((path, meta));
    }
    let replaced: HashSet<String> =
        blocks.iter().flat_map(|b| b.1.compaction.parents.iter().map(|p| p.ulid.clone())).collect();
    blocks.retain(|b| !replaced.contains(&b.1.ulid) && !b.1.compaction.deletable);
    blocks.sort_by(|a, b| (a.1.min_time, &a.1.ulid).cmp(&(b.1.min_time, &b.1.ulid)));
    if blocks.is_empty() {
        let text = format!(
            "there is no block of Prometheus in {}: no meta.json, no folder named by a ULID",
            dir.display()
        );
        return Err(Error::new(ErrorKind::NotFound, text));
    }
    Ok(blocks)
}

impl ImportReport {
    fn refuse(&mut self, samples: u64, refusals: impl IntoIterator<Item = Refusal>) {
        self.refused_total += samples;
        let room = REFUSALS - self.refused.len().min(REFUSALS);
        self.refused.extend(refusals.into_iter().take(room));
    }
}

struct Importer<'a> {
    storage: &'a Storage,
    batch: WriteBatch,
    weight: usize,
    since_flush: u64,
    report: ImportReport,
}

/// The series being read.
struct Current<'a, 'b> {
    importer: &'a mut Importer<'b>,
    labels: Labels,
    /// What the store has of it in the times of the block.
    known: Known<'a>,
    /// Its number in the open batch; `None` if it was refused.
    series: Option<SeriesRef>,
}

impl<'a> Importer<'a> {
    fn new(storage: &'a Storage) -> Self {
        let batch = storage.batch();
        Self { storage, batch, weight: 0, since_flush: 0, report: ImportReport::default() }
    }

    /// Takes in a block; `done` is called after each series.
    fn block(&mut self, block: &BlockReader, mut done: impl FnMut()) -> StorageResult<()> {
        // What the blocks before brought in counts as there.
        self.commit()?;
        let range = block.meta().range();
        let querier = self.storage.querier(range)?;
        let mut stored = Stored::new(querier.select(range, &[])?, range);
        for number in 0..block.series_count() {
            self.series(block, number, &mut stored)?;
            done();
        }
        self.commit()
    }

    fn series(&mut self, block: &BlockReader, number: usize, stored: &mut Stored) -> StorageResult<()> {
        // Passed as it is: so the compiler knows that it is called once and may give `self` away.
        block.read(
            number,
            move |labels| {
                let known = stored.find(labels)?;
                let mut current = Current { importer: self, labels: labels.clone(), known, series: None };
                current.resolve();
                Ok(current)
            },
            Current::add,
        )
    }

    fn commit(&mut self) -> StorageResult<()> {
        let batch = std::mem::replace(&mut self.batch, self.storage.batch());
        self.since_flush += std::mem::take(&mut self.weight) as u64;
        let report = self.storage.append(batch)?;
        self.report.samples += report.accepted;
        self.report.histograms += report.accepted_histograms;
        self.report.refuse(report.refused_total, report.refused);
        if self.since_flush >= FLUSH {
            self.since_flush = 0;
            self.storage.flush()?;
        }
        Ok(())
    }
}

impl Current<'_, '_> {
    fn resolve(&mut self) {
        match self.importer.batch.series_labels(&self.labels) {
            Ok(series) => self.series = Some(series),
            Err(refusal) => {
                self.series = None;
                self.importer.report.refuse(0, [refusal]);
            }
        }
    }

    fn add(&mut self, time: Timestamp, sample: BlockSample) -> Result<(), Error> {
        if self.known.has(time, &sample) {
            self.importer.report.known += 1;
            return Ok(());
        }
        let Some(series) = self.series else {
            self.importer.report.refuse(1, []);
            return Ok(());
        };
        match sample {
            BlockSample::Float(value) => {
                self.importer.batch.sample(series, time, value);
                self.importer.weight += 1;
            }
            BlockSample::Histogram(histogram) => {
                if let Err(refusal) = self.importer.batch.histogram(series, time, histogram) {
                    self.importer.report.refuse(1, [refusal]);
                }
                self.importer.weight += HISTOGRAM_WEIGHT;
            }
        }
        if self.importer.weight >= BATCH {
            self.importer.commit()?;
            self.resolve();
        }
        Ok(())
    }
}

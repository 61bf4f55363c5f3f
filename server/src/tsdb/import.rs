//! `kymo tsdb import-blocks`: the samples of Prometheus' blocks go through the store's own way of writing, block by block in the
//! order of time, apart from those that are there already. Memory: one chunk of the block, one batch, what is stored of one
//! series, and what the store itself holds before it flushes.

use super::stored::{Known, Stored};
use super::{bar, disk, open, say, text, warn};
use crate::config::tsdb_flags::ImportFlags;
use kymo_storage::api::Queryable;
use kymo_storage::db::Storage;
use kymo_storage::env::Fs;
use kymo_storage::model::{Labels, SeriesRef, Timestamp};
use kymo_storage::prometheus::{BlockReader, BlockSample, Meta, Ulid};
use kymo_storage::{Error, Result as StorageResult};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Samples that are committed together.
const BATCH: usize = 100_000;
/// The store is flushed after so many samples: fewer than those at which it refuses writes because it cannot keep up.
const FLUSH: u64 = 10_000_000;
/// What a histogram counts in these two.
const HISTOGRAM_WEIGHT: usize = 50;
/// How many refusals are spelled out.
const REFUSALS: usize = 10;

pub(super) fn run(flags: &ImportFlags) -> Result<(), String> {
    let fs = disk();
    let blocks = find(&fs, &flags.dir)?;
    // Every block is looked at before the first is taken in.
    for (path, _) in &blocks {
        BlockReader::open(&fs, path).map_err(text)?;
    }
    let storage = open(&flags.store.data)?;
    let mut importer = Importer::new(&storage);
    let bar = bar(blocks.iter().map(|b| b.1.stats.num_series).sum(), "series");
    for (path, meta) in &blocks {
        bar.set_message(meta.ulid.clone());
        let block = BlockReader::open(&fs, path).map_err(text)?;
        importer.block(&block, || bar.inc(1)).map_err(text)?;
    }
    bar.set_message("flush");
    storage.flush().map_err(text)?;
    let totals = importer.totals;
    storage.close().map_err(text)?;
    bar.finish_and_clear();
    say(format_args!(
        "{} blocks, {} samples ({} of them histograms) from {} are in {}",
        blocks.len(),
        totals.accepted,
        totals.histograms,
        flags.dir.display(),
        flags.store.data.display()
    ))?;
    if totals.known > 0 {
        say(format_args!("{} samples were there already", totals.known))?;
    }
    say(format_args!("a server drops those that are older than its --retention"))?;
    note_log(&fs, &flags.dir);
    if totals.refused > 0 {
        totals.reasons.iter().for_each(|reason| warn(format_args!("refused: {reason}")));
        return Err(format!("{} samples were refused", totals.refused));
    }
    Ok(())
}

/// The blocks in `dir`, or the one that it is, by time. Blocks that others replace are left out, as Prometheus does.
fn find(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Vec<(PathBuf, Meta)>, String> {
    if fs.open(&dir.join("meta.json")).is_ok() {
        return Ok(vec![(dir.to_owned(), Meta::read(fs, dir).map_err(text)?)]);
    }
    let listed = fs.list(dir).map_err(|e| format!("list {}: {e}", dir.display()))?;
    let is_block = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).and_then(Ulid::parse).is_some();
    let mut blocks = Vec::new();
    for path in listed.into_iter().filter(is_block) {
        let meta = Meta::read(fs, &path).map_err(text)?;
        blocks.push((path, meta));
    }
    let replaced: HashSet<String> =
        blocks.iter().flat_map(|b| b.1.compaction.parents.iter().map(|p| p.ulid.clone())).collect();
    blocks.retain(|b| !replaced.contains(&b.1.ulid) && !b.1.compaction.deletable);
    blocks.sort_by(|a, b| (a.1.min_time, &a.1.ulid).cmp(&(b.1.min_time, &b.1.ulid)));
    if blocks.is_empty() {
        return Err(format!(
            "there is no block of Prometheus in {}: no meta.json, no folder named by a ULID",
            dir.display()
        ));
    }
    Ok(blocks)
}

/// Says that what Prometheus has not put into blocks yet is not in any.
fn note_log(fs: &Arc<dyn Fs>, dir: &Path) {
    if fs.list(&dir.join("wal")).is_ok_and(|files| !files.is_empty()) {
        warn(format_args!(
            "note: the newest samples, up to three hours, lie in {}/wal and in no block. To get them too, POST to \
             /api/v1/admin/tsdb/snapshot of Prometheus (with --web.enable-admin-api) and import the folder it names",
            dir.display()
        ));
    }
}

#[derive(Default)]
struct Totals {
    accepted: u64,
    histograms: u64,
    refused: u64,
    /// Those that the store had already.
    known: u64,
    reasons: Vec<String>,
}

impl Totals {
    fn refuse(&mut self, samples: u64, reasons: impl IntoIterator<Item = String>) {
        self.refused += samples;
        let room = REFUSALS - self.reasons.len().min(REFUSALS);
        self.reasons.extend(reasons.into_iter().take(room));
    }
}

struct Importer<'a> {
    storage: &'a Storage,
    batch: kymo_storage::db::WriteBatch,
    weight: usize,
    since_flush: u64,
    totals: Totals,
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
        Self { storage, batch, weight: 0, since_flush: 0, totals: Totals::default() }
    }

    /// Takes in a block; `done` is called after each series.
    fn block(&mut self, block: &BlockReader, done: impl Fn()) -> StorageResult<()> {
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
        self.totals.accepted += report.accepted;
        self.totals.histograms += report.accepted_histograms;
        let at = |time: Option<Timestamp>| time.map_or(String::new(), |time| format!(" at {time}"));
        let reasons = report.refused.iter().map(|r| format!("{}{}: {}", r.labels, at(r.timestamp), r.reason));
        self.totals.refuse(report.refused_total, reasons);
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
                self.importer.totals.refuse(0, [format!("{}: {}", self.labels, refusal.reason)]);
            }
        }
    }

    fn add(&mut self, time: Timestamp, sample: BlockSample) -> Result<(), Error> {
        if self.known.has(time, &sample) {
            self.importer.totals.known += 1;
            return Ok(());
        }
        let Some(series) = self.series else {
            self.importer.totals.refuse(1, []);
            return Ok(());
        };
        match sample {
            BlockSample::Float(value) => {
                self.importer.batch.sample(series, time, value);
                self.importer.weight += 1;
            }
            BlockSample::Histogram(histogram) => {
                if let Err(refusal) = self.importer.batch.histogram(series, time, histogram) {
                    let reason = format!("{} at {time}: {}", self.labels, refusal.reason);
                    self.importer.totals.refuse(1, [reason]);
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

//! Export: two hours at a time become a block of Prometheus. Memory: the labels of the series of two hours, and the samples of one
//! of them.

use kymo_storage::api::{Queryable, Samples};
use kymo_storage::block::new_uuid;
use kymo_storage::db::Storage;
use kymo_storage::env::{Clock, Fs};
use kymo_storage::model::TimeRange;
use kymo_storage::prometheus::{BlockWriter, Meta, Ulid};
use kymo_storage::{Error, Result};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The width of a block, which begins at a multiple of it: what Prometheus' own blocks have before they are merged.
const WIDTH_MS: i64 = 2 * 3_600_000;
/// Longer spans are halved and looked at for samples first, so that a sample of 1970 beside one of today costs little.
const WINDOWS_LISTED: i64 = 64;

/// What an export wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// The blocks, in the order of time.
    pub blocks: Vec<ExportedBlock>,
    /// Damage that was met: samples are missing in the blocks. Each sentence names a file.
    pub warnings: Vec<String>,
}

/// A block that an export wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportedBlock {
    /// The name of its folder, a ULID.
    pub name: String,
    /// Series in it.
    pub series: u64,
    /// Samples in it.
    pub samples: u64,
}

/// How far an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportProgress {
    /// Windows of two hours done.
    pub windows: u64,
    /// Windows that may have samples.
    pub windows_total: u64,
}

impl ExportReport {
    /// Samples in all blocks together.
    pub fn samples(&self) -> u64 {
        self.blocks.iter().map(|block| block.samples).sum()
    }
}

/// Exports the samples in `range` into the folder `out`.
///
/// # Errors
/// The disk refusing, or damage that cannot be confined.
pub(super) fn export(
    storage: &Storage,
    fs: &Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    out: &Path,
    range: TimeRange,
    progress: &mut dyn FnMut(ExportProgress),
) -> Result<ExportReport> {
    fs.create_dir_all(out).map_err(|e| Error::io(format!("create {}", out.display()), e))?;
    let mut windows = BTreeSet::new();
    for held in held(storage) {
        collect(storage, held.within(range), &mut windows)?;
    }
    let windows_total = windows.len() as u64;
    let mut export = Export { fs, clock, storage, out, warnings: BTreeSet::new() };
    let mut report = ExportReport::default();
    progress(ExportProgress { windows: 0, windows_total });
    for (done, window) in windows.into_iter().enumerate() {
        let start = window.saturating_mul(WIDTH_MS);
        let times = TimeRange::new(start, start.saturating_add(WIDTH_MS)).within(range);
        if let Some(meta) = export.block(times)? {
            let Meta { ulid: name, stats, .. } = meta;
            report.blocks.push(ExportedBlock { name, series: stats.num_series, samples: stats.num_samples });
        }
        progress(ExportProgress { windows: done as u64 + 1, windows_total });
    }
    report.warnings = export.warnings.into_iter().collect();
    Ok(report)
}

/// The times that blocks and the head span.
fn held(storage: &Storage) -> Vec<TimeRange> {
    let head = storage.stats().head_times.map(|(first, last)| TimeRange::closed(first, last));
    head.into_iter().chain(storage.blocks().into_iter().map(|block| block.meta.range())).collect()
}

/// Adds the numbers of the windows in which there may be samples.
fn collect(storage: &Storage, times: TimeRange, windows: &mut BTreeSet<i64>) -> Result<()> {
    if times.is_empty() {
        return Ok(());
    }
    let (first, last) = (times.min_time.div_euclid(WIDTH_MS), times.last().div_euclid(WIDTH_MS));
    if last - first < WINDOWS_LISTED {
        windows.extend(first..=last);
        return Ok(());
    }
    if !has_samples(storage, times)? {
        return Ok(());
    }
    let middle = i64::midpoint(first, last) * WIDTH_MS;
    collect(storage, TimeRange::new(times.min_time, middle), windows)?;
    collect(storage, TimeRange::new(middle, times.max_time), windows)
}

fn has_samples(storage: &Storage, times: TimeRange) -> Result<bool> {
    let querier = storage.querier(times)?;
    let set = querier.select(times, &[])?;
    let mut samples = Samples::new();
    for index in 0..set.len() {
        set.read(index, times, &mut samples)?;
        if !samples.timestamps.is_empty() || !samples.histograms.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Export<'a> {
    fs: &'a Arc<dyn Fs>,
    clock: &'a Arc<dyn Clock>,
    storage: &'a Storage,
    out: &'a Path,
    warnings: BTreeSet<String>,
}

impl Export<'_> {
    /// Writes the block of `times`; none if there is no sample.
    fn block(&mut self, times: TimeRange) -> Result<Option<Meta>> {
        let querier = self.storage.querier(times)?;
        let set = querier.select(times, &[])?;
        let mut symbols = BTreeSet::new();
        for index in 0..set.len() {
            for (name, value) in set.labels(index).iter() {
                for text in [name, value] {
                    if !symbols.contains(text) {
                        symbols.insert(text.to_owned());
                    }
                }
            }
        }
        let ulid = Ulid::new(self.clock.now_ms(), new_uuid());
        let mut writer = BlockWriter::create(self.fs, self.out, ulid, times, symbols)?;
        let mut samples = Samples::new();
        for index in 0..set.len() {
            set.read(index, times, &mut samples)?;
            writer.add(&set.labels(index), &samples)?;
        }
        self.warnings.extend(set.warnings());
        writer.finish()
    }
}

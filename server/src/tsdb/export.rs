//! `kymo tsdb export-blocks`: two hours at a time become a block of Prometheus. Memory: the labels of the series of two hours,
//! and the samples of one of them.

use super::{bar, disk, open_existing, range, say, text, warn};
use crate::config::tsdb_flags::ExportFlags;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::block::{Manifest, new_uuid};
use kymo_storage::db::Storage;
use kymo_storage::env::{Clock, Fs, SystemClock};
use kymo_storage::model::TimeRange;
use kymo_storage::prometheus::{BlockWriter, Meta, Ulid};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The width of a block, which begins at a multiple of it: what Prometheus' own blocks have before they are merged.
const WIDTH_MS: i64 = 2 * 3_600_000;
/// Longer spans are halved and looked at for samples first, so that a sample of 1970 beside one of today costs little.
const WINDOWS_LISTED: i64 = 64;

pub(super) fn run(flags: &ExportFlags) -> Result<(), String> {
    let (fs, wanted) = (disk(), range(&flags.range)?);
    let storage = open_existing(&flags.store.data)?;
    fs.create_dir_all(&flags.out).map_err(|e| format!("create {}: {e}", flags.out.display()))?;
    let mut windows = BTreeSet::new();
    for held in held(&fs, &storage, &flags.store.data)? {
        collect(&storage, held.within(wanted), &mut windows).map_err(text)?;
    }
    let bar = bar(windows.len() as u64, "blocks of 2 h");
    let mut export = Export { fs, storage: &storage, out: &flags.out, warnings: BTreeSet::new() };
    let (mut blocks, mut samples) = (0u64, 0u64);
    for window in windows {
        let start = window.saturating_mul(WIDTH_MS);
        let times = TimeRange::new(start, start.saturating_add(WIDTH_MS)).within(wanted);
        if let Some(meta) = export.block(times).map_err(text)? {
            blocks += 1;
            samples += meta.stats.num_samples;
            bar.println(format!(
                "{}: {} series, {} samples",
                meta.ulid, meta.stats.num_series, meta.stats.num_samples
            ));
        }
        bar.inc(1);
    }
    let warnings = export.warnings;
    storage.close().map_err(text)?;
    bar.finish_and_clear();
    say(format_args!("{blocks} blocks with {samples} samples are in {}", flags.out.display()))?;
    if warnings.is_empty() {
        return Ok(());
    }
    warnings.iter().for_each(|warning| warn(format_args!("{warning}")));
    Err("damage was met: samples are missing in the blocks".to_owned())
}

/// The times that blocks and the head span.
fn held(fs: &Arc<dyn Fs>, storage: &Storage, data: &Path) -> Result<Vec<TimeRange>, String> {
    let manifest = Manifest::load(fs, data).map_err(text)?.unwrap_or_default();
    let mut held: Vec<TimeRange> = manifest.blocks.iter().map(|b| b.meta.range()).collect();
    held.extend(storage.stats().head_times.map(|(first, last)| TimeRange::closed(first, last)));
    Ok(held)
}

/// Adds the numbers of the windows in which there may be samples.
fn collect(storage: &Storage, times: TimeRange, windows: &mut BTreeSet<i64>) -> kymo_storage::Result<()> {
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

fn has_samples(storage: &Storage, times: TimeRange) -> kymo_storage::Result<bool> {
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
    fs: Arc<dyn Fs>,
    storage: &'a Storage,
    out: &'a Path,
    warnings: BTreeSet<String>,
}

impl Export<'_> {
    /// Writes the block of `times`; none if there is no sample.
    fn block(&mut self, times: TimeRange) -> kymo_storage::Result<Option<Meta>> {
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
        let ulid = Ulid::new(SystemClock::new().now_ms(), new_uuid());
        let mut writer = BlockWriter::create(&self.fs, self.out, ulid, times, symbols)?;
        let mut samples = Samples::new();
        for index in 0..set.len() {
            set.read(index, times, &mut samples)?;
            writer.add(&set.labels(index), &samples)?;
        }
        self.warnings.extend(set.warnings());
        writer.finish()
    }
}

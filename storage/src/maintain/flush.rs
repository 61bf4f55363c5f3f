//! Flush: the samples of a frozen generation as blocks.
//!
//! Most samples lie within a day of the newest and make one block. Much older ones (backfill) are put into blocks of their
//! own by day, so that retention can drop them in time.

use crate::block::{BlockSpec, BlockWriter, ManifestBlock, SeriesContent};
use crate::env::Fs;
use crate::error::Result;
use crate::head::generation::Generation;
use crate::head::order::LabelOrder;
use crate::head::registry::Registry;
use crate::model::{AnyHistogram, Exemplar, TimeRange, Timestamp};
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const DAY_MS: i64 = 24 * 3_600_000;
/// With older samples on more days than this, blocks span months, or as much as it takes for so few blocks.
const OLD_BLOCKS_MAX: usize = 64;

/// How many days the blocks of older samples span; `days` are those that have samples, ascending.
fn days_per_block(days: &[i64]) -> i64 {
    let blocks = |width: i64| {
        let mut last = None;
        let is_new = |day: &&i64| last.replace(day.div_euclid(width)) != Some(day.div_euclid(width));
        days.iter().filter(is_new).count()
    };
    let mut width = 1;
    while blocks(width) > OLD_BLOCKS_MAX {
        width = if width == 1 { 30 } else { width * 2 };
    }
    width
}

/// What a flush needs of the store.
pub(crate) struct Flush<'a> {
    pub(crate) fs: &'a Arc<dyn Fs>,
    pub(crate) blocks_dir: &'a Path,
    pub(crate) registry: &'a Registry,
    pub(crate) order: &'a LabelOrder,
    pub(crate) generation: &'a Generation,
    /// Samples before this are dropped.
    pub(crate) oldest_kept: Timestamp,
}

impl Flush<'_> {
    /// Writes the generation as blocks numbered from `sequence` on. Nothing refers to them yet.
    ///
    /// # Errors
    /// The disk refusing. Blocks already written stay as files that the next start removes.
    pub(crate) fn write(&self, mut sequence: u64) -> Result<Vec<ManifestBlock>> {
        let mut written = Vec::new();
        let Some((_, newest)) = self.generation.times() else { return Ok(written) };
        let found: RoaringBitmap = self.generation.series().collect();
        let sorted = self.order.sort(self.registry, &found);
        let recent = newest.saturating_sub(DAY_MS).max(self.oldest_kept);
        let main = TimeRange { min_time: recent, max_time: i64::MAX };
        written.extend(self.write_block(&mut sequence, &sorted, main)?);

        let old = TimeRange { min_time: self.oldest_kept, max_time: recent };
        let mut days: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        let (mut times, mut values, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
        for id in sorted {
            times.clear();
            values.clear();
            if self.generation.has_samples(id, old) {
                self.generation.read::<AnyHistogram>(id, old, &mut times, &mut values, &mut histograms)?;
            }
            times.extend(histograms.drain(..).map(|h| h.0));
            times.extend(self.generation.exemplars_of(id, old).map(|e| e.timestamp));
            times.sort_unstable();
            for run in times.chunk_by(|a, b| a.div_euclid(DAY_MS) == b.div_euclid(DAY_MS)) {
                let day = run.first().map_or(0, |t| t.div_euclid(DAY_MS));
                days.entry(day).or_default().push(id);
            }
        }
        let days: Vec<(i64, Vec<u32>)> = days.into_iter().collect();
        let width = days_per_block(&days.iter().map(|day| day.0).collect::<Vec<_>>());
        for group in days.chunk_by(|a, b| a.0.div_euclid(width) == b.0.div_euclid(width)) {
            let first = group.first().map_or(0, |d| d.0.div_euclid(width) * width);
            let range = TimeRange {
                min_time: first.saturating_mul(DAY_MS).max(self.oldest_kept),
                max_time: (first + width).saturating_mul(DAY_MS).min(recent),
            };
            let series: RoaringBitmap = group.iter().flat_map(|day| day.1.iter().copied()).collect();
            let series = self.order.sort(self.registry, &series);
            written.extend(self.write_block(&mut sequence, &series, range)?);
        }
        Ok(written)
    }

    /// Writes the samples of `series` (sorted by labels) in `range`; nothing if there is none.
    fn write_block(
        &self,
        sequence: &mut u64,
        series: &[u32],
        range: TimeRange,
    ) -> Result<Option<ManifestBlock>> {
        let file = format!("{sequence:016x}.{}", crate::block::BLOCK_EXTENSION);
        let path = self.blocks_dir.join(&file);
        let spec = BlockSpec { uuid: self.fs.unique(), sequence: *sequence, level: 0 };
        let mut writer = BlockWriter::create(self.fs, &path, spec)?;
        let (mut times, mut values, mut histograms) = (Vec::new(), Vec::new(), Vec::new());
        let (mut float_starts, mut histogram_starts) = (Vec::new(), Vec::new());
        for id in series {
            times.clear();
            values.clear();
            float_starts.clear();
            histogram_starts.clear();
            self.generation.read(*id, range, &mut times, &mut values, &mut histograms)?;
            let exemplars: Vec<Exemplar> = self.generation.exemplars_of(*id, range).cloned().collect();
            if times.is_empty() && histograms.is_empty() && exemplars.is_empty() {
                continue;
            }
            let (stamps, found): (Vec<Timestamp>, Vec<AnyHistogram>) = histograms.drain(..).unzip();
            if let Some(starts) = self.generation.starts(*id) {
                starts.read(times.iter().copied(), &mut float_starts);
                starts.read(stamps.iter().copied(), &mut histogram_starts);
            }
            let content = SeriesContent {
                floats: &[(&times, &values)],
                float_starts: &float_starts,
                histograms: (&stamps, &found),
                histogram_starts: &histogram_starts,
                exemplars: &exemplars,
            };
            writer.add(&self.registry.labels(*id), &content)?;
        }
        if writer.is_empty() {
            return Ok(None);
        }
        let meta = writer.finish()?;
        *sequence += 1;
        let opened = self.fs.open(&path).and_then(|f| f.len());
        let bytes = opened.map_err(|e| crate::Error::io(format!("measure {}", path.display()), e))?;
        Ok(Some(ManifestBlock { file, bytes, meta }))
    }
}

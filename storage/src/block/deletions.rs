//! `Deletions`: what the tombstones hide of one block, as sets of its series.

use super::exact::ExactSamples;
use super::format::{SERIES_PER_PAGE, Section};
use super::reader::Block;
use super::tombstone::Tombstone;
use crate::api::Samples;
use crate::error::Result;
use crate::model::{TimeRange, Timestamp};
use roaring::RoaringBitmap;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Default)]
pub struct Deletions {
    /// The series of which no sample is left, as far as the first and last time of each of their chunks tell.
    gone: RoaringBitmap,
    /// The series each tombstone matches, and its times.
    parts: Vec<(RoaringBitmap, TimeRange)>,
}

impl Deletions {
    /// Looks the `tombstones`, which all are about `block`, up in its index. Reads the pages of the series that match.
    ///
    /// # Errors
    /// The index of the block is damaged.
    pub fn resolve(block: &Block, tombstones: &[Arc<Tombstone>]) -> Result<Self> {
        let mut deletions = Self::default();
        let mut touched = RoaringBitmap::new();
        for tombstone in tombstones {
            let mut series = RoaringBitmap::new();
            for matchers in &tombstone.matcher_sets {
                series |= block.postings(matchers)?;
            }
            if !series.is_empty() {
                touched |= &series;
                deletions.parts.push((series, tombstone.range));
            }
        }
        let mut ranges = Vec::new();
        for series in touched {
            deletions.ranges_of(series, &mut ranges);
            let is_covered = |(first, last): &(Timestamp, Timestamp)| {
                ranges.iter().any(|r| r.contains(*first) && r.contains(*last))
            };
            let whole = (block.meta().min_time, block.meta().max_time);
            if is_covered(&whole) || block.chunk_times(series)?.iter().all(is_covered) {
                deletions.gone.insert(series);
            }
        }
        Ok(deletions)
    }

    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The series of which nothing is left.
    pub fn gone(&self) -> &RoaringBitmap {
        &self.gone
    }

    /// Whether any sample of `series` may be hidden.
    pub fn touches(&self, series: u32) -> bool {
        self.parts.iter().any(|part| part.0.contains(series))
    }

    /// Whether what `series` has at `time` is hidden.
    pub fn hides(&self, series: u32, time: Timestamp) -> bool {
        self.parts.iter().any(|(set, range)| range.contains(time) && set.contains(series))
    }

    /// The times of `series` that are hidden, joined and ascending; replaces what is in `out`.
    pub fn ranges_of(&self, series: u32, out: &mut Vec<TimeRange>) {
        out.clear();
        out.extend(self.parts.iter().filter(|part| part.0.contains(series)).map(|part| part.1));
        out.sort_unstable_by_key(|range| range.min_time);
        out.dedup_by(|next, before| {
            let joins = next.min_time <= before.max_time;
            if joins {
                before.max_time = before.max_time.max(next.max_time);
            }
            joins
        });
    }

    /// Takes the hidden samples of `series` out of `samples`, whose version grows if there are any.
    pub fn hide(&self, series: u32, samples: &mut Samples) {
        if !self.touches(series) {
            return;
        }
        let mut ranges = Vec::new();
        self.ranges_of(series, &mut ranges);
        let is_kept = |time: Timestamp| !ranges.iter().any(|range| range.contains(time));
        samples.retain(is_kept);
    }

    /// As [`Deletions::hide`].
    pub fn hide_exact(&self, series: u32, samples: &mut ExactSamples) {
        if self.touches(series) {
            let mut ranges = Vec::new();
            self.ranges_of(series, &mut ranges);
            samples.retain(|time| !ranges.iter().any(|range| range.contains(time)));
        }
    }
}

impl Block {
    /// The first and the last time of each chunk of series number `series`.
    ///
    /// # Errors
    /// The index of the block is damaged.
    pub fn chunk_times(&self, series: u32) -> Result<Vec<(Timestamp, Timestamp)>> {
        let page = self.series_page(series / SERIES_PER_PAGE)?;
        let number = (series % SERIES_PER_PAGE) as usize;
        let columns = self.columns()?;
        let chunks = page.chunks(number).iter().chain(page.histogram_chunks(number));
        chunks
            .map(|chunk| {
                let column = columns.get(chunk.column).ok_or_else(|| {
                    self.corrupt(Section::Tscol, format!("column {} is damaged", chunk.column))
                })?;
                Ok((column.first, column.last))
            })
            .collect()
    }
}

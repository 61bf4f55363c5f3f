//! What a store has already of the series that are being imported, so that it is not stored once more.

use kymo_storage::Result;
use kymo_storage::api::{Samples, SeriesSet};
use kymo_storage::model::{Labels, TimeRange, Timestamp};
use kymo_storage::prometheus::BlockSample;

/// The series that are stored in some times, passed once in the order of their labels.
pub(super) struct Stored {
    set: Box<dyn SeriesSet>,
    range: TimeRange,
    next: usize,
    samples: Samples,
}

impl Stored {
    pub(super) fn new(set: Box<dyn SeriesSet>, range: TimeRange) -> Self {
        Self { set, range, next: 0, samples: Samples::new() }
    }

    /// What is stored of the series with these labels, which do not come before those asked for last.
    pub(super) fn find(&mut self, labels: &Labels) -> Result<Known<'_>> {
        self.samples.clear();
        while self.next < self.set.len() {
            let met = self.set.labels(self.next);
            if met < *labels {
                self.next += 1;
                continue;
            }
            if met == *labels {
                self.set.read(self.next, self.range, &mut self.samples)?;
            }
            break;
        }
        Ok(Known { samples: &self.samples, floats: 0, histograms: 0 })
    }
}

/// What is stored of one series, passed once in the order of time.
pub(super) struct Known<'a> {
    samples: &'a Samples,
    floats: usize,
    histograms: usize,
}

impl Known<'_> {
    /// Whether this very sample is stored. Times before those asked for last are answered with no.
    pub(super) fn has(&mut self, time: Timestamp, sample: &BlockSample) -> bool {
        let all = self.samples;
        match sample {
            BlockSample::Float(value) => {
                let times = all.timestamps.get(self.floats..).unwrap_or_default();
                self.floats += times.iter().take_while(|t| **t < time).count();
                all.timestamps.get(self.floats) == Some(&time)
                    && all.values.get(self.floats).is_some_and(|v| v.to_bits() == value.to_bits())
            }
            BlockSample::Histogram(histogram) => {
                let list = all.histograms.get(self.histograms..).unwrap_or_default();
                self.histograms += list.iter().take_while(|h| h.timestamp < time).count();
                let stored = all.histograms.get(self.histograms).filter(|h| h.timestamp == time);
                // Empty buckets are not kept, so it does not matter whether they are listed.
                stored.is_some_and(|stored| stored.histogram.is_equal(&histogram.to_float()))
            }
        }
    }
}

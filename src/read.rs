//! Reading without PromQL: streams of samples, label names and values, series, exemplars. Hot path.

use crate::db::Db;
use crate::error::guarded;
use crate::{Error, Result};
use kymo_query::syntax::parse_metric_selector;
use kymo_storage::Storage;
use kymo_storage::api::{Exemplars, HistogramSample, Names, Queryable, Samples, SeriesSet};
use kymo_storage::model::{Labels, Matcher, Metadata, TimeRange, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The matchers of a selector as PromQL writes it: `up{job="node",instance=~"a.*"}`.
///
/// # Errors
/// `Invalid`: it is no selector; [`Error::mistakes`] says where.
pub fn parse_selector(text: &str) -> Result<Vec<Matcher>> {
    Ok(parse_metric_selector(text)?)
}

/// Time that is read at once at first, in milliseconds; more once it turns out to hold few samples.
const WIDTH_MS: i64 = 86_400_000;
/// Of windows with fewer samples the next is larger.
const SAMPLES_FEW: usize = 16 * 1024;
/// Of windows with more samples the next is smaller.
const SAMPLES_MANY: usize = 128 * 1024;

impl Db {
    /// The series that match all of `matchers` (all series if there are none) and may have samples in `range`, as a stream: sorted by
    /// labels, of each the samples in the order of time, in batches of bounded size. It is a view of this moment: later writes and
    /// deletes do not show in it.
    ///
    /// ```
    /// use kymo::{Db, Labels, TimeRange, parse_selector};
    ///
    /// let db = Db::in_memory()?;
    /// let mut appender = db.appender();
    /// for room in ["attic", "cellar"] {
    ///     let labels = Labels::from_pairs([("__name__", "celsius"), ("room", room)]);
    ///     appender.append_labels(&labels, 1_000, 20.0)?;
    /// }
    /// appender.commit()?.wait()?;
    ///
    /// let (mut timestamps, mut values) = ([0; 512], [0.0; 512]);
    /// let mut found = db.select(&parse_selector("celsius")?, TimeRange::ALL)?;
    /// while let Some(series) = found.next_series() {
    ///     let room = series.labels().value("room").to_owned();
    ///     loop {
    ///         let count = series.read(&mut timestamps, &mut values)?;
    ///         if count == 0 {
    ///             break;
    ///         }
    ///         assert_eq!((timestamps[..count].to_vec(), values[..count].to_vec()), (vec![1_000], vec![20.0]), "{room}");
    ///     }
    /// }
    /// # Ok::<(), kymo::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Io` or `Corrupt`: the disk refuses, or damage cannot be confined.
    pub fn select(&self, matchers: &[Matcher], range: TimeRange) -> Result<Selection> {
        guarded(|| {
            let storage = self.storage();
            let querier = storage.querier(range)?;
            let set: Arc<dyn SeriesSet> = Arc::from(querier.select(range, matchers)?);
            // Looked at after the view was taken, and the head before the blocks, so that nothing of the view lies outside.
            let range = held(&storage).map_or(TimeRange::new(0, 0), |held| range.within(held));
            let reader = SeriesReader::new(Arc::clone(&set), 0, range);
            Ok(Selection { set, next: 0, range, reader })
        })
    }

    /// The names of labels that series with samples in `range` have, of those that match one of `matcher_sets` (of all if there is none),
    /// sorted.
    ///
    /// # Errors
    /// As [`Db::select`]; `LimitExceeded`: they take more memory than queries may.
    pub fn labels(&self, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<Names> {
        guarded(|| {
            let querier = self.storage().querier(range)?;
            self.with_room(|room| querier.label_names(matcher_sets, room))
        })
    }

    /// The values label `name` has; otherwise as [`Db::labels`].
    ///
    /// # Errors
    /// As [`Db::labels`].
    pub fn label_values(&self, name: &str, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<Names> {
        guarded(|| {
            let querier = self.storage().querier(range)?;
            self.with_room(|room| querier.label_values(name, matcher_sets, room))
        })
    }

    /// The labels of the series that match one of `matcher_sets` (of all if there is none) and may have samples in `range`, sorted,
    /// each once.
    ///
    /// # Errors
    /// As [`Db::select`].
    pub fn series(&self, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<SeriesLabels> {
        guarded(|| {
            let querier = self.storage().querier(range)?;
            let (every, mut warnings, mut found) = ([Vec::new()], BTreeSet::new(), BTreeSet::new());
            let sets = if matcher_sets.is_empty() { &every[..] } else { matcher_sets };
            for matchers in sets {
                let set = querier.select(range, matchers)?;
                warnings.extend(set.warnings());
                let labels = (0..set.len()).map(|index| set.labels(index));
                if let [_] = sets {
                    let series = labels.collect();
                    return Ok(SeriesLabels { series, warnings: warnings.into_iter().collect() });
                }
                found.extend(labels);
            }
            let (series, warnings) = (found.into_iter().collect(), warnings.into_iter().collect());
            Ok(SeriesLabels { series, warnings })
        })
    }

    /// The exemplars in `range` of the series that match one of `matcher_sets` (of all if there is none), by labels, then time.
    ///
    /// # Errors
    /// `LimitExceeded`: there are too many for one answer; otherwise as [`Db::select`].
    pub fn exemplars(&self, matcher_sets: &[Vec<Matcher>], range: TimeRange) -> Result<Exemplars> {
        guarded(|| Ok(self.storage().exemplars(range, matcher_sets)?))
    }

    /// What was last said about each metric family, sorted by family.
    pub fn metadata(&self) -> Vec<(String, Metadata)> {
        self.storage().metadata()
    }

    /// From the first to the last time of all samples, or a little more; `None` if there are none.
    pub fn time_range(&self) -> Option<TimeRange> {
        held(&self.storage())
    }
}

/// What the head and the blocks span.
fn held(storage: &Storage) -> Option<TimeRange> {
    let head = storage.stats().head_times.map(|(first, last)| TimeRange::closed(first, last));
    let blocks = storage.blocks().into_iter().map(|block| block.meta.range());
    head.into_iter().chain(blocks).reduce(|a, b| TimeRange {
        min_time: a.min_time.min(b.min_time),
        max_time: a.max_time.max(b.max_time),
    })
}

/// The labels of series, and what must be known about the answer.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SeriesLabels {
    /// Sorted, each once.
    pub series: Vec<Labels>,
    /// Damage that was met and stepped around; each sentence names a file.
    pub warnings: Vec<String>,
}

/// The answer of [`Db::select`].
pub struct Selection {
    set: Arc<dyn SeriesSet>,
    next: usize,
    range: TimeRange,
    reader: SeriesReader,
}

impl Selection {
    /// How many series there are.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// Goes to the next series; `None` after the last.
    pub fn next_series(&mut self) -> Option<&mut SeriesReader> {
        if self.next >= self.set.len() {
            return None;
        }
        self.reader.restart(self.next, self.range);
        self.next += 1;
        Some(&mut self.reader)
    }

    /// A reader of series `index` of its own, for reading on several threads; `None` if there are fewer.
    pub fn series(&self, index: usize) -> Option<SeriesReader> {
        (index < self.len()).then(|| SeriesReader::new(Arc::clone(&self.set), index, self.range))
    }

    /// Damage that was met and stepped around so far; each sentence names a file.
    pub fn warnings(&self) -> Vec<String> {
        self.set.warnings()
    }
}

impl std::fmt::Debug for Selection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Selection({} series)", self.len())
    }
}

/// The samples of one series, in the order of time.
pub struct SeriesReader {
    set: Arc<dyn SeriesSet>,
    index: usize,
    /// What is not decoded yet.
    rest: TimeRange,
    width: i64,
    samples: Samples,
    /// How many floats of `samples` were given away.
    taken: usize,
}

/// Samples of one series, as columns. At one time there is a float or a histogram.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Batch<'a> {
    /// Of the floats, in milliseconds since the Unix epoch, ascending.
    pub timestamps: &'a [Timestamp],
    /// As many values; staleness markers (see [`is_stale`](crate::is_stale)) among them.
    pub values: &'a [f64],
    /// Since when each of them counts, in milliseconds, 0 if that is not known; empty if it is known of none.
    pub start_timestamps: &'a [Timestamp],
    /// Native histograms of the same span of time, ascending.
    pub histograms: &'a [HistogramSample],
}

impl SeriesReader {
    fn new(set: Arc<dyn SeriesSet>, index: usize, range: TimeRange) -> Self {
        Self { set, index, rest: range, width: WIDTH_MS, samples: Samples::new(), taken: 0 }
    }

    fn restart(&mut self, index: usize, range: TimeRange) {
        (self.index, self.rest, self.width) = (index, range, WIDTH_MS.max(self.width));
        self.samples.clear();
        self.taken = 0;
    }

    /// The labels of the series.
    pub fn labels(&self) -> Labels {
        self.set.labels(self.index)
    }

    /// Decodes the next samples, some ten thousand as a rule; `None` after the last.
    ///
    /// # Errors
    /// As [`Db::select`]. What was not read stays to be asked for.
    pub fn next_batch(&mut self) -> Result<Option<Batch<'_>>> {
        guarded(|| self.decode())?;
        if self.taken >= self.samples.timestamps.len() && self.samples.histograms.is_empty() {
            return Ok(None);
        }
        let from = std::mem::replace(&mut self.taken, self.samples.timestamps.len());
        let all = &self.samples;
        Ok(Some(Batch {
            timestamps: all.timestamps.get(from..).unwrap_or_default(),
            values: all.values.get(from..).unwrap_or_default(),
            start_timestamps: all.start_timestamps.get(from..).unwrap_or_default(),
            histograms: &all.histograms,
        }))
    }

    /// Decodes the next floats into the caller's slices, as many as the shorter one holds, and answers how many: 0 after the last (or
    /// if a slice is empty). Native histograms are passed over; [`SeriesReader::next_batch`] gives them too.
    ///
    /// # Errors
    /// As [`Db::select`]. What was not read stays to be asked for.
    pub fn read(&mut self, timestamps: &mut [Timestamp], values: &mut [f64]) -> Result<usize> {
        let room = timestamps.len().min(values.len());
        let mut count = 0;
        while count < room {
            if self.taken >= self.samples.timestamps.len() {
                guarded(|| self.decode())?;
                if self.samples.timestamps.is_empty() && self.rest.is_empty() {
                    break;
                }
            }
            let from_times = self.samples.timestamps.get(self.taken..).unwrap_or_default();
            let from_values = self.samples.values.get(self.taken..).unwrap_or_default();
            let part = from_times.len().min(from_values.len()).min(room - count);
            let to = timestamps.iter_mut().zip(values.iter_mut()).skip(count).take(part);
            for ((time, value), (from_time, from_value)) in to.zip(from_times.iter().zip(from_values)) {
                (*time, *value) = (*from_time, *from_value);
            }
            self.taken += part;
            count += part;
        }
        Ok(count)
    }

    /// Decodes windows of time until one has samples or nothing is left.
    fn decode(&mut self) -> Result<()> {
        if self.taken < self.samples.timestamps.len() {
            return Ok(());
        }
        self.taken = 0;
        while !self.rest.is_empty() {
            let end = self.rest.min_time.saturating_add(self.width).min(self.rest.max_time);
            let window = TimeRange::new(self.rest.min_time, end);
            self.set.read(self.index, window, &mut self.samples).map_err(Error::from)?;
            self.rest.min_time = end;
            let count = self.samples.timestamps.len() + self.samples.histograms.len();
            if count < SAMPLES_FEW {
                self.width = self.width.saturating_mul(4);
            } else if count > SAMPLES_MANY {
                self.width = (self.width / 2).max(1);
            }
            if count > 0 {
                return Ok(());
            }
        }
        self.samples.clear();
        Ok(())
    }
}

impl std::fmt::Debug for SeriesReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SeriesReader({})", self.labels())
    }
}

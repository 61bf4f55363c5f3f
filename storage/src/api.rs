//! All that the query engine sees of a store: select series by matchers, then read them one by one.

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Exemplar, FloatHistogram, Labels, Matcher, TimeRange, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where samples are read from: a store, a part of one, or a test's list of series.
pub trait Queryable: Send + Sync {
    /// A consistent view of everything in `range` at this moment: later writes do not show in it, and the samples
    /// of one write request are all in it or none is.
    ///
    /// # Errors
    /// The store is not ready, or a file cannot be opened.
    fn querier(&self, range: TimeRange) -> Result<Box<dyn Querier>>;
}

/// A consistent view of a store over one time range.
pub trait Querier: Send + Sync {
    /// The series that match all `matchers` and may have samples in `range` (which lies within the querier's), sorted by
    /// [`Labels`], each label set once. A missing label counts as an empty one, for every operator.
    ///
    /// # Errors
    /// Damage that cannot be confined, or the disk refusing.
    fn select(&self, range: TimeRange, matchers: &[Matcher]) -> Result<Box<dyn SeriesSet>>;

    /// As [`Querier::select`], for one who may not want the answer any more: `go_on` is asked now and then while values are compared.
    ///
    /// # Errors
    /// As [`Querier::select`]; `Cancelled` if `go_on` said no.
    fn select_while(
        &self,
        range: TimeRange,
        matchers: &[Matcher],
        go_on: &dyn Fn() -> bool,
    ) -> Result<Box<dyn SeriesSet>> {
        if go_on() { self.select(range, matchers) } else { Err(cancelled()) }
    }

    /// The label names of all series that match one of `matcher_sets` (all series if there is none), sorted. Their memory is taken
    /// out of `room` before it is filled.
    ///
    /// # Errors
    /// As [`Querier::select`], and as `room`.
    fn label_names(&self, matcher_sets: &[Vec<Matcher>], room: &mut Room<'_>) -> Result<Names>;

    /// The values that label `name` has in series that match one of `matcher_sets` (all series if there is none), sorted; memory
    /// as for [`Querier::label_names`].
    ///
    /// # Errors
    /// As [`Querier::label_names`].
    fn label_values(&self, name: &str, matcher_sets: &[Vec<Matcher>], room: &mut Room<'_>) -> Result<Names>;

    /// What [`Querier::label_values`] (or, without a label, [`Querier::label_names`]) answers for all series, if that is known
    /// without reading or searching anything: it then takes microseconds.
    ///
    /// # Errors
    /// As `room`.
    fn known_list(&self, _label: Option<&str>, _room: &mut Room<'_>) -> Result<Option<Names>> {
        Ok(None)
    }
}

/// Memory for an answer that grows: whoever wants the answer is asked before more of it is taken.
pub struct Room<'a> {
    ask: &'a mut dyn FnMut(u64) -> Result<()>,
    used: u64,
    granted: u64,
}

impl<'a> Room<'a> {
    /// What a string takes besides its text.
    const STRING_BYTES: u64 = 24;
    /// The least that is asked for at a time.
    const STEP_BYTES: u64 = 64 << 10;

    /// Room that is granted by `ask`, which is told how many bytes more are wanted and may refuse them with an error.
    pub fn new(ask: &'a mut dyn FnMut(u64) -> Result<()>) -> Self {
        Self { ask, used: 0, granted: 0 }
    }

    /// Takes room for strings of that many bytes together.
    ///
    /// # Errors
    /// It is refused.
    pub fn take(&mut self, strings: usize, bytes: usize) -> Result<()> {
        self.used += strings as u64 * Self::STRING_BYTES + bytes as u64;
        if self.used > self.granted {
            let more = (self.used - self.granted).max(Self::STEP_BYTES);
            (self.ask)(more)?;
            self.granted += more;
        }
        Ok(())
    }

    /// Takes room for more strings like those in a list.
    ///
    /// # Errors
    /// It is refused.
    pub fn take_list(&mut self, list: &[String]) -> Result<()> {
        self.take(list.len(), list.iter().map(String::len).sum())
    }

    /// From now on `list` is all that there is: what was taken for others is free for the next.
    pub fn hold_only(&mut self, list: &[String]) {
        let bytes: usize = list.iter().map(String::len).sum();
        self.used = list.len() as u64 * Self::STRING_BYTES + bytes as u64;
    }
}

/// Sorted, distinct strings, and what the reader must be told about them.
#[derive(Debug, Clone, Default)]
pub struct Names {
    /// The strings.
    pub names: Vec<String>,
    /// Damage that was met and stepped around; each sentence names a file.
    pub warnings: Vec<String>,
}

/// The exemplars of one series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExemplarSeries {
    /// The series.
    pub labels: Labels,
    /// Its exemplars, in the order of [`Exemplar::order`], each once.
    pub exemplars: Vec<Exemplar>,
}

/// What exemplars there are, and what the reader must be told about them.
#[derive(Debug, Clone, Default)]
pub struct Exemplars {
    /// By labels; series without exemplars are left out.
    pub series: Vec<ExemplarSeries>,
    /// Damage that was met and stepped around; each sentence names a file.
    pub warnings: Vec<String>,
}

/// Nobody wants the answer any more.
pub(crate) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "nobody waits for the answer any more")
}

/// The series a select found, in the order of their labels. May be read from several threads at once.
pub trait SeriesSet: Send + Sync {
    /// How many series.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The labels of series `index`.
    fn labels(&self, index: usize) -> Labels;

    /// For each series, which value it has for label `name`; ids are dense and local to the returned column.
    fn label_column(&self, name: &str) -> LabelColumn {
        LabelColumn::from_values((0..self.len()).map(|i| self.labels(i).value(name).to_owned()))
    }

    /// Reads the samples of series `index` in `range` into `out`, in time order, one a timestamp, staleness markers
    /// included; what was in `out` is replaced (see [`Samples::timestamps_version`]).
    ///
    /// # Errors
    /// The disk refusing, or damage that cannot be confined.
    fn read(&self, index: usize, range: TimeRange, out: &mut Samples) -> Result<()>;

    /// As [`SeriesSet::read`] for one who looks at the newest sample of the range only: older ones may be left out.
    ///
    /// # Errors
    /// As [`SeriesSet::read`].
    fn read_newest(&self, index: usize, range: TimeRange, out: &mut Samples) -> Result<()> {
        self.read(index, range, out)
    }

    /// Damage that was met and stepped around so far; each sentence names file and offset.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Bytes of memory that the set takes as long as it is there, as far as it counts them.
    fn bytes(&self) -> usize {
        0
    }

    /// What reads of this set took so far, as far as the store counts it.
    fn chunks_read(&self) -> ChunksRead {
        ChunksRead::default()
    }
}

/// Chunks of blocks that reads met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChunksRead {
    /// Those that were decoded.
    pub decoded: u64,
    /// Those that were passed over: outside of the time asked for, or answered by what is known of them.
    pub skipped: u64,
}

/// A buffer that [`SeriesSet::read`] fills; kept by the caller and used again for the next series.
#[derive(Debug, Clone)]
pub struct Samples {
    /// Milliseconds, strictly increasing.
    pub timestamps: Vec<Timestamp>,
    /// As many values.
    pub values: Vec<f64>,
    /// Since when each value counts: milliseconds, 0 where that is not known. Empty if it is known of no sample, else as
    /// long as `timestamps`.
    pub start_timestamps: Vec<Timestamp>,
    /// Changes whenever `timestamps` do; the same version never stands for different ones. A caller that computed something
    /// from the timestamps alone (which sample each window begins with) may use it again when the version comes back: the
    /// series of one scrape share their timestamps.
    pub timestamps_version: u64,
    /// The native histograms of the series, in time order. At one timestamp there is a float or a histogram, never both.
    /// Empty for the many series that have none.
    pub histograms: Vec<HistogramSample>,
}

/// A native histogram of a series, with floats for counts as the query engine computes with them.
#[derive(Debug, Clone)]
pub struct HistogramSample {
    /// Milliseconds since the Unix epoch.
    pub timestamp: Timestamp,
    /// Since when its counts count, in milliseconds; 0 if that is not known.
    pub start_timestamp: Timestamp,
    /// The histogram; a staleness marker is one whose [`FloatHistogram::is_stale`] is true.
    pub histogram: Arc<FloatHistogram>,
}

/// The next version: the same one never stands for different timestamps, whichever buffer they are in.
static NEXT_VERSION: AtomicU64 = AtomicU64::new(0);

/// A version that stands for no timestamps yet.
pub(crate) fn fresh_version() -> u64 {
    NEXT_VERSION.fetch_add(1, Ordering::Relaxed)
}

impl Default for Samples {
    fn default() -> Self {
        let timestamps_version = fresh_version();
        Self {
            timestamps: Vec::new(),
            values: Vec::new(),
            start_timestamps: Vec::new(),
            timestamps_version,
            histograms: Vec::new(),
        }
    }
}

/// Bytes of memory that a histogram takes.
pub fn histogram_bytes(histogram: &FloatHistogram) -> usize {
    let buckets = histogram.positive.counts().len() + histogram.negative.counts().len();
    let spans = histogram.positive.spans().len() + histogram.negative.spans().len();
    size_of_val(histogram) + size_of::<f64>() * (buckets + spans + histogram.custom_bounds.len())
}

impl Samples {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of memory that the buffer takes.
    pub fn bytes(&self) -> usize {
        let columns = self.timestamps.capacity() + self.values.capacity() + self.start_timestamps.capacity();
        let of_one = |h: &HistogramSample| size_of::<HistogramSample>() + histogram_bytes(&h.histogram);
        size_of::<Timestamp>() * columns + self.histograms.iter().map(of_one).sum::<usize>()
    }

    /// Empties the buffer; the version changes.
    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
        self.start_timestamps.clear();
        self.histograms.clear();
        self.timestamps_version = fresh_version();
    }

    /// Keeps the samples whose time `is_kept`; the version changes if a float goes.
    pub fn retain(&mut self, is_kept: impl Fn(Timestamp) -> bool) {
        self.histograms.retain(|h| is_kept(h.timestamp));
        if self.timestamps.iter().all(|t| is_kept(*t)) {
            return;
        }
        let kept: Vec<bool> = self.timestamps.iter().map(|t| is_kept(*t)).collect();
        keep_flagged(&mut self.timestamps, &kept);
        keep_flagged(&mut self.values, &kept);
        keep_flagged(&mut self.start_timestamps, &kept);
        self.timestamps_version = fresh_version();
    }

    /// Adds one sample at the end. The caller has called [`Samples::clear`] before the first.
    pub fn push(&mut self, timestamp: Timestamp, value: f64) {
        self.push_with_start(timestamp, 0, value);
    }

    /// As [`Samples::push`], for a sample that counts since `start`; 0 if that is not known.
    pub fn push_with_start(&mut self, timestamp: Timestamp, start: Timestamp, value: f64) {
        if start != 0 && self.start_timestamps.is_empty() {
            self.start_timestamps.resize(self.timestamps.len(), 0);
        }
        if start != 0 || !self.start_timestamps.is_empty() {
            self.start_timestamps.push(start);
        }
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    /// Since when sample `index` counts; 0 if that is not known.
    pub fn start_timestamp(&self, index: usize) -> Timestamp {
        self.start_timestamps.get(index).copied().unwrap_or(0)
    }
}

/// Keeps the items whose flag is set; an empty column stays empty.
fn keep_flagged<T>(items: &mut Vec<T>, kept: &[bool]) {
    let mut flags = kept.iter();
    items.retain(|_| flags.next().copied().unwrap_or(false));
}

/// The values of one label over a [`SeriesSet`]: an id a series, and the string of each id.
#[derive(Debug, Clone, Default)]
pub struct LabelColumn {
    /// For each series, an index into `values`.
    pub ids: Vec<u32>,
    /// The distinct values; the empty string stands for a missing label.
    pub values: Vec<Arc<str>>,
}

impl LabelColumn {
    /// A column from one string a series.
    pub fn from_values(strings: impl IntoIterator<Item = String>) -> Self {
        let mut column = Self::default();
        let mut known = std::collections::HashMap::new();
        for string in strings {
            let next = column.values.len() as u32;
            let id = *known.entry(string).or_insert_with_key(|s| {
                column.values.push(Arc::from(s.as_str()));
                next
            });
            column.ids.push(id);
        }
        column
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_timestamps_are_there_from_the_first_known_one_on() {
        let mut samples = Samples::new();
        samples.push(10, 1.0);
        assert!(samples.start_timestamps.is_empty());
        assert_eq!(samples.start_timestamp(0), 0);
        samples.push_with_start(20, 15, 2.0);
        samples.push(30, 3.0);
        assert_eq!(samples.start_timestamps, [0, 15, 0]);
        assert_eq!(samples.start_timestamp(1), 15);
        samples.clear();
        assert!(samples.start_timestamps.is_empty());
    }
}

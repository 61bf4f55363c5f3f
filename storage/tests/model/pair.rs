//! The store and the model side by side.

use crate::blocks;
use crate::book::{Answer, Book, Exemplars, Judged, RETENTION, Sample, answered, float, kept};
use crate::steps::{HOUR, NOW, SERIES, Step, histogram, labels};
use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Room, Samples};
use kymo_storage::env::{CrashChoice, Fs, MemoryFs, SimClock};
use kymo_storage::model::{AnyHistogram, Exemplar, Labels, Matcher, Metadata, ResetHint, TimeRange};
use kymo_storage::options::{Limits, Options, RetentionRule};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

fn options() -> Options {
    Options {
        retention: Some(millis(RETENTION)),
        wal_segment_bytes: 4096,
        limits: Limits { future: Duration::from_secs(1_000_000), ..Limits::default() },
        compaction_widths: [60, 24 * 3600, 4 * 24 * 3600].map(Duration::from_secs).to_vec(),
        maintenance_interval: Duration::from_secs(3600),
        series_idle_after: Duration::ZERO,
        flush_age: Duration::from_secs(1 << 30),
        // Each image of a crash would hold it.
        reserve_bytes: 0,
        free_space_min: Some(0),
        ..Options::default()
    }
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

fn read_store(store: &Storage, range: TimeRange, matchers: &[Matcher]) -> Answer {
    let querier = store.querier(range).unwrap();
    let set = querier.select(range, matchers).unwrap();
    let mut out = Answer::new();
    let (mut samples, mut newest) = (Samples::new(), Samples::new());
    let mut before: Option<Labels> = None;
    for index in 0..set.len() {
        let labels = set.labels(index);
        assert!(before.replace(labels.clone()).is_none_or(|before| before < labels), "sorted, each once");
        set.read(index, range, &mut samples).unwrap();
        assert!(samples.timestamps.windows(2).all(|w| w[0] < w[1]));
        assert!(samples.histograms.windows(2).all(|w| w[0].timestamp < w[1].timestamp));
        let floats = samples.timestamps.iter().zip(&samples.values).map(|(t, v)| (*t, float(*v).0));
        let histograms = samples.histograms.iter().map(|h| (h.timestamp, answered(&h.histogram)));
        let pairs: BTreeMap<i64, Sample> = floats.chain(histograms).collect();
        assert_eq!(pairs.len(), samples.timestamps.len() + samples.histograms.len(), "one sample a time");
        set.read_newest(index, range, &mut newest).unwrap();
        assert_eq!(newest_of(&newest), newest_of(&samples));
        if !pairs.is_empty() {
            out.insert(labels, pairs);
        }
    }
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    out
}

/// The newest sample: its time, and its bits if it is a float.
fn newest_of(samples: &Samples) -> Option<(i64, Option<u64>)> {
    let floats = samples.timestamps.last().zip(samples.values.last());
    let float = floats.map(|(time, value)| (*time, Some(value.to_bits())));
    float.max(samples.histograms.last().map(|h| (h.timestamp, None)))
}

fn read_exemplars(store: &Storage, range: TimeRange, matchers: &[Matcher]) -> Exemplars {
    let sets: &[Vec<Matcher>] = if matchers.is_empty() { &[] } else { &[matchers.to_vec()] };
    let found = store.exemplars(range, sets).unwrap();
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    assert!(found.series.windows(2).all(|w| w[0].labels < w[1].labels));
    found.series.into_iter().map(|s| (s.labels, s.exemplars)).filter(|s| !s.1.is_empty()).collect()
}

/// Both answers are the same; else the first difference is named.
fn same(found: &Answer, expected: &Answer, what: &str) {
    let labels: BTreeSet<&Labels> = found.keys().chain(expected.keys()).collect();
    for labels in labels {
        let (found, expected) = (found.get(labels), expected.get(labels));
        let times = [found, expected].into_iter().flatten().flat_map(|samples| samples.keys());
        for time in times.collect::<BTreeSet<&i64>>() {
            let (found, expected) = (found.and_then(|s| s.get(time)), expected.and_then(|s| s.get(time)));
            assert_eq!(found, expected, "{what}: {labels} at {}", time - NOW);
        }
    }
}

/// See the module.
pub(crate) struct Pair {
    fs: MemoryFs,
    dir: PathBuf,
    store: Option<Storage>,
    clock: SimClock,
    book: Book,
    newest: i64,
    /// Since the last flush.
    is_reopened: bool,
}

impl Pair {
    fn rules(&self) -> Vec<RetentionRule> {
        vec![RetentionRule {
            matchers: vec![Matcher::equal("parity", "odd")],
            keep: millis(self.book.keep_odd),
        }]
    }

    fn open(&mut self, retention_bytes: Option<u64>) {
        self.clock = SimClock::new(self.book.now);
        let options = Options { retention_rules: self.rules(), retention_bytes, ..options() };
        let (fs, clock) = (Arc::new(self.fs.clone()), Arc::new(self.clock.clone()));
        self.store = Some(Storage::open_with(fs, clock, &self.dir, options).unwrap());
        self.book.opened();
        self.is_reopened = true;
    }

    fn close(&mut self) {
        self.store.take().unwrap().close().unwrap();
    }

    pub(crate) fn new() -> Self {
        let mut pair = Self {
            fs: MemoryFs::new(),
            dir: PathBuf::from("/data"),
            store: None,
            clock: SimClock::new(NOW),
            book: Book::new(),
            newest: NOW,
            is_reopened: false,
        };
        pair.open(None);
        pair
    }

    pub(crate) fn store(&self) -> &Storage {
        self.store.as_ref().unwrap()
    }

    fn write(&mut self, samples: &[(usize, i64, f64)]) {
        let mut batch = self.store().batch();
        let (mut accepted, mut sent) = (0, 0);
        for (series, time, value) in samples {
            if !self.book.is_decided(*series, *time) {
                continue;
            }
            sent += 1;
            let id = batch.series_labels(&labels(*series)).unwrap();
            batch.sample(id, *time, *value);
            accepted += u64::from(self.book.write(*series, *time, float(*value)));
        }
        let report = self.store().append(batch).unwrap();
        assert_eq!((report.accepted, report.refused_total), (accepted, sent - accepted));
    }

    fn write_histograms(&mut self, series: usize, histograms: &[(i64, AnyHistogram)]) {
        let mut batch = self.store().batch();
        let (mut accepted, mut sent) = (0, 0);
        let id = batch.series_labels(&labels(series)).unwrap();
        for (time, histogram) in histograms {
            if !self.book.is_decided(series, *time) {
                continue;
            }
            sent += 1;
            batch.histogram(id, *time, histogram.clone()).unwrap();
            accepted += u64::from(self.book.write(series, *time, kept(histogram.clone())));
        }
        let report = self.store().append(batch).unwrap();
        assert_eq!((report.accepted, report.refused_total), (accepted, sent - accepted));
    }

    /// One batch an exemplar, so that it is known which of them the store takes.
    fn write_exemplar(&mut self, series: usize, exemplar: Exemplar) {
        let labels = labels(series);
        let mut batch = self.store().batch();
        let id = batch.series_labels(&labels).unwrap();
        batch.exemplar(id, exemplar.clone()).unwrap();
        let before = self.store().stats().head_exemplars;
        let report = self.store().append(batch).unwrap();
        assert_eq!(report.exemplars_accepted + report.exemplars_refused_total, 1);
        let is_accepted = report.exemplars_accepted == 1;
        // A repeated one is accepted, and there once: whether the store has seen that now shows in what it holds.
        let is_new = self.store().stats().head_exemplars > before;
        match self.book.judge_exemplar(&labels, &exemplar) {
            Judged::New => assert!(is_accepted && is_new, "{exemplar:?} of {labels}"),
            Judged::Repeated => assert!(is_accepted && !is_new, "{exemplar:?} of {labels}"),
            Judged::Accepted => assert!(is_accepted, "{exemplar:?} of {labels}"),
            Judged::Refused => assert!(!is_accepted, "{exemplar:?} of {labels}"),
            Judged::Either => {}
        }
        if is_accepted {
            self.book.put_exemplar(labels, exemplar, is_new);
        }
    }

    pub(crate) fn apply(&mut self, step: &Step) {
        match *step {
            Step::Scrape { first, len, after, value } => {
                self.newest += after;
                let value = f64::from(value) / if value % 5 == 0 { 10.0 } else { 1.0 };
                let samples: Vec<_> = (first..SERIES.min(first + len))
                    .map(|i| (i, self.newest, value * (i % 4) as f64))
                    .collect();
                self.write(&samples);
            }
            Step::Single { series, time, value } => {
                self.write(&[(series, NOW + time, f64::from(value)), (series, NOW + time, f64::from(value))]);
            }
            Step::Stale { series, after } => {
                self.newest += after;
                self.write(&[(series, self.newest, kymo_storage::model::stale_nan())]);
            }
            Step::Histograms { series, len, after, shape, value } => {
                let start = self.newest;
                self.newest += after * len as i64;
                let all = (1..=len).map(|i| (start + after * i as i64, histogram(shape, value + i as u64)));
                self.write_histograms(series, &all.collect::<Vec<_>>());
            }
            Step::Late { series, time, shape, value } => {
                let mut again = histogram(shape, value);
                again.set_hint(ResetHint::NotReset);
                let both = [(NOW + time, histogram(shape, value)), (NOW + time, again)];
                self.write_histograms(series, &both);
            }
            Step::Exemplars { series, len, after, id } => {
                for i in 0..len as i64 {
                    let labels = Labels::from_pairs([("trace_id", id.to_string())]);
                    let timestamp = self.newest + after * i;
                    self.write_exemplar(series, Exemplar { labels, value: f64::from(id) / 4.0, timestamp });
                }
            }
            Step::Describe { family, metric_type, ref help } => {
                let about = Metadata { metric_type, unit: String::new(), help: help.clone() };
                let mut batch = self.store().batch();
                batch.metadata(&format!("family_{family}"), about.clone());
                self.store().append(batch).unwrap();
                self.book.metadata.insert(format!("family_{family}"), about);
            }
            Step::Delete { series, time, len } => {
                self.delete(series, TimeRange::closed(NOW + time, NOW + time + len));
            }
            _ => self.maintain(step),
        }
        if !self.has_head() {
            // Some steps flush on their way.
            self.book.flushed(false);
        }
    }

    /// The steps that write nothing.
    fn maintain(&mut self, step: &Step) {
        match *step {
            Step::Advance { hours } => {
                let by = self.book.advance(hours * HOUR);
                self.clock.advance(millis(by));
                self.look_after();
            }
            Step::KeepLess { hours } => {
                self.book.keep_odd = (self.book.keep_odd - hours * HOUR).max(HOUR);
                self.store().set_retention_rules(self.rules()).unwrap();
            }
            Step::Shrink { percent } => self.shrink(percent),
            Step::Flush => self.flush(),
            Step::Forget => self.look_after(),
            Step::Compact => self.store().compact().unwrap(),
            Step::CompactAll => self.store().compact_all().unwrap(),
            Step::Clean => {
                self.store().clean_tombstones().unwrap();
                assert_eq!(self.store().stats().tombstones, 0);
            }
            Step::Snapshot => {
                let place = self.store().snapshot(Path::new("/data/snapshots"), true).unwrap();
                self.close();
                self.dir = place;
                self.open(None);
            }
            Step::Reopen => {
                self.close();
                self.open(None);
            }
            _ => {
                let image = self.fs.crash_image(self.fs.log_len(), CrashChoice::Nothing);
                self.store = None;
                self.fs = image;
                self.open(None);
            }
        }
    }

    fn has_head(&self) -> bool {
        let stats = self.store().stats();
        stats.head_samples > 0 || stats.head_exemplars > 0
    }

    fn flush(&mut self) {
        let has_checkpoint = self.has_head();
        self.store().flush().unwrap();
        self.book.flushed(has_checkpoint);
        self.is_reopened = false;
    }

    /// Maintenance: series with nothing in memory leave it.
    fn look_after(&mut self) {
        if self.is_reopened {
            // A sample that was new once may be known now, so that its series has nothing in memory.
            self.flush();
        }
        self.store().maintain().unwrap();
        assert_eq!(self.store().stats().series, self.book.leave() as u64);
    }

    fn delete(&mut self, series: Option<usize>, range: TimeRange) {
        let matcher = match series {
            Some(series) => Matcher::equal("i", &format!("{series:02}")),
            None => Matcher::equal("parity", "odd"),
        };
        self.store().delete(range, &[vec![matcher.clone()]]).unwrap();
        self.book.delete(&matcher, range);
    }

    /// The oldest blocks go until the rest fits, none before those of which it may have replaced samples.
    fn shrink(&mut self, percent: u64) {
        self.flush();
        self.store().clean_tombstones().unwrap();
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let mut held = self.store().blocks();
        held.sort_by_key(|block| (block.meta.max_time, block.meta.sequence));
        let total: u64 = held.iter().map(|b| b.bytes).sum();
        let contents: BTreeMap<u64, _> = held
            .iter()
            .map(|b| (b.meta.sequence, blocks::read(&fs, &self.dir.join("blocks").join(&b.file))))
            .collect();
        // The blocks have what the model has, and nothing else.
        let (samples, exemplars) = blocks::merge(contents.values());
        let all =
            (self.book.expected(TimeRange::ALL, None), self.book.expected_exemplars(TimeRange::ALL, None));
        let found = self.book.kept(samples, exemplars);
        same(&found.0, &all.0, "in blocks");
        assert_eq!(found.1, all.1);

        self.close();
        let limit = (total * percent / 100).max(1);
        self.open(Some(limit));
        self.look_after();
        let left = self.store().blocks();
        let is_left = |sequence: u64| left.iter().any(|b| b.meta.sequence == sequence);
        // The oldest goes first of those that may have replaced nothing of what stays.
        let mut stays: Vec<_> = held.iter().map(|b| &b.meta).collect();
        while stays.len() > left.len() {
            let is_free = |at: &usize| {
                let meta = stays[*at];
                !stays.iter().any(|older| {
                    older.sequence < meta.sequence
                        && older.min_time <= meta.max_time
                        && meta.min_time <= older.max_time
                })
            };
            let oldest = (0..stays.len()).find(is_free).unwrap();
            stays.remove(oldest);
        }
        assert!(stays.iter().all(|meta| is_left(meta.sequence)), "the oldest go first");
        let bytes: u64 = left.iter().map(|b| b.bytes).sum();
        assert!(bytes <= limit || left.is_empty(), "{bytes} of {limit} bytes");
        let (samples, exemplars) = blocks::merge(contents.iter().filter(|c| is_left(*c.0)).map(|c| c.1));
        self.book.replace(&samples, &exemplars);
        self.close();
        self.open(None);
    }

    pub(crate) fn check(&self, range: TimeRange) {
        let matchers =
            [None, Some(Matcher::equal("__name__", "metric_1")), Some(Matcher::equal("parity", ""))];
        for matcher in &matchers {
            let matcher = matcher.as_ref();
            let list = matcher.map(std::slice::from_ref).unwrap_or_default();
            assert_eq!(
                read_store(self.store(), range, list),
                self.book.expected(range, matcher),
                "{matcher:?}"
            );
            let exemplars = read_exemplars(self.store(), range, list);
            assert_eq!(exemplars, self.book.expected_exemplars(range, matcher), "{matcher:?}");
        }
        let metadata: BTreeMap<String, Metadata> = self.store().metadata().into_iter().collect();
        assert_eq!(metadata, self.book.metadata);
        let querier = self.store().querier(TimeRange::ALL).unwrap();
        let names = querier.label_values("i", &[], &mut Room::new(&mut |_| Ok(()))).unwrap().names;
        assert!(names.is_sorted(), "{names:?}");
        // What of a chunk was deleted piece by piece may still be listed.
        for labels in self.book.expected(TimeRange::ALL, None).keys() {
            assert!(names.iter().any(|name| name == labels.value("i")), "{labels}");
        }
        assert!(names.iter().all(|name| self.book.all_labels().any(|labels| labels.value("i") == name)));
    }
}

//! A store against a map: whatever is written, in whatever order, with flushes and restarts in between, reads the same.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::chunk::{encode_one_histogram, hash_one_histogram};
use kymo_storage::env::{CrashChoice, MemoryFs, SimClock};
use kymo_storage::model::{
    AnyHistogram, Buckets, CUSTOM_SCHEMA, FloatHistogram, Histogram, IntHistogram, Labels, Matcher,
    ResetHint, TimeRange,
};
use kymo_storage::options::{Limits, Options};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;
const SERIES: usize = 12;

#[derive(Debug, Clone)]
enum Step {
    /// One sample of each series of a run, all at one time after the last.
    Scrape {
        first: usize,
        len: usize,
        after: i64,
        value: i32,
    },
    /// A sample at any time, mostly late.
    Single {
        series: usize,
        time: i64,
        value: i32,
    },
    /// The staleness marker.
    Stale {
        series: usize,
        after: i64,
    },
    /// Histograms one after the other: enough of them are sealed.
    Histograms {
        series: usize,
        len: usize,
        after: i64,
        shape: usize,
        value: u64,
    },
    /// A histogram at any time, mostly late.
    Late {
        series: usize,
        time: i64,
        shape: usize,
        value: u64,
    },
    /// The samples of one series, or of those with a parity, from a time on.
    Delete {
        series: Option<usize>,
        time: i64,
        len: i64,
    },
    Flush,
    Compact,
    /// Rewrites what was deleted.
    Clean,
    /// A snapshot takes the place of the store.
    Snapshot,
    /// Closed in order and opened again.
    Reopen,
    /// The process is gone without a word; everything acknowledged must be there.
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..SERIES, 1..SERIES, 0i64..20_000, -3i32..1000)
            .prop_map(|(first, len, after, value)| Step::Scrape { first, len, after, value }),
        6 => (0..SERIES, -200_000_000i64..100_000, 0i32..5)
            .prop_map(|(series, time, value)| Step::Single { series, time, value }),
        1 => (0..SERIES, 0i64..20_000).prop_map(|(series, after)| Step::Stale { series, after }),
        4 => (0..SERIES, prop_oneof![4 => 1..6usize, 1 => 60..140usize], 1i64..9_000, 0..SHAPES, 0u64..50)
            .prop_map(|(series, len, after, shape, value)| Step::Histograms { series, len, after, shape, value }),
        6 => (0..SERIES, -200_000_000i64..100_000, 0..SHAPES, 0u64..3)
            .prop_map(|(series, time, shape, value)| Step::Late { series, time, shape, value }),
        1 => (proptest::option::of(0..SERIES), -200_000_000i64..200_000, prop_oneof![Just(0), 0i64..300_000_000])
            .prop_map(|(series, time, len)| Step::Delete { series, time, len }),
        2 => Just(Step::Flush),
        2 => Just(Step::Compact),
        1 => Just(Step::Clean),
        1 => Just(Step::Snapshot),
        1 => Just(Step::Reopen),
        1 => Just(Step::Kill),
    ]
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}", i % 3)),
        ("i", format!("{i:02}")),
        ("parity", if i.is_multiple_of(2) { String::new() } else { "odd".to_owned() }),
    ])
}

fn options() -> Options {
    Options {
        retention: Some(Duration::from_secs(10 * 24 * 3600)),
        wal_segment_bytes: 4096,
        limits: Limits { future: Duration::from_secs(1_000_000), ..Limits::default() },
        compaction_widths: [60, 24 * 3600, 4 * 24 * 3600].map(Duration::from_secs).to_vec(),
        maintenance_interval: Duration::from_secs(3600),
        free_space_min: Some(0),
        ..Options::default()
    }
}

/// How many kinds of histograms [`histogram`] makes.
const SHAPES: usize = 8;

fn histogram(shape: usize, value: u64) -> AnyHistogram {
    let counts = vec![value, 0, value + 1, 2 * value];
    let int = IntHistogram {
        schema: 3,
        zero_threshold: 0.001,
        zero_count: value,
        count: 5 * value + 1,
        sum: value as f64 / 8.0,
        positive: Buckets::run(-3, counts.clone()).unwrap(),
        ..Histogram::default()
    };
    AnyHistogram::Int(match shape {
        0 => int,
        1 => IntHistogram { positive: Buckets::run(value as i32, counts).unwrap(), ..int },
        2 => IntHistogram { schema: 11, hint: ResetHint::Reset, ..int },
        3 => IntHistogram {
            schema: CUSTOM_SCHEMA,
            zero_threshold: 0.0,
            zero_count: 0,
            count: 4 * value + 1,
            positive: Buckets::run(0, counts).unwrap(),
            custom_bounds: [0.1, 1.0, 5.0].into(),
            ..int
        },
        4 => Histogram { hint: ResetHint::Gauge, ..Histogram::stale() },
        5 => {
            IntHistogram { negative: std::mem::take(&mut int.clone().positive), count: 9 * value + 2, ..int }
        }
        _ => {
            let mut float = int.to_float();
            float.positive.counts_mut().iter_mut().for_each(|c| *c *= 0.7);
            if shape == 7 {
                float.sum = f64::NAN;
            }
            return AnyHistogram::Float(float);
        }
    })
}

fn encoded(histogram: &AnyHistogram) -> Vec<u8> {
    let mut out = Vec::new();
    encode_one_histogram(histogram, &mut out);
    out
}

/// A sample of either kind, comparable.
#[derive(Debug, Clone, PartialEq)]
enum Sample {
    Float(u64),
    /// Encoded, with floats for counts.
    Histogram(Vec<u8>),
}

/// What the store must answer.
type Answer = BTreeMap<Labels, BTreeMap<i64, Sample>>;

/// What was written.
type Model = BTreeMap<Labels, Series>;

#[derive(Default)]
struct Series {
    samples: BTreeMap<i64, Sample>,
    /// The time of the newest ever, and what it was: the sample, and what tells a repeated one from another at the same
    /// time. Nothing if it was deleted.
    newest: Option<(i64, Option<(Sample, u64)>)>,
}

/// What the rules say about a sample; answers whether it is accepted.
fn write_model(model: &mut Model, series: usize, time: i64, (sample, identity): (Sample, u64)) -> bool {
    let series = model.entry(labels(series)).or_default();
    let is_kind = |other: &Sample| matches!(other, Sample::Float(_)) == matches!(sample, Sample::Float(_));
    match &mut series.newest {
        // The first of equal ones stays.
        Some((last, Some((other, known)))) if *last == time => return is_kind(other) && *known == identity,
        Some((last, _)) if *last > time => {}
        newest => *newest = Some((time, Some((sample.clone(), identity)))),
    }
    series.samples.insert(time, sample);
    true
}

fn float(value: f64) -> (Sample, u64) {
    (Sample::Float(value.to_bits()), value.to_bits())
}

/// As the store keeps and answers it.
fn kept(mut histogram: AnyHistogram) -> (Sample, u64) {
    histogram.accept().unwrap();
    let identity = hash_one_histogram(&encoded(&histogram));
    (answered(&histogram.to_float()), identity)
}

fn answered(histogram: &FloatHistogram) -> Sample {
    Sample::Histogram(encoded(&AnyHistogram::Float(histogram.clone())))
}

fn read_store(store: &Storage, range: TimeRange, matchers: &[Matcher]) -> Answer {
    let querier = store.querier(range).unwrap();
    let set = querier.select(range, matchers).unwrap();
    let mut out = Answer::new();
    let mut samples = Samples::new();
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
        if !pairs.is_empty() {
            out.insert(labels, pairs);
        }
    }
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    out
}

fn expected(model: &Model, range: TimeRange, matcher: Option<&Matcher>) -> Answer {
    let mut out = Answer::new();
    for (labels, series) in model {
        if matcher.is_some_and(|m| !m.matches(labels.value(m.name()))) {
            continue;
        }
        let inside = series.samples.iter().filter(|s| range.contains(*s.0));
        let samples: BTreeMap<i64, Sample> = inside.map(|(t, s)| (*t, s.clone())).collect();
        if !samples.is_empty() {
            out.insert(labels.clone(), samples);
        }
    }
    out
}

/// The store and the model side by side.
struct Pair {
    fs: MemoryFs,
    dir: PathBuf,
    store: Option<Storage>,
    model: Model,
    newest: i64,
}

impl Pair {
    fn open(&self) -> Storage {
        let clock = Arc::new(SimClock::new(NOW));
        Storage::open_with(Arc::new(self.fs.clone()), clock, &self.dir, options()).unwrap()
    }

    fn new() -> Self {
        let dir = PathBuf::from("/data");
        let mut pair = Self { fs: MemoryFs::new(), dir, store: None, model: Model::new(), newest: NOW };
        pair.store = Some(pair.open());
        pair
    }

    fn store(&self) -> &Storage {
        self.store.as_ref().unwrap()
    }

    fn write(&mut self, samples: &[(usize, i64, f64)]) {
        let mut batch = self.store().batch();
        let mut accepted = 0;
        for (series, time, value) in samples {
            let id = batch.series_labels(&labels(*series)).unwrap();
            batch.sample(id, *time, *value);
            accepted += u64::from(write_model(&mut self.model, *series, *time, float(*value)));
        }
        let report = self.store().append(batch).unwrap();
        assert_eq!((report.accepted, report.refused_total), (accepted, samples.len() as u64 - accepted));
    }

    fn write_histograms(&mut self, series: usize, histograms: &[(i64, AnyHistogram)]) {
        let mut batch = self.store().batch();
        let mut accepted = 0;
        let id = batch.series_labels(&labels(series)).unwrap();
        for (time, histogram) in histograms {
            batch.histogram(id, *time, histogram.clone()).unwrap();
            accepted += u64::from(write_model(&mut self.model, series, *time, kept(histogram.clone())));
        }
        let report = self.store().append(batch).unwrap();
        assert_eq!((report.accepted, report.refused_total), (accepted, histograms.len() as u64 - accepted));
    }

    fn apply(&mut self, step: &Step) {
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
                self.write_histograms(
                    series,
                    &[(NOW + time, histogram(shape, value)), (NOW + time, again.clone())],
                );
            }
            Step::Delete { series, time, len } => {
                self.delete(series, TimeRange::closed(NOW + time, NOW + time + len));
            }
            Step::Flush => self.store().flush().unwrap(),
            Step::Compact => self.store().compact().unwrap(),
            Step::Clean => {
                self.store().clean_tombstones().unwrap();
                assert_eq!(self.store().stats().tombstones, 0);
            }
            Step::Snapshot => {
                let place = self.store().snapshot(Path::new("/data/snapshots"), true).unwrap();
                self.store.take().unwrap().close().unwrap();
                self.dir = place;
                self.store = Some(self.open());
            }
            Step::Reopen => {
                self.store.take().unwrap().close().unwrap();
                self.store = Some(self.open());
            }
            Step::Kill => {
                let image = self.fs.crash_image(self.fs.log_len(), CrashChoice::Nothing);
                self.store = None;
                self.fs = image;
                self.store = Some(self.open());
            }
        }
    }

    fn delete(&mut self, series: Option<usize>, range: TimeRange) {
        let matcher = match series {
            Some(series) => Matcher::equal("i", &format!("{series:02}")),
            None => Matcher::equal("parity", "odd"),
        };
        self.store().delete(range, &[vec![matcher.clone()]]).unwrap();
        for (_, series) in self.model.iter_mut().filter(|s| matcher.matches(s.0.value(matcher.name()))) {
            series.samples.retain(|time, _| !range.contains(*time));
            if let Some((time, what)) = &mut series.newest
                && range.contains(*time)
            {
                *what = None;
            }
        }
    }

    fn check(&self, range: TimeRange) {
        assert_eq!(read_store(self.store(), range, &[]), expected(&self.model, range, None));
        for matcher in [Matcher::equal("__name__", "metric_1"), Matcher::equal("parity", "")] {
            let found = read_store(self.store(), range, std::slice::from_ref(&matcher));
            assert_eq!(found, expected(&self.model, range, Some(&matcher)), "{matcher}");
        }
        let querier = self.store().querier(TimeRange::ALL).unwrap();
        let names = querier.label_values("i", &[]).unwrap().names;
        assert!(names.is_sorted(), "{names:?}");
        for (labels, series) in &self.model {
            // What of a chunk was deleted piece by piece may still be listed.
            let is_listed = names.iter().any(|name| name == labels.value("i"));
            assert!(is_listed || series.samples.is_empty(), "{labels}");
        }
        assert!(names.iter().all(|name| self.model.keys().any(|labels| labels.value("i") == name)));
    }
}

/// How many sequences are tried; `KYMO_MODEL_CASES` sets it.
fn cases() -> u32 {
    std::env::var("KYMO_MODEL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]
    #[test]
    fn a_store_answers_as_a_map_does(
        steps in proptest::collection::vec(step(), 1..60),
        from in -100_000i64..300_000, len in 0i64..200_000,
    ) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.apply(step);
        }
        pair.check(TimeRange::ALL);
        pair.check(TimeRange::closed(NOW + from, NOW + from + len));
        pair.apply(&Step::Flush);
        prop_assert_eq!(pair.store().stats().head_samples, 0);
        pair.check(TimeRange::ALL);
        pair.apply(&Step::Kill);
        pair.check(TimeRange::ALL);
    }
}

//! A store in memory with a bit of everything in it, and all that can be asked of a store.

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Room, Samples};
use kymo_storage::chunk::{encode_one_histogram, hash_one_histogram};
use kymo_storage::env::{Clock, CrashChoice, Fs, MemoryFs, SimClock};
use kymo_storage::model::{
    AnyHistogram, Buckets, Exemplar, FloatHistogram, IntHistogram, Labels, MatchOp, Matcher, Metadata,
    MetricType, TimeRange, Timestamp, stale_nan,
};
use kymo_storage::options::Options;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The data directory.
pub(crate) const DATA: &str = "/data";
/// The time of the clock.
pub(crate) const NOW: Timestamp = 1_700_000_000_000;
/// How many samples are looked at; hostile bytes may stand for many.
const SAMPLES_MAX: usize = 200_000;

/// A store that does nothing by itself.
pub(crate) fn options() -> Options {
    Options {
        retention: None,
        wal_segment_bytes: 4096,
        maintenance_interval: Duration::from_secs(3600),
        compaction_percent: 0,
        scrub_bytes_per_second: 0,
        free_space_min: Some(0),
        ..Options::default()
    }
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SimClock::new(NOW))
}

pub(crate) fn open(fs: &Arc<dyn Fs>) -> kymo_storage::Result<Storage> {
    Storage::open_with(Arc::clone(fs), clock(), Path::new(DATA), options())
}

pub(crate) fn open_read_only(fs: &Arc<dyn Fs>) -> kymo_storage::Result<Storage> {
    Storage::open_read_only(fs, &clock(), Path::new(DATA), &options())
}

/// A histogram of whole numbers.
pub(crate) fn whole(i: u64) -> IntHistogram {
    let counts: Vec<u64> = (0..5).map(|bucket| i * bucket + 1).collect();
    let zero_count = i % 3;
    IntHistogram {
        count: counts.iter().sum::<u64>() + zero_count,
        sum: i as f64,
        zero_count,
        zero_threshold: 0.001,
        positive: Buckets::run((i % 3) as i32, counts).unwrap(),
        ..IntHistogram::default()
    }
}

/// A histogram of floats, on both sides.
pub(crate) fn fractional(i: u64) -> FloatHistogram {
    let side = |n: u64| Buckets::run(-1, vec![0.5 * n as f64, 2.0]).unwrap();
    FloatHistogram {
        count: 0.5 * (2 * i + 1) as f64 + 4.0,
        sum: -1.5,
        schema: 2,
        positive: side(i),
        negative: side(i + 1),
        ..FloatHistogram::default()
    }
}

fn labels(name: &str, i: u64) -> Labels {
    Labels::from_pairs([
        ("__name__", name.to_owned()),
        ("instance", format!("host-{i:02}:9100")),
        ("zone", format!("z{}", i % 3)),
    ])
}

/// Stores two batches with floats, start times, histograms, exemplars and descriptions from `time` on.
pub(crate) fn fill(store: &Storage, time: Timestamp) {
    for round in 0..2 {
        let mut batch = store.batch();
        for i in 0..6u64 {
            let series = batch.series_labels(&labels("requests_total", i)).unwrap();
            for step in 0..8 {
                let at = time + (round * 8 + step) * 15_000 + i as i64 % 2;
                let value = (step as u64 * (i + 1)) as f64 / 4.0;
                match i % 4 {
                    0 => batch.sample_with_start(series, at, time - 1000, value),
                    1 if step == 7 => batch.sample(series, at, stale_nan()),
                    _ => batch.sample(series, at, value),
                };
            }
            let trace = Labels::from_pairs([("trace_id", format!("{i:08x}"))]);
            let exemplar = Exemplar { labels: trace, value: 0.5, timestamp: time + round * 150_000 };
            batch.exemplar(series, exemplar).unwrap();
            let series = batch.series_labels(&labels("latency_seconds", i)).unwrap();
            for step in 0..4 {
                let at = time + (round * 4 + step) * 30_000;
                let histogram = if i % 2 == 0 {
                    AnyHistogram::Int(whole(step as u64 + 4 * round as u64))
                } else {
                    AnyHistogram::Float(fractional(step as u64))
                };
                batch.histogram(series, at, histogram).unwrap();
            }
        }
        let help = "How many requests there were.".to_owned();
        let said = Metadata { metric_type: MetricType::Counter, unit: "requests".to_owned(), help };
        batch.metadata("requests_total", said);
        assert_eq!(store.append(batch).unwrap().refused, []);
    }
}

/// The files of a store that was closed: blocks, late samples, deletes, a checkpoint, a log.
pub(crate) fn base() -> MemoryFs {
    static BASE: OnceLock<MemoryFs> = OnceLock::new();
    let base = BASE.get_or_init(|| {
        let fs = MemoryFs::new();
        let store = open(&(Arc::new(fs.clone()) as Arc<dyn Fs>)).unwrap();
        fill(&store, NOW - 3_600_000);
        store.flush().unwrap();
        let matcher = Matcher::new(MatchOp::Regex, "instance", "host-0[3-5].*").unwrap();
        store.delete(TimeRange::closed(NOW - 3_600_000, NOW - 3_500_000), &[vec![matcher]]).unwrap();
        fill(&store, NOW - 3_700_000);
        store.flush().unwrap();
        fill(&store, NOW - 400_000);
        store.close().unwrap();
        drop(store);
        fs.settle();
        fs
    });
    base.crash_image(0, CrashChoice::Everything)
}

/// All files below the data directory.
pub(crate) fn files(fs: &dyn Fs) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(DATA)]);
    while let Some(folder) = folders.pop() {
        for path in fs.list(&folder).unwrap() {
            if fs.open(&path).is_ok() { found.push(path) } else { folders.push(path) }
        }
    }
    found.sort();
    found
}

/// The bytes of a file.
pub(crate) fn read(fs: &dyn Fs, path: &Path) -> Vec<u8> {
    fs.map(path).unwrap().to_vec()
}

/// Puts a file in the place of what was there.
pub(crate) fn write(fs: &dyn Fs, path: &Path, bytes: &[u8]) {
    let _ = fs.remove(path);
    if let Some(folder) = path.parent() {
        fs.create_dir_all(folder).unwrap();
    }
    fs.create(path).unwrap().write_all_at(bytes, 0).unwrap();
}

/// All that a store answers, as text; an error is an answer too. Answers have to agree with each other.
pub(crate) fn dump(store: &Storage) -> String {
    let mut out = String::new();
    let all = TimeRange::ALL;
    let mut ask = |_| Ok(());
    let Ok(querier) = store.querier(all) else { return "no querier".to_owned() };
    match querier.label_names(&[], &mut Room::new(&mut ask)) {
        Ok(names) => {
            for name in &names.names {
                let mut ask = |_| Ok(());
                if let Ok(values) = querier.label_values(name, &[], &mut Room::new(&mut ask)) {
                    writeln!(out, "{name}: {:?}", values.names).unwrap();
                }
            }
        }
        Err(error) => writeln!(out, "names: {:?}", error.kind()).unwrap(),
    }
    match querier.select(all, &[]) {
        Ok(set) => {
            let (mut samples, mut left) = (Samples::new(), SAMPLES_MAX);
            for index in 0..set.len() {
                let labels = set.labels(index);
                if let Err(error) = set.read(index, all, &mut samples) {
                    writeln!(out, "{labels}: {:?}", error.kind()).unwrap();
                    continue;
                }
                write_samples(&mut out, &labels, &samples);
                left = left.saturating_sub(samples.timestamps.len() + samples.histograms.len());
                if left == 0 {
                    break;
                }
            }
        }
        Err(error) => writeln!(out, "select: {:?}", error.kind()).unwrap(),
    }
    match store.exemplars(all, &[vec![]]) {
        Ok(exemplars) => exemplars.series.iter().for_each(|series| {
            let bits: Vec<_> =
                series.exemplars.iter().map(|e| (&e.labels, e.value.to_bits(), e.timestamp)).collect();
            writeln!(out, "exemplars {} {bits:?}", series.labels).unwrap();
        }),
        Err(error) => writeln!(out, "exemplars: {:?}", error.kind()).unwrap(),
    }
    writeln!(out, "{:?}", store.metadata()).unwrap();
    out
}

fn write_samples(out: &mut String, labels: &Labels, samples: &Samples) {
    assert_eq!(samples.timestamps.len(), samples.values.len());
    let starts = samples.start_timestamps.len();
    assert!(starts == 0 || starts == samples.timestamps.len());
    assert!(samples.timestamps.windows(2).all(|w| w[0] < w[1]), "times of {labels} are not in order");
    assert!(samples.histograms.windows(2).all(|w| w[0].timestamp < w[1].timestamp));
    let bits: Vec<u64> = samples.values.iter().map(|v| v.to_bits()).collect();
    writeln!(out, "{labels} {:?} {bits:?} {:?}", samples.timestamps, samples.start_timestamps).unwrap();
    let mut bytes = Vec::new();
    for sample in &samples.histograms {
        bytes.clear();
        encode_one_histogram(&AnyHistogram::Float((*sample.histogram).clone()), &mut bytes);
        let (hash, hint) = (hash_one_histogram(&bytes), sample.histogram.hint);
        writeln!(out, "  {} {} {hash:x} {hint:?}", sample.timestamp, sample.start_timestamp).unwrap();
    }
}

/// What a store answers is what it answers after it was closed and opened again.
pub(crate) fn survives_restart(fs: &Arc<dyn Fs>, store: Storage) {
    let before = dump(&store);
    store.close().unwrap();
    drop(store);
    let store = open(fs).unwrap();
    assert_eq!(dump(&store), before, "a restart changes answers");
    store.close().unwrap();
}

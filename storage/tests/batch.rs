//! Batches with everything a request can hold: recovered whole or not at all, and read back from memory, blocks and both.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::env::{CrashChoice, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs, SimClock};
use kymo_storage::model::{
    AnyHistogram, Buckets, Exemplar, IntHistogram, Labels, Matcher, Metadata, MetricType, TimeRange,
};
use kymo_storage::options::Options;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;

fn options() -> Options {
    Options {
        retention: Some(Duration::from_secs(24 * 3600)),
        wal_segment_bytes: 4096,
        maintenance_interval: Duration::from_secs(3600),
        free_space_min: Some(0),
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn open(fs: &MemoryFs) -> Storage {
    let clock = Arc::new(SimClock::new(NOW));
    Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), options()).unwrap()
}

fn labels(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name)])
}

fn histogram(n: i64) -> AnyHistogram {
    let positive = Buckets::run(0, vec![n as u64, 1]).unwrap();
    let (count, sum) = (n as u64 + 1, n as f64);
    AnyHistogram::Int(IntHistogram { count, sum, positive, ..IntHistogram::default() })
}

fn exemplar(n: i64, timestamp: i64) -> Exemplar {
    Exemplar { labels: Labels::from_pairs([("trace_id", n.to_string())]), value: n as f64, timestamp }
}

/// Request `n`: a float, a histogram and an exemplar at one time, and a family described by its number.
fn write(store: &Storage, n: i64) {
    let mut batch = store.batch();
    let time = NOW + n * 1000;
    let float = batch.series_labels(&labels("float")).unwrap();
    batch.sample_with_start(float, time, NOW - 50 + n / 5, n as f64);
    let series = batch.series_labels(&labels("histogram")).unwrap();
    batch.histogram_with_start(series, time, NOW - 60, histogram(n)).unwrap();
    batch.exemplar(float, exemplar(n, time)).unwrap();
    let help = n.to_string();
    batch.metadata("family", Metadata { metric_type: MetricType::Counter, help, ..Metadata::default() });
    let report = store.append(batch).unwrap();
    assert_eq!((report.accepted, report.accepted_histograms, report.exemplars_accepted), (2, 1, 1));
}

/// What is there of each kind, by the numbers of requests.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    floats: BTreeSet<i64>,
    histograms: BTreeSet<i64>,
    exemplars: BTreeSet<i64>,
    described: Option<i64>,
}

fn number(time: i64) -> i64 {
    (time - NOW) / 1000
}

fn read(store: &Storage) -> Seen {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let (mut seen, mut samples) = (Seen::default(), Samples::new());
    for index in 0..set.len() {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        for (at, (time, value)) in samples.timestamps.iter().zip(&samples.values).enumerate() {
            let n = number(*time);
            assert_eq!((*value, samples.start_timestamp(at)), (n as f64, NOW - 50 + n / 5));
            seen.floats.insert(n);
        }
        for sample in &samples.histograms {
            assert_eq!(sample.start_timestamp, NOW - 60);
            assert_eq!(sample.histogram.sum, number(sample.timestamp) as f64);
            seen.histograms.insert(number(sample.timestamp));
        }
    }
    for series in store.exemplars(TimeRange::ALL, &[]).unwrap().series {
        assert_eq!(series.labels, labels("float"));
        for found in series.exemplars {
            let n = number(found.timestamp);
            assert_eq!(found, exemplar(n, found.timestamp));
            assert!(seen.exemplars.insert(n), "an exemplar comes twice");
        }
    }
    seen.described = store.metadata().first().map(|(_, about)| about.help.parse().unwrap());
    seen
}

#[test]
fn every_crash_leaves_whole_batches() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let mut acknowledged = vec![(fs.log_len(), 0)];
    for n in 0..20 {
        write(&store, n);
        acknowledged.push((fs.log_len(), n + 1));
        if n == 8 || n == 14 {
            store.flush().unwrap();
        }
    }
    store.close().unwrap();
    for at in 0..=fs.log_len() {
        let sure = acknowledged.iter().filter(|a| a.0 <= at).map(|a| a.1).max().unwrap_or(0);
        let choices = [
            CrashChoice::Nothing,
            CrashChoice::Everything,
            CrashChoice::LastTorn,
            CrashChoice::Seed(at as u64 * 7 + 1),
        ];
        for choice in choices {
            let seen = read(&open(&fs.crash_image(at, choice)));
            let found = seen.floats.len() as i64;
            assert!(found >= sure, "op {at} {choice:?}: {found} of {sure} requests");
            let all: BTreeSet<i64> = (0..found).collect();
            let described = found.checked_sub(1).filter(|last| *last >= 0);
            let expected = Seen { floats: all.clone(), histograms: all.clone(), exemplars: all, described };
            assert_eq!(seen, expected, "op {at} {choice:?}");
        }
    }
}

#[test]
fn a_batch_that_the_disk_refuses_leaves_nothing() {
    let memory = MemoryFs::new();
    let plan = FaultPlan::new();
    let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
    let store = Storage::open_with(fs, Arc::new(SimClock::new(NOW)), Path::new("/data"), options()).unwrap();
    write(&store, 0);
    for bytes in [0, 30, 100] {
        plan.add(Fault::on(FaultOp::Write).path("wal").short_write(bytes, 5));
        let mut batch = store.batch();
        let series = batch.series_labels(&labels("float")).unwrap();
        batch.sample(series, NOW + 1000, 1.0);
        batch.exemplar(series, exemplar(7, NOW + 5000)).unwrap();
        assert!(store.append(batch).is_err());
        plan.clear();
    }
    // An exemplar older than the refused one is in order: nothing of the refused batch is remembered.
    write(&store, 1);
    let expected = read(&store);
    assert_eq!(expected.exemplars, BTreeSet::from([0, 1]));
    drop(store);
    assert_eq!(read(&open(&memory.crash_image(memory.log_len(), CrashChoice::Nothing))), expected);
}

#[test]
fn start_timestamps_are_those_of_the_samples_that_stay() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let mut model: BTreeMap<i64, (f64, i64)> = BTreeMap::new();
    let mut newest = i64::MIN;
    let mut random = 12_345_u64;
    for step in 0..600i64 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let pick = |n: u64| (random >> 33) % n;
        let time = NOW - 100_000 + if pick(4) == 0 { pick(400) as i64 * 10 } else { step * 10 };
        if time == newest {
            continue;
        }
        let start = [0, NOW - 200_000, NOW - 150_000 + step / 100, time - 10][pick(4) as usize];
        newest = newest.max(time);
        let mut batch = store.batch();
        let series = batch.series_labels(&labels("m")).unwrap();
        batch.sample_with_start(series, time, start, step as f64);
        assert_eq!(store.append(batch).unwrap().accepted, 1);
        model.insert(time, (step as f64, start));
        if step % 170 == 169 {
            store.flush().unwrap();
        }
    }
    let check = |store: &Storage| {
        for range in [TimeRange::ALL, TimeRange::closed(NOW - 99_500, NOW - 96_000)] {
            let querier = store.querier(range).unwrap();
            let set = querier.select(range, &[]).unwrap();
            let mut samples = Samples::new();
            set.read(0, range, &mut samples).unwrap();
            let rows = samples.timestamps.iter().zip(&samples.values).enumerate();
            let found: BTreeMap<i64, (f64, i64)> =
                rows.map(|(at, (t, v))| (*t, (*v, samples.start_timestamp(at)))).collect();
            let expected: BTreeMap<_, _> =
                model.iter().filter(|(t, _)| range.contains(**t)).map(|(t, v)| (*t, *v)).collect();
            assert_eq!(found, expected);
        }
    };
    check(&store);
    drop(store);
    let store = open(&fs);
    check(&store);
    store.flush().unwrap();
    check(&store);
}

#[test]
fn exemplars_keep_order_limits_and_retention() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let send = |exemplars: &[Exemplar]| {
        let mut batch = store.batch();
        let series = batch.series_labels(&labels("m")).unwrap();
        for exemplar in exemplars {
            batch.exemplar(series, exemplar.clone()).unwrap();
        }
        let report = store.append(batch).unwrap();
        (report.exemplars_accepted, report.exemplars_refused_total)
    };
    let times = |range| {
        let found = store.exemplars(range, &[vec![Matcher::equal("__name__", "m")]]).unwrap();
        found.series.iter().flat_map(|s| s.exemplars.iter().map(|e| e.timestamp - NOW)).collect::<Vec<_>>()
    };
    let long = Exemplar { labels: Labels::from_pairs([("t", "ü".repeat(128))]), ..exemplar(1, NOW) };
    let mut batch = store.batch();
    let series = batch.series_labels(&labels("m")).unwrap();
    let refused = batch.exemplar(series, long).unwrap_err();
    assert!(refused.reason.contains("129") && refused.reason.contains("128"), "{}", refused.reason);
    let fits = Exemplar { labels: Labels::from_pairs([("t", "ü".repeat(127))]), ..exemplar(1, NOW) };
    batch.exemplar(series, fits).unwrap();
    drop(batch);

    assert_eq!(send(&[exemplar(1, NOW), exemplar(1, NOW)]), (2, 0), "a repeated one is known");
    assert_eq!(send(&[exemplar(2, NOW - 1), exemplar(0, NOW)]), (0, 2), "older, or before it at its time");
    assert_eq!(send(&[exemplar(2, NOW), exemplar(3, NOW + 3_600_000)]), (1, 1), "too far in the future");
    assert_eq!(times(TimeRange::ALL), [0, 0]);
    let many: Vec<Exemplar> = (1..=200).map(|n| exemplar(n, NOW + n)).collect();
    assert_eq!(send(&many), (200, 0));
    assert_eq!(times(TimeRange::ALL), (73..=200).collect::<Vec<_>>(), "of more than 128 the oldest go");
    store.flush().unwrap();
    assert_eq!(times(TimeRange::closed(NOW + 150, NOW + 152)), [150, 151, 152]);
    assert_eq!(send(&many[199..]), (1, 0), "known across a flush");
    assert_eq!(send(&[exemplar(9, NOW + 300)]), (1, 0));
    assert_eq!(times(TimeRange::closed(NOW + 199, NOW + 900)), [199, 200, 300]);
    assert_eq!(store.exemplars(TimeRange::ALL, &[vec![Matcher::equal("__name__", "n")]]).unwrap().series, []);
    drop(store);

    let clock = Arc::new(SimClock::new(NOW + 200 + 24 * 3_600_000));
    let later = Storage::open_with(Arc::new(fs), clock, Path::new("/data"), options()).unwrap();
    let mut batch = later.batch();
    let series = batch.series_labels(&labels("n")).unwrap();
    batch.sample(series, NOW + 200 + 24 * 3_600_000, 1.0);
    later.append(batch).unwrap();
    let found = later.exemplars(TimeRange::ALL, &[]).unwrap();
    let kept: Vec<i64> = found.series[0].exemplars.iter().map(|e| e.timestamp - NOW).collect();
    assert_eq!(kept, [200, 300]);
}

#[test]
fn metadata_comes_back_after_the_log_is_released() {
    let fs = MemoryFs::new();
    let about = |help: &str| Metadata { help: help.to_owned(), ..Metadata::default() };
    let mut store = open(&fs);
    for round in 0..3 {
        let mut batch = store.batch();
        batch.metadata(&format!("only_{round}"), about("once"));
        batch.metadata("again", about(&round.to_string()));
        store.append(batch).unwrap();
        write(&store, round);
        store.flush().unwrap();
        // Pushes the segments before out of the log.
        store.close().unwrap();
        store = open(&fs);
        let expected: Vec<(String, Metadata)> = [("again".to_owned(), about(&round.to_string()))]
            .into_iter()
            .chain([("family".to_owned(), store.metadata()[1].1.clone())])
            .chain((0..=round).map(|n| (format!("only_{n}"), about("once"))))
            .collect();
        assert_eq!(store.metadata(), expected);
        assert_eq!(store.stats().replayed_samples, 0, "the log was released");
    }
}

//! Merging blocks: the same answers before, during and after, whatever goes wrong.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Room, Samples};
use kymo_storage::block::{Block, ExactReader, ExactSamples};
use kymo_storage::env::{CrashChoice, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs, SimClock, Space};
use kymo_storage::model::{
    AnyHistogram, Buckets, Exemplar, Histogram, IntHistogram, Labels, Matcher, TimeRange,
};
use kymo_storage::options::Options;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The start of a day.
const DAY: i64 = 1_700_006_400_000;
const HOUR: i64 = 3_600_000;
const SERIES: usize = 4;

fn options() -> Options {
    Options {
        retention: None,
        wal_segment_bytes: 4096,
        maintenance_interval: Duration::from_secs(3600),
        free_space_min: Some(0),
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn open_on(fs: Arc<dyn Fs>) -> Storage {
    let clock = Arc::new(SimClock::new(DAY + 1000 * HOUR));
    Storage::open_with(fs, clock, Path::new("/data"), options()).unwrap()
}

fn open(fs: &MemoryFs) -> Storage {
    open_on(Arc::new(fs.clone()))
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

/// One sample of each series.
fn write(store: &Storage, time: i64, value: f64) {
    let mut batch = store.batch();
    for i in 0..SERIES {
        let series = batch.series_labels(&labels(i)).unwrap();
        batch.sample(series, time, value);
    }
    store.append(batch).unwrap();
}

/// A block of some minutes from hour `hour` of the day on.
fn write_block(store: &Storage, hour: i64, value: f64) {
    for minute in 0..10 {
        write(store, DAY + hour * HOUR + minute * 60_000, value + minute as f64 / 4.0);
    }
    store.flush().unwrap();
}

/// The value at each time, which all series share.
fn read(store: &Storage) -> BTreeMap<i64, f64> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    let mut all = Vec::new();
    for index in 0..set.len() {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        let times = samples.timestamps.iter().map(|t| t - DAY);
        all.push(times.zip(samples.values.iter().copied()).collect::<BTreeMap<_, _>>());
    }
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    assert_eq!(set.len(), SERIES);
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
    all.pop().unwrap()
}

/// Blocks of two hours over half a day, with late data in one and a replaced value in another.
fn fill(store: &Storage) {
    for hour in [0, 2, 4] {
        write_block(store, hour, 1.0 + hour as f64);
    }
    write_block(store, 1, 77.0);
    write(store, DAY + 2 * HOUR + 60_000, 99.0);
    write_block(store, 6, 7.0);
    write_block(store, 9, 9.0);
}

#[test]
fn blocks_become_one_and_answers_stay() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    fill(&store);
    let before = read(&store);
    assert_eq!((before.len(), before[&(2 * HOUR + 60_000)]), (60, 99.0));
    assert_eq!(store.stats().blocks, 6);
    store.compact().unwrap();
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.compactions, stats.block_samples), (2, 1, 60 * SERIES as u64));
    assert!(
        stats.compaction_bytes_read > stats.compaction_bytes_written && stats.compaction_bytes_written > 0
    );
    assert_eq!(read(&store), before);
    assert_eq!(fs.list(Path::new("/data/blocks")).unwrap().len(), 2);
    store.compact().unwrap();
    assert_eq!(store.stats().compactions, 1, "nothing is left to do");
    drop(store);
    let store = open(&fs);
    assert_eq!(read(&store), before);
    for hour in [12, 17, 25] {
        write_block(&store, hour, 1.0);
    }
    let before = read(&store);
    store.compact().unwrap();
    assert_eq!((store.stats().blocks, read(&store)), (2, before), "a day is one block");
}

#[test]
fn every_crash_of_a_flush_and_a_merge_keeps_all() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    fill(&store);
    write(&store, DAY + 10 * HOUR, 5.0);
    let expected = read(&store);
    let before = fs.log_len();
    store.flush().unwrap();
    store.compact().unwrap();
    drop(store);
    for at in before..=fs.log_len() {
        let choices = [
            CrashChoice::Nothing,
            CrashChoice::Everything,
            CrashChoice::LastTorn,
            CrashChoice::Seed(at as u64),
        ];
        for choice in choices {
            let image = fs.crash_image(at, choice);
            let store = open(&image);
            assert_eq!(read(&store), expected, "op {at} {choice:?}");
            assert_eq!(store.stats().blocks_quarantined, 0, "op {at} {choice:?}");
            let names = image.list(Path::new("/data/blocks")).unwrap();
            assert_eq!(names.len() as u64, store.stats().blocks, "leftovers are gone: op {at} {choice:?}");
            if choice == CrashChoice::Everything {
                store.flush().unwrap();
                store.compact().unwrap();
                assert_eq!(read(&store), expected, "op {at}, merged after the crash");
            }
        }
    }
}

#[test]
fn a_disk_that_fails_at_any_call_loses_nothing() {
    let ops = [
        FaultOp::Create,
        FaultOp::Write,
        FaultOp::Sync,
        FaultOp::Rename,
        FaultOp::SyncDir,
        FaultOp::Open,
        FaultOp::Map,
        FaultOp::Read,
        FaultOp::Remove,
    ];
    for op in ops {
        for skip in 0..4 {
            let (memory, plan) = (MemoryFs::new(), FaultPlan::new());
            let store = open_on(Arc::new(FaultFs::new(memory.clone(), plan.clone())));
            fill(&store);
            let expected = read(&store);
            plan.add(Fault::on(op).after(skip).errno(Fault::ENOSPC).forever());
            let merged = store.compact();
            plan.clear();
            assert_eq!(read(&store), expected, "{op:?} {skip} {merged:?}");
            store.compact().unwrap();
            assert_eq!(
                (read(&store), store.stats().blocks),
                (expected.clone(), 2),
                "{op:?} {skip} {merged:?}"
            );
            drop(store);
            assert_eq!(read(&open(&memory)), expected, "{op:?} {skip}");
        }
    }
}

#[test]
fn without_room_nothing_is_merged() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    fill(&store);
    fs.set_space(Space { free_bytes: 100, total_bytes: 1 << 30 });
    assert!(store.compact().unwrap_err().to_string().contains("100"));
    assert_eq!((store.stats().blocks, store.stats().compaction_failures), (6, 1));
}

#[test]
fn readers_see_the_same_during_a_merge() {
    let store = open(&MemoryFs::new());
    fill(&store);
    let expected = read(&store);
    let view = store.querier(TimeRange::ALL).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !is_done.load(Ordering::Acquire) || reads < 3 {
                assert_eq!(read(&store), expected);
                reads += 1;
            }
        });
        store.compact().unwrap();
        is_done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    let set = view.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    set.read(0, TimeRange::ALL, &mut samples).unwrap();
    assert_eq!(samples.timestamps.len(), 60, "an old view reads the files that were replaced");
}

#[test]
fn histograms_stay_what_they_were() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let whole = |n: u64| {
        AnyHistogram::Int(IntHistogram {
            schema: 2,
            zero_threshold: 0.5,
            count: 3 * n,
            sum: n as f64 * 0.7,
            positive: Buckets::run(1, vec![n, 2 * n]).unwrap(),
            ..Histogram::default()
        })
    };
    let fraction = |n: u64| match whole(n) {
        AnyHistogram::Int(h) => {
            let mut float = h.to_float();
            float.positive.counts_mut().iter_mut().for_each(|c| *c *= 0.3);
            float.count *= 0.3;
            AnyHistogram::Float(float)
        }
        other @ AnyHistogram::Float(_) => other,
    };
    let mut expected = BTreeMap::new();
    for hour in [0, 3, 6, 9] {
        let mut batch = store.batch();
        let id = batch.series_labels(&labels(0)).unwrap();
        for n in 1..5 {
            let time = DAY + hour * HOUR + n as i64 * 1000;
            let histogram = if n % 2 == 0 { whole(n) } else { fraction(n) };
            batch.histogram(id, time, histogram.clone()).unwrap();
            expected.insert(time, histogram);
        }
        batch.sample(id, DAY + hour * HOUR + 500_000, 1.0);
        assert_eq!(store.append(batch).unwrap().accepted, 5);
        store.flush().unwrap();
    }
    store.compact().unwrap();
    let memory: Arc<dyn Fs> = Arc::new(fs.clone());
    let mut found = BTreeMap::new();
    let mut floats = 0;
    for path in fs.list(Path::new("/data/blocks")).unwrap() {
        let block = Block::open(&memory, &path).unwrap();
        let (mut reader, mut samples) = (ExactReader::default(), ExactSamples::default());
        reader.read(&block, 0, &mut samples).unwrap();
        floats += samples.times.len();
        found.extend(samples.histogram_times.iter().copied().zip(samples.histograms.iter().cloned()));
    }
    assert_eq!((store.stats().blocks, floats), (2, 4));
    for (time, histogram) in &expected {
        let same = match (histogram, &found[time]) {
            (AnyHistogram::Int(a), AnyHistogram::Int(b)) => (a.count, &a.positive) == (b.count, &b.positive),
            (AnyHistogram::Float(a), AnyHistogram::Float(b)) => {
                (a.count, &a.positive) == (b.count, &b.positive)
            }
            _ => false,
        };
        assert!(same, "{time}: {histogram:?} {:?}", found[time]);
    }
    assert_eq!(found.len(), expected.len());
}

#[test]
fn start_timestamps_and_exemplars_are_carried_over() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let mut expected = Vec::new();
    for hour in [0, 2, 4, 9] {
        let mut batch = store.batch();
        for i in 0..SERIES {
            let id = batch.series_labels(&labels(i)).unwrap();
            for n in 0..3 {
                let time = DAY + hour * HOUR + n * 1000;
                // The last series has none.
                let start = if i + 1 < SERIES { DAY - i as i64 } else { 0 };
                batch.sample_with_start(id, time, start, n as f64);
                if i == 1 {
                    let labels = Labels::from_pairs([("trace", time.to_string())]);
                    let exemplar = Exemplar { labels, value: 0.5, timestamp: time };
                    batch.exemplar(id, exemplar.clone()).unwrap();
                    expected.push(exemplar);
                }
            }
        }
        store.append(batch).unwrap();
        store.flush().unwrap();
    }
    store.compact().unwrap();
    assert_eq!(store.stats().blocks, 2);
    let exemplars = store.exemplars(TimeRange::ALL, &[]).unwrap().series;
    assert_eq!((exemplars.len(), &exemplars[0].exemplars), (1, &expected));
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    for index in 0..SERIES {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        let starts: Vec<i64> = (0..samples.timestamps.len()).map(|at| samples.start_timestamp(at)).collect();
        let start = if index + 1 < SERIES { DAY - index as i64 } else { 0 };
        assert_eq!(starts, vec![start; 12]);
    }
    store.delete(TimeRange::closed(DAY, DAY + 5 * HOUR), &[vec![Matcher::equal("i", "1")]]).unwrap();
    assert_eq!(store.exemplars(TimeRange::ALL, &[]).unwrap().series[0].exemplars, expected[9..]);
    store.clean_tombstones().unwrap();
    assert_eq!(store.exemplars(TimeRange::ALL, &[]).unwrap().series[0].exemplars, expected[9..]);
}

#[test]
fn what_was_deleted_is_left_out_and_its_room_is_free() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    fill(&store);
    let first = vec![vec![Matcher::equal("i", "0")]];
    let all = vec![vec![Matcher::equal("__name__", "m")]];
    store.delete(TimeRange::ALL, &first).unwrap();
    store.delete(TimeRange::closed(DAY, DAY + 3 * HOUR), &all).unwrap();
    let samples = |store: &Storage| store.stats().block_samples;
    assert_eq!((samples(&store), store.stats().tombstones), (61 * SERIES as u64, 2));
    store.clean_tombstones().unwrap();
    assert_eq!((samples(&store), store.stats().tombstones), (30 * 3, 0));
    drop(store);
    let store = open(&fs);
    let querier = store.querier(TimeRange::ALL).unwrap();
    assert_eq!(
        querier.label_values("i", &[], &mut Room::new(&mut |_| Ok(()))).unwrap().names,
        ["1", "2", "3"]
    );
    store.delete(TimeRange::ALL, &all).unwrap();
    store.clean_tombstones().unwrap();
    assert_eq!((store.stats().blocks, samples(&store)), (0, 0));
    assert_eq!(fs.list(Path::new("/data/blocks")).unwrap().len(), 0);
    write(&store, DAY + HOUR, 5.0);
    assert_eq!(read(&store).len(), 1);
}

#[test]
fn deletes_are_reclaimed_in_time_without_asking() {
    let clock = SimClock::new(DAY + 100 * HOUR);
    let fs: Arc<dyn Fs> = Arc::new(MemoryFs::new());
    let store = Storage::open_with(fs, Arc::new(clock.clone()), Path::new("/data"), options()).unwrap();
    write_block(&store, 0, 1.0);
    store.delete(TimeRange::ALL, &[vec![Matcher::equal("i", "0")]]).unwrap();
    store.compact().unwrap();
    assert_eq!((store.stats().compactions, store.stats().tombstones), (0, 1));
    clock.advance(Duration::from_secs(3600));
    store.compact().unwrap();
    assert_eq!((store.stats().compactions, store.stats().tombstones), (1, 0));
    assert_eq!(store.stats().block_samples, 30);
}

#[test]
fn a_damaged_block_is_left_as_it_is() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    for hour in [0, 2, 4, 6, 9] {
        write_block(&store, hour, 0.123_456_789 * (hour + 1) as f64);
    }
    store.close().unwrap();
    drop(store);
    let path = fs.list(Path::new("/data/blocks")).unwrap().remove(1);
    let file = fs.open_write(&path).unwrap();
    file.write_all_at(&[0xff; 4], 70).unwrap();
    let store = open(&fs);
    store.compact().unwrap();
    assert_eq!((store.stats().compaction_failures, store.stats().compactions), (1, 1));
    assert_eq!(store.stats().blocks, 3, "the three others of the window are one");
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    set.read(0, TimeRange::ALL, &mut samples).unwrap();
    assert!(set.warnings().iter().any(|w| w.contains(&path.display().to_string())), "{:?}", set.warnings());
    assert!(fs.open(&path).is_ok());
    assert_eq!(samples.timestamps.len(), 40);
}

#[test]
fn a_sample_of_1970_costs_nothing() {
    let store = open(&MemoryFs::new());
    write(&store, 0, 1.0);
    write(&store, DAY, 1.0);
    store.flush().unwrap();
    for hour in [1, 9] {
        write_block(&store, hour, 1.0);
    }
    let before = read(&store);
    store.compact().unwrap();
    assert_eq!((store.stats().blocks, read(&store)), (3, before));
}

/// A merge leaves out what is too old, but not what has replaced a sample of a block that is not merged with it: should the clock go
/// back, the sample that was replaced would be the answer again.
#[test]
fn what_was_replaced_does_not_come_back_with_the_clock() {
    let fs = MemoryFs::new();
    let clock = SimClock::new(DAY + 30 * HOUR);
    let options = Options { retention: Some(Duration::from_secs(24 * 3600)), ..options() };
    let store =
        Storage::open_with(Arc::new(fs), Arc::new(clock.clone()), Path::new("/data"), options).unwrap();
    write(&store, DAY + 10 * HOUR, 1.0);
    write(&store, DAY + 30 * HOUR, 2.0);
    store.flush().unwrap();
    write(&store, DAY + 10 * HOUR, 99.0);
    write(&store, DAY + 10 * HOUR + 1, 3.0);
    store.flush().unwrap();
    write(&store, DAY + 11 * HOUR, 4.0);
    store.flush().unwrap();
    let before = read(&store);
    assert_eq!((before[&(10 * HOUR)], before.len(), store.stats().blocks), (99.0, 4, 3));
    clock.advance(Duration::from_secs(6 * 3600));
    write(&store, DAY + 36 * HOUR, 5.0);
    store.flush().unwrap();
    assert_eq!(read(&store).len(), 2, "the others are too old");
    store.compact().unwrap();
    assert_eq!((store.stats().compactions, store.stats().blocks), (1, 3));
    clock.set_wall_ms(DAY + 30 * HOUR);
    let after = read(&store);
    assert!(before.iter().all(|(time, value)| after.get(time) == Some(value)), "{after:?}");
    // Once the older block goes, so does what replaced its samples.
    clock.advance(Duration::from_secs(50 * 3600));
    write(&store, DAY + 80 * HOUR, 6.0);
    store.flush().unwrap();
    store.maintain().unwrap();
    assert_eq!((store.stats().blocks, read(&store).len()), (1, 1));
}

//! A store from outside: what is written is read, in every form the interface has.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Room, Samples};
use kymo_storage::env::{MemoryFs, SimClock};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use kymo_storage::options::{Limits, Options};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;

fn open() -> Storage {
    let fs = Arc::new(MemoryFs::new());
    Storage::open_with(fs, Arc::new(SimClock::new(NOW)), Path::new("/data"), Options::default()).unwrap()
}

fn labels(name: &str, i: usize) -> Labels {
    Labels::from_pairs([("__name__", name.to_owned()), ("i", i.to_string())])
}

/// All samples of the series that match `name`, by labels.
fn read_all(store: &Storage, name: &str) -> Vec<(Labels, Vec<(i64, f64)>)> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[Matcher::equal("__name__", name)]).unwrap();
    let mut out = Vec::new();
    let mut samples = Samples::new();
    for index in 0..set.len() {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        let pairs = samples.timestamps.iter().copied().zip(samples.values.iter().copied()).collect();
        out.push((set.labels(index), pairs));
    }
    out
}

#[test]
fn written_samples_are_read_sorted_by_labels() {
    let store = open();
    for scrape in 0..5 {
        let mut batch = store.batch();
        for i in (0..50).rev() {
            let series = batch.series_labels(&labels("m", i)).unwrap();
            batch.sample(series, NOW + scrape * 1000, (i as i64 * scrape) as f64);
        }
        let report = store.append(batch).unwrap();
        assert_eq!((report.accepted, report.refused_total), (50, 0));
    }
    let found = read_all(&store, "m");
    assert_eq!(found.len(), 50);
    assert!(found.windows(2).all(|w| w[0].0 < w[1].0));
    for (labels, samples) in &found {
        let i: i64 = labels.value("i").parse().unwrap();
        let expected: Vec<_> = (0..5).map(|s| (NOW + s * 1000, (i * s) as f64)).collect();
        assert_eq!(*samples, expected);
    }
    let querier = store.querier(TimeRange::ALL).unwrap();
    assert_eq!(querier.label_names(&[], &mut Room::new(&mut |_| Ok(()))).unwrap().names, ["__name__", "i"]);
    assert_eq!(
        querier
            .label_values("i", &[vec![Matcher::equal("i", "7")]], &mut Room::new(&mut |_| Ok(())))
            .unwrap()
            .names,
        ["7"]
    );
    assert!(read_all(&store, "other").is_empty());
}

#[test]
fn series_of_one_scrape_leave_the_timestamps_version_alone() {
    let store = open();
    for scrape in 0..3 {
        let mut batch = store.batch();
        for i in 0..10 {
            let series = batch.series_labels(&labels("m", i)).unwrap();
            batch.sample(series, NOW + scrape * 1000, i as f64);
        }
        store.append(batch).unwrap();
    }
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    set.read(0, TimeRange::ALL, &mut samples).unwrap();
    let version = samples.timestamps_version;
    for index in 1..10 {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        assert_eq!((samples.timestamps_version, samples.values.len()), (version, 3));
    }
    set.read(0, TimeRange::closed(NOW, NOW), &mut samples).unwrap();
    assert_ne!(samples.timestamps_version, version);
    let column = set.label_column("i");
    assert_eq!(&*column.values[column.ids[3] as usize], "3");
}

#[test]
fn refused_samples_are_named_and_the_rest_is_taken() {
    let store = open();
    let mut batch = store.batch();
    let series = batch.series_labels(&labels("m", 1)).unwrap();
    batch.sample(series, NOW, 1.0);
    batch.sample(series, NOW, 2.0);
    batch.sample(series, NOW, 1.0);
    batch.sample(series, NOW + 3_600_000, 1.0);
    batch.sample(series, NOW - 5, 3.0);
    batch.sample(series, 0, 3.0);
    let report = store.append(batch).unwrap();
    assert_eq!((report.accepted, report.refused_total), (3, 3));
    assert!(report.refused[0].reason.contains("another value"), "{:?}", report.refused[0]);
    assert!(report.refused[1].reason.contains("future"), "{:?}", report.refused[1]);
    assert!(report.refused[2].reason.contains("retention"), "{:?}", report.refused[2]);
    assert_eq!(report.refused[0].labels, labels("m", 1));
    assert_eq!(read_all(&store, "m")[0].1, [(NOW - 5, 3.0), (NOW, 1.0)]);
}

#[test]
fn a_closed_store_says_so_and_old_views_still_read() {
    let store = open();
    let mut batch = store.batch();
    let series = batch.series_labels(&labels("m", 1)).unwrap();
    batch.sample(series, NOW, 1.0);
    store.append(batch).unwrap();
    let querier = store.querier(TimeRange::ALL).unwrap();
    store.close().unwrap();
    let mut batch = store.batch();
    batch.sample(series, NOW + 1, 1.0);
    let error = store.append(batch).unwrap_err();
    assert_eq!(error.kind(), kymo_storage::ErrorKind::Unavailable);
    assert_eq!(querier.select(TimeRange::ALL, &[]).unwrap().len(), 1);
}

#[test]
fn a_real_directory_holds_a_store_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { retention: None, free_space_min: Some(0), ..Options::default() };
    for round in 0..3 {
        let store = Storage::open(&dir.path().join("data"), options.clone()).unwrap();
        assert!(Storage::open(&dir.path().join("data"), options.clone()).is_err(), "one process at a time");
        let mut batch = store.batch();
        for i in 0..20 {
            let series = batch.series_labels(&labels("m", i)).unwrap();
            batch.sample(series, NOW + round, i as f64);
        }
        assert_eq!(store.append(batch).unwrap().accepted, 20);
        if round == 1 {
            store.flush().unwrap();
        }
        let found = read_all(&store, "m");
        assert_eq!((found.len(), found[0].1.len() as i64), (20, round + 1));
        store.close().unwrap();
    }
}

#[test]
fn closing_flushes_what_a_start_would_have_to_read_and_dropping_does_not() {
    let fs = MemoryFs::new();
    let open = |flush_on_close_bytes| {
        let options = Options { flush_on_close_bytes, ..Options::default() };
        let clock = Arc::new(SimClock::new(NOW));
        Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), options).unwrap()
    };
    let write = |store: &Storage, time| {
        let mut batch = store.batch();
        let series = batch.series_labels(&labels("m", 1)).unwrap();
        batch.sample(series, time, 1.0);
        store.append(batch).unwrap();
    };
    // What is written, whether the log is worth a flush, whether the store is closed; blocks and samples in the head then.
    let cases = [
        (Some(NOW), u64::MAX, true, 0, 1),
        (None, 0, false, 0, 1),
        (None, 0, true, 1, 0),
        (None, 0, true, 1, 0),
        (Some(NOW + 1), 0, false, 1, 1),
        (None, 0, true, 2, 0),
    ];
    for (time, limit, is_closed, blocks, head_samples) in cases {
        let store = open(limit);
        if let Some(time) = time {
            write(&store, time);
        }
        if is_closed {
            store.close().unwrap();
        }
        drop(store);
        let store = open(u64::MAX);
        let stats = store.stats();
        assert_eq!(
            (stats.blocks, stats.head_samples),
            (blocks, head_samples),
            "{time:?} {limit} {is_closed}"
        );
        let samples: usize = read_all(&store, "m").iter().map(|series| series.1.len()).sum();
        assert_eq!(samples as u64, head_samples + stats.block_samples);
    }
}

#[test]
fn hours_of_samples_that_come_in_minutes_are_flushed_as_if_they_had_taken_hours() {
    let fs = MemoryFs::new();
    let clock = Arc::new(SimClock::new(NOW));
    let limits = Limits { future: Duration::from_secs(86_400), ..Limits::default() };
    let options = Options { limits, free_space_min: Some(0), ..Options::default() };
    let store = Storage::open_with(Arc::new(fs), clock, Path::new("/data"), options).unwrap();
    let write = |time: i64| {
        let mut batch = store.batch();
        let id = batch.series_labels(&Labels::from_pairs([("__name__", "m")])).unwrap();
        batch.sample(id, NOW + time, 1.0);
        store.append(batch).unwrap();
        store.maintain().unwrap();
    };
    // Late samples, and samples of an hour.
    for time in [0, -20 * 3_600_000, 3_600_000] {
        write(time);
    }
    assert_eq!(store.stats().flushes, 0);
    write(2 * 3_600_000);
    for _ in 0..20_000 {
        if store.stats().flushes > 0 {
            break;
        }
        store.maintain().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((store.stats().flushes, store.stats().head_samples), (1, 0));
}

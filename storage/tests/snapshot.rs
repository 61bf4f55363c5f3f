//! Snapshots: whole or not there, openable, independent of what the store does afterwards.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::env::{CrashChoice, DiskFs, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs, SimClock};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use kymo_storage::options::Options;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;

fn open(fs: Arc<dyn Fs>, dir: &Path) -> Storage {
    let options = Options {
        retention: None,
        maintenance_interval: Duration::from_secs(3600),
        wal_segment_bytes: 4096,
        free_space_min: Some(0),
        reserve_bytes: 0,
        ..Options::default()
    };
    Storage::open_with(fs, Arc::new(SimClock::new(NOW)), dir, options).unwrap()
}

fn write(store: &Storage, series: &str, time: i64) {
    let mut batch = store.batch();
    let id = batch.series_labels(&Labels::from_pairs([("__name__", "m"), ("i", series)])).unwrap();
    batch.sample(id, NOW + time, time as f64);
    store.append(batch).unwrap();
}

fn read(store: &Storage) -> Vec<(String, Vec<i64>)> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    let mut out = Vec::new();
    for index in 0..set.len() {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        let times = samples.timestamps.iter().map(|t| t - NOW).collect();
        out.push((set.labels(index).value("i").to_owned(), times));
    }
    out
}

fn one(series: &str, times: &[i64]) -> (String, Vec<i64>) {
    (series.to_owned(), times.to_vec())
}

#[test]
fn a_snapshot_opens_as_a_store_of_its_own() {
    let place = tempfile::tempdir().unwrap();
    let store = open(Arc::new(DiskFs), &place.path().join("data"));
    write(&store, "a", 0);
    write(&store, "b", 0);
    store.flush().unwrap();
    store.delete(TimeRange::ALL, &[vec![Matcher::equal("i", "b")]]).unwrap();
    write(&store, "a", 10);
    let snapshots = place.path().join("data").join("snapshots");
    let blocks_only = store.snapshot(&snapshots, false).unwrap();
    let whole = store.snapshot(&snapshots, true).unwrap();
    let name = whole.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("20231114T221320Z-") && name.len() == 33, "{name}");
    write(&store, "a", 20);
    store.delete(TimeRange::ALL, &[vec![Matcher::equal("i", "a")]]).unwrap();
    store.clean_tombstones().unwrap();
    assert!(read(&store).is_empty());
    for (path, times) in [(blocks_only, vec![0]), (whole, vec![0, 10])] {
        let copy = open(Arc::new(DiskFs), &path);
        assert_eq!(read(&copy), [one("a", &times)]);
        write(&copy, "a", 30);
        copy.flush().unwrap();
        drop(copy);
        assert_eq!(read(&open(Arc::new(DiskFs), &path))[0].1.last(), Some(&30));
    }
}

#[test]
fn every_crash_leaves_whole_snapshots_or_none() {
    let fs = MemoryFs::new();
    let store = open(Arc::new(fs.clone()), Path::new("/data"));
    write(&store, "a", 0);
    store.flush().unwrap();
    write(&store, "a", 10);
    let before = fs.log_len();
    let path = store.snapshot(Path::new("/backups"), true).unwrap();
    drop(store);
    let after = fs.log_len();
    for at in before..=after {
        for choice in [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seed(at as u64)] {
            let image: Arc<dyn Fs> = Arc::new(fs.crash_image(at, choice));
            let is_there = image.list(&path.join("blocks")).is_ok_and(|files| !files.is_empty())
                || image.open(&path.join("MANIFEST")).is_ok();
            if is_there {
                let copy = open(Arc::clone(&image), &path);
                assert_eq!(read(&copy), [one("a", &[0, 10])], "op {at} of {before}..{after} {choice:?}");
            }
            assert!(is_there || at < after);
            assert_eq!(read(&open(image, Path::new("/data"))), [one("a", &[0, 10])]);
        }
    }
}

#[test]
fn a_snapshot_that_fails_leaves_nothing() {
    let (memory, plan) = (MemoryFs::new(), FaultPlan::new());
    let store = open(Arc::new(FaultFs::new(memory.clone(), plan.clone())), Path::new("/data"));
    write(&store, "a", 0);
    store.flush().unwrap();
    let backups = PathBuf::from("/backups");
    for op in [FaultOp::Link, FaultOp::Create, FaultOp::Rename, FaultOp::SyncDir, FaultOp::Sync] {
        plan.add(Fault::on(op).path("backups"));
        assert!(store.snapshot(&backups, false).is_err(), "{op:?}");
        assert!(memory.list(&backups).unwrap().is_empty(), "{op:?}");
    }
    store.snapshot(&backups, false).unwrap();
    assert_eq!(memory.list(&backups).unwrap().len(), 1);
}

/// What is unfinished is removed by the next snapshot: of another that is under way it must not take anything.
#[test]
fn snapshots_at_the_same_time_are_all_whole() {
    const BLOCKS: i64 = 20;
    let place = tempfile::tempdir().unwrap();
    let store = open(Arc::new(DiskFs), &place.path().join("data"));
    for time in 0..BLOCKS {
        write(&store, "a", time);
        store.flush().unwrap();
    }
    let snapshots = place.path().join("data").join("snapshots");
    let all: Vec<i64> = (0..BLOCKS).collect();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let path = store.snapshot(&snapshots, false).unwrap();
                    assert_eq!(read(&open(Arc::new(DiskFs), &path)), [one("a", &all)]);
                }
            });
        }
    });
}

//! A full disk: nothing can be written, and what was stored can be deleted, dropped by retention, and read after a restart.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::api::{Queryable, Samples};
use kymo_storage::db::Health;
use kymo_storage::env::{Fs, MemoryFs, SimClock};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use kymo_storage::options::Options;
use kymo_storage::{ErrorKind, Storage};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
const DIR: &str = "/data";
const RESERVE: &str = "/data/RESERVE";
const BALLAST: &str = "/ballast";
const CAPACITY: u64 = 8 << 20;

fn options() -> Options {
    Options {
        retention: None,
        free_space_min: Some(64 << 10),
        reserve_bytes: 1 << 20,
        wal_segment_bytes: 64 << 10,
        compaction_percent: 0,
        ..Options::default()
    }
}

fn open(fs: &MemoryFs, options: &Options) -> Storage {
    let clock = Arc::new(SimClock::new(NOW));
    Storage::open_with(Arc::new(fs.clone()), clock, Path::new(DIR), options.clone()).unwrap()
}

fn labels(job: &str, i: usize) -> Labels {
    Labels::from_pairs([("__name__", "up".to_owned()), ("job", job.to_owned()), ("i", i.to_string())])
}

fn append(store: &Storage, job: &str, time: i64) -> kymo_storage::Result<()> {
    let mut batch = store.batch();
    for i in 0..100 {
        let series = batch.series_labels(&labels(job, i)).unwrap();
        batch.sample(series, time, i as f64 * 0.37);
    }
    store.append(batch).map(|report| assert_eq!(report.refused_total, 0))
}

/// How many samples a job has.
fn count(store: &Storage, job: &str) -> usize {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[Matcher::equal("job", job)]).unwrap();
    let mut samples = Samples::new();
    let one = |index| {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        samples.values.len()
    };
    let total = (0..set.len()).map(one).sum();
    assert!(set.warnings().is_empty());
    total
}

/// A store with samples in a block and in the head, on a disk that somebody else then fills to the last byte.
fn filled(options: &Options) -> (MemoryFs, Storage) {
    let fs = MemoryFs::unrecorded();
    fs.set_capacity(CAPACITY);
    fs.create_dir_all(Path::new("/")).unwrap();
    let store = open(&fs, options);
    append(&store, "old", NOW - 5 * HOUR).unwrap();
    store.flush().unwrap();
    for job in ["kept", "gone"] {
        append(&store, job, NOW - HOUR).unwrap();
        append(&store, job, NOW).unwrap();
    }
    store.maintain().unwrap();
    fs.create(Path::new(BALLAST)).unwrap();
    fill_up(&fs);
    (fs, store)
}

/// Takes what is free.
fn fill_up(fs: &MemoryFs) {
    let ballast = fs.open_write(Path::new(BALLAST)).unwrap();
    let free = || fs.space(Path::new("/")).unwrap().free_bytes;
    ballast.set_len(ballast.len().unwrap() + free()).unwrap();
    assert_eq!(free(), 0);
}

fn has_reserve(fs: &MemoryFs) -> bool {
    fs.open(Path::new(RESERVE)).is_ok()
}

#[test]
fn samples_are_deleted_on_a_full_disk() {
    let (fs, store) = filled(&options());
    assert!(has_reserve(&fs));
    let written = (0..2000i64).find_map(|i| append(&store, "kept", NOW + i + 1).err()).unwrap();
    assert_eq!(written.kind(), ErrorKind::Unavailable);
    // The log gave up what it had in reserve itself.
    fill_up(&fs);
    assert!(matches!(store.health(), Health::ReadOnly(_)));

    let kept = count(&store, "kept");
    assert_eq!(store.delete(TimeRange::ALL, &[vec![Matcher::equal("job", "gone")]]).unwrap().series, 100);
    assert!(!has_reserve(&fs), "its room was needed");
    assert_eq!((count(&store, "gone"), count(&store, "kept"), count(&store, "old")), (0, kept, 100));

    drop(store);
    let store = open(&fs, &options());
    assert_eq!((count(&store, "gone"), count(&store, "kept"), count(&store, "old")), (0, kept, 100));

    fs.remove(Path::new(BALLAST)).unwrap();
    store.maintain().unwrap();
    assert!(has_reserve(&fs), "there is room for it again");
    append(&store, "gone", NOW).unwrap();
    assert_eq!(count(&store, "gone"), 100);
}

#[test]
fn the_reserve_is_laid_down_at_the_start() {
    let fs = MemoryFs::unrecorded();
    fs.set_capacity(CAPACITY);
    fs.create_dir_all(Path::new("/")).unwrap();
    let store = open(&fs, &options());
    let is_there = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        has_reserve(&fs)
    });
    assert!(is_there, "nobody has asked for maintenance");
    drop(store);
}

#[test]
fn without_a_reserve_a_full_disk_refuses_deletes() {
    let (fs, store) = filled(&Options { reserve_bytes: 0, ..options() });
    assert!(!has_reserve(&fs));
    let refused = store.delete(TimeRange::ALL, &[vec![Matcher::equal("job", "gone")]]).unwrap_err();
    assert_eq!(refused.io_kind(), Some(std::io::ErrorKind::StorageFull));
    assert_eq!((count(&store, "gone"), count(&store, "kept")), (200, 200));
}

#[test]
fn retention_and_restarts_go_on_with_a_full_disk() {
    let (fs, store) = filled(&options());
    drop(store);
    let store = open(&fs, &Options { retention: Some(Duration::from_secs(2 * 3600)), ..options() });
    assert_eq!(store.stats().blocks, 1);
    store.maintain().unwrap();
    assert_eq!((store.stats().blocks, count(&store, "old")), (0, 0));
    assert_eq!((count(&store, "gone"), count(&store, "kept")), (200, 200));
    assert!(!has_reserve(&fs));
}

#[test]
fn a_reserve_of_another_size_is_laid_down_anew() {
    let (fs, store) = filled(&options());
    drop(store);
    fs.remove(Path::new(BALLAST)).unwrap();
    for bytes in [2 << 20, 0, 1 << 20] {
        let store = open(&fs, &Options { reserve_bytes: bytes, ..options() });
        store.maintain().unwrap();
        let len = fs.open(Path::new(RESERVE)).map_or(0, |file| file.len().unwrap());
        assert_eq!(len, bytes);
    }
}

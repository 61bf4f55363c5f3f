//! Reading a store beside the process that writes it.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::api::{Queryable, Samples};
use kymo_storage::db::{Health, Storage};
use kymo_storage::env::{Clock, DiskFs, Fs, SystemClock};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use kymo_storage::options::{Durability, Options};
use kymo_storage::{ErrorKind, Result};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn options() -> Options {
    Options {
        retention: None,
        durability: Durability::Os,
        flush_bytes: 64 * 1024,
        wal_segment_bytes: 64 * 1024,
        ..Options::default()
    }
}

fn look(dir: &Path) -> Result<Storage> {
    let (fs, clock): (Arc<dyn Fs>, Arc<dyn Clock>) = (Arc::new(DiskFs), Arc::new(SystemClock::new()));
    Storage::open_read_only(&fs, &clock, dir, &options())
}

fn append(store: &Storage, times: std::ops::Range<i64>) {
    let mut batch = store.batch();
    let series = batch.series_labels(&Labels::from_pairs([("__name__", "m")])).unwrap();
    times.for_each(|t| batch.sample(series, t, (t as f64).sin()));
    assert_eq!(store.append(batch).unwrap().refused_total, 0);
}

/// The times of the samples that are seen, which are `0..n`.
fn seen(store: &Storage) -> i64 {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[Matcher::equal("__name__", "m")]).unwrap();
    assert!(set.warnings().is_empty(), "{:?}", set.warnings());
    let mut samples = Samples::new();
    if set.is_empty() {
        return 0;
    }
    set.read(0, TimeRange::ALL, &mut samples).unwrap();
    let expected: Vec<i64> = (0..samples.timestamps.len() as i64).collect();
    assert_eq!(samples.timestamps, expected);
    expected.len() as i64
}

#[test]
fn a_reader_sees_what_was_committed_before_it_came() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(look(dir.path()).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
    let store = Storage::open(dir.path(), options()).unwrap();
    append(&store, 0..100);
    let first = look(dir.path()).unwrap();
    assert_eq!(seen(&first), 100);
    append(&store, 100..150);
    store.flush().unwrap();
    append(&store, 150..200);
    assert_eq!(seen(&first), 100, "a view stays as it is");
    assert_eq!(seen(&look(dir.path()).unwrap()), 200, "blocks and the log");

    assert!(matches!(first.health(), Health::ReadOnly(_)));
    let mut batch = first.batch();
    let series = batch.series_labels(&Labels::from_pairs([("__name__", "m")])).unwrap();
    batch.sample(series, 1_000, 0.0);
    assert_eq!(first.append(batch).unwrap_err().kind(), ErrorKind::Unavailable);
    let all = [vec![Matcher::equal("__name__", "m")]];
    for refused in [first.flush(), first.sync(), first.maintain(), first.compact()] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert!(first.delete(TimeRange::ALL, &all).is_err());
    first.close().unwrap();
    append(&store, 200..300);
    store.close().unwrap();
    assert_eq!(seen(&look(dir.path()).unwrap()), 300, "of a store that nobody writes, too");
}

#[test]
fn a_writer_that_flushes_and_merges_all_the_time_is_read_whole() {
    const BATCH: i64 = 500;
    let dir = tempfile::tempdir().unwrap();
    let store = Storage::open(dir.path(), options()).unwrap();
    let written = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0..60 {
                append(&store, round * BATCH..(round + 1) * BATCH);
                written.fetch_add(BATCH as u64, Ordering::SeqCst);
                match round % 3 {
                    0 => store.flush().unwrap(),
                    1 => store.compact().unwrap(),
                    _ => {}
                }
            }
        });
        append(&store, 0..0);
        while !writer.is_finished() {
            let before = written.load(Ordering::SeqCst) as i64;
            let found = seen(&look(dir.path()).unwrap());
            assert!(found >= before && found % BATCH == 0, "{found} of {before}");
        }
    });
    assert_eq!(seen(&look(dir.path()).unwrap()), 60 * BATCH);
}

//! Deleting by matchers and time: what is gone, what stays, after restarts, crashes and damage.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::api::{Queryable, Room, Samples};
use kymo_storage::env::{CrashChoice, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs, SimClock};
use kymo_storage::model::{Exemplar, Labels, Matcher, TimeRange};
use kymo_storage::options::Options;
use kymo_storage::{ErrorKind, Storage};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;

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
    Storage::open_with(fs, Arc::new(SimClock::new(NOW)), Path::new("/data"), options()).unwrap()
}

fn open(fs: &MemoryFs) -> Storage {
    open_on(Arc::new(fs.clone()))
}

fn write(store: &Storage, series: &str, time: i64, value: f64) -> u64 {
    let mut batch = store.batch();
    let id = batch.series_labels(&Labels::from_pairs([("__name__", "m"), ("i", series)])).unwrap();
    batch.sample(id, time, value);
    store.append(batch).unwrap().accepted
}

/// All samples by series and time.
fn read(store: &Storage) -> BTreeMap<String, Vec<(i64, f64)>> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    let mut out = BTreeMap::new();
    for index in 0..set.len() {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        let pairs = samples.timestamps.iter().map(|t| t - NOW).zip(samples.values.iter().copied());
        out.insert(set.labels(index).value("i").to_owned(), pairs.collect());
    }
    out
}

fn series(name: &str) -> Vec<Vec<Matcher>> {
    vec![vec![Matcher::equal("i", name)]]
}

fn one(name: &str, samples: &[(i64, f64)]) -> BTreeMap<String, Vec<(i64, f64)>> {
    BTreeMap::from([(name.to_owned(), samples.to_vec())])
}

#[test]
fn samples_in_blocks_and_memory_are_gone_and_new_ones_stay() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    for time in [0, 10, 20] {
        write(&store, "a", NOW + time, 1.0);
        write(&store, "b", NOW + time, 1.0);
    }
    store.flush().unwrap();
    write(&store, "a", NOW + 30, 1.0);
    write(&store, "a", NOW + 40, 1.0);
    write(&store, "a", NOW + 15, 1.5); // late
    let report = store.delete(TimeRange::closed(NOW + 10, NOW + 30), &series("a")).unwrap();
    assert_eq!(report.series, 1);
    let expected = |store: &Storage| {
        assert_eq!(read(store)["a"], [(0, 1.0), (40, 1.0)]);
        assert_eq!(read(store)["b"], [(0, 1.0), (10, 1.0), (20, 1.0)]);
    };
    expected(&store);
    drop(store);
    let store = open(&fs);
    expected(&store);
    assert_eq!(write(&store, "a", NOW + 15, 7.0), 1, "what is written after the delete is new");
    let expected = |store: &Storage| assert_eq!(read(store)["a"], [(0, 1.0), (15, 7.0), (40, 1.0)]);
    expected(&store);
    store.flush().unwrap();
    expected(&store);
    drop(store);
    expected(&open(&fs));
}

#[test]
fn the_newest_sample_may_be_deleted_and_sent_again() {
    for (flush_before, flush_after) in [(false, false), (true, false), (false, true), (true, true)] {
        let fs = MemoryFs::new();
        let store = open(&fs);
        write(&store, "a", NOW - 10, 1.0);
        write(&store, "a", NOW, 1.0);
        if flush_before {
            store.flush().unwrap();
        }
        store.delete(TimeRange::closed(NOW, NOW + 5), &series("a")).unwrap();
        assert_eq!(read(&store), one("a", &[(-10, 1.0)]));
        drop(store);
        let store = open(&fs);
        assert_eq!(read(&store), one("a", &[(-10, 1.0)]));
        assert_eq!(write(&store, "a", NOW, 1.0), 1);
        assert_eq!(read(&store), one("a", &[(-10, 1.0), (0, 1.0)]));
        assert_eq!(write(&store, "a", NOW, 2.0), 0, "the newest sample has a value again");
        if flush_after {
            store.flush().unwrap();
        }
        write(&store, "a", NOW + 10, 3.0);
        drop(store);
        let image = fs.crash_image(fs.log_len(), CrashChoice::Nothing);
        assert_eq!(read(&open(&image)), one("a", &[(-10, 1.0), (0, 1.0), (10, 3.0)]));
    }
}

#[test]
fn series_without_samples_are_not_listed() {
    let store = open(&MemoryFs::new());
    for name in ["a", "b", "c"] {
        write(&store, name, NOW, 1.0);
        write(&store, name, NOW + 100, 1.0);
    }
    store.flush().unwrap();
    store.delete(TimeRange::closed(NOW - 5, NOW + 50), &series("a")).unwrap();
    let names = || {
        let querier = store.querier(TimeRange::ALL).unwrap();
        querier.label_values("i", &[], &mut Room::new(&mut |_| Ok(()))).unwrap().names
    };
    assert_eq!(names(), ["a", "b", "c"]);
    store.delete(TimeRange::closed(NOW + 51, NOW + 100), &series("a")).unwrap();
    assert_eq!(names(), ["b", "c"], "the two deletes together leave nothing");
    let both = [series("b"), series("c")].concat();
    assert_eq!(store.delete(TimeRange::ALL, &both).unwrap().series, 2);
    assert_eq!(names(), [""; 0]);
    let querier = store.querier(TimeRange::ALL).unwrap();
    assert_eq!(querier.label_names(&[], &mut Room::new(&mut |_| Ok(()))).unwrap().names, [""; 0]);
    assert!(querier.select(TimeRange::ALL, &[]).unwrap().is_empty());
    write(&store, "b", NOW + 7, 1.0);
    assert_eq!(names(), ["b"]);
    assert_eq!(store.delete(TimeRange::ALL, &series("nothing")).unwrap().series, 0);
    assert_eq!(store.stats().tombstones, 3, "what matches nothing leaves no trace");
    assert_eq!(store.delete(TimeRange::ALL, &[]).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_view_taken_before_sees_what_was_there() {
    let store = open(&MemoryFs::new());
    write(&store, "a", NOW, 1.0);
    let querier = store.querier(TimeRange::ALL).unwrap();
    store.delete(TimeRange::ALL, &series("a")).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    set.read(0, TimeRange::ALL, &mut samples).unwrap();
    assert_eq!(samples.values, [1.0]);
    assert!(read(&store).is_empty());
}

#[test]
fn every_crash_leaves_all_or_nothing_of_a_delete() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    write(&store, "a", NOW, 1.0);
    write(&store, "b", NOW, 1.0);
    store.flush().unwrap();
    write(&store, "a", NOW + 10, 2.0);
    write(&store, "a", NOW - 10, 3.0);
    let before = fs.log_len();
    store.delete(TimeRange::ALL, &series("a")).unwrap();
    let after = fs.log_len();
    write(&store, "a", NOW + 10, 2.0);
    let written = fs.log_len();
    drop(store);
    let there = vec![(-10, 3.0), (0, 1.0), (10, 2.0)];
    for at in before..=fs.log_len() {
        for choice in [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seed(at as u64)] {
            let found = read(&open(&fs.crash_image(at, choice))).remove("a").unwrap_or_default();
            let is_possible = match found.len() {
                0 => at < written,
                1 => found == [(10, 2.0)] && at > after,
                _ => found == there && at < after,
            };
            assert!(is_possible, "op {at} of {before}..{after}..{written}, {choice:?}: {found:?}");
        }
    }
}

#[test]
fn a_delete_that_fails_deletes_nothing_and_can_be_repeated() {
    let plan = FaultPlan::new();
    let store = open_on(Arc::new(FaultFs::new(MemoryFs::new(), plan.clone())));
    write(&store, "a", NOW, 1.0);
    for path in ["TOMBSTONES", "blocks", "MANIFEST"] {
        plan.add(Fault::on(FaultOp::Sync).path(path));
        write(&store, "a", NOW + 10, 2.0);
        assert!(store.delete(TimeRange::ALL, &series("a")).is_err(), "{path}");
        assert_eq!(read(&store), one("a", &[(0, 1.0), (10, 2.0)]), "{path}");
    }
    plan.clear();
    store.delete(TimeRange::ALL, &series("a")).unwrap();
    assert!(read(&store).is_empty());
    write(&store, "a", NOW + 20, 2.0);
    assert_eq!(read(&store), one("a", &[(20, 2.0)]));
}

/// A closed store with one delete.
fn with_a_delete() -> MemoryFs {
    let fs = MemoryFs::new();
    let store = open(&fs);
    write(&store, "a", NOW, 1.0);
    store.delete(TimeRange::ALL, &series("a")).unwrap();
    store.close().unwrap();
    fs
}

#[test]
fn a_damaged_list_of_deletes_is_put_aside_and_told() {
    let fs = with_a_delete();
    let file = fs.open_write(Path::new("/data/TOMBSTONES")).unwrap();
    file.write_all_at(&[0xff], 30).unwrap();
    let store = open(&fs);
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    assert!(set.warnings().iter().any(|w| w.contains("TOMBSTONES")), "{:?}", set.warnings());
    assert!(fs.open(Path::new("/data/quarantine/TOMBSTONES")).is_ok());
}

#[test]
fn a_list_of_deletes_that_is_gone_is_missed_until_the_next_delete() {
    let fs = with_a_delete();
    fs.remove(Path::new("/data/TOMBSTONES")).unwrap();
    let dyn_fs = Arc::new(fs.clone()) as Arc<dyn Fs>;
    let findings = kymo_storage::verify::verify(&dyn_fs, Path::new("/data")).unwrap().findings;
    assert!(findings.iter().any(|f| f.file.ends_with("TOMBSTONES")), "{findings:?}");
    for start in 0..4 {
        let store = open(&fs);
        let querier = store.querier(TimeRange::ALL).unwrap();
        let warnings = querier.select(TimeRange::ALL, &[]).unwrap().warnings();
        let is_told = warnings.iter().any(|w| w.contains("/data/TOMBSTONES: is gone"));
        assert_eq!(is_told, start < 3, "start {start}: {warnings:?}");
        if start == 2 {
            store.delete(TimeRange::ALL, &series("a")).unwrap();
        }
        store.close().unwrap();
    }
}

fn warnings_of(fs: Arc<dyn Fs>) -> Vec<String> {
    let store = open_on(fs);
    let querier = store.querier(TimeRange::ALL).unwrap();
    querier.select(TimeRange::ALL, &[]).unwrap().warnings()
}

/// Only a start that comes to its end puts the list aside.
#[test]
fn a_start_that_fails_leaves_the_list_of_deletes_where_it_is() {
    let fs = with_a_delete();
    let plan = FaultPlan::new();
    plan.add(Fault::on(FaultOp::Read).path("TOMBSTONES").forever());
    plan.add(Fault::on(FaultOp::Write).errno(Fault::ENOSPC).forever());
    let faulty = Arc::new(FaultFs::new(fs.clone(), plan));
    let clock = Arc::new(SimClock::new(NOW));
    assert!(Storage::open_with(faulty, clock, Path::new("/data"), options()).is_err());
    assert_eq!(warnings_of(Arc::new(fs)), [""; 0]);
}

/// It is told of once, from where it lies; one that is lost later is told of beside it.
#[test]
fn a_damaged_list_of_deletes_is_told_of_from_quarantine() {
    let (fs, list) = (with_a_delete(), Path::new("/data/TOMBSTONES"));
    fs.open_write(list).unwrap().write_all_at(&[0xff; 8], 0).unwrap();
    let plan = FaultPlan::new();
    plan.add(Fault::on(FaultOp::Rename).path("quarantine").forever());
    let told = warnings_of(Arc::new(FaultFs::new(fs.clone(), plan)));
    assert!(told.len() == 1 && told[0].contains("/data/TOMBSTONES"), "{told:?}");
    for _ in 0..2 {
        let told = warnings_of(Arc::new(fs.clone()));
        assert!(told.len() == 1 && told[0].contains("quarantine/TOMBSTONES"), "{told:?}");
        assert!(told[0].contains("deleted may be back"), "{told:?}");
    }
    let store = open(&fs);
    store.delete(TimeRange::ALL, &series("a")).unwrap();
    store.close().unwrap();
    drop(store);
    fs.remove(list).unwrap();
    let told = warnings_of(Arc::new(fs.clone()));
    assert!(told.len() == 2 && told.iter().any(|w| w.contains("/data/TOMBSTONES: is gone")), "{told:?}");
    for path in fs.list(Path::new("/data/quarantine")).unwrap() {
        fs.remove(&path).unwrap();
    }
    let told = warnings_of(Arc::new(fs));
    assert!(told.len() == 1 && told[0].contains("is gone"), "{told:?}");
}

#[test]
fn a_rebuilt_manifest_brings_nothing_back() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    write(&store, "a", NOW, 1.0);
    write(&store, "b", NOW, 1.0);
    store.delete(TimeRange::ALL, &series("a")).unwrap();
    store.close().unwrap();
    drop(store);
    fs.remove(Path::new("/data/MANIFEST")).unwrap();
    let store = open(&fs);
    assert_eq!(read(&store), one("b", &[(0, 1.0)]));
    write(&store, "a", NOW + 1, 2.0);
    store.flush().unwrap();
    assert_eq!(read(&store)["a"], [(1, 2.0)], "new blocks are not hidden by old tombstones");
}

#[test]
fn a_delete_after_a_clean_one_holds_though_nothing_is_in_memory() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    write(&store, "a", NOW, 1.0);
    write(&store, "b", NOW, 2.0);
    store.flush().unwrap();
    store.delete(TimeRange::ALL, &series("a")).unwrap();
    store.clean_tombstones().unwrap();
    assert_eq!(read(&store), one("b", &[(0, 2.0)]));
    store.delete(TimeRange::ALL, &series("b")).unwrap();
    assert_eq!(read(&store), BTreeMap::new());
    drop(store);
    let store = open(&fs);
    assert_eq!(read(&store), BTreeMap::new());
    store.clean_tombstones().unwrap();
    assert_eq!((read(&store), store.stats().tombstones), (BTreeMap::new(), 0));
}

#[test]
fn exemplars_of_a_series_without_samples_are_deleted_and_may_come_again() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "x")]), value: 1.0, timestamp: NOW };
    let send = || {
        let mut batch = store.batch();
        let id = batch.series_labels(&Labels::from_pairs([("__name__", "m"), ("i", "a")])).unwrap();
        batch.exemplar(id, exemplar.clone()).unwrap();
        store.append(batch).unwrap().exemplars_accepted
    };
    let count = || {
        store
            .exemplars(TimeRange::ALL, &series("a"))
            .unwrap()
            .series
            .iter()
            .map(|s| s.exemplars.len())
            .sum::<usize>()
    };
    for is_flushed in [false, true] {
        assert_eq!((send(), count()), (1, 1));
        if is_flushed {
            store.flush().unwrap();
        }
        assert_eq!(store.delete(TimeRange::ALL, &series("a")).unwrap().series, 1);
        assert_eq!(count(), 0);
    }
    assert_eq!((send(), count()), (1, 1), "a deleted one is not known any more");
}

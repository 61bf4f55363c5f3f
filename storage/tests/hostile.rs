//! A store among careless callers: deadlocks, floods, callbacks that let go of it, samples of all ages.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test, and callers come on threads of their own"
)]

use kymo_storage::api::{Queryable, Room, Samples};
use kymo_storage::env::{CrashChoice, DiskFs, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs, SimClock};
use kymo_storage::model::{Labels, Matcher, Metadata, TimeRange};
use kymo_storage::options::{Options, RetentionRule};
use kymo_storage::{ErrorKind, Storage};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;
const DAY: i64 = 86_400_000;
const PATIENCE: Duration = Duration::from_secs(60);

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

fn open_with(fs: Arc<dyn Fs>, options: Options) -> Storage {
    Storage::open_with(fs, Arc::new(SimClock::new(NOW)), Path::new("/data"), options).unwrap()
}

fn open(fs: &MemoryFs) -> Storage {
    open_with(Arc::new(fs.clone()), options())
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn put(store: &Storage, time: i64, value: f64) {
    let mut batch = store.batch();
    let series = batch.series_labels(&labels(0)).unwrap();
    batch.sample(series, time, value);
    assert_eq!(store.append(batch).unwrap().refused, []);
}

fn times(store: &Storage) -> Vec<i64> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    set.read(0, TimeRange::ALL, &mut samples).unwrap();
    samples.timestamps
}

fn warnings(store: &Storage, range: TimeRange) -> Vec<String> {
    let querier = store.querier(range).unwrap();
    let names = querier.label_names(&[], &mut Room::new(&mut |_| Ok(()))).unwrap().warnings;
    assert_eq!(names, querier.label_values("i", &[], &mut Room::new(&mut |_| Ok(()))).unwrap().warnings);
    let set = querier.select(range, &[]).unwrap();
    assert_eq!(names, set.warnings());
    names
}

/// Runs `body` on a thread of its own and fails if it takes too long.
fn in_time(body: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        body();
        sender.send(()).unwrap();
    });
    let ended = receiver.recv_timeout(PATIENCE);
    assert!(ended != Err(std::sync::mpsc::RecvTimeoutError::Timeout), "deadlock");
    thread.join().unwrap();
}

#[test]
fn numbers_are_told_while_series_are_created() {
    in_time(|| {
        let store = open(&MemoryFs::unrecorded());
        let is_done = Arc::new(AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_done.load(Ordering::Acquire) {
                        store.stats();
                    }
                });
            }
            let mut batch = store.batch();
            for i in 0..30_000 {
                batch.series_labels(&labels(i)).unwrap();
            }
            is_done.store(true, Ordering::Release);
        });
    });
}

#[test]
fn a_callback_may_let_go_of_the_store() {
    in_time(|| {
        let fs = MemoryFs::new();
        let store = open(&fs);
        let mut batch = store.batch();
        let series = batch.series_labels(&labels(0)).unwrap();
        batch.sample(series, NOW, 1.0);
        let (sender, receiver) = channel();
        let (go, wait) = channel::<()>();
        let kept = store.clone();
        store.submit(
            batch,
            Box::new(move |result| {
                wait.recv().unwrap();
                drop(kept);
                sender.send(result.is_ok()).unwrap();
            }),
        );
        drop(store);
        go.send(()).unwrap();
        assert!(receiver.recv().unwrap());
        // The threads end by themselves and give the directory back.
        let mut again = None;
        for _ in 0..500 {
            let clock = Arc::new(SimClock::new(NOW));
            again = Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), options()).ok();
            if again.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(times(&again.unwrap()), [NOW]);
    });
}

#[test]
fn flushes_of_many_callers_all_succeed() {
    in_time(|| {
        let fs = MemoryFs::unrecorded();
        let store = open(&fs);
        std::thread::scope(|scope| {
            for thread in 0..6i64 {
                let store = store.clone();
                scope.spawn(move || {
                    for step in 0..15 {
                        let mut batch = store.batch();
                        let series = batch.series_labels(&labels(thread as usize)).unwrap();
                        batch.sample(series, NOW + step, 1.0);
                        store.append(batch).unwrap();
                        store.flush().unwrap();
                    }
                });
            }
        });
        assert_eq!(store.stats().head_samples, 0);
    });
}

#[test]
fn every_batch_is_answered_when_the_store_closes() {
    in_time(|| {
        let store = open(&MemoryFs::unrecorded());
        let answered = Arc::new(AtomicUsize::new(0));
        let submitted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4i64 {
                let (store, answered, submitted) = (store.clone(), Arc::clone(&answered), &submitted);
                scope.spawn(move || {
                    for step in 0..3000 {
                        let mut batch = store.batch();
                        let series = batch.series_labels(&labels(thread as usize)).unwrap();
                        batch.sample(series, NOW + step, 1.0);
                        submitted.fetch_add(1, Ordering::Relaxed);
                        let answered = Arc::clone(&answered);
                        let done = Box::new(move |_| {
                            answered.fetch_add(1, Ordering::Relaxed);
                        });
                        store.submit(batch, done);
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(20));
            store.close().unwrap();
        });
        assert_eq!(answered.load(Ordering::Relaxed), submitted.load(Ordering::Relaxed));
    });
}

#[test]
fn gaps_of_decades_cost_nothing_and_files_stay_few() {
    let fs = MemoryFs::unrecorded();
    let store = open(&fs);
    put(&store, NOW, 1.0);
    put(&store, 0, 1.0);
    put(&store, i64::MIN + 1, 1.0);
    put(&store, -3, 1.0);
    store.flush().unwrap();
    assert!(store.stats().blocks <= 4);
    assert_eq!(times(&store), [i64::MIN + 1, -3, 0, NOW]);
    // One sample in each of three thousand months.
    let mut batch = store.batch();
    let series = batch.series_labels(&labels(0)).unwrap();
    for month in 1..=3000 {
        batch.sample(series, NOW - month * 31 * DAY, 1.0);
    }
    assert_eq!(store.append(batch).unwrap().accepted, 3000);
    store.flush().unwrap();
    assert!(store.stats().blocks < 150, "{} blocks", store.stats().blocks);
    assert_eq!(times(&store).len(), 3004);
    drop(store);
    assert_eq!(times(&open(&fs)).len(), 3004);
}

#[test]
fn a_log_without_samples_is_released_too() {
    let fs = MemoryFs::unrecorded();
    let small = Options { flush_wal_bytes: 64 << 10, ..options() };
    let store = open_with(Arc::new(fs.clone()), small.clone());
    for round in 0..3000 {
        let mut batch = store.batch();
        let help = format!("round {round} of many: {}", "x".repeat(100));
        batch.metadata("m", Metadata { help, ..Metadata::default() });
        if round % 10 == 0 {
            let series = batch.series_labels(&labels(round)).unwrap();
            batch.sample(series, NOW + DAY, 1.0);
        }
        store.append(batch).unwrap();
    }
    store.flush().unwrap();
    assert!(store.stats().wal_bytes < 200 << 10, "{} bytes", store.stats().wal_bytes);
    let said = store.metadata();
    drop(store);
    let store = open_with(Arc::new(fs), small);
    assert_eq!((store.metadata(), store.stats().series), (said, 300));
}

#[test]
fn a_damaged_block_is_named_on_every_answer_it_could_have_touched() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    put(&store, NOW - 5 * DAY, 1.0);
    store.flush().unwrap();
    put(&store, NOW, 1.0);
    store.flush().unwrap();
    assert_eq!(warnings(&store, TimeRange::ALL), [""; 0]);
    drop(store);
    let block = fs.list(Path::new("/data/blocks")).unwrap().remove(0);
    let file = fs.open_write(&block).unwrap();
    file.write_all_at(&[0xff; 8], file.len().unwrap() - 16).unwrap();
    for _ in 0..3 {
        let store = open(&fs);
        let said = warnings(&store, TimeRange::ALL);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("quarantine") && said[0].contains(".block"), "{said:?}");
        assert_eq!(warnings(&store, TimeRange::closed(NOW, NOW)), [""; 0], "it had nothing of that time");
        assert_eq!(times(&store), [NOW]);
    }
    for path in fs.list(Path::new("/data/quarantine")).unwrap() {
        fs.remove(&path).unwrap();
    }
    assert_eq!(warnings(&open(&fs), TimeRange::ALL), [""; 0], "whoever takes it away has seen it");
}

#[test]
fn a_damaged_block_that_cannot_be_put_aside_is_not_deleted() {
    let memory = MemoryFs::new();
    let store = open(&memory);
    put(&store, NOW, 1.0);
    store.flush().unwrap();
    drop(store);
    let block = memory.list(Path::new("/data/blocks")).unwrap().remove(0);
    let file = memory.open_write(&block).unwrap();
    file.write_all_at(&[0xff; 8], file.len().unwrap() - 16).unwrap();
    for manifest in [true, false] {
        if !manifest {
            memory.remove(Path::new("/data/MANIFEST")).unwrap();
        }
        let plan = FaultPlan::new();
        plan.add(Fault::on(FaultOp::Rename).path("quarantine").errno(Fault::ENOSPC).forever());
        let store = open_with(Arc::new(FaultFs::new(memory.clone(), plan.clone())), options());
        assert_eq!(warnings(&store, TimeRange::ALL).len(), 1);
        drop(store);
        assert!(memory.open(&block).is_ok(), "with a manifest: {manifest}");
    }
    drop(open(&memory));
    assert!(memory.open(&Path::new("/data/quarantine").join(block.file_name().unwrap())).is_ok());
}

#[test]
fn texts_without_end_are_cut_and_harm_nobody() {
    let store = open(&MemoryFs::unrecorded());
    put(&store, NOW, 0.0);
    let (hold, held) = channel::<()>();
    store.submit(store.batch(), Box::new(move |_| held.recv().unwrap()));
    let (sender, receiver) = channel();
    let mut huge = store.batch();
    let help = "\u{e4}".repeat(1 << 14);
    for i in 0..500 {
        huge.metadata(&format!("m{i}"), Metadata { help: help.clone(), ..Metadata::default() });
    }
    huge.metadata(&help, Metadata::default());
    let first = sender.clone();
    store.submit(huge, Box::new(move |result| first.send(result.is_ok()).unwrap()));
    let mut batch = store.batch();
    let series = batch.series_labels(&labels(0)).unwrap();
    batch.sample(series, NOW + 1, 1.0);
    store.submit(batch, Box::new(move |result| sender.send(result.is_ok()).unwrap()));
    assert!(store.stats().samples_queued > 50_000, "texts in the queue count");
    hold.send(()).unwrap();
    assert!(receiver.recv().unwrap() && receiver.recv().unwrap());
    let said = store.metadata();
    assert_eq!((said.len(), said[0].1.help.len()), (500, 4096));
    assert_eq!(times(&store), [NOW, NOW + 1]);
}

#[test]
fn a_full_disk_at_any_call_is_left_behind_without_a_restart() {
    for op in [FaultOp::Write, FaultOp::Create, FaultOp::Sync, FaultOp::Rename, FaultOp::SyncDir] {
        for part in ["blocks", "head", "MANIFEST", "wal"] {
            if op == FaultOp::Sync && part == "wal" {
                continue; // poisons, as promised
            }
            let memory = MemoryFs::new();
            let plan = FaultPlan::new();
            let store = open_with(Arc::new(FaultFs::new(memory.clone(), plan.clone())), options());
            let mut stored = vec![NOW];
            put(&store, NOW, 1.0);
            plan.add(Fault::on(op).path(part).errno(Fault::ENOSPC).forever());
            for step in 1..200 {
                let mut batch = store.batch();
                let series = batch.series_labels(&labels(0)).unwrap();
                batch.sample(series, NOW + step, 0.1 * step as f64);
                match store.append(batch) {
                    Ok(_) => stored.push(NOW + step),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
                }
                if step % 50 == 0 {
                    let _ = store.flush();
                }
            }
            assert_eq!(times(&store), stored);
            plan.clear();
            store.maintain().unwrap();
            put(&store, NOW + 1000, 1.0);
            stored.push(NOW + 1000);
            store.flush().unwrap();
            assert_eq!(times(&store), stored);
            let folder = |name: &str| memory.list(&Path::new("/data").join(name)).unwrap();
            let is_temporary = |p: &std::path::PathBuf| p.extension().is_some_and(|e| e == "tmp");
            assert_eq!(folder("blocks").iter().filter(|p| is_temporary(p)).count(), 0);
            let image = memory.crash_image(memory.log_len(), CrashChoice::Nothing);
            assert_eq!(times(&open(&image)), stored, "{op:?} {part}");
        }
    }
}

#[test]
fn a_flush_that_is_tried_again_writes_the_same_blocks() {
    let long = || RetentionRule {
        matchers: vec![Matcher::equal("__name__", "m")],
        keep: Duration::from_secs(30 * 86_400),
    };
    let options = Options {
        retention: Some(Duration::from_secs(10 * 86_400)),
        retention_rules: vec![long()],
        ..options()
    };
    let (memory, plan) = (MemoryFs::new(), FaultPlan::new());
    let store = open_with(Arc::new(FaultFs::new(memory.clone(), plan.clone())), options.clone());
    let days: Vec<i64> = (-12..=0).map(|day| NOW + day * DAY).collect();
    days.iter().for_each(|time| put(&store, *time, 1.0));
    // The first attempt leaves out what is too old, and fails after its blocks and its checkpoint are there.
    store.set_retention_rules(Vec::new()).unwrap();
    plan.add(Fault::on(FaultOp::Rename).path("MANIFEST").errno(Fault::ENOSPC).forever());
    assert!(store.flush().is_err());
    // Then those samples are to be kept after all, and the second attempt is cut off among its blocks.
    store.set_retention_rules(vec![long()]).unwrap();
    plan.add(Fault::on(FaultOp::Create).path("blocks").after(2).forever());
    assert!(store.flush().is_err());
    drop(store);
    let store = open_with(Arc::new(memory), options);
    let kept: Vec<i64> = days.into_iter().filter(|time| *time >= NOW - 10 * DAY).collect();
    assert!(times(&store).ends_with(&kept), "{:?}", times(&store));
}

#[test]
fn a_manifest_larger_than_any_is_damage_and_costs_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Fs> = Arc::new(DiskFs);
    let open =
        || Storage::open_with(disk.clone(), Arc::new(SimClock::new(NOW)), dir.path(), options()).unwrap();
    let store = open();
    put(&store, NOW, 1.0);
    store.flush().unwrap();
    drop(store);
    let manifest = dir.path().join("MANIFEST");
    // All of it but the beginning is a hole: were it read whole, there would be no memory for it.
    std::fs::OpenOptions::new().write(true).open(&manifest).unwrap().set_len(1 << 40).unwrap();
    let store = open();
    assert_eq!(times(&store), [NOW]);
    assert!(std::fs::metadata(&manifest).unwrap().len() < 1 << 20, "a new one is written");
    let aside = std::fs::read_dir(dir.path().join("quarantine")).unwrap().count();
    assert!(aside >= 1, "the large one is kept");
}

//! A bug in a thread of a store is counted or refuses writes; it never stops the thread's work silently.

#![allow(clippy::unwrap_used, reason = "functions beside the tests unwrap as those do")]

use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::db::Health;
use kymo_storage::env::{Fault, FaultFs, FaultOp, FaultPlan, MemoryFs, SimClock};
use kymo_storage::model::{Labels, TimeRange};
use kymo_storage::options::Options;
use kymo_storage::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;

const NOW: i64 = 1_700_000_000_000;

fn open(fs: &MemoryFs, plan: &FaultPlan) -> Storage {
    let options = Options { free_space_min: Some(0), wal_segment_bytes: 1 << 16, ..Options::default() };
    let fs = Arc::new(FaultFs::new(fs.clone(), plan.clone()));
    Storage::open_with(fs, Arc::new(SimClock::new(NOW)), Path::new("/data"), options).unwrap()
}

fn write(store: &Storage, time: i64) -> Result<(), Error> {
    let mut batch = store.batch();
    let series = batch.series(Labels::from_pairs([("__name__", "m")]).as_bytes()).unwrap();
    batch.sample(series, NOW + time, time as f64);
    store.append(batch).map(|report| assert_eq!(report.accepted, 1))
}

fn read(store: &Storage) -> Vec<i64> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    if set.is_empty() {
        return Vec::new();
    }
    set.read(0, TimeRange::ALL, &mut samples).unwrap();
    samples.timestamps.iter().map(|time| time - NOW).collect()
}

#[test]
fn a_bug_while_committing_refuses_writes_and_reads_go_on() {
    let (fs, plan) = (MemoryFs::new(), FaultPlan::new());
    let store = open(&fs, &plan);
    write(&store, 1).unwrap();
    plan.add(Fault::on(FaultOp::Write).path("wal").panic());
    assert_eq!(write(&store, 2).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(plan.hits(), 1);
    // The thread ends after it has answered.
    while store.health() == Health::Ok {
        std::thread::yield_now();
    }
    assert!(matches!(store.health(), Health::Poisoned(why) if why.contains("commit thread")));
    assert_eq!(write(&store, 3).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(read(&store), [1]);
    drop(store);
    let store = open(&fs, &plan);
    assert_eq!((store.health(), read(&store)), (Health::Ok, vec![1]));
    write(&store, 4).unwrap();
    assert_eq!(read(&store), [1, 4]);
}

#[test]
fn a_bug_while_flushing_is_counted_and_the_next_flush_is_done() {
    let (fs, plan) = (MemoryFs::new(), FaultPlan::new());
    let store = open(&fs, &plan);
    write(&store, 1).unwrap();
    plan.add(Fault::on(FaultOp::Create).path("blocks").panic());
    assert_eq!(store.flush().unwrap_err().kind(), ErrorKind::Internal);
    // It is counted behind the answer.
    while store.stats().flush_failures == 0 {
        std::thread::yield_now();
    }
    assert_eq!((plan.hits(), store.stats().flush_failures), (1, 1));
    write(&store, 2).unwrap();
    assert_eq!(read(&store), [1, 2]);
    store.flush().unwrap();
    assert_eq!((read(&store), store.stats().head_samples), (vec![1, 2], 0));
    store.maintain().unwrap();
    store.close().unwrap();
    assert_eq!(read(&open(&fs, &plan)), [1, 2]);
}

#[test]
fn a_bug_while_merging_is_counted_and_the_next_merge_is_done() {
    let (fs, plan) = (MemoryFs::new(), FaultPlan::new());
    let store = open(&fs, &plan);
    for time in 1..4 {
        write(&store, time).unwrap();
        store.flush().unwrap();
    }
    let blocks = store.stats().blocks;
    assert!(blocks > 1);
    plan.add(Fault::on(FaultOp::Create).path("blocks").panic());
    assert_eq!(store.compact_all().unwrap_err().kind(), ErrorKind::Internal);
    // It is counted behind the answer.
    while store.stats().compaction_failures == 0 {
        std::thread::yield_now();
    }
    assert_eq!((plan.hits(), store.stats().compaction_failures, store.stats().blocks), (1, 1, blocks));
    store.compact_all().unwrap();
    assert_eq!((read(&store), store.stats().blocks), (vec![1, 2, 3], 1));
    store.close().unwrap();
    assert_eq!(read(&open(&fs, &plan)), [1, 2, 3]);
}

//! What a store is after power cuts, failing disks, damaged files and jumping clocks.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed expectation is a failed test")]

use kymo_storage::api::{Queryable, Samples};
use kymo_storage::db::{CommitReport, Health};
use kymo_storage::env::{
    Clock, CrashChoice, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs, SimClock, Space,
};
use kymo_storage::model::{Labels, Matcher, TimeRange};
use kymo_storage::options::{Options, RetentionRule};
use kymo_storage::{ErrorKind, Storage};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;
const HOUR: i64 = 3_600_000;
const SERIES: usize = 5;

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

fn open_at(fs: Arc<dyn Fs>, clock: Arc<dyn Clock>, options: Options) -> Storage {
    Storage::open_with(fs, clock, Path::new("/data"), options).unwrap()
}

fn open(fs: &MemoryFs) -> Storage {
    open_at(Arc::new(fs.clone()), Arc::new(SimClock::new(NOW)), options())
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

/// One sample of each series at `time`.
fn write(store: &Storage, time: i64, value: f64) -> kymo_storage::Result<CommitReport> {
    let mut batch = store.batch();
    for i in 0..SERIES {
        let series = batch.series_labels(&labels(i)).unwrap();
        batch.sample(series, time, value);
    }
    store.append(batch)
}

/// For each time, the value and how many series have it.
fn read(store: &Storage) -> BTreeMap<i64, (f64, usize)> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    let mut out = BTreeMap::new();
    for index in 0..set.len() {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        for (time, value) in samples.timestamps.iter().zip(&samples.values) {
            let entry = out.entry(*time).or_insert((*value, 0));
            assert_eq!(entry.0, *value);
            entry.1 += 1;
        }
    }
    out
}

/// A history of writes, some of which go back in time, and of flushes.
#[derive(Debug)]
struct History {
    /// The distance from [`NOW`] of each write, in milliseconds; all different.
    times: Vec<i64>,
    /// The writes after which the store is flushed.
    flushes: Vec<usize>,
    /// For the choices of what survives.
    seed: u64,
}

/// The history that every run begins with.
fn fixed_history() -> History {
    let times = (0..24).map(|step| if step % 3 == 2 { -step * 1000 } else { step * 1000 }).collect();
    History { times, flushes: vec![9, 15], seed: 0 }
}

fn any_history() -> impl Strategy<Value = History> {
    let writes = prop::collection::vec(prop::bool::weighted(0.3), 4..28);
    (writes, prop::collection::vec(0usize..28, 0..4), any::<u64>()).prop_map(|(writes, flushes, seed)| {
        let times = (1..).zip(&writes).map(|(step, late)| if *late { step * -1000 } else { step * 1000 });
        History { times: times.collect(), flushes, seed }
    })
}

/// Lives through the history, then crashes after every operation of the disk; gives the number of crashes.
fn crash_everywhere(history: &History) -> u64 {
    let fs = MemoryFs::new();
    let store = open(&fs);
    // After so many operations of the disk, so many writes are acknowledged.
    let mut acknowledged = vec![(fs.log_len(), 0)];
    for (step, time) in history.times.iter().enumerate() {
        write(&store, NOW + time, step as f64).unwrap();
        acknowledged.push((fs.log_len(), step + 1));
        if history.flushes.contains(&step) {
            store.flush().unwrap();
        }
    }
    store.close().unwrap();
    let mut crashes = 0;
    for at in 0..=fs.log_len() {
        let sure = acknowledged.iter().filter(|a| a.0 <= at).map(|a| a.1).max().unwrap_or(0);
        let any = CrashChoice::Seed(history.seed ^ at as u64);
        let choices = [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::LastTorn, any];
        for choice in choices.into_iter().chain((0..fs.unsynced(at)).map(CrashChoice::AllBut)) {
            crashes += 1;
            let image = fs.crash_image(at, choice);
            let found = read(&open(&image));
            for (time, (value, series)) in &found {
                assert_eq!(*series, SERIES, "a batch is there as a whole: op {at} {choice:?} time {time}");
                assert_eq!(*time, NOW + history.times[*value as usize]);
            }
            for (step, time) in history.times.iter().enumerate().take(sure) {
                assert!(found.contains_key(&(NOW + time)), "step {step} is lost: op {at} {choice:?}");
            }
        }
    }
    crashes
}

/// `KYMO_CRASH_HISTORIES` sets how many histories are tried, `PROPTEST_RNG_SEED` which.
#[test]
fn every_crash_keeps_what_was_acknowledged_and_invents_nothing() {
    let set = std::env::var("KYMO_CRASH_HISTORIES").ok();
    let histories = set.and_then(|text| text.parse().ok()).unwrap_or(36_u64);
    let mut runner = TestRunner::new(ProptestConfig::default());
    let mut crashes = crash_everywhere(&fixed_history());
    for _ in 1..histories {
        let history = any_history().new_tree(&mut runner).unwrap().current();
        crashes += crash_everywhere(&history);
    }
    println!("states histories={histories} states={crashes} violations=0");
    assert!(crashes >= 250 * histories, "histories are too short to show anything");
}

#[test]
fn a_failed_sync_stops_writes_but_not_reads() {
    let memory = MemoryFs::new();
    let plan = FaultPlan::new();
    let fs = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
    let store = open_at(fs, Arc::new(SimClock::new(NOW)), options());
    write(&store, NOW, 1.0).unwrap();
    plan.add(Fault::on(FaultOp::Sync).path("wal"));
    assert!(write(&store, NOW + 1, 2.0).is_err());
    assert!(matches!(store.health(), Health::Poisoned(_)));
    plan.clear();
    assert_eq!(write(&store, NOW + 2, 3.0).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(read(&store).keys().copied().collect::<Vec<_>>(), [NOW]);
    let image = memory.crash_image(memory.log_len(), CrashChoice::Nothing);
    let again = open(&image);
    assert_eq!(again.health(), Health::Ok);
    assert!(read(&again).contains_key(&NOW));
    write(&again, NOW + 2, 3.0).unwrap();
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let memory = MemoryFs::new();
    let plan = FaultPlan::new();
    let fs = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
    let store = open_at(fs, Arc::new(SimClock::new(NOW)), options());
    write(&store, NOW, 1.0).unwrap();
    plan.add(Fault::on(FaultOp::Write).path("wal").short_write(10, 28));
    assert_eq!(write(&store, NOW + 1, 2.0).unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(matches!(store.health(), Health::ReadOnly(_)));
    assert_eq!(read(&store).len(), 1);
    store.maintain().unwrap();
    assert_eq!(store.health(), Health::Ok);
    write(&store, NOW + 1, 3.0).unwrap();
    let expected = BTreeMap::from([(NOW, (1.0, SERIES)), (NOW + 1, (3.0, SERIES))]);
    assert_eq!(read(&store), expected);
    let image = memory.crash_image(memory.log_len(), CrashChoice::Nothing);
    assert_eq!(read(&open(&image)), expected);
}

#[test]
fn little_room_makes_the_store_read_only_but_it_still_flushes() {
    let fs = MemoryFs::new();
    let limits = Options { free_space_min: Some(1000), ..options() };
    let store = open_at(Arc::new(fs.clone()), Arc::new(SimClock::new(NOW)), limits);
    write(&store, NOW, 1.0).unwrap();
    fs.set_space(Space { free_bytes: 999, total_bytes: 1 << 30 });
    store.maintain().unwrap();
    assert_eq!(write(&store, NOW + 1, 1.0).unwrap_err().kind(), ErrorKind::Unavailable);
    store.flush().unwrap();
    assert_eq!(store.stats().blocks, 1);
    fs.set_space(Space { free_bytes: 1000, total_bytes: 1 << 30 });
    store.maintain().unwrap();
    write(&store, NOW + 1, 1.0).unwrap();
    assert_eq!(read(&store).len(), 2);
}

#[test]
fn a_failed_flush_loses_nothing_and_is_tried_again() {
    let memory = MemoryFs::new();
    let plan = FaultPlan::new();
    let fs = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
    let store = open_at(fs, Arc::new(SimClock::new(NOW)), options());
    for step in 0..5 {
        write(&store, NOW + step, step as f64).unwrap();
    }
    for path in ["blocks", "head", "MANIFEST"] {
        plan.add(Fault::on(FaultOp::Sync).path(path).forever());
        assert!(store.flush().is_err(), "{path}");
        write(&store, NOW + 10, 10.0).unwrap();
        assert_eq!(read(&store).len(), 6);
        plan.clear();
    }
    store.flush().unwrap();
    assert_eq!((store.stats().head_samples, read(&store).len()), (0, 6));
    let image = memory.crash_image(memory.log_len(), CrashChoice::Nothing);
    assert_eq!(read(&open(&image)).len(), 6);
}

/// A flush that wrote blocks and checkpoint and got no further; at the next start one of the blocks cannot be opened just then.
#[test]
fn blocks_of_a_failed_flush_are_not_removed_because_they_cannot_be_opened_for_now() {
    let endless = Options { retention: None, ..options() };
    let memory = MemoryFs::new();
    let plan = FaultPlan::new();
    let fs = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
    let clock = Arc::new(SimClock::new(NOW));
    let store = open_at(fs, Arc::<SimClock>::clone(&clock), endless.clone());
    for day in 0..4 {
        write(&store, NOW - day * 24 * HOUR, day as f64).unwrap();
    }
    plan.add(Fault::on(FaultOp::SyncDir).path("head").forever());
    assert!(store.flush().is_err());
    let contents = read(&store);
    let (mut refused, mut hits) = (0, 0);
    for call in 0..24 {
        for errno in [Fault::EROFS, Fault::EIO] {
            let image = memory.crash_image(memory.log_len(), CrashChoice::Everything);
            let plan = FaultPlan::new();
            plan.add(Fault::on(FaultOp::Map).path(".block").errno(errno).after(call));
            let fs = Arc::new(FaultFs::new(image.clone(), plan.clone()));
            let met =
                Storage::open_with(fs, Arc::<SimClock>::clone(&clock), Path::new("/data"), endless.clone());
            refused += u64::from(met.is_err());
            hits += plan.hits();
            drop(met);
            let again = open_at(Arc::new(image), Arc::<SimClock>::clone(&clock), endless.clone());
            assert_eq!(read(&again), contents, "{errno} at {call}");
        }
    }
    assert!(refused > 0 && hits >= 8, "{refused} {hits}");

    // The name of the checkpoint may not be durable. It is before a start relies on it: the log that follows names no series.
    drop(store);
    let store = open_at(Arc::new(memory.clone()), Arc::<SimClock>::clone(&clock), endless.clone());
    write(&store, NOW + 1, 9.0).unwrap();
    let contents = read(&store);
    let image = memory.crash_image(memory.log_len(), CrashChoice::Nothing);
    let again = open_at(Arc::new(image), clock, endless);
    assert_eq!((read(&again), warnings(&again)), (contents, Vec::new()));
}

#[test]
fn readers_see_whole_batches() {
    let store = open(&MemoryFs::new());
    let is_done = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut views = 0;
            while !is_done.load(Ordering::Acquire) || views == 0 {
                for (time, (_, series)) in read(&store) {
                    assert_eq!(series, SERIES, "time {time}");
                }
                views += 1;
            }
        });
        for step in 0..300 {
            write(&store, NOW + step, step as f64).unwrap();
            if step % 100 == 50 {
                store.flush().unwrap();
            }
        }
        is_done.store(true, Ordering::Release);
        reader.join().unwrap();
    });
    assert_eq!(read(&store).len(), 300);
}

#[test]
fn retention_drops_blocks_and_hides_what_is_too_old() {
    let fs = MemoryFs::new();
    let clock = SimClock::new(NOW);
    let store = open_at(Arc::new(fs.clone()), Arc::new(clock.clone()), options());
    for hour in 0..20 {
        write(&store, NOW - hour * HOUR, hour as f64).unwrap();
    }
    store.flush().unwrap();
    clock.advance(Duration::from_secs(10 * 3600));
    write(&store, NOW + 10 * HOUR, 1.0).unwrap();
    assert_eq!(read(&store).keys().next(), Some(&(NOW - 14 * HOUR)));
    clock.advance(Duration::from_secs(20 * 3600));
    write(&store, NOW + 30 * HOUR, 1.0).unwrap();
    store.maintain().unwrap();
    assert_eq!((store.stats().blocks, store.stats().blocks_dropped), (0, 1));
    assert_eq!(read(&store).len(), 2);
    assert_eq!(fs.list(Path::new("/data/blocks")).unwrap().len(), 0);
    drop(store);
    let again = open_at(Arc::new(fs), Arc::new(clock), options());
    assert_eq!(read(&again).len(), 2);
}

#[test]
fn a_clock_that_jumps_deletes_nothing() {
    let clock = SimClock::new(NOW);
    let store = open_at(Arc::new(MemoryFs::new()), Arc::new(clock.clone()), options());
    write(&store, NOW, 1.0).unwrap();
    store.flush().unwrap();
    write(&store, NOW + 1, 1.0).unwrap();
    for jump in [10 * 365 * 24 * HOUR, -HOUR, -10 * 365 * 24 * HOUR] {
        clock.set_wall_ms(NOW + jump);
        store.maintain().unwrap();
        assert_eq!((store.stats().blocks, read(&store).len()), (1, 2), "{jump}");
    }
}

#[test]
fn samples_that_carry_the_time_of_a_clock_that_jumped_delete_nothing() {
    let clock = SimClock::new(NOW);
    let store = open_at(Arc::new(MemoryFs::new()), Arc::new(clock.clone()), options());
    write(&store, NOW, 1.0).unwrap();
    store.flush().unwrap();
    clock.set_wall_ms(NOW + 10 * 365 * 24 * HOUR);
    write(&store, NOW + 10 * 365 * 24 * HOUR, 1.0).unwrap();
    store.maintain().unwrap();
    assert_eq!((store.stats().blocks, read(&store).len()), (1, 2));
    clock.set_wall_ms(NOW + HOUR);
    store.maintain().unwrap();
    assert_eq!(read(&store).len(), 2);
}

#[test]
fn some_series_are_kept_for_a_shorter_time() {
    let rule = |i: &str, hours: u64| RetentionRule {
        matchers: vec![Matcher::equal("i", i)],
        keep: Duration::from_secs(hours * 3600),
    };
    let flush_age = Duration::from_secs(1000 * 3600);
    let rules = Options { retention_rules: vec![rule("1", 2), rule("2", 10)], flush_age, ..options() };
    let (fs, clock) = (MemoryFs::new(), SimClock::new(NOW));
    let store = open_at(Arc::new(fs), Arc::new(clock.clone()), rules);
    for hour in 0..5 {
        write(&store, NOW - hour * HOUR, 1.0).unwrap();
    }
    let count = |store: &Storage, i: usize| {
        let querier = store.querier(TimeRange::ALL).unwrap();
        let matcher = Matcher::equal("i", &i.to_string());
        let set = querier.select(TimeRange::ALL, &[matcher]).unwrap();
        let mut samples = Samples::new();
        (0..set.len())
            .map(|at| set.read(at, TimeRange::ALL, &mut samples).map_or(0, |()| samples.values.len()))
            .sum::<usize>()
    };
    assert_eq!([count(&store, 0), count(&store, 1), count(&store, 2)], [5, 3, 5]);
    store.flush().unwrap();
    assert_eq!([count(&store, 0), count(&store, 1), count(&store, 2)], [5, 3, 5]);
    let jumped = NOW + 1000 * HOUR;
    clock.set_wall_ms(jumped);
    assert_eq!(count(&store, 1), 3, "a jump of the clock hides nothing");
    clock.set_wall_ms(NOW);
    clock.advance(Duration::from_secs(3 * 3600));
    write(&store, NOW + 3 * HOUR, 1.0).unwrap();
    assert_eq!([count(&store, 0), count(&store, 1), count(&store, 2)], [6, 1, 6]);
    store.compact().unwrap();
    assert_eq!(store.stats().block_samples, 4 * 5, "the block is rewritten without the series");
    store.compact().unwrap();
    assert_eq!(store.stats().compactions, 1);
}

#[test]
fn rules_of_retention_change_while_the_store_is_open() {
    let rule = |hours: u64| RetentionRule {
        matchers: vec![Matcher::equal("i", "1")],
        keep: Duration::from_secs(hours * 3600),
    };
    let store = open_at(Arc::new(MemoryFs::new()), Arc::new(SimClock::new(NOW)), options());
    write(&store, NOW - 3 * HOUR, 1.0).unwrap();
    // The clock is believed only as far as samples confirm it.
    write(&store, NOW, 2.0).unwrap();
    store.flush().unwrap();
    let count = || read(&store).values().map(|found| found.1).sum::<usize>();
    assert_eq!(count(), 2 * SERIES);
    store.set_retention_rules(vec![rule(2)]).unwrap();
    assert_eq!(count(), 2 * SERIES - 1);
    let refused = store.set_retention_rules(vec![rule(4), rule(0)]).unwrap_err();
    assert!(refused.to_string().contains("the least is 1s"), "{refused}");
    assert_eq!(count(), 2 * SERIES - 1, "a bad rule changes nothing");
    store.set_retention_rules(vec![rule(4)]).unwrap();
    assert_eq!(count(), 2 * SERIES);
}

#[test]
fn some_series_are_kept_longer_than_the_others() {
    let rule =
        RetentionRule { matchers: vec![Matcher::equal("i", "1")], keep: Duration::from_secs(100 * 3600) };
    // The head is flushed when the test says so: its age would be reached at a moment of the background's choosing.
    let flush_age = Duration::from_secs(1000 * 3600);
    let longer = Options { retention_rules: vec![rule], flush_age, ..options() };
    let (fs, clock) = (MemoryFs::new(), SimClock::new(NOW));
    let store = open_at(Arc::new(fs), Arc::new(clock.clone()), longer);
    write(&store, NOW, 1.0).unwrap();
    store.flush().unwrap();
    clock.advance(Duration::from_secs(50 * 3600));
    write(&store, NOW + 50 * HOUR, 1.0).unwrap();
    store.maintain().unwrap();
    let found: Vec<usize> = read(&store).values().map(|found| found.1).collect();
    assert_eq!(found, [1, SERIES]);
    store.compact().unwrap();
    assert_eq!((store.stats().block_samples, store.stats().blocks), (1, 1));
    clock.advance(Duration::from_secs(60 * 3600));
    write(&store, NOW + 110 * HOUR, 1.0).unwrap();
    store.maintain().unwrap();
    assert_eq!(store.stats().blocks, 0);
}

#[test]
fn the_oldest_blocks_go_when_there_are_too_many_bytes() {
    let fs = MemoryFs::new();
    let sized = |bytes| Options { retention_bytes: Some(bytes), ..options() };
    let store = open_at(Arc::new(fs.clone()), Arc::new(SimClock::new(NOW)), sized(1 << 30));
    for step in [3, 1, 2] {
        write(&store, NOW + step, step as f64).unwrap();
        store.flush().unwrap();
    }
    drop(store);
    // Measured on a store that nobody writes to: the log of a busy one has a next segment ready, or not yet.
    let store = open_at(Arc::new(fs.clone()), Arc::new(SimClock::new(NOW)), sized(1 << 30));
    store.maintain().unwrap();
    let stats = store.stats();
    assert_eq!(stats.blocks, 3);
    drop(store);
    let store =
        open_at(Arc::new(fs), Arc::new(SimClock::new(NOW)), sized(stats.block_bytes + stats.wal_bytes - 1));
    store.maintain().unwrap();
    assert_eq!((store.stats().blocks, store.stats().blocks_dropped), (2, 1));
    assert_eq!(read(&store).keys().copied().collect::<Vec<_>>(), [NOW + 2, NOW + 3]);
}

#[test]
fn very_old_samples_get_blocks_of_their_own() {
    let long = Options { retention: None, ..options() };
    let store = open_at(Arc::new(MemoryFs::new()), Arc::new(SimClock::new(NOW)), long);
    write(&store, NOW, 1.0).unwrap();
    for day in [3, 3, 200] {
        write(&store, NOW - day * 24 * HOUR, day as f64).unwrap();
    }
    store.flush().unwrap();
    assert_eq!((store.stats().blocks, read(&store).len()), (3, 3));
}

#[test]
fn damaged_files_are_put_aside_and_the_rest_is_served() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    write(&store, NOW, 1.0).unwrap();
    store.flush().unwrap();
    write(&store, NOW + 1, 2.0).unwrap();
    store.flush().unwrap();
    write(&store, NOW + 2, 3.0).unwrap();
    store.close().unwrap();
    let damage = |fs: &MemoryFs, path: &Path, from_end: u64| {
        let file = fs.open_write(path).unwrap();
        let at = file.len().unwrap() - from_end;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        file.sync_data().unwrap();
    };
    let image = || fs.crash_image(fs.log_len(), CrashChoice::Everything);
    let times = |store: &Storage| read(store).into_keys().collect::<Vec<_>>();

    let one_block = image();
    let blocks = one_block.list(Path::new("/data/blocks")).unwrap();
    damage(&one_block, &blocks[0], 3);
    let store = open(&one_block);
    assert_eq!((times(&store), store.stats().blocks_quarantined), (vec![NOW + 1, NOW + 2], 1));
    assert_eq!(one_block.list(Path::new("/data/quarantine")).unwrap().len(), 2);

    let manifest = image();
    damage(&manifest, Path::new("/data/MANIFEST"), 3);
    let store = open(&manifest);
    assert_eq!(times(&store), [NOW, NOW + 1, NOW + 2]);
    write(&store, NOW + 3, 4.0).unwrap();
    assert_eq!(times(&store).len(), 4);

    let checkpoint = image();
    let files = checkpoint.list(Path::new("/data/head")).unwrap();
    damage(&checkpoint, &files[1], 3);
    assert_eq!(times(&open(&checkpoint)), [NOW, NOW + 1, NOW + 2], "the checkpoint before is as good");
    for file in checkpoint.list(Path::new("/data/head")).unwrap() {
        damage(&checkpoint, &file, 3);
    }
    let store = open(&checkpoint);
    assert_eq!(times(&store), [NOW, NOW + 1], "the samples in the log have lost their names");
    write(&store, NOW + 3, 4.0).unwrap();
    drop(store);
    let store = open(&checkpoint);
    assert_eq!(times(&store), [NOW, NOW + 1, NOW + 3], "and are not taken for those of other series");
}

fn warnings(store: &Storage) -> Vec<String> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    querier.select(TimeRange::ALL, &[]).unwrap().warnings().to_vec()
}

/// A crash leaves of a new segment nothing, zeros, or the beginning of its header. Anything else is damage.
#[test]
fn a_foreign_file_in_the_log_is_told_of_and_an_unfinished_one_is_not() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    write(&store, NOW, 1.0).unwrap();
    store.flush().unwrap();
    write(&store, NOW + 1, 2.0).unwrap();
    drop(store);
    let newest = fs.list(Path::new("/data/wal")).unwrap().pop().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap();
    let whole = fs.map(&newest).unwrap().to_vec();
    let foreign = b"\x89PNG\r\n\x1a\n and nothing of ours";
    let cases: [(&[u8], bool); 8] = [
        (foreign, true),
        (b"x", true),
        (&[7; 1000], true),
        (&[7; 3000], true),
        (b"", false),
        (&[0; 35], false),
        (&whole[..7], false),
        (&whole[..35], false),
    ];
    for (bytes, is_told) in cases {
        let image = fs.crash_image(fs.log_len(), CrashChoice::Everything);
        image.remove(&newest).unwrap();
        image.create(&newest).unwrap().write_all_at(bytes, 0).unwrap();
        let store = open(&image);
        let said = warnings(&store);
        let what = format!("{} bytes: {said:?}", bytes.len());
        assert_eq!(said.len(), usize::from(is_told), "{what}");
        assert!(said.iter().all(|s| s.contains(name) && s.contains("header of the segment")), "{what}");
        let aside = Path::new("/data/quarantine").join(name);
        assert!(!is_told || *image.map(&aside).unwrap() == *bytes, "{what}");
        write(&store, NOW + 2, 3.0).unwrap();
        drop(store);
        let store = open(&image);
        assert_eq!(read(&store).into_keys().collect::<Vec<_>>(), [NOW, NOW + 2], "{what}");
    }
}

#[test]
fn damage_inside_of_a_block_is_a_warning() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    for step in 0..200 {
        write(&store, NOW + step, (step * step % 77) as f64 * 0.37).unwrap();
    }
    store.flush().unwrap();
    write(&store, NOW + 500, 1.0).unwrap();
    let block = fs.list(Path::new("/data/blocks")).unwrap().remove(0);
    let file = fs.open_write(&block).unwrap();
    file.write_all_at(&[0xff; 8], 80).unwrap();
    drop(store);
    let store = open(&fs);
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    set.read(0, TimeRange::ALL, &mut samples).unwrap();
    assert_eq!(samples.timestamps, [NOW + 500]);
    assert!(set.warnings()[0].contains(".block"), "{:?}", set.warnings());
}

#[test]
fn a_second_process_is_refused() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let second =
        Storage::open_with(Arc::new(fs.clone()), Arc::new(SimClock::new(NOW)), Path::new("/data"), options());
    assert!(second.is_err());
    store.close().unwrap();
    open(&fs);
}

//! Group commit under a schedule explorer: many schedules of senders, readers, flushes and the threads of the store.
//!
//! ```text
//! KYMO_SCHEDULES=100000 cargo test --release -p kymo-storage --features shuttle explored -- --nocapture
//! ```

use super::{Storage, Work};
use crate::api::{Queryable, Samples};
use crate::env::{CrashChoice, MemoryFs, SimClock};
use crate::model::{Labels, TimeRange};
use crate::options::Options;
use crate::sync::thread;
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

const NOW: i64 = 1_700_000_000_000;
const SENDERS: i64 = 3;
const BATCHES: i64 = 2;

/// Schedules tried of each kind; `KYMO_SCHEDULES` sets both together.
fn schedules() -> usize {
    std::env::var("KYMO_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(400_usize).div_ceil(2)
}

fn explore(scheduler: impl Scheduler + 'static, test: fn()) -> usize {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(scheduler, config).run(test)
}

fn options() -> Options {
    let sizes = Options { wal_segment_bytes: 4096, reserve_bytes: 0, ..Options::default() };
    Options { free_space_min: Some(0), compaction_percent: 0, ..sizes }
}

fn labels(sender: i64, half: &str) -> Labels {
    Labels::from_pairs([("__name__", format!("m{sender}")), ("half", half.to_owned())])
}

/// What is acknowledged: how much the disk was told by then, by sender and time.
type Acknowledged = Arc<Mutex<BTreeMap<(i64, i64), usize>>>;

/// Two samples of two series, of which no reader may see one alone.
fn send(store: &Storage, fs: &MemoryFs, acknowledged: &Acknowledged, sender: i64, time: i64) {
    let mut batch = store.batch();
    for half in ["a", "b"] {
        let series = batch.series(labels(sender, half).as_bytes()).unwrap();
        batch.sample(series, NOW + time, time as f64);
    }
    let report = store.append(batch).unwrap();
    assert_eq!((report.accepted, report.refused_total), (2, 0));
    acknowledged.lock().unwrap().insert((sender, time), fs.log_len());
    // Whoever has the answer sees what it stands for.
    assert!(read(store).contains(&(sender, time)));
}

/// Sender and time of all samples; both halves of each are there.
fn read(store: &Storage) -> Vec<(i64, i64)> {
    let set = store.querier(TimeRange::ALL).unwrap().select(TimeRange::ALL, &[]).unwrap();
    let mut halves: BTreeMap<(i64, i64), u32> = BTreeMap::new();
    let mut samples = Samples::new();
    for index in 0..set.len() {
        let sender = set.labels(index).value("__name__")[1..].parse().unwrap();
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        for time in &samples.timestamps {
            *halves.entry((sender, time - NOW)).or_default() += 1;
        }
    }
    assert!(halves.values().all(|count| *count == 2), "half of a batch: {halves:?}");
    halves.into_keys().collect()
}

fn one_schedule() {
    let (fs, acknowledged) = (MemoryFs::new(), Acknowledged::default());
    let clock = SimClock::new(NOW);
    let (dir, disk) = (Path::new("/data"), Arc::new(fs.clone()));
    let store = Storage::open_with(disk, Arc::new(clock.clone()), dir, options()).unwrap();
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let (store, fs, acknowledged) = (store.clone(), fs.clone(), Arc::clone(&acknowledged));
            thread::spawn(move || {
                (0..BATCHES).for_each(|time| send(&store, &fs, &acknowledged, sender, time));
            })
        })
        .collect();
    let flushed = store.clone();
    let flusher = thread::spawn(move || flushed.flush().unwrap());
    let mut seen = 0;
    for _ in 0..2 {
        let now = read(&store).len();
        assert!(now >= seen, "what was seen stays");
        seen = now;
    }
    senders.into_iter().chain([flusher]).for_each(|thread| thread.join().unwrap());
    assert_eq!(read(&store).len() as i64, SENDERS * BATCHES);
    store.close().unwrap();
    drop(store);

    let acknowledged = acknowledged.lock().unwrap();
    assert_eq!(acknowledged.len() as i64, SENDERS * BATCHES);
    // The power goes at the moment of an answer, and takes with it all that was not synced.
    for at in acknowledged.values() {
        let image = Arc::new(fs.crash_image(*at, CrashChoice::Nothing));
        let mut turn = Work::ALL.into_iter().cycle();
        let choose = Box::new(move || turn.next().unwrap_or(Work::Commit));
        let store = Storage::open_stepped(image, Arc::new(clock.clone()), dir, options(), choose).unwrap();
        let found = read(&store);
        let lost: Vec<_> =
            acknowledged.iter().filter(|(key, when)| *when <= at && !found.contains(key)).collect();
        assert!(lost.is_empty(), "acknowledged by {at} and gone: {lost:?}");
    }
}

#[test]
fn whoever_is_acknowledged_is_on_the_disk_in_every_schedule() {
    let random = explore(RandomScheduler::new(schedules()), one_schedule);
    let with_priorities = explore(PctScheduler::new(3, schedules()), one_schedule);
    println!("schedules_of_commit explored={} failures=0", random + with_priorities);
    assert!(random > 0 && with_priorities > 0);
}

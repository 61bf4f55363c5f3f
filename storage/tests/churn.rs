//! Series that stop leave memory, come back as the same series, and whatever refers to them meanwhile stays right.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::api::{Queryable, Room, Samples};
use kymo_storage::env::{CrashChoice, Fs, MemoryFs, SimClock};
use kymo_storage::model::{Exemplar, Labels, Matcher, SeriesRef, TimeRange};
use kymo_storage::options::{Limits, Options};
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
        series_idle_after: Duration::ZERO,
        free_space_min: Some(0),
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn open(fs: &MemoryFs) -> Storage {
    let clock = Arc::new(SimClock::new(NOW));
    Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), options()).unwrap()
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([
        ("__name__", "m".to_owned()),
        ("i", format!("{i:05}")),
        ("job", format!("j{}", i % 7)),
    ])
}

/// Sends a sample of each series; its value says which series and when it is.
fn write(store: &Storage, series: impl Iterator<Item = usize>, time: i64) {
    let mut batch = store.batch();
    for i in series {
        let id = batch.series_labels(&labels(i)).unwrap();
        batch.sample(id, NOW + time, value(i, time));
    }
    assert_eq!(store.append(batch).unwrap().refused_total, 0);
}

fn value(i: usize, time: i64) -> f64 {
    (i * 1_000_000) as f64 + time as f64
}

/// Everything goes into blocks, and all series leave memory.
fn drop_all(store: &Storage) {
    store.flush().unwrap();
    store.maintain().unwrap();
    assert_eq!((store.stats().series, store.stats().symbols), (0, 0));
}

#[test]
fn a_store_that_is_flushed_without_a_pause_is_looked_after() {
    let clock = SimClock::new(NOW);
    let options = Options { maintenance_interval: Duration::from_secs(10), ..options() };
    let fs = Arc::new(MemoryFs::new());
    let store = Storage::open_with(fs, Arc::new(clock.clone()), Path::new("/data"), options).unwrap();
    for i in 0..20 {
        write(&store, std::iter::once(i), i as i64 * 1000);
        store.flush().unwrap();
        clock.advance(Duration::from_secs(5));
    }
    let series = store.stats().series;
    assert!(series < 10, "{series} of 20 series are in memory, each idle since its only sample was flushed");
}

type Contents = BTreeMap<(Labels, i64), f64>;

fn read(store: &Storage) -> Contents {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let (mut samples, mut out, mut before) = (Samples::new(), Contents::new(), None);
    for index in 0..set.len() {
        let labels = set.labels(index);
        assert!(before.replace(labels.clone()).is_none_or(|before| before < labels), "sorted, each once");
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        for (time, value) in samples.timestamps.iter().zip(&samples.values) {
            out.insert((labels.clone(), *time - NOW), *value);
        }
    }
    out
}

fn contents(written: &[(usize, i64)]) -> Contents {
    written.iter().map(|(i, time)| ((labels(*i), *time), value(*i, *time))).collect()
}

/// Ten series at a time; some come back later. Calls `acknowledged` with what was written in each step.
fn waves(store: &Storage, steps: std::ops::Range<usize>, mut acknowledged: impl FnMut(&[(usize, i64)])) {
    for step in steps {
        let first = (step / 3 % 5) * 6;
        let time = step as i64 * 1000 + 1;
        write(store, first..first + 10, time);
        acknowledged(&(first..first + 10).map(|i| (i, time)).collect::<Vec<_>>());
        if step % 3 == 2 {
            store.flush().unwrap();
        }
        if step % 3 != 0 {
            store.maintain().unwrap();
        }
    }
}

#[test]
fn crashes_among_series_that_come_and_go_lose_nothing_and_mix_nothing_up() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let mut acknowledged = vec![(fs.log_len(), Vec::new())];
    let mut all = Vec::new();
    waves(&store, 0..36, |written| {
        all.extend_from_slice(written);
        acknowledged.push((fs.log_len(), all.clone()));
    });
    assert!(store.stats().series_dropped > 50, "{:?}", store.stats());
    drop(store);
    let sent = contents(&all);
    for at in (0..=fs.log_len()).step_by(3) {
        let sure = acknowledged.iter().rfind(|a| a.0 <= at).map(|a| contents(&a.1)).unwrap_or_default();
        for choice in [CrashChoice::Nothing, CrashChoice::LastTorn, CrashChoice::Seed(at as u64)] {
            let image = fs.crash_image(at, choice);
            let store = open(&image);
            let found = read(&store);
            let lost = sure.iter().find(|(key, value)| found.get(*key) != Some(value));
            assert_eq!(lost, None, "op {at} {choice:?}");
            let wrong = found.iter().find(|(key, value)| sent.get(*key) != Some(value));
            assert_eq!(wrong, None, "op {at} {choice:?}");
        }
        if at % 15 != 0 {
            continue;
        }
        // It goes on, and a second crash takes nothing either.
        let image = fs.crash_image(at, CrashChoice::Nothing);
        let store = open(&image);
        let mut expected = read(&store);
        waves(&store, 40..50, |written| expected.extend(contents(written)));
        assert_eq!(read(&store), expected, "op {at}");
        let again = image.crash_image(image.log_len(), CrashChoice::Nothing);
        drop(store);
        assert_eq!(read(&open(&again)), expected, "op {at}, and again");
    }
}

#[test]
fn damage_takes_samples_but_gives_none_to_another_series() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let mut all = Vec::new();
    waves(&store, 0..36, |written| all.extend_from_slice(written));
    write(&store, 100..110, 99_000);
    all.extend((100..110).map(|i| (i, 99_000)));
    drop(store);
    let sent = contents(&all);
    let files = ["head", "wal"].iter().flat_map(|folder| fs.list(&Path::new("/data").join(folder)).unwrap());
    for path in files {
        let len = fs.open(&path).unwrap().len().unwrap();
        for at in (0..len).step_by(61) {
            let image = fs.crash_image(fs.log_len(), CrashChoice::Everything);
            let file = image.open_write(&path).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 0x55], at).unwrap();
            let found = read(&open(&image));
            let wrong = found.iter().find(|(key, value)| sent.get(*key) != Some(value));
            assert_eq!(wrong, None, "{} at {at}", path.display());
        }
    }
}

#[test]
fn a_series_that_comes_back_is_one_series() {
    let fs = MemoryFs::unrecorded();
    let store = open(&fs);
    let mut expected = Contents::new();
    for round in 0..6 {
        write(&store, 0..300, round * 1000);
        expected.extend(contents(&(0..300).map(|i| (i, round * 1000)).collect::<Vec<_>>()));
        assert_eq!(read(&store), expected);
        drop_all(&store);
        assert_eq!(read(&store), expected);
        let querier = store.querier(TimeRange::ALL).unwrap();
        let names = querier.label_values("i", &[], &mut Room::new(&mut |_| Ok(()))).unwrap().names;
        drop(querier);
        assert_eq!(names.len(), 300);
    }
    // What was its newest is in a block: a sample at the same time is not refused, and the last one counts.
    let mut batch = store.batch();
    let id = batch.series_labels(&labels(5)).unwrap();
    batch.sample(id, NOW + 5000, 1.5);
    assert_eq!(store.append(batch).unwrap().refused_total, 0);
    expected.insert((labels(5), 5000), 1.5);
    assert_eq!(read(&store), expected);
    store.delete(TimeRange::ALL, &[vec![Matcher::equal("job", "j5")]]).unwrap();
    expected.retain(|(labels, _), _| labels.value("job") != "j5");
    drop_all(&store);
    assert_eq!(read(&store), expected);
    store.compact().unwrap();
    assert_eq!(read(&store), expected);
    drop(store);
    assert_eq!(read(&open(&fs)), expected);
}

#[test]
fn whoever_began_before_sees_what_was_there() {
    let fs = MemoryFs::unrecorded();
    let store = open(&fs);
    write(&store, 0..100, 0);
    store.flush().unwrap();
    write(&store, 0..100, 1000);
    let expected = contents(&(0..100).flat_map(|i| [(i, 0), (i, 1000)]).collect::<Vec<_>>());
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    store.flush().unwrap();
    for _ in 0..3 {
        store.maintain().unwrap();
    }
    // Not known any more, but what the querier holds stays.
    let stats = store.stats();
    assert_eq!((stats.series, stats.series_dropped), (100, 0));
    write(&store, 50..150, 2000);
    let read_set = |set: &dyn kymo_storage::api::SeriesSet| {
        let (mut samples, mut out) = (Samples::new(), Contents::new());
        for index in 0..set.len() {
            set.read(index, TimeRange::ALL, &mut samples).unwrap();
            for (time, value) in samples.timestamps.iter().zip(&samples.values) {
                let before = out.insert((set.labels(index), *time - NOW), *value);
                assert_eq!(before, None, "each series once");
            }
        }
        out
    };
    assert_eq!(read_set(set.as_ref()), expected);
    // It asks again, when some series have another number.
    assert_eq!(read_set(querier.select(TimeRange::ALL, &[]).unwrap().as_ref()), expected);
    let one = [Matcher::equal("i", "00060")];
    assert_eq!(querier.select(TimeRange::ALL, &one).unwrap().len(), 1);
    let mut later = expected;
    later.extend(contents(&(50..150).map(|i| (i, 2000)).collect::<Vec<_>>()));
    assert_eq!(read(&store), later);
    drop((set, querier));
    store.maintain().unwrap();
    assert_eq!(store.stats().series, 100);
    assert_eq!(read(&store), later);
}

#[test]
fn references_kept_too_long_are_refused_and_never_another_series() {
    let fs = MemoryFs::unrecorded();
    let store = open(&fs);
    let mut batch = store.batch();
    let refs: Vec<SeriesRef> = (0..50).map(|i| batch.series_labels(&labels(i)).unwrap()).collect();
    for (i, id) in refs.iter().enumerate() {
        batch.sample(*id, NOW, value(i, 0));
    }
    store.append(batch).unwrap();
    // A batch that is being filled keeps its series, however long that takes.
    let mut open_batch = store.batch();
    open_batch.sample(refs[3], NOW + 1, 3.0);
    store.flush().unwrap();
    for _ in 0..3 {
        store.maintain().unwrap();
    }
    assert_eq!(store.append(open_batch).unwrap().refused_total, 0);
    // So does one that comes in time.
    let mut batch = store.batch();
    batch.sample(refs[4], NOW + 1, 4.0);
    assert_eq!(store.append(batch).unwrap().refused_total, 0);
    store.maintain().unwrap();
    store.maintain().unwrap();
    assert_eq!(store.stats().series, 2);
    drop_all(&store);
    // Others get the numbers.
    for round in 0..3 {
        write(&store, 1000 + round * 50..1050 + round * 50, 5000);
        drop_all(&store);
    }
    write(&store, 2000..2050, 6000);
    let before = read(&store);
    let mut batch = store.batch();
    for id in &refs {
        batch.sample(*id, NOW + 7000, 7.0);
        batch.exemplar(*id, Exemplar { labels: Labels::empty(), value: 1.0, timestamp: NOW + 7000 }).unwrap();
    }
    let report = store.append(batch).unwrap();
    assert_eq!((report.accepted, report.refused_total, report.exemplars_refused_total), (0, 50, 50));
    assert_eq!(report.refused[0].kind, ErrorKind::NotFound);
    assert!(report.refused[0].reason.contains("resolved again"), "{}", report.refused[0].reason);
    assert_eq!(read(&store), before);
}

#[test]
fn numbers_and_the_limit_of_series_come_free() {
    let fs = MemoryFs::unrecorded();
    let options = Options { limits: Limits { series: 200, ..Limits::default() }, ..options() };
    let clock = Arc::new(SimClock::new(NOW));
    let open = || {
        let clock = Arc::<SimClock>::clone(&clock);
        Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), options.clone()).unwrap()
    };
    let mut store = open();
    for round in 0..30usize {
        write(&store, round * 200..round * 200 + 200, round as i64);
        let mut batch = store.batch();
        assert_eq!(batch.series_labels(&labels(9999)).unwrap_err().kind, ErrorKind::LimitExceeded);
        drop(batch);
        drop_all(&store);
        if round % 7 == 6 {
            drop(store);
            store = open();
            // Known as the checkpoint has them, for a while.
            store.maintain().unwrap();
            assert_eq!(store.stats().series, 0);
        }
    }
    let expected: Vec<_> = (0..30).flat_map(|r| (0..200).map(move |i| (r * 200 + i, r as i64))).collect();
    assert_eq!(read(&store), contents(&expected));
    assert!(store.stats().registry_bytes < 2 << 20, "{:?}", store.stats());
}

/// The checkpoint of before knows the series, and its newest sample.
#[test]
fn a_delete_of_a_series_that_left_memory_lasts_beyond_a_restart() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    write(&store, 0..5, 1000);
    drop_all(&store);
    let third = vec![Matcher::equal("i", "00003")];
    assert_eq!(store.delete(TimeRange::ALL, &[third]).unwrap().series, 1);
    drop(store);
    let store = open(&fs);
    let mut batch = store.batch();
    let id = batch.series_labels(&labels(3)).unwrap();
    batch.sample(id, NOW + 1000, 0.5);
    let report = store.append(batch).unwrap();
    assert_eq!((report.accepted, report.refused_total), (1, 0), "{report:?}");
    let mut expected = contents(&[0, 1, 2, 4].map(|i| (i, 1000)));
    expected.insert((labels(3), 1000), 0.5);
    assert_eq!(read(&store), expected);
}

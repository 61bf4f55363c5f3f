//! A kill and a power cut at every call of flush, compaction, retention, delete, snapshot and of storing old samples.

use super::{Answers, DATA, HOUR, MemoryFs, NOW, answers, labels, options, sampled, value, write};
use kymo_storage::Storage;
use kymo_storage::block::Manifest;
use kymo_storage::env::{CrashChoice, Fs, SimClock};
use kymo_storage::model::{Matcher, TimeRange};
use kymo_storage::options::Options;
use kymo_storage::wal::segment::sequence_of;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What happened between two places of the log of file-system operations, and what is answered before and after.
struct Phase {
    name: &'static str,
    from: usize,
    to: usize,
    before: Answers,
    after: Answers,
}

fn with_retention() -> Options {
    Options { retention: Some(Duration::from_secs(12 * 3600)), ..options() }
}

fn open(fs: &MemoryFs) -> Storage {
    let clock = Arc::new(SimClock::new(NOW));
    Storage::open_with(Arc::new(fs.clone()), clock, Path::new("/data"), with_retention()).unwrap()
}

fn live_through(fs: &MemoryFs) -> Vec<Phase> {
    let clock = Arc::new(SimClock::new(NOW));
    let disk = Arc::new(fs.clone());
    let store =
        Storage::open_with(disk, Arc::<SimClock>::clone(&clock), Path::new("/data"), with_retention())
            .unwrap();
    let mut phases: Vec<Phase> = Vec::new();
    let mut phase = |name: &'static str, act: &mut dyn FnMut()| {
        let (from, before) = (fs.log_len(), answers(&store).0);
        act();
        phases.push(Phase { name, from, to: fs.log_len(), before, after: answers(&store).0 });
    };
    for round in 0..3 {
        phase("write", &mut || {
            (0..6).for_each(|s| write(&store, 4, NOW - HOUR + (round * 6 + s) * 1000).unwrap());
        });
        phase("flush", &mut || store.flush().unwrap());
    }
    phase("compact", &mut || store.compact_all().unwrap());
    phase("delete", &mut || {
        let range = TimeRange::closed(NOW - HOUR, NOW - HOUR + 4000);
        store.delete(range, &[vec![Matcher::equal("i", "00001")]]).unwrap();
    });
    phase("clean", &mut || store.clean_tombstones().unwrap());
    phase("import", &mut || {
        // As an import writes: old samples of many series, in several batches, then a flush.
        for part in 0..3 {
            let mut batch = store.batch();
            for i in 0..8 {
                let id = batch.series_labels(&labels(100 + i)).unwrap();
                let times = (0..5).map(|s| NOW - 6 * HOUR + (part * 5 + s) * 1000);
                times.for_each(|time| batch.sample(id, time, value(i, time)));
            }
            store.append(batch).unwrap();
        }
        store.flush().unwrap();
    });
    phase("snapshot", &mut || drop(store.snapshot(Path::new("/data/snapshots"), true).unwrap()));
    write(&store, 4, NOW).unwrap();
    store.flush().unwrap();
    clock.advance(Duration::from_secs(8 * 3600));
    phase("retention", &mut || {
        write(&store, 4, NOW + 8 * HOUR).unwrap();
        store.maintain().unwrap();
    });
    phase("close", &mut || store.close().unwrap());
    phases
}

/// Every sample is one of those before or after, all that both have is there.
fn check(found: &Answers, phase: &Phase, what: &str) {
    for (labels, samples) in &phase.before {
        let kept = phase.after.get(labels);
        for (time, value) in samples {
            if kept.is_some_and(|k| k.get(time) == Some(value)) {
                assert_eq!(
                    found.get(labels).and_then(|f| f.get(time)),
                    Some(value),
                    "{what}: {labels} at {time} is lost"
                );
            }
        }
    }
    for (labels, samples) in found {
        for (time, value) in samples {
            let is_known = [&phase.before, &phase.after]
                .into_iter()
                .any(|side| side.get(labels).and_then(|s| s.get(time)) == Some(value));
            assert!(is_known, "{what}: {labels} at {time} is invented");
        }
    }
}

/// Everything below the data directory, folders too.
fn everything(fs: &MemoryFs) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::from(DATA)]);
    while let Some(folder) = folders.pop() {
        for path in fs.list(&folder).unwrap() {
            if fs.open(&path).is_err() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

/// What lies in the directory of a store that was closed, and to which its manifest does not refer. Of checkpoints the one before the
/// live one is kept on purpose; a snapshot that was finished is the caller's.
fn leftovers(fs: &MemoryFs) -> Vec<String> {
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let manifest = Manifest::load(&shared, Path::new(DATA)).unwrap().unwrap();
    let live = manifest.checkpoint.as_deref().unwrap_or_default();
    let before = checkpoints(fs).into_iter().rfind(|name| name.as_str() < live);
    let is_live = |path: &Path| {
        let parts: Vec<&str> =
            path.strip_prefix(DATA).unwrap().iter().filter_map(|part| part.to_str()).collect();
        match *parts {
            ["LOCK" | "MANIFEST" | "blocks" | "head" | "wal" | "snapshots"] => true,
            ["TOMBSTONES"] => manifest.has_deletes,
            ["blocks", name] => manifest.blocks.iter().any(|block| block.file == name),
            ["head", name] => name == live || before.as_deref() == Some(name),
            ["wal", _] => sequence_of(path).is_some_and(|sequence| sequence >= manifest.first_wal_segment),
            ["snapshots", ..] => parts.iter().all(|part| !part.ends_with(".tmp")),
            _ => false,
        }
    };
    everything(fs).into_iter().filter(|path| !is_live(path)).map(|path| path.display().to_string()).collect()
}

/// The names of the checkpoints, the oldest first.
fn checkpoints(fs: &MemoryFs) -> Vec<String> {
    let names = fs.list(Path::new("/data/head")).unwrap().into_iter();
    let mut names: Vec<String> =
        names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    names.sort();
    names
}

#[test]
fn a_kill_at_every_call_loses_and_doubles_nothing() {
    let fs = MemoryFs::new();
    let phases = live_through(&fs);
    let mut points: BTreeMap<&str, usize> = BTreeMap::new();
    let all: Vec<(usize, &Phase)> = phases
        .iter()
        .filter(|p| p.name != "close")
        .flat_map(|p| (p.from..=p.to).map(move |at| (at, p)))
        .collect();
    for number in sampled(all.len()) {
        let (at, phase) = all[number];
        *points.entry(phase.name).or_default() += 1;
        for choice in [CrashChoice::Everything, CrashChoice::Nothing, CrashChoice::Seed(at as u64)] {
            let what = format!("{} at {at}, {choice:?}", phase.name);
            let image = fs.crash_image(at, choice);
            let store = open(&image);
            let (found, warned) = answers(&store);
            assert!(!warned, "{what}: a warning");
            check(&found, phase, &what);
            store.maintain().unwrap();
            check(&answers(&store).0, phase, &format!("{what}, after a cycle"));
            // What a snapshot left is taken away by the next, and checkpoints before the last two by the next flush of anything.
            write(&store, 1, NOW + 1).unwrap();
            store.snapshot(Path::new("/data/snapshots"), true).unwrap();
            store.close().unwrap();
            drop(store);
            assert_eq!(leftovers(&image), [""; 0], "{what}");
        }
    }
    let named: Vec<String> = points.iter().map(|(name, count)| format!("{name}={count}")).collect();
    println!(
        "points points={} {} lost=0 doubled=0 leftovers=0",
        points.values().sum::<usize>(),
        named.join(" ")
    );
}

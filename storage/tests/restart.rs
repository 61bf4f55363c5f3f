//! A store under random work, power cuts during recovery and a disk that fails at any call: what was acknowledged stays.

#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use kymo_storage::api::{Queryable, Samples};
use kymo_storage::env::{CrashChoice, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs, SimClock};
use kymo_storage::model::{Labels, Matcher, Metadata, TimeRange};
use kymo_storage::options::Options;
use kymo_storage::wal::{
    ExemplarRecord, HistogramsRecord, ReplayReport, ReplayVisitor, SamplesRecord, Wal, WalOptions,
};
use kymo_storage::{ErrorKind, Storage};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;
const SERIES: usize = 4;

/// Bits of values by series and time.
type Contents = BTreeMap<(String, i64), u64>;

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

fn try_open(fs: Arc<dyn Fs>) -> kymo_storage::Result<Storage> {
    Storage::open_with(fs, Arc::new(SimClock::new(NOW)), Path::new("/data"), options())
}

fn open(fs: &MemoryFs) -> Storage {
    try_open(Arc::new(fs.clone())).unwrap()
}

fn labels(i: usize) -> Labels {
    Labels::from_pairs([("__name__", "m".to_owned()), ("i", i.to_string())])
}

fn found(store: &Storage) -> Contents {
    let querier = store.querier(TimeRange::ALL).unwrap();
    let set = querier.select(TimeRange::ALL, &[]).unwrap();
    let mut samples = Samples::new();
    let mut out = Contents::new();
    for index in 0..set.len() {
        set.read(index, TimeRange::ALL, &mut samples).unwrap();
        let name = set.labels(index).to_string();
        for (time, value) in samples.timestamps.iter().zip(&samples.values) {
            assert!(out.insert((name.clone(), *time), value.to_bits()).is_none(), "one sample a timestamp");
        }
    }
    out
}

fn warnings(store: &Storage) -> Vec<String> {
    let querier = store.querier(TimeRange::ALL).unwrap();
    querier.select(TimeRange::ALL, &[]).unwrap().warnings().to_vec()
}

/// As [`found`], of a store that has nothing to tell of.
fn read(store: &Storage) -> Contents {
    assert_eq!(warnings(store), [""; 0]);
    found(store)
}

/// What the rules say the store holds.
#[derive(Debug, Default, Clone)]
struct Model {
    contents: Contents,
    newest: BTreeMap<usize, (i64, u64)>,
}

impl Model {
    /// Whether the sample is accepted.
    fn append(&mut self, series: usize, time: i64, value: f64) -> bool {
        let bits = value.to_bits();
        if let Some((newest, known)) = self.newest.get(&series).copied()
            && newest == time
        {
            return known == bits;
        }
        if self.newest.get(&series).is_none_or(|newest| newest.0 < time) {
            self.newest.insert(series, (time, bits));
        }
        self.contents.insert((labels(series).to_string(), time), bits);
        true
    }
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(usize, i64, f64)>),
    Flush,
    Close,
    PowerCut,
    Drop,
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => NOW - 20..NOW + 20,
        2 => NOW - 400 * 86_400_000..NOW,
        1 => Just(-1_000_000_000_000),
        1 => prop_oneof![Just(i64::MIN + 1), Just(0), Just(-1)],
    ]
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0..5).prop_map(f64::from),
        1 => prop_oneof![
            Just(-0.0), Just(f64::NAN), Just(f64::from_bits(0x7ff0_0000_0000_0002)), Just(f64::INFINITY),
            Just(f64::from_bits(0xfff8_0000_0000_0001)), Just(0.1),
        ],
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let samples = proptest::collection::vec((0..SERIES, time(), value()), 1..12);
    prop_oneof![
        12 => samples.prop_map(Step::Append),
        3 => Just(Step::Flush),
        1 => Just(Step::Close),
        2 => Just(Step::PowerCut),
        1 => Just(Step::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_restart_changes_no_answer(steps in proptest::collection::vec(step(), 1..40)) {
        let mut fs = MemoryFs::new();
        let mut store = open(&fs);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Append(samples) => {
                    let mut batch = store.batch();
                    let mut accepted = 0;
                    for (i, time, value) in samples {
                        let series = batch.series_labels(&labels(i)).unwrap();
                        batch.sample(series, time, value);
                        accepted += u64::from(model.append(i, time, value));
                    }
                    prop_assert_eq!(store.append(batch).unwrap().accepted, accepted);
                    continue;
                }
                Step::Flush => store.flush().unwrap(),
                Step::Close => {
                    store.close().unwrap();
                    store = open(&fs);
                }
                Step::Drop => {
                    drop(store);
                    store = open(&fs);
                }
                Step::PowerCut => {
                    fs = fs.crash_image(fs.log_len(), CrashChoice::Nothing);
                    store = open(&fs);
                }
            }
            prop_assert_eq!(&read(&store), &model.contents);
        }
        prop_assert_eq!(&read(&store), &model.contents);
    }
}

/// Work that uses every part of the store; calls `acknowledged` after each step the store said yes to. Goes on after errors.
fn work(store: &Storage, mut acknowledged: impl FnMut(&[(usize, i64, f64)])) {
    for step in 0..14i64 {
        let time = NOW + if step % 3 == 2 { -step * 40_000_000 } else { step * 1000 };
        let samples: Vec<_> = (0..SERIES).map(|i| (i, time, step as f64)).collect();
        let mut batch = store.batch();
        for (i, time, value) in &samples {
            let series = batch.series_labels(&labels(*i)).unwrap();
            batch.sample(series, *time, *value);
        }
        batch.metadata("m", Metadata { help: format!("step {step}"), ..Metadata::default() });
        if store.append(batch).is_ok() {
            acknowledged(&samples);
        }
        if step % 4 == 3 {
            // That it fails is what some tests are about.
            let _ = store.flush();
            let _ = store.maintain();
        }
    }
}

fn as_contents(samples: &[(usize, i64, f64)]) -> Contents {
    samples.iter().map(|(i, time, value)| ((labels(*i).to_string(), *time), value.to_bits())).collect()
}

#[test]
fn power_cuts_during_recovery_lose_nothing() {
    let fs = MemoryFs::new();
    let store = open(&fs);
    let mut acknowledged = vec![(fs.log_len(), Contents::new())];
    work(&store, |samples| {
        let mut contents = acknowledged.last().unwrap().1.clone();
        contents.extend(as_contents(samples));
        acknowledged.push((fs.log_len(), contents));
    });
    drop(store);
    for at in (0..=fs.log_len()).step_by(7) {
        let sure = &acknowledged.iter().rfind(|a| a.0 <= at).map(|a| a.1.clone()).unwrap_or_default();
        let first = fs.crash_image(at, CrashChoice::Seed(at as u64));
        drop(open(&first));
        for again in (0..=first.log_len()).step_by(3) {
            for choice in [CrashChoice::Nothing, CrashChoice::Seed(again as u64)] {
                let second = first.crash_image(again, choice);
                let found = read(&open(&second));
                let lost = sure.iter().find(|(key, bits)| found.get(key) != Some(bits));
                assert_eq!(lost, None, "cut at {at} and again at {again} {choice:?}");
            }
        }
    }
}

const OPERATIONS: [FaultOp; 13] = [
    FaultOp::Open,
    FaultOp::Create,
    FaultOp::OpenWrite,
    FaultOp::Map,
    FaultOp::Rename,
    FaultOp::Remove,
    FaultOp::List,
    FaultOp::SyncDir,
    FaultOp::Read,
    FaultOp::Write,
    FaultOp::Sync,
    FaultOp::SetLen,
    FaultOp::Len,
];

#[test]
fn no_failing_call_takes_what_was_acknowledged() {
    const EMFILE: i32 = 24;
    let mut cells = 0;
    for op in OPERATIONS {
        for errno in [Fault::EIO, Fault::ENOSPC, EMFILE] {
            for skipped in 0.. {
                let memory = MemoryFs::new();
                let plan = FaultPlan::new();
                let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
                plan.add(Fault::on(op).after(skipped).errno(errno));
                let mut contents = Contents::new();
                for _ in 0..2 {
                    // A start may be refused by a passing error; the next one has everything.
                    if let Ok(store) = try_open(Arc::clone(&fs)) {
                        work(&store, |samples| contents.extend(as_contents(samples)));
                    }
                }
                let hit = plan.hits() > 0;
                plan.clear();
                let image = memory.crash_image(memory.log_len(), CrashChoice::Nothing);
                let store = open(&image);
                let found = read(&store);
                let lost = contents.iter().find(|(key, bits)| found.get(key) != Some(bits));
                assert_eq!(lost, None, "{op:?} number {skipped} failed with {errno}");
                cells += 1;
                if !hit {
                    break;
                }
            }
        }
    }
    assert!(cells > 300, "{cells}");
}

#[test]
fn a_transient_error_at_the_checkpoint_costs_nothing() {
    let memory = MemoryFs::new();
    let store = open(&memory);
    let mut contents = Contents::new();
    work(&store, |samples| contents.extend(as_contents(samples)));
    let mut batch = store.batch();
    let series = batch.series_labels(&labels(0)).unwrap();
    batch.sample(series, NOW + 50_000, 5.0);
    store.append(batch).unwrap();
    contents.extend(as_contents(&[(0, NOW + 50_000, 5.0)]));
    drop(store);
    let plan = FaultPlan::new();
    let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
    plan.add(Fault::on(FaultOp::Open).path(".ckpt").errno(24).forever());
    if let Ok(store) = try_open(Arc::clone(&fs)) {
        drop(store);
    }
    plan.clear();
    assert_eq!(read(&open(&memory)), contents);
}

#[test]
fn a_rebuilt_manifest_changes_no_answer() {
    let memory = MemoryFs::new();
    let store = open(&memory);
    let put = |time: i64, value: f64| {
        let mut batch = store.batch();
        let series = batch.series_labels(&labels(0)).unwrap();
        batch.sample(series, time, value);
        store.append(batch).unwrap();
    };
    put(NOW, 1.0);
    for step in 1..300 {
        put(NOW + step, 0.1 * step as f64);
    }
    // The segments of this flush are kept to be written again.
    store.flush().unwrap();
    put(NOW, 2.0);
    store.flush().unwrap();
    put(NOW + 500, 1.0);
    let before = read(&store);
    store.close().unwrap();
    memory.remove(Path::new("/data/MANIFEST")).unwrap();
    let store = open(&memory);
    assert_eq!(read(&store), before);
}

#[test]
fn a_lower_limit_of_series_loses_none() {
    let memory = MemoryFs::new();
    let store = open(&memory);
    let mut contents = Contents::new();
    for i in 0..50 {
        let mut batch = store.batch();
        let series = batch.series_labels(&labels(i)).unwrap();
        batch.sample(series, NOW, 1.0);
        store.append(batch).unwrap();
        contents.extend(as_contents(&[(i, NOW, 1.0)]));
    }
    store.close().unwrap();
    let mut fewer = options();
    fewer.limits.series = 10;
    let store = Storage::open_with(Arc::new(memory), Arc::new(SimClock::new(NOW)), Path::new("/data"), fewer)
        .unwrap();
    assert_eq!(read(&store), contents);
    let refusal = store.batch().series_labels(&labels(51)).unwrap_err();
    assert_eq!(refusal.kind, ErrorKind::LimitExceeded);
    assert!(store.batch().series_labels(&labels(7)).is_ok());
}

#[test]
fn metadata_survives_the_release_of_its_log() {
    let memory = MemoryFs::new();
    let store = open(&memory);
    work(&store, |_| ());
    store.flush().unwrap();
    store.flush().unwrap();
    let said = store.metadata();
    assert_eq!(said[0].1.help, "step 13");
    drop(store);
    for _ in 0..2 {
        let store = open(&memory);
        assert_eq!(store.metadata(), said);
        store.flush().unwrap();
    }
}

#[test]
fn a_device_that_fails_to_read_once_costs_nothing() {
    let memory = MemoryFs::new();
    let store = open(&memory);
    work(&store, |_| {});
    store.flush().unwrap();
    let odd = [vec![Matcher::equal("i", "1")]];
    assert_eq!(store.delete(TimeRange::ALL, &odd).unwrap().series, 1);
    let mut batch = store.batch();
    let series = batch.series_labels(&labels(0)).unwrap();
    batch.sample(series, NOW + 50_000, 5.0);
    store.append(batch).unwrap();
    let contents = read(&store);
    drop(store);
    let all = [FaultOp::Map, FaultOp::Open, FaultOp::Read].into_iter();
    let places = all.flat_map(|op| ["TOMBSTONES", ".block", ".ckpt", ".wal"].map(|part| (op, part)));
    // A folder that cannot be listed is not an empty one.
    let places = places.chain(["head", "blocks"].map(|part| (FaultOp::List, part)));
    let mut hits = 0;
    for (op, part) in places {
        let image = memory.crash_image(memory.log_len(), CrashChoice::Everything);
        let plan = FaultPlan::new();
        plan.add(Fault::on(op).path(part));
        let store = try_open(Arc::new(FaultFs::new(image, plan.clone()))).unwrap();
        hits += plan.hits();
        // What queries read is not the subject here.
        plan.clear();
        assert_eq!(read(&store), contents, "{op:?} of {part}");
    }
    assert!(hits >= 7, "{hits}");
}

/// What a device refuses to read at one start comes back at the next one; once a flush has let go of it, it is kept as it was, and its
/// loss is told of at every start until somebody takes it away. So it is wherever the power is cut.
#[test]
fn what_could_not_be_read_comes_back_or_is_told_of() {
    let memory = MemoryFs::new();
    let store = open(&memory);
    work(&store, |_| {});
    let contents = read(&store);
    drop(store);
    let newest = memory.list(Path::new("/data/wal")).unwrap().pop().unwrap();
    let name = newest.file_name().unwrap().to_str().unwrap();
    let original = memory.map(&newest).unwrap().to_vec();
    let aside = |fs: &MemoryFs| fs.list(Path::new("/data/quarantine")).unwrap_or_default();
    let has_all = |store: &Storage| {
        let found = found(store);
        contents.iter().all(|(key, bits)| found.get(key) == Some(bits))
    };
    // One segment, the whole log, the names of all series; and what keeps a segment fails as well.
    let cases = [
        (FaultOp::Read, name, None),
        (FaultOp::Open, name, None),
        (FaultOp::Read, ".wal", None),
        (FaultOp::Read, ".ckpt", None),
        (FaultOp::Read, name, Some(FaultOp::Link)),
    ];
    for (op, part, also) in cases {
        let image = memory.crash_image(memory.log_len(), CrashChoice::Everything);
        let plan = FaultPlan::new();
        plan.add(Fault::on(op).path(part).errno(Fault::EIO).forever());
        also.into_iter().for_each(|op| plan.add(Fault::on(op).forever()));
        let store = try_open(Arc::new(FaultFs::new(image.clone(), plan.clone()))).unwrap();
        assert!(plan.hits() > 0 && !has_all(&store), "{op:?} of {part}");
        assert_eq!(warnings(&store).len(), 1, "{op:?} of {part}");
        plan.clear();
        let opened = image.log_len();
        let mut batch = store.batch();
        let series = batch.series_labels(&labels(SERIES)).unwrap();
        batch.sample(series, NOW, 7.0);
        store.append(batch).unwrap();
        let acknowledged = image.log_len();
        store.flush().unwrap();
        drop(store);
        for at in 0..=image.log_len() {
            for choice in [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::Seed(at as u64)] {
                let left = image.crash_image(at, choice);
                let what = format!("{op:?} of {part}, cut at {at}, {choice:?}");
                let mut store = open(&left);
                let is_whole = has_all(&store);
                let has_late = found(&store).contains_key(&(labels(SERIES).to_string(), NOW));
                assert!(has_late || at < acknowledged, "{what}");
                assert_eq!(warnings(&store).is_empty(), is_whole, "{what}: {:?}", warnings(&store));
                if part.ends_with(".wal") {
                    let bytes = |path: &Path| left.map(path).unwrap().to_vec();
                    assert!(is_whole || aside(&left).iter().any(|p| bytes(p) == original), "{what}");
                    assert!(at > opened || (is_whole && aside(&left).is_empty()), "{what}");
                }
                for _ in 0..2 {
                    // It is told of as long as it is there, and no other file takes its place.
                    store.flush().unwrap();
                    drop(store);
                    store = open(&left);
                    assert_eq!(warnings(&store).is_empty(), is_whole, "{what}: {:?}", warnings(&store));
                }
            }
        }
        let told = open(&image);
        assert_eq!(warnings(&told).len(), 1, "{op:?} of {part}: {:?}", warnings(&told));
        drop(told);
        aside(&image).iter().for_each(|path| image.remove(path).unwrap());
        assert_eq!(warnings(&open(&image)), [""; 0], "{op:?} of {part}");
    }
}

fn open_log(fs: &MemoryFs) -> (Wal, ReplayReport) {
    let clock = Arc::new(SimClock::new(NOW));
    let options = WalOptions { prepare_in_background: false, ..WalOptions::default() };
    Wal::open(Arc::new(fs.clone()), clock, Path::new("/data/wal"), options, 0, &mut Nothing).unwrap()
}

/// Sectors of one write reach the disk in any order: of a group that nobody was promised, a request may be gone and a later one
/// whole. That is no damage, neither at the next start nor at those after it, when newer segments count what was there.
#[test]
fn a_group_torn_in_its_middle_is_never_taken_for_damage() {
    let mut broken = 0;
    for seed in 0..100 {
        let fs = MemoryFs::new();
        let (mut wal, _) = open_log(&fs);
        let requests = |wal: &mut Wal, count: i64| {
            for n in 0..count {
                let (ids, values): (Vec<u32>, Vec<f64>) =
                    (0..40).map(|id| (id, f64::from(id) + n as f64 / 7.0)).unzip();
                let samples = SamplesRecord { ids: &ids, timestamps: &[n; 40], values: &values, starts: &[] };
                wal.push_samples(samples).unwrap();
            }
            wal.commit().unwrap();
        };
        requests(&mut wal, 1);
        requests(&mut wal, 5);
        // All is written, and not yet synced.
        let fs = fs.crash_image(fs.log_len() - 1, CrashChoice::Seed(seed));
        let mut known = open_log(&fs).1.samples;
        for start in 0..4 {
            let (mut wal, report) = open_log(&fs);
            assert!(
                !report.is_damaged() && report.samples == known,
                "seed {seed}, start {start}: {report:?}"
            );
            broken += usize::from(report.torn_frames > 0);
            requests(&mut wal, 1);
            known += 40;
        }
    }
    assert!(broken >= 40, "{broken} starts met a request that is torn before one that is whole");
}

/// A log of sound checksums that gives series numbers no store would: what it names is served, memory goes by what it names, and the
/// series keep their samples over further restarts, in which the log has them under two numbers.
#[test]
fn a_log_may_give_series_any_numbers() {
    const FAR: [u32; 4] = [u32::MAX, 1 << 26, 3, 40_000_000];
    let fs = MemoryFs::new();
    let (mut wal, _) = open_log(&fs);
    let mut expected = Contents::new();
    for (i, id) in FAR.into_iter().enumerate() {
        wal.push_series([(id, labels(i).as_bytes())]).unwrap();
        let record = SamplesRecord { ids: &[id], timestamps: &[NOW], values: &[i as f64], starts: &[] };
        wal.push_samples(record).unwrap();
        expected.insert((labels(i).to_string(), NOW), (i as f64).to_bits());
    }
    wal.commit().unwrap();
    wal.close().unwrap();
    for round in 1..5 {
        let store = open(&fs);
        assert_eq!(read(&store), expected, "start {round}");
        let stats = store.stats();
        assert!(stats.registry_bytes + stats.head_bytes < 8 << 20, "{stats:?}");
        let mut batch = store.batch();
        // Those of the log, and one that is new in this round.
        for i in 0..FAR.len() + round {
            let id = batch.series_labels(&labels(i)).unwrap();
            batch.sample(id, NOW + round as i64, 0.5);
            expected.insert((labels(i).to_string(), NOW + round as i64), 0.5f64.to_bits());
        }
        store.append(batch).unwrap();
        assert_eq!(read(&store), expected, "round {round}");
        if round == 3 {
            store.flush().unwrap();
        }
    }
}

/// Looks at nothing that is in a log.
struct Nothing;

impl ReplayVisitor for Nothing {
    fn series(&mut self, _id: u32, _labels: &[u8]) -> kymo_storage::Result<()> {
        Ok(())
    }

    fn samples(&mut self, _samples: SamplesRecord<'_>) -> kymo_storage::Result<()> {
        Ok(())
    }

    fn histograms(&mut self, _histograms: HistogramsRecord<'_>) -> kymo_storage::Result<()> {
        Ok(())
    }

    fn exemplars(&mut self, _exemplars: &[ExemplarRecord<'_>]) -> kymo_storage::Result<()> {
        Ok(())
    }

    fn metadata(&mut self, _family: &str, _metadata: &Metadata) -> kymo_storage::Result<()> {
        Ok(())
    }
}

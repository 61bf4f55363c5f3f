//! The log under cuts, flipped bits, failing calls and power cuts: what was acknowledged comes back, nothing else does.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests stop at the first surprise")]

mod damage;

use kymo_storage::chunk::encode_one_histogram;
use kymo_storage::env::{
    Clock, CrashChoice, DiskFs, Fault, FaultFs, FaultOp, FaultPlan, Fs, MemoryFs, SimClock, SystemClock,
};
use kymo_storage::model::{AnyHistogram, Buckets, IntHistogram, Metadata, MetricType};
use kymo_storage::wal::{
    Durability, ExemplarRecord, HistogramsRecord, ReplayReport, ReplayVisitor, SamplesRecord, Syncs, Wal,
    WalOptions,
};
use kymo_storage::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const DIR: &str = "/data/wal";
const SEGMENT_BYTES: u64 = 4096;

/// What a replay gave, in order; samples by the bits of their values.
#[derive(Debug, Default, Clone, PartialEq)]
struct Seen {
    series: Vec<(u32, Vec<u8>)>,
    samples: Vec<Vec<(u32, i64, u64)>>,
    histograms: Vec<(u32, i64, Vec<u8>)>,
    exemplars: Vec<(u32, i64, u64, Vec<u8>)>,
    metadata: Vec<(String, Metadata)>,
}

impl ReplayVisitor for Seen {
    fn series(&mut self, id: u32, labels: &[u8]) -> Result<()> {
        self.series.push((id, labels.to_vec()));
        Ok(())
    }

    fn samples(&mut self, samples: SamplesRecord<'_>) -> Result<()> {
        let rows = samples.ids.iter().zip(samples.timestamps).zip(samples.values);
        self.samples.push(rows.map(|((id, t), v)| (*id, *t, v.to_bits())).collect());
        Ok(())
    }

    fn histograms(&mut self, record: HistogramsRecord<'_>) -> Result<()> {
        let rows = record.ids.iter().zip(record.timestamps).zip(record.histograms);
        self.histograms.extend(rows.map(|((id, t), bytes)| (*id, *t, bytes.to_vec())));
        Ok(())
    }

    fn exemplars(&mut self, exemplars: &[ExemplarRecord<'_>]) -> Result<()> {
        let row = |e: &ExemplarRecord<'_>| (e.id, e.timestamp, e.value.to_bits(), e.labels.to_vec());
        self.exemplars.extend(exemplars.iter().map(row));
        Ok(())
    }

    fn metadata(&mut self, family: &str, metadata: &Metadata) -> Result<()> {
        self.metadata.push((family.to_owned(), metadata.clone()));
        Ok(())
    }
}

impl Seen {
    /// The numbers of the requests that are there: request `n` has timestamp `n`.
    fn requests(&self) -> Vec<i64> {
        self.samples.iter().map(|rows| rows[0].1).collect()
    }
}

fn options() -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES, prepare_in_background: false, ..WalOptions::default() }
}

fn open_with(fs: &Arc<dyn Fs>, options: WalOptions, first: u64) -> (Wal, ReplayReport, Seen) {
    let mut seen = Seen::default();
    let clock = Arc::new(SimClock::new(1_000));
    let (wal, report) = Wal::open(Arc::clone(fs), clock, Path::new(DIR), options, first, &mut seen).unwrap();
    (wal, report, seen)
}

fn open(fs: &MemoryFs) -> (Wal, ReplayReport, Seen) {
    open_with(&(Arc::new(fs.clone()) as Arc<dyn Fs>), options(), 0)
}

/// Request `n`: forty samples at timestamp `n`, with values that do not compress away.
fn rows(n: i64) -> (Vec<u32>, Vec<i64>, Vec<f64>) {
    let ids: Vec<u32> = (0..40).collect();
    let values = ids.iter().map(|id| f64::from(*id) + n as f64 / 7.0).collect();
    (ids, vec![n; 40], values)
}

fn push(wal: &mut Wal, n: i64) {
    let (ids, timestamps, values) = rows(n);
    let record = SamplesRecord { ids: &ids, timestamps: &timestamps, values: &values, starts: &[] };
    wal.push_samples(record).unwrap();
}

fn append(wal: &mut Wal, n: i64) -> Result<()> {
    push(wal, n);
    wal.commit()
}

/// A log of `count` requests, one a commit, not closed.
fn filled(count: i64) -> MemoryFs {
    let fs = MemoryFs::new();
    let (mut wal, ..) = open(&fs);
    for n in 0..count {
        append(&mut wal, n).unwrap();
    }
    fs
}

fn segments(fs: &dyn Fs) -> Vec<PathBuf> {
    fs.list(Path::new(DIR)).unwrap()
}

/// A copy of `fs` with `change` made to one file.
fn altered(fs: &MemoryFs, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> MemoryFs {
    let copy = fs.crash_image(fs.log_len(), CrashChoice::Everything);
    let mut bytes = copy.map(path).unwrap().to_vec();
    change(&mut bytes);
    let file = copy.open_write(path).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(&bytes, 0).unwrap();
    copy
}

#[test]
fn records_come_back_in_order_over_restarts() {
    let fs = MemoryFs::new();
    let metadata = Metadata { metric_type: MetricType::Counter, unit: "s".into(), help: "h".into() };
    let (mut wal, report, _) = open(&fs);
    assert_eq!(report, ReplayReport::default());
    let long = vec![7u8; 300_000];
    wal.push_series([(0, &b"a"[..]), (1, &long[..]), (2, &b"c"[..])]).unwrap();
    push(&mut wal, 0);
    wal.push_metadata(&[("up", &metadata)]).unwrap();
    wal.commit().unwrap();
    push(&mut wal, 99);
    wal.discard();
    wal.commit().unwrap();
    append(&mut wal, 1).unwrap();
    wal.close().unwrap();
    for restart in 0..3 {
        let (mut wal, report, seen) = open(&fs);
        assert_eq!(seen.series, [(0, b"a".to_vec()), (1, long.clone()), (2, b"c".to_vec())]);
        assert_eq!(seen.metadata, [("up".to_owned(), metadata.clone())]);
        assert_eq!(seen.requests(), (0..2 + restart).collect::<Vec<_>>());
        let (_, _, values) = rows(1);
        assert_eq!(seen.samples[1][5].2, values[5].to_bits());
        assert!(report.clean_end && !report.is_damaged(), "{report:?}");
        append(&mut wal, 2 + restart).unwrap();
        wal.close().unwrap();
    }
}

#[test]
fn a_real_disk_with_background_preparation_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(DiskFs);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let path = dir.path().join("wal");
    let options = WalOptions { segment_bytes: 64 << 10, spare_segments: 1, ..WalOptions::default() };
    let mut expected = Vec::new();
    let mut boundary = 0;
    for round in 0..3i64 {
        let mut seen = Seen::default();
        let (mut wal, report) =
            Wal::open(Arc::clone(&fs), Arc::clone(&clock), &path, options.clone(), boundary, &mut seen)
                .unwrap();
        assert!(!report.is_damaged(), "{report:?}");
        assert_eq!(seen.requests(), expected);
        for n in round * 1000..round * 1000 + 600 {
            append(&mut wal, n).unwrap();
            expected.push(n);
        }
        boundary = wal.cut().unwrap();
        wal.release_before(boundary).unwrap();
        expected.clear();
        for n in round * 1000 + 600..round * 1000 + 900 {
            append(&mut wal, n).unwrap();
            expected.push(n);
        }
        assert!(wal.live_bytes() > 0 && wal.first_sequence() == boundary);
    }
}

/// What failed, and what the log then is.
struct Failure {
    name: &'static str,
    fault: Fault,
    /// Whether the commit of request 5 fails.
    fails: bool,
    poisons: bool,
}

#[test]
fn failing_calls() {
    let write = || Fault::on(FaultOp::Write).path(".wal");
    let table = [
        Failure { name: "write", fault: write(), fails: true, poisons: false },
        Failure { name: "full disk", fault: write().errno(Fault::ENOSPC), fails: true, poisons: false },
        Failure {
            name: "short write",
            fault: write().short_write(700, Fault::ENOSPC),
            fails: true,
            poisons: false,
        },
        Failure {
            name: "late short write",
            fault: write().short_write(1 << 20, Fault::EIO),
            fails: true,
            poisons: false,
        },
        Failure { name: "sync", fault: Fault::on(FaultOp::Sync), fails: true, poisons: true },
        Failure {
            name: "write forever",
            fault: write().short_write(30, Fault::EIO).forever(),
            fails: true,
            poisons: true,
        },
        Failure {
            name: "slow sync",
            fault: Fault::on(FaultOp::Sync).delay(Duration::from_millis(1)),
            fails: false,
            poisons: false,
        },
    ];
    for recycled in [false, true] {
        for failure in &table {
            failing_call(failure, recycled);
        }
    }
}

fn failing_call(failure: &Failure, recycled: bool) {
    let name = failure.name;
    // A file that grew is cut back by its size, without a write.
    let poisons = failure.poisons && (recycled || name != "write forever");
    let memory = MemoryFs::new();
    let plan = FaultPlan::new();
    let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
    let options = WalOptions { segment_bytes: 1 << 20, ..options() };
    let (mut wal, ..) = open_with(&fs, options.clone(), 0);
    let mut first = 0;
    if recycled {
        // A segment that will be written again, so that the failing write changes no size.
        for n in 100..140 {
            append(&mut wal, n).unwrap();
        }
        first = wal.cut().unwrap();
        wal.release_before(first).unwrap();
    }
    for n in 0..5 {
        append(&mut wal, n).unwrap();
    }
    plan.add(failure.fault.clone());
    // What is cut back is longer than what is cut back at a time.
    let group: Vec<i64> = (1_000..1_300).collect();
    for n in &group {
        push(&mut wal, *n);
    }
    let failed = wal.commit();
    assert_eq!(failed.is_err(), failure.fails, "{name}");
    assert_eq!(wal.poisoned().is_some(), poisons, "{name}: {:?}", wal.poisoned());
    plan.clear();
    let later = append(&mut wal, 7);
    if poisons {
        assert_eq!(later.unwrap_err().kind(), ErrorKind::Unavailable, "{name}");
        assert!(wal.sync().is_err() && wal.cut().is_err(), "{name}");
    } else {
        later.unwrap();
    }
    drop(wal);
    // After a restart, and after a power cut as well: what was acknowledged is there, what was cut back is not.
    for choice in [CrashChoice::Everything, CrashChoice::Nothing, CrashChoice::LastTorn] {
        let image = memory.crash_image(memory.log_len(), choice);
        let (_, report, seen) = open_with(&(Arc::new(image) as Arc<dyn Fs>), options.clone(), first);
        let mut got = seen.requests();
        assert!(!report.is_damaged(), "{name}: {report:?}");
        if poisons {
            // Unknown to the sender: it may be there or not.
            got.retain(|n| !group.contains(n));
            assert_eq!(got, [0, 1, 2, 3, 4], "{name}");
        } else if failure.fails {
            assert_eq!(got, [0, 1, 2, 3, 4, 7], "{name} recycled={recycled} {choice:?}");
        } else {
            assert_eq!(got, [&[0, 1, 2, 3, 4][..], &group, &[7]].concat(), "{name}");
        }
    }
}

#[test]
fn what_syncs_take_is_told_once() {
    const DELAY: Duration = Duration::from_millis(20);
    let plan = FaultPlan::new();
    let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(MemoryFs::new(), plan.clone()));
    let clock = Arc::new(SystemClock::new());
    let mut wal = Wal::open(fs, clock, Path::new(DIR), options(), 0, &mut Seen::default()).unwrap().0;
    append(&mut wal, 0).unwrap();
    wal.take_syncs();
    plan.add(Fault::on(FaultOp::Sync).path(".wal").delay(DELAY).forever());
    for n in 1..4 {
        append(&mut wal, n).unwrap();
    }
    let syncs = wal.take_syncs();
    assert!(syncs.count == 3 && syncs.time >= 3 * DELAY, "{syncs:?}");
    assert_eq!(wal.take_syncs(), Syncs::default());
}

#[test]
fn a_segment_that_cannot_be_made_is_made_later() {
    for op in [FaultOp::Create, FaultOp::SyncDir] {
        let plan = FaultPlan::new();
        let memory = MemoryFs::new();
        let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(memory.clone(), plan.clone()));
        let (mut wal, ..) = open_with(&fs, options(), 0);
        plan.add(Fault::on(op).errno(Fault::ENOSPC));
        let error = append(&mut wal, 0).unwrap_err();
        assert_eq!(error.io_kind(), Some(std::io::ErrorKind::StorageFull));
        assert!(wal.poisoned().is_none());
        append(&mut wal, 1).unwrap();
        assert_eq!(open(&memory.crash_image(memory.log_len(), CrashChoice::Nothing)).2.requests(), [1]);
    }
}

#[test]
fn an_open_that_cannot_sync_gives_a_poisoned_log() {
    let plan = FaultPlan::new();
    let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(filled(3), plan.clone()));
    plan.add(Fault::on(FaultOp::Sync));
    let (mut wal, _, seen) = open_with(&fs, options(), 0);
    assert_eq!(seen.requests(), [0, 1, 2]);
    assert!(wal.poisoned().is_some());
    assert_eq!(append(&mut wal, 3).unwrap_err().kind(), ErrorKind::Unavailable);
}

/// A run with rotation, release and reuse; answers, after each acknowledged step, the log's length, the requests
/// acknowledged and the boundary below which segments are released.
fn scripted(durability: Durability) -> (MemoryFs, Vec<(usize, Vec<i64>, u64)>) {
    let fs = MemoryFs::new();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let (mut wal, ..) = open_with(&shared, WalOptions { durability, ..options() }, 0);
    let mut acked = Vec::new();
    let mut boundary = 0;
    let mut steps = vec![(fs.log_len(), acked.clone(), boundary)];
    for n in 0..60 {
        append(&mut wal, n).unwrap();
        acked.push(n);
        steps.push((fs.log_len(), acked.clone(), boundary));
        if n % 12 == 11 {
            let next = wal.cut().unwrap();
            assert!(next > boundary);
            boundary = next;
            acked.clear();
            // What stands for the flush: from here on only segments from the boundary on are needed.
            steps.push((fs.log_len(), acked.clone(), boundary));
            wal.release_before(boundary).unwrap();
        }
    }
    (fs, steps)
}

/// Opens the image of a crash and compares with the steps before and after it.
fn judge(image: MemoryFs, done: &(usize, Vec<i64>, u64), next: Option<&(usize, Vec<i64>, u64)>, what: &str) {
    let (_, report, seen) = open_with(&(Arc::new(image) as Arc<dyn Fs>), options(), done.2);
    let got = seen.requests();
    assert!(got.starts_with(&done.1), "{what}: acknowledged {:?}, found {got:?}", done.1);
    let surplus = &got[done.1.len()..];
    let unknown = next.map_or(&[][..], |n| n.1.as_slice());
    assert!(surplus.iter().all(|n| unknown.contains(n)), "{what}: invented {surplus:?}");
    assert!(!report.is_damaged(), "{what}: {report:?}");
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_acknowledged() {
    let (fs, steps) = scripted(Durability::Sync);
    let mut states = 0;
    for at in 0..=fs.log_len() {
        let step = steps.partition_point(|s| s.0 <= at);
        let Some(done) = step.checked_sub(1).map(|s| &steps[s]) else { continue };
        let mut choices = vec![CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::LastTorn];
        choices.extend((0..fs.unsynced(at)).map(CrashChoice::AllBut));
        choices.extend((0..4).map(|s| CrashChoice::Seed(s + 10 * at as u64)));
        for choice in choices {
            judge(fs.crash_image(at, choice), done, steps.get(step), &format!("at {at}, {choice:?}"));
            states += 1;
        }
    }
    assert!(states > 1000, "{states}");
}

#[test]
fn interval_and_os_lose_only_what_they_may() {
    for durability in [Durability::Interval(Duration::from_secs(1)), Durability::Os] {
        let (fs, steps) = scripted(durability);
        for (number, step) in steps.iter().enumerate() {
            // A kill of the process: everything written is there.
            let image = fs.crash_image(step.0, CrashChoice::Everything);
            judge(image, step, None, &format!("{durability:?}, step {number}"));
            let image = fs.crash_image(step.0, CrashChoice::Seed(number as u64));
            let (_, _, seen) = open_with(&(Arc::new(image) as Arc<dyn Fs>), options(), step.2);
            assert!(seen.requests().is_sorted());
        }
    }
}

#[test]
fn an_interval_syncs_when_it_is_over() {
    let plan = FaultPlan::new();
    let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(MemoryFs::new(), plan.clone()));
    let clock = SimClock::new(0);
    let options = WalOptions { durability: Durability::Interval(Duration::from_secs(1)), ..options() };
    let (mut wal, _) =
        Wal::open(fs, Arc::new(clock.clone()), Path::new(DIR), options, 0, &mut Seen::default()).unwrap();
    assert_eq!(wal.sync_due_in(), None);
    append(&mut wal, 0).unwrap();
    clock.advance(Duration::from_millis(900));
    append(&mut wal, 1).unwrap();
    assert_eq!((plan.calls(FaultOp::Sync), wal.sync_due_in()), (0, Some(Duration::from_millis(100))));
    clock.advance(Duration::from_millis(100));
    wal.sync_if_due().unwrap();
    assert_eq!((plan.calls(FaultOp::Sync), wal.sync_due_in()), (1, None));
}

#[test]
fn a_segment_used_again_yields_nothing_of_its_past() {
    let fs = MemoryFs::new();
    let shared: Arc<dyn Fs> = Arc::new(fs.clone());
    let (mut wal, ..) = open_with(&shared, options(), 0);
    let mut renamed = 0;
    for round in 0..20i64 {
        let before = segments(&fs).len();
        for n in 0..10 {
            append(&mut wal, round * 100 + n).unwrap();
        }
        renamed += usize::from(round > 2 && segments(&fs).len() <= before + 1);
        let boundary = wal.cut().unwrap();
        wal.release_before(boundary).unwrap();
        append(&mut wal, round * 100 + 50).unwrap();
        let (_, report, seen) = open_with(&shared, options(), boundary);
        assert_eq!(seen.requests(), [round * 100 + 50], "round {round}");
        assert!(!report.is_damaged(), "{report:?}");
        let (_, report, _) =
            open_with(&(Arc::new(fs.crash_image(fs.log_len(), CrashChoice::Everything)) as _), options(), 0);
        assert!(report.undecodable_frames == 0);
        let boundary = wal.cut().unwrap();
        wal.release_before(boundary).unwrap();
    }
    assert!(renamed > 0, "no segment was used again");
    assert!(segments(&fs).len() <= 4, "{:?}", segments(&fs));
}

#[test]
fn boundaries_only_grow() {
    let fs = MemoryFs::new();
    let (mut wal, ..) = open(&fs);
    assert_eq!((wal.cut().unwrap(), wal.cut().unwrap()), (1, 1));
    append(&mut wal, 0).unwrap();
    assert_eq!((wal.cut().unwrap(), wal.cut().unwrap()), (2, 2));
    wal.release_before(2).unwrap();
    drop(wal);
    let (mut wal, _, seen) = open_with(&(Arc::new(fs.clone()) as Arc<dyn Fs>), options(), 2);
    assert!(seen.samples.is_empty());
    append(&mut wal, 1).unwrap();
    assert!(wal.cut().unwrap() > 2);
    assert_eq!(open_with(&(Arc::new(fs) as Arc<dyn Fs>), options(), 2).2.requests(), [1]);
}

#[test]
fn histograms_come_back_and_damage_costs_one_record() {
    let fs = MemoryFs::new();
    let (mut wal, _, _) = open(&fs);
    let histogram = |n: u64| {
        let positive = Buckets::run(n as i32, vec![n, n + 1]).unwrap();
        let histogram = IntHistogram { count: 2 * n + 1, sum: 0.5, positive, ..IntHistogram::default() };
        let mut out = Vec::new();
        encode_one_histogram(&AnyHistogram::Int(histogram), &mut out);
        out
    };
    for n in 0..5 {
        append(&mut wal, n).unwrap();
        let (a, b) = (histogram(n as u64), histogram(n as u64 + 7));
        let record =
            HistogramsRecord { ids: &[1, 9], timestamps: &[n, n], histograms: &[&a, &b], starts: &[] };
        wal.push_histograms(record).unwrap();
        wal.commit().unwrap();
    }
    drop(wal);
    let (_, report, whole) = open(&fs.crash_image(fs.log_len(), CrashChoice::Nothing));
    assert!(!report.is_damaged(), "{report:?}");
    assert_eq!((whole.histograms.len(), whole.requests().len()), (10, 5));
    assert_eq!(whole.histograms[5], (9, 2, histogram(9)));
    let path = segments(&fs)[0].clone();
    let bytes = fs.map(&path).unwrap().to_vec();
    let wanted = histogram(9);
    let at = bytes.windows(wanted.len()).position(|w| w == wanted).unwrap();
    let damaged = altered(&fs, &path, |bytes| bytes[at + 4] ^= 1);
    let (_, report, seen) = open(&damaged);
    assert!(report.is_damaged() && report.lost_frames == 1, "{report:?}");
    assert_eq!((seen.histograms.len(), seen.requests().len()), (8, 5));
    assert!(seen.histograms.iter().all(|h| h.1 != 2));
}

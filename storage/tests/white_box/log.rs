//! The log cut at every byte of its last 64 KiB, with a bit flipped in every byte, and with a first write of a segment that fails
//! anywhere in its header.

use super::{MemoryFs, bytes_of, image, put, sampled};
use kymo_storage::Result;
use kymo_storage::env::{CrashChoice, Fault, FaultFs, FaultOp, FaultPlan, Fs, SimClock};
use kymo_storage::model::Metadata;
use kymo_storage::wal::{
    ExemplarRecord, HistogramsRecord, ReplayReport, ReplayVisitor, SamplesRecord, Wal, WalOptions,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LOG: &str = "/data/wal";
const TAIL: usize = 64 << 10;

/// The numbers of the requests that come back.
#[derive(Default)]
struct Requests(Vec<i64>);

impl ReplayVisitor for Requests {
    fn series(&mut self, _id: u32, _labels: &[u8]) -> Result<()> {
        Ok(())
    }

    fn samples(&mut self, samples: SamplesRecord<'_>) -> Result<()> {
        let number = samples.timestamps[0];
        let sound = (0..40).map(|i| f64::from(i) + number as f64 / 7.0);
        assert!(samples.values.iter().copied().eq(sound), "request {number} is not what was written");
        self.0.push(number);
        Ok(())
    }

    fn histograms(&mut self, _histograms: HistogramsRecord<'_>) -> Result<()> {
        Ok(())
    }

    fn exemplars(&mut self, _exemplars: &[ExemplarRecord<'_>]) -> Result<()> {
        Ok(())
    }

    fn metadata(&mut self, _family: &str, _metadata: &Metadata) -> Result<()> {
        Ok(())
    }
}

fn open(fs: &MemoryFs) -> (Wal, ReplayReport, Vec<i64>) {
    open_from(Arc::new(fs.clone()), 0)
}

fn open_from(fs: Arc<dyn Fs>, first: u64) -> (Wal, ReplayReport, Vec<i64>) {
    let options = WalOptions {
        segment_bytes: 1 << 20,
        prepare_in_background: false,
        nonce: 3,
        ..WalOptions::default()
    };
    let mut requests = Requests::default();
    let (wal, report) =
        Wal::open(fs, Arc::new(SimClock::new(0)), Path::new(LOG), options, first, &mut requests).unwrap();
    (wal, report, requests.0)
}

/// Request `number`: forty samples whose values do not compress away.
fn append(wal: &mut Wal, number: i64) -> Result<()> {
    let ids: Vec<u32> = (0..40).collect();
    let values: Vec<f64> = (0..40).map(|i| f64::from(i) + number as f64 / 7.0).collect();
    let record = SamplesRecord { ids: &ids, timestamps: &[number; 40], values: &values, starts: &[] };
    wal.push_samples(record)?;
    wal.commit()
}

/// A log of one segment of more than 64 KiB: its file, and where each request ends.
fn filled() -> (MemoryFs, PathBuf, Vec<usize>) {
    let fs = MemoryFs::new();
    let (mut wal, ..) = open(&fs);
    let mut ends = Vec::new();
    while wal.live_bytes() < TAIL as u64 + 4096 {
        append(&mut wal, ends.len() as i64).unwrap();
        ends.push(wal.live_bytes() as usize);
    }
    drop(wal);
    fs.settle();
    let path = fs.list(Path::new(LOG)).unwrap().remove(0);
    (fs, path, ends)
}

#[test]
fn a_log_cut_anywhere_keeps_what_lies_before() {
    let (fs, path, ends) = filled();
    let whole = bytes_of(&fs, &path);
    let last = *ends.last().unwrap();
    let mut opened = 0;
    for offset in sampled(TAIL) {
        let cut = last - offset;
        let torn = image(&fs);
        put(&torn, &path, &whole[..cut]);
        let (_, report, found) = open(&torn);
        let before = ends.iter().filter(|end| **end <= cut).count() as i64;
        assert_eq!(found, (0..before).collect::<Vec<_>>(), "cut at {cut}");
        assert!(!report.is_damaged(), "cut at {cut}: {report:?}");
        opened += 1;
    }
    println!("torn offsets={opened} opened={opened} lost_before_cut=0 invented=0");
}

#[test]
fn a_flipped_bit_of_a_log_costs_its_request() {
    let (fs, path, ends) = filled();
    let whole = bytes_of(&fs, &path);
    let last = *ends.last().unwrap();
    let (mut flips, mut lost_most) = (0, 0);
    for at in sampled(last) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let damaged = image(&fs);
        put(&damaged, &path, &bytes);
        let (_, report, found) = open(&damaged);
        let lost = ends.len() - found.len();
        assert!(lost <= 1 && found.is_sorted(), "a bit at {at} loses {lost} requests");
        // What nobody can tell from a write that was under way when the power went is the last request only.
        let is_last = lost == 1 && !found.contains(&(ends.len() as i64 - 1));
        assert!(report.lost_frames == lost as u64 || is_last, "a bit at {at}: {report:?}");
        let kept = damaged.list(Path::new("/data/quarantine")).map_or(0, |l| l.len());
        assert_eq!(kept, usize::from(report.is_damaged()), "a bit at {at}");
        lost_most = lost_most.max(lost);
        flips += 1;
    }
    println!("walflip_wb flips={flips} lost_max_requests={lost_most} silent=0");
}

/// What the first write to a segment leaves before it fails, in bytes: within each copy of the header and at its edges, in the zeros
/// behind it, in the frames.
const SHORT: [usize; 24] = [
    0, 7, 8, 15, 16, 17, 30, 58, 59, 100, 511, 512, 513, 519, 520, 528, 536, 560, 571, 600, 1023, 1024, 1040,
    1400,
];

/// What happens after it.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// It is cut back.
    CutBack,
    /// So many bytes of what cuts it back are written.
    Short(usize),
    /// As many as before are written, again and again.
    Same,
    /// The call fails.
    Refused(FaultOp),
    /// It is cut back, and the next write fails behind so many bytes.
    Again(usize),
}

/// Lives through a first write that fails, cuts the power at each moment from then on, and answers how often.
fn first_write_fails(recycled: bool, short: usize, then: Then) -> usize {
    let (fs, plan) = (MemoryFs::new(), FaultPlan::new());
    let (mut wal, ..) = open_from(Arc::new(FaultFs::new(fs.clone(), plan.clone())), 0);
    append(&mut wal, 100).unwrap();
    let first = wal.cut().unwrap();
    (0..3).for_each(|number| append(&mut wal, number).unwrap());
    if recycled {
        wal.release_before(first).unwrap();
    }
    wal.cut().unwrap();
    fs.settle();
    let refused = |bytes: usize| Fault::on(FaultOp::Write).short_write(bytes, Fault::EROFS);
    plan.add(if matches!(then, Then::Same) { refused(short).forever() } else { refused(short) });
    match then {
        Then::CutBack | Then::Same | Then::Again(_) => {}
        Then::Short(bytes) => plan.add(refused(bytes).after(1)),
        Then::Refused(op) => plan.add(Fault::on(op)),
    }
    append(&mut wal, 3).unwrap_err();
    if let Then::Again(bytes) = then {
        assert_eq!(wal.poisoned(), None);
        plan.add(refused(bytes));
        append(&mut wal, 3).unwrap_err();
    }
    plan.clear();
    let is_taken = append(&mut wal, 4).is_ok();
    assert_eq!(is_taken, wal.poisoned().is_none());
    drop(wal);
    let mut cuts = 0;
    for at in 0..=fs.log_len() {
        let few = [CrashChoice::Nothing, CrashChoice::Everything, CrashChoice::LastTorn].into_iter();
        let one = (0..fs.unsynced(at)).map(CrashChoice::AllBut);
        for choice in few.chain(one).chain((0..6).map(CrashChoice::Seed)) {
            let what = format!("recycled {recycled}, {short} bytes, then {then:?}: at {at}, {choice:?}");
            let left = fs.crash_image(at, choice);
            let (mut wal, report, found) = open_from(Arc::new(left.clone()), first);
            assert!(!report.is_damaged(), "{what}: {:?}", report.places);
            if is_taken && at == fs.log_len() {
                assert_eq!(found, [0, 1, 2, 4], "{what}");
            } else {
                // What was refused, or is under way, may be there or not.
                assert!(found.starts_with(&[0, 1, 2]), "{what}: {found:?}");
                assert!(found[3..].iter().all(|n| [3, 4].contains(n)), "{what}: {found:?}");
            }
            append(&mut wal, 5).unwrap();
            drop(wal);
            let (_, report, again) = open_from(Arc::new(left), first);
            assert!(!report.is_damaged(), "{what}, the start after: {:?}", report.places);
            assert_eq!(again, [&found[..], &[5]].concat(), "{what}");
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn a_first_write_that_fails_is_no_damage() {
    let all = SHORT.into_iter();
    let thens = all.clone().map(Then::Short).chain(all.clone().map(Then::Again));
    let others = [
        Then::CutBack,
        Then::Same,
        Then::Refused(FaultOp::Sync),
        Then::Refused(FaultOp::SetLen),
        Then::Refused(FaultOp::Len),
    ];
    let thens: Vec<Then> = others.into_iter().chain(thens).collect();
    let cases: Vec<(bool, usize, Then)> = [false, true]
        .into_iter()
        .flat_map(|recycled| all.clone().map(move |short| (recycled, short)))
        .flat_map(|(recycled, short)| thens.iter().map(move |then| (recycled, short, *then)))
        .collect();
    let (mut cuts, mut failed) = (0, Vec::new());
    for (recycled, short, then) in sampled(cases.len()).map(|number| cases[number]) {
        match std::panic::catch_unwind(|| first_write_fails(recycled, short, then)) {
            Ok(count) => cuts += count,
            Err(panic) => failed.push(panic.downcast_ref::<String>().cloned().unwrap_or_default()),
        }
    }
    println!("first_write cuts={cuts} lost=0 false_damage={}", failed.len());
    assert!(failed.is_empty(), "{}: {}", failed.len(), failed.join("\n"));
}

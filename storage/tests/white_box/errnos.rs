//! Every call of the file system fails with every error: once, later, for ever; at the start, in the run, at the end.

use super::{
    Answers, MemoryFs, NOW, answers, bytes_of, files, filled, image, open, panics, sampled, try_open, write,
};
use kymo_storage::env::{CrashChoice, Fault, FaultFs, FaultOp, FaultPlan, Fs};
use kymo_storage::model::{Matcher, TimeRange};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

const OPERATIONS: [FaultOp; 18] = [
    FaultOp::Open,
    FaultOp::Create,
    FaultOp::OpenWrite,
    FaultOp::Map,
    FaultOp::Rename,
    FaultOp::Link,
    FaultOp::RemoveDir,
    FaultOp::Remove,
    FaultOp::List,
    FaultOp::CreateDir,
    FaultOp::SyncDir,
    FaultOp::Space,
    FaultOp::Lock,
    FaultOp::Read,
    FaultOp::Write,
    FaultOp::Sync,
    FaultOp::SetLen,
    FaultOp::Len,
];
/// EIO, ENOSPC, EROFS, EMFILE, ENFILE, ENOMEM, EINTR, EAGAIN, EDQUOT.
const ERRNOS: [i32; 9] = [5, 28, 30, 24, 23, 12, 4, 11, 122];
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Start,
    Run,
    Stop,
}

#[derive(Debug, Clone, Copy)]
enum Failure {
    Errno(i32),
    /// Half of a sector is written, then the error comes; or nothing is.
    Short(usize),
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    operation: FaultOp,
    failure: Failure,
    skip: u64,
    forever: bool,
    when: When,
}

impl Cell {
    /// Whether a start meets a device that cannot read, however often it is asked. That is damage: what cannot be read is left out and
    /// told of; it is back once it is read, or it is put aside and told of from then on.
    fn is_damage(&self) -> bool {
        use FaultOp::{Len, Map, Open, Read};
        let is_reading = matches!(self.operation, Open | Map | Read | Len);
        let is_eio = matches!(self.failure, Failure::Errno(Fault::EIO));
        is_reading && is_eio && self.forever && self.when == When::Start
    }

    fn fault(&self) -> Fault {
        let fault = Fault::on(self.operation).after(self.skip);
        let fault = match self.failure {
            Failure::Errno(errno) => fault.errno(errno),
            Failure::Short(bytes) => fault.short_write(bytes, Fault::ENOSPC),
        };
        if self.forever { fault.forever() } else { fault }
    }
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for operation in OPERATIONS {
        let errnos = ERRNOS.map(Failure::Errno);
        let short =
            if operation == FaultOp::Write { vec![Failure::Short(0), Failure::Short(256)] } else { vec![] };
        for failure in errnos.into_iter().chain(short) {
            for (skip, forever) in [(0, false), (2, false), (0, true)] {
                for when in [When::Start, When::Run, When::Stop] {
                    cells.push(Cell { operation, failure, skip, forever, when });
                }
            }
        }
    }
    cells
}

/// Lives through a failure; whatever was acknowledged is there after a power cut, whatever was there before too.
fn live(cell: Cell, base: &MemoryFs, expected: &Answers) {
    let disk = image(base);
    let plan = FaultPlan::new();
    let faulty = || Arc::new(FaultFs::new(disk.clone(), plan.clone()));
    if cell.when == When::Start {
        plan.add(cell.fault());
    }
    let mut acked = Vec::new();
    match try_open(faulty()) {
        Err(error) => assert!(cell.when == When::Start, "{cell:?}: {error}"),
        Ok(store) => {
            if cell.when == When::Run {
                plan.add(cell.fault());
            }
            for round in 0..4 {
                let time = NOW + 60_000 + round * 1000;
                if write(&store, 5, time).is_ok() {
                    acked.push(time);
                }
                match round {
                    0 => drop(store.flush()),
                    1 => {
                        let nothing = [vec![Matcher::equal("i", "none")]];
                        let _ = store.delete(TimeRange::ALL, &nothing);
                        let _ = store.clean_tombstones();
                    }
                    2 => drop(store.compact_all()),
                    _ => drop(store.maintain()),
                }
                // Questions are answered or refused; what is answered is not wrong.
                let (found, warned) = answers(&store);
                let is_kept = |(labels, samples): (&_, &std::collections::BTreeMap<i64, String>)| {
                    let got = found.get(labels);
                    samples.iter().all(|(t, v)| got.and_then(|g| g.get(t)) == Some(v))
                };
                assert!(warned || expected.iter().all(is_kept), "{cell:?}: answers are missing in silence");
            }
            if cell.when == When::Stop {
                plan.add(cell.fault());
            }
            let _ = store.close();
            drop(store);
        }
    }
    plan.clear();
    // The error is over: the store opens, on what a power cut leaves and as it is.
    for choice in [CrashChoice::Nothing, CrashChoice::Everything] {
        let left = disk.crash_image(disk.log_len(), choice);
        let before = image(&left);
        let store = open(&left);
        let (mut found, warned) = answers(&store);
        for time in &acked {
            let is_there = found.values().filter(|samples| samples.contains_key(time)).count();
            assert_eq!(is_there, 6, "{cell:?} {choice:?}: acknowledged at {time}");
        }
        found.values_mut().for_each(|samples| samples.retain(|time, _| *time < NOW + 60_000));
        found.retain(|_, samples| !samples.is_empty());
        // All is there and nothing is said, or it is told of: by what is put aside, and that is as it was.
        assert_eq!(warned, found != *expected, "{cell:?} {choice:?}: what is told and what is lost differ");
        assert!(!warned || cell.is_damage(), "{cell:?} {choice:?}: damage is told of a store that has none");
        let aside = left.list(Path::new("/data/quarantine")).unwrap_or_default();
        assert_eq!(warned, !aside.is_empty(), "{cell:?} {choice:?}: {aside:?}");
        for path in aside.iter().filter(|path| path.extension().is_none_or(|e| e != "reason")) {
            let bytes = bytes_of(&left, path);
            let is_in = |fs: &MemoryFs| {
                let mut here = files(fs).into_iter().filter(|path| !path.starts_with("/data/quarantine"));
                here.any(|path| bytes_of(fs, &path) == bytes)
            };
            assert!(
                is_in(base) || is_in(&before),
                "{cell:?} {choice:?}: {} is not as it was",
                path.display()
            );
        }
        write(&store, 5, NOW + 120_000).unwrap();
        store.flush().unwrap();
        store.close().unwrap();
        drop(store);
        assert_eq!(answers(&open(&left)).1, warned, "{cell:?} {choice:?}: a later start says something else");
        aside.iter().for_each(|path| left.remove(path).unwrap());
        assert!(!answers(&open(&left)).1, "{cell:?} {choice:?}: nothing is put aside any more");
    }
}

#[test]
fn every_error_of_every_call_is_lived_through() {
    let before = panics().load(Ordering::SeqCst);
    let (base, expected) = filled(5, 6);
    let all = cells();
    let chosen: Vec<Cell> = sampled(all.len()).map(|i| all[i]).collect();
    let tried = chosen.len();
    let (sender, receiver) = channel();
    let worker = std::thread::spawn(move || {
        let mut failed = Vec::new();
        for cell in chosen {
            sender.send(cell).unwrap();
            let lived = std::panic::AssertUnwindSafe(|| live(cell, &base, &expected));
            failed.extend(std::panic::catch_unwind(lived).is_err().then_some(cell));
        }
        failed
    });
    let mut last = None;
    loop {
        match receiver.recv_timeout(PATIENCE) {
            Ok(cell) => last = Some(cell),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("{last:?} hangs"),
        }
    }
    let failed = worker.join().unwrap();
    assert!(failed.is_empty(), "{} of {tried} failures were not lived through: {failed:#?}", failed.len());
    let panics = panics().load(Ordering::SeqCst) - before;
    println!("errno cells={tried} panics={panics} false_acks=0 lost=0 refused_after=0 hangs=0");
    assert_eq!(panics, 0);
}

//! What is done to a store in the simulation, and what is expected of its answers.

use crate::oracle::{Event, Item, Value};
use crate::steps::{SHAPES, histogram, labels};
use crate::world::{FUTURE, HOUR, MINUTE, RETENTION, World, encoded, millis};
use kymo_storage::db::{CommitReport, Health, Work};
use kymo_storage::env::{Clock, Fault, FaultOp, Space};
use kymo_storage::model::{AnyHistogram, Labels, Matcher, TimeRange};
use kymo_storage::{Error, ErrorKind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const SERIES: usize = 24;
/// More refusals than this are not spelled out by the store.
const SPELLED_OUT: usize = 10;

/// The length of the disk's log at the moment of an answer, and the answer.
pub(crate) type Outcome = (usize, Result<CommitReport, Error>);

/// A batch that waits for its answer, which comes with the length of the disk's log at that moment.
pub(crate) struct Waiting {
    pub(crate) items: Vec<Item>,
    pub(crate) outcome: Arc<Mutex<Option<Outcome>>>,
}

impl World {
    pub(crate) fn act(&mut self) {
        if matches!(self.store().health(), Health::Poisoned(_)) {
            assert!(self.plan.hits() > 0, "a sound disk, and the store is poisoned");
            return if self.chance.percent(50) { self.close() } else { self.kill() };
        }
        match self.chance.below(100) {
            0..30 => self.write(),
            30..45 => {
                let work = self.chance.one_of(&Work::ALL);
                self.run(work);
            }
            45..55 => drop(self.run(Work::Commit)),
            55..63 => {
                self.run(Work::Maintain);
                self.pass(10_000);
            }
            63..68 => self.flush(),
            68..72 => self.compact(),
            72..75 => self.delete(),
            75..81 => {
                let span = self.chance.one_of(&[MINUTE, HOUR, 5 * HOUR, 13 * HOUR]);
                let by = self.chance.within(1, span);
                self.pass(by);
            }
            81..83 => self.jump(),
            83..86 => self.kill(),
            86..87 => self.close(),
            87..89 => self.arm(),
            89..90 => self.fill_disk(),
            90..91 => self.heal(),
            91..92 => self.snapshot(),
            92..96 => self.look(),
            _ => self.check(),
        }
    }

    /// Time goes on.
    fn pass(&mut self, by: i64) {
        // They were judged by the clock as it is now.
        self.collect();
        self.clock.advance(millis(by));
        self.honest += by;
    }

    /// The clock is set, back as often as wrong.
    fn jump(&mut self) {
        let far = self.chance.one_of(&[HOUR, 24 * HOUR, 3650 * 24 * HOUR]);
        let to = match self.chance.below(4) {
            0 => self.honest + far,
            1 => self.honest - far,
            _ => self.honest,
        };
        self.has_jumped |= to != self.clock.now_ms();
        self.clock.set_wall_ms(to);
    }

    fn arm(&mut self) {
        use FaultOp::{
            Create, CreateDir, Len, Link, List, Map, Open, OpenWrite, Read, Remove, Rename, SetLen, Sync,
            SyncDir, Write,
        };
        let all = [
            Create, CreateDir, Len, Link, List, Map, Open, OpenWrite, Read, Remove, Rename, SetLen, Sync,
            SyncDir, Write, Write, Sync,
        ];
        let op = self.chance.one_of(&all);
        let errno = self.chance.one_of(&[Fault::EIO, Fault::ENOSPC, Fault::EROFS]);
        let mut fault = Fault::on(op).errno(errno).after(self.chance.below(12));
        if op == Write && self.chance.percent(50) {
            fault = fault.short_write(self.chance.below(600) as usize, errno);
        }
        if self.chance.percent(15) {
            fault = fault.forever();
        }
        self.say(|| format!("{fault:?}"));
        self.plan.add(fault);
    }

    fn fill_disk(&mut self) {
        let full = Space { free_bytes: 4096, total_bytes: 1 << 30 };
        self.plan.add(Fault::on(FaultOp::Space).space(full).forever());
        self.plan.add(Fault::on(FaultOp::Write).errno(Fault::ENOSPC).after(self.chance.below(4)).forever());
    }

    pub(crate) fn write(&mut self) {
        let (count, spread) =
            (1 + self.chance.below(12), self.chance.one_of(&[1, MINUTE, 6 * HOUR, 40 * HOUR]));
        let known = self.oracle.places();
        let mut items: Vec<Item> = Vec::new();
        for _ in 0..count {
            let series = self.chance.below(SERIES as u64) as usize;
            let time = match self.chance.below(20) {
                0 => self.honest + self.chance.within(0, FUTURE + MINUTE),
                1..4 if !known.is_empty() => self.chance.one_of(&known).1,
                _ => self.honest - self.chance.within(0, spread + 1),
            };
            if items.iter().any(|item| item.series == series && item.time == time) {
                continue;
            }
            let value = self.chance.below(1000);
            let is_histogram = series % 6 == 5;
            let value = if is_histogram {
                let shape = (value as usize) % SHAPES;
                let mut any = histogram(shape, value);
                any.accept().unwrap();
                encoded(&AnyHistogram::Float(any.to_float()))
            } else {
                Value::Float((value as f64 / 8.0).to_bits())
            };
            items.push(Item { series, time, value });
        }
        self.newest = items.iter().map(|item| item.time).max().unwrap_or(i64::MIN).max(self.newest);
        self.submit(items);
        if self.chance.percent(60) {
            self.drain();
        }
    }

    fn submit(&mut self, items: Vec<Item>) {
        let mut batch = self.store().batch();
        for item in &items {
            let id = batch.series_labels(&labels(item.series)).unwrap();
            match &item.value {
                Value::Float(bits) => batch.sample(id, item.time, f64::from_bits(*bits)),
                Value::Histogram(bytes) => {
                    let histogram = kymo_storage::chunk::decode_one_histogram(bytes).expect("just encoded");
                    batch.histogram(id, item.time, histogram).unwrap();
                }
            }
        }
        let outcome = Arc::new(Mutex::new(None));
        let (answer, fs) = (Arc::clone(&outcome), self.fs.clone());
        let done = move |result| *answer.lock().unwrap() = Some((fs.log_len(), result));
        self.waiting.push(Waiting { items, outcome });
        self.store().submit(batch, Box::new(done));
    }

    /// Commits until every batch has its answer.
    pub(crate) fn drain(&mut self) {
        while self.waiting.iter().any(|waiting| waiting.outcome.lock().unwrap().is_none()) {
            self.run(Work::Commit);
        }
        self.collect();
    }

    /// Takes the answers that have come.
    pub(crate) fn collect(&mut self) {
        let (answered, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.outcome.lock().unwrap().is_some());
        self.waiting = waiting;
        for Waiting { items, outcome } in answered {
            let Some((at, result)) = outcome.lock().unwrap().take() else { continue };
            let event = match result {
                Ok(report) => self.judge(items, &report),
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
                    self.say(|| format!("batch: {error}"));
                    Event::Failed(items)
                }
            };
            self.happened(at, event);
        }
    }

    /// Which items of an acknowledged batch are stored; refusals must have their reason.
    fn judge(&mut self, items: Vec<Item>, report: &CommitReport) -> Event {
        assert_eq!(report.accepted + report.refused_total, items.len() as u64, "every sample has an answer");
        self.figures.acknowledged += report.accepted;
        if report.refused_total as usize > SPELLED_OUT {
            return Event::Stored { stored: Vec::new(), unsaid: items };
        }
        let is_refused = |item: &Item| {
            let of = |l: &Labels| l.value("i") == labels(item.series).value("i");
            report.refused.iter().find(|r| r.timestamp == Some(item.time) && of(&r.labels))
        };
        let now = self.clock.now_ms();
        let mut stored = Vec::new();
        for item in items {
            let is_early = item.time > now + FUTURE;
            match is_refused(&item) {
                None => {
                    assert!(!is_early, "{item:?} is ahead of the clock, {now}, and was taken");
                    stored.push(item);
                }
                Some(refusal) if refusal.kind == ErrorKind::OutOfBounds => {
                    let is_old = item.time < now - RETENTION;
                    assert!(is_early || is_old || self.has_jumped, "{item:?} at {now}: {}", refusal.reason);
                }
                Some(refusal) => {
                    // What was lost comes back when it can be read again, also what was deleted meanwhile.
                    let may_differ = self.is_rotten || self.oracle.may_differ(&item);
                    assert!(may_differ, "{item:?}: {}", refusal.reason);
                }
            }
        }
        Event::Stored { stored, unsaid: Vec::new() }
    }

    fn flush(&mut self) {
        let hits = self.plan.hits();
        let flushed = self.store().flush();
        self.forgive(flushed, hits);
    }

    fn compact(&mut self) {
        let hits = self.plan.hits();
        let merged = match self.chance.below(3) {
            0 => self.store().compact(),
            1 => self.store().compact_all(),
            _ => self.store().clean_tombstones(),
        };
        self.forgive(merged, hits);
    }

    /// Only a disk that failed, then or before, excuses a failure.
    fn forgive(&mut self, result: Result<(), Error>, hits: u64) {
        self.is_doubtful |= self.plan.hits() > hits;
        self.say(|| format!("ends: {result:?}"));
        if let Err(error) = result {
            assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
            assert!(self.plan.hits() > 0, "a sound disk, and: {error}");
        }
    }

    fn delete(&mut self) {
        self.drain();
        let middle = self.honest - self.chance.within(0, 30 * HOUR);
        let (low, high) = (middle - self.chance.within(0, HOUR), middle + self.chance.within(0, 8 * HOUR));
        let (matcher, series) = if self.chance.percent(60) {
            let one = self.chance.below(SERIES as u64) as usize;
            (Matcher::equal("i", &format!("{one:02}")), vec![one])
        } else {
            let odd = (0..SERIES).filter(|i| i % 2 == 1).collect();
            (Matcher::equal("parity", "odd"), odd)
        };
        let hits = self.plan.hits();
        let deleted = self.store().delete(TimeRange::closed(low, high), &[vec![matcher]]);
        self.say(|| format!("delete {low}..={high} of {series:?}: {deleted:?}"));
        let at = self.fs.log_len();
        let range = (low, high);
        match deleted {
            // What is damaged now may be back later, and nobody can tell what it is then.
            Ok(_) => self.happened(at, Event::Deleted { series, range, kept: self.kept() }),
            Err(error) => {
                self.happened(at, Event::Undecided { series, range });
                self.forgive(Err(error), hits);
            }
        }
        self.is_doubtful |= self.plan.hits() > hits;
    }

    /// A snapshot takes the place of the store.
    fn snapshot(&mut self) {
        self.drain();
        let hits = self.plan.hits();
        match self.store().snapshot(&PathBuf::from("/snapshots"), true) {
            Ok(place) => {
                if self.is_doubtful || self.plan.hits() > hits {
                    self.is_doubtful = true;
                    return;
                }
                self.leave();
                self.dir = place;
                self.open();
                // Nothing that failed before can be in there.
                self.check();
            }
            Err(error) => self.forgive(Err(error), hits),
        }
    }

    /// The store is closed in order and opened again.
    fn close(&mut self) {
        let hits = self.plan.hits();
        let closed = self.store().close();
        self.forgive(closed, hits);
        self.leave();
        self.open();
        self.settle();
    }
}

//! A store, its disk, its clock, and all that befalls them, from one seed and on one thread.

use crate::acts::Waiting;
use crate::chance::Chance;
use crate::oracle::{Answer, Event, Oracle, Value};
use crate::trace::{Trace, TraceFs};
use kymo_storage::api::{Queryable, Samples, SeriesSet};
use kymo_storage::chunk::encode_one_histogram;
use kymo_storage::db::Work;
use kymo_storage::env::{Clock, CrashChoice, FaultFs, FaultPlan, Fs, MemoryFs, SimClock};
use kymo_storage::model::{AnyHistogram, TimeRange};
use kymo_storage::options::{Limits, Options};
use kymo_storage::{Error, Storage};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const NOW: i64 = 1_700_000_000_000;
pub(crate) const MINUTE: i64 = 60_000;
pub(crate) const HOUR: i64 = 60 * MINUTE;
/// How long samples are kept, and how far they may be ahead, in milliseconds.
pub(crate) const RETENTION: i64 = 48 * HOUR;
pub(crate) const FUTURE: i64 = 10 * MINUTE;

/// What a run was like.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Figures {
    pub(crate) simulated_ms: i64,
    pub(crate) faults: u64,
    pub(crate) crashes: u64,
    pub(crate) actions: u64,
    pub(crate) acknowledged: u64,
    /// 1 if something was lost that the disk could not read.
    pub(crate) rotten: u64,
    pub(crate) events: u64,
    pub(crate) trace: u64,
}

impl Figures {
    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        self.simulated_ms += other.simulated_ms;
        self.faults += other.faults;
        self.crashes += other.crashes;
        self.actions += other.actions;
        self.acknowledged += other.acknowledged;
        self.rotten += other.rotten;
        self.events += other.events;
    }
}

/// Series that were selected a while ago: whatever happened since, they read as they did then.
pub(crate) struct OldView {
    set: Box<dyn SeriesSet>,
    read: Answer,
}

/// See the module.
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) choices: Arc<Mutex<Chance>>,
    pub(crate) trace: Trace,
    pub(crate) lie: Option<&'static str>,
    pub(crate) fs: MemoryFs,
    pub(crate) plan: FaultPlan,
    pub(crate) clock: SimClock,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) store: Option<Storage>,
    pub(crate) oracle: Oracle,
    /// The same before the present action, and what the action did since, by the length of the disk's log.
    pub(crate) before: (usize, Oracle),
    pub(crate) events: Vec<(usize, Event)>,
    pub(crate) waiting: Vec<Waiting>,
    pub(crate) views: Vec<OldView>,
    /// Time as it would be had the clock never jumped.
    pub(crate) honest: i64,
    pub(crate) has_jumped: bool,
    /// The newest time that was ever sent.
    pub(crate) newest: i64,
    /// Whether something may have gone unread since the store was opened.
    pub(crate) is_doubtful: bool,
    /// Whether something may have gone unread when the store was opened, now or earlier.
    had_bad_start: bool,
    /// Whether something was lost that the disk could not read, so that nobody knows what there must be.
    pub(crate) is_rotten: bool,
    /// What was ever put aside. Who asks is reminded of it at every start, also by a disk that is sound again.
    aside: BTreeSet<PathBuf>,
    pub(crate) figures: Figures,
    /// Whether somebody wants to see what happens.
    is_told: bool,
    /// Whether everything is looked at after each action, which makes another run of it.
    is_watched: bool,
}

pub(crate) fn millis(ms: i64) -> Duration {
    Duration::from_millis(ms as u64)
}

fn options(chance: &mut Chance) -> Options {
    Options {
        retention: Some(millis(RETENTION)),
        limits: Limits { future: millis(FUTURE), ..Limits::default() },
        wal_segment_bytes: chance.one_of(&[4096, 16_384]),
        flush_wal_bytes: chance.one_of(&[8192, 65_536, 1 << 30]),
        flush_bytes: 64 << 10,
        flush_age: millis(chance.one_of(&[HOUR, 1000 * HOUR])),
        flush_on_close_bytes: chance.one_of(&[0, 1 << 30]),
        series_idle_after: millis(chance.one_of(&[0, HOUR])),
        compaction_widths: [60, 8 * 3600, 24 * 3600].map(Duration::from_secs).to_vec(),
        delete_reclaim_after: millis(chance.one_of(&[MINUTE, 1000 * HOUR])),
        free_space_min: Some(1 << 20),
        reserve_bytes: chance.one_of(&[0, 4096]),
        ..Options::default()
    }
}

pub(crate) fn encoded(histogram: &AnyHistogram) -> Value {
    let mut bytes = Vec::new();
    encode_one_histogram(histogram, &mut bytes);
    Value::Histogram(bytes)
}

fn read_all(set: &dyn SeriesSet) -> Result<Answer, Error> {
    let (mut answer, mut samples) = (Answer::new(), Samples::new());
    for index in 0..set.len() {
        let series: usize = set.labels(index).value("i").parse().expect("series are numbered");
        set.read(index, TimeRange::ALL, &mut samples)?;
        let floats = samples.timestamps.iter().zip(&samples.values);
        let mut all: BTreeMap<i64, Value> = floats.map(|(t, v)| (*t, Value::Float(v.to_bits()))).collect();
        for sample in &samples.histograms {
            let value = encoded(&AnyHistogram::Float((*sample.histogram).clone()));
            assert!(all.insert(sample.timestamp, value).is_none(), "two samples at {}", sample.timestamp);
        }
        if !all.is_empty() {
            answer.insert(series, all);
        }
    }
    Ok(answer)
}

impl World {
    /// A world that follows from `seed`. Syncs of files whose path contains `lie` do nothing.
    pub(crate) fn new(seed: u64, lie: Option<&'static str>) -> Self {
        let mut chance = Chance::new(seed);
        let options = options(&mut chance);
        let fs = MemoryFs::seeded(chance.next());
        let mut world = Self {
            choices: Arc::new(Mutex::new(Chance::new(chance.next()))),
            trace: Trace::default(),
            lie,
            fs,
            plan: FaultPlan::new(),
            clock: SimClock::new(NOW),
            dir: PathBuf::from("/data"),
            options,
            store: None,
            oracle: Oracle::default(),
            before: (0, Oracle::default()),
            events: Vec::new(),
            waiting: Vec::new(),
            views: Vec::new(),
            honest: NOW,
            has_jumped: false,
            newest: i64::MIN,
            is_doubtful: false,
            had_bad_start: false,
            is_rotten: false,
            aside: BTreeSet::new(),
            figures: Figures::default(),
            is_told: std::env::var_os("KYMO_SIM_SEED").is_some(),
            is_watched: std::env::var_os("KYMO_SIM_WATCH").is_some(),
            chance,
        };
        world.open();
        world
    }

    /// So many things happen; then the disk is sound and everything is looked at.
    pub(crate) fn live(mut self, actions: u64) -> Figures {
        self.begin();
        for _ in 0..actions {
            self.act();
            self.figures.actions += 1;
            self.settle();
            self.check_views();
            if self.is_watched {
                // The first moment at which something is wrong.
                self.check();
                self.begin();
            }
        }
        self.heal();
        self.drain();
        self.settle();
        self.kill();
        self.check();
        self.run(Work::Maintain);
        self.run(Work::Background);
        self.run(Work::Merge);
        self.check();
        self.figures.rotten = u64::from(self.is_rotten);
        self.figures.faults = self.plan.hits();
        self.figures.simulated_ms = self.honest - NOW;
        self.figures.events = self.trace.events();
        self.figures.trace = self.trace.hash();
        self.figures
    }

    /// What happens, if somebody wants to see it.
    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        if self.is_told {
            println!("{:4} {:8}s {}", self.figures.actions, (self.honest - NOW) / 1000, what());
        }
    }

    pub(crate) fn store(&self) -> &Storage {
        self.store.as_ref().expect("the store is open")
    }

    /// From here on a crash may take what happens.
    fn begin(&mut self) {
        self.before = (self.fs.log_len(), self.oracle.clone());
        self.events.clear();
    }

    /// What happened in this action has happened.
    pub(crate) fn settle(&mut self) {
        self.collect();
        self.before = (self.fs.log_len(), self.oracle.clone());
        self.events.clear();
    }

    pub(crate) fn happened(&mut self, at: usize, event: Event) {
        self.say(|| format!("  at {at}: {event:?}"));
        self.events.push((at, event.clone()));
        self.oracle.apply(event);
    }

    pub(crate) fn open(&mut self) {
        let hits = self.plan.hits();
        let store = loop {
            let before = self.plan.hits();
            match self.try_open() {
                Ok(store) => break store,
                // A fault may refuse a start; without one it succeeds.
                Err(error) => {
                    let is_sound = self.plan.hits() == before;
                    assert!(!is_sound, "a sound disk, and the store does not open: {error}");
                    self.heal();
                }
            }
        };
        self.oracle.reopened();
        self.is_doubtful = self.plan.hits() > hits;
        self.say(|| format!("open in {}, {} faults", self.dir.display(), self.plan.hits() - hits));
        let mut aside = self.fs.list(&self.dir.join("quarantine")).unwrap_or_default();
        aside.retain(|file| !self.aside.contains(file));
        if self.had_bad_start {
            // A segment that an earlier start did not read is put aside when its turn to be removed has come.
            let was_unread = |file: &PathBuf| file.to_string_lossy().ends_with(".unread.wal");
            let (unread, others) = aside.into_iter().partition::<Vec<_>, _>(was_unread);
            self.is_rotten |= !unread.is_empty();
            self.aside.extend(unread);
            aside = others;
        }
        self.had_bad_start |= self.is_doubtful;
        let lost = store.stats().wal_lost_frames;
        if !aside.is_empty() || (lost > 0 && !self.has_lost_of_the_log()) {
            self.note_rot(&format!("{lost} frames of the log are lost, {aside:?}"));
        }
        self.aside.extend(aside);
        self.store = Some(store);
    }

    fn try_open(&self) -> Result<Storage, Error> {
        let traced = TraceFs::new(self.fs.clone(), self.trace.clone(), self.lie);
        let (choices, trace) = (Arc::clone(&self.choices), self.trace.clone());
        let choose = move || {
            let work = choices.lock().unwrap().one_of(&Work::ALL);
            trace.note("work", &[work as u8]);
            work
        };
        let fs: Arc<dyn Fs> = Arc::new(FaultFs::new(traced, self.plan.clone()));
        let clock = Arc::new(self.clock.clone());
        Storage::open_stepped(fs, clock, &self.dir, self.options.clone(), Box::new(choose))
    }

    /// What a device refuses to read again and again is damage: the store puts it aside and says so, and what was in it is lost.
    fn note_rot(&mut self, what: &str) {
        assert!(self.is_doubtful, "a sound disk, and damage: {what}");
        self.say(|| format!("damage: {what}"));
        self.is_rotten = true;
    }

    /// Whether something was put aside that the log cannot be read in full without: a segment, or the names of its series.
    fn has_lost_of_the_log(&self) -> bool {
        let is_of_log = |file: &PathBuf| {
            file.extension().is_some_and(|e| e == "wal" || e == "ckpt")
                || file.to_string_lossy().contains(".ckpt.")
        };
        self.aside.iter().any(is_of_log)
    }

    /// Whether a warning is a reminder of what was put aside earlier.
    fn is_reminder(&self, warning: &str) -> bool {
        let names = |file: &PathBuf| warning.contains(&*file.to_string_lossy());
        self.aside.iter().any(names)
            || (warning.contains("of the log are lost") && self.has_lost_of_the_log())
    }

    pub(crate) fn heal(&mut self) {
        self.plan.clear();
    }

    pub(crate) fn run(&mut self, work: Work) -> bool {
        self.trace.note("step", &[work as u8]);
        let hits = self.plan.hits();
        let worked = self.store().step(work);
        self.say(|| format!("step {work:?}: {worked}"));
        self.is_doubtful |= self.plan.hits() > hits;
        worked
    }

    /// Samples from then on are kept, whatever the clock says.
    pub(crate) fn kept(&self) -> i64 {
        self.newest.saturating_add(FUTURE).saturating_sub(RETENTION)
    }

    pub(crate) fn leave(&mut self) {
        self.views.clear();
        self.store = None;
        self.collect();
        assert!(self.waiting.is_empty(), "a store that is gone has answered");
    }

    /// The power is cut at some moment of this action; what was not synced is there or not, whole or torn.
    pub(crate) fn kill(&mut self) {
        if self.chance.percent(50) {
            // Something is under way.
            self.write();
            let work = self.chance.one_of(&Work::ALL);
            self.run(work);
            self.collect();
        }
        let end = self.fs.log_len();
        let at = self.before.0 + self.chance.below((end - self.before.0) as u64 + 1) as usize;
        let choice = match self.chance.below(6) {
            0 => CrashChoice::Nothing,
            1 => CrashChoice::Everything,
            2 => CrashChoice::AllBut(self.chance.below(self.fs.unsynced(at) as u64 + 1) as usize),
            3 => CrashChoice::LastTorn,
            _ => CrashChoice::Seed(self.chance.next()),
        };
        self.trace.note("crash", format!("{at} {choice:?}").as_bytes());
        self.say(|| format!("power cut at {at} of {}..={end}: {choice:?}", self.before.0));
        let image = self.fs.crash_image(at, choice);
        let mut oracle = std::mem::take(&mut self.before.1);
        for (when, event) in std::mem::take(&mut self.events) {
            if when <= at { oracle.apply(event) } else { oracle.perhaps(event) }
        }
        for waiting in std::mem::take(&mut self.waiting) {
            oracle.perhaps(Event::Failed(waiting.items));
        }
        // What the old process does from here on happens to nobody.
        self.views.clear();
        self.store = None;
        self.fs = image;
        self.oracle = oracle;
        self.figures.crashes += 1;
        if self.chance.percent(70) {
            self.heal();
        }
        self.begin();
        self.open();
    }

    /// Selects all series now, to read them later too.
    pub(crate) fn look(&mut self) {
        let range = TimeRange::ALL;
        let Ok(querier) = self.store().querier(range) else { return };
        let hits = self.plan.hits();
        let Ok(set) = querier.select(range, &[]) else {
            assert!(self.plan.hits() > hits, "a sound disk, and a select fails");
            return;
        };
        let read = read_all(&*set);
        if self.plan.hits() > hits || !set.warnings().is_empty() {
            self.is_doubtful = true;
            return;
        }
        let read = read.expect("a sound disk is read");
        self.views.push(OldView { set, read });
        if self.views.len() > 2 {
            self.views.remove(0);
        }
    }

    fn check_views(&mut self) {
        for view in &self.views {
            let hits = self.plan.hits();
            let read = read_all(&*view.set);
            if self.plan.hits() == hits && view.set.warnings().is_empty() {
                assert_eq!(read.expect("a sound disk is read"), view.read, "a view changed under its reader");
            }
        }
    }

    /// Everything is read and compared.
    pub(crate) fn check(&mut self) {
        self.collect();
        let hits = self.plan.hits();
        let read = self.store().querier(TimeRange::ALL).and_then(|querier| {
            let set = querier.select(TimeRange::ALL, &[])?;
            Ok((read_all(&*set)?, set.warnings()))
        });
        let met_fault = self.plan.hits() > hits;
        self.is_doubtful |= met_fault;
        let (answer, warnings) = match read {
            Ok(read) => read,
            Err(error) => {
                assert!(met_fault, "a sound disk, and: {error}");
                return;
            }
        };
        let is_explained = warnings.iter().all(|warning| self.is_reminder(warning));
        assert!(self.is_doubtful || is_explained, "a sound disk, and: {warnings:?}");
        for (series, samples) in &answer {
            self.trace.note("read", format!("{series} {samples:?}").as_bytes());
        }
        let newest = answer.values().filter_map(|samples| samples.keys().next_back()).max();
        let kept = self.kept();
        let gone = match newest {
            Some(newest) if !self.has_jumped => self.clock.now_ms().min(newest + FUTURE) - RETENTION,
            _ => i64::MIN,
        };
        if let Some(warning) = warnings.iter().find(|warning| warning.contains("of the log are lost"))
            && !self.is_rotten
        {
            self.note_rot(warning);
        }
        let is_partial = !warnings.is_empty() || met_fault;
        if self.is_rotten {
            return;
        }
        if let Err(difference) = self.oracle.compare(&answer, kept, gone, is_partial) {
            panic!("{difference} (honest time {}, clock {})", self.honest, self.clock.now_ms());
        }
    }
}

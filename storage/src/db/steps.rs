//! A store without threads: its work is done by whoever calls it, one piece at a time, in an order that the caller chooses.
//! With a seeded file system and a simulated clock everything that happens then can happen again.

use super::background::Background;
use super::compaction::Compactor;
use super::open::{self, Opened};
use super::requests::{CompactJob, Job};
use super::shared::{Help, Shared};
use super::writer::Writer;
use super::{Owner, Storage};
use crate::env::{Clock, Fs};
use crate::error::Result;
use crate::options::Options;
use crate::sync::Mutex;
use crate::sync::mpsc::Receiver;
use std::path::Path;
use std::sync::Arc;

/// A piece of work that a thread would do, were there one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Work {
    /// Commit what waits in the queue, as one group; or sync what is due.
    Commit,
    /// Do what the background thread was asked for, such as a flush.
    Background,
    /// Look at age, retention, free space and idle series, as the background thread does at each interval.
    Maintain,
    /// Do what the thread that merges blocks was asked for.
    Compact,
    /// Read blocks again for rot and merge what is due, as that thread does at each interval.
    Merge,
}

impl Work {
    /// All there is.
    pub const ALL: [Self; 5] = [Self::Commit, Self::Background, Self::Maintain, Self::Compact, Self::Merge];
}

/// Says what is done next while a call waits. It has to come to each piece sooner or later.
pub type Choose = Box<dyn FnMut() -> Work + Send>;

/// The work of a store.
pub(crate) struct Steps {
    shared: Arc<Shared>,
    writer: Mutex<Option<Writer>>,
    background: Mutex<(Background, Receiver<Job>)>,
    compactor: Mutex<(Compactor, Receiver<CompactJob>)>,
    choose: Mutex<Choose>,
}

impl Storage {
    /// As [`Storage::open_with`], without threads: calls that wait do the work themselves, in the order in which `choose` has
    /// it, and [`Storage::step`] does more. For simulations, on one thread.
    ///
    /// # Errors
    /// As [`Storage::open`].
    pub fn open_stepped(
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        dir: &Path,
        options: Options,
        choose: Choose,
    ) -> Result<Self> {
        options.validate()?;
        let Opened { shared, committer, messages, jobs, compact_jobs, lock } =
            open::open(fs, clock, dir, options, &|_| {})?;
        shared.watch_space();
        shared.order.prepare(&shared.registry);
        let steps = Arc::new(Steps {
            shared: Arc::clone(&shared),
            writer: Mutex::new(Some(Writer::new(Arc::clone(&shared), committer, messages))),
            background: Mutex::new((Background::default(), jobs)),
            compactor: Mutex::new((Compactor::default(), compact_jobs)),
            choose: Mutex::new(choose),
        });
        // Nobody else has seen it.
        let help: Arc<dyn Help> = Arc::<Steps>::clone(&steps);
        let _ = shared.help.set(Arc::downgrade(&help));
        Ok(Self { owner: Arc::new(Owner::new(&shared, lock, Some(steps))) })
    }

    /// Does a piece of work; answers whether there was anything to do. A store with threads needs none of this.
    pub fn step(&self, work: Work) -> bool {
        self.owner.running.steps.as_ref().is_some_and(|steps| steps.step(work))
    }
}

impl Steps {
    /// Does nothing if it is that very work that waits.
    fn step(&self, work: Work) -> bool {
        match work {
            Work::Commit => {
                let Some(mut slot) = self.writer.try_lock() else { return false };
                let Some(writer) = slot.take() else { return false };
                let (left, worked) = writer.step();
                *slot = left;
                worked
            }
            Work::Background | Work::Maintain => {
                let Some(mut slot) = self.background.try_lock() else { return false };
                let (background, jobs) = &mut *slot;
                let job = if work == Work::Background { jobs.try_recv().ok() } else { None };
                let has_work =
                    work == Work::Maintain || job.as_ref().is_some_and(|j| !matches!(j, Job::Stop));
                if has_work {
                    background.work(&self.shared, job);
                }
                has_work
            }
            Work::Compact | Work::Merge => {
                let Some(mut slot) = self.compactor.try_lock() else { return false };
                let (compactor, jobs) = &mut *slot;
                let job = match if work == Work::Compact { jobs.try_recv().ok() } else { None } {
                    Some(CompactJob::Compact(merges, answer)) => Some((merges, answer)),
                    Some(CompactJob::Stop) | None => None,
                };
                let has_work = work == Work::Merge || job.is_some();
                if has_work {
                    compactor.work(&self.shared, job);
                }
                has_work
            }
        }
    }
}

impl Help for Steps {
    fn help(&self) {
        let work = (self.choose.lock())();
        self.step(work);
    }
}

//! `Ack`: what became of a batch that is being committed; and the gate that bounds how many wait.

use crate::{Error, ErrorKind, Result};
use kymo_storage::db::CommitReport;
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// The receipt of a commit: a batch that is on its way. Dropping it does not stop the batch; what is refused of it is then only
/// counted (see [`Db::stats`](crate::Db::stats)).
#[derive(Debug)]
#[must_use = "the batch is committed, but nobody has heard with what result: wait() tells"]
pub struct Ack(State);

#[derive(Debug)]
enum State {
    Empty,
    Waiting(Arc<Outcome>),
}

/// What the commit thread tells.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    told: Mutex<Option<Result<CommitReport>>>,
    news: Condvar,
}

impl Outcome {
    pub(crate) fn tell(&self, result: Result<CommitReport>) {
        *self.told.lock() = Some(result);
        self.news.notify_all();
    }
}

impl Ack {
    /// That of a batch without anything in it.
    pub(crate) fn empty() -> Self {
        Self(State::Empty)
    }

    pub(crate) fn waiting(outcome: Arc<Outcome>) -> Self {
        Self(State::Waiting(outcome))
    }

    /// Whether [`Ack::wait`] would answer at once.
    pub fn is_done(&self) -> bool {
        match &self.0 {
            State::Empty => true,
            State::Waiting(outcome) => outcome.told.lock().is_some(),
        }
    }

    /// Waits until the batch is committed: visible to all reads that begin now, and as durable as
    /// [`Options::durability`](crate::Options::durability) says. Single samples that were refused are in the report; the rest is stored.
    ///
    /// # Errors
    /// Nothing of the batch is stored: `Unavailable` when the database takes no writes (closed, disk full, a failed sync),
    /// `LimitExceeded` when the batch is too large, `Io` when the log cannot be written.
    pub fn wait(self) -> Result<CommitReport> {
        let State::Waiting(outcome) = self.0 else { return Ok(CommitReport::default()) };
        let mut told = outcome.told.lock();
        loop {
            match told.take() {
                Some(result) => return result,
                None => outcome.news.wait(&mut told),
            }
        }
    }

    /// As [`Ack::wait`], for at most so long. The receipt stays good.
    ///
    /// # Errors
    /// As [`Ack::wait`]; `Deadline` if the batch is still on its way.
    pub fn wait_for(&mut self, at_most: Duration) -> Result<CommitReport> {
        let State::Waiting(outcome) = &self.0 else { return Ok(CommitReport::default()) };
        let mut told = outcome.told.lock();
        if told.is_none() {
            outcome.news.wait_while_for(&mut told, |told| told.is_none(), at_most);
        }
        match told.take() {
            Some(result) => {
                drop(told);
                self.0 = State::Empty;
                result
            }
            None => {
                Err(Error::new(ErrorKind::Deadline, format!("the batch is not committed after {at_most:?}")))
            }
        }
    }
}

/// Batches that may wait, however small.
const BATCHES_MAX: usize = 2048;

/// Lets batches in as long as there is room for them: a writer that is faster than the disk waits here.
#[derive(Debug)]
pub(crate) struct Gate {
    bytes_max: usize,
    inside: Mutex<Inside>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    bytes: usize,
    batches: usize,
}

impl Gate {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, inside: Mutex::default(), left: Condvar::new() }
    }

    /// Waits for room. A batch that is larger than all room gets in alone.
    pub(crate) fn enter(&self, bytes: usize) {
        let mut inside = self.inside.lock();
        while inside.batches >= BATCHES_MAX
            || (inside.batches > 0 && inside.bytes.saturating_add(bytes) > self.bytes_max)
        {
            self.left.wait(&mut inside);
        }
        inside.bytes += bytes;
        inside.batches += 1;
    }

    /// What came in by [`Gate::enter`] goes.
    pub(crate) fn leave(&self, bytes: usize) {
        let mut inside = self.inside.lock();
        inside.bytes = inside.bytes.saturating_sub(bytes);
        inside.batches = inside.batches.saturating_sub(1);
        drop(inside);
        self.left.notify_all();
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.inside.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_lets_a_large_one_in_alone_and_others_while_there_is_room() {
        let gate = Gate::new(100);
        gate.enter(1000);
        assert_eq!(gate.bytes(), 1000);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| gate.enter(60));
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waits.is_finished());
            gate.leave(1000);
        });
        gate.enter(40);
        assert_eq!(gate.bytes(), 100);
    }

    #[test]
    fn a_receipt_that_was_asked_too_early_stays_good() {
        let outcome = Arc::new(Outcome::default());
        let mut ack = Ack::waiting(Arc::clone(&outcome));
        assert!(!ack.is_done());
        assert_eq!(ack.wait_for(Duration::from_millis(1)).unwrap_err().kind(), ErrorKind::Deadline);
        let report = CommitReport { accepted: 3, ..CommitReport::default() };
        outcome.tell(Ok(report));
        assert!(ack.is_done());
        assert_eq!(ack.wait_for(Duration::from_millis(1)).unwrap().accepted, 3);
    }
}

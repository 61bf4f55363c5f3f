//! Turns on the cores: threads of long queries work no more at a time than there are cores, so that a short query finds one soon.

use crate::sync::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// How often one who waits looks whether it still should.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The turns that long queries share, given out in the order of asking.
#[derive(Debug)]
pub(crate) struct Turns {
    line: Mutex<Line>,
    moved: Condvar,
}

#[derive(Debug)]
struct Line {
    free: usize,
    /// The number of the next to come.
    next: u64,
    /// The numbers of those who wait, ascending.
    waiting: std::collections::VecDeque<u64>,
}

/// The right to work, until dropped.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Turns>);

impl Turns {
    /// Turns for so many threads at a time.
    pub(crate) fn new(cores: usize) -> Arc<Self> {
        let line = Line { free: cores.max(1), next: 0, waiting: std::collections::VecDeque::new() };
        Arc::new(Self { line: Mutex::new(line), moved: Condvar::new() })
    }

    /// A turn, if one is free and nobody waits for it.
    pub(crate) fn take_at_once(self: &Arc<Self>) -> Option<Turn> {
        let mut line = self.line.lock();
        if line.free == 0 || !line.waiting.is_empty() {
            return None;
        }
        line.free -= 1;
        Some(Turn(Arc::clone(self)))
    }

    /// Waits for a turn as long as `check` allows. One who holds a turn must wait for nobody.
    ///
    /// # Errors
    /// That of `check`.
    pub(crate) fn take<E>(self: &Arc<Self>, mut check: impl FnMut() -> Result<(), E>) -> Result<Turn, E> {
        let mut line = self.line.lock();
        let own = line.next;
        line.next += 1;
        line.waiting.push_back(own);
        loop {
            if line.free > 0 && line.waiting.front() == Some(&own) {
                line.waiting.pop_front();
                line.free -= 1;
                if line.free > 0 {
                    self.moved.notify_all();
                }
                return Ok(Turn(Arc::clone(self)));
            }
            self.moved.wait_for(&mut line, LOOK_EVERY);
            if let Err(error) = check() {
                line.waiting.retain(|n| *n != own);
                self.moved.notify_all();
                return Err(error);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.line.lock().free += 1;
        self.0.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn no_more_work_than_there_are_turns() {
        let turns = Turns::new(2);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let turn = turns.take(|| Ok::<(), ()>(())).unwrap();
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.load(Ordering::SeqCst)));
    }

    #[test]
    fn one_who_gives_up_leaves_the_line() {
        let turns = Turns::new(1);
        let held = turns.take(|| Ok::<(), ()>(())).unwrap();
        assert!(turns.take(|| Err(())).is_err() && turns.take_at_once().is_none());
        drop(held);
        assert!(turns.take(|| Err(())).is_ok() && turns.take_at_once().is_some(), "nobody is in front");
    }
}

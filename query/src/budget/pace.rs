//! How often work looks at the guard of its query.

use super::Budget;
use crate::failure::QueryError;

/// Counts work, in a measure of its own, and asks the budget after so much of it; before the first of it, too.
pub(crate) struct Pace<'b> {
    budget: &'b Budget,
    every: u64,
    since: u64,
}

impl<'b> Pace<'b> {
    /// Asks `budget` after each `every` of work.
    pub(crate) fn new(budget: &'b Budget, every: u64) -> Self {
        Self { budget, every, since: every }
    }

    /// Notes that so much is done or about to be.
    ///
    /// # Errors
    /// As [`Budget::check`].
    pub(crate) fn work(&mut self, much: u64) -> Result<(), QueryError> {
        self.since = self.since.saturating_add(much);
        if self.since < self.every {
            return Ok(());
        }
        self.since = 0;
        self.budget.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{MemoryPool, Shared, Turns};
    use crate::limits::QueryLimits;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn asks_at_first_and_after_so_much_work() {
        let cancel = Arc::new(AtomicBool::new(false));
        let shared = Shared {
            cancel: cancel.clone(),
            pool: MemoryPool::new(1 << 20),
            turns: Turns::new(1),
            progress: Arc::default(),
            on_long: None,
        };
        let budget = Budget::new(QueryLimits::default(), shared);
        let mut pace = Pace::new(&budget, 10);
        pace.work(1).unwrap();
        cancel.store(true, Ordering::Relaxed);
        assert!(Pace::new(&budget, 10).work(0).is_err(), "before the first");
        for (much, is_asked) in [(9, false), (1, true), (0, false), (u64::MAX, true), (9, false), (5, true)] {
            assert_eq!(pace.work(much).is_err(), is_asked, "{much}");
        }
    }
}

//! Scrub: blocks are read again bit by bit, within a budget, so that rot is found before somebody needs what it took.

use super::shared::Shared;
use crate::block::CheckCursor;
use crate::head::view::LiveBlock;
use std::sync::Arc;
use std::time::Duration;

/// What a step reads at once, before it looks at its budget again.
const STEP_BYTES: u64 = 1 << 20;
/// No more than so much time is caught up on after a pause.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// How far the scrub has come.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    /// The sequence of the block being read.
    sequence: u64,
    cursor: CheckCursor,
    /// When the last step was done.
    last: Option<Duration>,
    /// Bytes that may be read now.
    budget: u64,
}

impl Shared {
    /// Reads as much as the budget allows since the call before.
    pub(super) fn scrub(&self, scrub: &mut Scrub) {
        let now = self.clock.monotonic();
        let passed = now.saturating_sub(scrub.last.replace(now).unwrap_or(now)).min(CATCH_UP_MAX);
        let earned = passed.as_secs_f64() * self.options.scrub_bytes_per_second as f64;
        scrub.budget = scrub.budget.saturating_add(earned as u64);
        let blocks = self.view.peek(|view| Arc::clone(&view.blocks));
        let Some(last) = blocks.last() else { return };
        while scrub.budget > 0 && !self.stop.is_set() {
            let Some(live) = blocks.iter().find(|live| live.block.meta().sequence >= scrub.sequence) else {
                *scrub = Scrub { last: scrub.last, budget: scrub.budget, ..Scrub::default() };
                continue;
            };
            let sequence = live.block.meta().sequence;
            if sequence != scrub.sequence {
                (scrub.sequence, scrub.cursor) = (sequence, CheckCursor::default());
            }
            let (read, is_done) = self.scrub_step(live, &mut scrub.cursor);
            self.counters.scrub_bytes.add(read);
            scrub.budget = scrub.budget.saturating_sub(read.max(1));
            if is_done {
                (scrub.sequence, scrub.cursor) = (sequence.saturating_add(1), CheckCursor::default());
                if sequence == last.block.meta().sequence {
                    self.counters.scrub_rounds.add(1);
                    // One round is enough for one call, however small the store is.
                    scrub.budget = 0;
                }
            }
        }
    }

    /// Reads a little of a block. Answers how many bytes, and whether it is done with it.
    fn scrub_step(&self, live: &Arc<LiveBlock>, cursor: &mut CheckCursor) -> (u64, bool) {
        match live.block.check_step(cursor, STEP_BYTES) {
            Ok(step) => step,
            Err(error) => {
                let is_new = self.damaged.lock().insert(live.block.meta().sequence);
                if is_new {
                    tracing::error!(%error, "rot was found in a block; what is whole of it is served");
                }
                (STEP_BYTES, true)
            }
        }
    }
}

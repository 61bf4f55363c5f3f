//! How many samples each step of a query looks at, as Prometheus counts them: kept only if it is asked for.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Where the samples of a leaf count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Counted {
    /// At the step that looks at them.
    AtItsStep,
    /// At every step: the leaf is evaluated once for all.
    AtEveryStep,
    /// Nowhere: it is the points of the subquery above that count.
    Nowhere,
}

/// See the module.
pub(crate) struct StepCounts {
    steps: Vec<AtomicU64>,
    every: AtomicU64,
    /// Where leaves that are being built will count.
    mode: AtomicU8,
}

impl StepCounts {
    /// Nothing counted at so many steps.
    pub(crate) fn new(steps: usize) -> Self {
        let mut counts = Vec::new();
        counts.resize_with(steps, AtomicU64::default);
        Self { steps: counts, every: AtomicU64::new(0), mode: AtomicU8::new(Counted::AtItsStep as u8) }
    }

    /// Where a leaf that is built now counts.
    pub(crate) fn mode(&self) -> Counted {
        match self.mode.load(Ordering::Relaxed) {
            0 => Counted::AtItsStep,
            1 => Counted::AtEveryStep,
            _ => Counted::Nowhere,
        }
    }

    /// Leaves built from now on count as `mode` says, unless what is around them says less; gives what held before.
    pub(crate) fn enter(&self, mode: Counted) -> Counted {
        let before = self.mode();
        self.mode.fetch_max(mode as u8, Ordering::Relaxed);
        before
    }

    /// What held before holds again.
    pub(crate) fn leave(&self, before: Counted) {
        self.mode.store(before as u8, Ordering::Relaxed);
    }

    /// `samples` at `step`.
    pub(crate) fn add(&self, counted: Counted, step: usize, samples: u64) {
        match counted {
            Counted::AtItsStep => {
                if let Some(count) = self.steps.get(step) {
                    count.fetch_add(samples, Ordering::Relaxed);
                }
            }
            Counted::AtEveryStep => {
                self.every.fetch_add(samples, Ordering::Relaxed);
            }
            Counted::Nowhere => {}
        }
    }

    /// The samples of each step.
    pub(crate) fn finish(self) -> Vec<u64> {
        let every = self.every.into_inner();
        self.steps.into_iter().map(|count| count.into_inner().saturating_add(every)).collect()
    }
}

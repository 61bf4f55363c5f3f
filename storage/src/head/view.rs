//! What readers see: the active generation, the frozen ones and the blocks, swapped together under one lock.

use super::generation::{Generation, Judgements};
use super::last::LastSamples;
use parking_lot::Mutex;
use std::sync::Arc;

/// A generation that takes no more writes and waits to be flushed.
pub(crate) struct Frozen {
    pub(crate) generation: Generation,
    /// The newest samples of all series when it was frozen.
    pub(crate) last: LastSamples,
}

/// All sources of samples at one moment. A copy is cheap and stays as it is.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub(crate) active: Generation,
    /// Oldest first.
    pub(crate) frozen: Vec<Arc<Frozen>>,
}

/// The current [`View`]. The writer holds the lock while it applies one batch, a reader while it copies the view: a batch
/// is in a copy as a whole or not at all.
#[derive(Default)]
pub(crate) struct SharedView {
    current: Mutex<View>,
}

impl SharedView {
    /// The sources as they are now.
    pub(crate) fn snapshot(&self) -> View {
        self.current.lock().clone()
    }

    /// Applies the samples of one batch.
    pub(crate) fn apply(&self, samples: Judgements<'_>) {
        self.current.lock().active.apply(samples);
    }

    /// Calls `read` with the current view; only for reading a few numbers.
    pub(crate) fn peek<T>(&self, read: impl FnOnce(&View) -> T) -> T {
        read(&self.current.lock())
    }

    /// Changes the sources in one step.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.current.lock())
    }
}

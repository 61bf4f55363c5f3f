//! How far the start has come: known from the first moment, because the face is up before the store.

use std::sync::atomic::{AtomicU64, Ordering};

/// Progress of reading the log back.
#[derive(Debug, Default)]
pub struct Startup {
    first: AtomicU64,
    last: AtomicU64,
    current: AtomicU64,
}

impl Startup {
    /// Says that of the segments `first..=last` of the log, `current` is read now.
    pub fn set(&self, first: u64, last: u64, current: u64) {
        self.first.store(first, Ordering::Relaxed);
        self.last.store(last, Ordering::Relaxed);
        self.current.store(current, Ordering::Relaxed);
    }

    /// First, last and current segment; all 0 if nothing is read.
    pub fn progress(&self) -> (u64, u64, u64) {
        let get = |value: &AtomicU64| value.load(Ordering::Relaxed);
        (get(&self.first), get(&self.last), get(&self.current))
    }
}

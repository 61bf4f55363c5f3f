//! Threads that help with queries and go from one to the next, with what they keep: buffers, decoded timestamps.

use rayon_core::{ThreadPool, ThreadPoolBuilder};
use std::sync::OnceLock;

/// The stack of a thread: trees are at most 256 high.
const STACK_BYTES: usize = 4 << 20;

/// See the module. They are started for the first query that is worth it.
#[derive(Debug)]
pub(crate) struct Pool {
    threads: usize,
    helpers: OnceLock<Option<ThreadPool>>,
}

impl Pool {
    /// Helpers for queries that use `threads` threads each, their callers among them.
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: threads.max(1), helpers: OnceLock::new() }
    }

    /// How many threads a query uses.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// The helpers; none if their threads cannot be started: then callers do all of the work.
    pub(super) fn helpers(&self) -> Option<&ThreadPool> {
        let start = || {
            let builder = ThreadPoolBuilder::new().num_threads(self.threads.saturating_sub(1).max(1));
            builder.thread_name(|_| "query".to_owned()).stack_size(STACK_BYTES).build().ok()
        };
        self.helpers.get_or_init(start).as_ref()
    }
}

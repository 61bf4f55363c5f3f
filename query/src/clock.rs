//! The one place where queries look at a clock: they end in time, and they say how long they took.

pub(crate) use std::time::Instant;

/// Now, on a clock that never goes back.
///
/// Deadlines are for the machine, not for what is stored, so this clock is not the store's: simulated time would only let a
/// runaway query run on.
#[allow(clippy::disallowed_methods, reason = "see above")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

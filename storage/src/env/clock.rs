//! The clock: wall time for samples and retention, monotonic time for intervals; the system's own or a simulated one.

#![allow(clippy::disallowed_methods, reason = "this is the door the rule points to")]

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: Send + Sync + Debug {
    /// Wall time in milliseconds since 1970-01-01 UTC. May jump, also backwards.
    fn now_ms(&self) -> i64;
    /// Time since some fixed point, never running backwards: for intervals and deadlines.
    fn monotonic(&self) -> Duration;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => millis(after),
            Err(before) => -millis(before.duration()),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that moves only when told to. Clones share the time.
#[derive(Debug, Clone)]
pub struct SimClock {
    times: Arc<SimTimes>,
}

#[derive(Debug)]
struct SimTimes {
    wall_ms: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl SimClock {
    /// A clock that stands at `wall_ms` and at monotonic zero.
    pub fn new(wall_ms: i64) -> Self {
        let times = SimTimes { wall_ms: AtomicI64::new(wall_ms), monotonic_ns: AtomicU64::new(0) };
        Self { times: Arc::new(times) }
    }

    /// Moves wall and monotonic time forward.
    pub fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.times.wall_ms.fetch_add(millis, Ordering::SeqCst);
        self.times.monotonic_ns.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Sets the wall clock, in milliseconds, forwards or backwards; monotonic time stays.
    pub fn set_wall_ms(&self, wall_ms: i64) {
        self.times.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.times.wall_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.times.monotonic_ns.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_clock_moves_only_when_told_to() {
        let clock = SimClock::new(5_000);
        let twin = clock.clone();
        assert_eq!((clock.now_ms(), clock.monotonic()), (5_000, Duration::ZERO));
        twin.advance(Duration::from_millis(250));
        assert_eq!((clock.now_ms(), clock.monotonic()), (5_250, Duration::from_millis(250)));
        clock.set_wall_ms(-1);
        assert_eq!((twin.now_ms(), twin.monotonic()), (-1, Duration::from_millis(250)));
    }

    #[test]
    fn the_system_clock_is_past_2020_and_never_runs_backwards() {
        let clock = SystemClock::new();
        assert!(clock.now_ms() > 1_577_836_800_000);
        let earlier = clock.monotonic();
        assert!(clock.monotonic() >= earlier);
    }
}

//! A budget for work in the background: it rests after each stretch of work, longer while the store is busy, and ends at once
//! when the store closes.

use crate::env::Clock;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::time::Duration;

/// After so much work it is time to rest.
const STRETCH: Duration = Duration::from_millis(20);
/// How much longer the rest is while the store is busy.
const BUSY_FACTOR: u32 = 4;
/// Samples or kilobytes after which the clock is asked.
const STEPS: u64 = 4096;

/// A word to stop that wakes who rests.
#[derive(Debug, Default)]
pub(crate) struct StopSignal {
    is_set: Mutex<bool>,
    wakes: Condvar,
}

impl StopSignal {
    /// Says stop, for good.
    pub(crate) fn set(&self) {
        *self.is_set.lock() = true;
        self.wakes.notify_all();
    }

    pub(crate) fn is_set(&self) -> bool {
        *self.is_set.lock()
    }

    /// Waits; shorter if told to stop.
    fn rest(&self, duration: Duration) {
        let mut is_set = self.is_set.lock();
        if !*is_set {
            self.wakes.wait_for(&mut is_set, duration);
        }
    }
}

/// See the module.
pub(crate) struct Throttle<'a> {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: &'a StopSignal,
    /// The part of the time in which it works, of one core; 1 or more never rests.
    pub(crate) share: f64,
    pub(crate) is_busy: &'a dyn Fn() -> bool,
    since: Duration,
    steps: u64,
}

impl<'a> Throttle<'a> {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        stop: &'a StopSignal,
        share: f64,
        is_busy: &'a dyn Fn() -> bool,
    ) -> Self {
        let since = clock.monotonic();
        Self { clock, stop, share, is_busy, since, steps: 0 }
    }

    /// Notes work done, and rests when it is time to.
    ///
    /// # Errors
    /// `Cancelled`: the store is closing.
    pub(crate) fn pace(&mut self, steps: u64) -> Result<()> {
        self.steps += steps;
        if self.steps < STEPS {
            return Ok(());
        }
        self.steps = 0;
        let worked = self.clock.monotonic().saturating_sub(self.since);
        if worked >= STRETCH && self.share < 1.0 {
            let share = self.share.max(0.01);
            // Who was held up for long has not worked all that time.
            let mut rest = worked.min(STRETCH * 4).mul_f64((1.0 - share) / share);
            if (self.is_busy)() {
                rest *= BUSY_FACTOR;
            }
            self.stop.rest(rest);
            self.since = self.clock.monotonic();
        }
        if self.stop.is_set() {
            return Err(Error::new(ErrorKind::Cancelled, "the store is closing"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{SimClock, SystemClock};

    #[test]
    fn it_rests_and_ends_when_told() {
        let stop = StopSignal::default();
        let clock = Arc::new(SystemClock::new());
        let mut throttle = Throttle::new(Arc::clone(&clock) as _, &stop, 0.5, &|| false);
        let start = clock.monotonic();
        while clock.monotonic() - start < Duration::from_millis(30) {}
        throttle.pace(STEPS).unwrap();
        assert!(clock.monotonic() - start >= Duration::from_millis(55), "as long as it worked");
        stop.set();
        assert_eq!(throttle.pace(STEPS).unwrap_err().kind(), ErrorKind::Cancelled);
        let clock = Arc::new(SimClock::new(0));
        let free = StopSignal::default();
        let mut throttle = Throttle::new(clock.clone(), &free, 1.0, &|| true);
        clock.advance(Duration::from_secs(1000));
        throttle.pace(STEPS).unwrap();
    }
}

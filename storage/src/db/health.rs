//! The state of a store, and the only place that changes it.

use crate::error::{Error, ErrorKind};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Whether a store takes writes. Reads go on in every state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Health {
    /// Reads and writes.
    #[default]
    Ok,
    /// Writes are refused for the reason given; the store leaves this state by itself.
    ReadOnly(String),
    /// The log failed in a way that leaves its state unknown. Writes are refused until the store is opened again.
    Poisoned(String),
}

/// The current [`Health`].
#[derive(Debug, Default)]
pub(crate) struct HealthState {
    current: Mutex<Health>,
    /// Whether `current` is not [`Health::Ok`]: what every commit asks.
    refuses: AtomicBool,
}

impl HealthState {
    pub(crate) fn current(&self) -> Health {
        self.current.lock().clone()
    }

    /// Whether writes are taken.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    pub(crate) fn check_writable(&self) -> crate::Result<()> {
        if !self.refuses.load(Ordering::Acquire) {
            return Ok(());
        }
        match self.current() {
            Health::Ok => Ok(()),
            Health::ReadOnly(why) => {
                Err(Error::new(ErrorKind::Unavailable, format!("the store is read-only: {why}")))
            }
            Health::Poisoned(why) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("the store takes no writes until restarted: {why}"),
            )),
        }
    }

    /// Refuses writes for good.
    pub(crate) fn poison(&self, why: String) {
        tracing::error!(why, "writes are refused until restart");
        let mut current = self.current.lock();
        if !matches!(*current, Health::Poisoned(_)) {
            self.set(&mut current, Health::Poisoned(why));
        }
    }

    /// Refuses writes until [`HealthState::set_writable`].
    pub(crate) fn set_read_only(&self, why: String) {
        let mut current = self.current.lock();
        match *current {
            Health::Poisoned(_) => {}
            Health::ReadOnly(_) => self.set(&mut current, Health::ReadOnly(why)),
            Health::Ok => {
                tracing::warn!(why, "writes are refused for now");
                self.set(&mut current, Health::ReadOnly(why));
            }
        }
    }

    /// Leaves the read-only state.
    pub(crate) fn set_writable(&self) {
        let mut current = self.current.lock();
        if matches!(*current, Health::ReadOnly(_)) {
            tracing::info!("writes are taken again");
            self.set(&mut current, Health::Ok);
        }
    }

    fn set(&self, current: &mut Health, health: Health) {
        self.refuses.store(health != Health::Ok, Ordering::Release);
        *current = health;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_only_ends_and_poison_stays() {
        let state = HealthState::default();
        assert!(state.check_writable().is_ok());
        state.set_read_only("disk full".to_owned());
        let error = state.check_writable().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("disk full"));
        state.set_writable();
        assert!(state.check_writable().is_ok());
        state.poison("sync failed".to_owned());
        state.set_writable();
        state.set_read_only("disk full".to_owned());
        assert_eq!(state.current(), Health::Poisoned("sync failed".to_owned()));
        assert!(state.check_writable().is_err());
    }
}

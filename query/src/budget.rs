//! What one query may use of time and memory: one guard, checked per batch. Hot path.

use crate::clock::{Instant, now};
use crate::failure::QueryError;
use crate::limits::{self, QueryLimits};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The memory that all queries of one engine share.
#[derive(Debug)]
pub(crate) struct MemoryPool {
    limit: u64,
    used: AtomicU64,
}

impl MemoryPool {
    /// A pool of so many bytes.
    pub(crate) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicU64::new(0) })
    }

    /// Bytes reserved at this moment.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// The guard of one query.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: QueryLimits,
    deadline: Option<Instant>,
    cancel: Arc<AtomicBool>,
    pool: Arc<MemoryPool>,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    samples: AtomicU64,
    samples_peak: AtomicU64,
    read: AtomicU64,
    series: AtomicU64,
}

impl Budget {
    /// The guard of a query that starts now.
    pub(crate) fn new(limits: QueryLimits, cancel: Arc<AtomicBool>, pool: Arc<MemoryPool>) -> Arc<Self> {
        let deadline = now().checked_add(limits.timeout);
        Arc::new(Self {
            limits,
            deadline,
            cancel,
            pool,
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            samples_peak: AtomicU64::new(0),
            read: AtomicU64::new(0),
            series: AtomicU64::new(0),
        })
    }

    /// # Errors
    /// The caller left, or the time is up.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(QueryError::canceled());
        }
        match self.deadline {
            Some(deadline) if now() >= deadline => Err(QueryError::timeout()),
            _ => Ok(()),
        }
    }

    /// Reserves memory for `samples` slots of `bytes` in all, given back when the reservation is dropped.
    ///
    /// # Errors
    /// A limit of the query, or of all queries together, would be passed.
    pub(crate) fn reserve(self: &Arc<Self>, samples: u64, bytes: u64) -> Result<Reservation, QueryError> {
        let mut reservation = Reservation { budget: self.clone(), samples: 0, bytes: 0 };
        reservation.grow(samples, bytes)?;
        Ok(reservation)
    }

    /// Counts samples that were read from the store.
    pub(crate) fn count_read(&self, samples: usize) {
        self.read.fetch_add(samples as u64, Ordering::Relaxed);
    }

    /// Counts series that a selector found.
    ///
    /// # Errors
    /// They are more than one selector may find.
    pub(crate) fn count_series(&self, series: usize) -> Result<(), QueryError> {
        let series = series as u64;
        self.series.fetch_add(series, Ordering::Relaxed);
        if series > self.limits.series {
            return Err(limits::too_many_series(self.limits.series, series));
        }
        Ok(())
    }

    /// Samples read, most samples held at one time, most bytes reserved at one time, series found.
    pub(crate) fn totals(&self) -> (u64, u64, u64, u64) {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        (load(&self.read), load(&self.samples_peak), load(&self.bytes_peak), load(&self.series))
    }
}

/// Reserved memory; dropping it gives the memory back.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    samples: u64,
    bytes: u64,
}

impl Reservation {
    /// Reserves more, samples and bytes in one.
    ///
    /// # Errors
    /// As [`Reservation::grow`].
    pub(crate) fn hold(&mut self, (samples, bytes): (u64, u64)) -> Result<(), QueryError> {
        if samples == 0 && bytes == 0 { Ok(()) } else { self.grow(samples, bytes) }
    }

    /// Reserves more.
    ///
    /// # Errors
    /// As [`Budget::reserve`]; what was reserved before stays so.
    pub(crate) fn grow(&mut self, samples: u64, bytes: u64) -> Result<(), QueryError> {
        let budget = &self.budget;
        let samples_now = budget.samples.fetch_add(samples, Ordering::Relaxed).saturating_add(samples);
        let bytes_now = budget.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let pool_now = budget.pool.used.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let refused = if samples_now > budget.limits.samples {
            Some(limits::too_many_samples(budget.limits.samples, samples_now))
        } else if bytes_now > budget.limits.bytes {
            Some(limits::too_many_bytes("bytes of one query", budget.limits.bytes, bytes_now))
        } else if pool_now > budget.pool.limit {
            Some(limits::too_many_bytes("bytes of all queries", budget.pool.limit, pool_now))
        } else {
            None
        };
        if let Some(error) = refused {
            budget.release(samples, bytes);
            return Err(error);
        }
        budget.samples_peak.fetch_max(samples_now, Ordering::Relaxed);
        budget.bytes_peak.fetch_max(bytes_now, Ordering::Relaxed);
        self.samples += samples;
        self.bytes += bytes;
        Ok(())
    }
}

impl Budget {
    fn release(&self, samples: u64, bytes: u64) {
        self.samples.fetch_sub(samples, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.pool.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.samples, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;
    use std::time::Duration;

    fn budget(limits: QueryLimits, pool: &Arc<MemoryPool>) -> Arc<Budget> {
        Budget::new(limits, Arc::default(), pool.clone())
    }

    #[test]
    fn memory_is_given_back() {
        let pool = MemoryPool::new(100);
        let guard = budget(QueryLimits { samples: 10, bytes: 80, ..QueryLimits::default() }, &pool);
        let first = guard.reserve(5, 60).unwrap();
        assert!(guard.reserve(6, 1).unwrap_err().message.contains("the query needs 11"));
        assert!(guard.reserve(1, 30).unwrap_err().message.contains("to 90"));
        let other = budget(QueryLimits::default(), &pool);
        assert!(other.reserve(1, 50).unwrap_err().message.contains("of all queries is 100"));
        drop(first);
        assert_eq!(pool.used(), 0);
        assert!(other.reserve(1, 100).is_ok());
        assert_eq!(guard.totals(), (0, 5, 60, 0));
    }

    #[test]
    fn time_and_the_caller_can_end_a_query() {
        let pool = MemoryPool::new(1);
        let late = budget(QueryLimits { timeout: Duration::ZERO, ..QueryLimits::default() }, &pool);
        assert_eq!(late.check().unwrap_err().kind, FailureKind::Timeout);
        let cancel = Arc::new(AtomicBool::new(false));
        let guard = Budget::new(QueryLimits::default(), cancel.clone(), pool);
        assert!(guard.check().is_ok());
        cancel.store(true, Ordering::Relaxed);
        assert_eq!(guard.check().unwrap_err().kind, FailureKind::Canceled);
    }
}

//! What one query may use of time and memory: one guard, checked per batch. Hot path.

#[cfg(all(test, feature = "shuttle"))]
mod explored;
mod pace;
mod turns;
mod way;

pub(crate) use pace::Pace;
pub(crate) use turns::Turns;

use crate::clock::{Instant, now};
use crate::failure::QueryError;
use crate::limits::{self, QueryLimits};
use crate::sync::atomic::AtomicU64;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use turns::Turn;

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

/// The memory that the queries of an engine hold, for those who watch it.
#[derive(Debug, Clone)]
pub struct MemoryUse(Arc<MemoryPool>);

impl MemoryUse {
    /// That of `pool`.
    pub(crate) fn new(pool: Arc<MemoryPool>) -> Self {
        Self(pool)
    }

    /// Bytes reserved at this moment.
    pub fn bytes(&self) -> u64 {
        self.0.used()
    }
}

/// How far a query has come; others may look while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    samples: AtomicU64,
}

impl Progress {
    /// Samples read from the store so far.
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::Relaxed)
    }
}

/// Called once when a query turns out to be long, on one of its threads.
#[derive(Clone)]
pub struct OnLong(Arc<dyn Fn() + Send + Sync>);

impl OnLong {
    /// Calls `act`.
    pub fn new(act: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(act))
    }
}

impl fmt::Debug for OnLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnLong")
    }
}

/// A query that has read so many samples and computed so many points is long: some milliseconds of work.
const LONG_FROM: u64 = 1 << 19;
/// And so is one that has taken so long.
const LONG_AFTER: Duration = Duration::from_millis(100);
/// From this age of a query on, its threads make way for others; most queries are done by then.
const MAKES_WAY_AFTER: Duration = Duration::from_millis(2);
/// How long a thread of a long query works before it lets others go first.
const SLICE: Duration = Duration::from_millis(20);

/// The right to work of one thread, renewed as it goes on. To be dropped before waiting for anybody.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    turn: Option<(Turn, Instant)>,
}

impl Slice {
    /// The right to work if it is to be had without waiting, for one who must wait for nobody.
    pub(crate) fn at_once(budget: &Budget) -> Option<Self> {
        if !budget.long.load(Ordering::Relaxed) {
            return Some(Self::default());
        }
        budget.turns.take_at_once().map(|turn| Self { turn: Some((turn, now())) })
    }

    /// Lets others go first if it is their turn.
    ///
    /// # Errors
    /// As [`Budget::check`].
    pub(crate) fn renew(&mut self, budget: &Budget) -> Result<(), QueryError> {
        if self.turn.as_ref().is_some_and(|(_, since)| since.elapsed() < SLICE) {
            return budget.check();
        }
        self.turn = None;
        self.turn = budget.turn()?.map(|turn| (turn, now()));
        Ok(())
    }
}

/// What the guard of a query shares with others.
pub(crate) struct Shared {
    /// Ends the query when raised.
    pub(crate) cancel: Arc<AtomicBool>,
    /// The memory of all queries.
    pub(crate) pool: Arc<MemoryPool>,
    /// The turns of long queries.
    pub(crate) turns: Arc<Turns>,
    /// Where the query says how far it is.
    pub(crate) progress: Arc<Progress>,
    /// Who wants to know that the query is long.
    pub(crate) on_long: Option<OnLong>,
}

/// The guard of one query.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: QueryLimits,
    began: Instant,
    deadline: Option<Instant>,
    cancel: Arc<AtomicBool>,
    pool: Arc<MemoryPool>,
    turns: Arc<Turns>,
    progress: Arc<Progress>,
    on_long: Option<OnLong>,
    long: AtomicBool,
    computed: AtomicU64,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    samples: AtomicU64,
    samples_peak: AtomicU64,
    series: AtomicU64,
}

impl Budget {
    /// The guard of a query that starts now.
    pub(crate) fn new(limits: QueryLimits, shared: Shared) -> Arc<Self> {
        let began = now();
        let deadline = began.checked_add(limits.timeout);
        let Shared { cancel, pool, turns, progress, on_long } = shared;
        Arc::new(Self {
            limits,
            began,
            deadline,
            cancel,
            pool,
            turns,
            progress,
            on_long,
            long: AtomicBool::new(false),
            computed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            samples_peak: AtomicU64::new(0),
            series: AtomicU64::new(0),
        })
    }

    /// The right to work: for the asking while the query is short; a long one waits for a core.
    ///
    /// # Errors
    /// As [`Budget::check`].
    fn turn(&self) -> Result<Option<Turn>, QueryError> {
        self.check()?;
        if !self.long.load(Ordering::Relaxed) {
            let work = self.progress.samples().saturating_add(self.computed.load(Ordering::Relaxed));
            if work < LONG_FROM && self.began.elapsed() < LONG_AFTER {
                return Ok(None);
            }
            if !self.long.swap(true, Ordering::Relaxed)
                && let Some(OnLong(act)) = &self.on_long
            {
                act();
            }
        }
        self.turns.take(|| self.check()).map(Some)
    }

    /// Counts points that were computed.
    pub(crate) fn count_computed(&self, points: usize) {
        self.computed.fetch_add(points as u64, Ordering::Relaxed);
    }

    /// Bytes reserved at this moment.
    pub(crate) fn bytes_now(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Also makes way for others once the query is not young any more, so what lies between two calls is what they may wait:
    /// fractions of a millisecond are right.
    ///
    /// # Errors
    /// The caller left, or the time is up.
    pub(crate) fn check(&self) -> Result<(), QueryError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(QueryError::canceled());
        }
        let now = now();
        if now.saturating_duration_since(self.began) >= MAKES_WAY_AFTER {
            way::make(now);
        }
        match self.deadline {
            Some(deadline) if now >= deadline => Err(QueryError::timeout()),
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
        self.progress.samples.fetch_add(samples as u64, Ordering::Relaxed);
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
        (self.progress.samples(), load(&self.samples_peak), load(&self.bytes_peak), load(&self.series))
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

/// Memory of an answer: it stays reserved until this is dropped.
#[derive(Debug, Clone)]
pub struct Held(#[allow(dead_code, reason = "held, not read")] Arc<Reservation>);

impl Held {
    /// Holds `reservation`.
    pub(crate) fn new(reservation: Reservation) -> Self {
        Self(Arc::new(reservation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::FailureKind;

    fn budget(limits: QueryLimits, pool: &Arc<MemoryPool>) -> Arc<Budget> {
        guard(limits, Arc::default(), pool.clone())
    }

    fn guard(limits: QueryLimits, cancel: Arc<AtomicBool>, pool: Arc<MemoryPool>) -> Arc<Budget> {
        let (turns, progress) = (Turns::new(1), Arc::default());
        Budget::new(limits, Shared { cancel, pool, turns, progress, on_long: None })
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
    fn a_long_query_says_so_once_and_waits_for_its_turns() {
        let (said, pool) = (Arc::new(AtomicU64::new(0)), MemoryPool::new(1));
        let (turns, progress, seen) = (Turns::new(1), Arc::<Progress>::default(), said.clone());
        let on_long = Some(OnLong::new(move || {
            seen.fetch_add(1, Ordering::Relaxed);
        }));
        let cancel = Arc::<AtomicBool>::default();
        let shared = Shared { cancel: cancel.clone(), pool, turns, progress: progress.clone(), on_long };
        let guard = Budget::new(QueryLimits::default(), shared);
        assert!(guard.turn().unwrap().is_none());
        guard.count_read(LONG_FROM as usize / 2);
        guard.count_computed(LONG_FROM as usize / 2);
        let turn = guard.turn().unwrap();
        assert!(turn.is_some() && progress.samples() == LONG_FROM / 2);
        cancel.store(true, Ordering::Relaxed);
        assert_eq!(guard.turn().unwrap_err().kind, FailureKind::Canceled);
        drop(turn);
        assert_eq!(said.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn time_and_the_caller_can_end_a_query() {
        let pool = MemoryPool::new(1);
        let late = budget(QueryLimits { timeout: Duration::ZERO, ..QueryLimits::default() }, &pool);
        assert_eq!(late.check().unwrap_err().kind, FailureKind::Timeout);
        let cancel = Arc::new(AtomicBool::new(false));
        let guard = guard(QueryLimits::default(), cancel.clone(), pool);
        assert!(guard.check().is_ok());
        cancel.store(true, Ordering::Relaxed);
        assert_eq!(guard.check().unwrap_err().kind, FailureKind::Canceled);
    }
}

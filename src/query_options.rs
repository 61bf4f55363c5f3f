//! `QueryOptions`: limits, cancellation and wishes of one query.

use crate::{Error, Result};
use kymo_query::QueryLimits;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Ends a query from another thread. Clones are the same switch; it stays on.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A switch that is off.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the queries that were given this switch, now and later, with `Cancelled`.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is on.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one query brings with it; what is not said is as [`Options::query`](crate::Options::query) has it, and after that the default named here.
///
/// ```
/// use kymo::{Cancel, QueryOptions};
/// use std::time::Duration;
///
/// let stop = Cancel::new();
/// let options = QueryOptions::new().timeout(Duration::from_secs(2)).series_max(10_000).cancel(&stop);
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct QueryOptions {
    timeout: Option<Duration>,
    lookback: Option<Duration>,
    samples_max: Option<u64>,
    series_max: Option<u64>,
    points_max: Option<u64>,
    bytes_max: Option<u64>,
    cancel: Option<Cancel>,
    samples_per_step: bool,
    explain: bool,
}

impl QueryOptions {
    /// Nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// The longest time from start to end; the default is two minutes. `Deadline` after that.
    pub fn timeout(mut self, longest: Duration) -> Self {
        self.timeout = Some(longest);
        self
    }

    /// How far an instant selector looks back for the newest sample; the default is five minutes.
    pub fn lookback(mut self, lookback: Duration) -> Self {
        self.lookback = Some(lookback);
        self
    }

    /// The most samples in memory at one time; the default is 50 million. `LimitExceeded` beyond, as with all limits here.
    pub fn samples_max(mut self, samples: u64) -> Self {
        self.samples_max = Some(samples);
        self
    }

    /// The most series that one selector may find; the default is 5 million.
    pub fn series_max(mut self, series: u64) -> Self {
        self.series_max = Some(series);
        self
    }

    /// The most steps of a range, not counting the first; the default is 11,000.
    pub fn points_max(mut self, points: u64) -> Self {
        self.points_max = Some(points);
        self
    }

    /// The most memory for intermediate and final results, in bytes; the default is 2 GiB, and never more than all queries of the
    /// database may take together.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = Some(bytes);
        self
    }

    /// A switch that ends the query.
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = Some(cancel.clone());
        self
    }

    /// Counts the samples of each step: [`Answer::samples_per_step`](crate::Answer::samples_per_step).
    pub fn samples_per_step(mut self, wanted: bool) -> Self {
        self.samples_per_step = wanted;
        self
    }

    /// Says what each operator did: [`Answer::explain`](crate::Answer::explain).
    pub fn explain(mut self, wanted: bool) -> Self {
        self.explain = wanted;
        self
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if self.timeout == Some(Duration::ZERO) {
            return Err(Error::invalid("the timeout of queries is 0; no query could end in time"));
        }
        Ok(())
    }

    pub(crate) fn lookback_chosen(&self) -> Option<Duration> {
        self.lookback
    }

    /// These limits where there are any, and those of `base` for the others.
    pub(crate) fn limits_over(&self, base: &QueryLimits) -> QueryLimits {
        QueryLimits {
            timeout: self.timeout.unwrap_or(base.timeout),
            samples: self.samples_max.unwrap_or(base.samples),
            series: self.series_max.unwrap_or(base.series),
            points_per_series: self.points_max.unwrap_or(base.points_per_series),
            bytes: self.bytes_max.unwrap_or(base.bytes).min(base.bytes),
            ..base.clone()
        }
    }

    pub(crate) fn for_engine(&self, base: &QueryLimits) -> kymo_query::QueryOptions {
        kymo_query::QueryOptions {
            cancel: self.cancel.clone().unwrap_or_default().0,
            lookback: self.lookback,
            limits: Some(self.limits_over(base)),
            step_stats: self.samples_per_step,
            explain: self.explain,
            ..kymo_query::QueryOptions::default()
        }
    }
}

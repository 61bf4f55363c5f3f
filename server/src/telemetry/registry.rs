//! Counters, gauges and histograms on atomics, and the visitor that reads them out.

use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative.
    pub fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// From now on the value is `n`.
    pub fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds one until the returned guard is dropped.
    pub fn hold(self: &Arc<Self>) -> GaugeGuard {
        self.add(1);
        GaugeGuard(Arc::clone(self))
    }
}

/// Takes one off its gauge when dropped.
#[derive(Debug)]
pub struct GaugeGuard(Arc<Gauge>);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Upper bounds in seconds of every histogram of durations.
pub const DURATION_BOUNDS_S: [f64; 12] =
    [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Durations in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; DURATION_BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index = DURATION_BOUNDS_S.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn visit(&self, visitor: &mut dyn Visitor, labels: &[(&str, &str)]) {
        let mut cumulative = 0u64;
        let bounds = DURATION_BOUNDS_S.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            cumulative += bucket.load(Ordering::Relaxed);
            let mut with_bound = labels.to_vec();
            with_bound.push(("le", &bound));
            visitor.sample("_bucket", &with_bound, cumulative as f64);
        }
        visitor.sample("_sum", labels, self.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
        visitor.sample("_count", labels, cumulative as f64);
    }
}

/// The same metric for several values of its labels. Label values come from fixed tables of the program, never from outside.
#[derive(Debug)]
pub struct Family<K, M>(RwLock<BTreeMap<K, Arc<M>>>);

impl<K: Ord, M> Default for Family<K, M> {
    fn default() -> Self {
        Self(RwLock::new(BTreeMap::new()))
    }
}

impl<K: Ord + Copy, M: Default> Family<K, M> {
    /// The metric for `key`.
    pub fn get(&self, key: K) -> Arc<M> {
        if let Some(metric) = self.0.read().get(&key) {
            return Arc::clone(metric);
        }
        Arc::clone(self.0.write().entry(key).or_default())
    }

    /// All metrics, in the order of their keys.
    pub fn each(&self, mut visit: impl FnMut(K, &M)) {
        for (key, metric) in self.0.read().iter() {
            visit(*key, metric);
        }
    }
}

/// The type of a family in the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// Reads metrics out: as text, or into storage.
pub trait Visitor {
    /// A family begins; the samples that follow are its.
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str);
    /// One sample of the current family; `suffix` (`_bucket`, `_sum`, `_count` or nothing) is appended to its name.
    fn sample(&mut self, suffix: &'static str, labels: &[(&str, &str)], value: f64);
}

/// Shorthands for families with one metric, or one of histograms.
impl dyn Visitor + '_ {
    /// A family of one counter.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(name, Kind::Counter, help);
        self.sample("", &[], value);
    }

    /// A family of one gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.family(name, Kind::Gauge, help);
        self.sample("", &[], value);
    }

    /// The samples of one histogram of the current family.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        histogram.visit(self, labels);
    }
}

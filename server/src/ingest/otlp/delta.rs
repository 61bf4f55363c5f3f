//! Delta series made cumulative: what each has come to, in memory only.
//!
//! A data point of a delta series says what happened since the one before. Kymo stores the running total, so that rates are
//! computed as for any other counter, and keeps the totals in memory: after a restart each series begins again at zero, which
//! reads as a counter's reset and, as each point says since when it counts, as nothing else. A total is only kept once the
//! request that changed it is stored, so a sender that repeats a failed request counts nothing twice.

use kymo_storage::model::{Labels, Timestamp};
use std::collections::HashMap;

/// Delta series that are remembered; points of more are rejected.
const SERIES_MAX: usize = 200_000;
/// A series of which nothing came for this long is forgotten when room is needed.
const IDLE_MS: i64 = 3_600_000;
/// Numbers (buckets) of all totals together.
const NUMBERS_MAX: usize = 20_000_000;

/// What a series has come to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Total<T> {
    /// Time of the last point.
    pub(super) time: Timestamp,
    /// Since when it counts.
    pub(super) start: Timestamp,
    /// The sum of all points.
    pub(super) value: T,
}

/// The kinds of totals.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sum {
    /// A number.
    Number(f64),
    /// An explicit histogram: bounds, counts, observations, their sum.
    Explicit {
        /// Upper bounds.
        bounds: Vec<f64>,
        /// One more than bounds, or none.
        counts: Vec<u64>,
        /// Observations.
        count: u64,
        /// Their sum, if it is known.
        sum: Option<f64>,
    },
    /// A native histogram.
    Native(Box<kymo_storage::model::FloatHistogram>),
}

impl Sum {
    fn numbers(&self) -> usize {
        match self {
            Self::Number(_) => 1,
            Self::Explicit { bounds, counts, .. } => bounds.len() + counts.len() + 2,
            Self::Native(h) => h.positive.len() + h.negative.len() + 8,
        }
    }

    /// Adds what came to what there was; what cannot be added (other bounds) begins again.
    fn plus(self, more: Self) -> (Self, bool) {
        match (self, more) {
            (Self::Number(a), Self::Number(b)) => (Self::Number(a + b), true),
            (
                Self::Explicit { bounds, mut counts, count, sum },
                Self::Explicit { bounds: new_bounds, counts: new_counts, count: more, sum: more_sum },
            ) if bounds == new_bounds && counts.len() == new_counts.len() => {
                counts.iter_mut().zip(&new_counts).for_each(|(a, b)| *a = a.saturating_add(*b));
                let sum = sum.zip(more_sum).map(|(a, b)| a + b);
                (Self::Explicit { bounds, counts, count: count.saturating_add(more), sum }, true)
            }
            (Self::Native(a), Self::Native(b)) => match add(*a, (*b).clone()) {
                Some(sum) => (Self::Native(Box::new(sum)), true),
                None => (Self::Native(b), false),
            },
            (_, other) => (other, false),
        }
    }
}

type Native = kymo_storage::model::FloatHistogram;

/// The sum of two histograms with exponential buckets, at the lower resolution; nothing if their zero buckets differ.
fn add(mut a: Native, mut b: Native) -> Option<Native> {
    if a.is_custom() || b.is_custom() {
        return None;
    }
    if a.zero_threshold < b.zero_threshold {
        widen(&mut a, b.zero_threshold);
    } else {
        widen(&mut b, a.zero_threshold);
    }
    if a.zero_threshold.to_bits() != b.zero_threshold.to_bits() {
        return None;
    }
    let schema = a.schema.min(b.schema);
    a.reduce_to(schema);
    b.reduce_to(schema);
    let plus = |a: Option<f64>, b: Option<f64>| a.unwrap_or(0.0) + b.unwrap_or(0.0);
    Some(Native {
        zero_count: a.zero_count + b.zero_count,
        count: a.count + b.count,
        sum: a.sum + b.sum,
        positive: a.positive.merge(&b.positive, plus),
        negative: a.negative.merge(&b.negative, plus),
        ..a
    })
}

/// Makes a zero bucket wider, if nothing but the zero bucket lies in between.
fn widen(histogram: &mut Native, threshold: f64) {
    let (wider, count) = histogram.zero_bucket_of(threshold);
    if count.to_bits() == histogram.zero_count.to_bits() {
        histogram.zero_threshold = wider;
    }
}

/// What all delta series have come to.
#[derive(Debug, Default)]
pub struct DeltaState {
    totals: HashMap<Labels, Total<Sum>>,
    numbers: usize,
}

/// New totals, not yet stored.
#[derive(Debug, Default)]
pub struct Staged(HashMap<Labels, Total<Sum>>);

impl DeltaState {
    /// Adds a point to its series and gives the total; `staged` holds the new total.
    ///
    /// # Errors
    /// A sentence: the point is not newer than the last, or there are too many series.
    pub(super) fn add(
        &self,
        staged: &mut Staged,
        labels: &Labels,
        point: Total<Sum>,
    ) -> Result<Total<Sum>, String> {
        let before = staged.0.get(labels).or_else(|| self.totals.get(labels));
        let total = match before {
            Some(before) if point.time <= before.time => {
                return Err(format!(
                    "a delta point at {} is not newer than the last of its series, at {}",
                    point.time, before.time
                ));
            }
            Some(before) => {
                let (value, goes_on) = before.value.clone().plus(point.value);
                let start = if goes_on { before.start } else { point.start };
                Total { time: point.time, start, value }
            }
            None => {
                let known = self.totals.len() + staged.0.len();
                let has_idle = || self.totals.values().any(|t| t.time < point.time.saturating_sub(IDLE_MS));
                if (known >= SERIES_MAX || self.numbers >= NUMBERS_MAX) && !has_idle() {
                    return Err(format!("the limit of {SERIES_MAX} delta series is met"));
                }
                point
            }
        };
        staged.0.insert(labels.clone(), total.clone());
        Ok(total)
    }

    /// Keeps the totals of a request that is stored.
    pub fn keep(&mut self, staged: Staged) {
        let newest = staged.0.values().map(|t| t.time).max().unwrap_or(i64::MIN);
        for (labels, total) in staged.0 {
            self.numbers += total.value.numbers();
            if let Some(old) = self.totals.insert(labels, total) {
                self.numbers = self.numbers.saturating_sub(old.value.numbers());
            }
        }
        if self.totals.len() > SERIES_MAX || self.numbers > NUMBERS_MAX {
            self.totals.retain(|_, total| total.time >= newest.saturating_sub(IDLE_MS));
            self.numbers = self.totals.values().map(|t| t.value.numbers()).sum();
        }
    }
}

impl Staged {
    /// Whether the request had no delta series.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_storage::model::Buckets;

    fn point(time: i64, value: Sum) -> Total<Sum> {
        Total { time, start: time - 10, value }
    }

    #[test]
    fn totals_grow_once_they_are_kept() {
        let labels = Labels::from_pairs([("__name__", "m")]);
        let mut state = DeltaState::default();
        let mut staged = Staged::default();
        let first = state.add(&mut staged, &labels, point(10, Sum::Number(2.0))).unwrap();
        assert_eq!((first.start, first.value), (0, Sum::Number(2.0)));
        // The request failed and comes again.
        let mut staged = Staged::default();
        state.add(&mut staged, &labels, point(10, Sum::Number(2.0))).unwrap();
        let second = state.add(&mut staged, &labels, point(20, Sum::Number(3.0))).unwrap();
        assert_eq!((second.start, second.value), (0, Sum::Number(5.0)));
        state.keep(staged);
        let mut staged = Staged::default();
        let error = state.add(&mut staged, &labels, point(20, Sum::Number(3.0))).unwrap_err();
        assert!(error.contains("not newer"), "{error}");
        assert!(staged.is_empty());
        assert_eq!(
            state.add(&mut staged, &labels, point(21, Sum::Number(0.5))).unwrap().value,
            Sum::Number(5.5)
        );
    }

    #[test]
    fn histograms_add_up_or_begin_again() {
        let explicit = |bounds: &[f64], counts: &[u64]| Sum::Explicit {
            bounds: bounds.to_vec(),
            counts: counts.to_vec(),
            count: counts.iter().sum(),
            sum: Some(1.5),
        };
        let (sum, goes_on) = explicit(&[1.0], &[1, 2]).plus(explicit(&[1.0], &[3, 0]));
        let expected = Sum::Explicit { bounds: vec![1.0], counts: vec![4, 2], count: 6, sum: Some(3.0) };
        assert_eq!((sum, goes_on), (expected, true));
        let other = explicit(&[2.0], &[1, 1]);
        assert_eq!(explicit(&[1.0], &[1, 2]).plus(other.clone()), (other, false));

        let native = |schema, counts: Vec<f64>| Native {
            schema,
            count: counts.iter().sum(),
            sum: 1.0,
            positive: Buckets::run(1, counts).unwrap(),
            ..Native::default()
        };
        let sum = add(native(1, vec![1.0, 2.0]), native(0, vec![4.0])).unwrap();
        assert_eq!((sum.schema, sum.count, sum.positive.counts()), (0, 7.0, &[7.0][..]));
    }
}

//! Native histograms: one sample that holds a whole distribution in sparse buckets.
//!
//! [`Histogram`] is generic over what counts observations. Clients send whole numbers ([`IntHistogram`]) or floats; the query
//! engine computes with floats only ([`FloatHistogram`]). Buckets hold absolute counts in both.

use super::bucket_bounds::{Bucket, General, exponential_bound};
use super::{BucketCount, Buckets, is_stale, stale_nan};
use std::fmt;
use std::sync::Arc;

/// The schema of histograms whose bounds are listed.
pub const CUSTOM_SCHEMA: i32 = -53;
/// The schemas with exponential buckets: a bound is the one before times `2^(2^-schema)`.
pub const EXPONENTIAL_SCHEMAS: std::ops::RangeInclusive<i32> = -4..=8;
/// The largest schema accepted; those above 8 are reduced to 8.
pub const SCHEMA_ACCEPTED_MAX: i32 = 52;

/// Whether a histogram continues the one before it in its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ResetHint {
    /// Nobody knows: compare them.
    #[default]
    Unknown,
    /// It counts anew.
    Reset,
    /// It counts on.
    NotReset,
    /// It is not a counter.
    Gauge,
}

impl ResetHint {
    /// The number in the wire format.
    pub fn number(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Reset => 1,
            Self::NotReset => 2,
            Self::Gauge => 3,
        }
    }

    /// The hint with `number` in the wire format; what is not known is [`ResetHint::Unknown`].
    pub fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Reset,
            2 => Self::NotReset,
            3 => Self::Gauge,
            _ => Self::Unknown,
        }
    }
}

/// A distribution of observations. `N` counts them, `S` sums their values.
#[derive(Debug, Clone, Default)]
pub struct Histogram<N, S = f64> {
    /// Whether it continues the histogram before it.
    pub hint: ResetHint,
    /// The resolution: one of [`EXPONENTIAL_SCHEMAS`], or [`CUSTOM_SCHEMA`].
    pub schema: i32,
    /// The zero bucket reaches from minus this to this, both inside. 0 with custom buckets.
    pub zero_threshold: f64,
    /// Observations in the zero bucket. 0 with custom buckets.
    pub zero_count: N,
    /// All observations; those of NaN are in no bucket.
    pub count: N,
    /// The sum of the values observed. The staleness marker here makes the whole sample one.
    pub sum: S,
    /// Buckets above zero, or all custom buckets (position 0 ends at the first bound).
    pub positive: Buckets<N>,
    /// Buckets below zero, by their distance from it. Empty with custom buckets.
    pub negative: Buckets<N>,
    /// Upper bounds of custom buckets, increasing, without the last (infinity). Empty with exponential buckets.
    pub custom_bounds: Arc<[f64]>,
}

/// A histogram as the query engine sees it.
pub type FloatHistogram = Histogram<f64>;
/// A histogram as most clients send it.
pub type IntHistogram = Histogram<u64>;

impl<N, S> Histogram<N, S> {
    /// Whether the bounds are listed.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// The upper bound of the bucket at `position` above zero (its mirror image is the lower bound of that below zero).
    pub fn bound(&self, position: i32) -> f64 {
        if !self.is_custom() {
            return exponential_bound(position, self.schema);
        }
        match usize::try_from(position) {
            Ok(index) => self.custom_bounds.get(index).copied().unwrap_or(f64::INFINITY),
            Err(_) => f64::NEG_INFINITY,
        }
    }
}

impl<N: BucketCount, S> Histogram<N, S> {
    /// The buckets above zero in rising order, the empty ones among them; all custom buckets.
    pub fn positive_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket<N>> {
        self.positive.iter().map(|(position, count)| {
            let (lower, upper) = (self.bound(position.wrapping_sub(1)), self.bound(position));
            let lower_inclusive = if self.is_custom() { position == 0 } else { lower < 0.0 };
            let upper_inclusive = self.is_custom() || upper > 0.0;
            Bucket { lower, upper, lower_inclusive, upper_inclusive, count }
        })
    }

    /// The buckets below zero in falling order, the empty ones among them.
    pub fn negative_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket<N>> {
        self.negative.iter().map(|(position, count)| {
            let (lower, upper) = (-self.bound(position), -self.bound(position.wrapping_sub(1)));
            Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count }
        })
    }

    /// The zero bucket, populated or not.
    pub fn zero_bucket(&self) -> Bucket<N> {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    /// Leaves out empty buckets: the form in which histograms are stored, compared and answered.
    pub fn compact(&mut self) {
        self.positive.compact();
        self.negative.compact();
    }

    /// Lowers the resolution to `schema`. Nothing happens to custom buckets, or if the resolution is not higher.
    pub fn reduce_to(&mut self, schema: i32) {
        if self.is_custom() || schema >= self.schema {
            return;
        }
        let by = self.schema.abs_diff(schema);
        self.positive = self.positive.reduced(by);
        self.negative = self.negative.reduced(by);
        self.schema = schema;
    }
}

impl<N: BucketCount> Histogram<N> {
    /// Whether the sample says that its series ended.
    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    /// The sample that says that its series ended.
    pub fn stale() -> Self {
        Self { sum: stale_nan(), ..Self::default() }
    }

    /// Brings a histogram from outside into the form in which it is kept: a schema above 8 becomes 8, empty buckets are
    /// left out, and a staleness marker keeps nothing but itself.
    pub fn normalize(&mut self) {
        if *EXPONENTIAL_SCHEMAS.end() < self.schema && self.schema <= SCHEMA_ACCEPTED_MAX {
            self.reduce_to(*EXPONENTIAL_SCHEMAS.end());
        }
        self.compact();
        if self.is_stale() {
            *self = Self { hint: self.hint, ..Self::stale() };
        }
    }
}

impl IntHistogram {
    /// The same histogram with floats for counts.
    pub fn to_float(&self) -> FloatHistogram {
        FloatHistogram {
            hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: self.zero_count as f64,
            count: self.count as f64,
            sum: self.sum,
            positive: self.positive.map(|c| c as f64),
            negative: self.negative.map(|c| c as f64),
            custom_bounds: Arc::clone(&self.custom_bounds),
        }
    }

    /// Whether both are the same but for the hint, by the bits of the sum, empty buckets counted as any other.
    pub fn is_same_data(&self, other: &Self) -> bool {
        is_same_frame(self, other)
            && self.count == other.count
            && self.zero_count == other.zero_count
            && self.positive == other.positive
            && self.negative == other.negative
    }
}

fn is_same_frame<N>(a: &Histogram<N>, b: &Histogram<N>) -> bool {
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.sum.to_bits() == b.sum.to_bits()
        && is_same_bits(&a.custom_bounds, &b.custom_bounds)
}

fn is_same_bits(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

impl FloatHistogram {
    /// The same histogram with whole numbers for counts, if all of them are such.
    pub fn to_whole(&self) -> Option<IntHistogram> {
        // Up to here every whole number is a float; -0 is not one of them.
        let whole = |v: f64| {
            let number = (0.0..=9_007_199_254_740_992.0).contains(&v).then_some(v as u64)?;
            ((number as f64).to_bits() == v.to_bits()).then_some(number)
        };
        let is_whole = |side: &Buckets<f64>| side.counts().iter().all(|c| whole(*c).is_some());
        if !is_whole(&self.positive) || !is_whole(&self.negative) {
            return None;
        }
        Some(IntHistogram {
            hint: self.hint,
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            zero_count: whole(self.zero_count)?,
            count: whole(self.count)?,
            sum: self.sum,
            positive: self.positive.map(|c| c as u64),
            negative: self.negative.map(|c| c as u64),
            custom_bounds: Arc::clone(&self.custom_bounds),
        })
    }

    /// Whether both are the same but for the hint, bit for bit, empty buckets counted as any other.
    pub fn is_same_data(&self, other: &Self) -> bool {
        let same_side = |a: &Buckets<f64>, b: &Buckets<f64>| {
            a.spans() == b.spans() && is_same_bits(a.counts(), b.counts())
        };
        is_same_frame(self, other)
            && self.count.to_bits() == other.count.to_bits()
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && same_side(&self.positive, &other.positive)
            && same_side(&self.negative, &other.negative)
    }

    /// Whether both say the same (`==` of PromQL): the same layout and the same counts by their bits, whether or not empty
    /// buckets are listed, and whatever the hints.
    pub fn is_equal(&self, other: &Self) -> bool {
        let populated = |b: &(i32, f64)| b.1 != 0.0;
        let same_side = |a: &Buckets<f64>, b: &Buckets<f64>| {
            let bits = |b: (i32, f64)| (b.0, b.1.to_bits());
            let (a, b) = (a.iter().filter(populated), b.iter().filter(populated));
            a.map(bits).eq(b.map(bits))
        };
        self.schema == other.schema
            && self.count.to_bits() == other.count.to_bits()
            && self.sum.to_bits() == other.sum.to_bits()
            && self.zero_threshold == other.zero_threshold
            && self.zero_count.to_bits() == other.zero_count.to_bits()
            && self.custom_bounds == other.custom_bounds
            && same_side(&self.positive, &other.positive)
            && same_side(&self.negative, &other.negative)
    }

    /// All buckets in rising order from either end, the zero bucket only if populated. Where the zero bucket reaches into
    /// a bucket beside it, that bucket begins at its end.
    pub fn all_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket<f64>> {
        let threshold = self.zero_threshold;
        let negative = self.negative_buckets().rev();
        let zero = (self.zero_count > 0.0).then(|| self.zero_bucket());
        negative.chain(zero).chain(self.positive_buckets()).map(move |mut bucket| {
            if bucket.upper < 0.0 && bucket.upper > -threshold {
                bucket.upper = -threshold;
            }
            if bucket.lower > 0.0 && bucket.lower < threshold {
                bucket.lower = threshold;
            }
            bucket
        })
    }

    /// The buckets that the HTTP API shows: as [`FloatHistogram::all_buckets`], without empty ones.
    pub fn populated_buckets(&self) -> impl DoubleEndedIterator<Item = Bucket<f64>> {
        self.all_buckets().filter(|b| b.count != 0.0)
    }
}

impl PartialEq for FloatHistogram {
    /// Everything bit for bit, so that `NaN` equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.hint == other.hint && self.is_same_data(other)
    }
}

impl PartialEq for IntHistogram {
    /// Everything, the sum bit for bit.
    fn eq(&self, other: &Self) -> bool {
        self.hint == other.hint && self.is_same_data(other)
    }
}

impl fmt::Display for FloatHistogram {
    /// The form PromQL gives it, for example as a label in `count_values`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", General(self.count), General(self.sum))?;
        let zero = (self.zero_count != 0.0).then(|| self.zero_bucket());
        let all = self.negative_buckets().rev().chain(zero).chain(self.positive_buckets());
        for bucket in all.filter(|b| b.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;
    use crate::model::buckets::tests::any_buckets;
    use proptest::prelude::*;

    fn ints(schema: i32, count: u64, positive: &[u64]) -> IntHistogram {
        let positive = Buckets::run(0, positive.to_vec()).unwrap();
        IntHistogram { schema, count, positive, ..Histogram::default() }
    }

    #[test]
    fn buckets_are_shown_with_their_bounds() {
        let histogram = FloatHistogram {
            zero_threshold: 0.75,
            zero_count: 2.0,
            count: 1e6,
            sum: -0.5,
            positive: Buckets::run(0, vec![1.0, 0.0, 3.5]).unwrap(),
            negative: Buckets::run(0, vec![4.0, 5.0]).unwrap(),
            ..FloatHistogram::default()
        };
        assert_eq!(
            histogram.to_string(),
            "{count:1e+06, sum:-0.5, [-2,-1):5, [-1,-0.5):4, [-0.75,0.75]:2, (0.5,1]:1, (2,4]:3.5}"
        );
        let rows: Vec<_> =
            histogram.populated_buckets().map(|b| (b.boundary_rule(), b.lower, b.upper, b.count)).collect();
        let expected = [
            (1, -2.0, -1.0, 5.0),
            (1, -1.0, -0.75, 4.0),
            (3, -0.75, 0.75, 2.0),
            (0, 0.75, 1.0, 1.0),
            (0, 2.0, 4.0, 3.5),
        ];
        assert_eq!(rows, expected);
        let custom = FloatHistogram {
            schema: CUSTOM_SCHEMA,
            positive: Buckets::run(0, vec![1.0, 2.0, 3.0]).unwrap(),
            custom_bounds: [-1.0, 2.0].into(),
            ..FloatHistogram::default()
        };
        assert_eq!(custom.to_string(), "{count:0, sum:0, [-Inf,-1]:1, (-1,2]:2, (2,+Inf]:3}");
    }

    #[test]
    fn outside_forms_are_made_ours() {
        let mut fine = ints(52, 3, &[1, 2]);
        fine.normalize();
        assert_eq!(
            (fine.schema, fine.positive.spans(), fine.positive.counts()),
            (8, &[Span { offset: 0, length: 2 }][..], &[1, 2][..])
        );
        let mut stale = IntHistogram { sum: stale_nan(), hint: ResetHint::Gauge, ..ints(0, 3, &[3]) };
        stale.normalize();
        assert!(stale.is_stale() && stale.positive.is_empty() && stale.count == 0);
        for hint in [ResetHint::Unknown, ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge] {
            assert_eq!(ResetHint::from_number(u64::from(hint.number())), hint);
        }
    }

    proptest! {
        #![proptest_config(crate::tests::cases(1_000))]

        #[test]
        fn equal_means_equal_populations(positive in any_buckets(), negative in any_buckets()) {
            let histogram = IntHistogram { positive, negative, ..Histogram::default() }.to_float();
            let mut compact = histogram.clone();
            compact.compact();
            prop_assert!(compact.is_equal(&histogram) && histogram.is_equal(&compact));
            prop_assert!(histogram.is_same_data(&histogram.clone()));
            prop_assert_eq!(compact.to_string(), histogram.to_string());
            if let Some(count) = compact.positive.counts_mut().first_mut() {
                *count += 1.0;
                prop_assert!(!compact.is_equal(&histogram));
                prop_assert!(!compact.is_same_data(&histogram));
            }
        }

        #[test]
        fn buckets_touch_nothing_twice(positive in any_buckets(), negative in any_buckets(), schema in -4..=8_i32, reduced in -4..=8_i32) {
            let mut histogram = IntHistogram { schema, positive, negative, ..Histogram::default() };
            let total = |h: &IntHistogram| h.positive.counts().iter().chain(h.negative.counts()).sum::<u64>();
            let before = total(&histogram);
            histogram.reduce_to(reduced);
            prop_assert_eq!(histogram.schema, schema.min(reduced));
            prop_assert_eq!(total(&histogram), before);
            let all: Vec<_> = histogram.to_float().all_buckets().collect();
            prop_assert!(all.windows(2).all(|w| w[0].upper <= w[1].lower));
            let mut back: Vec<_> = histogram.to_float().all_buckets().rev().collect();
            back.reverse();
            prop_assert_eq!(all, back);
        }
    }
}

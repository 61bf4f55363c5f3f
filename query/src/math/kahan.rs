//! Compensated sums after Neumaier (1974): the rounding errors are summed beside the sum. Hot path.

/// A sum and what rounding lost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KahanSum {
    /// The sum as rounded.
    pub(crate) sum: f64,
    /// What to add to it in the end.
    pub(crate) lost: f64,
}

impl KahanSum {
    /// One number more.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        // Knuth's sum of two: the same error as the comparing form finds, without a branch to predict.
        let total = self.sum + value;
        let added = total - self.sum;
        let lost = self.lost + ((self.sum - (total - added)) + (value - added));
        self.lost = if total.is_infinite() { 0.0 } else { lost };
        self.sum = total;
    }

    /// The numbers of another sum.
    #[inline]
    pub(crate) fn merge(&mut self, other: Self) {
        self.add(other.sum);
        if !self.sum.is_infinite() {
            self.lost += other.lost;
        }
    }

    /// The sum.
    #[inline]
    pub(crate) fn total(self) -> f64 {
        if self.sum.is_infinite() { self.sum } else { self.sum + self.lost }
    }
}

/// The mean of a stream of numbers: a compensated sum, or an incremental mean once the sum would overflow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct KahanMean {
    sum: KahanSum,
    count: f64,
    incremental: bool,
}

impl KahanMean {
    /// One number more.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        if !self.incremental {
            let mut next = self.sum;
            next.add(value);
            if self.count <= 1.0 || !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.incremental = true;
            let before = self.count - 1.0;
            self.sum.sum /= before;
            self.sum.lost /= before;
        }
        let share = (self.count - 1.0) / self.count;
        self.sum = KahanSum { sum: share * self.sum.sum, lost: share * self.sum.lost };
        self.sum.add(value / self.count);
    }

    /// The mean; NaN of no number.
    #[inline]
    pub(crate) fn mean(self) -> f64 {
        if self.incremental {
            self.sum.sum + self.sum.lost
        } else {
            self.sum.sum / self.count + self.sum.lost / self.count
        }
    }
}

/// Mean and spread of a stream of numbers after Welford (1962), compensated.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spread {
    count: f64,
    mean: KahanSum,
    squares: KahanSum,
}

impl Spread {
    /// One number more.
    #[inline]
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - (self.mean.sum + self.mean.lost);
        self.mean.add(delta / self.count);
        self.squares.add(delta * (value - (self.mean.sum + self.mean.lost)));
    }

    /// The population variance.
    #[inline]
    pub(crate) fn variance(self) -> f64 {
        (self.squares.sum + self.squares.lost) / self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn small_numbers_beside_large_ones_are_not_lost() {
        let mut sum = KahanSum::default();
        for v in [1.0, 1e100, 1.0, -1e100] {
            sum.add(v);
        }
        assert_eq!(sum.total(), 2.0);
        let mut left = KahanSum { sum: 1e100, lost: 0.0 };
        left.add(1.0);
        let mut right = KahanSum { sum: -1e100, lost: 0.0 };
        right.add(1.0);
        left.merge(right);
        assert_eq!(left.total(), 2.0);
    }

    #[test]
    fn means_survive_an_overflowing_sum() {
        let mut mean = KahanMean::default();
        for _ in 0..4 {
            mean.add(f64::MAX / 2.0);
        }
        assert!((mean.mean() / (f64::MAX / 2.0) - 1.0).abs() < 1e-12);
        let mut infinite = KahanMean::default();
        for v in [1.0, f64::INFINITY, 2.0] {
            infinite.add(v);
        }
        assert_eq!(infinite.mean(), f64::INFINITY);
        infinite.add(f64::NEG_INFINITY);
        assert!(infinite.mean().is_nan());
    }

    proptest! {
        #[test]
        fn the_loss_is_that_of_the_comparing_form(values in prop::collection::vec(prop::num::f64::ANY, 0..40)) {
            let (mut sum, mut expected) = (KahanSum::default(), KahanSum::default());
            for value in values {
                sum.add(value);
                let total = expected.sum + value;
                expected.lost = if total.is_infinite() {
                    0.0
                } else if expected.sum.abs() >= value.abs() {
                    expected.lost + ((expected.sum - total) + value)
                } else {
                    expected.lost + ((value - total) + expected.sum)
                };
                expected.sum = total;
                let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
                prop_assert!(same(sum.sum, expected.sum) && same(sum.lost, expected.lost), "{sum:?} {expected:?}");
            }
        }
    }

    #[test]
    fn spread_is_the_population_variance() {
        let mut spread = Spread::default();
        for v in [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0] {
            spread.add(v);
        }
        assert_eq!(spread.variance(), 4.0);
    }
}

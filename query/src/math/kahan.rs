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

/// Sums side by side, in columns, so that several are added to at a time.
#[derive(Debug, Clone)]
pub(crate) struct KahanSums {
    sums: Vec<f64>,
    lost: Vec<f64>,
}

impl KahanSums {
    /// So many sums of nothing.
    pub(crate) fn new(count: usize) -> Self {
        Self { sums: vec![0.0; count], lost: vec![0.0; count] }
    }

    /// One number more to each sum.
    #[inline]
    pub(crate) fn add_all(&mut self, values: &[f64]) {
        for ((sum, lost), value) in self.sums.iter_mut().zip(&mut self.lost).zip(values) {
            let mut both = KahanSum { sum: *sum, lost: *lost };
            both.add(*value);
            (*sum, *lost) = (both.sum, both.lost);
        }
    }

    /// One number more to one sum.
    #[inline]
    pub(crate) fn add(&mut self, at: usize, value: f64) {
        let mut both = KahanSum { sum: self.sums[at], lost: self.lost[at] };
        both.add(value);
        (self.sums[at], self.lost[at]) = (both.sum, both.lost);
    }

    /// The sums.
    pub(crate) fn totals(self) -> Vec<f64> {
        self.sums.into_iter().zip(self.lost).map(|(sum, lost)| KahanSum { sum, lost }.total()).collect()
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

/// Spreads side by side, in columns, so that several are added to at a time.
#[derive(Debug, Clone)]
pub(crate) struct Spreads {
    counts: Vec<f64>,
    means: KahanSums,
    squares: KahanSums,
}

impl Spreads {
    /// So many spreads of nothing.
    pub(crate) fn new(count: usize) -> Self {
        Self { counts: vec![0.0; count], means: KahanSums::new(count), squares: KahanSums::new(count) }
    }

    /// One number more to each.
    #[inline]
    pub(crate) fn add_all(&mut self, values: &[f64]) {
        let means = self.means.sums.iter_mut().zip(&mut self.means.lost);
        let squares = self.squares.sums.iter_mut().zip(&mut self.squares.lost);
        for (((count, mean), square), value) in self.counts.iter_mut().zip(means).zip(squares).zip(values) {
            let mut spread = Spread {
                count: *count,
                mean: KahanSum { sum: *mean.0, lost: *mean.1 },
                squares: KahanSum { sum: *square.0, lost: *square.1 },
            };
            spread.add(*value);
            *count = spread.count;
            (*mean.0, *mean.1) = (spread.mean.sum, spread.mean.lost);
            (*square.0, *square.1) = (spread.squares.sum, spread.squares.lost);
        }
    }

    /// One number more to one.
    #[inline]
    pub(crate) fn add(&mut self, at: usize, value: f64) {
        let mut spread = Spread {
            count: self.counts[at],
            mean: KahanSum { sum: self.means.sums[at], lost: self.means.lost[at] },
            squares: KahanSum { sum: self.squares.sums[at], lost: self.squares.lost[at] },
        };
        spread.add(value);
        self.counts[at] = spread.count;
        (self.means.sums[at], self.means.lost[at]) = (spread.mean.sum, spread.mean.lost);
        (self.squares.sums[at], self.squares.lost[at]) = (spread.squares.sum, spread.squares.lost);
    }

    /// The population variances.
    pub(crate) fn variances(self) -> Vec<f64> {
        let squares = self.squares.sums.into_iter().zip(self.squares.lost);
        squares.zip(self.counts).map(|((sum, lost), count)| (sum + lost) / count).collect()
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

    proptest! {
        #[test]
        fn columns_are_as_one_by_one(rows in prop::collection::vec(prop::collection::vec(prop::num::f64::ANY, 3), 1..20)) {
            let (mut sums, mut spreads) = (KahanSums::new(3), Spreads::new(3));
            let mut expected = [(KahanSum::default(), Spread::default()); 3];
            for (number, row) in rows.iter().enumerate() {
                if number % 3 == 2 {
                    row.iter().enumerate().for_each(|(at, v)| { sums.add(at, *v); spreads.add(at, *v); });
                } else {
                    sums.add_all(row);
                    spreads.add_all(row);
                }
                expected.iter_mut().zip(row).for_each(|(e, v)| { e.0.add(*v); e.1.add(*v); });
            }
            let same = |a: f64, b: f64| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            let answers = sums.totals().into_iter().zip(spreads.variances());
            for ((sum, variance), e) in answers.zip(expected) {
                prop_assert!(same(sum, e.0.total()) && same(variance, e.1.variance()), "{sum} {variance} {e:?}");
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

//! Sums and means of many native histograms, compensated as those of floats are.

use super::histogram_arith::{Mended, MixedBuckets, add_signed};
use super::histogram_note::{HistogramNote, Operation};
use super::kahan::KahanSum;
use kymo_storage::model::{FloatHistogram, Histogram, ResetHint};
use std::sync::Arc;

/// Numbers below can be added up over all buckets of two histograms without overflow.
const SAFE: f64 = 1e300;

/// A sum of histograms and what rounding lost in each of its numbers.
#[derive(Debug, Clone)]
struct HistogramSum(Histogram<KahanSum, KahanSum>);

impl HistogramSum {
    fn of(first: &FloatHistogram) -> Self {
        let cell = |value| KahanSum { sum: value, lost: 0.0 };
        Self(Histogram {
            hint: first.hint,
            schema: first.schema,
            zero_threshold: first.zero_threshold,
            zero_count: cell(first.zero_count),
            count: cell(first.count),
            sum: cell(first.sum),
            positive: first.positive.map(cell),
            negative: first.negative.map(cell),
            custom_bounds: Arc::clone(&first.custom_bounds),
        })
    }

    fn add(&mut self, histogram: &FloatHistogram) -> Result<Mended, MixedBuckets> {
        add_signed(&mut self.0, histogram, 1.0)
    }

    fn change(&mut self, to: impl Fn(f64) -> f64) {
        let Histogram { zero_count, count, sum, positive, negative, .. } = &mut self.0;
        let buckets = positive.counts_mut().iter_mut().chain(negative.counts_mut());
        for cell in [zero_count, count, sum].into_iter().chain(buckets) {
            *cell = KahanSum { sum: to(cell.sum), lost: to(cell.lost) };
        }
    }

    fn is_infinite(&self) -> bool {
        let Histogram { zero_count, count, sum, positive, negative, .. } = &self.0;
        let mut buckets = positive.counts().iter().chain(negative.counts());
        [zero_count, count, sum].iter().any(|c| c.sum.is_infinite()) || buckets.any(|c| c.sum.is_infinite())
    }

    fn is_safe(&self) -> bool {
        let Histogram { zero_count, count, sum, positive, negative, .. } = &self.0;
        let mut buckets = positive.counts().iter().chain(negative.counts());
        [zero_count, count, sum].iter().all(|c| c.sum.abs() < SAFE) && buckets.all(|c| c.sum.abs() < SAFE)
    }

    fn total(&self, of: impl Fn(KahanSum) -> f64) -> FloatHistogram {
        let sum = &self.0;
        let mut total = FloatHistogram {
            hint: sum.hint,
            schema: sum.schema,
            zero_threshold: sum.zero_threshold,
            zero_count: of(sum.zero_count),
            count: of(sum.count),
            sum: of(sum.sum),
            positive: sum.positive.map(&of),
            negative: sum.negative.map(&of),
            custom_bounds: Arc::clone(&sum.custom_bounds),
        };
        total.compact();
        total
    }
}

fn is_safe(histogram: &FloatHistogram) -> bool {
    let mut buckets = histogram.positive.counts().iter().chain(histogram.negative.counts());
    [histogram.zero_count, histogram.count, histogram.sum].iter().all(|v| v.abs() < SAFE)
        && buckets.all(|v| v.abs() < SAFE)
}

/// The sum or the mean of a stream of histograms; the mean becomes incremental once the sum would overflow.
#[derive(Debug, Clone, Default)]
pub(crate) struct HistogramFold {
    sum: Option<HistogramSum>,
    is_mean: bool,
    count: f64,
    incremental: bool,
    has_reset: bool,
    has_not_reset: bool,
    reconciled: bool,
}

impl HistogramFold {
    /// A sum of nothing yet.
    pub(crate) fn sum() -> Self {
        Self::default()
    }

    /// A mean of nothing yet.
    pub(crate) fn mean() -> Self {
        Self { is_mean: true, ..Self::default() }
    }

    /// One histogram more.
    ///
    /// # Errors
    /// Its buckets are of another kind than those before: the fold has no result, and it is as before.
    pub(crate) fn add(&mut self, histogram: &FloatHistogram) -> Result<(), MixedBuckets> {
        let Some(sum) = &mut self.sum else {
            self.sum = Some(HistogramSum::of(histogram));
            self.count = 1.0;
            self.note_hint(histogram.hint);
            return Ok(());
        };
        let mended = if self.is_mean {
            Self::add_to_mean(sum, &mut self.incremental, self.count + 1.0, histogram)?
        } else {
            sum.add(histogram)?
        };
        self.count += 1.0;
        self.note_hint(histogram.hint);
        self.reconciled |= mended.reconciled_bounds;
        Ok(())
    }

    fn add_to_mean(
        sum: &mut HistogramSum,
        incremental: &mut bool,
        count: f64,
        histogram: &FloatHistogram,
    ) -> Result<Mended, MixedBuckets> {
        if !*incremental {
            if sum.is_safe() && is_safe(histogram) {
                return sum.add(histogram);
            }
            let mut next = sum.clone();
            let mended = next.add(histogram)?;
            if !next.is_infinite() {
                *sum = next;
                return Ok(mended);
            }
            sum.change(|v| v / (count - 1.0));
            *incremental = true;
        }
        let share = (count - 1.0) / count;
        sum.change(|v| v * share);
        let mut part = histogram.clone();
        super::histogram_arith::divide(&mut part, count);
        sum.add(&part)
    }

    fn note_hint(&mut self, hint: ResetHint) {
        self.has_reset |= hint == ResetHint::Reset;
        self.has_not_reset |= hint == ResetHint::NotReset;
    }

    /// The result, if there was any histogram, and what users should know about it.
    pub(crate) fn finish(self) -> (Option<FloatHistogram>, Vec<HistogramNote>) {
        let count = self.count;
        let result = self.sum.map(|sum| match (self.is_mean, self.incremental) {
            (true, false) => sum.total(|c| c.sum / count + c.lost / count),
            _ => sum.total(|c| c.sum + c.lost),
        });
        let mut notes = Vec::new();
        if self.has_reset && self.has_not_reset {
            notes.push(HistogramNote::ConflictingResets(Operation::Aggregation));
        }
        if self.reconciled {
            notes.push(HistogramNote::ReconciledBounds(Operation::Aggregation));
        }
        (result, notes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::histogram_arith::add;
    use super::super::histogram_arith::tests::{any_histogram, custom, exponential};
    use super::*;
    use proptest::prelude::*;

    fn folded(fold: HistogramFold, parts: &[FloatHistogram]) -> (FloatHistogram, Vec<HistogramNote>) {
        let mut fold = fold;
        parts.iter().for_each(|p| fold.add(p).unwrap());
        let (result, notes) = fold.finish();
        (result.unwrap(), notes)
    }

    #[test]
    fn small_counts_beside_large_ones_are_not_lost() {
        let of =
            |value: f64| FloatHistogram { sum: value, ..exponential(0, (0.001, 5.0), 1, &[value.abs()]) };
        let parts = [1.0, 1e100, 1.0, -1e100].map(of);
        let (sum, notes) = folded(HistogramFold::sum(), &parts);
        assert_eq!(sum.sum, 2.0);
        assert_eq!(sum.zero_count, 20.0);
        assert_eq!(notes, []);
        let (mean, _) = folded(HistogramFold::mean(), &parts);
        assert_eq!((mean.sum, mean.zero_count), (0.5, 5.0));
    }

    #[test]
    fn means_survive_an_overflowing_sum() {
        let large = exponential(0, (0.0, 0.0), 1, &[1e308]);
        let (mean, _) = folded(HistogramFold::mean(), &[large.clone(), large.clone(), large.clone(), large]);
        assert!((mean.count / 1e308 - 1.0).abs() < 1e-12);
        assert!((mean.positive.counts()[0] / 1e308 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn notes_are_made_once() {
        let hinted = |hint, h: FloatHistogram| FloatHistogram { hint, ..h };
        let parts = [
            hinted(ResetHint::Reset, custom(&[1.0, 2.0], &[1.0])),
            hinted(ResetHint::Unknown, custom(&[2.0], &[1.0])),
            hinted(ResetHint::NotReset, custom(&[2.0, 3.0], &[1.0])),
        ];
        let (sum, notes) = folded(HistogramFold::sum(), &parts);
        assert_eq!(sum.hint, ResetHint::Unknown);
        let of = Operation::Aggregation;
        assert_eq!(notes, [HistogramNote::ConflictingResets(of), HistogramNote::ReconciledBounds(of)]);
        let mut fold = HistogramFold::mean();
        fold.add(&parts[0]).unwrap();
        assert_eq!(fold.add(&exponential(0, (0.0, 0.0), 0, &[])), Err(MixedBuckets));
        assert!(HistogramFold::sum().finish().0.is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn folds_are_repeated_additions(parts in proptest::collection::vec(any_histogram(), 1..6)) {
            let kind = parts[0].is_custom();
            let parts: Vec<_> = parts.into_iter().filter(|p| p.is_custom() == kind).collect();
            let expected = parts[1..].iter().fold(parts[0].clone(), |sum, p| add(&sum, p).unwrap().0);
            let (sum, _) = folded(HistogramFold::sum(), &parts);
            prop_assert!(sum.is_equal(&expected), "{sum} is not {expected}");
            let (mut mean, _) = folded(HistogramFold::mean(), &parts);
            super::super::histogram_arith::scale(&mut mean, parts.len() as f64);
            prop_assert!((mean.count - sum.count).abs() < 1e-9);
        }
    }
}

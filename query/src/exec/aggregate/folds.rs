//! Sums and means of native histograms, one a step of a group that has any.

use crate::budget::Reservation;
use crate::column::{Bitmap, Column, histogram_size};
use crate::failure::QueryError;
use crate::math::histogram_note::HistogramNote;
use crate::math::histogram_sum::HistogramFold;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The folds of one group by step.
#[derive(Debug, Default)]
pub(super) struct Folds {
    by_step: BTreeMap<usize, Fold>,
}

#[derive(Debug)]
enum Fold {
    /// Histograms so far.
    Of(HistogramFold),
    /// Floats came first: there will be no result.
    AfterFloats,
    /// Histograms came whose buckets cannot be combined; all that comes later is passed over.
    Broken(HistogramFold),
}

impl Folds {
    /// Whether no histogram has come.
    pub(super) fn is_empty(&self) -> bool {
        self.by_step.is_empty()
    }

    /// Adds the histograms of one series, and takes from it the floats that are to be passed over. `floats` says at which steps
    /// floats came before.
    ///
    /// # Errors
    /// Too little memory.
    pub(super) fn add(
        &mut self,
        column: &mut Column,
        floats: &Bitmap,
        mean: bool,
        memory: &mut Reservation,
        note: impl Fn(HistogramNote),
    ) -> Result<(), QueryError> {
        for (step, fold) in &self.by_step {
            if matches!(fold, Fold::Broken(_)) {
                column.present.clear(*step);
            }
        }
        for (step, histogram) in &column.histograms {
            let fold = match self.by_step.entry(*step) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    // Each number is kept with what rounding lost.
                    let (samples, bytes) = histogram_size(histogram);
                    memory.grow(samples, bytes.saturating_mul(2))?;
                    let fold = if mean { HistogramFold::mean() } else { HistogramFold::sum() };
                    free.insert(if floats.get(*step) { Fold::AfterFloats } else { Fold::Of(fold) })
                }
            };
            if let Fold::Of(sum) = fold
                && sum.add(histogram).is_err()
            {
                note(HistogramNote::MixedBuckets);
                *fold = Fold::Broken(std::mem::take(sum));
            }
        }
        Ok(())
    }

    /// Puts the results into `column`, which holds the floats of the group; where there are both there is no result.
    pub(super) fn finish(self, column: &mut Column, note: impl Fn(HistogramNote)) {
        for (step, fold) in self.by_step {
            let mixed = column.present.get(step);
            if mixed {
                column.present.clear(step);
                note(HistogramNote::MixedGroup);
            }
            match fold {
                Fold::AfterFloats => {}
                Fold::Of(sum) => {
                    let (result, notes) = sum.finish();
                    let shown =
                        |n: &HistogramNote| !mixed || !matches!(n, HistogramNote::ConflictingResets(_));
                    notes.into_iter().filter(shown).for_each(&note);
                    if let (false, Some(histogram)) = (mixed, result) {
                        column.push_histogram(step, Arc::new(histogram));
                    }
                }
                Fold::Broken(sum) => {
                    let reconciled = |n: &HistogramNote| matches!(n, HistogramNote::ReconciledBounds(_));
                    sum.finish().1.into_iter().filter(reconciled).for_each(&note);
                }
            }
        }
    }
}

//! Which samples of a series belong to the window of each step. Hot path.

use crate::budget::Budget;
use kymo_storage::model::Timestamp;

/// The ends of the windows of all steps: `first`, `first + step`, ...; all the same if a selector is pinned (`step` zero).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowSteps {
    /// End of the first window; the end is inside.
    pub(crate) first: Timestamp,
    /// Milliseconds from one to the next.
    pub(crate) step: i64,
    /// How many.
    pub(crate) count: usize,
    /// How long each window is, in milliseconds; its start is outside.
    pub(crate) range: i64,
}

impl WindowSteps {
    /// The end of window `index`.
    #[inline]
    pub(crate) fn end(&self, index: usize) -> Timestamp {
        self.first.saturating_add(self.step.saturating_mul(index as i64))
    }

    /// The end of the last window.
    pub(crate) fn last(&self) -> Timestamp {
        self.end(self.count.saturating_sub(1))
    }

    /// The same steps with windows that begin `before` milliseconds earlier and end `after` milliseconds later.
    pub(crate) fn widened(&self, before: i64, after: i64) -> Self {
        Self {
            first: self.first.saturating_add(after),
            range: self.range.saturating_add(before).saturating_add(after),
            ..*self
        }
    }
}

/// For each step the samples in its window: indices `[first, end)`. Computed once for all series of the same timestamps.
#[derive(Debug, Clone, Default)]
pub(crate) struct WindowPlan {
    bounds: Vec<(u32, u32)>,
}

impl WindowPlan {
    /// Computes the windows of `steps` over sorted `timestamps`.
    pub(crate) fn compute(&mut self, timestamps: &[Timestamp], steps: &WindowSteps) {
        self.bounds.clear();
        self.bounds.reserve(steps.count);
        let (mut first, mut end) = (0usize, 0usize);
        let (mut first_moved, mut end_moved) = (0usize, 0usize);
        for index in 0..steps.count {
            let last = steps.end(index);
            let start = last.saturating_sub(steps.range);
            let next_end = advance(timestamps, end, end_moved, last);
            let next_first = advance(timestamps, first, first_moved, start);
            (end_moved, first_moved) = (next_end - end, next_first - first);
            (end, first) = (next_end, next_first);
            self.bounds.push((first.min(end) as u32, end as u32));
        }
    }

    /// The samples of each window.
    pub(crate) fn bounds(&self) -> &[(u32, u32)] {
        &self.bounds
    }
}

/// The first index from `from` on whose timestamp is after `bound`. Scrapes are regular, so it is usually `moved` further, as it was
/// for the bound before, or next to that.
#[inline]
fn advance(timestamps: &[Timestamp], from: usize, moved: usize, bound: Timestamp) -> usize {
    let at = from + moved;
    let upto = |end: usize| end == from || timestamps.get(end - 1).is_some_and(|t| *t <= bound);
    let ends = |end: usize| timestamps.get(end).is_none_or(|t| *t > bound);
    if at <= timestamps.len() {
        if upto(at) {
            if ends(at) {
                return at;
            }
            if ends(at + 1) {
                return at + 1;
            }
        } else if upto(at - 1) {
            return at - 1;
        }
    }
    from + timestamps[from..].partition_point_near(bound)
}

/// Counting what comes up to a bound when that is usually near: exponential, then binary search.
trait PartitionNear {
    /// How many leading elements are at most `bound`.
    fn partition_point_near(&self, bound: Timestamp) -> usize;
}

impl PartitionNear for [Timestamp] {
    #[inline]
    fn partition_point_near(&self, bound: Timestamp) -> usize {
        let mut reach = 1usize;
        let mut known = 0usize;
        while reach <= self.len() && self[reach - 1] <= bound {
            known = reach;
            reach = reach.saturating_mul(2);
        }
        let upto = (reach - 1).min(self.len());
        if known >= upto {
            return known;
        }
        known + self[known..upto].partition_point(|t| *t <= bound)
    }
}

/// The samples of one series and the windows over them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Windows<'a> {
    /// Times of the samples.
    pub(crate) timestamps: &'a [Timestamp],
    /// Their values.
    pub(crate) values: &'a [f64],
    /// For each step its samples, `[first, end)`.
    pub(crate) bounds: &'a [(u32, u32)],
    /// The ends of the windows.
    pub(crate) steps: WindowSteps,
    /// Ends the work early when the query's time is up; whoever set it must ask it again in the end.
    pub(crate) budget: Option<&'a Budget>,
}

/// After so many windows the budget is asked whether to go on.
const WINDOWS_A_CHECK: usize = 64;

impl Windows<'_> {
    /// Each step with at least `least` samples: its index and its samples.
    #[inline]
    pub(crate) fn of_at_least(&self, least: usize) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let go_on = move |step: &usize| {
            *step == 0
                || !step.is_multiple_of(WINDOWS_A_CHECK)
                || self.budget.is_none_or(|budget| budget.check().is_ok())
        };
        let bounds = self.bounds.iter().enumerate().take_while(move |(step, _)| go_on(step));
        bounds.filter_map(move |(step, (first, end))| {
            let (first, end) = (*first as usize, *end as usize);
            (end - first >= least).then_some((step, first, end))
        })
    }
}

/// After so many windows of a kernel that does little for each the budget is asked whether to go on.
const QUICK_WINDOWS_A_CHECK: usize = 1024;

impl Windows<'_> {
    /// Calls `of` with each step with at least `least` samples, its first sample and the end of its samples: for kernels whose work
    /// does not depend on the length of the window.
    #[inline]
    pub(crate) fn each(&self, least: usize, mut of: impl FnMut(usize, usize, usize)) {
        for (number, bounds) in self.bounds.chunks(QUICK_WINDOWS_A_CHECK).enumerate() {
            if number > 0 && self.budget.is_some_and(|budget| budget.check().is_err()) {
                return;
            }
            let base = number * QUICK_WINDOWS_A_CHECK;
            for (step, (first, end)) in bounds.iter().enumerate() {
                let (first, end) = (*first as usize, *end as usize);
                if end - first >= least {
                    of(base + step, first, end);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn windows_hold_what_lies_in_them(
            gaps in prop::collection::vec(1i64..40, 0..60),
            first in -100i64..300, step in 0i64..90, count in 1usize..20, range in 1i64..200,
        ) {
            let mut timestamps = Vec::new();
            let mut t = -50;
            for gap in gaps { t += gap; timestamps.push(t); }
            let steps = WindowSteps { first, step, count, range };
            let mut plan = WindowPlan::default();
            plan.compute(&timestamps, &steps);
            for (i, (a, b)) in plan.bounds().iter().enumerate() {
                let end = steps.end(i);
                let naive: Vec<i64> = timestamps.iter().copied().filter(|t| *t > end - range && *t <= end).collect();
                prop_assert_eq!(&timestamps[*a as usize..*b as usize], &naive[..]);
            }
        }
    }
}

//! Counters whose samples say since when they count: a start between two samples is a reset, and a first sample has grown from
//! zero since its start. Hot path.

use super::rate::{RateKind, Resets, extrapolation};
use super::window::Windows;
use crate::column::Column;
use kymo_storage::model::Timestamp;

/// A sample's start and its time, both in milliseconds; a start of 0 is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Since {
    /// Since when the sample counts.
    pub(crate) start: Timestamp,
    /// When it was taken.
    pub(crate) time: Timestamp,
}

impl Since {
    /// Sample `index` of two parallel columns; without a start if there is none.
    pub(crate) fn at(starts: &[Timestamp], times: &[Timestamp], index: usize) -> Option<Self> {
        Some(Self { start: starts.get(index).copied().unwrap_or(0), time: *times.get(index)? })
    }

    /// Whether counting began anew after `before`.
    ///
    /// A start at the very time of the sample before is that of a delta, unless that sample's own start was unknown (in
    /// either way: 0, or its own time) or impossible: then this is the first known start of a counter that goes on.
    pub(crate) fn began_after(self, before: Self) -> bool {
        if self.start == 0 || self.start >= self.time {
            return false;
        }
        match self.start.cmp(&before.time) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => before.start != 0 && before.start < before.time,
        }
    }

    /// Whether it claims to count since before the sample `before`, but not since the same time as that one.
    pub(crate) fn overlaps(self, before: Self) -> bool {
        self.start != 0 && self.start < before.time && self.start != before.start
    }

    /// The start, if it lies after `border` and before the sample.
    pub(crate) fn known_after(self, border: Timestamp) -> Option<Timestamp> {
        (self.start != 0 && self.start > border && self.start < self.time).then_some(self.start)
    }
}

/// By how much the growth from `start` to the last sample increases when it is stretched to the end of its window, by the rule
/// of [`extrapolation`]. A single sample (no `gaps`) is not stretched.
pub(crate) fn stretched(
    end: Timestamp,
    start: Timestamp,
    sampled: (Timestamp, Timestamp),
    gaps: usize,
) -> f64 {
    let seconds = |from: Timestamp, to: Timestamp| to.saturating_sub(from) as f64 / 1000.0;
    let gap = if gaps == 0 { 0.0 } else { seconds(sampled.0, sampled.1) / gaps as f64 };
    let mut to_end = seconds(sampled.1, end);
    if to_end >= gap * 1.1 {
        to_end = gap / 2.0;
    }
    let interval = seconds(start, sampled.1);
    (interval + to_end) / interval
}

/// The samples of one series with their starts, as many as timestamps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started<'a> {
    /// The samples.
    pub(crate) windows: &'a Windows<'a>,
    /// Their starts.
    pub(crate) starts: &'a [Timestamp],
}

impl Started<'_> {
    fn at(&self, index: usize) -> Since {
        Since { start: self.starts[index], time: self.windows.timestamps[index] }
    }

    fn began(&self, index: usize) -> bool {
        self.at(index).began_after(self.at(index - 1))
    }

    /// `rate` or `increase`; answers how many windows hold starts that contradict the samples.
    pub(crate) fn extrapolated(&self, kind: RateKind, resets: &mut Resets, out: &mut Column) -> u64 {
        let Windows { timestamps, values, steps, .. } = self.windows;
        resets.find(values, |index| self.began(index));
        let overlaps: Vec<usize> =
            (1..timestamps.len()).filter(|i| self.at(*i).overlaps(self.at(i - 1))).collect();
        let (mut hint, mut overlapping) = (0, 0);
        for (step, first, end) in self.windows.of_at_least(1) {
            let last = end - 1;
            let border = steps.end(step);
            let border = (border.saturating_sub(steps.range), border);
            let mut value = resets.correct(values[last] - values[first], values, first, last, &mut hint);
            let sampled = (timestamps[first], timestamps[last]);
            let from_overlap = overlaps.partition_point(|at| *at <= first);
            overlapping += u64::from(overlaps.get(from_overlap).is_some_and(|at| *at <= last));
            let factor = match self.at(first).known_after(border.0) {
                Some(start) => {
                    value += values[first];
                    stretched(border.1, start, sampled, last - first)
                }
                None if first == last => continue,
                None => extrapolation(border, sampled, (last - first) as f64, Some((values[first], value))),
            };
            let factor = if kind.per_second { factor / (steps.range as f64 / 1000.0) } else { factor };
            out.set(step, value * factor);
        }
        overlapping
    }

    /// `irate`.
    pub(crate) fn instant(&self, out: &mut Column) {
        let Windows { timestamps, values, .. } = self.windows;
        for (step, _, end) in self.windows.of_at_least(2) {
            let (before, last) = (values[end - 2], values[end - 1]);
            let millis = timestamps[end - 1].saturating_sub(timestamps[end - 2]);
            if millis == 0 {
                continue;
            }
            let value = if last < before || self.began(end - 1) { last } else { last - before };
            out.set(step, value / (millis as f64 / 1000.0));
        }
    }

    /// Whether `resets` counts sample `index`, which has one before it.
    pub(crate) fn is_reset(&self, index: usize) -> bool {
        let values = self.windows.values;
        values[index] < values[index - 1] || self.began(index)
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{WindowPlan, WindowSteps};
    use super::*;
    use proptest::prelude::*;

    fn since(start: Timestamp, time: Timestamp) -> Since {
        Since { start, time }
    }

    #[test]
    fn starts_tell_resets_and_overlaps() {
        // Sample before, sample, reset, overlap.
        for (before, now, reset, overlap) in [
            (since(0, 100), since(0, 200), false, false),
            (since(0, 100), since(150, 200), true, false),
            (since(0, 100), since(200, 200), false, false),
            (since(0, 100), since(250, 200), false, false),
            (since(50, 100), since(50, 200), false, false),
            (since(50, 100), since(60, 200), false, true),
            (since(50, 100), since(100, 200), true, false),
            (since(0, 100), since(100, 200), false, false),
            (since(100, 100), since(100, 200), false, false),
            (since(130, 100), since(100, 200), false, false),
        ] {
            assert_eq!(
                (now.began_after(before), now.overlaps(before)),
                (reset, overlap),
                "{before:?} {now:?}"
            );
        }
    }

    /// The definition, over one window.
    fn naive(samples: &[(Since, f64)], border: (Timestamp, Timestamp)) -> Option<f64> {
        let (first, last) = (samples.first()?, samples.last()?);
        let mut increase = last.1 - first.1;
        for pair in samples.windows(2) {
            if pair[1].1 < pair[0].1 || pair[1].0.began_after(pair[0].0) {
                increase += pair[0].1;
            }
        }
        let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
        let mut sampled = seconds(first.0.time, last.0.time);
        let gap = if samples.len() > 1 { sampled / (samples.len() - 1) as f64 } else { 0.0 };
        let mut to_end = seconds(last.0.time, border.1);
        if to_end >= gap * 1.1 {
            to_end = gap / 2.0;
        }
        let mut to_start = seconds(border.0, first.0.time);
        if let Some(start) = first.0.known_after(border.0) {
            increase += first.1;
            sampled = seconds(start, last.0.time);
            to_start = 0.0;
        } else if samples.len() < 2 {
            return None;
        } else {
            if to_start >= gap * 1.1 {
                to_start = gap / 2.0;
            }
            if increase > 0.0 && first.1 >= 0.0 {
                to_start = to_start.min(sampled * (first.1 / increase));
            }
        }
        Some(increase * ((sampled + to_start + to_end) / sampled))
    }

    proptest! {
        #[test]
        fn windows_give_what_the_definition_gives(
            samples in prop::collection::vec((1i64..4, 0i64..6, 0u8..30), 1..120), range in 1i64..60, step in 1i64..20,
        ) {
            let mut time = 1000;
            let (mut times, mut starts, mut values) = (vec![], vec![], vec![]);
            for (gap, back, value) in samples {
                time += gap * 1000;
                times.push(time);
                starts.push(if back == 5 { 0 } else { time - back * 1000 });
                values.push(f64::from(value));
            }
            let steps = WindowSteps { first: 0, step: step * 1000, count: 25, range: range * 1000 };
            let mut plan = WindowPlan::default();
            plan.compute(&times, &steps);
            let windows = Windows { timestamps: &times, values: &values, bounds: plan.bounds(), steps, budget: None };
            let started = Started { windows: &windows, starts: &starts };
            let kind = RateKind { counter: true, per_second: false };
            let mut out = Column::new(25);
            started.extrapolated(kind, &mut Resets::default(), &mut out);
            for (i, (a, b)) in plan.bounds().iter().enumerate() {
                let window: Vec<_> = (*a as usize..*b as usize)
                    .map(|i| (since(starts[i], times[i]), values[i])).collect();
                prop_assert_eq!(out.get(i), naive(&window, (steps.end(i) - steps.range, steps.end(i))));
            }
        }
    }
}

//! `rate`, `increase`, `delta`, `irate`, `idelta`, `changes`, `resets`: work per step does not depend on the window. Hot path.

use super::window::Windows;
use crate::column::Column;
use kymo_storage::model::Timestamp;
use std::ops::Range;

/// Which of the extrapolating functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RateKind {
    /// Falling values are resets, and the series does not reach below zero.
    pub(crate) counter: bool,
    /// Per second.
    pub(crate) per_second: bool,
}

/// Where a counter fell, and the sum of the values it fell from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resets {
    /// Index of the first sample after each fall.
    at: Vec<u32>,
    /// The values before the falls, summed up to each fall and with it.
    sums: Vec<f64>,
    /// Of the windows that follow.
    stretches: Stretches,
}

/// What rates of all series with the same timestamps share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stretches {
    list: Vec<Stretch>,
    /// The steps whose windows have two samples or more, if they are neighbours; else none.
    dense: Range<usize>,
    /// Whether they are per second; `None` until they are computed.
    per_second: Option<bool>,
}

impl Stretches {
    /// Forgets what was computed, because the timestamps are others.
    pub(crate) fn clear(&mut self) {
        self.per_second = None;
    }
}

/// How far the samples of a window reach, and what follows from it unless the counter was zero in the window.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    interval: f64,
    to_start: f64,
    factor: f64,
}

/// A product that is greater than another by this factor is so in spite of rounding.
const SURELY: f64 = 1.0 + 1e-9;
/// Below this, rounding is no longer relative.
const TINY: f64 = 1e-200;

/// Up to so many resets in a window are added one by one, in the order of the samples; beyond, a difference of prefix sums
/// answers in constant time, unless what comes before the window would spoil it.
const RESETS_ADDED: usize = 32;
/// A prefix sum this many times greater than the difference leaves too few of its bits.
const SPOILS: f64 = 1e3;
/// Samples that are looked through at a time for a fall.
const FALLS_AT_A_TIME: usize = 64;

impl Resets {
    /// Exchanges what was computed from timestamps alone: for what holds for the next windows before a kernel runs, and back.
    pub(crate) fn exchange_stretches(&mut self, other: &mut Stretches) {
        std::mem::swap(&mut self.stretches, other);
    }

    /// Computes what depends on the timestamps only, unless it is there.
    fn stretch(&mut self, windows: &Windows<'_>, per_second: bool) {
        let Stretches { list, dense, per_second: known } = &mut self.stretches;
        if *known == Some(per_second) && list.len() == windows.bounds.len() {
            return;
        }
        *known = Some(per_second);
        list.clear();
        list.resize(windows.bounds.len(), Stretch::default());
        let (mut steps, mut count) = (0..0, 0);
        windows.each(2, |step, first, end| {
            let first_step = if count == 0 { step } else { steps.start };
            (steps, count) = (first_step..step + 1, count + 1);
            let last = end - 1;
            let sampled = (windows.timestamps[first], windows.timestamps[last]);
            let end = windows.steps.end(step);
            let border = (end.saturating_sub(windows.steps.range), end);
            let gaps = (last - first) as f64;
            let factor = extrapolation(border, sampled, gaps, None);
            list[step] = Stretch {
                interval: sampled.1.saturating_sub(sampled.0) as f64 / 1000.0,
                to_start: to_border(border.0, sampled.0, sampled, gaps),
                factor: if per_second { factor / (windows.steps.range as f64 / 1000.0) } else { factor },
            };
        });
        *dense = if steps.len() == count { steps } else { 0..0 };
    }

    /// Whether the differences of windows are to be corrected.
    fn count(&self, kind: RateKind) -> bool {
        kind.counter && !self.at.is_empty()
    }

    /// Finds where `values` fall.
    fn find_falls(&mut self, values: &[f64]) {
        // Most counters never fall, which is found out for many samples at a time.
        let falls = |block: &[f64]| block.windows(2).fold(false, |any, pair| any | (pair[1] < pair[0]));
        let blocks = (0..values.len()).step_by(FALLS_AT_A_TIME);
        let may_fall = |from: usize| falls(&values[from..(from + FALLS_AT_A_TIME + 1).min(values.len())]);
        if blocks.into_iter().any(may_fall) {
            self.find(values, |_| false);
        } else {
            self.at.clear();
            self.sums.clear();
        }
    }

    /// Finds the resets among `values`: where they fall, and where `began` says so of the index of the sample after a reset.
    pub(crate) fn find(&mut self, values: &[f64], began: impl Fn(usize) -> bool) {
        self.at.clear();
        self.sums.clear();
        let mut sum = 0.0;
        for (i, pair) in values.windows(2).enumerate() {
            if pair[1] < pair[0] || began(i + 1) {
                sum += pair[0];
                self.at.push(i as u32 + 1);
                self.sums.push(sum);
            }
        }
    }

    /// `value` and the corrections for the resets between samples `first` and `last`. `hint` holds how many resets come before
    /// the window and moves with it.
    #[inline]
    pub(super) fn correct(
        &self,
        value: f64,
        values: &[f64],
        first: usize,
        last: usize,
        hint: &mut usize,
    ) -> f64 {
        if self.at.is_empty() {
            return value;
        }
        while *hint < self.at.len() && self.at[*hint] as usize <= first {
            *hint += 1;
        }
        let from = *hint;
        let upto = from + self.at[from..].partition_point(|at| *at as usize <= last);
        if upto - from > RESETS_ADDED {
            let before = if from == 0 { 0.0 } else { self.sums[from - 1] };
            let lost = self.sums[upto - 1] - before;
            // An infinity is in all sums that follow it, and may be made of what is finite beside the difference.
            if lost.is_finite() && before.abs() <= lost.abs() * SPOILS {
                return value + lost;
            }
        }
        self.at[from..upto].iter().fold(value, |value, at| value + values[*at as usize - 1])
    }
}

/// `rate`, `increase` or `delta`: the difference of the last and the first sample of each window, corrected for resets and
/// extrapolated to the borders of the window.
pub(crate) fn extrapolated(windows: &Windows<'_>, kind: RateKind, resets: &mut Resets, out: &mut Column) {
    if kind.counter {
        resets.find_falls(windows.values);
    }
    resets.stretch(windows, kind.per_second);
    let resets = &*resets;
    if !resets.count(kind) && !resets.stretches.dense.is_empty() {
        if is_constant(windows.values) {
            // A difference of nothing, which no factor changes.
            out.values[resets.stretches.dense.clone()].fill(0.0);
            out.present.set_range(resets.stretches.dense.clone());
            return;
        }
        return differences(windows, kind, &resets.stretches, out);
    }
    let mut hint = 0;
    windows.each(2, |step, first, end| {
        let last = end - 1;
        let from = windows.values[first];
        let mut value = windows.values[last] - from;
        if kind.counter {
            value = resets.correct(value, windows.values, first, last, &mut hint);
        }
        let Stretch { interval, to_start, factor } = resets.stretches.list[step];
        let was_zero = kind.counter
            && value > 0.0
            && from >= 0.0
            && (value < TINY || from * interval <= value * to_start * SURELY);
        let factor = if was_zero {
            factor_from_zero(windows, kind, (step, first, last), (from, value))
        } else {
            factor
        };
        out.set(step, value * factor);
    });
}

/// Whether all of `values` are the same finite number.
fn is_constant(values: &[f64]) -> bool {
    let Some(first) = values.first().filter(|first| first.is_finite()) else { return false };
    values.chunks(FALLS_AT_A_TIME).all(|block| block.iter().fold(true, |all, value| all & (value == first)))
}

/// The factor for a counter that may have been zero within the window of `step`, between samples `first` and `last`; `counted` is its
/// first value and its increase.
#[cold]
fn factor_from_zero(
    windows: &Windows<'_>,
    kind: RateKind,
    (step, first, last): (usize, usize, usize),
    counted: (f64, f64),
) -> f64 {
    let border = windows.steps.end(step);
    let border = (border.saturating_sub(windows.steps.range), border);
    let sampled = (windows.timestamps[first], windows.timestamps[last]);
    let factor = extrapolation(border, sampled, (last - first) as f64, Some(counted));
    if kind.per_second { factor / (windows.steps.range as f64 / 1000.0) } else { factor }
}

/// The rates of a series without resets, whose steps with a rate are neighbours: one multiplication each.
fn differences(windows: &Windows<'_>, kind: RateKind, stretches: &Stretches, out: &mut Column) {
    let (dense, values) = (stretches.dense.clone(), windows.values);
    let steps = windows.bounds[dense.clone()].iter().zip(&stretches.list[dense.clone()]);
    let places = dense.clone().zip(&mut out.values[dense.clone()]);
    for ((step, out), ((first, end), stretch)) in places.zip(steps) {
        let (first, last) = (*first as usize, *end as usize - 1);
        let from = values[first];
        let value = values[last] - from;
        let was_zero = kind.counter
            & (value > 0.0)
            & (from >= 0.0)
            & ((value < TINY) | (from * stretch.interval <= value * stretch.to_start * SURELY));
        *out = if was_zero {
            value * factor_from_zero(windows, kind, (step, first, last), (from, value))
        } else {
            value * stretch.factor
        };
    }
    out.present.set_range(dense);
}

/// How far a difference is stretched from the sample at `time` to `border` at most, in seconds.
fn to_border(border: Timestamp, time: Timestamp, sampled: (Timestamp, Timestamp), gaps: f64) -> f64 {
    let distance = time.abs_diff(border) as f64 / 1000.0;
    let gap = sampled.1.saturating_sub(sampled.0) as f64 / 1000.0 / gaps;
    if distance >= gap * 1.1 { gap / 2.0 } else { distance }
}

/// By how much a difference between samples grows when it is stretched to the borders of its window.
///
/// If the samples nearest to a border are closer than 1.1 average gaps, the difference is stretched to the border, else by half
/// a gap. A counter (`counter`: first value and increase) is not stretched to before it was zero.
#[inline]
pub(super) fn extrapolation(
    border: (Timestamp, Timestamp),
    sampled: (Timestamp, Timestamp),
    gaps: f64,
    counter: Option<(f64, f64)>,
) -> f64 {
    let mut to_start = sampled.0.saturating_sub(border.0) as f64 / 1000.0;
    let mut to_end = border.1.saturating_sub(sampled.1) as f64 / 1000.0;
    let interval = sampled.1.saturating_sub(sampled.0) as f64 / 1000.0;
    let gap = interval / gaps;
    let threshold = gap * 1.1;
    if to_start >= threshold {
        to_start = gap / 2.0;
    }
    if let Some((first, increase)) = counter
        && increase > 0.0
        && first >= 0.0
    {
        let to_zero = interval * (first / increase);
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = gap / 2.0;
    }
    (interval + to_start + to_end) / interval
}

/// `irate` (`counter`) or `idelta`: from the last two samples of each window.
pub(crate) fn instant(windows: &Windows<'_>, counter: bool, out: &mut Column) {
    windows.each(2, |step, _, end| {
        let (before, last) = (windows.values[end - 2], windows.values[end - 1]);
        let millis = windows.timestamps[end - 1].saturating_sub(windows.timestamps[end - 2]);
        if millis == 0 {
            return;
        }
        if !counter {
            out.set(step, last - before);
            return;
        }
        let value = if last < before { last } else { last - before };
        out.set(step, value / (millis as f64 / 1000.0));
    });
}

/// `changes`: how often neighbours in the window differ (`NaN` does not differ from `NaN`).
pub(crate) fn changes(windows: &Windows<'_>, prefix: &mut Vec<u32>, out: &mut Column) {
    count_pairs(windows, prefix, out, |i| differ(windows.values[i - 1], windows.values[i]));
}

/// Whether `changes` counts these neighbours.
#[inline]
pub(crate) fn differ(before: f64, now: f64) -> bool {
    before != now && !(before.is_nan() && now.is_nan())
}

/// `resets`: how often the value falls in the window.
pub(crate) fn resets(windows: &Windows<'_>, prefix: &mut Vec<u32>, out: &mut Column) {
    count_pairs(windows, prefix, out, |i| windows.values[i] < windows.values[i - 1]);
}

/// How many samples of each window but its first are counted; `hit` is told the index of a sample that has one before it.
pub(crate) fn count_pairs(
    windows: &Windows<'_>,
    prefix: &mut Vec<u32>,
    out: &mut Column,
    hit: impl Fn(usize) -> bool,
) {
    prefix.clear();
    prefix.push(0);
    let mut count = 0;
    for index in 1..windows.values.len() {
        count += u32::from(hit(index));
        prefix.push(count);
    }
    for (step, first, end) in windows.of_at_least(1) {
        out.set(step, f64::from(prefix[end - 1] - prefix[first]));
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::{WindowPlan, WindowSteps};
    use super::*;
    use proptest::prelude::*;

    fn naive_increase(values: &[f64]) -> f64 {
        let mut increase = values[values.len() - 1] - values[0];
        for pair in values.windows(2) {
            if pair[1] < pair[0] {
                increase += pair[0];
            }
        }
        increase
    }

    #[test]
    fn what_was_lost_before_a_window_does_not_reach_into_it() {
        for lost in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e300, -1e300, 1e17] {
            let saw = (0..200).map(|i| f64::from(i % 2) * 3.0 + 0.5);
            let values: Vec<f64> = [lost, -f64::INFINITY, lost, 0.0].into_iter().chain(saw).collect();
            let mut resets = Resets::default();
            resets.find(&values, |_| false);
            let (first, last) = (4, values.len() - 1);
            let met = resets.correct(values[last] - values[first], &values, first, last, &mut 0);
            assert_eq!(met, naive_increase(&values[first..]), "after {lost}");
        }
    }

    #[test]
    fn huge_falls_are_added_in_order() {
        let values: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { f64::MAX } else { -f64::MAX }).collect();
        let mut resets = Resets::default();
        resets.find(&values, |_| false);
        let met = resets.correct(values[99] - values[0], &values, 0, 99, &mut 0);
        assert_eq!((met, naive_increase(&values)), (f64::NEG_INFINITY, f64::NEG_INFINITY));
    }

    proptest! {
        #[test]
        fn prefix_sums_give_what_each_window_gives(
            values in prop::collection::vec(0u8..30, 1..200), range in 1i64..120, step in 1i64..50,
            grows in 0u8..4, base in 0u32..5000,
        ) {
            let mut values: Vec<f64> = values.into_iter().map(f64::from).collect();
            match grows {
                0 | 1 => {
                    // A counter that never falls, from zero or from where windows need not care.
                    let mut sum = f64::from(base) * f64::from(grows);
                    values.iter_mut().for_each(|v| { sum += *v; *v = sum; });
                }
                2 => values.fill(f64::from(base)),
                _ => {}
            }
            let timestamps: Vec<i64> = (0..values.len() as i64).map(|i| i * 1000).collect();
            let steps = WindowSteps { first: 0, step: step * 1000, count: 20, range: range * 1000 };
            let mut plan = WindowPlan::default();
            plan.compute(&timestamps, &steps);
            let windows = Windows { timestamps: &timestamps, values: &values, bounds: plan.bounds(), steps, budget: None };
            let mut out = Column::new(20);
            extrapolated(&windows, RateKind { counter: true, per_second: false }, &mut Resets::default(), &mut out);
            let mut changed = Column::new(20);
            changes(&windows, &mut Vec::new(), &mut changed);
            let mut fell = Column::new(20);
            resets(&windows, &mut Vec::new(), &mut fell);
            for (i, (a, b)) in plan.bounds().iter().enumerate() {
                let (a, b) = (*a as usize, *b as usize);
                prop_assert_eq!(out.get(i).is_some(), b - a >= 2);
                prop_assert_eq!(changed.get(i).is_some(), b > a);
                if b - a >= 2 {
                    let increase = naive_increase(&values[a..b]);
                    let border = steps.end(i);
                    let factor = extrapolation(
                        (border - steps.range, border), (timestamps[a], timestamps[b - 1]), (b - 1 - a) as f64,
                        Some((values[a], increase)));
                    prop_assert_eq!(out.get(i), Some(increase * factor));
                }
                if b > a {
                    let pairs = values[a..b].windows(2);
                    prop_assert_eq!(changed.get(i), Some(pairs.clone().filter(|p| p[0] != p[1]).count() as f64));
                    prop_assert_eq!(fell.get(i), Some(pairs.filter(|p| p[1] < p[0]).count() as f64));
                }
            }
        }
    }
}

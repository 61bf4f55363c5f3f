//! `anchored` and `smoothed` ranges: windows that use the real or the interpolated values at their borders.
//!
//! The windows given to these kernels are wider than the range asked for (see [`WindowSteps::widened`]): they begin one
//! lookback earlier and, if smoothed, end one lookback later.

use super::rate::RateKind;
use super::window::{WindowSteps, Windows};
use crate::column::Column;
use kymo_storage::model::Timestamp;

/// How a range treats its borders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    /// The last real sample at or before the start; the last real sample before the end.
    Anchored,
    /// Values interpolated at start and end.
    Smoothed,
}

impl Border {
    /// The windows to read for the windows asked for.
    pub(crate) fn widen(self, steps: &WindowSteps, lookback: i64) -> WindowSteps {
        steps.widened(lookback, if self == Self::Smoothed { lookback } else { 0 })
    }
}

/// The value at `t` on the line through two samples; a falling counter is taken to have started from zero.
fn interpolate(a: (Timestamp, f64), b: (Timestamp, f64), t: Timestamp, counter: bool) -> f64 {
    let from = if counter && b.1 < a.1 { 0.0 } else { a.1 };
    from + (b.1 - from) * t.saturating_sub(a.0) as f64 / b.0.saturating_sub(a.0) as f64
}

/// The samples of one wide window and the range asked for.
struct Wide<'a> {
    timestamps: &'a [Timestamp],
    values: &'a [f64],
    start: Timestamp,
    end: Timestamp,
    smoothed: bool,
}

/// What a wide window says about its range: the values at both borders and the samples strictly between.
struct Bordered {
    left: f64,
    right: f64,
    inside: (usize, usize),
}

impl Wide<'_> {
    /// The last sample at or before the start of the range, or the first of all.
    fn first(&self) -> usize {
        let upto = self.timestamps.len().saturating_sub(1);
        self.timestamps[..upto].partition_point(|t| *t <= self.start).saturating_sub(1)
    }

    /// `None` if there is no sample to speak for the range.
    fn borders(&self, counter: bool) -> Option<Bordered> {
        let mut last = self.timestamps.len().checked_sub(1)?;
        let mut first = self.first();
        if self.smoothed {
            last = self.timestamps[..last].partition_point(|t| *t < self.end);
        }
        if self.timestamps[last] <= self.start || (self.smoothed && self.timestamps[first] > self.end) {
            return None;
        }
        let at = |i: usize| (self.timestamps[i], self.values[i]);
        let left = if self.smoothed && self.timestamps[first] < self.start {
            interpolate(at(first), at(first + 1), self.start, counter)
        } else {
            self.values[first]
        };
        let right = if self.smoothed && last > 0 && self.timestamps[last] > self.end {
            interpolate(at(last - 1), at(last), self.end, counter)
        } else {
            self.values[last]
        };
        if self.timestamps[first] <= self.start {
            first += 1;
        }
        let after = if self.timestamps[last] >= self.end { last } else { last + 1 };
        Some(Bordered { left, right, inside: (first, after.max(first)) })
    }
}

fn wide<'a>(
    windows: &Windows<'a>,
    asked: &WindowSteps,
    border: Border,
    step: usize,
    first: usize,
    end: usize,
) -> Wide<'a> {
    let last = asked.end(step);
    Wide {
        timestamps: &windows.timestamps[first..end],
        values: &windows.values[first..end],
        start: last.saturating_sub(asked.range),
        end: last,
        smoothed: border == Border::Smoothed,
    }
}

/// `rate`, `increase` or `delta` without extrapolation: the difference of the values at the borders, corrected for resets.
pub(crate) fn difference(
    windows: &Windows<'_>,
    asked: &WindowSteps,
    border: Border,
    kind: RateKind,
    out: &mut Column,
) {
    for (step, first, end) in windows.of_at_least(1) {
        let wide = wide(windows, asked, border, step, first, end);
        let Some(borders) = wide.borders(kind.counter) else { continue };
        let mut value = borders.right - borders.left;
        if kind.counter {
            let mut correction = 0.0;
            let mut before = borders.left;
            for now in wide.values[borders.inside.0..borders.inside.1].iter().copied().chain([borders.right])
            {
                if now < before {
                    correction += before;
                }
                before = now;
            }
            value += correction;
        }
        if kind.per_second {
            value /= asked.range as f64 / 1000.0;
        }
        out.set(step, value);
    }
}

/// `changes` or `resets` of anchored ranges: how many samples are counted after the one at or before the start. `hit` is told the
/// index of a sample that has one before it.
pub(crate) fn count_anchored(
    windows: &Windows<'_>,
    asked: &WindowSteps,
    out: &mut Column,
    hit: impl Fn(usize) -> bool,
) {
    for (step, first, end) in windows.of_at_least(1) {
        let wide = wide(windows, asked, Border::Anchored, step, first, end);
        if wide.timestamps.last().is_none_or(|t| *t <= wide.start) {
            continue;
        }
        let counted = (first + wide.first() + 1..end).filter(|index| hit(*index));
        out.set(step, counted.count() as f64);
    }
}

/// The samples an anchored or smoothed range itself consists of: those inside and one at each border.
pub(crate) fn points(
    timestamps: &[Timestamp],
    values: &[f64],
    range: (Timestamp, Timestamp),
    border: Border,
) -> Vec<(Timestamp, f64)> {
    let smoothed = border == Border::Smoothed;
    let wide = Wide { timestamps, values, start: range.0, end: range.1, smoothed };
    let Some(borders) = wide.borders(false) else { return Vec::new() };
    let inside = borders.inside.0..borders.inside.1;
    let mut points = vec![(range.0, borders.left)];
    points.extend(inside.map(|i| (timestamps[i], values[i])));
    points.push((range.1, borders.right));
    points
}

/// A smoothed instant selector: the value on the line between the neighbours of each step, or the sample before it if there is
/// none after.
pub(crate) fn smoothed_instant(windows: &Windows<'_>, asked: &WindowSteps, out: &mut Column) {
    for (step, first, end) in windows.of_at_least(1) {
        let t = asked.end(step);
        let (timestamps, values) = (&windows.timestamps[first..end], &windows.values[first..end]);
        let after = timestamps.partition_point(|s| *s < t);
        match (after.checked_sub(1), timestamps.get(after)) {
            (_, Some(s)) if *s == t => out.set(step, values[after]),
            (Some(before), Some(s)) => {
                out.set(
                    step,
                    interpolate((timestamps[before], values[before]), (*s, values[after]), t, false),
                );
            }
            (Some(before), None) => out.set(step, values[before]),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders_are_anchored_or_smoothed() {
        let timestamps = [0, 15, 30, 45, 60].map(|t| t * 1000);
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        let range = (20_000, 50_000);
        assert_eq!(
            points(&timestamps[..4], &values[..4], range, Border::Anchored),
            [(20_000, 2.0), (30_000, 3.0), (45_000, 4.0), (50_000, 4.0)]
        );
        let smooth = points(&timestamps, &values, range, Border::Smoothed);
        assert_eq!(smooth.len(), 4);
        assert!((smooth[0].1 - 2.333_333).abs() < 1e-5 && (smooth[3].1 - 4.333_333).abs() < 1e-5);
        assert!(points(&timestamps[..1], &values[..1], range, Border::Anchored).is_empty());
    }
}

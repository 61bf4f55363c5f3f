//! What a leaf computes over windows that hold native histograms, after its kernel has seen the floats.

use super::kernel::Kernel;
use crate::column::Column;
use crate::math::extended::Border;
use crate::math::histogram_note::HistogramNote;
use crate::math::histogram_rate::{HistogramWindow, interpolate};
use crate::math::histogram_sum::HistogramFold;
use crate::math::start_time::Since;
use crate::math::window::Windows;
use crate::plan::Window;
use kymo_storage::model::{FloatHistogram, ResetHint, Timestamp, is_stale};
use std::sync::Arc;

/// The histograms of one series and the windows over them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HistogramWindows<'a> {
    /// Milliseconds, increasing.
    pub(crate) timestamps: &'a [Timestamp],
    /// As many histograms.
    pub(crate) histograms: &'a [Arc<FloatHistogram>],
    /// Since when each counts, 0 if that is not known; empty if no attention is to be paid to it.
    pub(crate) starts: &'a [Timestamp],
    /// For each step its histograms, `[first, end)`.
    pub(crate) bounds: &'a [(u32, u32)],
}

/// The samples of one series of which some are histograms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Both<'a> {
    /// The floats, whose results are in the column.
    pub(crate) floats: &'a Windows<'a>,
    /// The starts of the floats; empty if there is none or no attention is to be paid to them.
    pub(crate) float_starts: &'a [Timestamp],
    /// The histograms.
    pub(crate) histograms: &'a HistogramWindows<'a>,
    /// What was asked for if the windows are wider.
    pub(crate) window: &'a Window,
}

/// After so many windows the budget is asked whether to go on.
const WINDOWS_A_CHECK: usize = 16;

/// The samples of one window.
struct Step<'a> {
    step: usize,
    float_times: &'a [Timestamp],
    floats: &'a [f64],
    float_starts: &'a [Timestamp],
    histograms: HistogramWindow<'a, Arc<FloatHistogram>>,
}

impl Both<'_> {
    /// Adds to the results for floats in `out` those of windows with histograms, and takes away those that do not hold. The
    /// answer is what users should know.
    pub(crate) fn run(&self, kernel: &Kernel, out: &mut Column) -> Vec<HistogramNote> {
        let mut notes = Vec::new();
        let mut overlapping = 0;
        for (step, (first, end)) in self.histograms.bounds.iter().enumerate() {
            if step.is_multiple_of(WINDOWS_A_CHECK)
                && self.floats.budget.is_some_and(|budget| budget.check().is_err())
            {
                break;
            }
            let histograms = *first as usize..*end as usize;
            if histograms.is_empty() {
                continue;
            }
            let (first, end) = self.floats.bounds.get(step).copied().unwrap_or_default();
            let floats = first as usize..end as usize;
            let asked_end = self.window.steps.end(step);
            let window = Step {
                step,
                float_times: &self.floats.timestamps[floats.clone()],
                floats: &self.floats.values[floats.clone()],
                float_starts: self.float_starts.get(floats).unwrap_or_default(),
                histograms: HistogramWindow {
                    border: (asked_end.saturating_sub(self.window.steps.range), asked_end),
                    timestamps: &self.histograms.timestamps[histograms.clone()],
                    histograms: &self.histograms.histograms[histograms.clone()],
                    starts: self.histograms.starts.get(histograms).unwrap_or_default(),
                },
            };
            let mut found = Vec::new();
            window.compute(kernel, self.window.border, &mut found, out);
            for note in found {
                if let HistogramNote::StartOverlap(windows) = note {
                    overlapping += windows;
                } else if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        if overlapping > 0 {
            notes.push(HistogramNote::StartOverlap(overlapping));
        }
        notes
    }
}

impl Step<'_> {
    fn compute(
        &self,
        kernel: &Kernel,
        border: Option<Border>,
        notes: &mut Vec<HistogramNote>,
        out: &mut Column,
    ) {
        match (kernel, border) {
            (Kernel::Newest, None) | (Kernel::FloatTime, _) => self.newest(out),
            (Kernel::NewestTime, _) => {
                self.newest_number(out, self.histograms.timestamps.last().copied());
            }
            (Kernel::NewestStart, _) => self.newest_number(out, self.histograms.starts.last().copied()),
            (Kernel::Newest, Some(_)) => self.unmixed(notes, out, |notes| self.smoothed(notes)),
            (Kernel::Rate(kind), None) => {
                self.unmixed(notes, out, |notes| self.histograms.extrapolated(*kind, notes));
            }
            (Kernel::Rate(kind), Some(border)) => {
                self.unmixed(notes, out, |notes| self.histograms.bordered(border, *kind, notes));
            }
            (Kernel::Instant { counter }, _) => self.last_two(*counter, notes, out),
            (Kernel::Sum, _) => self.unmixed(notes, out, |notes| self.fold(HistogramFold::sum(), notes)),
            (Kernel::Avg, _) => self.unmixed(notes, out, |notes| self.fold(HistogramFold::mean(), notes)),
            (Kernel::Changes | Kernel::Resets, _) => {
                let resets = matches!(kernel, Kernel::Resets);
                match self.count_pairs(resets, border.is_some()) {
                    Some(count) => out.set(self.step, count as f64),
                    None => out.present.clear(self.step),
                }
            }
            (Kernel::Count, _) => {
                out.set(self.step, (self.floats.len() + self.histograms.histograms.len()) as f64);
            }
            (Kernel::Present, _) => out.set(self.step, 1.0),
            (Kernel::First, _) => self.edge(true, out),
            (Kernel::Last, _) => self.edge(false, out),
            (Kernel::FirstTime | Kernel::LastTime, _) => {
                let first = matches!(kernel, Kernel::FirstTime);
                let pick = |times: &[Timestamp]| if first { times.first() } else { times.last() }.copied();
                let both = [pick(self.float_times), pick(self.histograms.timestamps)].into_iter().flatten();
                if let Some(time) = if first { both.min() } else { both.max() } {
                    out.set(self.step, time as f64 / 1000.0);
                }
            }
            (
                Kernel::Extremum(_)
                | Kernel::Spread { .. }
                | Kernel::Quantile(_)
                | Kernel::Deviation
                | Kernel::Deriv
                | Kernel::Predict(..)
                | Kernel::Smooth(..),
                _,
            ) => {
                if !self.floats.is_empty() {
                    notes.push(HistogramNote::IgnoredInRange);
                }
            }
        }
    }

    fn put(&self, histogram: FloatHistogram, out: &mut Column) {
        out.push_histogram(self.step, Arc::new(histogram));
    }

    /// A function of histograms alone: if there are floats too there is no result.
    fn unmixed(
        &self,
        notes: &mut Vec<HistogramNote>,
        out: &mut Column,
        of: impl FnOnce(&mut Vec<HistogramNote>) -> Option<FloatHistogram>,
    ) {
        if !self.floats.is_empty() {
            out.present.clear(self.step);
            notes.push(HistogramNote::MixedSamples);
        } else if let Some(result) = of(notes) {
            self.put(result, out);
        }
    }

    /// Whether the newest sample is a histogram, and its time.
    fn newest_is_histogram(&self) -> Option<(Timestamp, &Arc<FloatHistogram>)> {
        let time = *self.histograms.timestamps.last()?;
        let newest = self.float_times.last().is_none_or(|t| *t < time);
        if newest { Some((time, self.histograms.histograms.last()?)) } else { None }
    }

    fn newest(&self, out: &mut Column) {
        if let Some((_, histogram)) = self.newest_is_histogram() {
            out.present.clear(self.step);
            if !is_stale(histogram.sum) {
                out.push_histogram(self.step, Arc::clone(histogram));
            }
        }
    }

    /// If the newest sample is a histogram: `millis` of it, in seconds.
    fn newest_number(&self, out: &mut Column, millis: Option<Timestamp>) {
        if let Some((_, histogram)) = self.newest_is_histogram() {
            if is_stale(histogram.sum) {
                out.present.clear(self.step);
            } else {
                out.set(self.step, millis.unwrap_or(0) as f64 / 1000.0);
            }
        }
    }

    /// The first or the last sample, whatever it is.
    fn edge(&self, first: bool, out: &mut Column) {
        let times = self.histograms.timestamps;
        let (time, histogram, other) = if first {
            (times.first(), self.histograms.histograms.first(), self.float_times.first())
        } else {
            (times.last(), self.histograms.histograms.last(), self.float_times.last())
        };
        let (Some(time), Some(histogram)) = (time, histogram) else { return };
        let is_it = other.is_none_or(|t| if first { t >= time } else { t <= time });
        if is_it {
            out.present.clear(self.step);
            out.push_histogram(self.step, Arc::clone(histogram));
        }
    }

    /// `irate` or `idelta`: of the last two samples.
    fn last_two(&self, counter: bool, notes: &mut Vec<HistogramNote>, out: &mut Column) {
        let times = self.histograms.timestamps;
        let (floats, histograms) = (self.float_times.len(), times.len());
        if floats + histograms < 2 {
            return;
        }
        // How many of the last two samples are floats.
        let mut taken = (0, 0);
        for _ in 0..2 {
            let float = floats.checked_sub(taken.0 + 1).map(|i| self.float_times[i]);
            let histogram = histograms.checked_sub(taken.1 + 1).map(|i| times[i]);
            if float > histogram {
                taken.0 += 1;
            } else {
                taken.1 += 1;
            }
        }
        match taken {
            (2, 0) => {}
            (0, 2) => {
                out.present.clear(self.step);
                if let Some(result) = self.histograms.instant(counter, notes) {
                    self.put(result, out);
                }
            }
            _ => {
                out.present.clear(self.step);
                notes.push(HistogramNote::MixedSamples);
            }
        }
    }

    fn fold(&self, mut fold: HistogramFold, notes: &mut Vec<HistogramNote>) -> Option<FloatHistogram> {
        for histogram in self.histograms.histograms {
            if fold.add(histogram).is_err() {
                notes.push(HistogramNote::MixedBuckets);
                return None;
            }
        }
        let (result, more) = fold.finish();
        notes.extend(more);
        result
    }

    /// How often neighbours differ, or how often counting began anew. With `anchored`, the newest sample at or before the start
    /// is the first that counts; `None` if there is none after the start.
    fn count_pairs(&self, resets: bool, anchored: bool) -> Option<usize> {
        let (mut float, mut histogram) = (0, 0);
        if anchored {
            (float, histogram) = self.anchor()?;
        }
        let mut count = 0;
        let mut before: Option<(Sample<'_>, Since)> = None;
        loop {
            let float_time = self.float_times.get(float);
            let histogram_time = self.histograms.timestamps.get(histogram);
            let now = match (float_time, histogram_time) {
                (None, None) => return Some(count),
                (Some(f), h) if h.is_none_or(|h| f < h) => {
                    float += 1;
                    let index = float - 1;
                    let since = Since::at(self.float_starts, self.float_times, index)?;
                    (Sample::Float(self.floats[index]), since)
                }
                _ => {
                    histogram += 1;
                    let index = histogram - 1;
                    let since = Since::at(self.histograms.starts, self.histograms.timestamps, index)?;
                    (Sample::Histogram(&self.histograms.histograms[index]), since)
                }
            };
            if let Some(before) = before {
                let is_counted = if resets {
                    now.0.is_reset_after(before.0) || now.1.began_after(before.1)
                } else {
                    now.0.differs_from(before.0)
                };
                count += usize::from(is_counted);
            }
            before = Some(now);
        }
    }

    /// The indices of the first float and the first histogram that count.
    fn anchor(&self) -> Option<(usize, usize)> {
        let start = self.histograms.border.0;
        let upto = |times: &[Timestamp]| times.partition_point(|t| *t <= start);
        let (floats, histograms) = (upto(self.float_times), upto(self.histograms.timestamps));
        if floats >= self.float_times.len() && histograms >= self.histograms.timestamps.len() {
            return None;
        }
        let float = floats.checked_sub(1).map(|i| self.float_times[i]);
        let histogram = histograms.checked_sub(1).map(|i| self.histograms.timestamps[i]);
        Some(match (float, histogram) {
            (None, None) => (0, 0),
            (float, histogram) if float >= histogram => (floats - 1, histograms),
            _ => (floats, histograms - 1),
        })
    }

    /// A smoothed instant selector.
    fn smoothed(&self, notes: &mut Vec<HistogramNote>) -> Option<FloatHistogram> {
        let t = self.histograms.border.1;
        let (times, histograms) = (self.histograms.timestamps, self.histograms.histograms);
        let after = times.partition_point(|s| *s < t);
        let before = after.checked_sub(1);
        match (before, times.get(after)) {
            (_, Some(time)) if *time == t => Some(FloatHistogram::clone(&histograms[after])),
            (Some(before), Some(time)) => {
                let (a, b) = (&histograms[before], &histograms[after]);
                if a.is_custom() != b.is_custom() {
                    notes.push(HistogramNote::MixedBuckets);
                    return None;
                }
                let counter = a.hint != ResetHint::Gauge || b.hint != ResetHint::Gauge;
                interpolate((times[before], a), (*time, b), t, counter, notes)
            }
            (Some(before), None) => {
                // The hint tells of neighbours in time, which this is not.
                Some(FloatHistogram {
                    hint: ResetHint::Unknown,
                    ..FloatHistogram::clone(&histograms[before])
                })
            }
            (None, _) => None,
        }
    }
}

/// One sample of either kind.
#[derive(Clone, Copy)]
enum Sample<'a> {
    Float(f64),
    Histogram(&'a FloatHistogram),
}

impl Sample<'_> {
    fn differs_from(self, before: Self) -> bool {
        match (before, self) {
            (Self::Float(a), Self::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
            (Self::Histogram(a), Self::Histogram(b)) => !b.is_equal(a),
            _ => true,
        }
    }

    fn is_reset_after(self, before: Self) -> bool {
        match (before, self) {
            (Self::Float(a), Self::Float(b)) => b < a,
            (Self::Histogram(a), Self::Histogram(b)) => b.is_reset_after(a),
            _ => true,
        }
    }
}

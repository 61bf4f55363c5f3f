//! `rate`, `increase`, `delta`, `irate` and `idelta` of native histograms, one window at a time.

use super::extended::Border;
use super::histogram_arith::{MixedBuckets, add, divide, scale, subtract};
use super::histogram_note::{HistogramNote, Operation};
use super::rate::{RateKind, extrapolation};
use super::start_time::{Since, stretched};
use kymo_storage::model::{FloatHistogram, ResetHint, Timestamp};
use std::borrow::Borrow;

/// The histograms of one window, which has no floats. `H` is a histogram or anything that leads to one.
#[derive(Debug)]
pub(crate) struct HistogramWindow<'a, H> {
    /// When the window starts (outside) and ends (inside), without the lookback of extended ranges.
    pub(crate) border: (Timestamp, Timestamp),
    /// Milliseconds, increasing.
    pub(crate) timestamps: &'a [Timestamp],
    /// As many histograms.
    pub(crate) histograms: &'a [H],
    /// Since when each counts, 0 if that is not known; empty if it is known of none.
    pub(crate) starts: &'a [Timestamp],
}

/// What users should know; each note once for a window.
type Notes = Vec<HistogramNote>;

fn note(notes: &mut Notes, note: HistogramNote) {
    if !notes.contains(&note) {
        notes.push(note);
    }
}

/// A sum or difference, with notes on what it took.
fn noted(
    result: Result<(FloatHistogram, super::histogram_arith::Mended), MixedBuckets>,
    operation: Operation,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    let Ok((histogram, mended)) = result else {
        note(notes, HistogramNote::MixedBuckets);
        return None;
    };
    if mended.reconciled_bounds {
        note(notes, HistogramNote::ReconciledBounds(operation));
    }
    // Contradicting hints are no news here: resets are what these functions are about.
    Some(histogram)
}

fn plus(a: &FloatHistogram, b: &FloatHistogram, notes: &mut Notes) -> Option<FloatHistogram> {
    noted(add(a, b), Operation::Addition, notes)
}

fn minus(a: &FloatHistogram, b: &FloatHistogram, notes: &mut Notes) -> Option<FloatHistogram> {
    noted(subtract(a, b), Operation::Subtraction, notes)
}

fn is_gauge(histogram: &FloatHistogram) -> bool {
    histogram.hint == ResetHint::Gauge
}

impl<H: Borrow<FloatHistogram>> HistogramWindow<'_, H> {
    fn at(&self, index: usize) -> Option<(Timestamp, &FloatHistogram)> {
        Some((*self.timestamps.get(index)?, self.histograms.get(index)?.borrow()))
    }

    fn since(&self, index: usize) -> Option<Since> {
        Since::at(self.starts, self.timestamps, index)
    }

    /// Whether the counter began anew after the histogram before `index`, whose histogram is `before` if it is to count.
    fn is_reset(&self, index: usize, before: &FloatHistogram) -> Option<bool> {
        let began = self.since(index)?.began_after(self.since(index.checked_sub(1)?)?);
        Some(began || self.at(index)?.1.is_reset_after(before))
    }

    fn range_seconds(&self) -> f64 {
        self.border.1.saturating_sub(self.border.0) as f64 / 1000.0
    }

    /// `rate`, `increase` or `delta`, stretched to the borders of the window. `None` if there are fewer than two histograms,
    /// or they cannot be combined (there is then a note).
    pub(crate) fn extrapolated(&self, kind: RateKind, notes: &mut Notes) -> Option<FloatHistogram> {
        let gaps = self.histograms.len().checked_sub(1)?;
        let ((first_time, first), (last_time, _)) = (self.at(0)?, self.at(gaps)?);
        let sampled = (first_time, last_time);
        let start = if kind.counter { self.since(0)?.known_after(self.border.0) } else { None };
        let (mut result, factor) = match start {
            Some(start) => {
                let result = match gaps {
                    0 => first.clone(),
                    _ => plus(&self.difference(kind.counter, notes)?, first, notes)?,
                };
                (result, stretched(self.border.1, start, sampled, gaps))
            }
            None if gaps == 0 => return None,
            None => {
                let result = self.difference(kind.counter, notes)?;
                let counter = kind.counter.then_some((first.count, result.count));
                let factor = extrapolation(self.border, sampled, gaps as f64, counter);
                (result, factor)
            }
        };
        scale(&mut result, if kind.per_second { factor / self.range_seconds() } else { factor });
        Some(result)
    }

    /// The last histogram minus the first, plus what a counter lost at resets in between.
    fn difference(&self, counter: bool, notes: &mut Notes) -> Option<FloatHistogram> {
        let mut samples = self.histograms.iter().map(Borrow::borrow);
        let first: &FloatHistogram = samples.next()?;
        let last: &FloatHistogram = self.histograms.last()?.borrow();
        if counter && (is_gauge(first) || is_gauge(last)) {
            note(notes, HistogramNote::NotCounter);
        }
        // A histogram that a reset follows has no part in the result, so its layout does not matter.
        let is_forgotten = counter && self.is_reset(1, first)?;
        let between: Vec<&FloatHistogram> = if counter { samples.collect() } else { vec![last] };
        let is_custom = if is_forgotten { between.first()?.is_custom() } else { first.is_custom() };
        if between.iter().any(|h| h.is_custom() != is_custom) {
            if last.is_custom() == is_custom {
                // This is then all there is to say.
                notes.clear();
            }
            note(notes, HistogramNote::MixedBuckets);
            return None;
        }
        if counter && between.iter().any(|h| is_gauge(h)) {
            note(notes, HistogramNote::NotCounter);
        }
        if !counter && [first, last].iter().any(|h| !is_gauge(h)) {
            note(notes, HistogramNote::NotGauge);
        }
        let mut result = last.clone();
        let lowest = between.iter().map(|h| h.schema).min().unwrap_or(last.schema);
        result.reduce_to(if is_forgotten { lowest } else { lowest.min(first.schema) });
        let mut before = first;
        if is_forgotten {
            let second: &FloatHistogram = between.first().copied()?;
            let nothing = FloatHistogram {
                schema: second.schema,
                custom_bounds: second.custom_bounds.clone(),
                ..FloatHistogram::default()
            };
            result = minus(&result, &nothing, notes)?;
        } else {
            result = minus(&result, first, notes)?;
        }
        if counter {
            for (index, histogram) in between.iter().enumerate() {
                let is_counted = index > 0 || !is_forgotten;
                if self.since(index + 1)?.overlaps(self.since(index)?) {
                    note(notes, HistogramNote::StartOverlap(1));
                }
                if is_counted && self.is_reset(index + 1, before)? {
                    result = plus(&result, before, notes)?;
                }
                before = histogram;
            }
        }
        result.hint = ResetHint::Gauge;
        result.compact();
        Some(result)
    }

    /// `irate` (`counter`) or `idelta`, from the last two histograms.
    pub(crate) fn instant(&self, counter: bool, notes: &mut Notes) -> Option<FloatHistogram> {
        let last_index = self.histograms.len().checked_sub(1)?;
        let ((before_time, before), (last_time, last)) =
            (self.at(last_index.checked_sub(1)?)?, self.at(last_index)?);
        let seconds = last_time.saturating_sub(before_time) as f64 / 1000.0;
        if seconds == 0.0 {
            return None;
        }
        if counter && (is_gauge(before) || is_gauge(last)) {
            note(notes, HistogramNote::NotCounter);
        }
        if !counter && [before, last].iter().any(|h| !is_gauge(h)) {
            note(notes, HistogramNote::NotGauge);
        }
        let is_reset = counter && self.is_reset(last_index, before)?;
        let mut result = if is_reset { last.clone() } else { minus(last, before, notes)? };
        result.hint = ResetHint::Gauge;
        result.compact();
        if counter {
            divide(&mut result, seconds);
        }
        Some(result)
    }

    /// `rate`, `increase` or `delta` of an `anchored` or `smoothed` range, whose window here begins one lookback earlier and
    /// ends one later than `border` if smoothed.
    pub(crate) fn bordered(
        &self,
        border: Border,
        kind: RateKind,
        notes: &mut Notes,
    ) -> Option<FloatHistogram> {
        let smoothed = border == Border::Smoothed;
        let (start, end) = self.border;
        let mut last = self.histograms.len().min(self.timestamps.len()).checked_sub(1)?;
        let until_last = self.timestamps.get(..last)?;
        let first = until_last.partition_point(|t| *t <= start).saturating_sub(1);
        if smoothed {
            last = until_last.partition_point(|t| *t < end);
        }
        if self.at(last)?.0 <= start || (smoothed && self.at(first)?.0 > end) {
            return None;
        }
        let inside: Vec<&FloatHistogram> =
            self.histograms.get(first..=last)?.iter().map(Borrow::borrow).collect();
        if inside.iter().any(|h| h.is_custom() != inside[0].is_custom()) {
            note(notes, HistogramNote::MixedBuckets);
            return None;
        }
        if kind.counter && inside.iter().any(|h| is_gauge(h)) {
            note(notes, HistogramNote::NotCounter);
        }
        let interpolated = smoothed && self.at(first)?.0 < start;
        let left = match interpolated {
            true => interpolate(self.at(first)?, self.at(first + 1)?, start, kind.counter, notes)?,
            false => self.at(first)?.1.clone(),
        };
        let right = match smoothed && last > 0 && self.at(last)?.0 > end {
            true => interpolate(self.at(last - 1)?, self.at(last)?, end, kind.counter, notes)?,
            false => self.at(last)?.1.clone(),
        };
        if !kind.counter && [&left, &right].iter().any(|h| !is_gauge(h)) {
            note(notes, HistogramNote::NotGauge);
        }
        let mut result = minus(&right, &left, notes)?;
        if kind.counter {
            // A reset that the left border was interpolated over is in its value already.
            let skipped = interpolated && inside.get(1)?.is_reset_after(inside[0]);
            if let Some(lost) = lost_at_resets(&left, &right, &inside, skipped, notes)? {
                result = plus(&result, &lost, notes)?;
            }
        }
        if kind.per_second {
            divide(&mut result, self.range_seconds());
        }
        result.hint = ResetHint::Gauge;
        Some(result)
    }
}

/// What a counter lost at the resets between two borders; `inside` begins and ends with the samples nearest to them.
/// The outer `None` means that it cannot be computed.
fn lost_at_resets(
    left: &FloatHistogram,
    right: &FloatHistogram,
    inside: &[&FloatHistogram],
    skipped: bool,
    notes: &mut Notes,
) -> Option<Option<FloatHistogram>> {
    let upto = inside.len().saturating_sub(1);
    let from = if skipped { 2 } else { 1 };
    if from > upto {
        return Some(None);
    }
    let mut before = if skipped { inside.get(1).copied().unwrap_or(left) } else { left };
    let mut lost: Option<FloatHistogram> = None;
    for now in inside.get(from..upto)?.iter().copied().chain([right]) {
        if now.is_reset_after(before) {
            lost = Some(match lost {
                None => before.clone(),
                Some(lost) => plus(&lost, before, notes)?,
            });
        }
        before = now;
    }
    Some(lost)
}

/// The histogram at `t` on the line through two others; a counter that was reset is taken to have started from zero.
pub(crate) fn interpolate(
    a: (Timestamp, &FloatHistogram),
    b: (Timestamp, &FloatHistogram),
    t: Timestamp,
    counter: bool,
    notes: &mut Notes,
) -> Option<FloatHistogram> {
    if t == a.0 {
        return Some(a.1.clone());
    }
    if t == b.0 {
        return Some(b.1.clone());
    }
    let share = t.saturating_sub(a.0) as f64 / b.0.saturating_sub(a.0) as f64;
    if counter && b.1.is_reset_after(a.1) {
        let mut risen = b.1.clone();
        scale(&mut risen, share);
        return Some(risen);
    }
    let mut risen = minus(b.1, a.1, notes)?;
    scale(&mut risen, share);
    plus(&risen, a.1, notes)
}

#[cfg(test)]
mod tests {
    use super::super::histogram_arith::tests::{any_histogram, custom, exponential};
    use super::*;
    use proptest::prelude::*;

    const RATE: RateKind = RateKind { counter: true, per_second: true };
    const INCREASE: RateKind = RateKind { counter: true, per_second: false };
    const DELTA: RateKind = RateKind { counter: false, per_second: false };

    fn counts(counts: &[f64]) -> FloatHistogram {
        exponential(0, (0.0, 0.0), 1, counts)
    }

    fn hinted(hint: ResetHint, histogram: FloatHistogram) -> FloatHistogram {
        FloatHistogram { hint, ..histogram }
    }

    fn window<'a>(
        timestamps: &'a [Timestamp],
        histograms: &'a [FloatHistogram],
    ) -> HistogramWindow<'a, FloatHistogram> {
        HistogramWindow { border: (0, 60_000), timestamps, histograms, starts: &[] }
    }

    #[test]
    fn increases_between_the_samples() {
        // Samples lie on both ends of the window, so nothing is extrapolated.
        let gauge = |c: &[f64]| hinted(ResetHint::Gauge, counts(c));
        type Case = (&'static str, Vec<FloatHistogram>, RateKind, &'static str, Vec<HistogramNote>);
        let cases: [Case; 11] = [
            (
                "rising",
                vec![counts(&[1.0]), counts(&[3.0, 1.0]), counts(&[4.0, 2.0])],
                INCREASE,
                "{count:5, sum:0, (1,2]:3, (2,4]:2}",
                vec![],
            ),
            (
                "reset",
                vec![counts(&[5.0]), counts(&[7.0]), counts(&[1.0])],
                INCREASE,
                "{count:3, sum:0, (1,2]:3}",
                vec![],
            ),
            (
                "reset at once",
                vec![counts(&[5.0]), counts(&[1.0]), counts(&[2.0])],
                INCREASE,
                "{count:2, sum:0, (1,2]:2}",
                vec![],
            ),
            (
                "only one after a reset",
                vec![counts(&[5.0]), counts(&[2.0])],
                INCREASE,
                "{count:2, sum:0, (1,2]:2}",
                vec![],
            ),
            (
                "coarser",
                vec![exponential(1, (0.0, 0.0), 1, &[1.0, 1.0]), counts(&[5.0])],
                INCREASE,
                "{count:3, sum:0, (1,2]:3}",
                vec![],
            ),
            (
                "other kind before a reset",
                vec![custom(&[1.0], &[9.0]), counts(&[1.0]), counts(&[2.0])],
                INCREASE,
                "{count:2, sum:0, (1,2]:2}",
                vec![],
            ),
            (
                "other kind",
                vec![counts(&[1.0]), counts(&[2.0]), custom(&[1.0], &[9.0])],
                INCREASE,
                "",
                vec![HistogramNote::MixedBuckets],
            ),
            (
                "gauge as counter",
                vec![counts(&[1.0]), gauge(&[2.0]), counts(&[3.0])],
                INCREASE,
                "{count:2, sum:0, (1,2]:2}",
                vec![HistogramNote::NotCounter],
            ),
            (
                "falling gauge",
                vec![gauge(&[3.0]), gauge(&[9.0]), gauge(&[1.0])],
                DELTA,
                "{count:-2, sum:0, (1,2]:-2}",
                vec![],
            ),
            (
                "counter as gauge",
                vec![counts(&[3.0]), counts(&[1.0])],
                DELTA,
                "{count:-2, sum:0, (1,2]:-2}",
                vec![HistogramNote::NotGauge],
            ),
            (
                "other bounds",
                vec![custom(&[1.0, 2.0], &[1.0]), custom(&[2.0], &[3.0])],
                INCREASE,
                "{count:2, sum:0, [-Inf,2]:2}",
                vec![HistogramNote::ReconciledBounds(Operation::Subtraction)],
            ),
        ];
        for (name, histograms, kind, expected, expected_notes) in cases {
            let timestamps: Vec<_> =
                (0..histograms.len()).map(|i| i as i64 * 60_000 / (histograms.len() - 1) as i64).collect();
            let mut notes = Notes::new();
            let result = window(&timestamps, &histograms).extrapolated(kind, &mut notes);
            assert_eq!(result.as_ref().map(ToString::to_string).unwrap_or_default(), expected, "{name}");
            assert_eq!(notes, expected_notes, "{name}");
            assert!(result.is_none_or(|r| r.hint == ResetHint::Gauge));
        }
        let one = [counts(&[1.0])];
        assert!(window(&[5], &one).extrapolated(RATE, &mut Notes::new()).is_none());
    }

    #[test]
    fn the_last_two_decide() {
        let histograms = [counts(&[9.0]), counts(&[2.0]), counts(&[6.0])];
        let mut notes = Notes::new();
        let times = [0, 10_000, 12_000];
        let rate = |upto: usize, counter, notes: &mut Notes| {
            window(&times[..upto], &histograms[..upto]).instant(counter, notes).map(|h| h.to_string())
        };
        assert_eq!(rate(3, true, &mut notes).unwrap(), "{count:2, sum:0, (1,2]:2}");
        assert_eq!(rate(2, true, &mut notes).unwrap(), "{count:0.2, sum:0, (1,2]:0.2}");
        assert_eq!(notes, []);
        assert_eq!(rate(2, false, &mut notes).unwrap(), "{count:-7, sum:0, (1,2]:-7}");
        assert_eq!(notes, [HistogramNote::NotGauge]);
        assert_eq!(rate(1, true, &mut notes), None);
        assert!(window(&[5, 5], &histograms[..2]).instant(true, &mut notes).is_none());
    }

    #[test]
    fn borders_are_anchored_or_interpolated() {
        let histograms = [counts(&[10.0]), counts(&[20.0]), counts(&[5.0]), counts(&[15.0])];
        let times = [-10_000, 10_000, 50_000, 70_000];
        let increase = |border, upto: usize| {
            let mut notes = Notes::new();
            let result = window(&times[..upto], &histograms[..upto]).bordered(border, INCREASE, &mut notes);
            assert_eq!(notes, []);
            result.map(|h| h.count)
        };
        // 10 -> 20, reset, 5.
        assert_eq!(increase(Border::Anchored, 3), Some(15.0));
        // 15 at the start -> 20, reset, 5 -> 10 at the end.
        assert_eq!(increase(Border::Smoothed, 4), Some(15.0));
        assert_eq!(increase(Border::Anchored, 1), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_window_has_an_answer_or_a_reason(histograms in proptest::collection::vec(any_histogram(), 2..6), kind in 0_usize..3, border in any::<bool>()) {
            let timestamps: Vec<_> = (0..histograms.len() as i64).map(|i| i * 17_000 - 5_000).collect();
            let kind = [RATE, INCREASE, DELTA][kind];
            let window = window(&timestamps, &histograms);
            let border = if border { Border::Anchored } else { Border::Smoothed };
            for (result, notes) in [
                { let mut n = Notes::new(); (window.extrapolated(kind, &mut n), n) },
                { let mut n = Notes::new(); (window.instant(kind.counter, &mut n), n) },
                { let mut n = Notes::new(); (window.bordered(border, kind, &mut n), n) },
            ] {
                prop_assert_eq!(result.is_none(), notes.contains(&HistogramNote::MixedBuckets));
                if let (Some(result), true) = (result, kind == INCREASE) {
                    prop_assert!(result.count >= 0.0);
                }
            }
        }
    }
}

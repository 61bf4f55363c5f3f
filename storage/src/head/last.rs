//! The newest sample of every series, and what it decides about the next. Hot path.

use super::generation::Arrival;
use super::paged::{PAGE_LEN, Paged};
use crate::error::ErrorKind;
use crate::model::{TimeRange, Timestamp};

/// Time and value of a series' newest sample. `i64::MIN` stands for none: no sample can have that time. If it is a histogram,
/// the value is its [`histogram_mark`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last {
    pub(crate) time: Timestamp,
    pub(crate) value: f64,
}

/// No sample yet.
pub(crate) const NEVER: Last = Last { time: i64::MIN, value: 0.0 };
/// The number stands for no series. No sample can have that time either.
pub(crate) const GONE: Last = Last { time: i64::MAX, value: 0.0 };

/// What stands for a histogram in place of a value: a NaN of a kind that no arithmetic makes, with 50 bits of the hash of
/// the histogram. Should a sender store that very NaN as a float, nothing happens but that floats do not follow it in one
/// chunk.
pub(crate) fn histogram_mark(hash: u64) -> f64 {
    f64::from_bits(0xfffc << 48 | hash >> 14)
}

/// What stands for the value of a newest sample that was deleted: whatever is written at its time is new. A NaN of a kind that
/// no arithmetic makes; a float or histogram never continues it.
const DELETED_BITS: u64 = 0xfffb << 48;

/// The times that are accepted at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) oldest: Timestamp,
    pub(crate) newest: Timestamp,
}

/// What is to be done with a sample.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verdict {
    /// Store it so.
    Store(Arrival),
    /// It is there already, bit for bit.
    Known,
    /// Do not store it.
    Refuse(ErrorKind),
}

/// The newest samples by series number. Lives outside generations and belongs to the committing thread.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastSamples {
    entries: Paged<Last>,
}

impl LastSamples {
    /// Makes room for `series` series.
    pub(crate) fn grow(&mut self, series: u32) {
        while self.entries.len() < series as usize {
            self.entries.push(NEVER);
        }
    }

    /// Forgets the series from number `series` on.
    pub(crate) fn truncate(&mut self, series: u32) {
        self.entries.truncate(series as usize);
    }

    pub(crate) fn get(&self, series: u32) -> Last {
        self.entries.get(series as usize).copied().unwrap_or(NEVER)
    }

    pub(crate) fn set(&mut self, series: u32, last: Last) {
        self.grow(series.saturating_add(1));
        if let Some(entry) = self.entries.get_mut(series as usize) {
            *entry = last;
        }
    }

    /// The newest sample of `series` if it is there to be read: neither deleted nor of no series.
    pub(crate) fn readable(&self, series: u32) -> Option<Last> {
        let is_there = |last: &Last| {
            last.time != NEVER.time && last.time != GONE.time && last.value.to_bits() != DELETED_BITS
        };
        Some(self.get(series)).filter(is_there)
    }

    /// The time of the newest of all.
    pub(crate) fn newest(&self) -> Option<Timestamp> {
        let times = (0..self.len()).map(|series| self.get(series).time);
        times.filter(|time| *time != NEVER.time && *time != GONE.time).max()
    }

    pub(crate) fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Judges a sample; if it is the newest of its series, remembers it and what was there before in `undo`.
    #[inline]
    pub(crate) fn judge(
        &mut self,
        series: u32,
        time: Timestamp,
        value: f64,
        bounds: Bounds,
        undo: &mut Vec<(u32, Last)>,
    ) -> Verdict {
        let Some(last) = self.entries.get_mut(series as usize) else {
            return Verdict::Refuse(ErrorKind::NotFound);
        };
        if time > bounds.newest || time < bounds.oldest {
            return Verdict::Refuse(ErrorKind::OutOfBounds);
        }
        let before = *last;
        let verdict = advance(last, time, value);
        if before.time != last.time || before.value.to_bits() != last.value.to_bits() {
            undo.push((series, before));
        }
        verdict
    }

    /// The newest sample of `series` is deleted if it lies in `range`. Its time is remembered, so that older samples are
    /// late as before, its value is not. Answers whether it was remembered.
    pub(crate) fn forget(&mut self, series: u32, range: TimeRange) -> bool {
        let Some(last) = self.entries.get_mut(series as usize) else { return false };
        let is_in = last.time != NEVER.time && last.time != GONE.time && range.contains(last.time);
        if !is_in || last.value.to_bits() == DELETED_BITS {
            return false;
        }
        last.value = f64::from_bits(DELETED_BITS);
        true
    }

    /// Takes a sample of a log, which was accepted once. Answers how it arrives, or nothing if it is there already.
    #[inline]
    pub(crate) fn restore(&mut self, series: u32, time: Timestamp, value: f64) -> Option<Arrival> {
        let last = self.entries.get_mut(series as usize)?;
        match advance(last, time, value) {
            Verdict::Store(arrival) => Some(arrival),
            Verdict::Known | Verdict::Refuse(ErrorKind::NotFound) => None,
            // It was not the newest one's rival then: its series had left memory and came back under a number of its own, or something
            // before it is lost. What was accepted last is what is read.
            Verdict::Refuse(_) => {
                last.value = value;
                Some(Arrival::Instead)
            }
        }
    }

    /// Deals the pages out to `count` parts: part `i` has every `count`-th page from page `i` on.
    pub(crate) fn deal(self, count: usize) -> Vec<Self> {
        self.entries.deal(count).into_iter().map(|entries| Self { entries }).collect()
    }

    /// The reverse of [`LastSamples::deal`], made long enough for `series` series.
    pub(crate) fn gather(mut parts: Vec<Self>, series: u32) -> Self {
        let (pages, rest) = (series as usize / PAGE_LEN, series as usize % PAGE_LEN);
        let count = parts.len().max(1);
        for (number, part) in parts.iter_mut().enumerate() {
            let full = pages / count + usize::from(number < pages % count);
            let own = full * PAGE_LEN + if number == pages % count { rest } else { 0 };
            part.truncate(own as u32);
            part.grow(own as u32);
        }
        Self { entries: Paged::gather(parts.into_iter().map(|part| part.entries)) }
    }

    /// Takes back what [`LastSamples::judge`] remembered, newest first.
    pub(crate) fn undo(&mut self, undo: &mut Vec<(u32, Last)>) {
        while let Some((series, last)) = undo.pop() {
            if let Some(entry) = self.entries.get_mut(series as usize) {
                *entry = last;
            }
        }
    }
}

/// Judges a sample within all bounds; if it is newer than `last`, it takes its place.
#[inline]
fn advance(last: &mut Last, time: Timestamp, value: f64) -> Verdict {
    if time > last.time {
        let previous = std::mem::replace(last, Last { time, value }).value;
        return Verdict::Store(Arrival::Next { previous });
    }
    if time < last.time {
        if last.time == GONE.time {
            return Verdict::Refuse(ErrorKind::NotFound);
        }
        return Verdict::Store(Arrival::Late);
    }
    if last.value.to_bits() == DELETED_BITS {
        last.value = value;
        return Verdict::Store(Arrival::Late);
    }
    if value.to_bits() == last.value.to_bits() {
        return Verdict::Known;
    }
    Verdict::Refuse(ErrorKind::Duplicate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_for_the_next_sample() {
        let bounds = Bounds { oldest: 10, newest: 100 };
        let mut last = LastSamples::default();
        last.grow(1);
        let mut undo = Vec::new();
        let mut judge = |time, value| match last.judge(0, time, value, bounds, &mut undo) {
            Verdict::Store(Arrival::Next { .. }) => "next",
            Verdict::Store(Arrival::Late | Arrival::Instead) => "late",
            Verdict::Known => "known",
            Verdict::Refuse(ErrorKind::Duplicate) => "duplicate",
            Verdict::Refuse(_) => "refused",
        };
        let stale = crate::model::stale_nan();
        let cases = [
            (50, 1.0, "next"),
            (50, 1.0, "known"),
            (50, 2.0, "duplicate"),
            (40, 3.0, "late"),
            (60, stale, "next"),
            (60, stale, "known"),
            (60, f64::NAN, "duplicate"),
            (9, 1.0, "refused"),
            (101, 1.0, "refused"),
            (100, 1.0, "next"),
        ];
        for (time, value, expected) in cases {
            assert_eq!(judge(time, value), expected, "{time} {value}");
        }
        assert!(matches!(last.judge(1, 50, 1.0, bounds, &mut undo), Verdict::Refuse(ErrorKind::NotFound)));
        last.undo(&mut undo);
        assert_eq!(last.get(0).time, i64::MIN);
    }

    #[test]
    fn a_deleted_newest_sample_may_be_written_again() {
        let bounds = Bounds { oldest: 10, newest: 100 };
        let mut last = LastSamples::default();
        last.grow(2);
        let mut undo = Vec::new();
        last.judge(0, 50, 1.0, bounds, &mut undo);
        assert!(!last.forget(1, TimeRange::ALL), "a series without samples");
        assert!(!last.forget(0, TimeRange::closed(0, 49)), "the newest is kept");
        assert!(last.forget(0, TimeRange::closed(0, 50)) && !last.forget(0, TimeRange::ALL));
        undo.clear();
        let mut again = |value| last.judge(0, 50, value, bounds, &mut undo);
        assert!(matches!(again(1.0), Verdict::Store(Arrival::Late)));
        assert!(matches!(again(1.0), Verdict::Known));
        assert!(matches!(again(2.0), Verdict::Refuse(ErrorKind::Duplicate)));
        last.undo(&mut undo);
        assert!(matches!(last.restore(0, 50, 7.0), Some(Arrival::Late)), "a refused batch leaves no trace");
        // A log that has two values for one time took the second one.
        assert!(matches!(last.restore(0, 50, 8.0), Some(Arrival::Instead)));
        assert!(matches!(last.judge(0, 50, 8.0, bounds, &mut undo), Verdict::Known));
        assert!(matches!(last.judge(0, 51, 1.0, bounds, &mut undo), Verdict::Store(Arrival::Next { .. })));
    }
}

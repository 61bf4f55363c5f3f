//! What a page shows of a chunk: neighbouring timestamps of a group and the values at them. Hot path.

use super::sealed::Part;
use crate::error::Result;
use crate::model::{TimeRange, Timestamp};

/// Samples of one series whose timestamps are neighbours in a group.
pub(crate) struct Run<'a> {
    pub(super) part: Part<'a>,
    pub(super) base: Timestamp,
    pub(super) distances: &'a [u32],
    /// The number of the group in its page.
    pub(crate) group: u32,
    /// Which entries of the group.
    pub(crate) span: (u32, u32),
}

/// How a chunk lies to a range of time.
pub(super) enum Overlap {
    Before,
    Inside,
    After,
}

/// The newest sample of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Newest {
    /// The number of the group of its timestamp in its page.
    pub(crate) group: u32,
    /// Which entry of the group.
    pub(crate) index: u32,
    pub(crate) time: Timestamp,
    pub(crate) value: f64,
}

impl Run<'_> {
    /// Their timestamps, ascending.
    #[inline]
    pub(crate) fn times(&self) -> impl ExactSizeIterator<Item = Timestamp> + '_ {
        self.distances.iter().map(|d| self.base.wrapping_add(i64::from(*d)))
    }

    /// Appends their values.
    ///
    /// # Errors
    /// A sealed chunk does not decode: a broken invariant.
    #[inline]
    pub(crate) fn values(&self, out: &mut Vec<f64>) -> Result<()> {
        let (start, from) = (self.part.chunk.start, self.span.0);
        let before = out.len();
        self.part.values_between(from.wrapping_sub(start), self.span.1.wrapping_sub(start), out)?;
        if out.len() - before == self.distances.len() {
            Ok(())
        } else {
            Err(crate::Error::internal("a chunk of the head has not as many values as timestamps"))
        }
    }
}

/// Merges the late samples in `range` into what stands from `begin` on. Later ones win over earlier ones and over
/// samples that came in order.
pub(super) fn merge_late(
    late: &[(Timestamp, f64)],
    range: TimeRange,
    begin: usize,
    times: &mut Vec<Timestamp>,
    values: &mut Vec<f64>,
) {
    let mut wanted: Vec<(Timestamp, f64)> = late.iter().copied().filter(|s| range.contains(s.0)).collect();
    if wanted.is_empty() {
        return;
    }
    wanted.sort_by_key(|s| s.0);
    let (old_times, old_values) = (times.split_off(begin), values.split_off(begin));
    let mut old = old_times.into_iter().zip(old_values).peekable();
    let mut new = wanted.into_iter().peekable();
    while let Some((time, mut value)) = new.next() {
        while let Some((_, later)) = new.next_if(|s| s.0 == time) {
            value = later;
        }
        while let Some((t, v)) = old.next_if(|s| s.0 <= time) {
            if t < time {
                times.push(t);
                values.push(v);
            }
        }
        times.push(time);
        values.push(value);
    }
    for (t, v) in old {
        times.push(t);
        values.push(v);
    }
}

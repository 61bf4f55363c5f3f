//! The steps at which an expression is evaluated.

use kymo_storage::model::Timestamp;

/// `start`, `start + step`, ...: `count` instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// The first instant.
    pub(crate) start: Timestamp,
    /// Milliseconds from one to the next.
    pub(crate) step: i64,
    /// How many.
    pub(crate) count: usize,
    /// What was asked for: the last instant is not after it, and may be before.
    pub(crate) end: Timestamp,
}

impl Grid {
    /// From `start` up to at most `end`; `step` must be positive.
    pub(crate) fn between(start: Timestamp, end: Timestamp, step: i64) -> Self {
        let step = step.max(1);
        let count = match end.checked_sub(start) {
            Some(length) if length >= 0 => {
                usize::try_from(length / step).unwrap_or(usize::MAX).saturating_add(1)
            }
            Some(_) => 0,
            None => usize::MAX,
        };
        Self { start, step, count, end }
    }

    /// The multiples of `step` after `after` and up to `upto`.
    pub(crate) fn multiples(step: i64, after: Timestamp, upto: Timestamp) -> Self {
        let step = step.max(1);
        let start = after.div_euclid(step).saturating_add(1).saturating_mul(step);
        Self::between(start, upto, step)
    }

    /// Only the first instant.
    pub(crate) fn once(self) -> Self {
        Self { count: self.count.min(1), end: self.start, ..self }
    }

    /// Instant `index`.
    #[inline]
    pub(crate) fn time(&self, index: usize) -> Timestamp {
        self.start.saturating_add(self.step.saturating_mul(index as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grids() {
        assert_eq!(Grid::between(0, 100, 30).count, 4);
        assert_eq!(Grid::between(0, -1, 30).count, 0);
        let sub = Grid::multiples(60, -90, 60);
        assert_eq!((sub.start, sub.count, sub.time(2)), (-60, 3, 60));
        assert_eq!(Grid::multiples(60, 60, 119).count, 0);
    }
}

//! Timestamps and half-open time ranges, with arithmetic that saturates instead of overflowing.

/// Milliseconds since the Unix epoch; negative before 1970.
pub type Timestamp = i64;

/// `[min_time, max_time)` in milliseconds. A range with `max_time <= min_time` is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First instant inside.
    pub min_time: Timestamp,
    /// First instant after; `i64::MAX` means without end (and includes a sample at `i64::MAX`).
    pub max_time: Timestamp,
}

impl TimeRange {
    /// Everything.
    pub const ALL: Self = Self { min_time: i64::MIN, max_time: i64::MAX };

    /// `[min_time, max_time)`.
    pub fn new(min_time: Timestamp, max_time: Timestamp) -> Self {
        Self { min_time, max_time }
    }

    /// `[first, last]`, both ends inside.
    pub fn closed(first: Timestamp, last: Timestamp) -> Self {
        Self { min_time: first, max_time: last.saturating_add(1) }
    }

    /// The last instant inside (meaningless for an empty range).
    pub fn last(&self) -> Timestamp {
        if self.max_time == i64::MAX { i64::MAX } else { self.max_time.saturating_sub(1) }
    }

    /// Whether no instant is inside.
    pub fn is_empty(&self) -> bool {
        self.max_time <= self.min_time
    }

    /// Whether `t` is inside.
    pub fn contains(&self, t: Timestamp) -> bool {
        t >= self.min_time && t <= self.last()
    }

    /// The part that lies in `bounds`.
    pub fn within(self, bounds: Self) -> Self {
        Self { min_time: self.min_time.max(bounds.min_time), max_time: self.max_time.min(bounds.max_time) }
    }

    /// Whether any instant is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.min_time <= other.last()
            && other.min_time <= self.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn borders() {
        let r = TimeRange::closed(10, 20);
        assert!(r.contains(10) && r.contains(20) && !r.contains(9) && !r.contains(21));
        assert!(TimeRange::ALL.contains(i64::MAX) && TimeRange::ALL.contains(i64::MIN));
        assert!(r.overlaps(&TimeRange::closed(20, 30)) && !r.overlaps(&TimeRange::closed(21, 30)));
        assert_eq!(r.within(TimeRange::closed(15, 30)), TimeRange::closed(15, 20));
        assert!(r.within(TimeRange::closed(30, 40)).is_empty());
        assert!(TimeRange::new(5, 5).is_empty() && !TimeRange::new(5, 5).overlaps(&r));
    }
}

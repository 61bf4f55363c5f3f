//! Retention: how old a sample may be, and which blocks are older as a whole.

use crate::block::ManifestBlock;
use crate::model::Timestamp;
use std::time::Duration;

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The oldest time that is kept.
///
/// The clock is believed only as far as samples confirm it: `newest` is the newest sample of the store and `tolerance`
/// how far a sample may be ahead of the clock. So a clock that jumps into the future deletes nothing.
pub(crate) fn oldest_kept(
    now: Timestamp,
    newest: Option<Timestamp>,
    tolerance: Duration,
    retention: Option<Duration>,
) -> Timestamp {
    let Some(retention) = retention else { return i64::MIN };
    let believed = newest.map_or(now, |newest| now.min(newest.saturating_add(millis(tolerance))));
    believed.saturating_sub(millis(retention))
}

/// Whether every sample of a block is older than `oldest_kept`.
pub(crate) fn is_expired(block: &ManifestBlock, oldest_kept: Timestamp) -> bool {
    block.meta.max_time < oldest_kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_clock_does_not_move_the_border() {
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let now = 100 * 3_600_000;
        let newest = Some(now - 1000);
        assert_eq!(oldest_kept(now, newest, minute, Some(hour)), 99 * 3_600_000);
        let ten_years = 10 * 365 * 24 * 3_600_000;
        assert_eq!(oldest_kept(now + ten_years, newest, minute, Some(hour)), now - 1000 + 60_000 - 3_600_000);
        assert_eq!(oldest_kept(now - ten_years, newest, minute, Some(hour)), now - ten_years - 3_600_000);
        assert_eq!(oldest_kept(now, None, minute, None), i64::MIN);
        assert_eq!(oldest_kept(i64::MIN, None, minute, Some(hour)), i64::MIN);
    }
}

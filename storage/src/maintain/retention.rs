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

/// How far the wall clock may get ahead of the time that has passed since the store was opened before it is disbelieved.
const JUMP_MAX: Duration = Duration::from_secs(3600);

/// What the wall clock would show had it not jumped ahead since the store was opened, at the times `opened` on both clocks.
/// Whoever writes with the time of this machine would else confirm the jump. A jump back is believed: it deletes nothing.
pub(crate) fn without_jump(now: Timestamp, monotonic: Duration, opened: (Timestamp, Duration)) -> Timestamp {
    let expected = opened.0.saturating_add(millis(monotonic.saturating_sub(opened.1)));
    if now > expected.saturating_add(millis(JUMP_MAX)) { expected } else { now }
}

/// The blocks that go so that the rest, with `log_bytes`, takes no more than `limit` bytes: the oldest first.
pub(crate) fn over_size(blocks: &[ManifestBlock], log_bytes: u64, limit: u64) -> Vec<ManifestBlock> {
    let mut total = blocks.iter().fold(log_bytes, |sum, block| sum.saturating_add(block.bytes));
    let mut sorted: Vec<&ManifestBlock> = blocks.iter().collect();
    sorted.sort_by_key(|block| (block.meta.max_time, block.meta.sequence));
    let goes = sorted.into_iter().take_while(|block| {
        let is_over = total > limit;
        total = total.saturating_sub(block.bytes);
        is_over
    });
    goes.cloned().collect()
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
        let opened = (now, hour);
        let later = hour + minute;
        for (wall, believed) in [(0, 0), (60_000, 60_000), (3_000_000, 3_000_000), (ten_years, 60_000)] {
            assert_eq!(without_jump(now + wall, later, opened), now + believed);
        }
    }

    #[test]
    fn the_oldest_blocks_go_first() {
        let block = |sequence: u64, max_time, bytes| {
            let meta = crate::block::BlockMeta {
                uuid: [0; 16],
                sequence,
                min_time: 0,
                max_time,
                series: 1,
                samples: 1,
                level: 0,
            };
            ManifestBlock { file: sequence.to_string(), bytes, meta }
        };
        let blocks = [block(1, 30, 10), block(2, 10, 10), block(3, 20, 10)];
        for (log, limit, expected) in
            [(0, 30, vec![]), (1, 30, vec![2]), (11, 30, vec![2, 3]), (100, 30, vec![2, 3, 1])]
        {
            let gone: Vec<u64> = over_size(&blocks, log, limit).iter().map(|b| b.meta.sequence).collect();
            assert_eq!(gone, expected, "{log} {limit}");
        }
    }
}

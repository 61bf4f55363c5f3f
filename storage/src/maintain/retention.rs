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

/// Whether `block` holds what may have replaced samples of `older`: without it they would be the answer again, at once or when the
/// clock goes back.
fn replaces(block: &ManifestBlock, older: &ManifestBlock) -> bool {
    older.meta.sequence < block.meta.sequence
        && older.meta.min_time <= block.meta.max_time
        && block.meta.min_time <= older.meta.max_time
}

/// The blocks of which every sample is older than `oldest_kept`, but for those that may replace samples of a block that stays.
pub(crate) fn expired(blocks: &[ManifestBlock], oldest_kept: Timestamp) -> Vec<ManifestBlock> {
    let is_old = |block: &ManifestBlock| block.meta.max_time < oldest_kept;
    let (mut goes, mut stays): (Vec<_>, Vec<_>) = blocks.iter().cloned().partition(is_old);
    // Who stays for the sake of another may keep a third.
    while let Some(at) = goes.iter().position(|block| stays.iter().any(|older| replaces(block, older))) {
        stays.push(goes.swap_remove(at));
    }
    goes
}

/// The blocks that go so that the rest, with `log_bytes`, takes no more than `limit` bytes: the oldest first, and none before those of
/// which it may replace samples.
pub(crate) fn over_size(blocks: &[ManifestBlock], log_bytes: u64, limit: u64) -> Vec<ManifestBlock> {
    let mut total = blocks.iter().fold(log_bytes, |sum, block| sum.saturating_add(block.bytes));
    let mut stays: Vec<&ManifestBlock> = blocks.iter().collect();
    stays.sort_by_key(|block| (block.meta.max_time, block.meta.sequence));
    let mut goes = Vec::new();
    while total > limit {
        // The block of the lowest sequence replaces nothing, so there is one as long as there are any.
        let is_free = |block: &&ManifestBlock| !stays.iter().any(|older| replaces(block, older));
        let Some(at) = stays.iter().position(is_free) else { break };
        let block = stays.remove(at);
        total = total.saturating_sub(block.bytes);
        goes.push(block.clone());
    }
    goes
}

/// The oldest time that a flush of samples from `oldest` on need write. What is too old need not, unless it may have replaced samples
/// of a block.
pub(crate) fn oldest_flushed(
    blocks: &[ManifestBlock],
    oldest: Timestamp,
    oldest_kept: Timestamp,
) -> Timestamp {
    let is_below = |block: &ManifestBlock| block.meta.min_time < oldest_kept && block.meta.max_time >= oldest;
    if blocks.iter().any(is_below) { Timestamp::MIN } else { oldest_kept }
}

/// The oldest time from which on a merge of the blocks `merged` keeps even samples that are too old: they may have replaced samples of
/// a block that is not merged with them. `i64::MAX` if there is no such block.
pub(crate) fn replaced_from(blocks: &[ManifestBlock], merged: &[u64]) -> Timestamp {
    let (inputs, others): (Vec<_>, Vec<_>) = blocks.iter().partition(|b| merged.contains(&b.meta.sequence));
    let is_below = |older: &&&ManifestBlock| inputs.iter().any(|input| replaces(input, older));
    others.iter().filter(is_below).map(|older| older.meta.min_time).min().unwrap_or(Timestamp::MAX)
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

    fn block(sequence: u64, min_time: Timestamp, max_time: Timestamp) -> ManifestBlock {
        let meta = crate::block::BlockMeta {
            uuid: [0; 16],
            sequence,
            min_time,
            max_time,
            series: 1,
            samples: 1,
            level: 0,
        };
        ManifestBlock { file: sequence.to_string(), bytes: 10, meta }
    }

    fn sequences(blocks: &[ManifestBlock]) -> Vec<u64> {
        blocks.iter().map(|block| block.meta.sequence).collect()
    }

    #[test]
    fn the_oldest_blocks_go_first() {
        let blocks = [block(1, 21, 30), block(2, 0, 10), block(3, 11, 20)];
        for (log, limit, expected) in
            [(0, 30, vec![]), (1, 30, vec![2]), (11, 30, vec![2, 3]), (100, 30, vec![2, 3, 1])]
        {
            assert_eq!(sequences(&over_size(&blocks, log, limit)), expected, "{log} {limit}");
        }
    }

    #[test]
    fn what_replaced_samples_stays_as_long_as_they_do() {
        // The second has late samples of the times of the first, the third of those of the second.
        let blocks = [block(1, 0, 30), block(2, 0, 10), block(3, 5, 12), block(4, 2, 3)];
        assert_eq!(sequences(&expired(&blocks, 20)), [0; 0]);
        assert_eq!(sequences(&expired(&blocks[1..], 20)), [2, 3, 4]);
        assert_eq!(sequences(&expired(&blocks[1..], 12)), [2, 4]);
        assert_eq!(sequences(&over_size(&blocks, 0, 35)), [1]);
        assert_eq!(sequences(&over_size(&blocks, 0, 15)), [1, 2, 4]);
        for (merged, from) in [
            (&[1][..], i64::MAX),
            (&[2], 0),
            (&[1, 2], i64::MAX),
            (&[1, 2, 4], i64::MAX),
            (&[3, 4], 0),
            (&[1, 3], 0),
        ] {
            assert_eq!(replaced_from(&blocks, merged), from, "{merged:?}");
        }
        assert_eq!(replaced_from(&[block(1, 7, 30), block(2, 0, 8), block(3, 40, 50)], &[2, 3]), 7);
        assert_eq!(oldest_flushed(&blocks, 31, 40), 40);
        assert_eq!(oldest_flushed(&blocks, 30, 40), i64::MIN);
        assert_eq!(oldest_flushed(&blocks[1..], 10, 4), i64::MIN, "there is something older in the block");
        assert_eq!(oldest_flushed(&blocks[2..3], 0, 4), 4);
    }
}

//! Which blocks to merge next: a pure function of what is known about them.
//!
//! Time is cut into windows of growing widths (8 h, 1 d, 8 d by default, see [`Policy`]); a block belongs to the window its last
//! sample lies in, so empty windows do not exist. The blocks of a window become one when the window is over and it pays:
//! when what is added is at least a quarter of the largest of them, or when there are many. In the window that is still
//! open the blocks of flushes are merged when there are many. So a sample is written about once for each width.
//!
//! **The rule of sequences.** Of samples at one time, that of the block with the highest sequence counts, and a merged block takes
//! the highest sequence of its inputs. A block that is not merged with them, has a sequence between theirs and shares
//! times with an input before it would lose against that input's samples; so it is merged with them, or nothing is merged.

use crate::model::{TimeRange, Timestamp};

/// What the planner knows of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) sequence: u64,
    pub(crate) min_time: Timestamp,
    pub(crate) max_time: Timestamp,
    pub(crate) bytes: u64,
    pub(crate) level: u32,
    /// It cannot be read whole: damaged, missing, or refused by the operating system.
    pub(crate) is_fixed: bool,
    /// It holds samples that were deleted or are over their time long enough to be rewritten without them.
    pub(crate) is_due: bool,
}

impl Candidate {
    fn times(&self) -> TimeRange {
        TimeRange::closed(self.min_time, self.max_time)
    }
}

/// How blocks are merged.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// Widths of windows in milliseconds, ascending.
    pub(crate) widths: Vec<i64>,
    /// No merged block is made of more bytes.
    pub(crate) bytes_max: u64,
    /// So many small blocks are merged in any case.
    pub(crate) many: usize,
    /// Everything is merged into windows of the largest width, whether they are over or not, and whatever it costs.
    pub(crate) is_final: bool,
}

/// The sequences of the blocks to merge next, ascending; a single one is to be rewritten. Nothing if all is well.
pub(crate) fn plan(blocks: &[Candidate], policy: &Policy) -> Option<Vec<u64>> {
    let mut sorted: Vec<&Candidate> = blocks.iter().collect();
    sorted.sort_by_key(|b| b.sequence);
    let newest = sorted.iter().map(|b| b.max_time).max()?;
    let skipped = if policy.is_final { policy.widths.len().saturating_sub(1) } else { 0 };
    for (place, width) in policy.widths.iter().enumerate().skip(skipped) {
        let window = |b: &Candidate| b.max_time.div_euclid(*width);
        let mut windows: Vec<i64> = sorted.iter().map(|b| window(b)).collect();
        windows.sort_unstable();
        windows.dedup();
        for this in windows {
            let inside = sorted.iter().copied().filter(|b| window(b) == this && !b.is_fixed);
            let usable: Vec<&Candidate> = inside.filter(|b| b.bytes <= policy.bytes_max / 2).collect();
            let is_over = window_of(newest, *width) > this;
            let chosen = if policy.is_final {
                Some(up_to(&usable, policy.bytes_max)).filter(|all| all.len() >= 2)
            } else if is_over {
                choose_in_closed(&usable, policy)
            } else if place == 0 {
                choose_flushed(&usable, policy)
            } else {
                None
            };
            if let Some(merged) = chosen.and_then(|chosen| close_over(chosen, &sorted, policy)) {
                return Some(merged);
            }
        }
    }
    sorted.iter().find(|b| b.is_due && !b.is_fixed).map(|b| vec![b.sequence])
}

fn window_of(time: Timestamp, width: i64) -> i64 {
    time.div_euclid(width)
}

/// In a window that is over: all blocks, if what is added to the largest is worth it; else the small ones, if they are many.
fn choose_in_closed<'a>(usable: &[&'a Candidate], policy: &Policy) -> Option<Vec<&'a Candidate>> {
    if usable.len() < 2 {
        return None;
    }
    let all = up_to(usable, policy.bytes_max);
    let largest = all.iter().map(|b| b.bytes).max()?;
    let total: u64 = all.iter().map(|b| b.bytes).sum();
    if all.len() >= 2 && (total - largest).saturating_mul(4) >= largest {
        return Some(all);
    }
    let small: Vec<&Candidate> =
        usable.iter().copied().filter(|b| b.bytes.saturating_mul(4) < largest).collect();
    (small.len() >= policy.many).then(|| up_to(&small, policy.bytes_max)).filter(|s| s.len() >= 2)
}

/// In the window that is still open: what flushes left, if it is many blocks.
fn choose_flushed<'a>(usable: &[&'a Candidate], policy: &Policy) -> Option<Vec<&'a Candidate>> {
    let flushed: Vec<&Candidate> = usable.iter().copied().filter(|b| b.level == 0).collect();
    (flushed.len() >= policy.many).then(|| up_to(&flushed, policy.bytes_max)).filter(|s| s.len() >= 2)
}

/// The first of `blocks` that are together no larger than `bytes_max`.
fn up_to<'a>(blocks: &[&'a Candidate], bytes_max: u64) -> Vec<&'a Candidate> {
    let mut total = 0_u64;
    let fits = blocks.iter().take_while(|b| {
        total = total.saturating_add(b.bytes);
        total <= bytes_max
    });
    fits.copied().collect()
}

/// Adds the blocks that the rule of sequences asks for; nothing if one of them cannot be merged or it becomes too much.
fn close_over<'a>(
    mut chosen: Vec<&'a Candidate>,
    sorted: &[&'a Candidate],
    policy: &Policy,
) -> Option<Vec<u64>> {
    loop {
        let highest = chosen.iter().map(|b| b.sequence).max()?;
        let is_chosen = |b: &Candidate| chosen.iter().any(|c| c.sequence == b.sequence);
        let stands_between = |b: &&&Candidate| {
            let loses_to = |c: &&Candidate| c.sequence < b.sequence && c.times().overlaps(&b.times());
            b.sequence < highest && !is_chosen(b) && chosen.iter().any(loses_to)
        };
        let Some(between) = sorted.iter().find(stands_between) else { break };
        if between.is_fixed {
            return None;
        }
        chosen.push(between);
        if chosen.iter().map(|b| b.bytes).sum::<u64>() > policy.bytes_max {
            return None;
        }
    }
    let mut sequences: Vec<u64> = chosen.iter().map(|b| b.sequence).collect();
    sequences.sort_unstable();
    Some(sequences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000;
    const MIB: u64 = 1 << 20;

    fn policy() -> Policy {
        Policy { widths: vec![8 * HOUR, 24 * HOUR], bytes_max: 100 * MIB, many: 4, is_final: false }
    }

    /// A block of `mib` MiB with samples from hour to hour (the last hour is not inside).
    fn block(sequence: u64, hours: (i64, i64), mib: u64, level: u32) -> Candidate {
        let (min_time, max_time) = (hours.0 * HOUR, hours.1 * HOUR - 1);
        Candidate { sequence, min_time, max_time, bytes: mib * MIB, level, is_fixed: false, is_due: false }
    }

    fn fixed(mut block: Candidate) -> Candidate {
        block.is_fixed = true;
        block
    }

    fn due(mut block: Candidate) -> Candidate {
        block.is_due = true;
        block
    }

    /// What it shows, the blocks, and what is to be merged.
    type Case = (&'static str, Vec<Candidate>, Option<Vec<u64>>);

    #[test]
    fn cases() {
        let flushes =
            |n: i64| (0..n).map(|i| block(i as u64 + 1, (i * 2, i * 2 + 2), 5, 0)).collect::<Vec<_>>();
        let with = |mut blocks: Vec<Candidate>, more: &[Candidate]| {
            blocks.extend_from_slice(more);
            blocks
        };
        let cases: Vec<Case> = vec![
            ("nothing", vec![], None),
            ("one block", flushes(1), None),
            ("the window is open", flushes(3), None),
            ("the window is over", flushes(5), Some(vec![1, 2, 3, 4])),
            (
                "many in the open window",
                (0..4).map(|i| block(i + 1, (0, 1), 1, 0)).collect(),
                Some(vec![1, 2, 3, 4]),
            ),
            (
                "merged ones of the open window stay",
                (0..4).map(|i| block(i + 1, (0, 1), 1, 1)).collect(),
                None,
            ),
            (
                "a sample of 1970 and one of today",
                vec![block(1, (0, 1), 1, 0), block(2, (450_000, 450_001), 1, 0)],
                None,
            ),
            (
                "three windows become a day",
                vec![
                    block(4, (0, 8), 20, 1),
                    block(8, (8, 16), 20, 1),
                    block(12, (16, 24), 20, 1),
                    block(13, (24, 26), 5, 0),
                ],
                Some(vec![4, 8, 12]),
            ),
            (
                "a late straggler waits for more",
                vec![block(4, (0, 24), 40, 2), block(5, (24, 26), 5, 0), block(6, (3, 4), 1, 0)],
                None,
            ),
            (
                "many stragglers are merged without the large one",
                with(
                    vec![block(1, (0, 24), 40, 2), block(2, (24, 26), 5, 0)],
                    &(3..7).map(|s| block(s, (20, 21), 1, 0)).collect::<Vec<_>>(),
                ),
                Some(vec![3, 4, 5, 6]),
            ),
            (
                "much late data is merged with the large one",
                vec![block(1, (0, 24), 40, 2), block(2, (24, 26), 5, 0), block(3, (16, 20), 10, 0)],
                Some(vec![1, 3]),
            ),
            (
                "what stands between comes along",
                vec![
                    block(1, (0, 3), 5, 0),
                    block(2, (2, 9), 5, 0),
                    block(3, (3, 5), 5, 0),
                    block(4, (14, 18), 5, 0),
                ],
                Some(vec![1, 2, 3]),
            ),
            (
                "what stands between and is damaged prevents it",
                vec![
                    block(1, (0, 3), 5, 0),
                    fixed(block(2, (2, 9), 5, 0)),
                    block(3, (3, 5), 5, 0),
                    block(4, (14, 18), 5, 0),
                ],
                None,
            ),
            (
                "a damaged one elsewhere does not",
                vec![
                    block(1, (0, 3), 5, 0),
                    fixed(block(2, (4, 5), 5, 0)),
                    block(3, (3, 4), 5, 0),
                    block(4, (14, 18), 5, 0),
                ],
                Some(vec![1, 3]),
            ),
            (
                "no more than the limit",
                vec![
                    block(1, (0, 2), 40, 0),
                    block(2, (2, 4), 40, 0),
                    block(3, (4, 6), 40, 0),
                    block(4, (8, 9), 5, 0),
                ],
                Some(vec![1, 2]),
            ),
            ("deletes are applied", vec![due(block(3, (0, 2), 5, 0)), block(4, (1, 3), 5, 0)], Some(vec![3])),
            ("not to what cannot be read", vec![due(fixed(block(3, (0, 2), 5, 0)))], None),
        ];
        for (name, blocks, expected) in cases {
            assert_eq!(plan(&blocks, &policy()), expected, "{name}");
        }
    }

    #[test]
    fn all_is_merged_if_asked() {
        let mut blocks = vec![
            block(1, (0, 8), 40, 1),
            block(2, (8, 9), 1, 0),
            block(3, (25, 26), 5, 0),
            block(4, (26, 27), 5, 0),
        ];
        let policy = Policy { is_final: true, ..policy() };
        assert_eq!(plan(&blocks, &policy), Some(vec![1, 2]));
        blocks.drain(..2);
        assert_eq!(plan(&blocks, &policy), Some(vec![3, 4]));
        blocks.pop();
        assert_eq!(plan(&blocks, &policy), None);
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let one = (-100i64..300, 1i64..40, 1u64..30, 0u32..3, prop::bool::weighted(0.1));
        prop::collection::vec(one, 0..14).prop_map(|parts| {
            let blocks = parts.into_iter().enumerate().map(|(i, (from, hours, mib, level, is_fixed))| {
                Candidate { is_fixed, ..block(i as u64 + 1, (from, from + hours), mib, level) }
            });
            blocks.collect()
        })
    }

    proptest! {
        /// Merging never changes which block wins at any time, and comes to an end.
        #[test]
        fn the_rule_of_sequences_holds_until_nothing_is_left_to_do(blocks in candidates(), is_final: bool) {
            let policy = || Policy { is_final, ..policy() };
            let mut blocks = blocks;
            for round in 0.. {
                prop_assert!(round < 100, "{blocks:?}");
                let Some(chosen) = plan(&blocks, &policy()) else { break };
                prop_assert!(chosen.len() >= 2 && chosen.is_sorted());
                let highest = *chosen.last().unwrap();
                let is_chosen = |b: &&Candidate| chosen.contains(&b.sequence);
                for input in blocks.iter().filter(is_chosen) {
                    prop_assert!(!input.is_fixed);
                    for other in blocks.iter().filter(|b| !is_chosen(b)) {
                        let is_between = input.sequence < other.sequence && other.sequence < highest;
                        prop_assert!(!(is_between && input.times().overlaps(&other.times())));
                    }
                }
                let (inputs, mut rest): (Vec<_>, Vec<_>) = blocks.into_iter().partition(|b| is_chosen(&b));
                rest.push(Candidate {
                    sequence: highest,
                    min_time: inputs.iter().map(|b| b.min_time).min().unwrap(),
                    max_time: inputs.iter().map(|b| b.max_time).max().unwrap(),
                    bytes: inputs.iter().map(|b| b.bytes).sum(),
                    level: inputs.iter().map(|b| b.level).max().unwrap() + 1,
                    is_fixed: false,
                    is_due: false,
                });
                prop_assert!(rest.last().unwrap().bytes <= policy().bytes_max);
                blocks = rest;
            }
        }
    }
}

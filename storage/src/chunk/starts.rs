//! Columns of start timestamps: when each sample of a cumulative or delta series began to count.
//!
//! ```text
//! reference:u8, then runs to the end of the column: code:varint [bits:8] length:varint     length 0: to the end
//! code        0 unknown; 1 the start itself follows; else zigzag(start − reference) + 2
//! reference   0 the start of the run before (first: the timestamp of the first sample)
//!             1 the sample's own timestamp    2 the timestamp of the sample before (first: its own)
//! ```
//! A counter has one start between two resets, a delta series starts where the sample before ended: one run either way.

use crate::codec::varint::{Cursor, put_uvarint, unzigzag, uvarint_len, zigzag};
use crate::model::Timestamp;

const CODE_UNKNOWN: u64 = 0;
const CODE_LITERAL: u64 = 1;
const CODE_DIFFERENCE: u64 = 2;

/// What starts are told against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reference {
    RunBefore = 0,
    Own = 1,
    Before = 2,
}

/// The timestamp that the start of sample `at` is told against, unless that is the start of the run before.
fn told_against(reference: Reference, timestamps: &[Timestamp], at: usize) -> Timestamp {
    let index = if reference == Reference::Before { at.saturating_sub(1) } else { at };
    timestamps.get(index).copied().unwrap_or_default()
}

/// A stretch of samples whose starts are coded alike.
struct Run {
    /// Of its first sample.
    start: Timestamp,
    reference: Timestamp,
    length: usize,
}

fn runs(reference: Reference, timestamps: &[Timestamp], starts: &[Timestamp]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut before = timestamps.first().copied().unwrap_or_default();
    for (at, start) in starts.iter().enumerate() {
        let own = match reference {
            Reference::RunBefore => before,
            Reference::Own | Reference::Before => told_against(reference, timestamps, at),
        };
        let goes_on = runs.last().is_some_and(|run: &Run| match (reference, run.start == 0, *start == 0) {
            (_, true, true) => true,
            (Reference::RunBefore, ..) => run.start == *start,
            (_, false, false) => start.wrapping_sub(own) == run.start.wrapping_sub(run.reference),
            _ => false,
        });
        match runs.last_mut().filter(|_| goes_on) {
            Some(run) => run.length += 1,
            None => {
                runs.push(Run { start: *start, reference: own, length: 1 });
                if *start != 0 {
                    before = *start;
                }
            }
        }
    }
    runs
}

fn code_of(run: &Run) -> u64 {
    if run.start == 0 {
        return CODE_UNKNOWN;
    }
    zigzag(run.start.wrapping_sub(run.reference)).checked_add(CODE_DIFFERENCE).unwrap_or(CODE_LITERAL)
}

fn size(runs: &[Run]) -> usize {
    runs.iter().map(|run| uvarint_len(code_of(run)) + uvarint_len(run.length as u64)).sum()
}

/// Appends the column `starts` (0: unknown) of samples at `timestamps`, of equal length and not empty.
pub fn encode_starts(timestamps: &[Timestamp], starts: &[Timestamp], out: &mut Vec<u8>) {
    let choices = [Reference::RunBefore, Reference::Own, Reference::Before];
    let planned = choices.map(|reference| (reference, runs(reference, timestamps, starts)));
    let Some((reference, runs)) = planned.into_iter().min_by_key(|plan| size(&plan.1)) else { return };
    out.push(reference as u8);
    for (number, run) in runs.iter().enumerate() {
        let code = code_of(run);
        put_uvarint(out, code);
        if code == CODE_LITERAL {
            out.extend_from_slice(&run.start.to_le_bytes());
        }
        let is_last = number + 1 == runs.len();
        put_uvarint(out, if is_last { 0 } else { run.length as u64 });
    }
}

/// Replaces what is in `out` by the column that `bytes` hold, for samples at `timestamps`; `None` if they hold nothing
/// such.
pub fn decode_starts(bytes: &[u8], timestamps: &[Timestamp], out: &mut Vec<Timestamp>) -> Option<()> {
    out.clear();
    let mut cursor = Cursor::new(bytes);
    let reference = match cursor.u8()? {
        0 => Reference::RunBefore,
        1 => Reference::Own,
        2 => Reference::Before,
        _ => return None,
    };
    let mut before = timestamps.first().copied()?;
    while out.len() < timestamps.len() {
        let code = cursor.uvarint()?;
        let literal = if code == CODE_LITERAL { cursor.i64()? } else { 0 };
        let left = timestamps.len() - out.len();
        let length = match usize::try_from(cursor.uvarint()?).ok()? {
            0 => left,
            length => length,
        };
        if length > left {
            return None;
        }
        let at = out.len();
        let against = |at| match reference {
            Reference::RunBefore => before,
            Reference::Own | Reference::Before => told_against(reference, timestamps, at),
        };
        let difference = match code {
            CODE_UNKNOWN => {
                out.resize(at + length, 0);
                continue;
            }
            CODE_LITERAL => literal.wrapping_sub(against(at)),
            code => unzigzag(code - CODE_DIFFERENCE),
        };
        out.extend((at..at + length).map(|at| against(at).wrapping_add(difference)));
        before = out.get(at).copied().unwrap_or(before);
    }
    cursor.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(timestamps: &[i64], starts: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_starts(timestamps, starts, &mut out);
        out
    }

    #[test]
    fn diagram() {
        // A counter that is reset once; before, nothing is known.
        assert_eq!(encoded(&[10, 20, 30, 40], &[0, 7, 7, 35]), [0, 0, 1, 2 + 5, 2, 2 + 56, 0]);
        // Deltas: each starts where the one before ended.
        assert_eq!(encoded(&[10, 21, 30], &[10, 10, 21]), [2, 2, 0]);
        // Deltas a constant time long.
        assert_eq!(encoded(&[10, 21, 30], &[5, 16, 25]), [1, 2 + 9, 0]);
        let far = encoded(&[i64::MAX], &[-1]);
        assert_eq!(far, [&[0, 1][..], &[0xff; 8], &[0]].concat());
        let mut out = Vec::new();
        assert_eq!(decode_starts(&[3, 0, 0], &[1], &mut out), None);
        assert_eq!(decode_starts(&[0, 0, 2], &[1], &mut out), None, "longer than the column");
        assert_eq!(decode_starts(&[0, 0, 0, 0], &[1], &mut out), None, "bytes are left");
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![4 => 0i64..100, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
    }

    proptest! {
        #![proptest_config(crate::tests::cases(1_000))]

        #[test]
        fn any_column_comes_back(rows in proptest::collection::vec((time(), time()), 1..50)) {
            let (timestamps, starts): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
            let mut out = vec![1];
            decode_starts(&encoded(&timestamps, &starts), &timestamps, &mut out).unwrap();
            prop_assert_eq!(out, starts);
        }

        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(0u8..9, 0..40), timestamps in proptest::collection::vec(time(), 0..20)
        ) {
            let mut out = Vec::new();
            if decode_starts(&bytes, &timestamps, &mut out).is_some() {
                prop_assert_eq!(out.len(), timestamps.len());
            }
        }
    }
}

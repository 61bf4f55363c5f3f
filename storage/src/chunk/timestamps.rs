//! Timestamp payloads: constant step, jitter around a grid, or any column of `i64`.

use super::ints::{self, FLAGS_MASK};
use crate::codec::varint::{Cursor, put_ivarint};
use crate::error::{Error, Result};
use crate::model::Timestamp;

const KIND_MASK: u8 = 7;
const CONSTANT_STEP: u8 = 0;
const GRID: u8 = 1;
const PLAIN: u8 = 2;

/// Appends the payload of `timestamps`; any `i64`s in any order come back.
pub fn encode_timestamps(timestamps: &[Timestamp], out: &mut Vec<u8>) {
    let Some(first) = timestamps.first() else { return };
    let step_at = |w: &[i64]| w[1].wrapping_sub(w[0]);
    let mut steps: Vec<i64> = timestamps.windows(2).map(step_at).collect();
    let step = steps.first().copied().unwrap_or(0);
    if steps.iter().all(|s| *s == step) {
        out.push(CONSTANT_STEP);
        put_ivarint(out, *first);
        put_ivarint(out, step);
        return;
    }
    let middle = steps.len() / 2;
    let step = *steps.select_nth_unstable(middle).1;
    let plain = ints::plan(timestamps);
    let off_grid: Vec<i64> =
        timestamps.iter().enumerate().map(|(i, t)| t.wrapping_sub(grid(i, step))).collect();
    let residual = ints::plan(&off_grid);
    if residual.bits < plain.bits {
        out.push(GRID | residual.flags());
        put_ivarint(out, step);
        residual.write(out);
    } else {
        out.push(PLAIN | plain.flags());
        plain.write(out);
    }
}

#[inline]
fn grid(index: usize, step: i64) -> i64 {
    (index as i64).wrapping_mul(step)
}

/// Replaces what is in `out` by the `count` timestamps of `payload`, which holds nothing else. Allocates memory for
/// `count` timestamps and the payload, whatever the bytes say.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] if the bytes are not a payload of `count` timestamps; `out` is then empty.
pub fn decode_timestamps(payload: &[u8], count: usize, out: &mut Vec<Timestamp>) -> Result<()> {
    out.clear();
    let decoded = decode(payload, count, out);
    if decoded.is_none() {
        out.clear();
    }
    decoded.ok_or_else(|| {
        Error::corrupt(format!("{} bytes are not the payload of {count} timestamps", payload.len()))
    })
}

fn decode(payload: &[u8], count: usize, out: &mut Vec<Timestamp>) -> Option<()> {
    if count == 0 {
        return payload.is_empty().then_some(());
    }
    let mut reader = Cursor::new(payload);
    let flags = reader.u8()?;
    let mut padded = Vec::new();
    match flags & KIND_MASK {
        CONSTANT_STEP => {
            let first = reader.ivarint()?;
            let step = reader.ivarint()?;
            if flags != CONSTANT_STEP || !reader.is_empty() {
                return None;
            }
            out.extend((0..count).map(|i| first.wrapping_add(grid(i, step))));
        }
        GRID => {
            let step = reader.ivarint()?;
            ints::read(flags & FLAGS_MASK, &mut reader, count, &mut padded, out)?;
            out.iter_mut().enumerate().for_each(|(i, t)| *t = t.wrapping_add(grid(i, step)));
        }
        PLAIN => ints::read(flags & FLAGS_MASK, &mut reader, count, &mut padded, out)?,
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(timestamps: &[i64]) -> usize {
        let mut payload = Vec::new();
        encode_timestamps(timestamps, &mut payload);
        let mut back = vec![1, 2];
        decode_timestamps(&payload, timestamps.len(), &mut back).unwrap();
        assert_eq!(back, timestamps);
        payload.len()
    }

    #[test]
    fn sizes_of_well_known_shapes() {
        let aligned: Vec<i64> = (0..480).map(|i| 1_700_000_000_000 + i * 15_000).collect();
        let jittered: Vec<i64> =
            aligned.iter().enumerate().map(|(i, t)| t + (i as i64 * 7919) % 5 - 2).collect();
        let mut gap = aligned.clone();
        gap[200..].iter_mut().for_each(|t| *t += 60_000);
        let cases: [(&str, &[i64], usize); 7] = [
            ("nothing", &[], 0),
            ("one", &[1_700_000_000_000], 8),
            ("aligned", &aligned, 10),
            ("jittered", &jittered, 250),
            ("with a gap", &gap, 20),
            ("extremes", &[i64::MIN, i64::MAX, i64::MIN, 0, -1, i64::MAX], 80),
            ("the same", &[5; 100], 3),
        ];
        for (name, timestamps, at_most) in cases {
            let size = round_trip(timestamps);
            assert!(size <= at_most, "{name}: {size} bytes");
        }
    }

    proptest! {
        #![proptest_config(crate::tests::cases(10_000))]

        #[test]
        fn any_column_comes_back(
            start in any::<i64>(),
            steps in proptest::collection::vec(prop_oneof![4 => 14_990_i64..15_010, 1 => any::<i64>(), 1 => Just(i64::MIN)], 0..300),
        ) {
            let mut t = start;
            let mut column = vec![start];
            column.extend(steps.into_iter().map(|s| { t = t.wrapping_add(s); t }));
            round_trip(&column);
            column.sort_unstable();
            round_trip(&column);
        }

        #[test]
        fn random_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..60), count in 0_usize..700) {
            let mut out = Vec::new();
            let read = decode_timestamps(&bytes, count, &mut out);
            prop_assert_eq!(out.len(), if read.is_ok() { count } else { 0 });
        }
    }
}

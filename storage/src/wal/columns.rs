//! Columns of a record: runs of ids and of timestamps, values bit for bit. Hot path.
//!
//! ```text
//! ids         run: zigzag first id − (last id of the previous run + 1) | uvarint length of the run of consecutive ids
//! timestamps  run: zigzag t − previous t | uvarint length of the run of equal timestamps
//! value       an integer below 2^53: uvarint zigzag(i) × 2
//!             else: u8 tz × 2 + 1 | the 8 − tz high bytes of the float, lowest first    (tz: low bytes that are zero)
//! ```
//! The first run starts from id 0 and timestamp 0; an id difference is taken modulo 2^64. The lowest bit of a value's first
//! byte says which form it has. Every float comes back with its very bits.

use crate::codec::varint::{Cursor, put_ivarint, put_uvarint, unzigzag, zigzag};

/// The most bytes a value takes.
pub(super) const VALUE_BYTES_MAX: usize = 9;

/// Appends a column of ids.
pub(super) fn encode_ids(ids: &[u32], out: &mut Vec<u8>) {
    let mut expected = 0i64;
    for run in ids.chunk_by(|a, b| a.wrapping_add(1) == *b && *b != 0) {
        let first = i64::from(run.first().copied().unwrap_or_default());
        put_ivarint(out, first - expected);
        put_uvarint(out, run.len() as u64);
        expected = first + run.len() as i64;
    }
}

/// Appends a column of timestamps.
pub(super) fn encode_timestamps(timestamps: &[i64], out: &mut Vec<u8>) {
    let mut previous = 0i64;
    for run in timestamps.chunk_by(|a, b| a == b) {
        let timestamp = run.first().copied().unwrap_or_default();
        put_ivarint(out, timestamp.wrapping_sub(previous));
        put_uvarint(out, run.len() as u64);
        previous = timestamp;
    }
}

/// Appends a column of values.
pub(super) fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + values.len() * VALUE_BYTES_MAX, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let mut at = 0;
    for value in values {
        // The room holds the longest form of every value, so this never runs short.
        let Some(slot) = room.get_mut(at..).and_then(|r| r.first_chunk_mut::<VALUE_BYTES_MAX>()) else {
            break;
        };
        at += encode_value(*value, slot);
    }
    out.truncate(start + at);
}

/// Writes a value to the front of `slot`, and answers its length.
#[inline]
pub(super) fn encode_value(value: f64, slot: &mut [u8; VALUE_BYTES_MAX]) -> usize {
    let integer = value as i64;
    let bits = value.to_bits();
    // Compared as bits: −0.0 and NaN are no integers.
    if (integer as f64).to_bits() == bits && integer.unsigned_abs() < 1 << 53 {
        let mut rest = zigzag(integer) << 1;
        if rest < 0x80 {
            slot[0] = rest as u8;
            return 1;
        }
        let mut len = 0;
        // Below 2^55: at most eight bytes.
        for byte in slot.iter_mut() {
            len += 1;
            *byte = rest as u8 & 0x7f | u8::from(rest >= 0x80) << 7;
            rest >>= 7;
            if rest == 0 {
                break;
            }
        }
        len
    } else {
        let zeros = (bits.trailing_zeros() / 8).min(7);
        slot[0] = (zeros as u8) << 1 | 1;
        slot[1..].copy_from_slice(&(bits >> (8 * zeros)).to_le_bytes());
        VALUE_BYTES_MAX - zeros as usize
    }
}

fn run_length(cursor: &mut Cursor<'_>, left: usize) -> Option<usize> {
    let run = usize::try_from(cursor.uvarint()?).ok()?;
    (1..=left).contains(&run).then_some(run)
}

/// Reads what [`encode_ids`] wrote.
pub(super) fn decode_ids(cursor: &mut Cursor<'_>, n: usize, ids: &mut Vec<u32>) -> Option<()> {
    ids.clear();
    ids.try_reserve(n).ok()?;
    let mut expected = 0i64;
    while ids.len() < n {
        let first = u32::try_from(expected.wrapping_add(cursor.ivarint()?)).ok()?;
        let run = run_length(cursor, n - ids.len())?;
        let last = first.checked_add(u32::try_from(run - 1).ok()?)?;
        ids.extend(first..=last);
        expected = i64::from(last) + 1;
    }
    Some(())
}

/// Reads what [`encode_timestamps`] wrote.
pub(super) fn decode_timestamps(cursor: &mut Cursor<'_>, n: usize, timestamps: &mut Vec<i64>) -> Option<()> {
    timestamps.clear();
    timestamps.try_reserve(n).ok()?;
    let mut previous = 0i64;
    while timestamps.len() < n {
        previous = previous.wrapping_add(cursor.ivarint()?);
        let run = run_length(cursor, n - timestamps.len())?;
        timestamps.extend(std::iter::repeat_n(previous, run));
    }
    Some(())
}

/// Reads what [`encode_values`] wrote.
pub(super) fn decode_values(cursor: &mut Cursor<'_>, n: usize, values: &mut Vec<f64>) -> Option<()> {
    values.clear();
    values.try_reserve(n).ok()?;
    for _ in 0..n {
        values.push(decode_value(cursor)?);
    }
    Some(())
}

/// Reads what [`encode_value`] wrote.
#[inline]
pub(super) fn decode_value(cursor: &mut Cursor<'_>) -> Option<f64> {
    let first = *cursor.rest().first()?;
    if first & 0x81 == 0 {
        // Most values are small integers.
        cursor.u8()?;
        return Some(unzigzag(u64::from(first >> 1)) as f64);
    }
    if first & 1 == 0 {
        let doubled = cursor.uvarint()?;
        return Some(unzigzag(doubled >> 1) as f64);
    }
    cursor.u8()?;
    let zeros = usize::from(first >> 1);
    let stored = cursor.bytes(8usize.checked_sub(zeros)?)?;
    let mut bits = [0; 8];
    bits.get_mut(zeros..)?.copy_from_slice(stored);
    Some(f64::from_bits(u64::from_le_bytes(bits)))
}

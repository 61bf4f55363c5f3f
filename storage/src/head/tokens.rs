//! The byte tokens of an open chunk: what changed since the value before, in whole bytes. Hot path.
//!
//! ```text
//! varint(zigzag(difference) << 2 | has_run << 1)                        [varint run]    value before + difference
//! u8 (bytes - 1) << 5 | zero_bytes << 2 | has_run << 1 | 1, bytes of x  [varint run]    bits before ^ x << 8·zero_bytes
//! ```
//! `run` says how often the value before was repeated ahead of this token. Values equal to the one before make no
//! token; how many of them follow the last token is kept beside the bytes. The value before the first is 0.0.

use super::paged::take_varint;

/// The most bytes one token takes: an exclusive-or of eight bytes or a difference below 2^53, and a run.
pub(crate) const TOKEN_BYTES_MAX: usize = 16;

/// A token on the stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token {
    bytes: [u8; TOKEN_BYTES_MAX],
    len: u8,
}

impl Token {
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    #[inline]
    fn put(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }

    #[inline]
    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put(value as u8 | 0x80);
            value >>= 7;
        }
        self.put(value as u8);
    }
}

/// Differences are written only below this, so that header bits fit and sums are exact.
const DIFFERENCE_MAX: i64 = 1 << 52;

/// The token of `value` after `run` further samples of `previous`; the two differ in their bits.
#[inline]
pub(crate) fn encode(previous: f64, value: f64, run: u32) -> Token {
    let mut token = Token { bytes: [0; TOKEN_BYTES_MAX], len: 0 };
    let has_run = u64::from(run > 0);
    let difference = (value - previous) as i64;
    let is_exact = difference.abs_diff(0) < DIFFERENCE_MAX as u64
        && (previous + difference as f64).to_bits() == value.to_bits();
    if is_exact {
        let zigzag = (difference << 1 ^ difference >> 63) as u64;
        token.put_varint(zigzag << 2 | has_run << 1);
    } else {
        let mut x = value.to_bits() ^ previous.to_bits();
        let zero_bytes = (x.trailing_zeros() / 8).min(7);
        x >>= 8 * zero_bytes;
        let bytes = (8 - x.leading_zeros() / 8).max(1);
        token.put(((bytes - 1) << 5 | zero_bytes << 2) as u8 | (has_run << 1) as u8 | 1);
        for byte in &x.to_le_bytes()[..bytes as usize] {
            token.put(*byte);
        }
    }
    if run > 0 {
        token.put_varint(u64::from(run));
    }
    token
}

/// Decodes `count` values from `bytes` and the run behind the last token; calls `emit` with each value and how often it
/// comes. Answers false if the bytes do not make `count` values.
#[inline]
pub(crate) fn decode(mut bytes: &[u8], count: u32, tail_run: u32, mut emit: impl FnMut(f64, u32)) -> bool {
    let mut previous = 0.0f64;
    let mut left = count;
    while !bytes.is_empty() {
        let Some((value, run)) = take_token(&mut bytes, previous) else { return false };
        let Some(rest) = left.checked_sub(run).and_then(|rest| rest.checked_sub(1)) else { return false };
        left = rest;
        if run > 0 {
            emit(previous, run);
        }
        emit(value, 1);
        previous = value;
    }
    if tail_run > 0 {
        emit(previous, tail_run);
    }
    left == tail_run
}

#[inline]
fn take_token(bytes: &mut &[u8], previous: f64) -> Option<(f64, u32)> {
    let first = *bytes.first()?;
    let value = if first & 1 == 0 {
        let header = take_varint(bytes)?;
        let zigzag = header >> 2;
        let difference = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
        previous + difference as f64
    } else {
        let (len, zero_bytes) = (usize::from(first >> 5) + 1, u32::from(first >> 2 & 7));
        let part = bytes.get(1..=len)?;
        *bytes = bytes.get(len + 1..)?;
        let mut x = [0; 8];
        x.get_mut(..len)?.copy_from_slice(part);
        f64::from_bits(previous.to_bits() ^ u64::from_le_bytes(x) << (8 * zero_bytes))
    };
    let run = if first & 2 == 0 { 0 } else { u32::try_from(take_varint(bytes)?).ok()? };
    Some((value, run))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Encodes all of `values`: bytes and the run at the end.
    fn encode_all(values: &[f64]) -> (Vec<u8>, u32) {
        let (mut bytes, mut run, mut previous) = (Vec::new(), 0, 0.0f64);
        for value in values {
            if value.to_bits() == previous.to_bits() {
                run += 1;
                continue;
            }
            let token = encode(previous, *value, run);
            bytes.extend_from_slice(token.as_slice());
            (run, previous) = (0, *value);
        }
        (bytes, run)
    }

    fn assert_round_trip(values: &[f64]) {
        let (bytes, run) = encode_all(values);
        let mut back = Vec::new();
        let ok = decode(&bytes, values.len() as u32, run, |v, n| {
            back.extend(std::iter::repeat_n(v.to_bits(), n as usize));
        });
        assert!(ok);
        assert_eq!(back, values.iter().map(|v| v.to_bits()).collect::<Vec<_>>());
    }

    #[test]
    fn difficult_values_come_back_bit_for_bit() {
        let two_53 = 9_007_199_254_740_992.0;
        let values = [
            0.0,
            -0.0,
            0.0,
            1.0,
            -0.0,
            f64::NAN,
            f64::from_bits(crate::model::STALE_NAN_BITS),
            f64::from_bits(0xfff8_0000_0000_0001),
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE / 2.0,
            f64::MAX,
            f64::MIN,
            two_53,
            two_53 + 2.0,
            -two_53,
            4_503_599_627_370_495.0,
            -4_503_599_627_370_497.0,
            0.1,
            0.1,
            0.1,
            0.3,
        ];
        assert_round_trip(&values);
        for a in values {
            for b in values {
                assert_round_trip(&[a, b, b, a]);
            }
        }
        let (bytes, run) = encode_all(&[0.0, 0.0, 5.0, 5.0]);
        assert_eq!((bytes.as_slice(), run), (&[5 << 3 | 2, 2][..], 1));
    }

    proptest! {
        #[test]
        fn any_bits_round_trip(bits in proptest::collection::vec(any::<u64>(), 0..50)) {
            assert_round_trip(&bits.iter().map(|b| f64::from_bits(*b)).collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_decode_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..100), count in 0u32..300, tail in 0u32..10
        ) {
            let mut total = 0u64;
            let ok = decode(&bytes, count, tail, |_, n| total += u64::from(n));
            prop_assert!(!ok || total == u64::from(count));
        }
    }
}

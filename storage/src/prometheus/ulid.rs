//! ULID: the names of Prometheus' blocks; 48 bits of time and 80 random bits, written in base 32 so that names sort by time.

use std::fmt;

/// Crockford's alphabet: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a name.
const CHARS: usize = 26;

/// The identity of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ulid(u128);

impl Ulid {
    /// A name made at `unix_ms`; of `random` ten bytes are used.
    pub fn new(unix_ms: i64, random: [u8; 16]) -> Self {
        let time = unix_ms.max(0).cast_unsigned() & ((1 << 48) - 1);
        Self(u128::from(time) << 80 | u128::from_le_bytes(random) >> 48)
    }

    /// Reads 26 characters of the alphabet, in either case; the first says at most 7.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != CHARS || !text.starts_with(|c: char| ('0'..='7').contains(&c)) {
            return None;
        }
        let digit = |c: u8| ALPHABET.iter().position(|a| *a == c.to_ascii_uppercase());
        text.bytes().try_fold(0u128, |all, c| Some(all << 5 | digit(c)? as u128)).map(Self)
    }
}

impl fmt::Display for Ulid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..CHARS).rev() {
            let digit = (self.0 >> (5 * place)) as usize & 31;
            let character = ALPHABET.get(digit).copied().unwrap_or(b'0');
            write!(f, "{}", char::from(character))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_sort_by_time() {
        let early = Ulid::new(1_600_000_000_000, [0xff; 16]);
        let late = Ulid::new(1_600_000_000_001, [0; 16]);
        assert!(early < late && early.to_string() < late.to_string());
        for ulid in [early, late, Ulid(0), Ulid(u128::MAX)] {
            assert_eq!(Ulid::parse(&ulid.to_string()), Some(ulid));
            assert_eq!(Ulid::parse(&ulid.to_string().to_lowercase()), Some(ulid));
        }
        // The example of the specification: 1469918176385 ms.
        let example = Ulid::parse("01ARYZ6S41TSV4RRFFQ69G5FAV").unwrap();
        assert_eq!((example.0 >> 80) as u64, 1_469_918_176_385);
        for wrong in
            ["", "01ARYZ6S41TSV4RRFFQ69G5FA", "81ARYZ6S41TSV4RRFFQ69G5FAV", "01ARYZ6S41TSV4RRFFQ69G5FAU"]
        {
            assert_eq!(Ulid::parse(wrong), None, "{wrong}");
        }
    }
}

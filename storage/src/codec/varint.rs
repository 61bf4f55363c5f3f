//! Integers of variable length, and `Cursor`, which takes foreign bytes apart without ever panicking. Hot path.
//!
//! ```text
//! uvarint   7 bits a byte, lowest first, bit 7 set on all but the last byte; at most 10 bytes
//! zigzag    0 -1 1 -2 2 …  →  0 1 2 3 4 …
//! ```

/// The most bytes a uvarint takes.
pub const UVARINT_BYTES_MAX: usize = 10;

/// Maps small negative and positive integers to small ones.
#[inline]
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Appends a uvarint.
#[inline]
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a zigzag uvarint.
#[inline]
pub fn put_ivarint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, zigzag(value));
}

/// Appends a uvarint of the length, then the bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes a uvarint takes.
#[inline]
pub fn uvarint_len(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

/// Reads bytes from front to back. Every method answers `None` where the bytes end or are malformed, and then the
/// position is unspecified but inside the bytes.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The offset of the next byte.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Whether no byte is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Everything that is left; the cursor stays.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.rest().first_chunk::<N>()?;
        self.at += N;
        Some(array)
    }

    /// Two bytes, lowest first.
    #[inline]
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, lowest first.
    #[inline]
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, lowest first.
    #[inline]
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, lowest first, two's complement.
    #[inline]
    pub fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// The bits of a float, lowest byte first.
    #[inline]
    pub fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }

    /// The next `len` bytes.
    #[inline]
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let part = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(part)
    }

    /// A uvarint; longer than needed is fine, more than 64 bits is not.
    #[inline]
    pub fn uvarint(&mut self) -> Option<u64> {
        let first = self.u8()?;
        if first < 0x80 {
            return Some(u64::from(first));
        }
        self.uvarint_rest(u64::from(first & 0x7f))
    }

    fn uvarint_rest(&mut self, mut value: u64) -> Option<u64> {
        let mut shift = 7;
        loop {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
            if shift > 63 {
                return None;
            }
        }
    }

    /// A zigzag uvarint.
    #[inline]
    pub fn ivarint(&mut self) -> Option<i64> {
        self.uvarint().map(unzigzag)
    }

    /// A uvarint that fits a `u32`.
    #[inline]
    pub fn uvarint32(&mut self) -> Option<u32> {
        u32::try_from(self.uvarint()?).ok()
    }

    /// A count of things that take at least `bytes_each` (at least 1) of the bytes left: safe to allocate by.
    pub fn count(&mut self, bytes_each: usize) -> Option<usize> {
        let count = usize::try_from(self.uvarint()?).ok()?;
        (count <= self.remaining() / bytes_each.max(1)).then_some(count)
    }

    /// A uvarint length, then so many bytes.
    #[inline]
    pub fn prefixed(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.uvarint()?).ok()?;
        self.bytes(len)
    }

    /// Like [`Cursor::prefixed`], as UTF-8.
    pub fn prefixed_str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.prefixed()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn borders() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), 1 << 63, u64::MAX] {
            let mut out = Vec::new();
            put_uvarint(&mut out, value);
            assert_eq!(out.len(), uvarint_len(value));
            assert_eq!(Cursor::new(&out).uvarint(), Some(value));
            for cut in 0..out.len() {
                assert_eq!(Cursor::new(&out[..cut]).uvarint(), None);
            }
        }
        assert_eq!(
            Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).uvarint(),
            None
        );
        assert_eq!(Cursor::new(&[0x80; 11]).uvarint(), None);
        assert_eq!(Cursor::new(&[0x80, 0x00]).uvarint(), Some(0));
        assert_eq!(Cursor::new(&[5, 1, 2, 3, 4]).count(1), None, "five things in four bytes");
        assert_eq!(Cursor::new(&[4, 1, 2, 3, 4]).count(1), Some(4));
        assert_eq!(Cursor::new(&[2, 1, 2, 3, 4]).count(2), Some(2));
        assert_eq!(Cursor::new(&[9, 1]).bytes(usize::MAX), None);
    }

    proptest! {
        #![proptest_config(crate::tests::cases(1_000))]

        #[test]
        fn integers_come_back(values in prop::collection::vec(any::<i64>(), 0..50)) {
            let mut out = Vec::new();
            for value in &values {
                put_ivarint(&mut out, *value);
                put_uvarint(&mut out, *value as u64);
            }
            let mut cursor = Cursor::new(&out);
            for value in &values {
                prop_assert_eq!(cursor.ivarint(), Some(*value));
                prop_assert_eq!(cursor.uvarint(), Some(*value as u64));
            }
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn any_bytes_are_taken_apart_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut cursor = Cursor::new(&bytes);
            while cursor.prefixed().is_some() {}
            let mut cursor = Cursor::new(&bytes);
            while cursor.ivarint().is_some() && cursor.u16().is_some() {}
            prop_assert!(cursor.position() + cursor.remaining() == bytes.len());
        }
    }
}

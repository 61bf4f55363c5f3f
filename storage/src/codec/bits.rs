//! Strings of bits, lowest bit of the lowest byte first. Hot path.

/// Appends bits.
#[derive(Debug, Default, Clone)]
pub struct BitWriter {
    bytes: Vec<u8>,
    pending: u64,
    /// How many bits of `pending` are used; below 8 between calls of `flush_bytes`, never above 63.
    used: u32,
}

/// The most bits one call writes or reads.
pub const BITS_MAX: u32 = 56;

impl BitWriter {
    /// Writes behind what `bytes` holds.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, pending: 0, used: 0 }
    }

    /// Appends the low `count` bits of `value`.
    ///
    /// # Panics
    /// Never in release; `count` must not exceed [`BITS_MAX`] (use [`BitWriter::write_wide`]).
    #[inline]
    pub fn write(&mut self, value: u64, count: u32) {
        debug_assert!(count <= BITS_MAX, "one call writes at most 56 bits");
        let value = value & ((1u64 << (count & 63)) - 1);
        self.pending |= value << self.used;
        self.used += count;
        let whole = (self.used / 8) as usize;
        self.bytes.extend_from_slice(&self.pending.to_le_bytes()[..whole.min(8)]);
        self.pending = self.pending.checked_shr(8 * whole as u32).unwrap_or(0);
        self.used %= 8;
    }

    /// Appends the low `count` bits of `value`; `count` up to 64.
    #[inline]
    pub fn write_wide(&mut self, value: u64, count: u32) {
        if count <= 32 {
            self.write(value, count);
        } else {
            self.write(value, 32);
            self.write(value >> 32, (count - 32).min(32));
        }
    }

    /// How many bits were written, with those of the bytes it began with.
    pub fn bits(&self) -> u64 {
        self.bytes.len() as u64 * 8 + u64::from(self.used)
    }

    /// Fills the last byte with zeros and gives the bytes back.
    pub fn finish(mut self) -> Vec<u8> {
        if self.used > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
}

/// Reads bits; answers `None` behind the end.
#[derive(Debug, Clone)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next byte that is not yet in `window`.
    at: usize,
    window: u64,
    available: u32,
}

impl<'a> BitReader<'a> {
    /// Starts at the lowest bit of the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, window: 0, available: 0 }
    }

    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            // Bits above `available` are rewritten with the same values by the next refill.
            self.window |= u64::from_le_bytes(*word) << self.available;
            self.at += ((63 - self.available) >> 3) as usize;
            self.available |= 56;
        } else {
            while self.available <= 56
                && let Some(byte) = self.bytes.get(self.at)
            {
                self.window |= u64::from(*byte) << self.available;
                self.available += 8;
                self.at += 1;
            }
        }
    }

    /// The next `count` bits (up to [`BITS_MAX`]) without taking them; behind the end they are zeros.
    #[inline]
    pub fn peek(&mut self, count: u32) -> u64 {
        debug_assert!(count <= BITS_MAX, "one call reads at most 56 bits");
        if self.available < count {
            self.refill();
        }
        self.window & ((1u64 << (count & 63)) - 1)
    }

    /// Takes `count` bits (up to [`BITS_MAX`]).
    #[inline]
    pub fn consume(&mut self, count: u32) -> Option<()> {
        if self.available < count {
            self.refill();
        }
        self.available = self.available.checked_sub(count)?;
        self.window >>= count & 63;
        Some(())
    }

    /// Reads `count` bits (up to [`BITS_MAX`]).
    #[inline]
    pub fn read(&mut self, count: u32) -> Option<u64> {
        let value = self.peek(count);
        self.consume(count)?;
        Some(value)
    }

    /// Reads `count` bits, up to 64.
    #[inline]
    pub fn read_wide(&mut self, count: u32) -> Option<u64> {
        if count <= 32 {
            return self.read(count);
        }
        let low = self.read(32)?;
        Some(low | self.read((count - 32).min(32))? << 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(crate::tests::cases(1_000))]

        #[test]
        fn bits_come_back(items in prop::collection::vec((any::<u64>(), 0u32..=64), 0..200)) {
            let mut writer = BitWriter::new(Vec::new());
            let mut total = 0;
            for (value, count) in &items {
                writer.write_wide(*value, *count);
                total += u64::from(*count);
                prop_assert_eq!(writer.bits(), total);
            }
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for (value, count) in &items {
                let mask = if *count == 64 { u64::MAX } else { (1 << count) - 1 };
                prop_assert_eq!(reader.read_wide(*count), Some(value & mask));
            }
            let padding = (bytes.len() as u64 * 8 - total) as u32;
            prop_assert!(padding < 8);
            prop_assert_eq!(reader.read(padding), Some(0));
            prop_assert_eq!(reader.peek(9), 0);
            prop_assert_eq!(reader.read(1), None);
        }

        #[test]
        fn short_bytes_end_in_none(bytes in prop::collection::vec(any::<u8>(), 0..30), step in 1u32..=56) {
            let mut reader = BitReader::new(&bytes);
            let mut taken = 0;
            while reader.read(step).is_some() {
                taken += u64::from(step);
            }
            prop_assert!(taken <= bytes.len() as u64 * 8);
            prop_assert!(taken + u64::from(step) > bytes.len() as u64 * 8);
        }
    }
}

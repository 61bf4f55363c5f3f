//! Bits from the highest of a byte down, and the integers of variable length that histogram chunks are made of.
//!
//! ```text
//! 0                     0                           signed: -3..=4            unsigned: 0..=7
//! 10        3 bits      and so on for 6, 9, 12, 18, 25 and 56 bits,
//! 110       6 bits      one more 1 in front each time
//! 11111110 56 bits
//! 11111111 64 bits
//! ```
//!
//! A signed number of `n` bits lies in `-(2^(n-1) - 1) ..= 2^(n-1)`: one is added to the upper end of two's complement at the
//! cost of the lower.

/// Widths of the numbers of variable length, by how many ones stand in front.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// Appends bits.
#[derive(Debug, Default, Clone)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    /// How many bits of the last byte are free.
    free: u32,
}

impl BitWriter {
    /// Writes behind `bytes`.
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, free: 0 }
    }

    /// Appends the low `count` bits (at most 64) of `value`, the highest of them first.
    #[inline]
    pub(super) fn write(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = left.min(self.free);
            let part = (value >> (left - taken)) as u8 & (0xff_u16 >> (8 - taken)) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= part << (self.free - taken);
            }
            self.free -= taken;
            left -= taken;
        }
    }

    /// Appends a number as `encoding/binary` of Go writes it: seven bits a byte, the lowest first.
    pub(super) fn write_uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.write(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.write(value, 8);
    }

    /// The same with the sign in the lowest bit.
    pub(super) fn write_varint(&mut self, value: i64) {
        self.write_uvarint((value << 1 ^ value >> 63).cast_unsigned());
    }

    /// Appends a signed number of variable length.
    #[inline]
    pub(super) fn write_varbit(&mut self, value: i64) {
        let fits = |width: u32| match width {
            0 => value == 0,
            64 => true,
            _ => fits_signed(value, width),
        };
        self.write_class(fits, value.cast_unsigned());
    }

    /// Appends an unsigned number of variable length.
    #[inline]
    pub(super) fn write_varbit_unsigned(&mut self, value: u64) {
        self.write_class(|width| 64 - value.leading_zeros() <= width, value);
    }

    #[inline]
    fn write_class(&mut self, fits: impl Fn(u32) -> bool, value: u64) {
        let (class, width) = WIDTHS.iter().enumerate().find(|(_, w)| fits(**w)).unwrap_or((8, &64));
        let class = class as u32;
        // As many ones as the class says; a zero ends them but for the last class.
        match class {
            8 => self.write(0xff, 8),
            _ => self.write((1 << (class + 1)) - 2, class + 1),
        }
        self.write(value, *width);
    }

    /// The bytes, the last one filled with zeros.
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes there are now.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Whether `value` is one of the signed numbers of `width` bits.
#[inline]
pub(super) fn fits_signed(value: i64, width: u32) -> bool {
    let half = 1_i64 << (width - 1);
    1 - half <= value && value <= half
}

/// The signed number that `width` bits stand for.
#[inline]
pub(super) fn signed(bits: u64, width: u32) -> i64 {
    let is_negative = width < 64 && bits > 1 << (width - 1);
    let bits = bits.cast_signed();
    if is_negative { bits.wrapping_sub(1_i64.wrapping_shl(width)) } else { bits }
}

/// Reads bits; `None` behind the end.
#[derive(Debug, Clone)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bits are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_mul(8).saturating_sub(self.at)
    }

    /// The next `count` bits (at most 64).
    #[inline]
    pub(super) fn read(&mut self, count: u32) -> Option<u64> {
        if self.left() < count as usize {
            return None;
        }
        let (mut value, mut left) = (0_u64, count);
        while left > 0 {
            let byte = *self.bytes.get(self.at / 8)?;
            let available = 8 - (self.at % 8) as u32;
            let taken = left.min(available);
            let part = u64::from(byte) >> (available - taken) & ((1 << taken) - 1);
            value = value << taken | part;
            self.at += taken as usize;
            left -= taken;
        }
        Some(value)
    }

    /// The next bit.
    #[inline]
    pub(super) fn bit(&mut self) -> Option<bool> {
        Some(self.read(1)? == 1)
    }

    /// How many ones come next, at most `max`; the zero that ends them is taken too.
    #[inline]
    pub(super) fn ones(&mut self, max: u32) -> Option<u32> {
        let mut ones = 0;
        while ones < max && self.bit()? {
            ones += 1;
        }
        Some(ones)
    }

    /// See [`BitWriter::write_uvarint`]; `None` for more than 64 bits too.
    pub(super) fn uvarint(&mut self) -> Option<u64> {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.read(8)?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
            shift += 7;
        }
    }

    /// See [`BitWriter::write_varint`].
    pub(super) fn varint(&mut self) -> Option<i64> {
        let value = self.uvarint()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// See [`BitWriter::write_varbit`].
    #[inline]
    pub(super) fn varbit(&mut self) -> Option<i64> {
        let width = self.width()?;
        let bits = self.read(width)?;
        Some(if width == 0 { 0 } else { signed(bits, width) })
    }

    /// See [`BitWriter::write_varbit_unsigned`].
    #[inline]
    pub(super) fn varbit_unsigned(&mut self) -> Option<u64> {
        let width = self.width()?;
        self.read(width)
    }

    #[inline]
    fn width(&mut self) -> Option<u32> {
        let class = self.ones(8)?;
        WIDTHS.get(class as usize).copied()
    }
}

//! Chunks of floats (encoding 1, XOR).
//!
//! ```text
//! count u16 | t0 varint | v0 64 bits | t1-t0 uvarint | v1 xor | dod t2 | v2 xor | …
//!
//! dod, the change of the distance between timestamps:
//! 0                      0
//! 10    14 bits          -8191..=8192
//! 110   17 bits          -65535..=65536
//! 1110  20 bits          -524287..=524288
//! 1111  64 bits
//! ```

use super::bits::{BitReader, BitWriter, fits_signed, signed};
use super::chunk_value::XorValue;
use super::{CHUNK_SAMPLES_MAX, ChunkError, header};
use crate::model::Timestamp;

/// Widths of dod by how many ones stand in front.
const WIDTHS: [u32; 5] = [0, 14, 17, 20, 64];

/// Builds a chunk of floats.
#[derive(Debug, Clone)]
pub struct FloatChunkWriter {
    bits: BitWriter,
    samples: u16,
    time: Timestamp,
    distance: i64,
    value: XorValue,
}

impl Default for FloatChunkWriter {
    fn default() -> Self {
        Self::new()
    }
}

impl FloatChunkWriter {
    /// An empty chunk.
    pub fn new() -> Self {
        let bits = BitWriter::new(vec![0, 0]);
        Self { bits, samples: 0, time: 0, distance: 0, value: XorValue::first(0.0) }
    }

    /// Adds a sample, later than those before. False if the chunk is full: it is as before then.
    #[inline]
    pub fn push(&mut self, time: Timestamp, value: f64) -> bool {
        if usize::from(self.samples) == CHUNK_SAMPLES_MAX {
            return false;
        }
        let distance = time.wrapping_sub(self.time);
        match self.samples {
            0 => {
                self.bits.write_varint(time);
                self.bits.write(value.to_bits(), 64);
                self.value = XorValue::first(value);
            }
            1 => {
                self.bits.write_uvarint(distance.cast_unsigned());
                self.value.write(&mut self.bits, value);
            }
            _ => {
                self.write_change(distance.wrapping_sub(self.distance));
                self.value.write(&mut self.bits, value);
            }
        }
        self.distance = if self.samples == 0 { 0 } else { distance };
        self.time = time;
        self.samples += 1;
        true
    }

    #[inline]
    fn write_change(&mut self, change: i64) {
        match change {
            0 => return self.bits.write(0, 1),
            _ if fits_signed(change, 14) => self.bits.write(0b10, 2),
            _ if fits_signed(change, 17) => self.bits.write(0b110, 3),
            _ if fits_signed(change, 20) => self.bits.write(0b1110, 4),
            _ => {
                self.bits.write(0b1111, 4);
                return self.bits.write(change.cast_unsigned(), 64);
            }
        }
        let width = [14, 17, 20].into_iter().find(|w| fits_signed(change, *w)).unwrap_or(20);
        self.bits.write(change.cast_unsigned(), width);
    }

    /// How many samples it has.
    pub fn len(&self) -> usize {
        usize::from(self.samples)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.samples == 0
    }

    /// How many bytes it takes so far.
    pub fn bytes(&self) -> usize {
        self.bits.len()
    }

    /// The chunk.
    pub fn finish(self) -> Vec<u8> {
        let mut bytes = self.bits.finish();
        if let Some(count) = bytes.first_chunk_mut::<2>() {
            *count = self.samples.to_be_bytes();
        }
        bytes
    }
}

/// Reads a chunk of floats; after an error it ends.
#[derive(Debug, Clone)]
pub struct FloatChunkReader<'a> {
    bits: BitReader<'a>,
    samples: usize,
    read: usize,
    time: Timestamp,
    distance: i64,
    value: XorValue,
}

impl<'a> FloatChunkReader<'a> {
    /// A reader at the first sample.
    ///
    /// # Errors
    /// There is no header.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        let (samples, rest) = header(bytes)?;
        let value = XorValue::first(0.0);
        Ok(Self { bits: BitReader::new(rest), samples, read: 0, time: 0, distance: 0, value })
    }

    /// How many samples the chunk says it has.
    pub fn samples(&self) -> usize {
        self.samples
    }

    fn read_sample(&mut self) -> Result<Option<(Timestamp, f64)>, ChunkError> {
        let Some(change) = (match self.read {
            0 => self.bits.varint(),
            1 => self.bits.uvarint().map(u64::cast_signed),
            _ => self.read_change(),
        }) else {
            return Ok(None);
        };
        if self.read == 0 {
            let Some(bits) = self.bits.read(64) else { return Ok(None) };
            self.time = change;
            self.value = XorValue::first(f64::from_bits(bits));
            return Ok(Some((self.time, self.value.value)));
        }
        self.distance = self.distance.wrapping_add(change);
        self.time = self.time.wrapping_add(self.distance);
        Ok(self.value.read(&mut self.bits)?.map(|value| (self.time, value)))
    }

    #[inline]
    fn read_change(&mut self) -> Option<i64> {
        let width = *WIDTHS.get(self.bits.ones(4)? as usize)?;
        let bits = self.bits.read(width)?;
        Some(if width == 0 { 0 } else { signed(bits, width) })
    }
}

impl Iterator for FloatChunkReader<'_> {
    type Item = Result<(Timestamp, f64), ChunkError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.read >= self.samples {
            return None;
        }
        let sample = self.read_sample();
        self.read += 1;
        let truncated = ChunkError::Truncated { sample: self.read, samples: self.samples };
        let sample = sample.and_then(|sample| sample.ok_or(truncated));
        if sample.is_err() {
            self.read = self.samples;
        }
        Some(sample)
    }
}

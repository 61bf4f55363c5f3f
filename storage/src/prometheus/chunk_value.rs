//! A float by its difference (XOR) to the one before, as Facebook's Gorilla paper has it and Prometheus writes it.
//!
//! ```text
//! 0                                     the same value
//! 1 0 | significant bits                within the window (zeros in front and behind) of the value before
//! 1 1 | 5 zeros in front | 6 width | significant bits     a window of its own; width 0 stands for 64
//! ```

use super::ChunkError;
use super::bits::{BitReader, BitWriter};

/// No window was written yet.
const NO_WINDOW: u32 = 0xff;
/// What five bits can say.
const LEADING_MAX: u32 = 31;

/// The value before and its window.
#[derive(Debug, Clone, Copy)]
pub(super) struct XorValue {
    pub(super) value: f64,
    leading: u32,
    trailing: u32,
}

impl XorValue {
    /// The first value, which is written as it is.
    pub(super) fn first(value: f64) -> Self {
        Self { value, leading: NO_WINDOW, trailing: 0 }
    }

    /// Writes the next value.
    #[inline]
    pub(super) fn write(&mut self, out: &mut BitWriter, value: f64) {
        let difference = value.to_bits() ^ self.value.to_bits();
        self.value = value;
        if difference == 0 {
            out.write(0, 1);
            return;
        }
        let (leading, trailing) = (difference.leading_zeros().min(LEADING_MAX), difference.trailing_zeros());
        if self.leading != NO_WINDOW && leading >= self.leading && trailing >= self.trailing {
            out.write(0b10, 2);
            out.write(difference >> self.trailing, 64 - self.leading - self.trailing);
            return;
        }
        (self.leading, self.trailing) = (leading, trailing);
        let significant = 64 - leading - trailing;
        out.write(0b11, 2);
        out.write(u64::from(leading), 5);
        out.write(u64::from(significant & 63), 6);
        out.write(difference >> trailing, significant);
    }

    /// Reads the next value; `Ok(None)` behind the end.
    ///
    /// # Errors
    /// A window wider than a float.
    #[inline]
    pub(super) fn read(&mut self, bits: &mut BitReader<'_>) -> Result<Option<f64>, ChunkError> {
        let Some(changed) = bits.bit() else { return Ok(None) };
        if !changed {
            return Ok(Some(self.value));
        }
        let Some(own_window) = bits.bit() else { return Ok(None) };
        if own_window {
            let (Some(leading), Some(width)) = (bits.read(5), bits.read(6)) else { return Ok(None) };
            let (leading, width) = (leading as u32, if width == 0 { 64 } else { width as u32 });
            if leading + width > 64 {
                return Err(ChunkError::ValueWidth { leading, significant: width });
            }
            (self.leading, self.trailing) = (leading, 64 - leading - width);
        } else if self.leading == NO_WINDOW {
            // Prometheus reads a window that was never written as the whole float.
            (self.leading, self.trailing) = (0, 0);
        }
        let Some(difference) = bits.read(64 - self.leading - self.trailing) else { return Ok(None) };
        self.value = f64::from_bits(self.value.to_bits() ^ difference << self.trailing);
        Ok(Some(self.value))
    }
}

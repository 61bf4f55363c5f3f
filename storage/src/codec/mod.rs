//! Bits and bytes of our own formats: integers, bit strings, checksums, frames, compression. All readers are total.

pub mod bits;
pub mod compress;
pub mod crc;
pub mod frame;
pub mod varint;

//! The chunk codec: columns of floats and of timestamps as few bytes, bit for bit.
//!
//! A chunk is a run of samples of one series. Its values and its timestamps are two payloads, because many series share
//! one timestamp column. Neither payload says how many samples it holds: who keeps the payload keeps the number.
//!
//! ```text
//! values      00 exponent:u8 zigzag varint          all samples are i / 10^exponent, with the same bits
//!             04 bits:8 (LE)                        all samples have these bits
//!             08 n × bits:8 (LE)                    nothing smaller was found
//!             F  [exponent:u8] [exceptions] ints    F & 3: 1 decimal (with exponent), 3 float order
//!             F  exponent:u8 [exceptions] length:varint ints(length bytes) F2 ints     F & 3: 2 decimal + ulp
//! F           bits 0-1 number model, bit 2 exceptions, bits 3-7 flags of the ints
//! exceptions  count:varint, then each run: (gap << 4 | code << 1 | has_length):varint [bits:8] [length:varint]
//! timestamps  00 first:zigzag step:zigzag           constant step, all arithmetic modulo 2^64
//!             F  [step:zigzag] ints                 F & 3: 1 residuals against first + i*step, 2 plain
//! ints        first:zigzag [divisor] [center:zigzag] [first delta:zigzag] table:u8 [length of stream 1] streams
//! ```
//!
//! The number models (see `number.rs`), predictors (`ints.rs`) and the entropy coder (`huffman.rs`) are each their own
//! file. Writers verify: [`ValueEncoder::encode_verified`] decodes what it wrote and falls back to the raw form if a
//! single bit differs. Readers check: hostile bytes give [`crate::ErrorKind::Corrupt`] and allocate no more than the
//! caller's number of samples asks for.

mod histogram;
mod histogram_reader;
#[cfg(test)]
mod histogram_tests;
mod histogram_writer;
mod huffman;
mod ints;
mod number;
mod one_histogram;
mod starts;
mod tables;
mod timestamps;
#[cfg(test)]
mod train;
mod values;

pub use histogram::HistogramTotals;
pub use histogram_reader::HistogramDecoder;
pub use histogram_writer::HistogramEncoder;
pub use one_histogram::{decode_one_histogram, encode_one_histogram, hash_one_histogram, is_one_histogram};
pub use starts::{decode_starts, encode_starts};
pub use timestamps::{decode_timestamps, encode_timestamps};
pub use values::{ValueDecoder, ValueEncoder};

/// The most samples of one chunk: longer chunks gain nothing, shorter ones lose a few percent.
pub const SAMPLES_PER_CHUNK: usize = 1920;

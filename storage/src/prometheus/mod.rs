//! The blocks of Prometheus, and its chunk formats (`tsdb/chunkenc`), which its blocks hold and remote read streams.
//!
//! Bits go into bytes from the highest down. A chunk begins with its number of samples in two bytes, big-endian; chunks of
//! histograms have one more byte of flags. Reading is for bytes of strangers: every length is checked against the bytes that
//! are left before anything is allocated for it.

mod bits;
mod block_reader;
#[cfg(test)]
mod block_tests;
mod block_writer;
mod chunk_count;
mod chunk_float;
mod chunk_histogram;
mod chunk_layout;
mod chunk_series;
mod chunk_value;
mod index_layout;
mod index_reader;
mod index_writer;
mod meta;
mod place;
mod segments;
mod stones;
mod ulid;

pub use block_reader::{BlockReader, BlockSample};
pub use block_writer::BlockWriter;
pub use chunk_float::{FloatChunkReader, FloatChunkWriter};
pub use chunk_histogram::{
    FloatHistogramChunkReader, FloatHistogramChunkWriter, HistogramChunkReader, HistogramChunkWriter,
};
pub use chunk_series::{Chunk, chunks_of};
pub use meta::{Meta, MetaCompaction, MetaParent, MetaStats};
pub use ulid::Ulid;

use crate::model::HistogramError;
use thiserror::Error;

/// The most samples a chunk can count.
pub const CHUNK_SAMPLES_MAX: usize = u16::MAX as usize;

/// Why bytes are not a chunk.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ChunkError {
    /// They end before the last sample does.
    #[error("the chunk is cut short in sample {sample} of {samples}")]
    Truncated {
        /// Which sample, from 1.
        sample: usize,
        /// How many it should have.
        samples: usize,
    },
    /// There is not even a header.
    #[error("a chunk of {0} bytes has no room for its header")]
    NoHeader(usize),
    /// A float whose lengths do not fit 64 bits.
    #[error("a value claims {leading} leading zeros and {significant} other bits")]
    ValueWidth {
        /// Zeros in front.
        leading: u32,
        /// Bits that follow.
        significant: u32,
    },
    /// The layout lists more buckets than the bytes can hold.
    #[error("the layout lists {met} {what}, more than the chunk can hold")]
    Layout {
        /// Spans, buckets or bounds.
        what: &'static str,
        /// How many.
        met: u64,
    },
    /// A histogram that contradicts itself.
    #[error("sample {sample}: {cause}")]
    Histogram {
        /// Which sample, from 1.
        sample: usize,
        /// What is wrong.
        cause: HistogramError,
    },
}

/// Which format a chunk has; the numbers are those of Prometheus' files and protocols.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ChunkKind {
    /// Floats.
    Float = 1,
    /// Native histograms counted in whole numbers.
    Histogram = 2,
    /// Native histograms counted in floats.
    FloatHistogram = 3,
}

/// The checksum of all Prometheus' files and frames: CRC-32 with the polynomial of Castagnoli.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Samples of a chunk and what follows them.
fn header(bytes: &[u8]) -> Result<(usize, &[u8]), ChunkError> {
    let (count, rest) = bytes.split_first_chunk::<2>().ok_or(ChunkError::NoHeader(bytes.len()))?;
    Ok((usize::from(u16::from_be_bytes(*count)), rest))
}

#[cfg(test)]
mod tests;

//! How the two kinds of histograms write their counts: whole numbers by how their changes change, floats by xor.

use super::ChunkError;
use super::bits::{BitReader, BitWriter};
use super::chunk_value::XorValue;
use crate::model::{BucketCount, Buckets, HistogramError, counts_from_deltas};
use std::fmt::Debug;

/// A number of a histogram, told against the same number of the histogram before.
pub(super) trait Column: Copy + Debug {
    /// What is written.
    type Code: Copy;

    /// The first, which is written as it is.
    fn first(code: Self::Code) -> Self;

    /// The number of the last histogram.
    fn code(&self) -> Self::Code;

    /// Writes the next.
    fn write(&mut self, out: &mut BitWriter, code: Self::Code);

    /// Reads the next; `Ok(None)` behind the end.
    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, ChunkError>;
}

/// A number and how it changed last; what comes next is how that change changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Changing {
    value: i64,
    change: i64,
}

impl Column for Changing {
    type Code = i64;

    fn first(code: i64) -> Self {
        Self { value: code, change: 0 }
    }

    fn code(&self) -> i64 {
        self.value
    }

    fn write(&mut self, out: &mut BitWriter, code: i64) {
        let change = code.wrapping_sub(self.value);
        out.write_varbit(change.wrapping_sub(self.change));
        *self = Self { value: code, change };
    }

    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, ChunkError> {
        let Some(changes) = bits.varbit() else { return Ok(None) };
        self.change = self.change.wrapping_add(changes);
        self.value = self.value.wrapping_add(self.change);
        Ok(Some(()))
    }
}

impl Column for XorValue {
    type Code = f64;

    fn first(code: f64) -> Self {
        Self::first(code)
    }

    fn code(&self) -> f64 {
        self.value
    }

    fn write(&mut self, out: &mut BitWriter, code: f64) {
        self.write(out, code);
    }

    fn read(&mut self, bits: &mut BitReader<'_>) -> Result<Option<()>, ChunkError> {
        Ok(self.read(bits)?.map(|_| ()))
    }
}

/// What is written for a count of this kind.
pub(super) type Code<N> = <<N as ChunkCount>::Column as Column>::Code;

/// What counts the observations of the histograms of a chunk.
pub(super) trait ChunkCount: BucketCount + PartialOrd {
    /// How one number of it goes on.
    type Column: Column;

    /// What is written for a count.
    fn encode(self) -> Code<Self>;

    /// The count that was written so.
    fn decode(code: Code<Self>) -> Self;

    /// What is written for the buckets of a side.
    fn codes(side: &Buckets<Self>) -> impl Iterator<Item = Code<Self>>;

    /// The buckets that were written so.
    fn counts(codes: impl Iterator<Item = Code<Self>>) -> Result<Vec<Self>, HistogramError>;

    fn write_first(out: &mut BitWriter, code: Code<Self>);
    fn read_first(bits: &mut BitReader<'_>) -> Option<Code<Self>>;
    fn write_first_bucket(out: &mut BitWriter, code: Code<Self>);
    fn read_first_bucket(bits: &mut BitReader<'_>) -> Option<Code<Self>>;

    /// Writes what a staleness marker has for a count, which means nothing.
    fn write_stale(column: &mut Self::Column, out: &mut BitWriter);
}

impl ChunkCount for u64 {
    type Column = Changing;

    fn encode(self) -> i64 {
        self.cast_signed()
    }

    fn decode(code: i64) -> Self {
        code.cast_unsigned()
    }

    /// Differences: the first from 0, each other from the one before.
    fn codes(side: &Buckets<Self>) -> impl Iterator<Item = i64> {
        let mut before = 0_i64;
        side.counts().iter().map(move |count| {
            let count = count.cast_signed();
            count.wrapping_sub(std::mem::replace(&mut before, count))
        })
    }

    fn counts(codes: impl Iterator<Item = i64>) -> Result<Vec<Self>, HistogramError> {
        counts_from_deltas(&codes.collect::<Vec<_>>())
    }

    fn write_first(out: &mut BitWriter, code: i64) {
        out.write_varbit_unsigned(code.cast_unsigned());
    }

    fn read_first(bits: &mut BitReader<'_>) -> Option<i64> {
        bits.varbit_unsigned().map(u64::cast_signed)
    }

    fn write_first_bucket(out: &mut BitWriter, code: i64) {
        out.write_varbit(code);
    }

    fn read_first_bucket(bits: &mut BitReader<'_>) -> Option<i64> {
        bits.varbit()
    }

    /// No change of the change; the histograms that a chunk could not go on with would not see it.
    fn write_stale(_column: &mut Changing, out: &mut BitWriter) {
        out.write_varbit(0);
    }
}

impl ChunkCount for f64 {
    type Column = XorValue;

    fn encode(self) -> f64 {
        self
    }

    fn decode(code: f64) -> Self {
        code
    }

    fn codes(side: &Buckets<Self>) -> impl Iterator<Item = f64> {
        side.counts().iter().copied()
    }

    fn counts(codes: impl Iterator<Item = f64>) -> Result<Vec<Self>, HistogramError> {
        Ok(codes.collect())
    }

    fn write_first(out: &mut BitWriter, code: f64) {
        out.write(code.to_bits(), 64);
    }

    fn read_first(bits: &mut BitReader<'_>) -> Option<f64> {
        bits.read(64).map(f64::from_bits)
    }

    fn write_first_bucket(out: &mut BitWriter, code: f64) {
        Self::write_first(out, code);
    }

    fn read_first_bucket(bits: &mut BitReader<'_>) -> Option<f64> {
        Self::read_first(bits)
    }

    fn write_stale(column: &mut XorValue, out: &mut BitWriter) {
        column.write(out, 0.0);
    }
}

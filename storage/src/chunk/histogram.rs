//! Chunks of native histograms: the layout once, then each count as a column over all samples.
//!
//! ```text
//! chunk    flags:u8 frame spans(positive) [spans(negative)] hints columns
//! flags    bit 0 counts are floats, bit 1 custom buckets, bit 2 the zero bucket has a threshold
//! frame    exponential: schema:zigzag [threshold:8 (LE)]     custom: count:varint length:varint values(length bytes)
//! spans    count:varint, then each: offset:zigzag length:varint
//! hints    runs:varint, then each: (length << 2 | hint):varint
//! columns  count, sum, [zero count], positive buckets, negative buckets; each: length:varint payload
//! payload  sum and float counts: values      whole counts: 00 zigzag if all are the same, else 01 | flags, ints
//! ```
//!
//! `values` and `ints` are those of the chunk codec. A chunk lists every bucket that any of its samples has; samples without
//! it count 0 there, and readers leave empty buckets out again. A staleness marker stands in the column of sums; in the other
//! columns its row means nothing.

use super::ints::{self, FLAGS_MASK};
use super::values::{ValueDecoder, ValueEncoder};
use crate::codec::varint::{Cursor, put_ivarint};
use crate::model::{BucketCount, ResetHint};
use std::sync::Arc;

pub(super) const FLOAT: u8 = 1;
pub(super) const CUSTOM: u8 = 2;
pub(super) const THRESHOLD: u8 = 4;
const SAME: u8 = 0;
const INTS: u8 = 1;
/// The most numbers in one chunk: what a reader may have to make room for.
pub(super) const CELLS_MAX: usize = 1 << 21;

/// A histogram's count and sum, without its buckets.
#[derive(Debug, Clone, Copy)]
pub struct HistogramTotals {
    /// Whether it continues the histogram before it.
    pub hint: ResetHint,
    /// All observations.
    pub count: f64,
    /// The sum of their values; the staleness marker if the series ended.
    pub sum: f64,
}

/// What counts observations in a column.
pub(super) trait Column: BucketCount {
    fn write(column: &[Self], encoder: &mut ValueEncoder, out: &mut Vec<u8>);
    fn read(payload: &[u8], rows: usize, scratch: &mut Scratch, out: &mut Vec<Self>) -> Option<()>;
}

#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) decoder: ValueDecoder,
    integers: Vec<i64>,
    padded: Vec<u8>,
}

impl Column for f64 {
    fn write(column: &[Self], encoder: &mut ValueEncoder, out: &mut Vec<u8>) {
        encoder.encode_verified(column, out);
    }

    fn read(payload: &[u8], rows: usize, scratch: &mut Scratch, out: &mut Vec<Self>) -> Option<()> {
        out.clear();
        scratch.decoder.decode_into(payload, rows, out).ok()
    }
}

impl Column for u64 {
    fn write(column: &[Self], _: &mut ValueEncoder, out: &mut Vec<u8>) {
        let integers: Vec<i64> = column.iter().map(|c| *c as i64).collect();
        let Some(first) = integers.first() else { return };
        if integers.iter().all(|i| i == first) {
            out.push(SAME);
            put_ivarint(out, *first);
        } else {
            let plan = ints::plan(&integers);
            out.push(INTS | plan.flags());
            plan.write(out);
        }
    }

    fn read(payload: &[u8], rows: usize, scratch: &mut Scratch, out: &mut Vec<Self>) -> Option<()> {
        let mut reader = Cursor::new(payload);
        let flags = reader.u8()?;
        out.clear();
        if flags == SAME {
            let value = reader.ivarint()? as u64;
            out.resize(rows, value);
            return reader.is_empty().then_some(());
        }
        if flags & !FLAGS_MASK != INTS {
            return None;
        }
        ints::read(flags & FLAGS_MASK, &mut reader, rows, &mut scratch.padded, &mut scratch.integers)?;
        out.extend(scratch.integers.iter().map(|i| *i as u64));
        Some(())
    }
}

/// What all samples of a chunk have in common.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownFrame {
    pub(super) schema: i32,
    pub(super) zero_threshold: f64,
    pub(super) custom_bounds: Arc<[f64]>,
}

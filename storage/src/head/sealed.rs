//! Sealed chunks of a page: records in shared pieces of memory, those of one series linked from newest to oldest.
//!
//! ```text
//! back:varint | kind:u8 | group, start, count: varint | [run:varint] | length:varint | payload
//! back        distance to the record before of the same series; 0: there is none
//! kind        0 tokens (then `run` follows), 1 payload of the chunk codec
//! ```

use super::paged::{put_varint, take_varint};
use super::tokens;
use crate::chunk::{ValueDecoder, ValueEncoder};
use crate::error::{Error, Result};
use std::cell::RefCell;
use std::sync::Arc;

/// `count` entries of timestamp group `group`, from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) group: u32,
    pub(crate) start: u32,
    pub(crate) count: u32,
}

/// The bytes of a chunk, open or sealed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) chunk: Chunk,
    pub(crate) run: u32,
    pub(crate) is_tokens: bool,
    pub(crate) bytes: &'a [u8],
}

const PIECE_BYTES: usize = 8 * 1024;
const KIND_TOKENS: u8 = 0;
const KIND_CODEC: u8 = 1;
/// Fewer values than this are not worth the codec.
const CODEC_VALUES_MIN: usize = 8;

thread_local! {
    static ENCODER: RefCell<ValueEncoder> = RefCell::new(ValueEncoder::new());
    static DECODER: RefCell<ValueDecoder> = RefCell::new(ValueDecoder::new());
}

/// Records by address. A copy shares all full pieces.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sealed {
    full: Vec<Arc<[u8]>>,
    current: Vec<u8>,
}

impl Sealed {
    /// The address of no record.
    pub(crate) const NONE: u32 = u32::MAX;

    /// Stores a chunk as its tokens. Answers the address.
    pub(crate) fn push_tokens(&mut self, previous: u32, chunk: Chunk, run: u32, bytes: &[u8]) -> u32 {
        self.push(previous, KIND_TOKENS, chunk, Some(run), bytes)
    }

    /// Stores a chunk from its values, in the codec's form or as tokens, whichever is smaller. Answers the address.
    pub(crate) fn push_values(&mut self, previous: u32, chunk: Chunk, values: &[f64]) -> u32 {
        let mut payload = Vec::with_capacity(128);
        if values.len() >= CODEC_VALUES_MIN {
            ENCODER.with_borrow_mut(|encoder| encoder.encode_passing(values, &mut payload));
            return self.push(previous, KIND_CODEC, chunk, None, &payload);
        }
        let (mut run, mut before) = (0, 0.0f64);
        for value in values {
            if value.to_bits() == before.to_bits() {
                run += 1;
            } else {
                payload.extend_from_slice(tokens::encode(before, *value, run).as_slice());
                (run, before) = (0, *value);
            }
        }
        self.push(previous, KIND_TOKENS, chunk, Some(run), &payload)
    }

    fn push(&mut self, previous: u32, kind: u8, chunk: Chunk, run: Option<u32>, bytes: &[u8]) -> u32 {
        // A record never crosses pieces; one larger than a piece gets a piece of its own and addresses stay in step
        // because pieces are counted, not bytes.
        let room = bytes.len() + 32;
        if self.current.len() + room > PIECE_BYTES && !self.current.is_empty() {
            let piece = std::mem::take(&mut self.current);
            self.full.push(Arc::from(piece));
        }
        if self.current.capacity() < self.current.len() + room {
            let more = (self.current.capacity()).clamp(room, PIECE_BYTES / 4);
            self.current.reserve_exact(more.max(room));
        }
        let address = (self.full.len() * PIECE_BYTES + self.current.len()) as u32;
        let back = if previous == Self::NONE { 0 } else { address - previous };
        put_varint(&mut self.current, u64::from(back));
        self.current.push(kind);
        for field in [chunk.group, chunk.start, chunk.count].into_iter().chain(run) {
            put_varint(&mut self.current, u64::from(field));
        }
        put_varint(&mut self.current, bytes.len() as u64);
        self.current.extend_from_slice(bytes);
        address
    }

    /// The record at `address`, and the address of the one before it.
    #[inline]
    pub(crate) fn get(&self, address: u32) -> Option<(u32, Part<'_>)> {
        if address == Self::NONE {
            return None;
        }
        let (piece, offset) = (address as usize / PIECE_BYTES, address as usize % PIECE_BYTES);
        let piece: &[u8] = if piece == self.full.len() { &self.current } else { self.full.get(piece)? };
        let mut bytes = piece.get(offset..)?;
        let back = take_varint(&mut bytes)? as u32;
        let (&kind, rest) = bytes.split_first()?;
        bytes = rest;
        let mut field = || Some(take_varint(&mut bytes)? as u32);
        let chunk = Chunk { group: field()?, start: field()?, count: field()? };
        let run = if kind == KIND_TOKENS { field()? } else { 0 };
        let len = field()? as usize;
        let part = Part { chunk, run, is_tokens: kind == KIND_TOKENS, bytes: bytes.get(..len)? };
        let previous = if back == 0 { Self::NONE } else { address.checked_sub(back)? };
        Some((previous, part))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.full.len() * (PIECE_BYTES + 32) + self.current.capacity()
    }
}

impl Part<'_> {
    /// Appends the values numbered `from..to` of the chunk to `out`.
    ///
    /// # Errors
    /// The bytes do not decode: a broken invariant.
    pub(crate) fn values_between(&self, from: u32, to: u32, out: &mut Vec<f64>) -> Result<()> {
        if !self.is_tokens {
            return self.decode_payload(from as usize, to as usize, out);
        }
        let mut at = 0;
        let ok = tokens::decode(self.bytes, self.chunk.count, self.run, |value, times| {
            let wanted = (at + times).min(to).saturating_sub(at.max(from));
            at += times;
            if wanted == 1 {
                out.push(value);
            } else {
                out.resize(out.len() + wanted as usize, value);
            }
        });
        if ok { Ok(()) } else { Err(Error::internal("the tokens of a chunk of the head do not decode")) }
    }

    fn decode_payload(&self, from: usize, to: usize, out: &mut Vec<f64>) -> Result<()> {
        DECODER.with_borrow_mut(|decoder| {
            let start = out.len();
            decoder
                .decode_into(self.bytes, self.chunk.count as usize, out)
                .map_err(|e| Error::internal(format!("a sealed chunk of the head does not decode: {e}")))?;
            out.truncate(start + to.max(from));
            out.drain(start..start + from);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_linked_and_survive_copies() {
        let mut sealed = Sealed::default();
        let mut last = Sealed::NONE;
        let mut other = Sealed::NONE;
        for i in 0..2000u32 {
            let values: Vec<f64> = (0..20).map(|k| f64::from(i * k) / 8.0).collect();
            let chunk = Chunk { group: i % 7, start: i, count: 20 };
            last = sealed.push_values(last, chunk, &values);
            other = sealed.push_tokens(other, Chunk { count: i, ..chunk }, i, &[]);
        }
        let copy = sealed.clone();
        assert!(Arc::ptr_eq(&copy.full[0], &sealed.full[0]));
        for i in (0..2000u32).rev() {
            let (previous, part) = copy.get(last).unwrap();
            let mut values = Vec::new();
            part.values_between(5, 8, &mut values).unwrap();
            assert_eq!(values, [5, 6, 7].map(|k| f64::from(i * k) / 8.0));
            assert_eq!(part.chunk, Chunk { group: i % 7, start: i, count: 20 });
            let (previous_other, part) = copy.get(other).unwrap();
            values.clear();
            part.values_between(0, i, &mut values).unwrap();
            assert_eq!(values, vec![0.0; i as usize]);
            (last, other) = (previous, previous_other);
        }
        assert_eq!((last, other), (Sealed::NONE, Sealed::NONE));
    }
}

//! lz4 and zstd with a mandatory cap on what comes out.
//!
//! ```text
//! uvarint length of the raw bytes | lz4 block or zstd frame
//! ```

use super::varint::{Cursor, put_uvarint};
use std::cell::RefCell;
use zstd::bulk::Decompressor;

/// Why compressed bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompressError {
    /// The bytes are not what they should be.
    #[error("compressed bytes are malformed")]
    Malformed,
    /// They claim to be larger than the caller takes.
    #[error("compressed bytes claim {claimed} bytes, more than the {limit} allowed")]
    TooLarge {
        /// The length they claim.
        claimed: u64,
        /// The caller's cap.
        limit: usize,
    },
    /// The compressor failed or memory is short.
    #[error("compression failed")]
    Failed,
}

/// How much larger than its input an lz4 block can become: one length byte stands for 255 bytes.
const LZ4_RATIO_MAX: usize = 255;

fn claimed_len(cursor: &mut Cursor<'_>, limit: usize) -> Result<usize, CompressError> {
    let claimed = cursor.uvarint().ok_or(CompressError::Malformed)?;
    match usize::try_from(claimed) {
        Ok(len) if len <= limit => Ok(len),
        _ => Err(CompressError::TooLarge { claimed, limit }),
    }
}

/// Appends `raw` as an lz4 block.
///
/// # Errors
/// Never for inputs below 2 GiB.
pub fn lz4_encode(raw: &[u8], out: &mut Vec<u8>) -> Result<(), CompressError> {
    put_uvarint(out, raw.len() as u64);
    let start = out.len();
    out.resize(start + lz4_flex::block::get_maximum_output_size(raw.len()), 0);
    let room = out.get_mut(start..).ok_or(CompressError::Failed)?;
    let written = lz4_flex::block::compress_into(raw, room).map_err(|_| CompressError::Failed)?;
    out.truncate(start + written);
    Ok(())
}

/// Replaces `out` with what [`lz4_encode`] was given.
///
/// # Errors
/// The bytes are malformed, or claim more than `limit` bytes.
pub fn lz4_decode(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    let mut cursor = Cursor::new(bytes);
    let len = claimed_len(&mut cursor, limit)?;
    let block = cursor.rest();
    if len > block.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(CompressError::Malformed);
    }
    out.clear();
    out.try_reserve_exact(len).map_err(|_| CompressError::Failed)?;
    out.resize(len, 0);
    match lz4_flex::block::decompress_into(block, out) {
        Ok(written) if written == len => Ok(()),
        _ => Err(CompressError::Malformed),
    }
}

/// Appends `raw` as a zstd frame of the given level.
///
/// # Errors
/// zstd is out of memory.
pub fn zstd_encode(raw: &[u8], level: i32, out: &mut Vec<u8>) -> Result<(), CompressError> {
    put_uvarint(out, raw.len() as u64);
    let start = out.len();
    out.resize(start + zstd::zstd_safe::compress_bound(raw.len()), 0);
    let room = out.get_mut(start..).ok_or(CompressError::Failed)?;
    let written = zstd::bulk::compress_to_buffer(raw, room, level).map_err(|_| CompressError::Failed)?;
    out.truncate(start + written);
    Ok(())
}

thread_local! {
    /// Making one takes longer than decompressing a page of a block with it.
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decompresses one frame with what this thread keeps for that.
fn decompress(frame: &[u8], out: &mut [u8]) -> std::io::Result<usize> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(frame, out)
    })
}

/// Replaces `out` with what [`zstd_encode`] was given.
///
/// # Errors
/// The bytes are malformed, or claim more than `limit` bytes.
pub fn zstd_decode(bytes: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
    let mut cursor = Cursor::new(bytes);
    let len = claimed_len(&mut cursor, limit)?;
    let frame = cursor.rest();
    // Our frames say their length; one that disagrees is not ours, and is refused before any allocation.
    if zstd::zstd_safe::get_frame_content_size(frame).ok().flatten() != Some(len as u64) {
        return Err(CompressError::Malformed);
    }
    out.clear();
    out.try_reserve_exact(len).map_err(|_| CompressError::Failed)?;
    out.resize(len, 0);
    match decompress(frame, out.as_mut_slice()) {
        Ok(written) if written == len => Ok(()),
        _ => Err(CompressError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// zstd is written in C, where Miri cannot follow.
    const FOLLOWS_ZSTD: bool = !cfg!(miri);

    #[test]
    fn a_block_that_gives_less_than_it_claims_is_refused() {
        let (mut bytes, mut out) = (Vec::new(), Vec::new());
        lz4_encode(&[7; 100], &mut bytes).unwrap();
        assert_eq!((bytes[0], lz4_decode(&bytes, 200, &mut out)), (100, Ok(())));
        bytes[0] += 1;
        assert_eq!(lz4_decode(&bytes, 200, &mut out), Err(CompressError::Malformed));
    }

    #[test]
    fn lengths_are_capped_before_anything_is_allocated() {
        let mut out = Vec::new();
        let mut bomb = Vec::new();
        put_uvarint(&mut bomb, u64::MAX / 2);
        bomb.extend_from_slice(&[0xff; 20]);
        let too_large = Err(CompressError::TooLarge { claimed: u64::MAX / 2, limit: 1 << 20 });
        assert_eq!(lz4_decode(&bomb, 1 << 20, &mut out), too_large);
        assert_eq!(lz4_decode(&bomb, usize::MAX, &mut out), Err(CompressError::Malformed));
        if FOLLOWS_ZSTD {
            assert_eq!(zstd_decode(&bomb, 1 << 20, &mut out), too_large);
            assert_eq!(zstd_decode(&bomb, usize::MAX, &mut out), Err(CompressError::Malformed));
        }
        assert_eq!(out.capacity(), 0);
    }

    proptest! {
        #![proptest_config(crate::tests::cases(1_000))]

        #[test]
        fn bytes_come_back(raw in prop::collection::vec(0u8..4, 0..2000)) {
            let (mut packed, mut out) = (vec![7], Vec::new());
            lz4_encode(&raw, &mut packed).unwrap();
            lz4_decode(&packed[1..], raw.len(), &mut out).unwrap();
            prop_assert_eq!(&out, &raw);
            if !FOLLOWS_ZSTD {
                return Ok(());
            }
            packed.truncate(1);
            zstd_encode(&raw, 3, &mut packed).unwrap();
            zstd_decode(&packed[1..], raw.len(), &mut out).unwrap();
            prop_assert_eq!(&out, &raw);
            if !raw.is_empty() {
                prop_assert!(zstd_decode(&packed[1..], raw.len() - 1, &mut out).is_err());
            }
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = Vec::new();
            let _ = lz4_decode(&bytes, 1 << 16, &mut out);
            if FOLLOWS_ZSTD {
                let _ = zstd_decode(&bytes, 1 << 16, &mut out);
            }
            prop_assert!(out.len() <= 1 << 16);
        }
    }
}

//! The only decompressor of request bodies: every size is judged before a byte is allocated for it.

use snap::raw::{Decoder, decompress_len};
use thiserror::Error;

/// The longest output a snappy block can have for each byte of input: an element of three bytes copies 64, rounded up.
const SNAPPY_RATIO_MAX: usize = 22;

/// Why a body was not decompressed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Not a snappy block, or one that says more than it can hold.
    #[error("snappy: corrupt input ({0})")]
    Corrupt(String),
    /// A whole block, but over the limit when decoded.
    #[error(
        "the body is {claimed_bytes} bytes when decoded, over the limit of {limit_bytes} bytes (--ingest-max-decoded-bytes)"
    )]
    TooLarge {
        /// What the block says of itself.
        claimed_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
}

/// Decodes one snappy block (not the framed format) and returns what it holds, which lies in `buffer`. The buffer grows as
/// needed and is never cleared: one that is used again costs no fresh memory.
///
/// # Errors
/// The block is damaged, claims a size its bytes cannot produce, or is larger than `limit_bytes` when decoded. Nothing
/// is allocated before these are known.
pub fn snappy<'b>(block: &[u8], limit_bytes: usize, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], BodyError> {
    if block.is_empty() {
        return Err(BodyError::Corrupt("the body is empty".into()));
    }
    let claimed_bytes = decompress_len(block).map_err(|e| BodyError::Corrupt(e.to_string()))?;
    if claimed_bytes > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        return Err(BodyError::Corrupt(format!(
            "it claims {claimed_bytes} bytes, more than {} bytes can hold",
            block.len()
        )));
    }
    if claimed_bytes > limit_bytes {
        return Err(BodyError::TooLarge { claimed_bytes, limit_bytes });
    }
    if buffer.len() < claimed_bytes {
        buffer.resize(claimed_bytes, 0);
    }
    let written = Decoder::new().decompress(block, buffer).map_err(|e| BodyError::Corrupt(e.to_string()))?;
    Ok(buffer.get(..written).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_judged_before_allocation() {
        let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
        bomb.resize(40, 0xff);
        let mut out = Vec::new();
        assert!(matches!(snappy(&bomb, 32 << 20, &mut out), Err(BodyError::Corrupt(_))));
        assert_eq!(out.capacity(), 0);
        assert!(matches!(snappy(&[], 1 << 20, &mut out), Err(BodyError::Corrupt(_))));
        let zeros = snap::raw::Encoder::new().compress_vec(&vec![0; 100_000]).unwrap();
        assert!(zeros.len() * SNAPPY_RATIO_MAX >= 100_000, "the ratio covers the best compressible input");
        assert_eq!(
            snappy(&zeros, 99_999, &mut out),
            Err(BodyError::TooLarge { claimed_bytes: 100_000, limit_bytes: 99_999 })
        );
        assert_eq!(out.capacity(), 0);
        assert_eq!(snappy(&zeros, 100_000, &mut out).unwrap().len(), 100_000);
    }

    proptest! {
        #[test]
        fn round_trip(bytes in proptest::collection::vec(0u8..4, 0..5_000)) {
            let block = snap::raw::Encoder::new().compress_vec(&bytes).unwrap();
            let mut out = vec![7; 10];
            prop_assert_eq!(snappy(&block, 5_000, &mut out).unwrap(), bytes);
        }

        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            let _ = snappy(&bytes, 1 << 20, &mut out);
            prop_assert!(out.capacity() <= bytes.len() * SNAPPY_RATIO_MAX);
        }
    }
}

//! The only decompressor of request bodies: every size is judged, and every piece of memory counted, before it is allocated.

use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use snap::raw::decompress_len;
use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use thiserror::Error;

/// The longest output a snappy block can have for each byte of input: an element of three bytes copies 64, rounded up.
const SNAPPY_RATIO_MAX: usize = 22;
/// Memory is taken in steps of this size while a body of unknown length is decompressed.
const STEP_BYTES: usize = 64 << 10;
/// A body that is larger when decoded is decoded twice: once to learn its size, once to keep it. Growing a buffer to such a size
/// would take half as much memory again, and a body over the limit would take its limit before it is known.
const ONE_PASS_BYTES: usize = 256 << 10;
/// The largest window of a zstd frame, as a power of two: what RFC 8878 asks every decoder to hold.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// One snappy block, as remote write sends it.
    Snappy,
    /// The framed snappy format.
    SnappyFramed,
    /// gzip, of one or more members.
    Gzip,
    /// zlib, which HTTP calls deflate.
    Deflate,
    /// zstd, of one or more frames.
    Zstd,
}

impl Encoding {
    /// The encoding of that name in `Content-Encoding`; `None` if there is no such one or several are stacked. `snappy` is the
    /// block format, as remote write means it.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Self::Identity,
            "snappy" => Self::Snappy,
            "x-snappy-framed" => Self::SnappyFramed,
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Snappy | Self::SnappyFramed => "snappy",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }
}

/// Why a body was not decompressed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BodyError {
    /// Not what its encoding says, or a block that says more than it can hold.
    #[error("{encoding}: corrupt input ({reason})")]
    Corrupt {
        /// Name of the encoding.
        encoding: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Whole as far as it was read, but over the limit when decoded.
    #[error(
        "the body is {at_least_bytes} bytes or more when decoded, over the limit of {limit_bytes} bytes (--ingest-max-decoded-bytes)"
    )]
    TooLarge {
        /// What the block says of itself, or what was met.
        at_least_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// All bodies together hold what they may.
    #[error(
        "the bodies being received hold all the {limit_bytes} bytes they may (--ingest-memory); try again"
    )]
    NoMemory {
        /// What is allowed.
        limit_bytes: usize,
    },
}

/// Memory that all bodies may hold together; clones count on the same account.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Account>);

#[derive(Debug)]
struct Account {
    used: AtomicUsize,
    max: usize,
}

/// Part of a [`Memory`]; given back when dropped.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: usize,
}

impl Memory {
    /// An account of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Account { used: AtomicUsize::new(0), max: bytes }))
    }

    /// Nothing yet, to be grown.
    pub fn hold(&self) -> Held {
        Held { account: Arc::clone(&self.0), bytes: 0 }
    }

    /// What is held now, in bytes.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }
}

impl Held {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`BodyError::NoMemory`]; what was held before is kept.
    pub fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let max = self.account.max;
        let taken = self.account.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= max)
        });
        taken.map_err(|_| BodyError::NoMemory { limit_bytes: max })?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn corrupt(encoding: Encoding, reason: &dyn std::fmt::Display) -> BodyError {
    BodyError::Corrupt { encoding: encoding.name(), reason: reason.to_string() }
}

/// Decodes a whole body and returns what it holds, which lies in `buffer` (or in `bytes`, if nothing had to be decoded). The
/// buffer grows as needed and is never cleared: one that is used again costs no fresh memory. What is decoded counts
/// in `held`.
///
/// # Errors
/// The body is damaged, cut short, or larger than `limit_bytes` when decoded; memory is short. A body over the limit
/// is known before more than 256 KiB of it are kept.
pub fn decode<'b>(
    encoding: Encoding,
    bytes: &'b [u8],
    limit_bytes: usize,
    held: &mut Held,
    buffer: &'b mut Vec<u8>,
) -> Result<&'b [u8], BodyError> {
    match encoding {
        Encoding::Identity if bytes.len() > limit_bytes => {
            Err(BodyError::TooLarge { at_least_bytes: bytes.len(), limit_bytes })
        }
        Encoding::Identity => Ok(bytes),
        Encoding::Snappy => {
            held.grow(snappy_claim(bytes, limit_bytes)?)?;
            snappy(bytes, limit_bytes, buffer)
        }
        _ => {
            let one_pass = limit_bytes.min(ONE_PASS_BYTES);
            let len = match drain(encoding, reader(encoding, bytes)?, one_pass, 0, held, buffer) {
                Err(BodyError::TooLarge { .. }) if one_pass < limit_bytes => {
                    let size = decoded_size(encoding, bytes, limit_bytes)?;
                    held.grow(size - one_pass)?;
                    if buffer.len() <= size {
                        // Not grown: the old one and the new one would lie in memory side by side.
                        *buffer = Vec::new();
                        *buffer = vec![0; size + 1];
                    }
                    drain(encoding, reader(encoding, bytes)?, size, size + 1, held, buffer)?
                }
                len => len?,
            };
            Ok(buffer.get(..len).unwrap_or_default())
        }
    }
}

/// The size of a body when decoded, found in the memory of one window: what is too large is known before it is kept.
fn decoded_size(encoding: Encoding, bytes: &[u8], limit_bytes: usize) -> Result<usize, BodyError> {
    let mut source = reader(encoding, bytes)?.take(limit_bytes as u64 + 1);
    let size = io::copy(&mut source, &mut io::sink()).map_err(|e| corrupt(encoding, &e))? as usize;
    if size > limit_bytes {
        return Err(BodyError::TooLarge { at_least_bytes: size, limit_bytes });
    }
    Ok(size)
}

/// What `source` holds when decompressed, as it is read; for bodies that are handled piece by piece. The memory behind it does not
/// grow with the body. How much is read is for the caller to bound.
///
/// # Errors
/// The encoding cannot be read in pieces (a snappy block).
pub fn reader<'r>(
    encoding: Encoding,
    source: impl BufRead + Send + 'r,
) -> Result<Box<dyn Read + Send + 'r>, BodyError> {
    Ok(match encoding {
        Encoding::Identity => Box::new(source),
        Encoding::Gzip => Box::new(MultiGzDecoder::new(source)),
        Encoding::Deflate => Box::new(ZlibDecoder::new(source)),
        Encoding::SnappyFramed => Box::new(snap::read::FrameDecoder::new(source)),
        Encoding::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(source).map_err(|e| corrupt(encoding, &e))?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|e| corrupt(encoding, &e))?;
            Box::new(decoder)
        }
        Encoding::Snappy => return Err(corrupt(encoding, &"a block cannot be read in pieces")),
    })
}

/// Reads `source` to its end into `buffer`, from its start, and says how much that was. `counted` bytes of the buffer are there and
/// counted in `held` already.
fn drain(
    encoding: Encoding,
    mut source: Box<dyn Read + Send + '_>,
    limit_bytes: usize,
    mut counted: usize,
    held: &mut Held,
    buffer: &mut Vec<u8>,
) -> Result<usize, BodyError> {
    let mut filled = 0;
    loop {
        if filled == counted {
            // Doubling keeps the copies few; one byte over the limit tells "just fits" from "too large".
            let wanted = (filled * 2).max(STEP_BYTES).min(limit_bytes.saturating_add(1));
            if wanted <= filled {
                return Err(BodyError::TooLarge { at_least_bytes: filled, limit_bytes });
            }
            held.grow(wanted - counted)?;
            counted = wanted;
            if buffer.len() < counted {
                buffer.resize(counted, 0);
            }
        }
        let free = buffer.get_mut(filled..counted).unwrap_or_default();
        match source.read(free) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(corrupt(encoding, &e)),
        }
    }
    if filled > limit_bytes {
        return Err(BodyError::TooLarge { at_least_bytes: filled, limit_bytes });
    }
    Ok(filled)
}

/// What a snappy block says of its size, if that can be true and is allowed.
fn snappy_claim(block: &[u8], limit_bytes: usize) -> Result<usize, BodyError> {
    if block.is_empty() {
        return Err(corrupt(Encoding::Snappy, &"the body is empty"));
    }
    let claimed = decompress_len(block).map_err(|e| corrupt(Encoding::Snappy, &e))?;
    if claimed > block.len().saturating_mul(SNAPPY_RATIO_MAX) {
        let reason = format!("it claims {claimed} bytes, more than {} bytes can hold", block.len());
        return Err(corrupt(Encoding::Snappy, &reason));
    }
    if claimed > limit_bytes {
        return Err(BodyError::TooLarge { at_least_bytes: claimed, limit_bytes });
    }
    Ok(claimed)
}

/// Decodes one snappy block (not the framed format) and returns what it holds, which lies in `buffer`. The buffer grows as
/// needed and is never cleared: one that is used again costs no fresh memory.
///
/// # Errors
/// The block is damaged, claims a size its bytes cannot produce, or is larger than `limit_bytes` when decoded. Nothing
/// is allocated before these are known.
pub fn snappy<'b>(block: &[u8], limit_bytes: usize, buffer: &'b mut Vec<u8>) -> Result<&'b [u8], BodyError> {
    let claimed = snappy_claim(block, limit_bytes)?;
    if buffer.len() < claimed {
        buffer.resize(claimed, 0);
    }
    let written =
        snap::raw::Decoder::new().decompress(block, buffer).map_err(|e| corrupt(Encoding::Snappy, &e))?;
    Ok(buffer.get(..written).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALL: [Encoding; 6] = [
        Encoding::Identity,
        Encoding::Snappy,
        Encoding::SnappyFramed,
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Zstd,
    ];

    fn pack(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
        let name = match encoding {
            Encoding::Identity => "identity",
            Encoding::Snappy => "snappy",
            Encoding::SnappyFramed => "framed snappy",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
            Encoding::Zstd => "zstd",
        };
        kymo_tests::hostile::packed(name, bytes)
    }

    fn unpack(encoding: Encoding, bytes: &[u8], limit: usize) -> Result<Vec<u8>, BodyError> {
        let memory = Memory::new(64 << 20);
        let mut buffer = vec![7; 10];
        let out = decode(encoding, bytes, limit, &mut memory.hold(), &mut buffer)?.to_vec();
        assert_eq!(memory.used(), 0);
        Ok(out)
    }

    #[test]
    fn sizes_are_judged_before_allocation() {
        let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
        bomb.resize(40, 0xff);
        let mut out = Vec::new();
        assert!(matches!(snappy(&bomb, 32 << 20, &mut out), Err(BodyError::Corrupt { .. })));
        assert_eq!(out.capacity(), 0);
        assert!(matches!(snappy(&[], 1 << 20, &mut out), Err(BodyError::Corrupt { .. })));
        let zeros = pack(Encoding::Snappy, &vec![0; 100_000]);
        assert!(zeros.len() * SNAPPY_RATIO_MAX >= 100_000, "the ratio covers the best compressible input");
        assert_eq!(
            snappy(&zeros, 99_999, &mut out),
            Err(BodyError::TooLarge { at_least_bytes: 100_000, limit_bytes: 99_999 })
        );
        assert_eq!(out.capacity(), 0);
        assert_eq!(snappy(&zeros, 100_000, &mut out).unwrap().len(), 100_000);
    }

    #[test]
    fn limits_hold_to_the_byte_in_every_encoding() {
        for encoding in ALL {
            for size in [1, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 1, 300_000] {
                let packed = pack(encoding, &vec![0; size]);
                assert_eq!(unpack(encoding, &packed, size).map(|b| b.len()), Ok(size), "{encoding:?} {size}");
                let error = unpack(encoding, &packed, size - 1).unwrap_err();
                assert!(matches!(error, BodyError::TooLarge { .. }), "{encoding:?} {size}: {error}");
            }
        }
    }

    #[test]
    fn bombs_take_no_more_than_the_limit() {
        for encoding in [Encoding::Gzip, Encoding::Deflate, Encoding::Zstd, Encoding::SnappyFramed] {
            let bomb = pack(encoding, &vec![0; 32 << 20]);
            let (memory, mut buffer) = (Memory::new(64 << 20), Vec::new());
            let mut held = memory.hold();
            let error = decode(encoding, &bomb, 1 << 20, &mut held, &mut buffer).unwrap_err();
            assert!(matches!(error, BodyError::TooLarge { .. }), "{encoding:?}");
            assert!(memory.used() <= (1 << 20) + 1 && buffer.capacity() <= 2 << 20, "{encoding:?}");
            // The memory of all bodies is a limit of its own.
            let (memory, mut buffer) = (Memory::new(1 << 20), Vec::new());
            let error = decode(encoding, &bomb, 32 << 20, &mut memory.hold(), &mut buffer).unwrap_err();
            assert_eq!(error, BodyError::NoMemory { limit_bytes: 1 << 20 });
            assert!(buffer.capacity() <= 1 << 20 && memory.used() == 0);
        }
        // A zstd frame may ask for a window of gigabytes: magic, descriptor without content size, window byte.
        let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xb8, 0x01, 0x00, 0x00];
        assert!(matches!(unpack(Encoding::Zstd, &window, 1 << 20), Err(BodyError::Corrupt { .. })));
    }

    #[test]
    fn cut_and_stacked_bodies() {
        let text: Vec<u8> = (0..50_000u32).flat_map(|i| (i * 7919).to_le_bytes()).collect();
        for encoding in ALL.into_iter().filter(|e| *e != Encoding::Identity) {
            let packed = pack(encoding, &text);
            let cut = packed.get(..packed.len() - 5).unwrap();
            assert!(matches!(unpack(encoding, cut, 1 << 20), Err(BodyError::Corrupt { .. })), "{encoding:?}");
            assert!(
                matches!(unpack(encoding, b"plain text", 1 << 20), Err(BodyError::Corrupt { .. })),
                "{encoding:?}"
            );
        }
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let twice = [pack(encoding, b"one "), pack(encoding, b"two")].concat();
            assert_eq!(unpack(encoding, &twice, 100).unwrap(), b"one two", "{encoding:?}");
        }
        assert_eq!(Encoding::named("GZIP"), Some(Encoding::Gzip));
        assert_eq!(Encoding::named("gzip, gzip"), None);
        assert_eq!(Encoding::named("br"), None);
    }

    proptest! {
        #[test]
        fn round_trip(bytes in proptest::collection::vec(0u8..4, 1..5_000)) {
            for encoding in ALL {
                prop_assert_eq!(unpack(encoding, &pack(encoding, &bytes), 5_000).unwrap(), bytes.clone());
            }
        }

        #[test]
        fn any_bytes_end_in_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            let _ = snappy(&bytes, 1 << 20, &mut out);
            prop_assert!(out.capacity() <= bytes.len() * SNAPPY_RATIO_MAX);
            for encoding in ALL {
                let _ = unpack(encoding, &bytes, 1 << 20);
            }
        }

        #[test]
        fn a_flipped_bit_ends_in_an_answer(at in 0usize..100, bit in 0u8..8) {
            for encoding in ALL {
                let mut packed = pack(encoding, &[1, 2, 3, 4].repeat(100));
                let at = at % packed.len();
                packed[at] ^= 1 << bit;
                let _ = unpack(encoding, &packed, 1 << 20);
            }
        }
    }
}

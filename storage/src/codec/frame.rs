//! Frames: checksummed pieces of a file that a reader finds again behind damage. Shared by WAL, manifest and checkpoint.
//!
//! ```text
//! f5 4b 59 4d | len u32 | crc32(body) u32 | crc32(the 12 bytes before) u32 | body, len bytes
//! ```
//! Integers are little-endian; both sums are seeded by the caller. The header has its own sum so that a length is trusted
//! only when it is whole: damage in a body costs that frame and nothing else. The first byte of the magic occurs in no
//! UTF-8 text, and the seed is unknown to senders, so that no stored label can pass for a frame.

use super::crc::crc32;
use super::varint::Cursor;

/// The first four bytes of every frame.
pub const MAGIC: [u8; 4] = [0xf5, b'K', b'Y', b'M'];
/// The bytes before the body.
pub const HEADER_BYTES: usize = 16;
/// The largest body.
pub const BODY_BYTES_MAX: usize = 256 << 20;

/// Makes room for a header at the end of `out`, and answers where the frame starts; append the body, then call [`finish`].
pub fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    start
}

/// Fills in the header of a frame: `frame` is the header's room and the body. `false` if the body is longer than
/// [`BODY_BYTES_MAX`] or there is no room for a header.
#[must_use]
pub fn finish(frame: &mut [u8], seed: u32) -> bool {
    let Some((header, body)) = frame.split_first_chunk_mut::<HEADER_BYTES>() else { return false };
    if body.len() > BODY_BYTES_MAX {
        return false;
    }
    let mut sealed = [0; HEADER_BYTES];
    sealed[..4].copy_from_slice(&MAGIC);
    sealed[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
    sealed[8..12].copy_from_slice(&crc32(seed, body).to_le_bytes());
    let sum = crc32(seed, &sealed[..12]);
    sealed[12..].copy_from_slice(&sum.to_le_bytes());
    *header = sealed;
    true
}

/// What lies at a place where a frame may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found<'a> {
    Frame(&'a [u8]),
    /// The header is whole, the body is not: damaged, or cut off by the end.
    Header(usize),
    Nothing,
}

fn look<'a>(bytes: &'a [u8], at: usize, seed: u32) -> Found<'a> {
    let Some(rest) = bytes.get(at..) else { return Found::Nothing };
    let Some((header, rest)) = rest.split_first_chunk::<HEADER_BYTES>() else { return Found::Nothing };
    if header[..4] != MAGIC {
        return Found::Nothing;
    }
    let mut cursor = Cursor::new(&header[4..]);
    let (Some(len), Some(body_sum), Some(head_sum)) = (cursor.u32(), cursor.u32(), cursor.u32()) else {
        return Found::Nothing;
    };
    if crc32(seed, &header[..12]) != head_sum || len as usize > BODY_BYTES_MAX {
        return Found::Nothing;
    }
    match rest.get(..len as usize) {
        Some(body) if crc32(seed, body) == body_sum => Found::Frame(body),
        _ => Found::Header(len as usize),
    }
}

/// A piece of a file of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A whole frame.
    Frame {
        /// Where its header starts.
        offset: usize,
        /// What it holds.
        body: &'a [u8],
    },
    /// Bytes that are no frame, before one that is.
    Damage {
        /// Where they start.
        offset: usize,
        /// How many.
        len: usize,
    },
    /// Behind this offset there is no whole frame. The last piece.
    Tail {
        /// Where it starts.
        offset: usize,
        /// Whether a frame began here: its header is whole and its body is not.
        torn: bool,
    },
}

/// Takes a file of frames apart, in order.
#[derive(Debug)]
pub struct FrameReader<'a> {
    bytes: &'a [u8],
    at: usize,
    seed: u32,
    /// A frame found behind damage, to be given next.
    ahead: Option<(usize, &'a [u8])>,
    done: bool,
}

impl<'a> FrameReader<'a> {
    /// Reads `bytes` from `at` on.
    pub fn new(bytes: &'a [u8], at: usize, seed: u32) -> Self {
        Self { bytes, at, seed, ahead: None, done: false }
    }

    fn take(&mut self, offset: usize, body: &'a [u8]) -> Piece<'a> {
        self.at = offset + HEADER_BYTES + body.len();
        Piece::Frame { offset, body }
    }

    /// Looks for the next whole frame from the damage at `start` on.
    fn resynchronise(&mut self, start: usize) -> Piece<'a> {
        let mut at = start;
        let mut torn = false;
        loop {
            match look(self.bytes, at, self.seed) {
                Found::Frame(body) => {
                    self.ahead = Some((at, body));
                    return Piece::Damage { offset: start, len: at - start };
                }
                Found::Header(len) => {
                    torn = true;
                    // The length is whole, so frames behind start no earlier than there.
                    at = at.saturating_add(HEADER_BYTES).saturating_add(len);
                }
                Found::Nothing => at = at.saturating_add(1),
            }
            let Some(next) = find_magic(self.bytes, at) else {
                self.done = true;
                return Piece::Tail { offset: start.min(self.bytes.len()), torn };
            };
            at = next;
        }
    }
}

/// The next place from `at` on where the magic's first byte lies.
pub(crate) fn find_magic(bytes: &[u8], at: usize) -> Option<usize> {
    const CHUNK: usize = 64;
    let rest = bytes.get(at..)?;
    let mut skipped = 0;
    // Most of what is searched is zeros: whole chunks are passed over at vector speed.
    for chunk in rest.chunks(CHUNK) {
        if chunk.iter().fold(false, |any, byte| any | (*byte == MAGIC[0])) {
            return chunk.iter().position(|byte| *byte == MAGIC[0]).map(|i| at + skipped + i);
        }
        skipped += chunk.len();
    }
    None
}

impl<'a> Iterator for FrameReader<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.done {
            return None;
        }
        if let Some((offset, body)) = self.ahead.take() {
            return Some(self.take(offset, body));
        }
        let at = self.at;
        Some(match look(self.bytes, at, self.seed) {
            Found::Frame(body) => self.take(at, body),
            Found::Header(_) | Found::Nothing => self.resynchronise(at),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(bodies: &[Vec<u8>], seed: u32) -> Vec<u8> {
        let mut out = Vec::new();
        for body in bodies {
            let start = begin(&mut out);
            out.extend_from_slice(body);
            assert!(finish(&mut out[start..], seed));
        }
        out
    }

    fn bodies_of(bytes: &[u8], seed: u32) -> Vec<Vec<u8>> {
        let frame = |piece| match piece {
            Piece::Frame { body, .. } => Some(<[u8]>::to_vec(body)),
            Piece::Damage { .. } | Piece::Tail { .. } => None,
        };
        FrameReader::new(bytes, 0, seed).filter_map(frame).collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "a quarter of a GiB")]
    fn the_longest_body_is_taken_and_no_longer_one() {
        let mut frame = vec![0; HEADER_BYTES + BODY_BYTES_MAX + 1];
        assert!(!finish(&mut frame, 0));
        frame.pop();
        assert!(finish(&mut frame, 0));
        let read = FrameReader::new(&frame, 0, 0).next();
        assert!(matches!(read, Some(Piece::Frame { body, .. }) if body.len() == BODY_BYTES_MAX));
    }

    #[test]
    fn the_diagram_is_true() {
        let bytes = file(&[b"ab".to_vec()], 9);
        let pieces: Vec<_> = FrameReader::new(&bytes, 0, 9).collect();
        let tail = Piece::Tail { offset: 18, torn: false };
        assert_eq!(pieces, [Piece::Frame { offset: 0, body: b"ab" }, tail]);
        assert_eq!(bytes[..8], [0xf5, b'K', b'Y', b'M', 2, 0, 0, 0]);
        assert_eq!(bodies_of(&bytes, 8), Vec::<Vec<u8>>::new(), "another seed");
        let cut: Vec<_> = FrameReader::new(&bytes[..17], 0, 9).collect();
        assert_eq!(cut, [Piece::Tail { offset: 0, torn: true }]);
    }

    proptest! {
        #![proptest_config(crate::tests::cases(1_000))]

        #[test]
        fn one_damaged_byte_costs_one_frame(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..10),
            place in any::<prop::sample::Index>(),
            flip in 1u8..,
            zeros in 0usize..200,
        ) {
            let mut bytes = file(&bodies, 5);
            let framed = bytes.len();
            bytes.resize(framed + zeros, 0);
            prop_assert_eq!(&bodies_of(&bytes, 5), &bodies);
            let at = place.index(framed);
            bytes[at] ^= flip;
            let mut end = 0;
            let hit = bodies.iter().position(|b| { end += b.len() + HEADER_BYTES; at < end }).unwrap();
            let mut expected = bodies;
            expected.remove(hit);
            prop_assert_eq!(bodies_of(&bytes, 5), expected);
        }

        #[test]
        fn a_cut_keeps_what_lies_before(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..10),
            place in any::<prop::sample::Index>(),
        ) {
            let bytes = file(&bodies, 5);
            let cut = place.index(bytes.len());
            let mut end = 0;
            let whole = bodies.iter().take_while(|b| { end += b.len() + HEADER_BYTES; end <= cut }).count();
            prop_assert_eq!(&bodies_of(&bytes[..cut], 5)[..], &bodies[..whole]);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(prop_oneof![Just(0xf5u8), any::<u8>()], 0..300)) {
            let mut covered = 0;
            for piece in FrameReader::new(&bytes, 0, 0) {
                if let Piece::Tail { offset, .. } = piece {
                    covered = offset;
                }
            }
            prop_assert!(covered <= bytes.len());
        }
    }
}

//! Segment files: their names, their header, and the seeds by which stale bytes never validate.
//!
//! ```text
//! 0000000000000042.wal
//! 0     EPOCH frame, seeded by the sequence in the name
//! 512   the same again: one damaged sector does not take a segment
//! 1024  record frames, seeded by uuid and sequence; behind the last one zeros or what an earlier use left
//!
//! EPOCH body  9 u8 | version u8 | durability u8 (0 sync, 1 interval, 2 os) | uuid 16 bytes | sequence u64
//!             | sequence of the segment before u64 | how many frames were written there u32
//! ```
//! A released segment is renamed and written again from the front. Its old frames carry the seed of its old sequence, so
//! they are noise to the reader. The frame count of the segment before tells a reader whether its end is missing.

use super::Durability;
use crate::codec::crc::seed_of;
use crate::codec::frame::{self, FrameReader, Piece};
use crate::codec::varint::Cursor;
use std::path::{Path, PathBuf};

/// Bytes before the first record frame.
pub const HEADER_BYTES: usize = 1024;
/// Where the second copy of the header lies.
pub(super) const SECOND_COPY: usize = 512;
/// The bytes of one copy: a frame of the kind, version, durability, uuid, two sequences and a count.
const COPY_BYTES: usize = frame::HEADER_BYTES + 3 + 16 + 8 + 8 + 4;
const KIND_EPOCH: u8 = 9;
/// The version this code writes, and the only one it reads.
pub(crate) const VERSION: u8 = 1;
const EXTENSION: &str = ".wal";

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Epoch {
    /// Whether its commits were synced one by one.
    pub durability: DurabilityKind,
    /// Distinguishes it from every other segment ever written.
    pub uuid: [u8; 16],
    /// Its number.
    pub sequence: u64,
    /// The number of the segment written before it; 0 if there was none.
    pub previous: u64,
    /// How many frames that one holds.
    pub previous_frames: u32,
}

/// The kind of a [`Durability`], as a segment remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DurabilityKind {
    /// [`Durability::Sync`]
    Sync = 0,
    /// [`Durability::Interval`]
    Interval = 1,
    /// [`Durability::Os`]
    Os = 2,
}

impl From<Durability> for DurabilityKind {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Sync => Self::Sync,
            Durability::Interval(_) => Self::Interval,
            Durability::Os => Self::Os,
        }
    }
}

/// The path of a segment.
pub fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{sequence:016}{EXTENSION}"))
}

/// The sequence of a segment's path; `None` for other files.
pub fn sequence_of(path: &Path) -> Option<u64> {
    let digits = path.file_name()?.to_str()?.strip_suffix(EXTENSION)?;
    let plain = digits.len() >= 16 && digits.bytes().all(|b| b.is_ascii_digit());
    // Far above any real one, so that counting on from it never overflows.
    plain.then(|| digits.parse().ok())?.filter(|sequence| *sequence < 1 << 62)
}

fn header_seed(sequence: u64) -> u32 {
    let mut identity = *b"kymo wal segment........";
    identity[16..].copy_from_slice(&sequence.to_le_bytes());
    seed_of(&identity)
}

impl Epoch {
    /// The seed of the record frames.
    pub fn seed(&self) -> u32 {
        let mut identity = [0; 24];
        identity[..16].copy_from_slice(&self.uuid);
        identity[16..].copy_from_slice(&self.sequence.to_le_bytes());
        seed_of(&identity)
    }

    /// The first [`HEADER_BYTES`] of the segment.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = Vec::with_capacity(SECOND_COPY);
        let start = frame::begin(&mut bytes);
        bytes.extend_from_slice(&[KIND_EPOCH, VERSION, self.durability as u8]);
        bytes.extend_from_slice(&self.uuid);
        bytes.extend_from_slice(&self.sequence.to_le_bytes());
        bytes.extend_from_slice(&self.previous.to_le_bytes());
        bytes.extend_from_slice(&self.previous_frames.to_le_bytes());
        let sealed = bytes.get_mut(start..).is_some_and(|f| frame::finish(f, header_seed(self.sequence)));
        debug_assert!(sealed, "an EPOCH frame is far below the limit of a frame");
        bytes.resize(SECOND_COPY, 0);
        let mut header = [0; HEADER_BYTES];
        header[..SECOND_COPY].copy_from_slice(&bytes);
        header[SECOND_COPY..].copy_from_slice(&bytes);
        header
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        if cursor.u8()? != KIND_EPOCH || cursor.u8()? != VERSION {
            return None;
        }
        let durability = match cursor.u8()? {
            0 => DurabilityKind::Sync,
            1 => DurabilityKind::Interval,
            2 => DurabilityKind::Os,
            _ => return None,
        };
        Some(Self {
            durability,
            uuid: cursor.array()?,
            sequence: cursor.u64()?,
            previous: cursor.u64()?,
            previous_frames: cursor.u32()?,
        })
    }
}

/// What the first bytes of a segment file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// Written under this sequence.
    Ours(Epoch),
    /// Nothing was promised under this sequence: new, prepared, cut off within the first write, or left from an earlier use.
    Unused,
    /// Neither copy of the header is whole, or the file is none of ours: nothing in it can be checked.
    Damaged,
}

/// Reads the header of the segment `sequence` from the start of its file.
pub fn read_header(bytes: &[u8], sequence: u64) -> Header {
    let copies = [0, SECOND_COPY].map(|at| epoch_at(bytes, at, header_seed(sequence)));
    if let Some(epoch) = copies.into_iter().flatten().find(|epoch| epoch.sequence == sequence) {
        return Header::Ours(epoch);
    }
    let stale = [0, SECOND_COPY].into_iter().any(|at| is_stale(bytes, at));
    if stale || is_begun(bytes, sequence) { Header::Unused } else { Header::Damaged }
}

/// The version of a segment that a later release wrote, from its first bytes.
pub(crate) fn later_version(bytes: &[u8], sequence: u64) -> Option<u8> {
    let version = |at| match FrameReader::new(bytes, at, header_seed(sequence)).next()? {
        Piece::Frame { offset, body: [KIND_EPOCH, version, ..] } if offset == at => Some(*version),
        _ => None,
    };
    [0, SECOND_COPY].into_iter().filter_map(version).find(|version| *version > VERSION)
}

/// Whether the file can be written under another sequence: wherever the write of its new header is cut off, one of the four copies
/// is whole then.
pub(super) fn is_reusable(header: &[u8; HEADER_BYTES]) -> bool {
    [0, SECOND_COPY].into_iter().all(|at| is_stale(header, at))
}

/// Whether `bytes` are zeros, or what a first write leaves on them that fails or is not synced: nothing was promised then.
fn is_begun(bytes: &[u8], sequence: u64) -> bool {
    let (header, frames) = bytes.split_at(HEADER_BYTES.min(bytes.len()));
    let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    if is_zero(header) {
        // Its sectors may be on their way while those behind it are on the disk.
        return !follows_a_sync(frames);
    }
    // The first copy was cut off, or the second and the first did not reach the disk.
    let mut copies = header.chunks(SECOND_COPY).filter(|copy| !is_zero(copy));
    copies.next().is_some_and(|copy| is_begun_copy(copy, sequence))
        && copies.next().is_none()
        && is_zero(frames)
}

/// Whether `bytes` are the beginning of a copy of the header, and zeros behind it.
fn is_begun_copy(bytes: &[u8], sequence: u64) -> bool {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let begun = bytes.get(..used).unwrap_or_default();
    if used >= COPY_BYTES {
        return false;
    }
    if used >= frame::HEADER_BYTES {
        let piece = FrameReader::new(begun, 0, header_seed(sequence)).next();
        return piece == Some(Piece::Tail { offset: 0, torn: true });
    }
    // What comes next are sums of what is not there.
    let length = ((COPY_BYTES - frame::HEADER_BYTES) as u32).to_le_bytes();
    frame::MAGIC.iter().chain(&length).zip(begun).all(|(right, found)| right == found)
}

/// Whether there is a frame that says of others before it that they were durable: the header was, too. Without a header the sums of
/// the frame cannot be checked. What senders choose may look like such a frame; it is then told as damage that a power cut took the
/// header of a segment in its first write.
fn follows_a_sync(frames: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = frame::find_magic(frames, from) {
        let rest = frames.get(at..).unwrap_or_default();
        let mut cursor = Cursor::new(rest.get(frame::MAGIC.len()..).unwrap_or_default());
        let (len, _sums) = (cursor.u32(), cursor.u64());
        if let (Some(len), Some(index), Some(durable)) = (len, cursor.u32(), cursor.u32())
            && rest.starts_with(&frame::MAGIC)
            && len as usize <= rest.len() - frame::HEADER_BYTES
            && (1..=index).contains(&durable)
        {
            return true;
        }
        from = at + 1;
    }
    false
}

fn epoch_at(bytes: &[u8], at: usize, seed: u32) -> Option<Epoch> {
    match FrameReader::new(bytes.get(..HEADER_BYTES.min(bytes.len()))?, at, seed).next()? {
        Piece::Frame { body, .. } => Epoch::decode(body),
        Piece::Damage { .. } | Piece::Tail { .. } => None,
    }
}

/// Whether a header of another sequence lies at `at`: it names the sequence by whose seed it must validate.
fn is_stale(bytes: &[u8], at: usize) -> bool {
    const SEQUENCE_AT: usize = frame::HEADER_BYTES + 19;
    let Some(sequence) = bytes.get(at + SEQUENCE_AT..).and_then(|b| Cursor::new(b).u64()) else {
        return false;
    };
    epoch_at(bytes, at, header_seed(sequence)).is_some_and(|epoch| epoch.sequence == sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epoch(sequence: u64) -> Epoch {
        Epoch {
            durability: DurabilityKind::Interval,
            uuid: *b"0123456789abcdef",
            sequence,
            previous: 41,
            previous_frames: 7,
        }
    }

    #[test]
    fn names() {
        let path = path_of(Path::new("/d"), 42);
        assert_eq!(path, Path::new("/d/0000000000000042.wal"));
        assert_eq!(sequence_of(&path), Some(42));
        assert_eq!(sequence_of(&path_of(Path::new("/d"), u64::MAX)), None);
        for other in [
            "/d/42.wal",
            "/d/0000000000000042.wal.tmp",
            "/d/+000000000000042.wal",
            "/d/99999999999999999999.wal",
        ] {
            assert_eq!(sequence_of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn one_copy_of_the_header_is_enough() {
        let bytes = epoch(42).encode();
        assert_eq!(bytes[16..19], [9, 1, 1]);
        assert_eq!(bytes[35..43], 42u64.to_le_bytes());
        assert_eq!(read_header(&bytes, 42), Header::Ours(epoch(42)));
        for hit in 0..HEADER_BYTES {
            let mut bytes = bytes;
            bytes[hit] ^= 4;
            assert_eq!(read_header(&bytes, 42), Header::Ours(epoch(42)), "byte {hit}");
        }
        let mut both = bytes;
        both[20] ^= 1;
        both[540] ^= 1;
        assert_eq!(read_header(&both, 42), Header::Damaged);
        assert_eq!(read_header(&bytes, 43), Header::Unused, "renamed, not yet written");
        assert_eq!(read_header(&[0; 4096], 42), Header::Unused);
        assert!(is_reusable(&epoch(42).encode()) && !is_reusable(&both) && !is_reusable(&[0; HEADER_BYTES]));
        assert_ne!(epoch(42).seed(), epoch(43).seed());
    }

    #[test]
    fn a_later_version_is_known_by_a_whole_copy_of_the_header() {
        let ours = epoch(42).encode();
        assert_eq!(later_version(&ours, 42), None);
        let mut later = Vec::new();
        let start = frame::begin(&mut later);
        later.extend_from_slice(&[KIND_EPOCH, VERSION + 1, 0xff, 1, 2, 3]);
        assert!(frame::finish(&mut later[start..], header_seed(42)));
        for at in [0, SECOND_COPY] {
            let mut bytes = [0; HEADER_BYTES];
            bytes[at..at + later.len()].copy_from_slice(&later);
            assert_eq!(later_version(&bytes, 42), Some(VERSION + 1), "at {at}");
            assert_eq!(later_version(&bytes, 43), None, "renamed, not yet written");
            bytes[at + frame::HEADER_BYTES + 1] ^= 0x40;
            assert_eq!(later_version(&bytes, 42), None, "damaged at {at}");
            assert_eq!(later_version(&bytes[..at], 42), None);
        }
    }

    #[test]
    fn a_short_file_is_a_header_that_was_begun_or_none_of_ours() {
        let whole = epoch(42).encode();
        let copy = whole.iter().take(SECOND_COPY).rposition(|byte| *byte != 0).unwrap() + 1;
        assert!(copy <= COPY_BYTES && COPY_BYTES < SECOND_COPY);
        for len in 0..COPY_BYTES {
            assert_eq!(read_header(&whole[..len], 42), Header::Unused, "cut at {len}");
            assert_eq!(read_header(&vec![0; len], 42), Header::Unused, "{len} zeros");
            if len >= frame::HEADER_BYTES {
                assert_eq!(read_header(&whole[..len], 43), Header::Damaged, "another's, cut at {len}");
            }
            for hit in (0..len).filter(|hit| !(8..frame::HEADER_BYTES).contains(hit) && *hit < 16) {
                let mut bytes = whole[..len].to_vec();
                bytes[hit] ^= 4;
                assert_eq!(read_header(&bytes, 42), Header::Damaged, "cut at {len}, byte {hit}");
            }
        }
        for len in COPY_BYTES..HEADER_BYTES {
            assert_eq!(read_header(&whole[..len], 42), Header::Ours(epoch(42)), "cut at {len}");
        }
        for foreign in
            [&b"\x89PNG\r\n\x1a\n and nothing of ours"[..], b"x", &[1; 100], &[1; 1023], &[0xf5; 4096]]
        {
            assert_eq!(read_header(foreign, 42), Header::Damaged, "{} foreign bytes", foreign.len());
        }
    }

    /// A file of zeros whose first write was cut off; one copy may not have reached the disk.
    #[test]
    fn a_header_begun_on_zeros_is_unused_and_one_with_frames_behind_it_is_damaged() {
        let whole = epoch(42).encode();
        for written in 0..=HEADER_BYTES {
            for lost in [None, Some(0), Some(SECOND_COPY)] {
                let mut bytes = vec![0; 8192];
                bytes[..written].copy_from_slice(&whole[..written]);
                if let Some(at) = lost {
                    bytes[at..at + SECOND_COPY].fill(0);
                }
                let what = format!("{written} bytes, and the copy at {lost:?} is lost");
                let ours =
                    [0, SECOND_COPY].into_iter().any(|at| bytes[at..at + COPY_BYTES] == whole[..COPY_BYTES]);
                let expected = if ours { Header::Ours(epoch(42)) } else { Header::Unused };
                assert_eq!(read_header(&bytes, 42), expected, "{what}");
                let is_blank = bytes.iter().all(|byte| *byte == 0);
                bytes[5000] = 1;
                let expected = if ours || is_blank { expected } else { Header::Damaged };
                assert_eq!(read_header(&bytes, 42), expected, "{what}, and something behind it");
            }
        }
    }

    #[test]
    fn a_header_that_is_gone_from_frames_once_synced_is_damaged() {
        for (index, durable, expected) in [
            (0u32, 0u32, Header::Unused),
            (7, 0, Header::Unused),
            (7, 7, Header::Damaged),
            (7, 3, Header::Damaged),
        ] {
            let mut frames = Vec::new();
            let start = frame::begin(&mut frames);
            frames.extend_from_slice(&index.to_le_bytes());
            frames.extend_from_slice(&durable.to_le_bytes());
            frames.extend_from_slice(b"a record");
            assert!(frame::finish(&mut frames[start..], epoch(42).seed()));
            let mut bytes = vec![0; 8192];
            bytes[4099..4099 + frames.len()].copy_from_slice(&frames);
            assert_eq!(read_header(&bytes, 42), expected, "frame {index}, {durable} of them durable");
        }
    }
}

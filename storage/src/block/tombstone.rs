//! TOMBSTONES: which samples were deleted, by time range and matchers. One small file, replaced atomically.
//!
//! ```text
//! magic "KYMOTMB1":8  version:u32  length:u32  crc:u32 of the body, seeded by the version  body (length bytes), integers
//! little endian:
//!     count:u32, count × { sequence:u64 min_time:i64 max_time:i64 created:i64 sets:u32, sets × one selector }
//! selector    matchers:u32, matchers × { operator:u8 name length:u32 name  value length:u32 value }
//! operator    0 `=`, 1 `!=`, 2 `=~`, 3 `!~`
//! ```
//!
//! **Which samples a tombstone hides:** those of its time range and series in blocks with a lower sequence. A delete writes the
//! head into blocks first and then takes the next free sequence, so everything that was stored before lies in such blocks,
//! late samples too, and whatever is written afterwards gets into blocks of that sequence or a higher one and is not
//! touched, whatever its timestamp. The file stands beside MANIFEST and does not depend on it: a rebuilt manifest brings
//! nothing back.

use super::format::Fields;
use crate::codec::crc::crc32;
use crate::env::{Fs, read_whole};
use crate::error::{Error, Result};
use crate::model::{MatchOp, Matcher, TimeRange, Timestamp};
use std::io;
use std::path::Path;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"KYMOTMB1";
const VERSION: u32 = 1;
/// The name of the file in the data directory.
pub const TOMBSTONES_FILE: &str = "TOMBSTONES";
/// Its name until it is whole.
pub(crate) const TOMBSTONES_TEMPORARY: &str = "TOMBSTONES.tmp";
/// Deletes that may wait for compaction: each is looked up in the index of each block it touches.
pub const TOMBSTONES_MAX: usize = 10_000;
const OPERATORS: [MatchOp; 4] = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex];

/// One delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Samples in blocks of lower sequences are meant.
    pub sequence: u64,
    /// Samples of these times.
    pub range: TimeRange,
    /// When it was asked for, in milliseconds since the Unix epoch.
    pub created: Timestamp,
    /// Series that match all matchers of one of these.
    pub matcher_sets: Vec<Vec<Matcher>>,
}

impl Tombstone {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sequence.to_le_bytes());
        for time in [self.range.min_time, self.range.max_time, self.created] {
            out.extend_from_slice(&time.to_le_bytes());
        }
        put_count(out, self.matcher_sets.len());
        for matchers in &self.matcher_sets {
            put_count(out, matchers.len());
            for matcher in matchers {
                let operator = OPERATORS.iter().position(|op| *op == matcher.op()).unwrap_or(0);
                out.push(operator as u8);
                for text in [matcher.name(), matcher.value()] {
                    put_count(out, text.len());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }

    fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let sequence = fields.u64()?;
        let range = TimeRange::new(fields.i64()?, fields.i64()?);
        let created = fields.i64()?;
        let mut matcher_sets = Vec::new();
        // Each set and each matcher takes bytes, so the loops end with the body.
        for _ in 0..fields.u32()? {
            let mut matchers = Vec::new();
            for _ in 0..fields.u32()? {
                let op = *OPERATORS.get(usize::from(fields.array::<1>()?[0]))?;
                let (name, value) = (text(fields)?, text(fields)?);
                matchers.push(Matcher::new(op, name, value).ok()?);
            }
            matcher_sets.push(matchers);
        }
        Some(Self { sequence, range, created, matcher_sets })
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&(count as u32).to_le_bytes());
}

fn text<'a>(fields: &mut Fields<'a>) -> Option<&'a str> {
    let length = fields.u32()? as usize;
    let (text, rest) = fields.0.split_at_checked(length)?;
    fields.0 = rest;
    std::str::from_utf8(text).ok()
}

fn encode(tombstones: &[Arc<Tombstone>]) -> Vec<u8> {
    let mut body = Vec::new();
    put_count(&mut body, tombstones.len());
    tombstones.iter().for_each(|tombstone| tombstone.encode(&mut body));
    let mut out = MAGIC.to_vec();
    for number in [VERSION, body.len() as u32, crc32(VERSION, &body)] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.append(&mut body);
    out
}

/// Why bytes are not a list of deletes for us.
#[derive(Debug)]
enum Unreadable {
    Damaged(&'static str),
    /// Whole, and of this format.
    Newer(u32),
}

fn decode(bytes: &[u8]) -> std::result::Result<Vec<Arc<Tombstone>>, Unreadable> {
    let mut fields = Fields(bytes);
    if fields.array() != Some(&MAGIC) {
        return Err(Unreadable::Damaged("not a list of deletes"));
    }
    let (version, length, crc) = (fields.u32().unwrap_or_default(), fields.u32(), fields.u32());
    if length != u32::try_from(fields.0.len()).ok() || crc != Some(crc32(version, fields.0)) {
        return Err(Unreadable::Damaged("checksum mismatch"));
    }
    if version != VERSION {
        return Err(Unreadable::Newer(version));
    }
    let mut read = || {
        let mut all = Vec::new();
        for _ in 0..fields.u32()? {
            all.push(Arc::new(Tombstone::decode(&mut fields)?));
        }
        fields.0.is_empty().then_some(all)
    };
    read().ok_or(Unreadable::Damaged("the body is cut off"))
}

/// The deletes of the data directory `dir`, oldest first; `None` if there is no file.
///
/// # Errors
/// [`crate::ErrorKind::Corrupt`] if the file is damaged, [`crate::ErrorKind::Invalid`] if it is of a later format, or the disk
/// refuses.
pub fn load_tombstones(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Option<Vec<Arc<Tombstone>>>> {
    let path = dir.join(TOMBSTONES_FILE);
    match read_whole(fs.as_ref(), &path) {
        Ok(bytes) => decode(&bytes).map(Some).map_err(|why| match why {
            Unreadable::Newer(version) => Error::invalid(format!(
                "{} is of format {version}, written by a later release; this one knows {VERSION}",
                path.display()
            )),
            Unreadable::Damaged(why) => Error::corrupt(format!("{} at 0: {why}", path.display())),
        }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(format!("read {}", path.display()), e)),
    }
}

/// Replaces the deletes of the data directory `dir`, atomically and durably.
///
/// # Errors
/// The disk refuses; the old file is then still in place, unless the sync of the directory failed.
pub fn store_tombstones(fs: &Arc<dyn Fs>, dir: &Path, tombstones: &[Arc<Tombstone>]) -> Result<()> {
    let (temporary, path) = (dir.join(TOMBSTONES_TEMPORARY), dir.join(TOMBSTONES_FILE));
    // What an interrupted writer left; if there is nothing or it cannot be removed, creating tells.
    let _ = fs.remove(&temporary);
    let attempt = || -> io::Result<()> {
        let file = fs.create(&temporary)?;
        file.write_all_at(&encode(tombstones), 0)?;
        file.sync_data()?;
        fs.rename(&temporary, &path)?;
        fs.sync_dir(dir)
    };
    attempt().map_err(|e| Error::io(format!("replace {}", path.display()), e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::env::MemoryFs;

    fn sample() -> Vec<Arc<Tombstone>> {
        let regex = Matcher::new(MatchOp::NotRegex, "pod", "a.*|b").unwrap();
        let sets = vec![vec![Matcher::equal("__name__", "up"), regex], vec![]];
        let second = vec![vec![Matcher::equal("job", "")]];
        let range = TimeRange::new(-5, 9);
        vec![
            Arc::new(Tombstone { sequence: 7, range, created: 1000, matcher_sets: sets }),
            Arc::new(Tombstone { sequence: 9, range: TimeRange::ALL, created: 0, matcher_sets: second }),
        ]
    }

    #[test]
    fn diagram() {
        let bytes = encode(&sample()[1..]);
        assert_eq!(bytes[..12], *b"KYMOTMB1\x01\0\0\0");
        let body = &bytes[20..];
        assert_eq!(body[..12], [1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(body[12..20], i64::MIN.to_le_bytes());
        assert_eq!(body[28..36], [0; 8]);
        assert_eq!(body[36..], *b"\x01\0\0\0\x01\0\0\0\0\x03\0\0\0job\0\0\0\0");
    }

    #[test]
    fn stored_and_loaded_and_damage_is_noticed() {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
        let dir = Path::new("/data");
        fs.create_dir_all(dir).unwrap();
        assert_eq!(load_tombstones(&fs, dir).unwrap(), None);
        store_tombstones(&fs, dir, &sample()).unwrap();
        assert_eq!(load_tombstones(&fs, dir).unwrap(), Some(sample()));
        let bytes = encode(&sample());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            assert!(matches!(decode(&bad), Err(Unreadable::Damaged(_))), "{at}");
            assert!(matches!(decode(&bytes[..at]), Err(Unreadable::Damaged(_))), "{at}");
        }
        fs.remove(&dir.join(TOMBSTONES_FILE)).unwrap();
        fs.create(&dir.join(TOMBSTONES_FILE)).unwrap().write_all_at(b"KYMOTMB1", 0).unwrap();
        let error = load_tombstones(&fs, dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("/data/TOMBSTONES"), "{error}");
    }
}

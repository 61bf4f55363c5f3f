//! MANIFEST: which blocks are live, and where recovery starts. One small file, replaced atomically.
//!
//! ```text
//! magic "KYMOMAN1":8  version:u32  length:u32  crc:u32 of the body, seeded by the version  body (length bytes), integers
//! little endian:
//!     directory:16 seed:16 next_sequence:u64 first_wal_segment:u64
//!     name length:u32 name of the registry checkpoint (empty: none)
//!     blocks:u32, blocks × { name length:u32 file name  bytes:u64  uuid:16 sequence:u64 min_time:i64 max_time:i64
//!                            series:u64 samples:u64 level:u32 }
//!     deletes:u8, 1 if there is a list of deletes (TOMBSTONES); not in version 1
//! ```

use super::format::{BlockMeta, Fields};
use super::{BLOCK_EXTENSION, Block};
use crate::codec::crc::crc32;
use crate::env::{Fs, read_whole};
use crate::error::{Error, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"KYMOMAN1";
const VERSION: u32 = 2;
const FILE: &str = "MANIFEST";
/// Its name until it is whole.
pub(crate) const MANIFEST_TEMPORARY: &str = "MANIFEST.tmp";

/// The state of a data directory besides the WAL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The identity of the data directory.
    pub directory: [u8; 16],
    /// A random seed of the directory, for hashes an outsider must not predict.
    pub seed: [u8; 16],
    /// The sequence the next block gets; higher than that of every block.
    pub next_sequence: u64,
    /// The first WAL segment whose records are not all in blocks.
    pub first_wal_segment: u64,
    /// The file name of the registry checkpoint to start from.
    pub checkpoint: Option<String>,
    /// The live blocks.
    pub blocks: Vec<ManifestBlock>,
    /// Whether there is a list of deletes, so that one that is gone is missed.
    pub has_deletes: bool,
}

/// A live block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestBlock {
    /// The file name, without directories.
    pub file: String,
    /// The size of the file in bytes.
    pub bytes: u64,
    /// What the block says about itself.
    pub meta: BlockMeta,
}

/// Sixteen random bytes that no other call gives.
pub fn new_uuid() -> [u8; 16] {
    crate::env::random()
}

impl Default for Manifest {
    fn default() -> Self {
        Self::new()
    }
}

impl Manifest {
    /// The manifest of a new, empty directory.
    pub fn new() -> Self {
        Self {
            directory: new_uuid(),
            seed: new_uuid(),
            next_sequence: 1,
            first_wal_segment: 0,
            checkpoint: None,
            blocks: Vec::new(),
            has_deletes: false,
        }
    }

    /// Reads the manifest in `dir`; `None` if there is no such file.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Corrupt`] if it is damaged (see [`Manifest::rebuild`]), [`crate::ErrorKind::Invalid`] if it is of
    /// a later format, or the disk refuses.
    pub fn load(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let bytes = match read_whole(fs.as_ref(), &path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format!("read {}", path.display()), e)),
        };
        decode(&bytes).map(Some).map_err(|why| match why {
            Unreadable::Newer(version) => Error::invalid(format!(
                "{} is of format {version}, written by a later release; this one knows {VERSION}",
                path.display()
            )),
            Unreadable::Damaged(why) => Error::corrupt(format!("{} at 0: {why}", path.display())),
        })
    }

    /// Replaces the manifest in `dir`, atomically and durably.
    ///
    /// # Errors
    /// The disk refuses; the old manifest is then still in place, unless the sync of the directory failed.
    pub fn store(&self, fs: &Arc<dyn Fs>, dir: &Path) -> Result<()> {
        let (temporary, path) = (dir.join(MANIFEST_TEMPORARY), dir.join(FILE));
        // What an interrupted writer left; if there is nothing or it cannot be removed, creating tells.
        let _ = fs.remove(&temporary);
        let attempt = || -> io::Result<()> {
            let file = fs.create(&temporary)?;
            file.write_all_at(&self.encode(), 0)?;
            file.sync_data()?;
            fs.rename(&temporary, &path)?;
            fs.sync_dir(dir)
        };
        attempt().map_err(|e| Error::io(format!("replace {}", path.display()), e))
    }

    /// Makes a manifest from the footers of the blocks in `blocks_dir`, and lists the files that are no sound blocks.
    /// Recovery then reads the whole WAL.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn rebuild(fs: &Arc<dyn Fs>, blocks_dir: &Path) -> Result<(Self, Vec<(PathBuf, Error)>)> {
        let mut manifest = Self { directory: fs.unique(), seed: fs.unique(), ..Self::new() };
        let mut unsound = Vec::new();
        let entries =
            fs.list(blocks_dir).map_err(|e| Error::io(format!("list {}", blocks_dir.display()), e))?;
        for path in entries {
            if path.extension().is_none_or(|e| e != BLOCK_EXTENSION) {
                continue;
            }
            match Error::or_again(|| Block::open(fs, &path)) {
                Ok(block) => manifest.blocks.push(ManifestBlock {
                    file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    bytes: block.file_bytes(),
                    meta: *block.meta(),
                }),
                Err(error) => unsound.push((path, error)),
            }
        }
        let highest = manifest.blocks.iter().map(|b| b.meta.sequence).max().unwrap_or(0);
        manifest.next_sequence = highest.saturating_add(1);
        Ok((manifest, unsound))
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(&self.directory);
        body.extend_from_slice(&self.seed);
        body.extend_from_slice(&self.next_sequence.to_le_bytes());
        body.extend_from_slice(&self.first_wal_segment.to_le_bytes());
        put_text(&mut body, self.checkpoint.as_deref().unwrap_or_default());
        body.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        for block in &self.blocks {
            put_text(&mut body, &block.file);
            body.extend_from_slice(&block.bytes.to_le_bytes());
            block.meta.write(&mut body);
        }
        body.push(u8::from(self.has_deletes));
        let mut out = MAGIC.to_vec();
        for number in [VERSION, body.len() as u32, crc32(VERSION, &body)] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.append(&mut body);
        out
    }
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn text(fields: &mut Fields<'_>) -> Option<String> {
    let length = fields.u32()? as usize;
    let (text, rest) = fields.0.split_at_checked(length)?;
    fields.0 = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

/// Why bytes are not a manifest for us.
#[derive(Debug)]
enum Unreadable {
    Damaged(&'static str),
    /// Whole, and of this format.
    Newer(u32),
}

fn decode(bytes: &[u8]) -> std::result::Result<Manifest, Unreadable> {
    let mut fields = Fields(bytes);
    if fields.array() != Some(&MAGIC) {
        return Err(Unreadable::Damaged("not a manifest"));
    }
    let (version, length, crc) = (fields.u32().unwrap_or_default(), fields.u32(), fields.u32());
    if length != u32::try_from(fields.0.len()).ok() || crc != Some(crc32(version, fields.0)) {
        return Err(Unreadable::Damaged("checksum mismatch"));
    }
    if !(1..=VERSION).contains(&version) {
        return Err(Unreadable::Newer(version));
    }
    decode_body(fields, version).ok_or(Unreadable::Damaged("the body is cut off"))
}

fn decode_body(mut fields: Fields<'_>, version: u32) -> Option<Manifest> {
    let mut manifest = Manifest {
        directory: *fields.array()?,
        seed: *fields.array()?,
        next_sequence: fields.u64()?,
        first_wal_segment: fields.u64()?,
        checkpoint: Some(text(&mut fields)?).filter(|name| !name.is_empty()),
        blocks: Vec::new(),
        has_deletes: false,
    };
    // Each block takes bytes, so the loop ends with the body.
    for _ in 0..fields.u32()? {
        let file = text(&mut fields)?;
        manifest.blocks.push(ManifestBlock {
            file,
            bytes: fields.u64()?,
            meta: BlockMeta::read(&mut fields)?,
        });
    }
    if version > 1 {
        manifest.has_deletes = fields.array::<1>()? != &[0];
    }
    fields.0.is_empty().then_some(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use crate::env::MemoryFs;

    fn sample() -> Manifest {
        let meta = BlockMeta {
            uuid: new_uuid(),
            sequence: 4,
            min_time: -3,
            max_time: 8,
            series: 2,
            samples: 5,
            level: 1,
        };
        let blocks = vec![ManifestBlock { file: "00000004.block".to_owned(), bytes: 777, meta }];
        Manifest {
            next_sequence: 5,
            first_wal_segment: 9,
            checkpoint: Some("registry-3".to_owned()),
            blocks,
            has_deletes: true,
            ..Manifest::new()
        }
    }

    #[test]
    fn stored_and_loaded() {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
        let dir = Path::new("/data");
        fs.create_dir_all(dir).unwrap();
        assert_eq!(Manifest::load(&fs, dir).unwrap(), None);
        Manifest::new().store(&fs, dir).unwrap();
        let manifest = sample();
        manifest.store(&fs, dir).unwrap();
        assert_eq!(Manifest::load(&fs, dir).unwrap(), Some(manifest));
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let bytes = sample().encode();
        assert_eq!(bytes[..12], *b"KYMOMAN1\x02\0\0\0");
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(matches!(decode(&bad), Err(Unreadable::Damaged(_))), "{at}");
            assert!(matches!(decode(&bytes[..at]), Err(Unreadable::Damaged(_))), "{at}");
        }
        assert!(matches!(decode(&of_version(&bytes, 3)), Err(Unreadable::Newer(3))));
        assert!(matches!(decode(&of_version(&bytes, 0)), Err(Unreadable::Newer(0))));
    }

    /// The same file as one of another version.
    fn of_version(bytes: &[u8], version: u32) -> Vec<u8> {
        let mut other = bytes.to_vec();
        let (length, crc) = (bytes.len() as u32 - 20, crc32(version, &bytes[20..]));
        for (at, number) in [(8, version), (12, length), (16, crc)] {
            other[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        other
    }

    #[test]
    fn version_1_knows_of_no_deletes() {
        let known = sample();
        let bytes = known.encode();
        let first = of_version(&bytes[..bytes.len() - 1], 1);
        assert_eq!(decode(&first).unwrap(), Manifest { has_deletes: false, ..known });
    }

    #[test]
    fn damage_is_told_from_absence() {
        let fs: Arc<dyn Fs> = Arc::new(MemoryFs::default());
        let dir = Path::new("/data");
        fs.create_dir_all(dir).unwrap();
        fs.create(&dir.join(FILE)).unwrap().write_all_at(b"KYMOMAN1", 0).unwrap();
        let error = Manifest::load(&fs, dir).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("/data/MANIFEST"), "{error}");
    }
}

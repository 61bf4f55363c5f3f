//! Reading and writing the files of a block, and saying where in them something is wrong.

use crate::codec::varint::Cursor;
use crate::env::{File, Fs, Mapped};
use crate::error::{Error, ErrorKind, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much is gathered before it is written.
const BUFFER_BYTES: usize = 1 << 20;

/// A new file, written from front to back.
#[derive(Debug)]
pub(super) struct Sink {
    file: Arc<dyn File>,
    path: PathBuf,
    written: u64,
    buffer: Vec<u8>,
}

impl Sink {
    pub(super) fn create(fs: &Arc<dyn Fs>, path: PathBuf) -> Result<Self> {
        let file = fs.create(&path).map_err(|e| Error::io(format!("create {}", path.display()), e))?;
        Ok(Self { file, path, written: 0, buffer: Vec::new() })
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Zeros up to a multiple of `bytes`.
    pub(super) fn align(&mut self, bytes: u64) -> Result<()> {
        let missing = self.position().next_multiple_of(bytes) - self.position();
        self.put(&vec![0; missing as usize])
    }

    /// A part with its length in front and its checksum behind.
    pub(super) fn put_section(&mut self, bytes: &[u8]) -> Result<()> {
        let length = u32::try_from(bytes.len()).map_err(|_| {
            let path = self.path.display();
            Error::new(
                ErrorKind::LimitExceeded,
                format!("{path}: a section of {} bytes; its length has 32 bits", bytes.len()),
            )
        })?;
        self.put(&length.to_be_bytes())?;
        self.put(bytes)?;
        self.put(&super::crc32c(bytes).to_be_bytes())
    }

    fn flush(&mut self) -> Result<()> {
        let describe = || format!("write {} at {}", self.path.display(), self.written);
        self.file.write_all_at(&self.buffer, self.written).map_err(|e| Error::io(describe(), e))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.file.sync_data().map_err(|e| Error::io(format!("sync {}", self.path.display()), e))
    }
}

/// A file that was written by others.
#[derive(Debug)]
pub(super) struct Source {
    map: Mapped,
    path: PathBuf,
}

impl Source {
    pub(super) fn open(fs: &Arc<dyn Fs>, path: PathBuf) -> Result<Self> {
        let map = fs.map(&path).map_err(|e| Error::io(format!("open {}", path.display()), e))?;
        Ok(Self { map, path })
    }

    pub(super) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Damage at `offset`.
    pub(super) fn corrupt(&self, offset: u64, what: impl fmt::Display) -> Error {
        Error::corrupt(format!("{} at {offset}: {what}", self.path.display()))
    }

    /// `length` bytes at `offset`.
    pub(super) fn bytes(&self, offset: u64, length: u64, what: &str) -> Result<&[u8]> {
        let cut = || {
            let have = self.len();
            self.corrupt(offset, format_args!("{what} takes {length} bytes; the file ends at {have}"))
        };
        let (Ok(start), Ok(wanted)) = (usize::try_from(offset), usize::try_from(length)) else {
            return Err(cut());
        };
        self.map.get(start..).and_then(|rest| rest.get(..wanted)).ok_or_else(cut)
    }

    /// Everything from `offset` on.
    pub(super) fn rest(&self, offset: u64, what: &str) -> Result<&[u8]> {
        self.bytes(offset, self.len().saturating_sub(offset), what)
    }

    /// Four bytes as a number.
    pub(super) fn number(&self, offset: u64, what: &str) -> Result<u32> {
        let bytes = self.bytes(offset, 4, what)?;
        Ok(bytes.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b)))
    }

    /// The bytes between a length and a checksum, which is checked.
    pub(super) fn section(&self, offset: u64, what: &str) -> Result<&[u8]> {
        let length = u64::from(self.number(offset, what)?);
        let start = offset.saturating_add(4);
        let bytes = self.bytes(start, length, what)?;
        let stored = self.number(start.saturating_add(length), what)?;
        if super::crc32c(bytes) != stored {
            return Err(self.corrupt(offset, format_args!("the checksum of {what} does not match")));
        }
        Ok(bytes)
    }

    /// Checks the first bytes: a number that names the format, and a version.
    pub(super) fn header(&self, magic: u32, version: u8, what: &str) -> Result<()> {
        let met = self.number(0, what)?;
        if met != magic {
            return Err(
                self.corrupt(0, format_args!("no {what}: it begins with {met:#010x}, not {magic:#010x}"))
            );
        }
        match self.bytes(4, 1, what)?.first() {
            Some(met) if *met == version => Ok(()),
            met => {
                let met = met.copied().unwrap_or(0);
                Err(self.corrupt(4, format_args!("{what} of version {met}; Kymo reads version {version}")))
            }
        }
    }
}

/// A whole file that should be small.
pub(super) fn read_small(fs: &Arc<dyn Fs>, path: &Path, bytes_max: u64) -> Result<Vec<u8>> {
    let describe = |e| Error::io(format!("read {}", path.display()), e);
    let file = fs.open(path).map_err(describe)?;
    let length = file.len().map_err(describe)?;
    if length > bytes_max {
        let path = path.display();
        return Err(Error::corrupt(format!("{path} has {length} bytes; the most is {bytes_max}")));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, 0).map_err(describe)?;
    Ok(bytes)
}

/// A number of four bytes, the highest first.
pub(super) fn take_u32(cursor: &mut Cursor<'_>) -> Option<u32> {
    cursor.array::<4>().map(u32::from_be_bytes)
}

/// A number of eight bytes, the highest first.
pub(super) fn take_u64(cursor: &mut Cursor<'_>) -> Option<u64> {
    cursor.array::<8>().map(u64::from_be_bytes)
}

//! The files `chunks/000001` and on of a block: chunks one after another.
//!
//! ```text
//! 85 bd 40 dd | version 1 | 0 0 0 | chunk …
//! chunk       length of its data uvarint | format u8 | data | CRC-32C of format and data, 4 bytes
//! reference   number of the file from 0 in the upper 32 bits, offset of the chunk in the lower
//! ```

use super::place::{Sink, Source};
use super::{ChunkKind, crc32c};
use crate::codec::varint::{Cursor, put_uvarint};
use crate::env::Fs;
use crate::error::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: u32 = 0x85bd_40dd;
const VERSION: u8 = 1;
const HEADER_BYTES: u64 = 8;
/// A file is closed before it grows beyond this.
pub(super) const SEGMENT_BYTES: u64 = 512 << 20;
/// The most bytes of one chunk that are read; real ones have hundreds.
const CHUNK_BYTES_MAX: u64 = 64 << 20;
/// The folder of the files.
pub(super) const CHUNKS: &str = "chunks";

/// Writes chunks.
#[derive(Debug)]
pub(super) struct SegmentsWriter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    segment_bytes: u64,
    current: Option<Sink>,
    /// How many files were begun.
    begun: u32,
    frame: Vec<u8>,
}

impl SegmentsWriter {
    pub(super) fn create(fs: &Arc<dyn Fs>, block: &Path, segment_bytes: u64) -> Result<Self> {
        let dir = block.join(CHUNKS);
        fs.create_dir_all(&dir).map_err(|e| Error::io(format!("create {}", dir.display()), e))?;
        let fs = Arc::clone(fs);
        Ok(Self { fs, dir, segment_bytes, current: None, begun: 0, frame: Vec::new() })
    }

    /// Adds a chunk and answers its reference.
    pub(super) fn add(&mut self, kind: ChunkKind, bytes: &[u8]) -> Result<u64> {
        self.frame.clear();
        put_uvarint(&mut self.frame, bytes.len() as u64);
        let checked = self.frame.len();
        self.frame.push(kind as u8);
        self.frame.extend_from_slice(bytes);
        let crc = crc32c(self.frame.get(checked..).unwrap_or_default());
        self.frame.extend_from_slice(&crc.to_be_bytes());

        let frame = self.frame.len() as u64;
        if let Some(full) = self.current.take_if(|s| s.position() + frame > self.segment_bytes) {
            full.finish()?;
        }
        let mut sink = match self.current.take() {
            Some(sink) => sink,
            None => self.begin()?,
        };
        let reference = u64::from(self.begun - 1) << 32 | sink.position();
        sink.put(&self.frame)?;
        self.current = Some(sink);
        Ok(reference)
    }

    fn begin(&mut self) -> Result<Sink> {
        self.begun += 1;
        let mut sink = Sink::create(&self.fs, self.dir.join(format!("{:06}", self.begun)))?;
        sink.put(&MAGIC.to_be_bytes())?;
        sink.put(&[VERSION, 0, 0, 0])?;
        Ok(sink)
    }

    pub(super) fn finish(self) -> Result<()> {
        if let Some(sink) = self.current {
            sink.finish()?;
        }
        self.fs.sync_dir(&self.dir).map_err(|e| Error::io(format!("sync {}", self.dir.display()), e))
    }
}

/// Reads chunks by their references.
#[derive(Debug)]
pub(super) struct SegmentsReader {
    segments: Vec<Source>,
    dir: PathBuf,
}

impl SegmentsReader {
    pub(super) fn open(fs: &Arc<dyn Fs>, block: &Path) -> Result<Self> {
        let dir = block.join(CHUNKS);
        let listed = fs.list(&dir).map_err(|e| Error::io(format!("list {}", dir.display()), e))?;
        let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u64>().ok();
        let mut numbered: Vec<(u64, PathBuf)> =
            listed.into_iter().filter_map(|path| Some((number(&path)?, path))).collect();
        numbered.sort_unstable();
        let mut segments = Vec::with_capacity(numbered.len());
        for (expected, (number, path)) in (1..).zip(numbered) {
            // References count the files: one that is gone moves all behind it.
            if number != expected {
                let dir = dir.display();
                return Err(Error::corrupt(format!(
                    "{dir}: file {expected:06} is missing; the next is {number:06}"
                )));
            }
            let source = Source::open(fs, path)?;
            source.header(MAGIC, VERSION, "file of chunks")?;
            segments.push(source);
        }
        Ok(Self { segments, dir })
    }

    /// The format and the bytes of a chunk, its checksum checked.
    pub(super) fn chunk(&self, reference: u64) -> Result<(ChunkKind, &[u8])> {
        let (number, offset) = ((reference >> 32) as usize, reference & u64::from(u32::MAX));
        let Some(source) = self.segments.get(number) else {
            let (dir, have) = (self.dir.display(), self.segments.len());
            return Err(Error::corrupt(format!(
                "{dir}: a chunk in file {:06}; there are {have}",
                number + 1
            )));
        };
        if offset < HEADER_BYTES {
            return Err(source.corrupt(offset, "the reference of a chunk leads into the header"));
        }
        let mut cursor = Cursor::new(source.rest(offset, "a chunk")?);
        let length =
            cursor.uvarint().ok_or_else(|| source.corrupt(offset, "the length of a chunk is no number"))?;
        if length > CHUNK_BYTES_MAX {
            return Err(source
                .corrupt(offset, format_args!("a chunk of {length} bytes; the most is {CHUNK_BYTES_MAX}")));
        }
        let checked = offset + cursor.position() as u64;
        let bytes = source.bytes(checked, length + 1, "a chunk")?;
        let stored = source.number(checked + length + 1, "the checksum of a chunk")?;
        if crc32c(bytes) != stored {
            return Err(source.corrupt(offset, "the checksum of a chunk does not match"));
        }
        let (format, data) = bytes.split_first().ok_or_else(|| source.corrupt(offset, "an empty chunk"))?;
        let kind = match format {
            1 => ChunkKind::Float,
            2 => ChunkKind::Histogram,
            3 => ChunkKind::FloatHistogram,
            other => {
                let text = format!(
                    "a chunk of format {other}; Kymo knows 1 (XOR), 2 (histogram), 3 (float histogram)"
                );
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    format!("{} at {offset}: {text}", source.path().display()),
                ));
            }
        };
        Ok((kind, data))
    }

    /// Damage inside of the chunk at `reference`.
    pub(super) fn damage(&self, reference: u64, what: impl std::fmt::Display) -> Error {
        let offset = reference & u64::from(u32::MAX);
        match self.segments.get((reference >> 32) as usize) {
            Some(source) => source.corrupt(offset, what),
            None => Error::corrupt(format!("{}: {what}", self.dir.display())),
        }
    }
}

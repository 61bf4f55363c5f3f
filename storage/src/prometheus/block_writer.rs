//! Writes a block that Prometheus reads: `meta.json`, `index`, `chunks/`, `tombstones`.

use super::ChunkKind;
use super::chunk_series::chunks_of;
use super::index_writer::{IndexWriter, IndexedChunk};
use super::meta::Meta;
use super::segments::{CHUNKS, SEGMENT_BYTES, SegmentsWriter};
use super::stones::Stones;
use super::ulid::Ulid;
use crate::api::Samples;
use crate::env::Fs;
use crate::error::{Error, Result};
use crate::model::{Labels, TimeRange};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The ending that Prometheus removes at its start if it is left behind.
const UNFINISHED: &str = ".tmp-for-creation";

/// Takes series in the order of their labels. Dropped before [`BlockWriter::finish`], it removes what it has written.
///
/// Memory: the texts of the labels, four bytes for each label of each series, and one series.
#[derive(Debug)]
pub struct BlockWriter {
    fs: Arc<dyn Fs>,
    out: PathBuf,
    temporary: PathBuf,
    meta: Meta,
    parts: Option<(IndexWriter, SegmentsWriter)>,
    chunks: Vec<IndexedChunk>,
}

impl BlockWriter {
    /// Begins the block `out`/`ulid` of the times in `range`. `symbols` are all label names and values that will come, or more.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn create(
        fs: &Arc<dyn Fs>,
        out: &Path,
        ulid: Ulid,
        range: TimeRange,
        symbols: BTreeSet<String>,
    ) -> Result<Self> {
        Self::create_with(fs, out, ulid, range, symbols, SEGMENT_BYTES)
    }

    /// The same with files of chunks of at most `segment_bytes`.
    pub(super) fn create_with(
        fs: &Arc<dyn Fs>,
        out: &Path,
        ulid: Ulid,
        range: TimeRange,
        symbols: BTreeSet<String>,
        segment_bytes: u64,
    ) -> Result<Self> {
        let temporary = out.join(format!("{ulid}{UNFINISHED}"));
        fs.create_dir_all(&temporary).map_err(|e| Error::io(format!("create {}", temporary.display()), e))?;
        let (fs, out) = (Arc::clone(fs), out.to_owned());
        let meta = Meta::new(ulid, range);
        let mut writer = Self { fs, out, temporary, meta, parts: None, chunks: Vec::new() };
        let segments = SegmentsWriter::create(&writer.fs, &writer.temporary, segment_bytes)?;
        let index = IndexWriter::create(&writer.fs, &writer.temporary, symbols)?;
        writer.parts = Some((index, segments));
        Ok(writer)
    }

    /// Adds a series. One without samples is left out.
    ///
    /// # Errors
    /// `Internal`: the series is not behind the one before, or a text is not among the symbols; otherwise the disk refuses.
    pub fn add(&mut self, labels: &Labels, samples: &Samples) -> Result<()> {
        let Some((index, segments)) = &mut self.parts else { return Ok(()) };
        let (chunks, stats) = (&mut self.chunks, &mut self.meta.stats);
        chunks.clear();
        chunks_of(samples, |chunk| {
            let reference = segments.add(chunk.kind, &chunk.bytes)?;
            chunks.push(IndexedChunk { first: chunk.first, last: chunk.last, reference });
            stats.num_samples += chunk.samples as u64;
            match chunk.kind {
                ChunkKind::Float => stats.num_float_samples += chunk.samples as u64,
                ChunkKind::Histogram | ChunkKind::FloatHistogram => {
                    stats.num_histogram_samples += chunk.samples as u64;
                }
            }
            Ok::<(), Error>(())
        })?;
        if chunks.is_empty() {
            return Ok(());
        }
        stats.num_chunks += chunks.len() as u64;
        stats.num_series += 1;
        index.add(labels, chunks)
    }

    /// Makes the block durable under its name; nothing if it has no series.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(mut self) -> Result<Option<Meta>> {
        let Some((index, segments)) = self.parts.take() else { return Ok(None) };
        if self.meta.stats.num_series == 0 {
            return Ok(None);
        }
        segments.finish()?;
        index.finish()?;
        Stones::write_none(&self.fs, &self.temporary)?;
        self.meta.write(&self.fs, &self.temporary)?;
        let sync =
            |dir: &Path| self.fs.sync_dir(dir).map_err(|e| Error::io(format!("sync {}", dir.display()), e));
        sync(&self.temporary)?;
        let path = self.out.join(&self.meta.ulid);
        self.fs.rename(&self.temporary, &path).map_err(|e| {
            Error::io(format!("rename {} to {}", self.temporary.display(), path.display()), e)
        })?;
        sync(&self.out)?;
        Ok(Some(self.meta.clone()))
    }
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        // What was finished has another name by now. What cannot be removed, Prometheus removes.
        self.parts = None;
        for dir in [self.temporary.join(CHUNKS), self.temporary.clone()] {
            for file in self.fs.list(&dir).unwrap_or_default() {
                let _ = self.fs.remove(&file);
            }
            let _ = self.fs.remove_dir(&dir);
        }
    }
}

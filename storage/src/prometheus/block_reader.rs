//! Reads a block of Prometheus: every file may be damaged, every checksum is looked at before its bytes are trusted.

use super::index_reader::IndexReader;
use super::index_writer::IndexedChunk;
use super::meta::Meta;
use super::segments::SegmentsReader;
use super::stones::Stones;
use super::{ChunkKind, FloatChunkReader, FloatHistogramChunkReader, HistogramChunkReader};
use crate::env::Fs;
use crate::error::Result;
use crate::model::{AnyHistogram, Labels, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a series has at one time.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockSample {
    /// A float.
    Float(f64),
    /// A native histogram.
    Histogram(AnyHistogram),
}

/// An open block.
#[derive(Debug)]
pub struct BlockReader {
    dir: PathBuf,
    meta: Meta,
    index: IndexReader,
    segments: SegmentsReader,
    stones: Stones,
}

impl BlockReader {
    /// Opens the block in `dir`.
    ///
    /// # Errors
    /// `Corrupt`: a file is damaged, or of a version that Kymo does not read; otherwise the operating system refuses.
    pub fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Result<Self> {
        Ok(Self {
            meta: Meta::read(fs, dir)?,
            index: IndexReader::open(fs, dir)?,
            segments: SegmentsReader::open(fs, dir)?,
            stones: Stones::read(fs, dir)?,
            dir: dir.to_owned(),
        })
    }

    /// What the block says about itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many series it has.
    pub fn series_count(&self) -> usize {
        self.index.series().len()
    }

    /// Hands over the samples of series `number` (they are in the order of their labels) in the order they are stored, without
    /// those that are deleted or outside of the block's times. Answers the labels, which `begin` gets first.
    ///
    /// # Errors
    /// `Corrupt`: damage; what was handed over before is sound. Errors of the callbacks are passed on.
    pub fn read<S>(
        &self,
        number: usize,
        begin: impl FnOnce(&Labels) -> Result<S>,
        mut each: impl FnMut(&mut S, Timestamp, BlockSample) -> Result<()>,
    ) -> Result<()> {
        let Some(reference) = self.index.series().get(number) else { return Ok(()) };
        let mut chunks = Vec::new();
        let labels = self.index.read(*reference, &mut chunks)?;
        let mut state = begin(&labels)?;
        let range = self.meta.range();
        let mut put = |time: Timestamp, sample: BlockSample| {
            if !range.contains(time) || self.stones.covers(u64::from(*reference), time) {
                return Ok(());
            }
            each(&mut state, time, sample)
        };
        for chunk in &chunks {
            self.read_chunk(chunk, &labels, &mut put)?;
        }
        Ok(())
    }

    fn read_chunk(
        &self,
        chunk: &IndexedChunk,
        labels: &Labels,
        put: &mut impl FnMut(Timestamp, BlockSample) -> Result<()>,
    ) -> Result<()> {
        let damage = |e| self.segments.damage(chunk.reference, format_args!("series {labels}: {e}"));
        let (kind, bytes) =
            self.segments.chunk(chunk.reference).map_err(|e| e.context(format!("series {labels}")))?;
        match kind {
            ChunkKind::Float => {
                for sample in FloatChunkReader::new(bytes).map_err(damage)? {
                    let (time, value) = sample.map_err(damage)?;
                    put(time, BlockSample::Float(value))?;
                }
            }
            ChunkKind::Histogram => {
                for sample in HistogramChunkReader::new(bytes).map_err(damage)? {
                    let (time, histogram) = sample.map_err(damage)?;
                    put(time, BlockSample::Histogram(AnyHistogram::Int(histogram)))?;
                }
            }
            ChunkKind::FloatHistogram => {
                for sample in FloatHistogramChunkReader::new(bytes).map_err(damage)? {
                    let (time, histogram) = sample.map_err(damage)?;
                    put(time, BlockSample::Histogram(AnyHistogram::Float(histogram)))?;
                }
            }
        }
        Ok(())
    }
}

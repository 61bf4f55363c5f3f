//! The samples of a series cut into chunks.

use super::{ChunkKind, FloatChunkWriter, FloatHistogramChunkWriter, HistogramChunkWriter};
use crate::api::Samples;
use crate::model::{AnyHistogram, FloatHistogram, Timestamp};

/// After so many samples a chunk is full; readers of the field are used to that.
const CHUNK_SAMPLES: usize = 120;

/// A chunk and what is known of it without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Time of its first sample.
    pub first: Timestamp,
    /// Time of its last sample.
    pub last: Timestamp,
    /// The format of the bytes.
    pub kind: ChunkKind,
    /// How many samples it has.
    pub samples: usize,
    /// The chunk.
    pub bytes: Vec<u8>,
}

/// The chunk that is being built.
enum Writer {
    Float(FloatChunkWriter),
    Whole(HistogramChunkWriter),
    Histogram(FloatHistogramChunkWriter),
}

struct Open {
    first: Timestamp,
    last: Timestamp,
    writer: Writer,
}

impl Open {
    fn samples(&self) -> usize {
        match &self.writer {
            Writer::Float(writer) => writer.len(),
            Writer::Whole(writer) => writer.samples(),
            Writer::Histogram(writer) => writer.samples(),
        }
    }

    fn finish(self) -> Chunk {
        let samples = self.samples();
        let (kind, bytes) = match self.writer {
            Writer::Float(writer) => (ChunkKind::Float, writer.finish()),
            Writer::Whole(writer) => (ChunkKind::Histogram, writer.finish()),
            Writer::Histogram(writer) => (ChunkKind::FloatHistogram, writer.finish()),
        };
        Chunk { first: self.first, last: self.last, kind, samples, bytes }
    }
}

/// What is stored at one time.
enum Sample<'a> {
    Float(f64),
    Histogram(AnyHistogram),
    /// A staleness marker of a histogram: of either kind.
    Stale(&'a FloatHistogram),
}

/// Cuts `samples` into chunks and hands them over in the order of time. Histograms whose counts are whole are written so.
///
/// # Errors
/// Those of `emit`; the rest is not cut then.
pub fn chunks_of<E>(samples: &Samples, mut emit: impl FnMut(Chunk) -> Result<(), E>) -> Result<(), E> {
    let mut open: Option<Open> = None;
    let mut put = |time, sample: &Sample<'_>| {
        let full = open.as_ref().is_some_and(|o| o.samples() >= CHUNK_SAMPLES);
        if let Some(current) = open.as_mut().filter(|_| !full)
            && push(&mut current.writer, time, sample)
        {
            current.last = time;
            return Ok(());
        }
        let next = Open { first: time, last: time, writer: begin(time, sample) };
        open.replace(next).map_or(Ok(()), |done| emit(done.finish()))
    };
    let mut histograms = samples.histograms.iter().peekable();
    for (time, value) in samples.timestamps.iter().zip(&samples.values) {
        while let Some(earlier) = histograms.next_if(|h| h.timestamp < *time) {
            put(earlier.timestamp, &sample_of(&earlier.histogram))?;
        }
        put(*time, &Sample::Float(*value))?;
    }
    for rest in histograms {
        put(rest.timestamp, &sample_of(&rest.histogram))?;
    }
    open.map_or(Ok(()), |done| emit(done.finish()))
}

fn sample_of(histogram: &FloatHistogram) -> Sample<'_> {
    if histogram.is_stale() {
        return Sample::Stale(histogram);
    }
    Sample::Histogram(match histogram.to_whole() {
        Some(whole) => AnyHistogram::Int(whole),
        None => AnyHistogram::Float(histogram.clone()),
    })
}

fn push(writer: &mut Writer, time: Timestamp, sample: &Sample<'_>) -> bool {
    match (writer, sample) {
        (Writer::Float(writer), Sample::Float(value)) => writer.push(time, *value),
        (Writer::Whole(writer), Sample::Histogram(AnyHistogram::Int(h))) => writer.push(time, h),
        (Writer::Histogram(writer), Sample::Histogram(AnyHistogram::Float(h))) => writer.push(time, h),
        (Writer::Whole(writer), Sample::Stale(_)) => writer.push(time, &crate::model::IntHistogram::stale()),
        (Writer::Histogram(writer), Sample::Stale(h)) => writer.push(time, h),
        _ => false,
    }
}

fn begin(time: Timestamp, sample: &Sample<'_>) -> Writer {
    match sample {
        Sample::Float(value) => {
            let mut writer = FloatChunkWriter::new();
            // An empty chunk has room.
            let _ = writer.push(time, *value);
            Writer::Float(writer)
        }
        Sample::Histogram(AnyHistogram::Int(h)) => Writer::Whole(HistogramChunkWriter::new(time, h)),
        Sample::Histogram(AnyHistogram::Float(h)) => {
            Writer::Histogram(FloatHistogramChunkWriter::new(time, h))
        }
        Sample::Stale(h) => Writer::Histogram(FloatHistogramChunkWriter::new(time, h)),
    }
}

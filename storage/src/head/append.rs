//! What a request thread builds and gets back: `WriteBatch`, `CommitReport`.

use super::histograms::Encoded;
use super::refusal::Refusal;
use super::registry::{Position, Registry};
use crate::chunk::encode_one_histogram;
use crate::error::ErrorKind;
use crate::model::{AnyHistogram, Labels, Metadata, SeriesRef, Timestamp};
use std::sync::Arc;

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Samples that are stored now (one that was there already, bit for bit, counts).
    pub accepted: u64,
    /// How many of these are histograms.
    pub accepted_histograms: u64,
    /// Samples refused.
    pub refused_total: u64,
    /// The first of them.
    pub refused: Vec<Refusal>,
}

/// How many refusals a report spells out.
pub(crate) const REFUSALS_MAX: usize = 10;

/// A histogram that was checked.
pub(crate) struct NewHistogram {
    pub(crate) series: u32,
    pub(crate) time: Timestamp,
    pub(crate) bytes: Encoded,
}

/// Samples to be committed together: readers see all of them or none.
pub struct WriteBatch {
    registry: Arc<Registry>,
    position: Position,
    pub(crate) series: Vec<u32>,
    pub(crate) timestamps: Vec<Timestamp>,
    pub(crate) values: Vec<f64>,
    /// Judged after the floats.
    pub(crate) histograms: Vec<NewHistogram>,
    pub(crate) metadata: Vec<(String, Metadata)>,
}

impl WriteBatch {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            position: Position::default(),
            series: Vec::new(),
            timestamps: Vec::new(),
            values: Vec::new(),
            histograms: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// The series whose labels `wire_label_bytes` encode, as in protobuf `repeated Label labels = 1`; known from now on.
    /// The bytes are taken apart only when they were never seen before.
    ///
    /// # Errors
    /// The labels are malformed (`Invalid`) or a limit is met (`LimitExceeded`).
    #[inline]
    pub fn series(&mut self, wire_label_bytes: &[u8]) -> std::result::Result<SeriesRef, Refusal> {
        self.registry.resolve(wire_label_bytes, &mut self.position)
    }

    /// The series with `labels`.
    ///
    /// # Errors
    /// As [`WriteBatch::series`].
    pub fn series_labels(&mut self, labels: &Labels) -> std::result::Result<SeriesRef, Refusal> {
        self.registry.resolve(labels.as_bytes(), &mut self.position)
    }

    /// Adds a sample of `series`, a number this store gave.
    #[inline]
    pub fn sample(&mut self, series: SeriesRef, timestamp: Timestamp, value: f64) {
        self.series.push(series.0);
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    /// Adds a native histogram of `series`, a number this store gave. Within one batch, floats of the series come before it.
    /// A schema above 8 is reduced to 8, empty buckets are left out.
    ///
    /// # Errors
    /// The histogram contradicts itself (`Invalid`) or has too many buckets (`LimitExceeded`); the batch is as before.
    pub fn histogram(
        &mut self,
        series: SeriesRef,
        timestamp: Timestamp,
        mut histogram: AnyHistogram,
    ) -> std::result::Result<(), Refusal> {
        let accepted = histogram.accept().map_err(|e| (ErrorKind::Invalid, e.to_string()));
        let (buckets, limit) = (histogram.buckets(), self.registry.limits().histogram_buckets);
        let judged = accepted.and_then(|()| {
            let text = || format!("histogram has {buckets} buckets, the limit is {limit}");
            if buckets <= limit { Ok(()) } else { Err((ErrorKind::LimitExceeded, text())) }
        });
        if let Err((kind, reason)) = judged {
            let labels = self.registry.labels(series.0);
            return Err(Refusal { kind, labels, timestamp: Some(timestamp), reason });
        }
        let mut bytes = Vec::with_capacity(32 + 2 * buckets);
        encode_one_histogram(&histogram, &mut bytes);
        self.histograms.push(NewHistogram { series: series.0, time: timestamp, bytes: bytes.into() });
        Ok(())
    }

    /// Sets what is known about the metric family `family`. Unit and help are cut to the length a label value may have; a
    /// family with a longer name, of which there can be no series, is passed over.
    pub fn metadata(&mut self, family: &str, mut metadata: Metadata) {
        let limit = self.registry.limits().label_value_bytes;
        if family.len() <= limit {
            cut(&mut metadata.unit, limit);
            cut(&mut metadata.help, limit);
            self.metadata.push((family.to_owned(), metadata));
        }
    }

    /// What the batch takes of the queue's room, in samples: its histograms and metadata count as the samples that take
    /// as many bytes.
    pub(crate) fn weight(&self) -> usize {
        let texts = self.metadata.iter().map(|(f, m)| 64 + f.len() + m.unit.len() + m.help.len());
        let histograms = self.histograms.iter().map(|h| 64 + h.bytes.len());
        self.series.len() + (texts.sum::<usize>() + histograms.sum::<usize>()) / 20
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.series.len() + self.histograms.len()
    }

    /// Whether there are neither samples nor metadata.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty() && self.histograms.is_empty() && self.metadata.is_empty()
    }
}

/// Cuts a text to at most `limit` bytes, between characters.
fn cut(text: &mut String, limit: usize) {
    let end = (0..=limit.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
}

impl std::fmt::Debug for WriteBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WriteBatch({} samples)", self.len())
    }
}

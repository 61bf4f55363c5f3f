//! What a request thread builds and gets back: `WriteBatch`, `CommitReport`.

use super::refusal::Refusal;
use super::registry::{Position, Registry};
use crate::model::{Labels, Metadata, SeriesRef, Timestamp};
use std::sync::Arc;

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitReport {
    /// Samples that are stored now (one that was there already, bit for bit, counts).
    pub accepted: u64,
    /// Samples refused.
    pub refused_total: u64,
    /// The first of them.
    pub refused: Vec<Refusal>,
}

/// How many refusals a report spells out.
pub(crate) const REFUSALS_MAX: usize = 10;

/// Samples to be committed together: readers see all of them or none.
pub struct WriteBatch {
    registry: Arc<Registry>,
    position: Position,
    pub(crate) series: Vec<u32>,
    pub(crate) timestamps: Vec<Timestamp>,
    pub(crate) values: Vec<f64>,
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

    /// What the batch takes of the queue's room, in samples: its metadata counts as the samples that take as many bytes.
    pub(crate) fn weight(&self) -> usize {
        let texts = self.metadata.iter().map(|(f, m)| 64 + f.len() + m.unit.len() + m.help.len());
        self.series.len() + texts.sum::<usize>() / 20
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are neither samples nor metadata.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty() && self.metadata.is_empty()
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

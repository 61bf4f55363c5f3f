//! What a request thread builds and gets back: `WriteBatch`, `CommitReport`.

use super::histograms::Encoded;
use super::refusal::Refusal;
use super::registry::{Position, Registry};
use super::retired::Pin;
use crate::chunk::encode_one_histogram;
use crate::error::ErrorKind;
use crate::model::{
    AnyHistogram, EXEMPLAR_LABEL_CHARS_MAX, Exemplar, Labels, Metadata, SeriesRef, Timestamp,
};
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
    /// Exemplars that are stored now, or were already. Not among the samples.
    pub exemplars_accepted: u64,
    /// Exemplars refused: older than the newest of their series, or out of bounds.
    pub exemplars_refused_total: u64,
    /// The first of them.
    pub exemplars_refused: Vec<Refusal>,
}

/// How many refusals a report spells out.
pub(crate) const REFUSALS_MAX: usize = 10;

/// A histogram that was checked.
pub(crate) struct NewHistogram {
    pub(crate) series: u32,
    pub(crate) time: Timestamp,
    /// 0 if it is not known.
    pub(crate) start: Timestamp,
    pub(crate) bytes: Encoded,
}

/// Samples to be committed together: readers see all of them or none.
pub struct WriteBatch {
    registry: Arc<Registry>,
    /// Keeps the numbers below what they are.
    _pin: Pin,
    position: Position,
    pub(crate) series: Vec<u32>,
    pub(crate) timestamps: Vec<Timestamp>,
    pub(crate) values: Vec<f64>,
    /// Start timestamps, up to the last that is known.
    pub(crate) starts: Vec<Timestamp>,
    /// Judged after the floats.
    pub(crate) histograms: Vec<NewHistogram>,
    pub(crate) exemplars: Vec<(u32, Exemplar)>,
    pub(crate) metadata: Vec<(String, Metadata)>,
}

impl WriteBatch {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self {
            _pin: registry.pin(),
            registry,
            position: Position::default(),
            series: Vec::new(),
            timestamps: Vec::new(),
            values: Vec::new(),
            starts: Vec::new(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
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
        self.series.push(self.registry.number_of(series));
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    /// Makes room for so many more samples, so that adding them does not stop for it.
    pub fn reserve(&mut self, samples: usize) {
        self.series.reserve(samples);
        self.timestamps.reserve(samples);
        self.values.reserve(samples);
    }

    /// Adds samples of `series`, a number this store gave: pairs of what the two slices hold, as far as both go.
    pub fn samples(&mut self, series: SeriesRef, timestamps: &[Timestamp], values: &[f64]) {
        let count = timestamps.len().min(values.len());
        self.series.resize(self.series.len() + count, self.registry.number_of(series));
        self.timestamps.extend(timestamps.iter().take(count));
        self.values.extend(values.iter().take(count));
    }

    /// As [`WriteBatch::sample`], for a sample that counts since `start` (milliseconds since the Unix epoch); 0 if that is not
    /// known.
    pub fn sample_with_start(
        &mut self,
        series: SeriesRef,
        timestamp: Timestamp,
        start: Timestamp,
        value: f64,
    ) {
        if start != 0 {
            self.starts.resize(self.series.len(), 0);
            self.starts.push(start);
        }
        self.sample(series, timestamp, value);
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
        histogram: AnyHistogram,
    ) -> std::result::Result<(), Refusal> {
        self.histogram_with_start(series, timestamp, 0, histogram)
    }

    /// As [`WriteBatch::histogram`], for one that counts since `start` (milliseconds since the Unix epoch); 0 if that is not
    /// known.
    ///
    /// # Errors
    /// As [`WriteBatch::histogram`].
    pub fn histogram_with_start(
        &mut self,
        series: SeriesRef,
        timestamp: Timestamp,
        start: Timestamp,
        mut histogram: AnyHistogram,
    ) -> std::result::Result<(), Refusal> {
        let accepted = histogram.accept().map_err(|e| (ErrorKind::Invalid, e.to_string()));
        let (buckets, limit) = (histogram.buckets(), self.registry.limits().histogram_buckets);
        let judged = accepted.and_then(|()| {
            let text = || format!("histogram has {buckets} buckets, the limit is {limit}");
            if buckets <= limit { Ok(()) } else { Err((ErrorKind::LimitExceeded, text())) }
        });
        if let Err((kind, reason)) = judged {
            let labels = self.registry.labels(self.registry.number_of(series));
            return Err(Refusal { kind, labels, timestamp: Some(timestamp), reason });
        }
        let mut bytes = Vec::with_capacity(32 + 2 * buckets);
        encode_one_histogram(&histogram, &mut bytes);
        let (series, bytes) = (self.registry.number_of(series), bytes.into());
        self.histograms.push(NewHistogram { series, time: timestamp, start, bytes });
        Ok(())
    }

    /// Adds an exemplar of `series`, a number this store gave. It need not be of a sample of the batch. Those of one series come
    /// in the order of time; one that is there already is nothing new.
    ///
    /// # Errors
    /// The labels are too long (`LimitExceeded`, see [`EXEMPLAR_LABEL_CHARS_MAX`]); the batch is as before.
    pub fn exemplar(&mut self, series: SeriesRef, exemplar: Exemplar) -> std::result::Result<(), Refusal> {
        let chars = exemplar.label_chars();
        if chars > EXEMPLAR_LABEL_CHARS_MAX {
            return Err(Refusal {
                kind: ErrorKind::LimitExceeded,
                labels: self.registry.labels(self.registry.number_of(series)),
                timestamp: Some(exemplar.timestamp),
                reason: format!(
                    "the labels of the exemplar have {chars} characters, the limit is {EXEMPLAR_LABEL_CHARS_MAX}"
                ),
            });
        }
        if self.registry.limits().exemplars_per_series > 0 {
            self.exemplars.push((self.registry.number_of(series), exemplar));
        }
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

    /// What the batch takes of the queue's room, in samples: all else counts as the samples that take as many bytes.
    pub fn weight(&self) -> usize {
        self.series.len() + self.other_bytes() / 20
    }

    /// About the bytes of memory of all that is no float.
    fn other_bytes(&self) -> usize {
        let texts = self.metadata.iter().map(|(f, m)| 64 + f.len() + m.unit.len() + m.help.len());
        let histograms = self.histograms.iter().map(|h| 64 + h.bytes.len());
        let exemplars = self.exemplars.iter().map(|(_, e)| 64 + e.labels.as_bytes().len());
        texts.sum::<usize>()
            + histograms.sum::<usize>()
            + exemplars.sum::<usize>()
            + self.starts.len() * size_of::<Timestamp>()
    }

    /// No fewer bytes than the batch takes in the log.
    pub(crate) fn log_bytes_max(&self) -> usize {
        const SAMPLE_BYTES_MAX: usize = 6 + 11 + 9;
        const START_BYTES_MAX: usize = 20;
        self.series.len() * SAMPLE_BYTES_MAX + self.other_bytes() + self.starts.len() * START_BYTES_MAX
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.series.len() + self.histograms.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        let samples = self.series.is_empty() && self.histograms.is_empty();
        samples && self.exemplars.is_empty() && self.metadata.is_empty()
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

//! The last step of every door: one thing into a batch.

use crate::wire::remote_write_histogram::SentHistogram;
use kymo_storage::ErrorKind;
use kymo_storage::db::{Refusal, Storage, WriteBatch};
use kymo_storage::model::{Exemplar, Labels, Metadata, SeriesRef, Timestamp};

/// Adds a sample; `start` is when counting began, 0 if that is not known.
#[inline]
pub(super) fn sample(
    batch: &mut WriteBatch,
    series: SeriesRef,
    timestamp: Timestamp,
    start: Timestamp,
    value: f64,
) {
    batch.sample_with_start(series, timestamp, start, value);
}

/// Adds a native histogram as it was sent; `labels` are those of the series, for messages.
///
/// # Errors
/// It contradicts itself or is too large.
pub(super) fn histogram(
    batch: &mut WriteBatch,
    series: SeriesRef,
    sent: SentHistogram,
    labels: impl FnOnce() -> Labels,
) -> Result<(), Refusal> {
    let timestamp = sent.timestamp;
    match sent.histogram {
        Ok(histogram) => batch.histogram_with_start(series, timestamp, sent.start_timestamp, histogram),
        Err(error) => Err(Refusal {
            kind: ErrorKind::Invalid,
            labels: labels(),
            timestamp: Some(timestamp),
            reason: error.to_string(),
        }),
    }
}

/// Adds an exemplar, whose labels `wire_label_bytes` encode as those of a series.
///
/// # Errors
/// The labels are malformed or too long.
pub(super) fn exemplar(
    batch: &mut WriteBatch,
    series: (SeriesRef, &dyn Fn() -> Labels),
    wire_label_bytes: &[u8],
    value: f64,
    timestamp: Timestamp,
) -> Result<(), Refusal> {
    let labels = Labels::from_wire(wire_label_bytes).map_err(|error| Refusal {
        kind: ErrorKind::Invalid,
        labels: series.1(),
        timestamp: Some(timestamp),
        reason: format!("labels of an exemplar: {error}"),
    })?;
    batch.exemplar(series.0, Exemplar { labels, value, timestamp })
}

/// Adds what is said of a metric family, unless the store knows that already: senders repeat it all the time.
pub(super) fn metadata(batch: &mut WriteBatch, storage: &Storage, family: &str, metadata: &Metadata) {
    if !storage.knows_metadata(family, metadata) {
        batch.metadata(family, metadata.clone());
    }
}

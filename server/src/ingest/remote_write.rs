//! The remote-write receiver: what is stored, what is refused, and how that is said.
//!
//! The good part of a request is stored; the rest is named in a 400. A body that is not a request changes nothing: it is
//! decoded to its end before storage hears of it.

use crate::error::{ApiError, Side};
use crate::telemetry::Metrics;
use crate::wire::body;
use crate::wire::remote_write_v1::{self, WriteRequest};
use kymo_storage::db::{CommitReport, Refusal, Storage, WriteBatch};
use kymo_storage::model::Labels;
use kymo_storage::{ErrorKind, Result};
use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Arc;

/// Samples of one request. A body within its limit could hold millions of two-byte samples; senders send thousands.
const SAMPLES_PER_REQUEST_MAX: usize = 1_000_000;
/// Refusals spelled out in a response.
const REFUSALS_SHOWN: usize = 10;
/// Longest text of one refusal: labels may be as long as the sender likes.
const REFUSAL_BYTES_MAX: usize = 600;

/// A decoding buffer larger than this is given back after use.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

thread_local! {
    /// Where this thread decompresses bodies: fresh memory for each would cost as much as decoding it.
    static DECODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What a write needs.
#[derive(Clone)]
pub struct Receiver {
    /// Where samples go.
    pub storage: Storage,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The largest decoded body.
    pub decoded_bytes_max: usize,
    /// The series limit of the store: when it is what refuses, trying later can help.
    pub series_max: u64,
}

/// A request resolved against the store, ready to be committed.
pub struct Prepared {
    batch: WriteBatch,
    sent: u64,
    refusals: Refusals,
}

/// What was refused so far.
#[derive(Default)]
struct Refusals {
    total: u64,
    shown: Vec<Refusal>,
    /// Whether all of them are limits.
    only_limits: bool,
}

impl Refusals {
    fn add(&mut self, refusal: Refusal, samples: u64) {
        self.only_limits = (self.total == 0 || self.only_limits) && refusal.kind == ErrorKind::LimitExceeded;
        self.total += samples;
        if self.shown.len() < REFUSALS_SHOWN {
            self.shown.push(refusal);
        }
    }
}

impl Receiver {
    /// Decodes `block` (snappy) and resolves its series. `accept` is asked between decompression and decoding, because that is
    /// where Prometheus judges the type of a body. Does not wait for anything but a free lock.
    ///
    /// # Errors
    /// The body is not a remote-write 1.0 request, or too large; or what `accept` says. Storage has heard of nothing then.
    pub fn prepare(
        &self,
        block: &[u8],
        accept: impl FnOnce() -> std::result::Result<(), ApiError>,
    ) -> std::result::Result<Prepared, ApiError> {
        let refuse =
            |e: &dyn std::fmt::Display| ApiError::new(Side::Write, ErrorKind::Invalid, e.to_string());
        DECODED.with_borrow_mut(|buffer| {
            let decoded = body::snappy(block, self.decoded_bytes_max, buffer).map_err(|e| refuse(&e))?;
            accept()?;
            self.metrics.ingest_body_bytes.add(block.len() as u64);
            self.metrics.ingest_decoded_bytes.add(decoded.len() as u64);
            let request =
                remote_write_v1::decode(decoded, SAMPLES_PER_REQUEST_MAX).map_err(|e| refuse(&e))?;
            let prepared = self.resolve(request);
            if buffer.len() > BUFFER_KEPT_BYTES {
                *buffer = Vec::new();
            }
            Ok(prepared)
        })
    }

    fn resolve(&self, request: WriteRequest<'_>) -> Prepared {
        let mut batch = self.storage.batch();
        let mut refusals = Refusals::default();
        let sent = (request.samples.len() + request.histograms.len()) as u64;
        let mut histograms = request.histograms.into_iter();
        for series in &request.series {
            let samples = request.samples.get(series.samples.clone()).unwrap_or_default();
            // A refused series counts with all it carries, and at least as one.
            let carried = (samples.len() + series.histograms.len()) as u64;
            let own = histograms.by_ref().take(series.histograms.len());
            let id = match batch.series(&series.labels) {
                Ok(id) => id,
                Err(refusal) => {
                    self.count(&refusal);
                    refusals.add(refusal, carried.max(1));
                    own.for_each(drop);
                    continue;
                }
            };
            for sample in samples {
                batch.sample(id, sample.timestamp, sample.value);
            }
            for sent in own {
                let timestamp = sent.timestamp;
                let stored = match sent.histogram {
                    Ok(histogram) => batch.histogram(id, timestamp, histogram),
                    Err(error) => Err(Refusal {
                        kind: ErrorKind::Invalid,
                        labels: Labels::from_wire(&series.labels).unwrap_or_default(),
                        timestamp: Some(timestamp),
                        reason: error.to_string(),
                    }),
                };
                if let Err(refusal) = stored {
                    self.count(&refusal);
                    refusals.add(refusal, 1);
                }
            }
        }
        for (family, metadata) in &request.metadata {
            batch.metadata(family, metadata.clone());
        }
        Prepared { batch, sent, refusals }
    }

    /// Commits what was prepared and says what became of it: `None` if all is stored, else the refusals.
    ///
    /// # Errors
    /// The store takes no writes now, or the disk refuses; nothing of the request is stored.
    pub async fn commit(&self, prepared: Prepared) -> std::result::Result<(), ApiError> {
        let Prepared { batch, sent, mut refusals } = prepared;
        let report = if batch.is_empty() { CommitReport::default() } else { self.append(batch).await? };
        self.metrics.ingest_samples_accepted.add(report.accepted);
        let spelled_out = report.refused.len() as u64;
        for refusal in report.refused {
            self.count(&refusal);
            refusals.add(refusal, 1);
        }
        refusals.total += report.refused_total.saturating_sub(spelled_out);
        if refusals.total == 0 { Ok(()) } else { Err(self.refused(&refusals, sent)) }
    }

    async fn append(&self, batch: WriteBatch) -> std::result::Result<CommitReport, ApiError> {
        let (sender, receiver) = tokio::sync::oneshot::channel::<Result<CommitReport>>();
        let done = Box::new(move |result| {
            // Nobody listens when the client has left; the samples are stored all the same.
            let _ = sender.send(result);
        });
        self.storage.submit(batch, done);
        match receiver.await {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => Err(ApiError::storage(Side::Write, &error)),
            Err(_) => Err(ApiError::new(Side::Write, ErrorKind::Unavailable, "the store is closed")),
        }
    }

    fn count(&self, refusal: &Refusal) {
        let reason = match refusal.kind {
            ErrorKind::OutOfBounds => "out_of_bounds",
            ErrorKind::Duplicate => "duplicate",
            ErrorKind::LimitExceeded => "limit",
            _ => "invalid",
        };
        self.metrics.ingest_refused.get(reason).inc();
    }

    /// The answer to a request that was stored in part. Senders log its first line, so that says most.
    fn refused(&self, refusals: &Refusals, sent: u64) -> ApiError {
        let mut text = String::new();
        for (i, refusal) in refusals.shown.iter().enumerate() {
            let mut line = format!("{}: series {}", refusal.reason, refusal.labels);
            if let Some(timestamp) = refusal.timestamp {
                // Writing to a string cannot fail.
                let _ = write!(line, " at {timestamp}");
            }
            if line.len() > REFUSAL_BYTES_MAX {
                let end = (0..=REFUSAL_BYTES_MAX).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
                line.truncate(end);
                line.push('…');
            }
            let total = refusals.total;
            let _ = match i {
                0 => writeln!(text, "{total} of {sent} samples refused, the others are stored: {line}"),
                _ => writeln!(text, "{line}"),
            };
        }
        if refusals.total > refusals.shown.len() as u64 {
            let _ = writeln!(text, "and {} more", refusals.total - refusals.shown.len() as u64);
        }
        let full = refusals.only_limits && self.storage.stats().series >= self.series_max;
        let kind = if full { ErrorKind::LimitExceeded } else { ErrorKind::Invalid };
        ApiError::new(Side::Write, kind, text)
    }
}

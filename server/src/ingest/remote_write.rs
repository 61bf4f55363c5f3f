//! The remote-write receiver: what is stored, what is refused, and how that is said.
//!
//! The good part of a request is stored; the rest is named in a 400. A body that is not a request changes nothing: it is
//! decoded to its end before storage hears of it.

pub use super::receiver::{Prepared, Receiver};
use super::{remote_write_v1, remote_write_v2};
use crate::error::{ApiError, Side};
use crate::wire::{self, body};
use kymo_storage::db::{CommitReport, WriteBatch};
use kymo_storage::{ErrorKind, Result};
use std::cell::RefCell;

/// Samples of one request. A body within its limit could hold millions of two-byte samples; senders send thousands.
const SAMPLES_PER_REQUEST_MAX: usize = 1_000_000;

/// A decoding buffer larger than this is given back after use.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

thread_local! {
    /// Where this thread decompresses bodies: fresh memory for each would cost as much as decoding it.
    static DECODED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The messages that remote write has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

/// How much of a request is stored, what was there already included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Floats.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// What became of a request.
#[derive(Debug)]
pub struct Outcome {
    /// What is stored.
    pub written: Written,
    /// How many samples and histograms were refused.
    pub refused_samples: u64,
    /// What was refused; `None` if nothing was.
    pub refused: Option<ApiError>,
}

impl Receiver {
    /// Decodes `block` (snappy) and resolves its series. The type of the message is judged between decompression and decoding,
    /// because that is where Prometheus judges it. Does not wait for anything but a free lock.
    ///
    /// # Errors
    /// The body is not such a message, or too large; or what `message` says. Storage has heard of nothing then.
    pub fn prepare(
        &self,
        block: &[u8],
        message: std::result::Result<Message, ApiError>,
    ) -> std::result::Result<Prepared, ApiError> {
        let refuse =
            |e: &dyn std::fmt::Display| ApiError::new(Side::Write, ErrorKind::Invalid, e.to_string());
        DECODED.with_borrow_mut(|buffer| {
            let decoded = body::snappy(block, self.decoded_bytes_max, buffer).map_err(|e| refuse(&e))?;
            let message = message?;
            self.metrics.ingest_body_bytes.add(block.len() as u64);
            self.metrics.ingest_decoded_bytes.add(decoded.len() as u64);
            let prepared = match message {
                Message::V1 => wire::remote_write_v1::decode(decoded, SAMPLES_PER_REQUEST_MAX)
                    .map(|request| remote_write_v1::resolve(self, request)),
                Message::V2 => wire::remote_write_v2::decode(decoded, SAMPLES_PER_REQUEST_MAX)
                    .map(|request| remote_write_v2::resolve(self, request)),
            };
            let prepared = prepared.map_err(|e| refuse(&e));
            if buffer.len() > BUFFER_KEPT_BYTES {
                *buffer = Vec::new();
            }
            prepared
        })
    }

    /// Commits what was prepared and says what became of it.
    ///
    /// # Errors
    /// The store takes no writes now, or the disk refuses; nothing of the request is stored.
    pub async fn commit(&self, prepared: Prepared) -> std::result::Result<Outcome, ApiError> {
        let Prepared { batch, sent, mut refusals } = prepared;
        let report = if batch.is_empty() { CommitReport::default() } else { self.append(batch).await? };
        self.metrics.ingest_samples_accepted.add(report.accepted);
        let written = Written {
            samples: report.accepted - report.accepted_histograms,
            histograms: report.accepted_histograms,
            exemplars: report.exemplars_accepted,
        };
        let exemplars = report.exemplars_refused_total;
        refusals.add_report(&self.metrics, report);
        let refused_samples = refusals.total().saturating_sub(exemplars);
        if refusals.is_empty() {
            return Ok(Outcome { written, refused_samples, refused: None });
        }
        let is_full = self.storage.is_full();
        Ok(Outcome { written, refused_samples, refused: Some(refusals.into_error(sent, is_full)) })
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
}

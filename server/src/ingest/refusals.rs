//! What of a request is not stored, and the words in which its sender is told.

use crate::error::{ApiError, Side};
use crate::telemetry::Metrics;
use kymo_storage::ErrorKind;
use kymo_storage::db::{CommitReport, Refusal};
use std::fmt::Write;

/// Refusals spelled out in a response.
const REFUSALS_SHOWN: usize = 10;
/// Longest text of one refusal: labels may be as long as the sender likes.
const REFUSAL_BYTES_MAX: usize = 600;

/// What was refused so far.
#[derive(Debug, Default)]
pub struct Refusals {
    total: u64,
    shown: Vec<Refusal>,
    /// Whether all of them are limits.
    only_limits: bool,
}

impl Refusals {
    /// Adds a refusal that concerns `samples` samples, histograms and exemplars, and counts it.
    pub fn add(&mut self, metrics: &Metrics, refusal: Refusal, samples: u64) {
        metrics.ingest_refused.get(reason(refusal.kind)).inc();
        self.only_limits = (self.total == 0 || self.only_limits) && refusal.kind == ErrorKind::LimitExceeded;
        self.total += samples;
        if self.shown.len() < REFUSALS_SHOWN {
            self.shown.push(refusal);
        }
    }

    /// Adds what storage refused.
    pub fn add_report(&mut self, metrics: &Metrics, report: CommitReport) {
        let lists = [
            (report.refused, report.refused_total),
            (report.exemplars_refused, report.exemplars_refused_total),
        ];
        for (spelled_out, total) in lists {
            let more = total.saturating_sub(spelled_out.len() as u64);
            for refusal in spelled_out {
                self.add(metrics, refusal, 1);
            }
            self.total += more;
        }
    }

    /// How many samples, histograms and exemplars.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether nothing was refused.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Whether only limits were met, so that the same request can succeed once there is room.
    pub fn are_only_limits(&self) -> bool {
        self.only_limits
    }

    /// A line for each refusal, the first with the numbers in front: senders log the first line, so that says most. `sent` is
    /// how many samples, histograms and exemplars came.
    pub fn text(&self, sent: u64) -> String {
        let mut text = String::new();
        // A series that carries nothing is refused as one.
        let sent = sent.max(self.total);
        for (i, refusal) in self.shown.iter().enumerate() {
            let mut line = format!("{} for series {}", refusal.reason, refusal.labels);
            if let Some(timestamp) = refusal.timestamp {
                // Writing to a string cannot fail; here and below.
                let _ = write!(line, " at {timestamp}");
            }
            if line.len() > REFUSAL_BYTES_MAX {
                let end = (0..=REFUSAL_BYTES_MAX).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
                line.truncate(end);
                line.push('…');
            }
            let total = self.total;
            let _ = match i {
                0 => writeln!(text, "{total} of {sent} samples refused, the others are stored: {line}"),
                _ => writeln!(text, "{line}"),
            };
        }
        if self.total > self.shown.len() as u64 {
            let _ = writeln!(text, "and {} more", self.total - self.shown.len() as u64);
        }
        text
    }

    /// The answer to a request that was stored in part. `is_full`: the store knows as many series as it may.
    pub fn into_error(self, sent: u64, is_full: bool) -> ApiError {
        let kind = if is_full && self.only_limits { ErrorKind::LimitExceeded } else { ErrorKind::Invalid };
        ApiError::new(Side::Write, kind, self.text(sent))
    }
}

fn reason(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::OutOfBounds => "out_of_bounds",
        ErrorKind::Duplicate => "duplicate",
        ErrorKind::LimitExceeded => "limit",
        _ => "invalid",
    }
}

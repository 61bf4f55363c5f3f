//! What all kinds of imported lines need: the batch at hand, and what became of the ones before.

use super::put;
use super::receiver::Receiver;
use super::refusals::Refusals;
use crate::error::{ApiError, Side};
use crate::wire::influx::{self, FieldValue, Precision};
use crate::wire::json_lines::ReadLine;
use crate::wire::label_bytes::LabelBytes;
use kymo_storage::db::{Refusal, WriteBatch};
use kymo_storage::model::{METRIC_NAME, SeriesRef, Timestamp};
use std::io;

/// A batch is committed when it has so many samples.
const BATCH_SAMPLES: usize = 10_000;
/// Bad lines and fields spelled out in an answer.
const SHOWN_MAX: usize = 10;
/// Longest text about one line.
const TEXT_BYTES_MAX: usize = 300;

/// What a request says besides its lines.
#[derive(Debug, Clone)]
pub struct Given {
    /// The time of samples without one, in milliseconds.
    pub now: Timestamp,
    /// Labels that every series gets, in place of its own of the same name.
    pub labels: Vec<(String, String)>,
}

/// What all kinds of lines need.
pub(super) struct Work {
    pub(super) receiver: Receiver,
    pub(super) given: Given,
    pub(super) batch: WriteBatch,
    pub(super) labels: LabelBytes,
    pub(super) batch_bytes: usize,
    pub(super) sent: u64,
    pub(super) report: Report,
    pub(super) failure: Option<ApiError>,
}

/// What became of an import.
#[derive(Debug, Default)]
pub struct Report {
    /// Samples, histograms included, that are stored.
    pub stored: u64,
    /// Fields whose value is a text, which no sample can hold.
    pub skipped_fields: u64,
    /// The first of their names.
    pub skipped_names: Vec<String>,
    bad_lines: u64,
    shown: Vec<String>,
    refusals: Refusals,
}

impl Report {
    /// The names of what is not stored, a line each; `None` if there is nothing.
    pub fn complaint(&self, sent: u64) -> Option<String> {
        if self.bad_lines == 0 && self.refusals.is_empty() {
            return None;
        }
        let mut text = String::new();
        if self.bad_lines > 0 {
            let (lines, stored) = (self.bad_lines, self.stored);
            text = format!("{lines} lines refused, {stored} samples of the others are stored: ");
            text.push_str(&self.shown.join("\n"));
            text.push('\n');
            let more = self.bad_lines - self.shown.len() as u64;
            if more > 0 {
                text.push_str(&format!("and {more} more lines\n"));
            }
        }
        text.push_str(&self.refusals.text(sent));
        Some(text)
    }
}

/// A line's own mistake is the inner error; the outer one ends the import.
pub(super) type LineResult = io::Result<Result<(), String>>;

impl Work {
    /// Nothing has come yet.
    pub(super) fn new(receiver: Receiver, given: Given) -> Self {
        let batch = receiver.storage.batch();
        Self {
            receiver,
            given,
            batch,
            labels: LabelBytes::default(),
            batch_bytes: 0,
            sent: 0,
            report: Report::default(),
            failure: None,
        }
    }

    pub(super) fn bad_line(&mut self, number: u64, why: &str) {
        self.report.bad_lines += 1;
        if self.report.shown.len() < SHOWN_MAX {
            let end = (0..=TEXT_BYTES_MAX.min(why.len())).rev().find(|i| why.is_char_boundary(*i));
            let why = why.get(..end.unwrap_or(0)).unwrap_or_default();
            self.report.shown.push(format!("line {number}: {why}"));
        }
    }

    pub(super) fn stop(&mut self, error: ApiError) -> io::Error {
        self.failure.get_or_insert(error);
        io::Error::other("the import cannot go on")
    }

    /// The series of the labels at hand; `None` if it is refused.
    pub(super) fn series(&mut self) -> Option<SeriesRef> {
        for (name, value) in &self.given.labels {
            self.labels.set(name, value);
        }
        match self.batch.series(self.labels.encode()) {
            Ok(series) => Some(series),
            Err(refusal) => {
                self.sent += 1;
                self.refuse(refusal);
                None
            }
        }
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.report.refusals.add(&self.receiver.metrics, refusal, 1);
    }

    /// A sample; `start` is when counting began, 0 if that is not known.
    pub(super) fn sample(
        &mut self,
        series: SeriesRef,
        timestamp: Timestamp,
        start: Timestamp,
        value: f64,
    ) -> io::Result<()> {
        self.sent += 1;
        put::sample(&mut self.batch, series, timestamp, start, value);
        if self.batch.len() >= BATCH_SAMPLES { self.commit() } else { Ok(()) }
    }

    /// Stores what has gathered and waits for it.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        self.batch_bytes = 0;
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.batch, self.receiver.storage.batch());
        match self.receiver.storage.append(batch) {
            Ok(report) => {
                self.report.stored += report.accepted;
                self.receiver.metrics.ingest_samples_accepted.add(report.accepted);
                self.report.refusals.add_report(&self.receiver.metrics, report);
                Ok(())
            }
            Err(error) => Err(self.stop(ApiError::storage(Side::Write, &error))),
        }
    }

    pub(super) fn influx(&mut self, precision: Precision, db: Option<&str>, line: &str) -> LineResult {
        let point = match influx::read_line(precision, line) {
            Ok(Some(point)) => point,
            Ok(None) => return Ok(Ok(())),
            Err(why) => return Ok(Err(why)),
        };
        let timestamp = point.timestamp.unwrap_or(self.given.now);
        for (field, value) in &point.fields {
            let name = format!("{}_{field}", point.measurement);
            let FieldValue::Number(value) = value else {
                self.report.skipped_fields += 1;
                if self.report.skipped_names.len() < SHOWN_MAX && !self.report.skipped_names.contains(&name) {
                    self.report.skipped_names.push(name);
                }
                continue;
            };
            self.labels.clear();
            self.labels.push(METRIC_NAME, &name);
            for (tag, value) in &point.tags {
                self.labels.push(tag, value);
            }
            if let Some(db) = db.filter(|_| !self.labels.has("db")) {
                self.labels.push("db", db);
            }
            if let Some(series) = self.series() {
                self.sample(series, timestamp, 0, *value)?;
            }
        }
        Ok(Ok(()))
    }

    pub(super) fn json(&mut self, line: &str) -> LineResult {
        if line.trim().is_empty() {
            return Ok(Ok(()));
        }
        let mut read = match ReadLine::parse(line) {
            Ok(read) => read,
            Err(why) => return Ok(Err(why)),
        };
        self.labels.clear();
        for (name, value) in &read.metric {
            self.labels.push(name, value);
        }
        let Some(series) = self.series() else { return Ok(Ok(())) };
        for (timestamp, start, value) in read.samples() {
            self.sample(series, timestamp, start, value)?;
        }
        for (timestamp, start, histogram) in read.take_histograms() {
            self.sent += 1;
            match histogram {
                Ok(histogram) => {
                    if let Err(refusal) = self.batch.histogram_with_start(series, timestamp, start, histogram)
                    {
                        self.refuse(refusal);
                    }
                }
                Err(why) => return Ok(Err(format!("the histogram at {timestamp}: {why}"))),
            }
        }
        Ok(Ok(()))
    }
}

//! Imports: bodies of lines of any length, stored batch by batch while they come.
//!
//! The good lines are stored, the bad ones are named with their numbers. A batch is on the disk before the next one is read, so the
//! sender goes no faster than the store, and memory holds one batch, one piece of the body and one line.

use super::import_text::TextLines;
use super::put;
use super::receiver::Receiver;
use super::refusals::Refusals;
use crate::error::{ApiError, Side};
use crate::wire::body::Held;
use crate::wire::influx::{self, FieldValue, Precision};
use crate::wire::json_lines::ReadLine;
use crate::wire::label_bytes::LabelBytes;
use crate::wire::text_format::Dialect;
use kymo_storage::ErrorKind;
use kymo_storage::db::{Refusal, WriteBatch};
use kymo_storage::model::{METRIC_NAME, SeriesRef, Timestamp};
use std::io::{self, Write};

/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 8 << 20;
/// A batch is committed when it has so many samples.
const BATCH_SAMPLES: usize = 10_000;
/// A batch is committed when so many bytes of lines went into it.
const BATCH_BYTES: usize = 2 << 20;
/// Bad lines and fields spelled out in an answer.
const SHOWN_MAX: usize = 10;
/// Longest text about one line.
const TEXT_BYTES_MAX: usize = 300;
/// A compressed body may decode to so many bytes for each of its own,
const RATIO_MAX: u64 = 1_000;
/// and to so many more.
const DECODED_FREE_BYTES: u64 = 32 << 20;

/// What the lines are.
pub enum Lines {
    /// The text format, or OpenMetrics.
    Text(TextLines),
    /// The Influx line protocol: the unit of times, and the label `db` for lines without a tag of that name.
    Influx(Precision, Option<String>),
    /// JSON.
    Json,
}

impl Lines {
    /// Lines in one of the text formats.
    pub fn text(dialect: Dialect) -> Self {
        Self::Text(TextLines::new(dialect))
    }
}

/// What a request says besides its lines.
#[derive(Debug, Clone)]
pub struct Given {
    /// The time of samples without one, in milliseconds.
    pub now: Timestamp,
    /// Labels that every series gets, in place of its own of the same name.
    pub labels: Vec<(String, String)>,
}

/// One import on its way: decoded bytes are written into it.
pub struct Importer {
    lines: Lines,
    work: Work,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    held: Held,
    number: u64,
    decoded_bytes: u64,
    decoded_bytes_max: u64,
}

/// What all kinds of lines need.
pub(super) struct Work {
    pub(super) receiver: Receiver,
    pub(super) given: Given,
    pub(super) batch: WriteBatch,
    pub(super) labels: LabelBytes,
    batch_bytes: usize,
    sent: u64,
    report: Report,
    failure: Option<ApiError>,
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

impl Importer {
    /// An import into the store of `receiver`; a line that is not whole counts in `held`.
    pub fn new(receiver: Receiver, lines: Lines, given: Given, held: Held) -> Self {
        let batch = receiver.storage.batch();
        let work = Work {
            receiver,
            given,
            batch,
            labels: LabelBytes::default(),
            batch_bytes: 0,
            sent: 0,
            report: Report::default(),
            failure: None,
        };
        let (partial, decoded_bytes_max) = (Vec::new(), DECODED_FREE_BYTES);
        Self { lines, work, partial, held, number: 0, decoded_bytes: 0, decoded_bytes_max }
    }

    /// `bytes` of the body have come so far.
    pub fn allow(&mut self, bytes: u64) {
        self.decoded_bytes_max = DECODED_FREE_BYTES.saturating_add(bytes.saturating_mul(RATIO_MAX));
    }

    /// Where the piece at hand may be counted.
    pub fn held(&mut self) -> &mut Held {
        &mut self.held
    }

    /// Why the import cannot go on, if that is so, and what is stored all the same.
    pub fn failure(&mut self) -> Option<ApiError> {
        let mut error = self.work.failure.take()?;
        error.message = format!("{} ({})", error.message, self.so_far());
        Some(error)
    }

    /// How far it has come, for messages about an import that ends early.
    pub fn so_far(&self) -> String {
        format!("{} samples of {} lines are stored", self.work.report.stored, self.number)
    }

    /// The body is at its end: commits what is left.
    ///
    /// # Errors
    /// The store takes no writes now, or the disk refuses.
    pub fn finish(&mut self) -> Result<(Report, u64), ApiError> {
        let ended = self.end_lines();
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        ended.map_err(|e| ApiError::new(Side::Write, ErrorKind::Internal, e.to_string()))?;
        Ok((std::mem::take(&mut self.work.report), self.work.sent))
    }

    fn end_lines(&mut self) -> io::Result<()> {
        let last = std::mem::take(&mut self.partial);
        if !last.is_empty() {
            self.line(&last)?;
        }
        if let Lines::Text(text) = &mut self.lines
            && let Err(why) = text.end(&mut self.work)?
        {
            self.work.bad_line(self.number, &why);
        }
        self.work.commit()
    }

    fn line(&mut self, line: &[u8]) -> io::Result<()> {
        self.number += 1;
        let number = self.number;
        self.number += line.iter().filter(|b| **b == b'\n').count() as u64;
        let Ok(text) = std::str::from_utf8(line) else {
            self.work.bad_line(number, "it is not valid UTF-8");
            return Ok(());
        };
        let read = match &mut self.lines {
            Lines::Text(state) => state.line(text, &mut self.work)?,
            Lines::Influx(precision, db) => self.work.influx(*precision, db.as_deref(), text)?,
            Lines::Json => self.work.json(text)?,
        };
        if let Err(why) = read {
            self.work.bad_line(number, &why);
        }
        self.work.batch_bytes += line.len();
        if self.work.batch_bytes >= BATCH_BYTES { self.work.commit() } else { Ok(()) }
    }

    /// Keeps the beginning of a line.
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.partial.len() + bytes.len() > LINE_BYTES_MAX {
            let text = format!("line {} is longer than the limit of {LINE_BYTES_MAX} bytes", self.number + 1);
            return Err(self.work.stop(ApiError::body_too_large(text)));
        }
        let room = self.partial.capacity() - self.partial.len();
        if bytes.len() > room {
            let more = bytes.len().max(self.partial.capacity());
            if let Err(error) = self.held.grow(more) {
                let error = ApiError::new(Side::Write, ErrorKind::Unavailable, error.to_string());
                return Err(self.work.stop(error));
            }
            self.partial.reserve_exact(more);
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }
}

impl Write for Importer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.decoded_bytes += bytes.len() as u64;
        if self.decoded_bytes > self.decoded_bytes_max {
            let text = format!(
                "the body decodes to more than {RATIO_MAX} times its size and {DECODED_FREE_BYTES} bytes"
            );
            return Err(self.work.stop(ApiError::body_too_large(text)));
        }
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            let (line, after) = rest.split_at(at);
            rest = after.get(1..).unwrap_or_default();
            if self.partial.is_empty() && !self.is_open(line) {
                self.line(line)?;
                continue;
            }
            self.keep(line)?;
            if self.is_open(&self.partial) {
                self.keep(b"\n")?;
                continue;
            }
            let mut whole = std::mem::take(&mut self.partial);
            let done = self.line(&whole);
            // The buffer is kept: its memory is counted until the end.
            whole.clear();
            self.partial = whole;
            done?;
        }
        self.keep(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Importer {
    fn is_open(&self, line: &[u8]) -> bool {
        matches!(self.lines, Lines::Influx(..)) && influx::is_open(line)
    }
}

/// A line's own mistake is the inner error; the outer one ends the import.
pub(super) type LineResult = io::Result<Result<(), String>>;

impl Work {
    fn bad_line(&mut self, number: u64, why: &str) {
        self.report.bad_lines += 1;
        if self.report.shown.len() < SHOWN_MAX {
            let end = (0..=TEXT_BYTES_MAX.min(why.len())).rev().find(|i| why.is_char_boundary(*i));
            let why = why.get(..end.unwrap_or(0)).unwrap_or_default();
            self.report.shown.push(format!("line {number}: {why}"));
        }
    }

    fn stop(&mut self, error: ApiError) -> io::Error {
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
    fn commit(&mut self) -> io::Result<()> {
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

    fn influx(&mut self, precision: Precision, db: Option<&str>, line: &str) -> LineResult {
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

    fn json(&mut self, line: &str) -> LineResult {
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

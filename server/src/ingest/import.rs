//! Imports: bodies of lines of any length, stored batch by batch while they come.
//!
//! The good lines are stored, the bad ones are named with their numbers. A batch is on the disk before the next one is read, so the
//! sender goes no faster than the store, and memory holds one batch, one piece of the body and one line.

use super::import_text::TextLines;
use super::import_work::Work;
pub use super::import_work::{Given, Report};
use super::receiver::Receiver;
use crate::error::{ApiError, Side};
use crate::wire::body::Held;
use crate::wire::influx::{self, Precision};
use crate::wire::text_format::Dialect;
use kymo_storage::ErrorKind;
use std::io::{self, Write};

/// Longest line, in bytes: sixty thousand samples of a series in JSON. It is gathered whole before it is read.
pub const LINE_BYTES_MAX: usize = 2 << 20;
/// A batch is committed when so many bytes of lines went into it.
const BATCH_BYTES: usize = 2 << 20;
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

impl Importer {
    /// An import into the store of `receiver`; a line that is not whole counts in `held`.
    pub fn new(receiver: Receiver, lines: Lines, given: Given, held: Held) -> Self {
        let work = Work::new(receiver, given);
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
        let most = LINE_BYTES_MAX;
        if self.partial.len() + bytes.len() > most {
            let text = format!("line {} is longer than the limit of {most} bytes", self.number + 1);
            return Err(self.work.stop(ApiError::body_too_large(text)));
        }
        let room = self.partial.capacity() - self.partial.len();
        if bytes.len() > room {
            let more = bytes.len().max(self.partial.capacity().min(most - self.partial.len()));
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

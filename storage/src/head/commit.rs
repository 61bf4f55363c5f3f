//! The committer: judges the samples of batches in order, logs them, applies them. Owned by one thread. Hot path.

use super::append::{CommitReport, NewHistogram, REFUSALS_MAX, WriteBatch};
use super::generation::{Arrival, JudgedColumns, JudgedHistogram, Judgements};
use super::last::{Bounds, Last, LastSamples, Verdict, histogram_mark};
use super::refusal::Refusal;
use super::registry::Registry;
use super::view::{Frozen, SharedView};
use crate::chunk::hash_one_histogram;
use crate::error::{ErrorKind, Result};
use crate::model::{Metadata, TimeRange};
use crate::wal::{HistogramsRecord, SamplesRecord, Wal};
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of labels that are encoded before they go into the log, and of metadata or histograms in one record.
const PIECE_BYTES: usize = 1 << 20;

/// Everything that decides whether and how a sample is stored.
pub(crate) struct Committer {
    registry: Arc<Registry>,
    view: Arc<SharedView>,
    last: LastSamples,
    wal: Wal,
    /// The series below this number are in the log or in a checkpoint.
    logged: u32,
    /// The series that existed when the group began.
    known: u32,
    /// Where the log was cut last: what lies before is frozen or in blocks.
    boundary: u64,
    /// The samples of the group being committed.
    judged: JudgedColumns,
    /// The histograms of the group.
    histograms: Vec<JudgedHistogram>,
    undo: Vec<(u32, Last)>,
}

/// The outcome of one batch, before it is durable.
pub(crate) struct Judged {
    samples: Range<usize>,
    histograms: Range<usize>,
    pub(crate) late: u64,
    /// The newest timestamp stored.
    pub(crate) newest: Option<i64>,
    pub(crate) report: CommitReport,
}

impl Committer {
    /// A committer that goes on from `last`; every series of `registry` is in the log or in a checkpoint.
    pub(crate) fn new(registry: Arc<Registry>, view: Arc<SharedView>, last: LastSamples, wal: Wal) -> Self {
        let logged = registry.len();
        let judged = JudgedColumns::default();
        let (histograms, undo) = (Vec::new(), Vec::new());
        Self { registry, view, last, wal, logged, known: logged, boundary: 0, judged, histograms, undo }
    }

    /// Starts a group: what the group before left is forgotten.
    pub(crate) fn begin(&mut self) {
        self.judged.clear();
        self.histograms.clear();
        self.undo.clear();
        self.known = self.registry.len();
        self.last.grow(self.known);
    }

    /// Judges the samples of `batch` in order, after those of the batches before.
    pub(crate) fn judge(&mut self, batch: &WriteBatch, bounds: Bounds) -> Judged {
        let start = self.judged.len();
        let mut report = CommitReport::default();
        let mut late = 0;
        let samples = batch.series.iter().zip(&batch.timestamps).zip(&batch.values);
        for ((&series, &time), &value) in samples {
            match self.last.judge(series, time, value, bounds, &mut self.undo) {
                Verdict::Store(arrival) => {
                    late += u64::from(matches!(arrival, Arrival::Late));
                    self.judged.push(series, time, value, arrival);
                    report.accepted += 1;
                }
                Verdict::Known => report.accepted += 1,
                Verdict::Refuse(kind) => self.refuse(kind, series, time, bounds, &mut report),
            }
        }
        let samples = start..self.judged.len();
        let newest = self.judged.range(samples.clone()).times.iter().copied().max();
        let histograms = self.histograms.len()..self.histograms.len();
        let mut judged = Judged { samples, histograms, late, newest, report };
        if !batch.histograms.is_empty() {
            self.judge_histograms(batch, bounds, &mut judged);
        }
        judged
    }

    fn judge_histograms(&mut self, batch: &WriteBatch, bounds: Bounds, judged: &mut Judged) {
        let floats = judged.report.accepted;
        for NewHistogram { series, time, bytes } in &batch.histograms {
            let mark = histogram_mark(hash_one_histogram(bytes));
            match self.last.judge(*series, *time, mark, bounds, &mut self.undo) {
                Verdict::Store(arrival) => {
                    let is_late = matches!(arrival, Arrival::Late);
                    judged.late += u64::from(is_late);
                    judged.newest = judged.newest.max(Some(*time));
                    judged.report.accepted += 1;
                    let bytes = Arc::clone(bytes);
                    self.histograms.push(JudgedHistogram { series: *series, time: *time, bytes, is_late });
                }
                Verdict::Known => judged.report.accepted += 1,
                Verdict::Refuse(kind) => self.refuse(kind, *series, *time, bounds, &mut judged.report),
            }
        }
        judged.report.accepted_histograms = judged.report.accepted - floats;
        judged.histograms.end = self.histograms.len();
    }

    #[cold]
    fn refuse(&self, kind: ErrorKind, series: u32, time: i64, bounds: Bounds, report: &mut CommitReport) {
        report.refused_total += 1;
        if report.refused.len() < REFUSALS_MAX {
            let labels = self.registry.labels(series);
            let reason = self.explain(kind, series, time, bounds);
            report.refused.push(Refusal { kind, labels, timestamp: Some(time), reason });
        }
    }

    fn explain(&self, kind: ErrorKind, series: u32, time: i64, bounds: Bounds) -> String {
        match kind {
            ErrorKind::Duplicate => {
                format!(
                    "duplicate sample for timestamp {time}; overrides not allowed: the newest sample of the series has another value"
                )
            }
            ErrorKind::OutOfBounds if time > bounds.newest => {
                format!(
                    "out of bounds: timestamp {time} is too far in the future; the newest accepted is {}",
                    bounds.newest
                )
            }
            ErrorKind::OutOfBounds => {
                format!(
                    "too old sample: timestamp {time} is older than the retention; the oldest accepted is {}",
                    bounds.oldest
                )
            }
            _ => format!("series {series} is not one of this store"),
        }
    }

    /// The samples of a judged batch that are to be stored.
    fn samples_of(&self, judged: &Judged) -> Judgements<'_> {
        self.judged.range(judged.samples.clone())
    }

    /// Writes what was judged since [`Committer::begin`] to the log, with the series created since the group before, and
    /// makes it as durable as the options say. After an error everything judged is taken back.
    ///
    /// # Errors
    /// The log cannot be written; whether it is poisoned, [`Committer::poisoned`] says.
    pub(crate) fn log(&mut self, judged: &[Judged], batches: &[&WriteBatch]) -> Result<()> {
        let written = self.push_records(judged, batches).and_then(|()| self.wal.commit());
        match written {
            Ok(()) => self.logged = self.known,
            Err(_) => {
                self.wal.discard();
                self.undo();
            }
        }
        written
    }

    fn push_records(&mut self, judged: &[Judged], batches: &[&WriteBatch]) -> Result<()> {
        let mut next = self.logged;
        while next < self.known {
            let (mut bytes, mut places) = (Vec::new(), Vec::new());
            let catalog = self.registry.catalog();
            while next < self.known && bytes.len() < PIECE_BYTES {
                let start = bytes.len();
                catalog.encode_labels(next, &mut bytes);
                places.push((next, start..bytes.len()));
                next += 1;
            }
            drop(catalog);
            let series = places.into_iter().map(|(id, range)| (id, bytes.get(range).unwrap_or_default()));
            self.wal.push_series(series)?;
        }
        for (judged, batch) in judged.iter().zip(batches) {
            let samples = self.judged.range(judged.samples.clone());
            if !samples.series.is_empty() {
                self.wal.push_samples(SamplesRecord {
                    ids: samples.series,
                    timestamps: samples.times,
                    values: samples.values,
                })?;
            }
            let histograms = self.histograms.get(judged.histograms.clone()).unwrap_or_default();
            push_histograms(&mut self.wal, histograms)?;
            self.push_metadata(&batch.metadata)?;
        }
        Ok(())
    }

    fn push_metadata(&mut self, metadata: &[(String, Metadata)]) -> Result<()> {
        let mut piece = Vec::new();
        let mut bytes = 0;
        for (family, about) in metadata {
            piece.push((family.as_str(), about));
            bytes += family.len() + about.unit.len() + about.help.len();
            if bytes >= PIECE_BYTES {
                self.wal.push_metadata(&piece)?;
                piece.clear();
                bytes = 0;
            }
        }
        if piece.is_empty() { Ok(()) } else { self.wal.push_metadata(&piece) }
    }

    /// Freezes the active generation behind a boundary of the log. Answers false if neither holds anything; a log
    /// without samples (series, metadata) makes an empty generation, whose flush is a checkpoint.
    ///
    /// # Errors
    /// The log cannot be cut; nothing has changed then.
    pub(crate) fn freeze(&mut self) -> Result<bool> {
        self.freeze_with(false)
    }

    /// The samples of `series` in `range` are about to be deleted: their newest samples are forgotten, and what is in memory
    /// of them is frozen, so that what comes after is told from it. Nothing is frozen if neither changes anything.
    ///
    /// # Errors
    /// As [`Committer::freeze`].
    pub(crate) fn forget(&mut self, series: &RoaringBitmap, range: TimeRange) -> Result<()> {
        let mut changed = self.view.peek(|view| series.iter().any(|id| view.active.has_samples(id, range)));
        let mut forgotten = Vec::new();
        for id in series {
            let last = self.last.get(id);
            if self.last.forget(id, range) {
                forgotten.push((id, last));
                changed = true;
            }
        }
        // The checkpoint of the flush that follows must know what is forgotten, even if there is nothing else to write.
        let frozen = if changed { self.freeze_with(true).map(|_| ()) } else { Ok(()) };
        if frozen.is_err() {
            // The open chunks in memory go on from these values.
            self.last.undo(&mut forgotten);
        }
        frozen
    }

    fn freeze_with(&mut self, always: bool) -> Result<bool> {
        let is_empty = self.view.peek(|view| view.active.is_empty());
        if !always && is_empty && !self.wal.has_records_from(self.boundary) {
            return Ok(false);
        }
        let boundary = self.wal.cut()?;
        self.boundary = boundary;
        let mut last = self.last.clone();
        // Series without samples may not be in the log yet; a checkpoint holds only what was logged.
        last.truncate(self.logged);
        self.view.change(|view| {
            let generation = std::mem::take(&mut view.active);
            view.frozen.push(Arc::new(Frozen { generation, last, boundary }));
        });
        Ok(true)
    }

    pub(crate) fn wal(&mut self) -> &mut Wal {
        &mut self.wal
    }

    /// Why the log takes no more writes, if so.
    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.wal.poisoned()
    }

    /// Makes everything durable and ends the log in order.
    ///
    /// # Errors
    /// The disk refusing.
    pub(crate) fn close(self) -> Result<()> {
        self.wal.close()
    }

    /// Makes the samples of a judged batch visible.
    pub(crate) fn apply(&self, judged: &Judged) {
        let samples = self.samples_of(judged);
        let histograms = self.histograms.get(judged.histograms.clone()).unwrap_or_default();
        if !(samples.series.is_empty() && histograms.is_empty()) {
            self.view.apply(samples, histograms);
        }
    }

    /// Takes back everything judged since [`Committer::begin`].
    fn undo(&mut self) {
        self.last.undo(&mut self.undo);
        self.judged.clear();
        self.histograms.clear();
    }
}

/// Writes histograms to the log, in records of moderate size.
fn push_histograms(wal: &mut Wal, mut rest: &[JudgedHistogram]) -> Result<()> {
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = rest.iter().take_while(|h| {
            let is_in = bytes < PIECE_BYTES;
            bytes += h.bytes.len();
            is_in
        });
        let (part, after) = rest.split_at(fits.count());
        rest = after;
        let ids: Vec<u32> = part.iter().map(|h| h.series).collect();
        let timestamps: Vec<i64> = part.iter().map(|h| h.time).collect();
        let histograms: Vec<&[u8]> = part.iter().map(|h| h.bytes.as_ref()).collect();
        let record = HistogramsRecord { ids: &ids, timestamps: &timestamps, histograms: &histograms };
        wal.push_histograms(record)?;
    }
    Ok(())
}

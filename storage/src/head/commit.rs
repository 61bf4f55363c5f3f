//! The committer: judges the samples of batches in order, logs them, applies them. Owned by one thread. Hot path.

use super::append::{CommitReport, NewHistogram, REFUSALS_MAX, WriteBatch};
use super::exemplars::JudgedExemplar;
use super::generation::{JudgedColumns, JudgedHistogram, Judgements};
use super::last::{Bounds, GONE, Last, LastSamples, NEVER, Verdict, histogram_mark};
use super::refusal::Refusal;
use super::registry::Registry;
use super::view::{Frozen, SharedView};
use crate::chunk::hash_one_histogram;
use crate::error::{ErrorKind, Result};
use crate::model::{Exemplar, Metadata, TimeRange};
use crate::wal::{BatchRecord, ExemplarRecord, HistogramsRecord, SamplesRecord, Wal};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Bytes of labels that are encoded before they go into the log.
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
    /// Lower numbers that were given again or differ from those of the log, which the log does not know yet.
    given: Vec<u32>,
    /// Where the log was cut last: what lies before is frozen or in blocks.
    boundary: u64,
    /// Whether series became unknown since: the checkpoint before knows them and their newest samples.
    has_unlinked: bool,
    /// The samples of the group being committed.
    judged: JudgedColumns,
    /// The histograms of the group.
    histograms: Vec<JudgedHistogram>,
    /// The exemplars of the group.
    exemplars: Vec<JudgedExemplar>,
    undo: Vec<(u32, Last)>,
    /// The newest exemplar of each series that has one since the flush before the start.
    newest_exemplars: HashMap<u32, Exemplar>,
    undo_exemplars: Vec<(u32, Option<Exemplar>)>,
}

/// The outcome of one batch, before it is durable.
pub(crate) struct Judged {
    samples: Range<usize>,
    histograms: Range<usize>,
    exemplars: Range<usize>,
    pub(crate) late: u64,
    /// The newest timestamp stored.
    pub(crate) newest: Option<i64>,
    pub(crate) report: CommitReport,
}

impl Committer {
    /// A committer that goes on from `last`; every series of `registry` is in the log or in a checkpoint.
    pub(crate) fn new(
        registry: Arc<Registry>,
        view: Arc<SharedView>,
        mut last: LastSamples,
        wal: Wal,
    ) -> Self {
        let logged = registry.len();
        registry.reclaim_unnamed().iter().for_each(|id| last.set(id, GONE));
        let newest_exemplars = view.peek(|view| {
            let newest = |id| Some((id, view.active.exemplars_of(id, TimeRange::ALL).last()?.clone()));
            view.active.series_with_exemplars().filter_map(newest).collect()
        });
        Self {
            registry,
            view,
            last,
            wal,
            logged,
            known: logged,
            given: Vec::new(),
            boundary: 0,
            has_unlinked: false,
            judged: JudgedColumns::default(),
            histograms: Vec::new(),
            exemplars: Vec::new(),
            undo: Vec::new(),
            newest_exemplars,
            undo_exemplars: Vec::new(),
        }
    }

    /// The log is to name `series` before it names samples of them: it knows them under other numbers.
    pub(crate) fn name_anew(&mut self, series: Vec<u32>) {
        self.given.extend(series);
    }

    /// Starts a group: what the group before left is forgotten.
    pub(crate) fn begin(&mut self) {
        self.judged.clear();
        self.histograms.clear();
        self.exemplars.clear();
        self.undo.clear();
        self.undo_exemplars.clear();
        self.note_created();
    }

    /// Takes in the series created meanwhile.
    fn note_created(&mut self) {
        let before = self.given.len();
        self.registry.take_given(&mut self.given);
        self.known = self.registry.len();
        self.last.grow(self.known);
        for id in self.given.iter().skip(before) {
            self.last.set(*id, NEVER);
        }
    }

    /// Judges what is in `batch` in order, after the batches before.
    pub(crate) fn judge(&mut self, batch: &WriteBatch, bounds: Bounds) -> Judged {
        let start = self.judged.len();
        let none = self.histograms.len()..self.histograms.len();
        let no_exemplars = self.exemplars.len()..self.exemplars.len();
        let report = CommitReport::default();
        let mut judged = Judged {
            samples: 0..0,
            histograms: none,
            exemplars: no_exemplars,
            late: 0,
            newest: None,
            report,
        };
        if batch.starts.is_empty() {
            self.judge_floats::<false>(batch, bounds, &mut judged);
        } else {
            self.judge_floats::<true>(batch, bounds, &mut judged);
            self.judged.end_batch(start);
        }
        judged.samples = start..self.judged.len();
        judged.newest = self.judged.range(judged.samples.clone()).times.iter().copied().max();
        if !batch.histograms.is_empty() {
            self.judge_histograms(batch, bounds, &mut judged);
        }
        if !batch.exemplars.is_empty() {
            self.judge_exemplars(batch, bounds, &mut judged);
        }
        judged
    }

    #[inline]
    fn judge_floats<const STARTS: bool>(&mut self, batch: &WriteBatch, bounds: Bounds, judged: &mut Judged) {
        let samples = batch.series.iter().zip(&batch.timestamps).zip(&batch.values);
        for (index, ((&series, &time), &value)) in samples.enumerate() {
            match self.last.judge(series, time, value, bounds, &mut self.undo) {
                Verdict::Store(arrival) => {
                    judged.late += u64::from(arrival.is_late());
                    self.judged.push(series, time, value, arrival);
                    if STARTS && let Some(start) = batch.starts.get(index).filter(|start| **start != 0) {
                        self.judged.start_last(*start);
                    }
                    judged.report.accepted += 1;
                }
                Verdict::Known => judged.report.accepted += 1,
                Verdict::Refuse(kind) => self.refuse(kind, series, time, bounds, &mut judged.report),
            }
        }
    }

    /// The rules are Prometheus': an exemplar equal to the newest of its series is known, and none may come before it.
    fn judge_exemplars(&mut self, batch: &WriteBatch, bounds: Bounds, judged: &mut Judged) {
        for (series, exemplar) in &batch.exemplars {
            let time = exemplar.timestamp;
            let refused = if *series >= self.last.len() {
                Some((ErrorKind::NotFound, explain(ErrorKind::NotFound, time, bounds)))
            } else if time > bounds.newest || time < bounds.oldest {
                Some((ErrorKind::OutOfBounds, explain(ErrorKind::OutOfBounds, time, bounds)))
            } else {
                match self.newest_exemplars.get(series) {
                    Some(newest) if newest == exemplar => {
                        judged.report.exemplars_accepted += 1;
                        continue;
                    }
                    Some(newest) if !exemplar.follows(newest) => {
                        let reason = format!("out of order exemplar: the newest is at {}", newest.timestamp);
                        Some((ErrorKind::OutOfBounds, reason))
                    }
                    _ => None,
                }
            };
            let Some((kind, reason)) = refused else {
                let before = self.newest_exemplars.insert(*series, exemplar.clone());
                self.undo_exemplars.push((*series, before));
                judged.newest = judged.newest.max(Some(time));
                self.exemplars.push(JudgedExemplar { series: *series, exemplar: exemplar.clone() });
                judged.report.exemplars_accepted += 1;
                continue;
            };
            judged.report.exemplars_refused_total += 1;
            if judged.report.exemplars_refused.len() < REFUSALS_MAX {
                let labels = self.registry.labels(*series);
                judged.report.exemplars_refused.push(Refusal { kind, labels, timestamp: Some(time), reason });
            }
        }
        judged.exemplars.end = self.exemplars.len();
    }

    fn judge_histograms(&mut self, batch: &WriteBatch, bounds: Bounds, judged: &mut Judged) {
        let before = judged.report.accepted;
        for NewHistogram { series, time, start, bytes } in &batch.histograms {
            let mark = histogram_mark(hash_one_histogram(bytes));
            match self.last.judge(*series, *time, mark, bounds, &mut self.undo) {
                Verdict::Store(arrival) => {
                    let is_late = arrival.is_late();
                    judged.late += u64::from(is_late);
                    judged.newest = judged.newest.max(Some(*time));
                    judged.report.accepted += 1;
                    let bytes = Arc::clone(bytes);
                    let (series, time, start) = (*series, *time, *start);
                    self.histograms.push(JudgedHistogram { series, time, start, bytes, is_late });
                }
                Verdict::Known => judged.report.accepted += 1,
                Verdict::Refuse(kind) => self.refuse(kind, *series, *time, bounds, &mut judged.report),
            }
        }
        judged.histograms.end = self.histograms.len();
        judged.report.accepted_histograms = judged.report.accepted - before;
    }

    #[cold]
    fn refuse(&self, kind: ErrorKind, series: u32, time: i64, bounds: Bounds, report: &mut CommitReport) {
        report.refused_total += 1;
        if report.refused.len() < REFUSALS_MAX {
            let labels = self.registry.labels(series);
            let reason = explain(kind, time, bounds);
            report.refused.push(Refusal { kind, labels, timestamp: Some(time), reason });
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
            Ok(()) => {
                self.logged = self.known;
                self.given.clear();
            }
            Err(_) => {
                self.wal.discard();
                self.undo();
            }
        }
        written
    }

    fn push_records(&mut self, judged: &[Judged], batches: &[&WriteBatch]) -> Result<()> {
        let mut created = self.given.iter().copied().chain(self.logged..self.known).peekable();
        while created.peek().is_some() {
            let (mut bytes, mut places) = (Vec::new(), Vec::new());
            let catalog = self.registry.catalog();
            while bytes.len() < PIECE_BYTES
                && let Some(id) = created.next()
            {
                let start = bytes.len();
                catalog.encode_labels(id, &mut bytes);
                places.push((id, start..bytes.len()));
            }
            drop(catalog);
            let series = places.into_iter().map(|(id, range)| (id, bytes.get(range).unwrap_or_default()));
            self.wal.push_series(series)?;
        }
        for (judged, batch) in judged.iter().zip(batches) {
            self.push_batch(judged, &batch.metadata)?;
        }
        Ok(())
    }

    /// Adds what a batch stores to the log: as one record, so that it comes back whole or not at all.
    fn push_batch(&mut self, judged: &Judged, metadata: &[(String, Metadata)]) -> Result<()> {
        let samples = self.judged.range(judged.samples.clone());
        let samples = SamplesRecord {
            ids: samples.series,
            timestamps: samples.times,
            values: samples.values,
            starts: samples.starts,
        };
        let found = self.histograms.get(judged.histograms.clone()).unwrap_or_default();
        let ids: Vec<u32> = found.iter().map(|h| h.series).collect();
        let timestamps: Vec<i64> = found.iter().map(|h| h.time).collect();
        let histograms: Vec<&[u8]> = found.iter().map(|h| h.bytes.as_ref()).collect();
        let mut starts: Vec<i64> = found.iter().map(|h| h.start).collect();
        if starts.iter().all(|start| *start == 0) {
            starts.clear();
        }
        let histograms =
            HistogramsRecord { ids: &ids, timestamps: &timestamps, histograms: &histograms, starts: &starts };
        let exemplars = self.exemplars.get(judged.exemplars.clone()).unwrap_or_default();
        let exemplars: Vec<ExemplarRecord<'_>> = exemplars
            .iter()
            .map(|JudgedExemplar { series, exemplar }| ExemplarRecord {
                id: *series,
                timestamp: exemplar.timestamp,
                value: exemplar.value,
                labels: exemplar.labels.as_bytes(),
            })
            .collect();
        let metadata: Vec<(&str, &Metadata)> =
            metadata.iter().map(|(f, about)| (f.as_str(), about)).collect();
        let batch = BatchRecord { samples, histograms, exemplars: &exemplars, metadata: &metadata };
        self.wal.push_batch(&batch)
    }

    /// How many bytes of the log it takes to rebuild the active generation.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.wal.live_bytes_from(self.boundary)
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
        let in_memory = self.view.peek(|view| {
            let has_any = |id| {
                view.active.has_samples(id, range) || view.active.exemplars_of(id, range).next().is_some()
            };
            series.iter().any(has_any)
        });
        let mut changed = in_memory || self.has_unlinked;
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
            return frozen;
        }
        self.newest_exemplars
            .retain(|id, newest| !(series.contains(*id) && range.contains(newest.timestamp)));
        frozen
    }

    fn freeze_with(&mut self, always: bool) -> Result<bool> {
        let is_empty = self.view.peek(|view| view.active.is_empty());
        if !always && is_empty && !self.wal.has_records_from(self.boundary) {
            return Ok(false);
        }
        let boundary = self.wal.cut()?;
        self.boundary = boundary;
        self.has_unlinked = false;
        let mut last = self.last.clone();
        // Series without samples may not be in the log yet; a checkpoint holds only what was logged.
        last.truncate(self.logged);
        self.view.change(|view| {
            let generation = std::mem::take(&mut view.active);
            view.frozen.push(Arc::new(Frozen { generation, last, boundary, oldest_kept: OnceLock::new() }));
        });
        Ok(true)
    }

    /// Those of the series numbered `range` that have no samples in memory and none newer than `newest`.
    pub(crate) fn idle(&self, range: Range<u32>, newest: i64) -> RoaringBitmap {
        let is_old = |id: &u32| self.last.get(*id).time <= newest;
        let old = (range.start..range.end.min(self.logged)).filter(is_old);
        self.view.peek(|view| old.filter(|id| !view.has_in_memory(*id)).collect())
    }

    /// Makes those of `series` unknown that are still idle; see [`retire`](super::retire). Answers them.
    pub(crate) fn unlink(&mut self, series: &RoaringBitmap) -> RoaringBitmap {
        self.note_created();
        let (view, blocks) = self.view.peek(|view| {
            let in_memory: RoaringBitmap = series.iter().filter(|id| view.has_in_memory(*id)).collect();
            (in_memory, Arc::clone(&view.blocks))
        });
        let kept = |id| id >= self.logged || view.contains(id) || self.given.contains(&id);
        let unknown = self.registry.unlink(series, kept, |unknown| {
            blocks.iter().for_each(|live| live.forget_numbers(unknown));
        });
        if !unknown.is_empty() {
            self.has_unlinked = true;
            self.view.change(|view| view.flushed = None);
        }
        for id in &unknown {
            self.last.set(id, GONE);
            self.newest_exemplars.remove(&id);
        }
        unknown
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
        let exemplars = self.exemplars.get(judged.exemplars.clone()).unwrap_or_default();
        if !(samples.series.is_empty() && histograms.is_empty() && exemplars.is_empty()) {
            let limit = self.registry.limits().exemplars_per_series;
            self.view.apply(samples, histograms, exemplars, limit);
        }
    }

    /// Takes back everything judged since [`Committer::begin`].
    fn undo(&mut self) {
        self.last.undo(&mut self.undo);
        while let Some((series, before)) = self.undo_exemplars.pop() {
            match before {
                Some(exemplar) => drop(self.newest_exemplars.insert(series, exemplar)),
                None => drop(self.newest_exemplars.remove(&series)),
            }
        }
        self.judged.clear();
        self.histograms.clear();
        self.exemplars.clear();
    }
}

/// Why a sample is refused.
fn explain(kind: ErrorKind, time: i64, bounds: Bounds) -> String {
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
        _ => "the series is not one of this store, or not any more: it is to be resolved again".to_owned(),
    }
}

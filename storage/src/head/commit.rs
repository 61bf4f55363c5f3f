//! The committer: judges the samples of batches in order, logs them, applies them. Owned by one thread. Hot path.

use super::append::{CommitReport, REFUSALS_MAX, Refusal, WriteBatch};
use super::generation::{Arrival, JudgedColumns, Judgements};
use super::last::{Bounds, Last, LastSamples, Verdict};
use super::registry::Registry;
use super::view::SharedView;
use crate::error::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

/// Everything that decides whether and how a sample is stored.
pub(crate) struct Committer {
    registry: Arc<Registry>,
    view: Arc<SharedView>,
    last: LastSamples,
    /// The samples of the group being committed.
    judged: JudgedColumns,
    undo: Vec<(u32, Last)>,
}

/// The outcome of one batch, before it is durable.
pub(crate) struct Judged {
    samples: Range<usize>,
    pub(crate) late: u64,
    /// The newest timestamp stored.
    pub(crate) newest: Option<i64>,
    pub(crate) report: CommitReport,
}

impl Committer {
    pub(crate) fn new(registry: Arc<Registry>, view: Arc<SharedView>, last: LastSamples) -> Self {
        Self { registry, view, last, judged: JudgedColumns::default(), undo: Vec::new() }
    }

    /// Starts a group: what the group before left is forgotten.
    pub(crate) fn begin(&mut self) {
        self.judged.clear();
        self.undo.clear();
        self.last.grow(self.registry.len());
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
                Verdict::Refuse(kind) => {
                    report.refused_total += 1;
                    if report.refused.len() < REFUSALS_MAX {
                        let labels = self.registry.labels(series);
                        let reason = self.explain(kind, series, time, bounds);
                        report.refused.push(Refusal { kind, labels, timestamp: Some(time), reason });
                    }
                }
            }
        }
        let samples = start..self.judged.len();
        let newest = self.judged.range(samples.clone()).times.iter().copied().max();
        Judged { samples, late, newest, report }
    }

    fn explain(&self, kind: ErrorKind, series: u32, time: i64, bounds: Bounds) -> String {
        match kind {
            ErrorKind::Duplicate => {
                format!("the newest sample of the series, at {time}, has another value")
            }
            ErrorKind::OutOfBounds if time > bounds.newest => {
                format!("timestamp {time} is too far in the future; the newest accepted is {}", bounds.newest)
            }
            ErrorKind::OutOfBounds => {
                format!(
                    "timestamp {time} is older than the retention; the oldest accepted is {}",
                    bounds.oldest
                )
            }
            _ => format!("series {series} is not one of this store"),
        }
    }

    /// The samples of a judged batch that are to be stored.
    pub(crate) fn samples_of(&self, judged: &Judged) -> Judgements<'_> {
        self.judged.range(judged.samples.clone())
    }

    /// Makes the samples of a judged batch visible.
    pub(crate) fn apply(&self, judged: &Judged) {
        let samples = self.samples_of(judged);
        if !samples.series.is_empty() {
            self.view.apply(samples);
        }
    }

    /// Takes back everything judged since [`Committer::begin`].
    pub(crate) fn undo(&mut self) {
        self.last.undo(&mut self.undo);
        self.judged.clear();
    }

    pub(crate) fn last(&self) -> &LastSamples {
        &self.last
    }
}

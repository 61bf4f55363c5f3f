//! One step of an operation: floats or native histograms, with each other or with a scalar. Hot path.

use crate::ast::BinaryOp;
use crate::column::{Bitmap, Column};
use crate::math::elementwise::{compare, operate};
use crate::math::histogram_binary::{Applied, Operand, apply};
use crate::math::histogram_note::{HistogramNote, SampleKind};
use kymo_storage::model::FloatHistogram;
use std::sync::Arc;

/// What is computed at each step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element {
    /// The operator.
    pub(super) op: BinaryOp,
    /// Comparisons answer 0 and 1.
    pub(super) return_bool: bool,
    /// What is changed stands on the right.
    pub(super) swapped: bool,
}

/// What a computation with histograms met.
#[derive(Debug, Default)]
pub(super) struct Met {
    /// What users should know, each once.
    pub(super) notes: Vec<HistogramNote>,
    /// Steps at which samples met that cannot be combined.
    pub(super) refused: Option<Bitmap>,
}

impl Met {
    fn note(&mut self, note: HistogramNote) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

/// What comes of two samples of which one is a histogram.
enum Outcome {
    Histogram(Arc<FloatHistogram>),
    Float(f64),
    Nothing,
    Refused,
}

impl Element {
    fn trims(self) -> bool {
        matches!(self.op, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }

    fn filters(self) -> bool {
        self.op.is_comparison() && !self.return_bool
    }

    /// Puts `many op one` (or `one op many`, if swapped) into `many`.
    pub(super) fn combine(self, many: &mut Column, one: &Column) -> Met {
        if many.histograms.is_empty() && one.histograms.is_empty() && !self.trims() {
            self.combine_floats(many, one);
            return Met::default();
        }
        let mut met = Met::default();
        let mut shared = many.steps().into_owned();
        shared.and(&one.steps());
        let mut results = Vec::new();
        for step in shared.ones() {
            if !self.trims() && many.present.get(step) && one.present.get(step) {
                continue;
            }
            let outcome = self.outcome((many, one, step), &mut met);
            if matches!(outcome, Outcome::Refused) {
                met.refused.get_or_insert_with(|| Bitmap::new(many.len())).set(step);
            }
            results.push((step, outcome));
        }
        if self.trims() {
            many.present.reset(many.len());
        } else {
            self.combine_floats(many, one);
        }
        many.histograms.clear();
        for (step, outcome) in results {
            match outcome {
                Outcome::Histogram(histogram) => many.push_histogram(step, histogram),
                Outcome::Float(value) => many.set(step, value),
                Outcome::Nothing | Outcome::Refused => {}
            }
        }
        met
    }

    fn outcome(self, (many, one, step): (&Column, &Column, usize), met: &mut Met) -> Outcome {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let operand = |column: &'_ Column| match column.histogram(step) {
            Some(histogram) => Side::Histogram(Arc::clone(histogram)),
            None => Side::Float(column.values[step]),
        };
        self.apply(&operand(left), &operand(right), met)
    }

    fn apply(self, left: &Side, right: &Side, met: &mut Met) -> Outcome {
        let mut notes = Vec::new();
        let applied = apply(self.op, left.operand(), right.operand(), &mut notes);
        let conflict = notes.iter().any(|n| matches!(n, HistogramNote::ConflictingResets(_)));
        notes.into_iter().for_each(|note| met.note(note));
        match applied {
            // Nobody could say whether the result has been reset: Prometheus gives none.
            Applied::Histogram(_) if conflict => Outcome::Refused,
            Applied::Histogram(histogram) => Outcome::Histogram(Arc::new(histogram)),
            Applied::Compared(holds) if self.return_bool => Outcome::Float(f64::from(u8::from(holds))),
            Applied::Compared(true) => left.histogram().map_or(Outcome::Nothing, Outcome::Histogram),
            Applied::Compared(false) => Outcome::Nothing,
            Applied::Incompatible => {
                met.note(HistogramNote::Incompatible { left: left.kind(), op: self.op, right: right.kind() });
                Outcome::Refused
            }
            Applied::Mixed => Outcome::Refused,
        }
    }

    fn combine_floats(self, many: &mut Column, one: &Column) {
        many.present.and(&one.present);
        let filters = self.filters();
        for (step, (value, other)) in many.values.iter_mut().zip(&one.values).enumerate() {
            let (left, right) = if self.swapped { (*other, *value) } else { (*value, *other) };
            if filters {
                if !compare(self.op, left, right) {
                    many.present.clear(step);
                }
                *value = left;
            } else {
                *value = operate(self.op, left, right);
            }
        }
    }

    /// Puts `column op scalar` (or `scalar op column`, if swapped) for what is not a float with a scalar into `column`.
    pub(super) fn with_scalar(self, column: &mut Column, scalar: impl Fn(usize) -> f64) -> Met {
        let mut met = Met::default();
        if self.trims() && !column.present.is_empty() {
            let kind = SampleKind::Float;
            met.note(HistogramNote::Incompatible { left: kind, op: self.op, right: kind });
            column.present.reset(column.len());
        }
        for (step, histogram) in std::mem::take(&mut column.histograms) {
            let (vector, scalar) = (Side::Histogram(histogram), Side::Float(scalar(step)));
            let (left, right) = if self.swapped { (&scalar, &vector) } else { (&vector, &scalar) };
            if let Outcome::Histogram(histogram) = self.apply(left, right, &mut met) {
                column.push_histogram(step, histogram);
            }
        }
        met
    }
}

/// One sample.
enum Side {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Side {
    fn operand(&self) -> Operand<'_> {
        match self {
            Self::Float(value) => Operand::Float(*value),
            Self::Histogram(histogram) => Operand::Histogram(histogram),
        }
    }

    fn kind(&self) -> SampleKind {
        match self {
            Self::Float(_) => SampleKind::Float,
            Self::Histogram(_) => SampleKind::Histogram,
        }
    }

    fn histogram(&self) -> Option<Arc<FloatHistogram>> {
        match self {
            Self::Float(_) => None,
            Self::Histogram(histogram) => Some(Arc::clone(histogram)),
        }
    }
}

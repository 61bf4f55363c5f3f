//! Operations that must look at each step: several series of a side share a group, or missing ones have stand-ins.

use super::super::context::Context;
use super::super::matrix::{Matrix, Row};
use super::super::source::Source;
use super::elements::Met;
use super::sides::{Meeting, Sides};
use crate::ast::Cardinality;
use crate::column::{Bitmap, Column};
use crate::failure::QueryError;
use kymo_storage::model::Labels;
use std::collections::HashMap;

struct General<'a> {
    context: &'a Context,
    sides: &'a Sides,
    many: Matrix,
    one: Matrix,
    steps: usize,
    memory: crate::budget::Reservation,
    rows: Vec<Row>,
}

/// All results; series of different groups may have the same labels.
///
/// # Errors
/// Groups with more series than their side may have at one step, results of one group that are the same.
pub(super) fn build(context: &Context, sides: &Sides, steps: usize) -> Result<Matrix, QueryError> {
    let mut general = General {
        context,
        sides,
        many: Matrix::collect(context, &*sides.many, steps)?,
        one: Matrix::collect(context, &*sides.one, steps)?,
        steps,
        memory: context.budget.reserve(0, 0)?,
        rows: Vec::new(),
    };
    let fill = sides.operation.matching.fill;
    let mut any_many = Bitmap::new(steps);
    if fill.is_none() {
        for index in 0..general.many.len() {
            general.many.column(index).add_steps(&mut any_many);
        }
    } else {
        any_many.fill();
    }
    general.check_ones(&any_many)?;
    for meeting in &sides.meetings {
        general.meet(meeting)?;
    }
    Ok(Matrix::new(general.rows, false, Some(general.memory)))
}

impl General<'_> {
    /// The one side may have one series a group and step: if it has more, the error names what a reader of one step after the
    /// other meets first.
    fn check_ones(&self, any_many: &Bitmap) -> Result<(), QueryError> {
        let mut earliest: Option<((usize, usize), &Meeting, usize)> = None;
        for meeting in self.sides.meetings.iter().filter(|m| m.one.len() > 1) {
            let mut seen = Bitmap::new(self.steps);
            for (at, one) in meeting.one.iter().enumerate() {
                let mut again = self.one.column(*one).steps().into_owned();
                again.and(&seen);
                again.and(any_many);
                if let Some(step) = again.ones().next()
                    && earliest.is_none_or(|(place, ..)| (step, *one) < place)
                {
                    earliest = Some(((step, *one), meeting, at));
                }
                self.one.column(*one).add_steps(&mut seen);
            }
        }
        let Some(((step, one), meeting, at)) = earliest else { return Ok(()) };
        let before = meeting.one[..at].iter().find(|o| self.one.column(**o).steps().get(step));
        let mut twins = [
            self.one.labels(one).to_string(),
            before.map_or_else(String::new, |b| self.one.labels(*b).to_string()),
        ];
        twins.sort();
        let side = if self.sides.swapped { "left" } else { "right" };
        let [first, second] = twins;
        Err(QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the operation: [{first}, {second}];many-to-many matching not allowed: matching labels must be unique on one side",
            meeting.labels
        )))
    }

    /// All results of one group.
    fn meet(&mut self, meeting: &Meeting) -> Result<(), QueryError> {
        let fill = self.sides.operation.matching.fill;
        let mut any_one = Bitmap::new(self.steps);
        for one in &meeting.one {
            self.one.column(*one).add_steps(&mut any_one);
        }
        let mut any_many = Bitmap::new(self.steps);
        // At which steps there already is a result of these labels (of any labels, one to one).
        let mut taken: HashMap<Option<Labels>, Bitmap> = HashMap::new();
        for many in &meeting.many {
            self.context.budget.check()?;
            let labels = self.many.labels(*many);
            let drops = self.many.drops_name(*many);
            let mut met = self.many.column(*many).steps().into_owned();
            for one in &meeting.one {
                let result = self.sides.result_labels(self.context, &labels, &self.one.labels(*one));
                let (left, right) = (self.many.column(*many).clone(), self.one.column(*one).clone());
                if let Some(refused) = self.pair(result, drops, left, &right, &mut taken)? {
                    // What could not be combined counts as not met.
                    met.and_not(&refused);
                }
            }
            any_many.or(&met);
            if let Some(value) = fill.right {
                let result = self.sides.result_labels(self.context, &labels, &meeting.labels);
                let stand_in = constant(value, &any_one, self.steps);
                let left = self.many.column(*many).clone();
                self.pair(result, drops, left, &stand_in, &mut taken)?;
            }
        }
        if let Some(value) = fill.left {
            for one in &meeting.one {
                let result = self.sides.result_labels(self.context, &meeting.labels, &self.one.labels(*one));
                let stand_in = constant(value, &any_many, self.steps);
                let right = self.one.column(*one).clone();
                self.pair(result, false, stand_in, &right, &mut taken)?;
            }
        }
        Ok(())
    }

    /// The results of two series; the answer are steps at which they cannot be combined.
    fn pair(
        &mut self,
        labels: Labels,
        drops: bool,
        mut many: Column,
        one: &Column,
        taken: &mut HashMap<Option<Labels>, Bitmap>,
    ) -> Result<Option<Bitmap>, QueryError> {
        let operation = &self.sides.operation;
        let one_to_one = operation.matching.card == Cardinality::OneToOne;
        let mut met = many.steps().into_owned();
        met.and(&one.steps());
        if met.is_empty() {
            return Ok(None);
        }
        let Met { notes, refused } = self.sides.element().combine(&mut many, one);
        self.context.note(&notes, operation.span, "");
        if let Some(refused) = &refused {
            met.and_not(refused);
        }
        let key = (!one_to_one).then(|| labels.clone());
        let before = taken.entry(key).or_insert_with(|| Bitmap::new(self.steps));
        if before.overlaps(&met) {
            return Err(QueryError::execution(if one_to_one {
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
            } else {
                "multiple matches for labels: grouping labels must ensure unique matches"
            }));
        }
        before.or(&met);
        if !many.is_empty() {
            self.memory.hold(many.size())?;
            self.memory.grow(0, (labels.as_bytes().len() + size_of::<Row>()) as u64)?;
            let drops_name = self.sides.drops_name(self.context, drops);
            self.rows.push(Row { labels, drops_name, column: many });
        }
        Ok(refused)
    }
}

/// `value` at all steps but these.
fn constant(value: f64, except: &Bitmap, steps: usize) -> Column {
    let mut column = Column::new(steps);
    column.values.fill(value);
    column.present.fill();
    column.present.and_not(except);
    column
}

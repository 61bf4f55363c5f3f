//! `and`, `or`, `unless`: series kept at the steps at which the other side has a matching one, or has none.

use super::super::aggregate::Groups;
use super::super::context::Context;
use super::super::fan_out::drain;
use super::super::matrix::{Matrix, OnSame, Row, distinct};
use super::super::source::{Source, Worker};
use super::sides::join;
use crate::column::{Bitmap, Column};
use crate::failure::QueryError;
use crate::plan::Matching;
use kymo_storage::api::LabelColumn;
use kymo_storage::model::Labels;
use std::sync::Arc;

/// A source of which only the steps stay that a mask allows.
struct Masked {
    input: Arc<dyn Source>,
    /// For each series which mask, if any.
    masks_of: Vec<Option<u32>>,
    masks: Vec<Bitmap>,
    /// Steps in the mask stay; otherwise those not in it. A series without a mask is one with an empty mask.
    keep: bool,
}

impl Source for Masked {
    fn len(&self) -> usize {
        self.input.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.input.labels(index)
    }

    fn drops_name(&self, index: usize) -> bool {
        self.input.drops_name(index)
    }

    fn label_column(&self, name: &str) -> LabelColumn {
        self.input.label_column(name)
    }

    fn is_distinct(&self) -> bool {
        self.input.is_distinct()
    }

    fn has_one_name(&self) -> bool {
        self.input.has_one_name()
    }

    fn fill(&self, index: usize, worker: &mut Worker<'_>, out: &mut Column) -> Result<(), QueryError> {
        let mask = self.masks_of[index].map(|at| &self.masks[at as usize]);
        match (mask, self.keep) {
            (None, true) => {
                // Nothing can stay: the samples need not be read.
                let mut steps = 0;
                if let Some(mask) = self.masks.first() {
                    steps = mask.len();
                }
                out.reset(steps);
            }
            (None, false) => self.input.fill(index, worker, out)?,
            (Some(mask), true) => {
                self.input.fill(index, worker, out)?;
                out.present.and(mask);
            }
            (Some(mask), false) => {
                self.input.fill(index, worker, out)?;
                out.present.and_not(mask);
            }
        }
        Ok(())
    }
}

/// For each group of `source` the steps at which one of its series has a value.
fn presence(
    context: &Context,
    source: &dyn Source,
    groups: &Groups,
    steps: usize,
) -> Result<Vec<Bitmap>, QueryError> {
    let mut masks = vec![Bitmap::new(steps); groups.len().max(1)];
    drain(context, source, steps, |index, column| {
        masks[groups.of[index] as usize].or(&column.present);
        Ok(())
    })?;
    Ok(masks)
}

/// `left and right` (`keep`) or `left unless right`.
///
/// # Errors
/// As [`drain`].
pub(super) fn and(
    context: &Context,
    left: Arc<dyn Source>,
    right: &dyn Source,
    matching: &Matching,
    steps: usize,
    keep: bool,
) -> Result<Arc<dyn Source>, QueryError> {
    let (left_groups, right_groups) = join(&*left, right, matching);
    let masks = presence(context, right, &right_groups, steps)?;
    let of_labels = right_groups.by_labels();
    let mask_of_group: Vec<Option<u32>> =
        left_groups.labels.iter().map(|l| of_labels.get(l).copied()).collect();
    let masks_of = left_groups.of.iter().map(|g| mask_of_group[*g as usize]).collect();
    Ok(Arc::new(Masked { input: left, masks_of, masks, keep }))
}

/// `left or right`.
///
/// # Errors
/// As [`drain`].
pub(super) fn or(
    context: &Context,
    left: &dyn Source,
    right: &dyn Source,
    matching: &Matching,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let left = Matrix::collect(context, left, steps)?;
    let (left_groups, right_groups) = join(&left, right, matching);
    let masks = presence(context, &left, &left_groups, steps)?;
    let of_labels = left_groups.by_labels();
    let mut memory = context.budget.reserve(0, 0)?;
    let mut added = Vec::new();
    drain(context, right, steps, |index, column| {
        let group = &right_groups.labels[right_groups.of[index] as usize];
        if let Some(mask) = of_labels.get(group) {
            column.present.and_not(&masks[*mask as usize]);
        }
        if !column.present.is_empty() {
            memory.grow(steps as u64, Column::bytes(steps))?;
            let column = std::mem::take(column);
            added.push(Row { labels: right.labels(index), drops_name: right.drops_name(index), column });
        }
        Ok(())
    })?;
    let both = left.followed_by(added, memory);
    distinct(context, Arc::new(both), steps, OnSame::Merge)
}

//! `and`, `or`, `unless`: series kept at the steps at which the other side has a matching one, or has none.

use super::super::adapted::adapted;
use super::super::aggregate::Groups;
use super::super::context::Context;
use super::super::fan_out::drain;
use super::super::matrix::{Matrix, OnSame, Row, distinct};
use super::super::source::Source;
use super::sides::join;
use crate::column::Bitmap;
use crate::failure::QueryError;
use crate::plan::Matching;
use std::sync::Arc;

/// For each group of `source` the steps at which one of its series has a value.
fn presence(
    context: &Context,
    source: &dyn Source,
    groups: &Groups,
    steps: usize,
) -> Result<Vec<Bitmap>, QueryError> {
    let groups_max = groups.len().max(1);
    context.hold(0, (groups_max as u64).saturating_mul(steps as u64 / 8 + 40))?;
    let mut masks = vec![Bitmap::new(steps); groups_max];
    drain(context, source, steps, |index, column| {
        column.add_steps(&mut masks[groups.of[index] as usize]);
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
    let (left_groups, right_groups) = join(context, &*left, right, matching)?;
    let masks = presence(context, right, &right_groups, steps)?;
    let of_labels = right_groups.by_labels();
    let mask_of_group: Vec<Option<u32>> =
        left_groups.labels.iter().map(|l| of_labels.get(l).copied()).collect();
    let masks_of: Vec<Option<u32>> = left_groups.of.iter().map(|g| mask_of_group[*g as usize]).collect();
    // Steps in the mask stay, or those not in it; a series without a mask is one with an empty mask.
    Ok(adapted(left, move |left, index, worker, out| {
        let mask = masks_of[index].map(|at| &masks[at as usize]);
        if keep && mask.is_none() {
            // Nothing can stay: the samples need not be read, unless they have something to tell.
            if left.may_tell() {
                left.fill(index, worker, out)?;
            }
            out.reset(steps);
            return Ok(());
        }
        left.fill(index, worker, out)?;
        match mask {
            Some(mask) if keep => out.keep(mask),
            Some(mask) => out.remove(mask),
            None => {}
        }
        Ok(())
    }))
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
    let (left_groups, right_groups) = join(context, &left, right, matching)?;
    let masks = presence(context, &left, &left_groups, steps)?;
    let of_labels = left_groups.by_labels();
    let mut memory = context.budget.reserve(0, 0)?;
    let mut added = Vec::new();
    drain(context, right, steps, |index, column| {
        let group = &right_groups.labels[right_groups.of[index] as usize];
        if let Some(mask) = of_labels.get(group) {
            column.remove(&masks[*mask as usize]);
        }
        if !column.is_empty() {
            memory.hold(column.size())?;
            let column = std::mem::take(column);
            added.push(Row { labels: right.labels(index), drops_name: right.drops_name(index), column });
        }
        Ok(())
    })?;
    let both = left.followed_by(added, memory);
    distinct(context, Arc::new(both), steps, OnSame::Merge)
}

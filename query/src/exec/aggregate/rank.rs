//! `topk`, `bottomk`, `limitk`, `limit_ratio`: some of the series of each group, as they are.

use super::super::context::Context;
use super::super::fan_out::drain;
use super::super::matrix::{Matrix, Row};
use super::super::scalar::Scalar;
use super::super::source::Source;
use super::group::Groups;
use super::heap::{Heap, Ranked};
use crate::ast::Grouping;
use crate::column::{Bitmap, Column};
use crate::failure::QueryError;
use crate::format::float_general;
use crate::math::histogram_note::HistogramNote;
use crate::span::Span;
use kymo_storage::model::Labels;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many series to keep at each step, from a parameter. It is judged as a whole, even if there is no series.
fn counts(k: &Scalar, steps: usize) -> Result<Vec<usize>, QueryError> {
    // 2^63: the first float past the range of an i64.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    let all = || (0..steps).map(|step| k.at(step));
    let has_nan = all().any(f64::is_nan);
    if !has_nan && all().all(|k| k < 1.0) {
        return Ok(vec![0; steps]);
    }
    let refused = if has_nan {
        Some("Parameter value is NaN".to_owned())
    } else if let Some(k) = all().find(|k| *k <= -BOUND) {
        Some(format!("Scalar value {} underflows int64", float_general(k)))
    } else {
        let over = all().find(|k| *k >= BOUND);
        over.map(|k| format!("Scalar value {} overflows int64", float_general(k)))
    };
    match refused {
        Some(text) => Err(QueryError::execution(text)),
        None => Ok(all().map(|k| if k < 1.0 { 0 } else { k as usize }).collect()),
    }
}

/// A candidate; the smallest comes first in the answer.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    value: f64,
    series: u32,
    top: bool,
}

impl Ord for Candidate {
    /// `NaN` comes after any number; of equal values the earlier series comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        let by_value = match (self.value.is_nan(), other.value.is_nan()) {
            (false, false) => {
                let order = self.value.partial_cmp(&other.value).unwrap_or(Ordering::Equal);
                if self.top { order.reverse() } else { order }
            }
            (a, b) => a.cmp(&b),
        };
        by_value.then(self.series.cmp(&other.series))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl Ranked for Candidate {
    fn goes_before(&self, other: &Self) -> bool {
        self.value.is_nan() || if self.top { self.value < other.value } else { self.value > other.value }
    }
}

impl Candidate {
    /// Whether this takes the place of `other`, which is the one to go first.
    fn displaces(&self, other: &Self) -> bool {
        if other.value.is_nan() { !self.value.is_nan() } else { other.goes_before(self) }
    }
}

/// Which series are best.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    /// Those of the greatest values.
    pub(super) top: bool,
    /// Where the aggregation stands.
    pub(super) span: Span,
}

/// The source of `topk` (`top`) or `bottomk`. With one step the series come best first, group by group.
///
/// # Errors
/// A parameter out of range, and as [`drain`].
pub(super) fn best(
    context: &Context,
    input: &dyn Source,
    grouping: &Grouping,
    k: &Scalar,
    rank: Rank,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let Rank { top, span } = rank;
    let counts = counts(k, steps)?;
    let groups = Groups::new(context, input, grouping)?;
    let mut memory = context.budget.reserve(0, (groups.len() as u64).saturating_mul(steps as u64 * 32))?;
    let mut heaps: Vec<Heap<Candidate>> = vec![Heap::new(); groups.len() * steps];
    drain(context, input, steps, |index, column| {
        let base = groups.of[index] as usize * steps;
        if column.histograms.iter().any(|(step, _)| counts[*step] > 0) {
            let name = if top { "topk" } else { "bottomk" };
            context.note(&[HistogramNote::IgnoredInGroup(name)], span, "");
        }
        for (step, value) in column.iter() {
            let candidate = Candidate { value, series: index as u32, top };
            let heap = &mut heaps[base + step];
            if heap.len() < counts[step] {
                memory.grow(1, size_of::<Candidate>() as u64 * 2)?;
                heap.push(candidate);
            } else if heap.top().is_some_and(|worst| candidate.displaces(worst)) {
                heap.replace_top(candidate);
            }
        }
        Ok(())
    })?;
    let mut rows: BTreeMap<(usize, usize), Row> = BTreeMap::new();
    for (at, heap) in heaps.into_iter().enumerate() {
        let mut best = heap.into_vec();
        best.sort_unstable();
        for (rank, candidate) in best.into_iter().enumerate() {
            let series = candidate.series as usize;
            // The order of the answer: by group and rank for one step, else as the input.
            let key = if steps == 1 { (at, rank) } else { (0, series) };
            let row = match rows.entry(key) {
                std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::btree_map::Entry::Vacant(free) => {
                    memory.grow(steps as u64, Column::bytes(steps))?;
                    free.insert(Row {
                        labels: input.labels(series),
                        drops_name: input.drops_name(series),
                        column: Column::new(steps),
                    })
                }
            };
            row.column.set(at % steps.max(1), candidate.value);
        }
    }
    Ok(Arc::new(Matrix::new(rows.into_values().collect(), input.is_distinct(), Some(memory))))
}

/// The source of `limitk`: the first `k` series of each group at each step.
///
/// # Errors
/// A parameter out of range, and as [`drain`].
pub(super) fn first(
    context: &Context,
    input: &dyn Source,
    grouping: &Grouping,
    k: &Scalar,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let counts = counts(k, steps)?;
    let groups = Groups::new(context, input, grouping)?;
    let _memory = context.budget.reserve(0, (groups.len() as u64).saturating_mul(steps as u64 * 8))?;
    let mut taken = vec![0usize; groups.len() * steps];
    keep(context, input, steps, |index, column| {
        let base = groups.of[index] as usize * steps;
        let mut kept = Bitmap::new(steps);
        for step in column.steps().ones() {
            if taken[base + step] < counts[step] {
                taken[base + step] += 1;
                kept.set(step);
            }
        }
        kept
    })
}

/// The source of `limit_ratio`: series whose hash falls into the share.
///
/// # Errors
/// A ratio that is `NaN`, and as [`drain`].
pub(super) fn share(
    context: &Context,
    input: &dyn Source,
    ratio: &Scalar,
    span: Span,
    steps: usize,
) -> Result<Arc<dyn Source>, QueryError> {
    let mut ratios = Vec::with_capacity(steps);
    for step in 0..steps {
        let asked = ratio.at(step);
        if asked.is_nan() {
            return Err(QueryError::execution("Ratio value is NaN"));
        }
        let capped = asked.clamp(-1.0, 1.0);
        if capped != asked {
            let (asked, capped) = (float_general(asked), float_general(capped));
            context.annotate(|a| {
                let text =
                    format!("ratio value should be between -1 and 1, got {asked}, capping to {capped}");
                a.warn(span, text);
            });
        }
        ratios.push(capped);
    }
    keep(context, input, steps, |index, column| {
        let place = hash(&input.labels(index)) as f64 / u64::MAX as f64;
        let mut kept = Bitmap::new(steps);
        for step in column.steps().ones() {
            let ratio = ratios[step];
            if (ratio >= 0.0 && place < ratio) || (ratio < 0.0 && place >= 1.0 + ratio) {
                kept.set(step);
            }
        }
        kept
    })
}

/// xxHash64 over Prometheus' in-memory form of a label set: each string with its length in front, in one byte, or in four with
/// the first `0xff`.
fn hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::with_capacity(labels.as_bytes().len());
    for (name, value) in labels.iter() {
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(len) if len < 255 => bytes.push(len),
                _ => {
                    bytes.push(255);
                    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
                }
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0)
}

/// The series of `input` at the steps that `choose` keeps.
fn keep(
    context: &Context,
    input: &dyn Source,
    steps: usize,
    mut choose: impl FnMut(usize, &Column) -> Bitmap,
) -> Result<Arc<dyn Source>, QueryError> {
    let mut memory = context.budget.reserve(0, 0)?;
    let mut rows = Vec::new();
    drain(context, input, steps, |index, column| {
        let kept = choose(index, column);
        if !kept.is_empty() {
            let mut column = std::mem::take(column);
            column.keep(&kept);
            memory.hold(column.size())?;
            rows.push(Row { labels: input.labels(index), drops_name: input.drops_name(index), column });
        }
        Ok(())
    })?;
    Ok(Arc::new(Matrix::new(rows, input.is_distinct(), Some(memory))))
}

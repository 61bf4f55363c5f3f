//! Which group each series belongs to. Hot path.

use super::super::context::Context;
use super::super::source::Source;
use crate::ast::Grouping;
use crate::failure::QueryError;
use kymo_storage::model::{Labels, METRIC_NAME};
use std::collections::HashMap;

/// What the table of groups takes for each series.
const SERIES_BYTES: u64 = 16;
/// What it takes for each group besides its labels.
const GROUP_BYTES: usize = 96;
/// After so many series the budget is asked whether to go on.
const CHECK_EVERY: usize = 256;

/// The groups of an aggregation, numbered in the order of their first series.
pub(crate) struct Groups {
    /// The group of each series.
    pub(crate) of: Vec<u32>,
    /// The labels of each group.
    pub(crate) labels: Vec<Labels>,
}

impl Groups {
    /// The groups of `input`.
    ///
    /// # Errors
    /// Too little memory, or the time is up.
    pub(crate) fn new(
        context: &Context,
        input: &dyn Source,
        grouping: &Grouping,
    ) -> Result<Self, QueryError> {
        let series = input.len();
        context.hold(0, series as u64 * SERIES_BYTES)?;
        let groups = if grouping.without {
            Self::without(context, input, &grouping.labels)?
        } else if grouping.labels.is_empty() {
            let labels = if series == 0 { Vec::new() } else { vec![Labels::empty()] };
            Self { of: vec![0; series], labels }
        } else {
            Self::by(input, &grouping.labels)
        };
        let bytes: usize = groups.labels.iter().map(|l| l.as_bytes().len() + GROUP_BYTES).sum();
        context.hold(0, bytes as u64)?;
        context.budget.check()?;
        Ok(groups)
    }

    /// By ids of label values: strings are touched once for each distinct value.
    fn by(input: &dyn Source, names: &[String]) -> Self {
        let mut of = vec![0u32; input.len()];
        let mut labels =
            if of.is_empty() { Vec::new() } else { vec![Vec::<(&str, std::sync::Arc<str>)>::new()] };
        for name in names {
            let column = input.label_column(name);
            let mut next = Vec::new();
            let mut known = Known::new(labels.len(), column.values.len());
            for (group, id) in of.iter_mut().zip(&column.ids) {
                *group = known.number(*group, *id, || {
                    let mut pairs = labels.get(*group as usize).cloned().unwrap_or_default();
                    if let Some(value) = column.values.get(*id as usize) {
                        pairs.push((name, value.clone()));
                    }
                    next.push(pairs);
                });
            }
            labels = next;
        }
        let labels = labels.into_iter().map(Labels::from_pairs).collect();
        Self { of, labels }
    }

    fn without(context: &Context, input: &dyn Source, names: &[String]) -> Result<Self, QueryError> {
        let mut known: HashMap<Labels, u32> = HashMap::new();
        let mut labels: Vec<Labels> = Vec::new();
        let mut of = Vec::with_capacity(input.len());
        for index in 0..input.len() {
            if index % CHECK_EVERY == 0 {
                context.budget.check()?;
            }
            let rest = without(&input.labels(index), names);
            of.push(*known.entry(rest).or_insert_with_key(|rest| {
                labels.push(rest.clone());
                labels.len() as u32 - 1
            }));
        }
        Ok(Self { of, labels })
    }

    /// The number of each group by its labels.
    pub(crate) fn by_labels(&self) -> HashMap<&Labels, u32> {
        self.labels.iter().zip(0u32..).collect()
    }

    /// How many groups.
    pub(crate) fn len(&self) -> usize {
        self.labels.len()
    }
}

/// Numbers for pairs of a group and a value, in the order in which they come.
enum Known {
    /// By group and value; [`Known::NONE`] where there is no number yet.
    Dense {
        values: usize,
        numbers: Vec<u32>,
        count: u32,
    },
    Sparse(HashMap<(u32, u32), u32>),
}

impl Known {
    const NONE: u32 = u32::MAX;
    /// Up to so many pairs have a place each.
    const DENSE_MAX: usize = 1 << 18;

    fn new(groups: usize, values: usize) -> Self {
        match groups.checked_mul(values) {
            Some(pairs) if pairs <= Self::DENSE_MAX => {
                Self::Dense { values, numbers: vec![Self::NONE; pairs], count: 0 }
            }
            _ => Self::Sparse(HashMap::new()),
        }
    }

    /// The number of a pair; `first` is called if it had none.
    #[inline]
    fn number(&mut self, group: u32, value: u32, first: impl FnOnce()) -> u32 {
        match self {
            Self::Dense { values, numbers, count } => {
                let slot = &mut numbers[group as usize * *values + value as usize];
                if *slot == Self::NONE {
                    first();
                    *slot = *count;
                    *count += 1;
                }
                *slot
            }
            Self::Sparse(numbers) => {
                let count = numbers.len() as u32;
                *numbers.entry((group, value)).or_insert_with(|| {
                    first();
                    count
                })
            }
        }
    }
}

/// `labels` without these and without the metric's name.
pub(super) fn without(labels: &Labels, names: &[String]) -> Labels {
    labels.without(|name| name == METRIC_NAME || names.iter().any(|n| n == name))
}

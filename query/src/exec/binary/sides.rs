//! Which series of the two sides meet: computed once, from labels alone.

use super::super::aggregate::Groups;
use super::super::context::Context;
use super::super::matrix::NAMING_LABELS;
use super::super::source::Source;
use super::elements::Element;
use super::makes_new;
use crate::ast::{BinaryOp, Cardinality, Grouping};
use crate::failure::QueryError;
use crate::plan::Matching;
use crate::span::Span;
use kymo_storage::model::Labels;
use std::sync::Arc;

/// What is computed.
pub(super) struct Operation {
    /// The operator.
    pub(super) op: BinaryOp,
    /// How the sides are paired.
    pub(super) matching: Matching,
    /// Where the operation stands.
    pub(super) span: Span,
}

/// The groups of both sides by the labels that count.
///
/// # Errors
/// As [`Groups::new`].
pub(super) fn join(
    context: &Context,
    left: &dyn Source,
    right: &dyn Source,
    matching: &Matching,
) -> Result<(Groups, Groups), QueryError> {
    let grouping = Grouping { without: !matching.on, labels: matching.labels.clone() };
    Ok((Groups::new(context, left, &grouping)?, Groups::new(context, right, &grouping)?))
}

/// The series of one group on both sides.
pub(super) struct Meeting {
    /// The labels that count.
    pub(super) labels: Labels,
    /// Series of the side that may have many.
    pub(super) many: Vec<usize>,
    /// Series of the side that may have one.
    pub(super) one: Vec<usize>,
}

/// The two sides in their roles, and where their series meet.
pub(super) struct Sides {
    /// The side that may have many series a group: the left one unless the right one is said to.
    pub(super) many: Arc<dyn Source>,
    /// The other.
    pub(super) one: Arc<dyn Source>,
    /// Whether `many` is the right side.
    pub(super) swapped: bool,
    /// One a group.
    pub(super) meetings: Vec<Meeting>,
    /// What is computed.
    pub(super) operation: Operation,
}

impl Sides {
    /// The sides of `left op right`.
    ///
    /// # Errors
    /// As [`join`].
    pub(super) fn new(
        context: &Context,
        left: Arc<dyn Source>,
        right: Arc<dyn Source>,
        operation: Operation,
    ) -> Result<Self, QueryError> {
        let swapped = operation.matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let (many_groups, one_groups) = join(context, &*many, &*one, &operation.matching)?;
        let groups = many_groups.len() + one_groups.len();
        context.hold(0, ((many.len() + one.len()) * 8 + groups * size_of::<Meeting>()) as u64)?;
        let mut meetings: Vec<Meeting> = many_groups
            .labels
            .iter()
            .map(|labels| Meeting { labels: labels.clone(), many: Vec::new(), one: Vec::new() })
            .collect();
        for (index, group) in many_groups.of.iter().enumerate() {
            meetings[*group as usize].many.push(index);
        }
        let by_labels = many_groups.by_labels();
        let mut places = Vec::with_capacity(one_groups.len());
        for labels in &one_groups.labels {
            places.push(by_labels.get(labels).map_or_else(
                || {
                    meetings.push(Meeting { labels: labels.clone(), many: Vec::new(), one: Vec::new() });
                    meetings.len() - 1
                },
                |at| *at as usize,
            ));
        }
        for (index, group) in one_groups.of.iter().enumerate() {
            meetings[places[*group as usize]].one.push(index);
        }
        Ok(Self { many, one, swapped, meetings, operation })
    }

    /// What is computed at each step.
    pub(super) fn element(&self) -> Element {
        let Operation { op, matching, .. } = &self.operation;
        Element { op: *op, return_bool: matching.return_bool, swapped: self.swapped }
    }

    /// The labels of what series of these labels make together.
    pub(super) fn result_labels(&self, context: &Context, many: &Labels, one: &Labels) -> Labels {
        let m = &self.operation.matching;
        let nameless = makes_new(self.operation.op) || (m.return_bool && !context.behaviour.delayed_names);
        let counts = |name: &str| m.labels.iter().any(|l| l == name);
        let kept = many.filter(|name| {
            !(nameless && NAMING_LABELS.contains(&name))
                && (m.card != Cardinality::OneToOne || m.on == counts(name))
        });
        if m.include.is_empty() {
            return kept;
        }
        let mut builder = kept.to_builder();
        for name in &m.include {
            builder.set(name, one.value(name));
        }
        builder.build()
    }

    /// Whether a result's name goes away at the end of the query.
    pub(super) fn drops_name(&self, context: &Context, many: bool) -> bool {
        context.behaviour.delayed_names
            && (self.operation.matching.return_bool || (many && !makes_new(self.operation.op)))
    }
}

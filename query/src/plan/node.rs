//! The nodes of a plan.

use super::Grid;
use crate::ast::{BinaryOp, Cardinality, Fill, Grouping, ValueType};
use crate::catalog::{AggregatorId, FunctionId};
use crate::math::extended::Border;
use crate::math::window::WindowSteps;
use crate::span::Span;
use kymo_storage::model::{Labels, Matcher, TimeRange};

/// A query ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What is evaluated.
    pub(crate) root: Node,
    /// What is read, each distinct set of matchers once.
    pub(crate) selects: Vec<Select>,
}

impl Plan {
    /// All that is read.
    pub(crate) fn range(&self) -> TimeRange {
        let whole = self.selects.iter().map(|s| s.range).reduce(hull);
        whole.unwrap_or(TimeRange::new(0, 0))
    }
}

/// The smallest range with both in it.
pub(crate) fn hull(a: TimeRange, b: TimeRange) -> TimeRange {
    TimeRange::new(a.min_time.min(b.min_time), a.max_time.max(b.max_time))
}

/// Series that are read.
#[derive(Debug)]
pub(crate) struct Select {
    /// The conditions.
    pub(crate) matchers: Vec<Matcher>,
    /// From when to when, over all places that read them.
    pub(crate) range: TimeRange,
}

/// An expression.
#[derive(Debug)]
pub(crate) struct Node {
    /// What it does.
    pub(crate) kind: NodeKind,
    /// What it yields.
    pub(crate) value_type: ValueType,
    /// Where it stands in the text.
    pub(crate) span: Span,
}

/// What a node does.
#[derive(Debug)]
pub(crate) enum NodeKind {
    /// The same number at each step.
    Number(f64),
    /// A text.
    Text(Vec<u8>),
    /// The newest sample at each step.
    Instant(Window),
    /// A window of samples at each step.
    Range(Window),
    /// A function.
    Call {
        /// Which.
        id: FunctionId,
        /// Its arguments.
        args: Vec<Node>,
    },
    /// 1 at the steps at which the input is empty.
    Absent {
        /// What is looked at.
        input: Box<Node>,
        /// The labels of the answer.
        labels: Labels,
    },
    /// Many series into one a group.
    Aggregate {
        /// Which aggregator.
        id: AggregatorId,
        /// The groups.
        grouping: Grouping,
        /// Its parameter.
        param: Option<Box<Node>>,
        /// What is aggregated.
        input: Box<Node>,
    },
    /// Two sides and an operator.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// The left side.
        left: Box<Node>,
        /// The right side.
        right: Box<Node>,
        /// How they are paired.
        matching: Matching,
    },
    /// The negative.
    Negate(Box<Node>),
    /// Evaluated at one step only: the value is the same at all.
    Once(Box<Node>),
}

/// How the two sides of an operator are paired.
#[derive(Debug, Clone)]
pub(crate) struct Matching {
    /// How many series may meet.
    pub(crate) card: Cardinality,
    /// Whether `labels` are those that count (or those that do not).
    pub(crate) on: bool,
    /// Labels that count or do not.
    pub(crate) labels: Vec<String>,
    /// Labels copied from the one side.
    pub(crate) include: Vec<String>,
    /// Stand-ins for missing series.
    pub(crate) fill: Fill,
    /// Comparisons answer 0 and 1.
    pub(crate) return_bool: bool,
}

/// Windows over series, one a step.
#[derive(Debug)]
pub(crate) struct Window {
    /// Whose samples.
    pub(crate) source: WindowSource,
    /// The windows asked for.
    pub(crate) steps: WindowSteps,
    /// How their borders are treated, if not plainly.
    pub(crate) border: Option<Border>,
    /// The windows to read, wider than those asked for if borders are treated specially.
    pub(crate) read: WindowSteps,
    /// Whether of native histograms only count and sum are asked for.
    pub(crate) totals: bool,
}

/// Whose samples windows hold.
#[derive(Debug)]
pub(crate) enum WindowSource {
    /// Series read from the store: an index into [`Plan::selects`].
    Select(usize),
    /// An expression evaluated on a grid of its own.
    Subquery {
        /// What is evaluated.
        inner: Box<Node>,
        /// When.
        grid: Grid,
    },
}

//! An expression as the generator made it: text with the texts of its parts inside, so that a difference can be traced to the
//! smallest part that shows it.

use std::fmt;

/// What an expression yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// One number.
    Scalar,
    /// An instant vector.
    Vector,
    /// A range vector.
    Matrix,
    /// A text.
    Text,
}

/// How rounding goes through an operation: what difference its own arithmetic may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// A relative error of a few units of the last place: everything not named below.
    Relative,
    /// Exponentials: an absolute error of the input is a relative one of the answer.
    Exponential,
    /// Logarithms: the other way round.
    Logarithm,
    /// Arc functions, which are infinitely steep at the ends of what they are defined for.
    Arc,
    /// Sums and differences: errors are relative to the largest input, because large inputs may cancel.
    Additive,
    /// Sums of squares: relative to the square of the largest input, for the same reason.
    Squares,
    /// Fits of a line, whose sums hold products of values and seconds of the window.
    Fit,
    /// The answer jumps where the input crosses a value: comparisons, rounding to integers, ranks, labels made of values.
    Jumps,
    /// Periodic functions: an error in a large input is one of the phase.
    Periodic,
}

/// A piece of the text.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    /// Written as it is.
    Text(String),
    /// An expression of its own.
    Child(Node),
}

/// An expression.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// What it yields.
    pub(crate) yields: Type,
    /// What its outermost operation does to rounding.
    pub(crate) rounding: Rounding,
    /// Whether an instant query answers its series in an order that means something.
    pub(crate) ordered: bool,
    /// The text.
    pub(crate) parts: Vec<Part>,
}

impl Node {
    /// An expression without parts.
    pub(crate) fn leaf(yields: Type, text: impl Into<String>) -> Self {
        Self { yields, rounding: Rounding::Relative, ordered: false, parts: vec![Part::Text(text.into())] }
    }

    /// An expression of `parts`.
    pub(crate) fn of(yields: Type, rounding: Rounding, parts: Vec<Part>) -> Self {
        Self { yields, rounding, ordered: false, parts }
    }

    /// `before self after`, of which `self` stays a part.
    #[must_use]
    pub(crate) fn within(self, yields: Type, before: &str, after: &str) -> Self {
        Self::of(yields, Rounding::Relative, vec![text(before), Part::Child(self), text(after)])
    }

    /// The expressions of which it is made.
    pub(crate) fn children(&self) -> impl Iterator<Item = &Self> {
        self.parts.iter().filter_map(|part| match part {
            Part::Child(child) => Some(child),
            Part::Text(_) => None,
        })
    }
}

/// A piece of text.
pub(crate) fn text(text: impl Into<String>) -> Part {
    Part::Text(text.into())
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Child(child) => child.fmt(f),
        })
    }
}

//! Durations inside `[...]` and behind `offset`, which may be computed.

use crate::span::Span;

/// How two durations are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DurationOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `^`
    Pow,
    /// `min_of(a, b)`
    Min,
    /// `max_of(a, b)`
    Max,
}

/// A duration, or arithmetic on durations. All arithmetic is in seconds.
#[derive(Debug, Clone)]
pub enum DurationExpr {
    /// `5m` or `300`.
    Number {
        /// Seconds, possibly negative.
        seconds: f64,
        /// Whether it was written as a duration.
        duration: bool,
        /// Where.
        span: Span,
    },
    /// `step()`: the step of the query, zero for an instant query.
    Step {
        /// Where.
        span: Span,
    },
    /// `range()`: the time from the first step of the query to the last.
    Range {
        /// Where.
        span: Span,
    },
    /// `-d` (`true`) or `+d`.
    Sign {
        /// Whether it negates.
        minus: bool,
        /// What follows.
        operand: Box<DurationExpr>,
        /// Where.
        span: Span,
    },
    /// `a op b`, `min_of(a, b)` or `max_of(a, b)`.
    Binary {
        /// The operation.
        op: DurationOp,
        /// The left side.
        left: Box<DurationExpr>,
        /// The right side.
        right: Box<DurationExpr>,
        /// Where.
        span: Span,
    },
    /// `(d)`.
    Paren {
        /// What is inside.
        inner: Box<DurationExpr>,
        /// Where.
        span: Span,
    },
}

impl PartialEq for DurationExpr {
    /// Numbers by bits.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Number { seconds: a, duration: b, span: c },
                Self::Number { seconds: x, duration: y, span: z },
            ) => a.to_bits() == x.to_bits() && b == y && c == z,
            (Self::Step { span: a }, Self::Step { span: x })
            | (Self::Range { span: a }, Self::Range { span: x }) => a == x,
            (Self::Sign { minus: a, operand: b, span: c }, Self::Sign { minus: x, operand: y, span: z }) => {
                a == x && b == y && c == z
            }
            (
                Self::Binary { op: a, left: b, right: c, span: d },
                Self::Binary { op: w, left: x, right: y, span: z },
            ) => a == w && b == x && c == y && d == z,
            (Self::Paren { inner: a, span: b }, Self::Paren { inner: x, span: y }) => a == x && b == y,
            _ => false,
        }
    }
}

/// Seconds that fit an `i64` of nanoseconds: about 292 years, the bound of every duration.
const SECONDS_MAX: f64 = 9_223_372_036.0;

impl DurationExpr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Number { span, .. }
            | Self::Step { span }
            | Self::Range { span }
            | Self::Sign { span, .. }
            | Self::Binary { span, .. }
            | Self::Paren { span, .. } => *span,
        }
    }

    /// The value in milliseconds (truncated towards zero) in a query of this step and length, both in milliseconds.
    ///
    /// # Errors
    /// The place and the reason: a division by zero, or a result out of range.
    pub fn millis(&self, step_ms: i64, range_ms: i64) -> Result<i64, (Span, &'static str)> {
        let seconds = self.seconds(step_ms, range_ms)?;
        if seconds.is_nan() || seconds.abs() > SECONDS_MAX {
            return Err((self.span(), "duration out of range"));
        }
        // In range by the check above.
        Ok((seconds * 1000.0) as i64)
    }

    /// Like [`DurationExpr::millis`] for a range or a step, which must be positive.
    ///
    /// # Errors
    /// As for [`DurationExpr::millis`], or a result that is not positive.
    pub fn positive_millis(&self, step_ms: i64, range_ms: i64) -> Result<i64, (Span, &'static str)> {
        match self.millis(step_ms, range_ms)? {
            ms if ms > 0 => Ok(ms),
            _ => Err((self.span(), "duration must be greater than 0")),
        }
    }

    fn seconds(&self, step_ms: i64, range_ms: i64) -> Result<f64, (Span, &'static str)> {
        Ok(match self {
            Self::Number { seconds, .. } => *seconds,
            Self::Step { .. } => step_ms as f64 / 1000.0,
            Self::Range { .. } => range_ms as f64 / 1000.0,
            Self::Sign { minus, operand, .. } => {
                let value = operand.seconds(step_ms, range_ms)?;
                if *minus { -value } else { value }
            }
            Self::Paren { inner, .. } => inner.seconds(step_ms, range_ms)?,
            Self::Binary { op, left, right, .. } => {
                let a = left.seconds(step_ms, range_ms)?;
                let b = right.seconds(step_ms, range_ms)?;
                match op {
                    DurationOp::Add => a + b,
                    DurationOp::Sub => a - b,
                    DurationOp::Mul => a * b,
                    DurationOp::Div if b == 0.0 => return Err((right.span(), "division by zero")),
                    DurationOp::Div => a / b,
                    DurationOp::Mod if b == 0.0 => return Err((right.span(), "modulo by zero")),
                    DurationOp::Mod => a % b,
                    DurationOp::Pow => a.powf(b),
                    DurationOp::Min => a.min(b),
                    DurationOp::Max => a.max(b),
                }
            }
        })
    }
}

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
    /// `-d`; the sign of a number is part of the number.
    Negate {
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
            (Self::Negate { operand: a, span: b }, Self::Negate { operand: x, span: y })
            | (Self::Paren { inner: a, span: b }, Self::Paren { inner: x, span: y }) => a == x && b == y,
            (
                Self::Binary { op: a, left: b, right: c, span: d },
                Self::Binary { op: w, left: x, right: y, span: z },
            ) => a == w && b == x && c == y && d == z,
            _ => false,
        }
    }
}

/// Seconds that fit an `i64` of nanoseconds: about 292 years, the bound of every duration.
pub(crate) const SECONDS_MAX: f64 = 9_223_372_036.0;

impl DurationExpr {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Self::Number { span, .. }
            | Self::Step { span }
            | Self::Range { span }
            | Self::Negate { span, .. }
            | Self::Binary { span, .. }
            | Self::Paren { span, .. } => *span,
        }
    }

    /// Forgets where everything stood.
    pub fn clear_spans(&mut self) {
        match self {
            Self::Number { span, .. } | Self::Step { span } | Self::Range { span } => {
                *span = Span::default();
            }
            Self::Negate { operand: inner, span } | Self::Paren { inner, span } => {
                *span = Span::default();
                inner.clear_spans();
            }
            Self::Binary { left, right, span, .. } => {
                *span = Span::default();
                left.clear_spans();
                right.clear_spans();
            }
        }
    }

    /// The value in milliseconds in a query of this step and length, both in milliseconds. A number is rounded to
    /// nanoseconds and then, like the result of arithmetic, truncated towards zero.
    ///
    /// # Errors
    /// The place and the reason: a division by zero, or a result out of range.
    pub fn millis(&self, step_ms: i64, range_ms: i64) -> Result<i64, (Span, &'static str)> {
        let seconds = self.seconds(step_ms, range_ms)?;
        if !seconds.is_finite() {
            return Err((self.span(), "duration is NaN or infinite"));
        }
        if seconds.abs() > SECONDS_MAX {
            return Err((self.span(), "duration is out of range"));
        }
        // In range by the checks above.
        Ok(match self {
            Self::Number { .. } => ((seconds * 1e9).round() as i64) / 1_000_000,
            _ => (seconds * 1000.0) as i64,
        })
    }

    /// Like [`DurationExpr::millis`] for a range or a step, which must be positive.
    ///
    /// # Errors
    /// As for [`DurationExpr::millis`], or a result that is not positive.
    pub fn positive_millis(&self, step_ms: i64, range_ms: i64) -> Result<i64, (Span, &'static str)> {
        let millis = self.millis(step_ms, range_ms)?;
        if self.seconds(step_ms, range_ms)? <= 0.0 {
            return Err((self.span(), "duration must be greater than 0"));
        }
        Ok(millis)
    }

    fn seconds(&self, step_ms: i64, range_ms: i64) -> Result<f64, (Span, &'static str)> {
        Ok(match self {
            Self::Number { seconds, .. } => *seconds,
            Self::Step { .. } => step_ms as f64 / 1000.0,
            Self::Range { .. } => range_ms as f64 / 1000.0,
            Self::Negate { operand, .. } => -operand.seconds(step_ms, range_ms)?,
            Self::Paren { inner, .. } => inner.seconds(step_ms, range_ms)?,
            Self::Binary { op, left, right, .. } => {
                let a = left.seconds(step_ms, range_ms)?;
                let b = right.seconds(step_ms, range_ms)?;
                match op {
                    DurationOp::Add => a + b,
                    DurationOp::Sub => a - b,
                    DurationOp::Mul => a * b,
                    DurationOp::Div if b == 0.0 => return Err((self.span(), "division by zero")),
                    DurationOp::Div => a / b,
                    DurationOp::Mod if b == 0.0 => return Err((self.span(), "modulo by zero")),
                    DurationOp::Mod => a % b,
                    DurationOp::Pow => a.powf(b),
                    // A NaN makes the result NaN, which `f64::min` would drop.
                    DurationOp::Min | DurationOp::Max if a.is_nan() || b.is_nan() => f64::NAN,
                    DurationOp::Min => a.min(b),
                    DurationOp::Max => a.max(b),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(seconds: f64) -> DurationExpr {
        DurationExpr::Number { seconds, duration: true, span: Span::default() }
    }

    fn binary(op: DurationOp, left: DurationExpr, right: DurationExpr) -> DurationExpr {
        let span = Span::new(0, 1);
        DurationExpr::Binary { op, left: Box::new(left), right: Box::new(right), span }
    }

    #[test]
    fn arithmetic_is_in_seconds() {
        let step = DurationExpr::Step { span: Span::default() };
        assert_eq!(number(0.29).millis(0, 0), Ok(290));
        assert_eq!(binary(DurationOp::Pow, number(2.0), number(3.0)).millis(0, 0), Ok(8000));
        assert_eq!(binary(DurationOp::Mod, number(-7.0), number(4.0)).millis(0, 0), Ok(-3000));
        assert_eq!(binary(DurationOp::Max, step.clone(), number(4.0)).millis(5000, 0), Ok(5000));
        assert_eq!(step.positive_millis(0, 9).map_err(|e| e.1), Err("duration must be greater than 0"));
        let zero = binary(DurationOp::Div, number(1.0), step);
        assert_eq!(zero.millis(0, 0), Err((Span::new(0, 1), "division by zero")));
        let huge = binary(DurationOp::Pow, number(10.0), number(300.0));
        assert_eq!(huge.millis(0, 0).map_err(|e| e.1), Err("duration is out of range"));
    }
}

//! Functions and operators on single numbers. Hot path.

use crate::ast::BinaryOp;
use crate::catalog::FunctionId;

/// The function behind a call that maps each sample alone, if `id` is one.
pub(crate) fn function(id: FunctionId) -> Option<fn(f64) -> f64> {
    Some(match id {
        FunctionId::Abs => f64::abs,
        FunctionId::Acos => f64::acos,
        FunctionId::Acosh => inverse_cosh,
        FunctionId::Asin => f64::asin,
        FunctionId::Asinh => inverse_sinh,
        FunctionId::Atan => f64::atan,
        FunctionId::Atanh => inverse_tanh,
        FunctionId::Ceil => f64::ceil,
        FunctionId::Cos => f64::cos,
        FunctionId::Cosh => cosine_hyperbolic,
        FunctionId::Deg => |v| v * 180.0 / std::f64::consts::PI,
        FunctionId::Exp => f64::exp,
        FunctionId::Floor => f64::floor,
        FunctionId::Ln => f64::ln,
        FunctionId::Log10 => f64::log10,
        FunctionId::Log2 => f64::log2,
        FunctionId::Rad => |v| v * std::f64::consts::PI / 180.0,
        FunctionId::Sgn => |v| {
            if v < 0.0 {
                -1.0
            } else if v > 0.0 {
                1.0
            } else {
                v
            }
        },
        FunctionId::Sin => f64::sin,
        FunctionId::Sinh => sine_hyperbolic,
        FunctionId::Sqrt => f64::sqrt,
        FunctionId::Tan => f64::tan,
        FunctionId::Tanh => f64::tanh,
        _ => return None,
    })
}

/// From here on `x * x + 1` is `x * x`, and `x + x` may be too large.
const LARGE: f64 = (1u64 << 28) as f64;

/// From here on the smaller of the two exponentials in a hyperbolic sine does not count. Half of an exponential is infinite a
/// little earlier than its half would be; so it is in Prometheus.
const STEEP: f64 = 21.0;

fn sine_hyperbolic(x: f64) -> f64 {
    if x.abs() > STEEP { (x.abs().exp() * 0.5).copysign(x) } else { x.sinh() }
}

fn cosine_hyperbolic(x: f64) -> f64 {
    if x.abs() > STEEP { x.abs().exp() * 0.5 } else { x.cosh() }
}

/// The inverse hyperbolic sine, exact to the last digits near zero and for the largest numbers, too.
fn inverse_sinh(value: f64) -> f64 {
    let x = value.abs();
    let result = if !x.is_finite() || x < 1.0 / LARGE {
        x
    } else if x > LARGE {
        x.ln() + std::f64::consts::LN_2
    } else if x > 2.0 {
        (2.0 * x + 1.0 / ((x * x + 1.0).sqrt() + x)).ln()
    } else {
        (x + x * x / (1.0 + (1.0 + x * x).sqrt())).ln_1p()
    };
    result.copysign(value)
}

/// The inverse hyperbolic cosine; the same holds.
fn inverse_cosh(x: f64) -> f64 {
    if x.is_nan() || x < 1.0 {
        f64::NAN
    } else if x >= LARGE {
        x.ln() + std::f64::consts::LN_2
    } else if x > 2.0 {
        (2.0 * x - 1.0 / (x + (x * x - 1.0).sqrt())).ln()
    } else {
        let over = x - 1.0;
        (over + (2.0 * over + over * over).sqrt()).ln_1p()
    }
}

/// The inverse hyperbolic tangent.
fn inverse_tanh(value: f64) -> f64 {
    let x = value.abs();
    let result = if x < 1.0 / LARGE {
        x
    } else if x < 0.5 {
        0.5 * (2.0 * x + 2.0 * x * x / (1.0 - x)).ln_1p()
    } else {
        0.5 * (2.0 * x / (1.0 - x)).ln_1p()
    };
    result.copysign(value)
}

/// To the nearest multiple of `to`; ties go up.
#[inline]
pub(crate) fn round(value: f64, to: f64) -> f64 {
    let inverse = 1.0 / to;
    (value * inverse + 0.5).floor() / inverse
}

/// The greater number: `+Inf` if either is, else `NaN` if either is; zero is above its negative.
#[inline]
pub(crate) fn greater(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else if a > b {
        a
    } else {
        b
    }
}

/// The smaller number: `-Inf` if either is, else `NaN` if either is; negative zero is below zero.
#[inline]
pub(crate) fn smaller(a: f64, b: f64) -> f64 {
    -greater(-a, -b)
}

/// `a op b`; comparisons answer 0 and 1. Set and trim operators have no meaning here and answer `NaN`.
#[inline]
pub(crate) fn operate(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless | BinaryOp::TrimUpper | BinaryOp::TrimLower => {
            f64::NAN
        }
        _ => f64::from(u8::from(compare(op, a, b))),
    }
}

/// Whether `a op b` holds, for comparisons.
#[inline]
pub(crate) fn compare(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Equal => a == b,
        BinaryOp::NotEqual => a != b,
        BinaryOp::Less => a < b,
        BinaryOp::LessOrEqual => a <= b,
        BinaryOp::Greater => a > b,
        BinaryOp::GreaterOrEqual => a >= b,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_and_signs() {
        assert_eq!(round(2.5, 1.0), 3.0);
        assert_eq!(round(-2.5, 1.0), -2.0);
        assert_eq!(round(5.017, 0.01), 5.02);
        let sgn = function(FunctionId::Sgn).unwrap();
        assert_eq!((sgn(-3.0), sgn(0.0), sgn(9.0)), (-1.0, 0.0, 1.0));
        assert!(sgn(f64::NAN).is_nan());
        assert!(greater(1.0, f64::NAN).is_nan() && smaller(f64::NAN, 1.0).is_nan());
        assert_eq!((greater(1.0, 2.0), smaller(1.0, 2.0)), (2.0, 1.0));
        assert_eq!(greater(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert_eq!(smaller(f64::NEG_INFINITY, f64::NAN), f64::NEG_INFINITY);
        assert!(greater(-0.0, 0.0).is_sign_positive() && smaller(0.0, -0.0).is_sign_negative());
        assert_eq!(operate(BinaryOp::Mod, -5.0, 3.0), -2.0);
        assert_eq!(operate(BinaryOp::LessOrEqual, 1.0, 1.0), 1.0);
    }
}

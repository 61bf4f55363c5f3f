//! What a query answers: a scalar, a text, a vector or a matrix; and how its numbers are written.

use kymo_storage::model::{FloatHistogram, Labels, Timestamp};
use std::sync::Arc;

/// The answer of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One number (instant queries only; a range query answers a matrix of one series without labels).
    Scalar(Point),
    /// A text (instant queries only).
    String {
        /// The evaluation time.
        timestamp: Timestamp,
        /// The text.
        text: String,
    },
    /// One sample a series, all at the evaluation time.
    Vector(Vec<VectorSample>),
    /// Series of samples; sorted by labels unless it answers an instant query.
    Matrix(Vec<Series>),
}

impl Value {
    /// `scalar`, `string`, `vector` or `matrix`, as the HTTP API names it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Scalar(_) => "scalar",
            Self::String { .. } => "string",
            Self::Vector(_) => "vector",
            Self::Matrix(_) => "matrix",
        }
    }
}

/// A number at an instant.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// The number.
    pub value: f64,
}

impl PartialEq for Point {
    /// Numbers by bits, so that `NaN` equals itself.
    fn eq(&self, other: &Self) -> bool {
        self.timestamp == other.timestamp && self.value.to_bits() == other.value.to_bits()
    }
}

/// A native histogram at an instant.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramPoint {
    /// Milliseconds since the epoch.
    pub timestamp: Timestamp,
    /// The histogram.
    pub histogram: Arc<FloatHistogram>,
}

/// One element of an instant vector.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorSample {
    /// Its labels.
    pub labels: Labels,
    /// Its value and the evaluation time.
    pub point: Point,
    /// Its native histogram, if it is one; the value of `point` is then `NaN`.
    pub histogram: Option<Arc<FloatHistogram>>,
}

/// One series of a matrix. At no time there is both a float and a histogram, and at some time there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: Labels,
    /// Its floats in time order.
    pub points: Vec<Point>,
    /// Its native histograms in time order.
    pub histograms: Vec<HistogramPoint>,
}

/// A sample's value as the HTTP API writes it: the shortest digits that read back the same, with an exponent if the value is
/// below 1e-6 or from 1e21 on; `NaN`, `+Inf`, `-Inf`.
pub fn format_value(value: f64) -> String {
    let mut out = String::with_capacity(24);
    write_value(&mut out, value);
    out
}

/// A scalar's value as the HTTP API writes it: the shortest digits that read back the same, never with an exponent.
pub fn format_scalar(value: f64) -> String {
    let mut out = String::with_capacity(24);
    write_scalar(&mut out, value);
    out
}

/// Appends what [`format_value`] gives.
pub fn write_value(out: &mut String, value: f64) {
    let size = value.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) && value.is_finite() {
        let (digits, point) = shortest(value, out);
        let (first, rest) = digits.split_at(1.min(digits.len()));
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        let exponent = point - 1;
        out.push_str(if exponent < 0 { "e-" } else { "e+" });
        let size = exponent.unsigned_abs();
        if size < 10 {
            out.push('0');
        }
        out.push_str(itoa::Buffer::new().format(size));
    } else {
        write_scalar(out, value);
    }
}

/// Appends what [`format_scalar`] gives.
pub fn write_scalar(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else if value == 0.0 {
        out.push_str(if value.is_sign_negative() { "-0" } else { "0" });
    } else {
        let (digits, point) = shortest(value, out);
        let count = digits.len() as i32;
        if point <= 0 {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
            out.push_str(&digits);
        } else if point >= count {
            out.push_str(&digits);
            out.extend(std::iter::repeat_n('0', (point - count).unsigned_abs() as usize));
        } else {
            let (whole, fraction) = digits.split_at(point as usize);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
    }
}

/// The digits of a finite number other than zero, without zeros at either end, and where the decimal point stands: the number is
/// `0.DIGITS * 10^point`. The sign goes to `out`.
fn shortest(value: f64, out: &mut String) -> (String, i32) {
    if value < 0.0 {
        out.push('-');
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = String::with_capacity(20);
    digits.push_str(whole);
    digits.push_str(fraction);
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let point = whole.len() as i32 - leading as i32 + exponent;
    let digits = digits.trim_matches('0').to_owned();
    (digits, point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_laid_out_as_clients_know_them() {
        let cases = [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (1.0, "1", "1"),
            (-1.5, "-1.5", "-1.5"),
            (1e22, "1e+22", "10000000000000000000000"),
            (1e21, "1e+21", "1000000000000000000000"),
            (1e20, "100000000000000000000", "100000000000000000000"),
            (1e-6, "0.000001", "0.000001"),
            (1e-7, "1e-07", "0.0000001"),
            (1.25e-10, "1.25e-10", "0.000000000125"),
            (123456.789, "123456.789", "123456.789"),
            (1e300, "1e+300", &format!("1{}", "0".repeat(300))),
            (f64::NAN, "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
        ];
        for (value, sample, scalar) in cases {
            assert_eq!(format_value(value), sample);
            assert_eq!(format_scalar(value), scalar);
        }
    }

    proptest! {
        #[test]
        fn written_numbers_read_back(bits in any::<u64>()) {
            let value = f64::from_bits(bits);
            for text in [format_value(value), format_scalar(value)] {
                let read: f64 = text.replace("Inf", "inf").parse().unwrap();
                prop_assert!(read.to_bits() == value.to_bits() || (read.is_nan() && value.is_nan()), "{text}");
            }
        }
    }
}

//! Writes API results as JSON: numbers, times and texts in the forms Prometheus gives them. Hot path.

use kymo_query::histogram_json::write_histogram;
use kymo_storage::model::{FloatHistogram, Labels, Timestamp};
use std::io::{self, Write};

/// Vector and matrix values outside `[VALUE_FIXED_MIN, VALUE_FIXED_END)` are written with an exponent.
const VALUE_FIXED_MIN: f64 = 1e-6;
const VALUE_FIXED_END: f64 = 1e21;
/// Integers below this are exact as `f64`, so their digits can be written directly.
const INTEGER_EXACT_END: f64 = 9_007_199_254_740_992.0;

/// Writes a JSON string with its quotes. `<`, `>` and `&` are escaped too: a result shown by a careless page stays text.
///
/// # Errors
/// As the writer.
pub fn string(out: &mut impl Write, text: &str) -> io::Result<()> {
    string_bytes(out, text.as_bytes())
}

/// Writes anything that serializes. What a page could take for markup is written as [`string`] writes it: these bytes stand in
/// strings only.
///
/// # Errors
/// As the writer.
pub fn page(out: &mut impl Write, page: &impl serde::Serialize) -> io::Result<()> {
    let text = serde_json::to_string(page)?;
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['<', '>', '&']) {
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.write_all(plain.as_bytes())?;
        let mut tail = tail.chars();
        write!(out, "\\u{:04x}", tail.next().map_or(0, u32::from))?;
        rest = tail.as_str();
    }
    out.write_all(rest.as_bytes())
}

/// Bytes that cannot stand in a string as they are.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte < 0x20 || byte == 0x7f;
        byte += 1;
    }
    let mut others: &[u8] = b"\"\\<>&";
    while let [first, rest @ ..] = others {
        table[*first as usize] = true;
        others = rest;
    }
    table
};

/// As [`string`], for bytes that are UTF-8.
fn string_bytes(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(b"\"")?;
    if !bytes.iter().fold(false, |any, byte| any | ESCAPED[usize::from(*byte)]) {
        out.write_all(bytes)?;
        return out.write_all(b"\"");
    }
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| ESCAPED[usize::from(*byte)]) {
        let (plain, tail) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.write_all(plain)?;
        let Some((byte, tail)) = tail.split_first() else { break };
        match byte {
            b'"' => out.write_all(b"\\\"")?,
            b'\\' => out.write_all(b"\\\\")?,
            b'\n' => out.write_all(b"\\n")?,
            b'\r' => out.write_all(b"\\r")?,
            b'\t' => out.write_all(b"\\t")?,
            byte => write!(out, "\\u{byte:04x}")?,
        }
        rest = tail;
    }
    out.write_all(rest)?;
    out.write_all(b"\"")
}

/// Writes a list of strings.
///
/// # Errors
/// As the writer.
pub fn strings<S: AsRef<str>>(out: &mut impl Write, texts: impl IntoIterator<Item = S>) -> io::Result<()> {
    out.write_all(b"[")?;
    for (i, text) in texts.into_iter().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        string(out, text.as_ref())?;
    }
    out.write_all(b"]")
}

/// Writes a label set as an object, in the order of the names' bytes.
///
/// # Errors
/// As the writer.
pub fn labels(out: &mut impl Write, labels: &Labels) -> io::Result<()> {
    out.write_all(b"{")?;
    for (i, (name, value)) in labels.iter_bytes().enumerate() {
        if i > 0 {
            out.write_all(b",")?;
        }
        string_bytes(out, name)?;
        out.write_all(b":")?;
        string_bytes(out, value)?;
    }
    out.write_all(b"}")
}

/// Writes a time in seconds: without a fraction, or with exactly three digits of it.
///
/// # Errors
/// As the writer.
pub fn timestamp(out: &mut impl Write, timestamp: Timestamp) -> io::Result<()> {
    if timestamp < 0 {
        out.write_all(b"-")?;
    }
    let ms = timestamp.unsigned_abs();
    out.write_all(itoa::Buffer::new().format(ms / 1000).as_bytes())?;
    match ms % 1000 {
        0 => Ok(()),
        fraction => write!(out, ".{fraction:03}"),
    }
}

/// Writes a sample's value as a string: the shortest digits that give the same float, with an exponent only for very
/// large and very small ones.
///
/// # Errors
/// As the writer.
pub fn value(out: &mut impl Write, value: f64) -> io::Result<()> {
    let size = value.abs();
    let fixed = size == 0.0 || (VALUE_FIXED_MIN..VALUE_FIXED_END).contains(&size);
    if fixed || !value.is_finite() {
        return fixed_value(out, value);
    }
    // Rust writes `1e-7`, Prometheus at least two digits and a sign: `1e-07`, `1e+22`.
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    write!(out, "\"{digits}e{sign}{exponent:0>2}\"")
}

/// Writes a value as a string that never has an exponent: the form of scalar results.
///
/// # Errors
/// As the writer.
pub fn fixed_value(out: &mut impl Write, value: f64) -> io::Result<()> {
    out.write_all(b"\"")?;
    if value.is_nan() {
        out.write_all(b"NaN")?;
    } else if value.is_infinite() {
        out.write_all(if value > 0.0 { b"+Inf" } else { b"-Inf" })?;
    } else if value == value.trunc() && value.abs() < INTEGER_EXACT_END {
        if value.is_sign_negative() {
            out.write_all(b"-")?;
        }
        out.write_all(itoa::Buffer::new().format(value.abs() as u64).as_bytes())?;
    } else {
        let mut buffer = ryu::Buffer::new();
        let text = buffer.format_finite(value);
        if text.contains('e') {
            write!(out, "{value}")?;
        } else {
            out.write_all(text.strip_suffix(".0").unwrap_or(text).as_bytes())?;
        }
    }
    out.write_all(b"\"")
}

/// Writes `[time,"value"]` of a vector or matrix.
///
/// # Errors
/// As the writer.
pub fn sample(out: &mut impl Write, time: Timestamp, sample_value: f64) -> io::Result<()> {
    out.write_all(b"[")?;
    timestamp(out, time)?;
    out.write_all(b",")?;
    value(out, sample_value)?;
    out.write_all(b"]")
}

/// How many texts of times are kept.
const TIMES_MAX: usize = 1 << 14;
/// Room for `[time,"`: eleven digits of seconds and more, a fraction.
const TIME_BYTES: usize = 32;

/// The texts of the times of a range query, which all of its series share.
#[derive(Debug, Default)]
pub struct Times {
    /// By time: the beginning of a sample, and its length.
    known: Vec<(Timestamp, usize, [u8; TIME_BYTES])>,
    /// The one that follows the last that was used.
    next: usize,
}

impl Times {
    /// Appends `[time,"value"]`.
    pub fn sample(&mut self, out: &mut Vec<u8>, time: Timestamp, sample_value: f64) {
        let known = match self.known.get(self.next) {
            Some(known) if known.0 == time => Some(known),
            _ => {
                self.next = self.place_of(time);
                self.known.get(self.next).filter(|known| known.0 == time)
            }
        };
        match known {
            Some((_, length, text)) => {
                // Copying a fixed number of bytes costs less than copying a few.
                let end = out.len() + length;
                out.extend_from_slice(text);
                out.truncate(end);
            }
            None => drop(begin_sample(out, time)),
        }
        self.next += 1;
        push_value(out, sample_value);
        out.push(b']');
    }

    /// The place of a time, which is kept there if there is room.
    fn place_of(&mut self, time: Timestamp) -> usize {
        let place = self.known.partition_point(|known| known.0 < time);
        if self.known.len() < TIMES_MAX && self.known.get(place).is_none_or(|known| known.0 != time) {
            let mut text = Vec::with_capacity(TIME_BYTES);
            let mut bytes = [0; TIME_BYTES];
            let is_written = begin_sample(&mut text, time).is_ok();
            if let Some(room) = bytes.get_mut(..text.len()).filter(|_| is_written) {
                room.copy_from_slice(&text);
                self.known.insert(place, (time, text.len(), bytes));
            }
        }
        place
    }
}

/// Writes `[time,`.
fn begin_sample(out: &mut impl Write, time: Timestamp) -> io::Result<()> {
    out.write_all(b"[")?;
    timestamp(out, time)?;
    out.write_all(b",")
}

/// As [`value`].
fn push_value(out: &mut Vec<u8>, sample_value: f64) {
    let integer = sample_value as i64;
    let is_integer = integer as f64 == sample_value && integer.unsigned_abs() < INTEGER_EXACT_END as u64;
    if is_integer && (integer != 0 || sample_value.is_sign_positive()) {
        out.push(b'"');
        out.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
        out.push(b'"');
    } else {
        // Writing to memory cannot fail.
        drop(value(out, sample_value));
    }
}

/// Writes `[time,{"count":...}]` of a vector or matrix: a native histogram.
///
/// # Errors
/// As the writer.
pub fn histogram_sample(out: &mut impl Write, time: Timestamp, histogram: &FloatHistogram) -> io::Result<()> {
    out.write_all(b"[")?;
    timestamp(out, time)?;
    out.write_all(b",")?;
    let mut text = String::new();
    write_histogram(&mut text, histogram);
    out.write_all(text.as_bytes())?;
    out.write_all(b"]")
}

/// Writes a time in seconds as the shortest float, the form beside scalar and string results.
///
/// # Errors
/// As the writer.
pub fn short_timestamp(out: &mut impl Write, timestamp: Timestamp) -> io::Result<()> {
    write!(out, "{}", timestamp as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_no_markup_in_any_value() {
        let mut out = Vec::new();
        page(&mut out, &serde_json::json!({"<a>": ["&", "é", 1.5]})).unwrap();
        assert_eq!(out, br#"{"\u003ca\u003e":["\u0026",""#.iter().copied().chain("é".bytes()).chain(*br#"",1.5]}"#).collect::<Vec<u8>>());
    }
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_in_both_forms() {
        // value, in vectors and matrices, as a scalar
        let cases: [(f64, &str, &str); 17] = [
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (1.5, "1.5", "1.5"),
            (-3.0, "-3", "-3"),
            (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
            (1e22, "1e+22", "10000000000000000000000"),
            (1e21, "1e+21", "1000000000000000000000"),
            (9.99e20, "999000000000000000000", "999000000000000000000"),
            (123_456_789_012_345_680.0, "123456789012345680", "123456789012345680"),
            (1e-6, "0.000001", "0.000001"),
            (1e-7, "1e-07", "0.0000001"),
            (-1.25e-7, "-1.25e-07", "-0.000000125"),
            (1e100, "1e+100", &format!("1{}", "0".repeat(100))),
            (f64::NAN, "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf"),
            (1_795_238_466.28, "1795238466.28", "1795238466.28"),
        ];
        for (number, vector, scalar) in cases {
            assert_eq!(text(|o| value(o, number)), format!("\"{vector}\""), "{number:e}");
            assert_eq!(text(|o| fixed_value(o, number)), format!("\"{scalar}\""), "{number:e}");
        }
    }

    #[test]
    fn times() {
        let cases = [
            (1_795_238_466_280, "1795238466.280"),
            (123, "0.123"),
            (5, "0.005"),
            (4_000, "4"),
            (0, "0"),
            (-5_500, "-5.500"),
            (-1, "-0.001"),
            (i64::MIN, "-9223372036854775.808"),
        ];
        for (ms, expected) in cases {
            assert_eq!(text(|o| timestamp(o, ms)), expected);
        }
        assert_eq!(text(|o| short_timestamp(o, 1_795_238_466_280)), "1795238466.28");
    }

    #[test]
    fn shared_times_are_written_as_single_ones() {
        let mut times = Times::default();
        for list in [
            vec![(15_500, 1.0), (31_000, f64::NAN)],
            vec![(31_000, -2.5), (i64::MAX, -0.0)],
            vec![(-1, 0.0), (0, 1e22), (15_500, 1e22), (16_000, 0.5), (31_000, 3.0), (i64::MAX, -9e15)],
            vec![(15_500, -7.0), (31_000, 9_007_199_254_740_992.0), (i64::MAX, f64::NEG_INFINITY)],
        ] {
            let mut together = Vec::new();
            for (time, value) in list {
                let single = text(|o| sample(o, time, value));
                let start = together.len();
                times.sample(&mut together, time, value);
                assert_eq!(String::from_utf8_lossy(&together[start..]), single);
            }
        }
    }

    #[test]
    fn histograms_are_objects() {
        let histogram =
            FloatHistogram { count: 2.5, sum: -1.0, zero_count: 2.0, ..FloatHistogram::default() };
        let expected = r#"[1.500,{"count":"2.5","sum":"-1","buckets":[[3,"-0","0","2"]]}]"#;
        assert_eq!(text(|o| histogram_sample(o, 1_500, &histogram)), expected);
    }

    #[test]
    fn label_objects() {
        let set = Labels::from_pairs([("b", "x\"\\\n\u{1}<é"), ("__name__", "up")]);
        assert_eq!(text(|o| labels(o, &set)), r#"{"__name__":"up","b":"x\"\\\n\u0001\u003cé"}"#);
        assert_eq!(text(|o| strings(o, ["a", "b"])), r#"["a","b"]"#);
    }

    proptest! {
        #[test]
        fn strings_read_back(input in any::<String>()) {
            let read: String = serde_json::from_str(&text(|o| string(o, &input))).unwrap();
            prop_assert_eq!(read, input);
        }

        #[test]
        fn values_read_back(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            prop_assume!(!number.is_nan());
            for written in [text(|o| value(o, number)), text(|o| fixed_value(o, number))] {
                let read: f64 = written.trim_matches('"').parse().unwrap();
                prop_assert_eq!(read.to_bits(), bits, "{}", written);
            }
        }
    }
}

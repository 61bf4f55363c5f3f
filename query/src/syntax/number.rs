//! Where a number or a duration ends in the text, and what it is worth.

use crate::format::quote;

/// `value` behind a minus sign. The language has one NaN, without a sign.
pub(super) fn negated(value: f64) -> f64 {
    if value.is_nan() { value } else { -value }
}

/// What [`scan`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scanned {
    Number,
    Duration,
    /// Neither; the length covers what was looked at.
    Neither,
}

/// A reader of bytes. All it takes is ASCII, except the one character that ends a bad number.
struct Bytes<'t> {
    text: &'t str,
    at: usize,
}

impl Bytes<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn is(&self, set: impl Fn(u8) -> bool) -> bool {
        self.peek().is_some_and(set)
    }

    fn accept(&mut self, set: impl Fn(u8) -> bool) -> bool {
        let found = self.is(set);
        self.at += usize::from(found);
        found
    }

    fn accept_any(&mut self, set: &[u8]) -> bool {
        self.accept(|b| set.contains(&b))
    }

    fn skip_digits(&mut self) {
        while self.accept(|b| b.is_ascii_digit()) {}
    }
}

/// Finds the number or duration that `text` begins with; returns its length in bytes.
pub(super) fn scan(text: &str) -> (Scanned, usize) {
    let mut bytes = Bytes { text, at: 0 };
    if scan_number(&mut bytes) {
        return (Scanned::Number, bytes.at);
    }
    if scan_duration_rest(&mut bytes) {
        return (Scanned::Duration, bytes.at);
    }
    (Scanned::Neither, bytes.at)
}

/// Takes as much of a number as there is; whether it is one that ends properly. It may still be out of range.
fn scan_number(bytes: &mut Bytes<'_>) -> bool {
    let mut hex = false;
    if bytes.accept_any(b"0") && bytes.accept_any(b"xX") {
        hex = true;
        bytes.accept_any(b"_");
    }
    let digit = move |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    // A dot in front is not counted: `.5.5` is one token, and then no number.
    bytes.accept_any(b".");
    bytes.accept(digit);
    let mut dot = false;
    let mut exponent = false;
    loop {
        if bytes.is(|b| b == b'.') {
            bytes.at += 1;
            if dot || bytes.accept_any(b"_.") || hex {
                return false;
            }
            dot = true;
        } else if bytes.is(|b| b == b'e' || b == b'E') {
            // Even where it would be a hexadecimal digit: `0xfe` is no number, `0xef` is one.
            bytes.at += 1;
            if exponent {
                return false;
            }
            exponent = true;
            bytes.accept_any(b"+-");
            if bytes.accept_any(b"._eE") || bytes.peek().is_none() {
                return false;
            }
        } else if bytes.accept_any(b"_") {
            if bytes.accept_any(b"._eE") || bytes.peek().is_none() {
                return false;
            }
        } else if bytes.is(digit) {
            while bytes.accept(digit) {}
        } else {
            break;
        }
    }
    bytes.at > 0 && !bytes.is(is_alphanumeric)
}

/// Takes the rest of a duration whose first digits are taken.
fn scan_duration_rest(bytes: &mut Bytes<'_>) -> bool {
    if !bytes.accept_any(b"smhdwy") {
        return false;
    }
    bytes.accept_any(b"s");
    while bytes.is(|b| b.is_ascii_digit()) {
        bytes.skip_digits();
        if !bytes.accept_any(b"smhdw") {
            return false;
        }
        bytes.accept_any(b"s");
    }
    if bytes.is(is_alphanumeric) {
        bytes.at += 1;
        return false;
    }
    true
}

fn is_alphanumeric(b: u8) -> bool {
    b == b'_' || b.is_ascii_alphanumeric()
}

/// The value of a number token.
///
/// # Errors
/// What is wrong with it.
pub(super) fn value(text: &str) -> Result<f64, String> {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    let problem = |why: &str| {
        Err(format!("error parsing number: strconv.ParseFloat: parsing {}: {why}", quote(text.as_bytes())))
    };
    let digits: String = lower.chars().filter(|c| *c != '_').collect();
    if let Some(hex) = lower.strip_prefix("0x") {
        let well_formed = !hex.ends_with('_') && !hex.contains("__");
        return match i64::from_str_radix(&hex.replace('_', ""), 16) {
            Ok(n) if well_formed => Ok(n as f64),
            _ => problem("invalid syntax"),
        };
    }
    if lower.contains("__") || lower.ends_with('_') {
        return problem("invalid syntax");
    }
    // A leading zero means octal, unless some digit is not.
    if digits.len() > 1
        && digits.starts_with('0')
        && let Ok(n) = i64::from_str_radix(&digits, 8)
    {
        return Ok(n as f64);
    }
    match digits.parse::<f64>() {
        Ok(n) if n.is_finite() => Ok(n),
        Ok(_) => problem("value out of range"),
        Err(_) => problem("invalid syntax"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends() {
        let cases = [
            ("5m)", Scanned::Duration, 2),
            ("1h30m5ms+", Scanned::Duration, 8),
            ("1_000 ", Scanned::Number, 5),
            ("0x1F]", Scanned::Number, 4),
            ("1e-3", Scanned::Number, 4),
            (".5", Scanned::Number, 2),
            ("2.", Scanned::Number, 2),
            ("2.5.", Scanned::Neither, 4),
            ("5mm", Scanned::Neither, 3),
            ("1e", Scanned::Neither, 2),
            ("1_", Scanned::Neither, 2),
            ("0x1e+", Scanned::Neither, 5),
            ("0x1e+1", Scanned::Number, 6),
            ("0xfe", Scanned::Neither, 4),
            ("0xef", Scanned::Number, 4),
            ("1h5", Scanned::Neither, 3),
        ];
        for (text, kind, len) in cases {
            assert_eq!(scan(text), (kind, len), "{text}");
        }
    }

    #[test]
    fn values() {
        let cases = [
            ("1_000", 1000.0),
            ("0x_53AB", 21419.0),
            ("010", 8.0),
            ("08", 8.0),
            ("1e-3", 0.001),
            ("+Inf".trim_start_matches('+'), f64::INFINITY),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text), Ok(expected), "{text}");
        }
        assert!(value("1e999").is_err_and(|e| e.ends_with("\"1e999\": value out of range")));
        assert!(value(".5.5").is_err() && value("0xffffffffffffffff").is_err());
    }
}

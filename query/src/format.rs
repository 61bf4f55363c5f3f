//! How strings, numbers and durations are written, in Prometheus' layout.

use std::fmt::Write;

/// `text` in double quotes, with escapes for quotes, backslashes, what cannot be printed and what is not UTF-8.
pub fn quote(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            push_escaped(&mut out, c, '"');
        }
        for byte in chunk.invalid() {
            push_hex(&mut out, *byte);
        }
    }
    out.push('"');
    out
}

/// `c` in single quotes, escaped as in [`quote`].
pub fn quote_char(c: char) -> String {
    let mut out = String::from('\'');
    push_escaped(&mut out, c, '\'');
    out.push('\'');
    out
}

/// The first `max` characters of `text`, quoted.
pub fn quote_start(text: &str, max: usize) -> String {
    let end = text.char_indices().nth(max).map_or(text.len(), |(at, _)| at);
    quote(text.get(..end).unwrap_or(text).as_bytes())
}

/// Whether `c` shows as itself: no control, format, unassigned or space character but the plain space.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // `escape_debug` leaves printable characters alone; behind another character also those that combine with it.
    let mut pair = String::from('a');
    pair.push(c);
    pair.escape_debug().nth(1) == Some(c)
}

fn push_escaped(out: &mut String, c: char, quote: char) {
    match c {
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\\' => out.push_str("\\\\"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        c if is_printable(c) => out.push(c),
        c if c < ' ' || c == '\x7f' => push_hex(out, c as u8),
        c => {
            let code = c as u32;
            // Writing to a string cannot fail.
            let _ = if code < 0x10000 { write!(out, "\\u{code:04x}") } else { write!(out, "\\U{code:08x}") };
        }
    }
}

fn push_hex(out: &mut String, byte: u8) {
    let _ = write!(out, "\\x{byte:02x}");
}

/// The shortest decimal digits that read back as `value`, never with an exponent: `0.001`, `+Inf`, `NaN`.
pub fn float_plain(value: f64) -> String {
    special_float(value).unwrap_or_else(|| format!("{value}"))
}

/// The shortest decimal digits, with an exponent below 1e-4 and from 1e21 on: `1e-05`, `1.5e+21`.
pub fn float_general(value: f64) -> String {
    if let Some(text) = special_float(value) {
        return text;
    }
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => format!("{value}"),
    }
}

fn special_float(value: f64) -> Option<String> {
    if value.is_nan() {
        Some("NaN".to_owned())
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned())
    } else {
        None
    }
}

/// Units from the greatest to the smallest, in milliseconds; the first two are used only if nothing remains.
const UNITS: [(&str, u64, bool); 7] = [
    ("y", 1000 * 60 * 60 * 24 * 365, true),
    ("w", 1000 * 60 * 60 * 24 * 7, true),
    ("d", 1000 * 60 * 60 * 24, false),
    ("h", 1000 * 60 * 60, false),
    ("m", 1000 * 60, false),
    ("s", 1000, false),
    ("ms", 1, false),
];

/// Milliseconds as a duration: `1h30m`, `90d`, `-5m`, `0s`.
pub fn duration(millis: i64) -> String {
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut out = String::from(if millis < 0 { "-" } else { "" });
    let mut rest = millis.unsigned_abs();
    for (unit, length, only_exact) in UNITS {
        if rest >= length && (!only_exact || rest.is_multiple_of(length)) {
            let _ = write!(out, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes() {
        let cases: &[(&[u8], &str)] = &[
            (b"plain", r#""plain""#),
            (b"a\"b'c\\", r#""a\"b'c\\""#),
            (b"\x07\n\x01\x7f", r#""\a\n\x01\x7f""#),
            (b"a\xc5z", r#""a\xc5z""#),
            ("é\u{301}\u{a0}\u{e0001}".as_bytes(), "\"é\u{301}\\u00a0\\U000e0001\""),
        ];
        for (text, expected) in cases {
            assert_eq!(quote(text), *expected);
        }
        assert_eq!(quote_char('🙂'), "'🙂'");
        assert_eq!(quote_char('\''), r"'\''");
        assert_eq!(quote_start("äbc", 2), "\"äb\"");
    }

    #[test]
    fn floats() {
        let cases = [
            (1.5, "1.5", "1.5"),
            (1e21, "1000000000000000000000", "1e+21"),
            (0.00001, "0.00001", "1e-05"),
            (-0.0, "-0", "-0"),
            (f64::INFINITY, "+Inf", "+Inf"),
            (f64::NAN, "NaN", "NaN"),
        ];
        for (value, plain, general) in cases {
            assert_eq!(float_plain(value), plain);
            assert_eq!(float_general(value), general);
        }
    }

    #[test]
    fn durations() {
        let cases = [
            (0, "0s"),
            (90 * 86_400_000, "90d"),
            (14 * 86_400_000, "2w"),
            (365 * 86_400_000, "1y"),
            (5_400_000, "1h30m"),
            (-300_001, "-5m1ms"),
        ];
        for (millis, text) in cases {
            assert_eq!(duration(millis), text);
        }
        assert!(duration(i64::MIN).starts_with('-'));
    }
}

//! What string tokens stand for.

/// The bytes of a quoted text. The lexer has checked quotes and escapes; whatever it would refuse is left out.
pub(super) fn unquote(token: &str) -> Vec<u8> {
    let mut chars = token.chars();
    let quote = chars.next();
    let body = chars.as_str();
    let body = body.get(..body.len().saturating_sub(1)).unwrap_or_default();
    if quote == Some('`') || !body.contains('\\') {
        return body.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(body.len());
    let mut rest = body.chars();
    while let Some(c) = rest.next() {
        if c == '\\' {
            escape(&mut rest, &mut out);
        } else {
            push_char(&mut out, c);
        }
    }
    out
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn escape(rest: &mut std::str::Chars<'_>, out: &mut Vec<u8>) {
    let Some(kind) = rest.next() else { return };
    match kind {
        'a' => out.push(0x07),
        'b' => out.push(0x08),
        'f' => out.push(0x0c),
        'n' => out.push(b'\n'),
        'r' => out.push(b'\r'),
        't' => out.push(b'\t'),
        'v' => out.push(0x0b),
        'x' => out.extend(u8::try_from(digits(rest, 2, 16, 0))),
        'u' => out.extend_from_slice(utf8(digits(rest, 4, 16, 0)).as_bytes()),
        'U' => out.extend_from_slice(utf8(digits(rest, 8, 16, 0)).as_bytes()),
        '0'..='7' => {
            let first = kind.to_digit(8).unwrap_or_default();
            out.extend(u8::try_from(digits(rest, 2, 8, first)));
        }
        other => push_char(out, other),
    }
}

fn utf8(code: u32) -> String {
    char::from_u32(code).map(String::from).unwrap_or_default()
}

/// The number made of `first` and `count` more digits.
fn digits(rest: &mut std::str::Chars<'_>, count: usize, base: u32, first: u32) -> u32 {
    rest.take(count)
        .fold(first, |value, c| value.wrapping_mul(base).wrapping_add(c.to_digit(base).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_bytes() {
        let cases: &[(&str, &[u8])] = &[
            (r#""plain""#, b"plain"),
            (r#""\a\b\f\n\r\t\v\\\"""#, b"\x07\x08\x0c\n\r\t\x0b\\\""),
            (r"'\'\xff\101'", b"'\xffA"),
            (r#""\u00e9\U0001F642""#, "é🙂".as_bytes()),
            (r"`raw \n`", br"raw \n"),
            ("\"\"", b""),
        ];
        for (token, expected) in cases {
            assert_eq!(unquote(token), *expected, "{token}");
        }
    }
}

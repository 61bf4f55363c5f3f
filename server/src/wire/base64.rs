//! Base64 (RFC 4648, section 4) both ways.

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Appends `bytes` as base64, with padding.
pub fn encode(out: &mut String, bytes: &[u8]) {
    for group in bytes.chunks(3) {
        let number = (0..3).fold(0_usize, |n, i| n << 8 | group.get(i).map_or(0, |b| usize::from(*b)));
        for i in 0..4 {
            let digit = DIGITS.get(number >> (18 - 6 * i) & 63).map_or('=', |d| char::from(*d));
            out.push(if i <= group.len() { digit } else { '=' });
        }
    }
}

/// The bytes behind base64 with its padding; `None` if it is not that. No two texts stand for the same bytes.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let (mut bits, mut held) = (0u32, 0u32);
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for c in digits.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    // What is left of the last digit must be nothing, or two texts would mean the same.
    (bits & ((1 << held) - 1) == 0).then_some(out)
}

/// The same as the JSON of protobuf takes it: in the alphabet for URLs too, and without padding.
pub fn decode_any(text: &str) -> Option<Vec<u8>> {
    let plain = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    let padding = (4 - plain.len() % 4) % 4;
    decode(&format!("{plain}{}", "=".repeat(padding)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts() {
        let cases: [(&str, Option<&[u8]>); 8] = [
            ("", Some(b"")),
            ("aGVsbG8=", Some(b"hello")),
            ("+/8=", Some(b"\xfb\xff")),
            ("aGVsbG8", None),
            ("aGVsbG9=", None),
            ("a===", None),
            ("a b=", None),
            ("-_8=", None),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text).as_deref(), expected, "{text}");
        }
        for text in ["-_8=", "-_8", "+/8", "+/8="] {
            assert_eq!(decode_any(text).as_deref(), Some(&b"\xfb\xff"[..]), "{text}");
        }
        assert_eq!(decode_any("a"), None);
    }

    proptest! {
        #[test]
        fn there_and_back(bytes in any::<Vec<u8>>()) {
            let mut text = String::new();
            encode(&mut text, &bytes);
            prop_assert_eq!(decode(&text), Some(bytes.clone()));
            prop_assert_eq!(decode_any(&text.replace('+', "-").replace('/', "_").replace('=', "")), Some(bytes));
        }

        #[test]
        fn any_text_ends_in_an_answer(text in any::<String>()) {
            if let Some(bytes) = decode(&text) {
                let mut again = String::new();
                encode(&mut again, &bytes);
                prop_assert_eq!(&again, &text);
            }
            decode_any(&text);
        }
    }
}

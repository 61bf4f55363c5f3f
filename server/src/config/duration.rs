//! Durations and sizes as operators write them: `15d`, `1h30m`, `250ms`, `32MiB`.

/// The units of a duration, largest first, in milliseconds.
const UNITS_MS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The units of a size.
const SIZES: [(&str, u64); 12] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("T", 1 << 40),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
];

/// A duration in a configuration file: `7d` there, [`std::time::Duration`] here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub std::time::Duration);

impl TryFrom<String> for Span {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        flag(&text).map(Self)
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest_ms = i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX);
        if rest_ms == 0 {
            return f.write_str("0s");
        }
        for (name, unit_ms) in UNITS_MS {
            // As Prometheus writes them: years, weeks and days only if nothing smaller follows.
            let whole = unit_ms < 86_400_000 || rest_ms % unit_ms == 0;
            if whole && rest_ms >= unit_ms {
                write!(f, "{}{name}", rest_ms / unit_ms)?;
                rest_ms %= unit_ms;
            }
        }
        Ok(())
    }
}

/// Milliseconds of a Prometheus duration: units from large to small, each at most once; `0` needs none.
pub fn parse_ms(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total_ms = 0i64;
    let mut next_unit = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_len = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at_checked(unit_len)?;
        let index = UNITS_MS.iter().position(|(name, _)| *name == unit).filter(|&i| i >= next_unit)?;
        let (_, unit_ms) = UNITS_MS.get(index)?;
        total_ms = number.parse::<i64>().ok()?.checked_mul(*unit_ms)?.checked_add(total_ms)?;
        next_unit = index + 1;
        rest = tail;
    }
    (!text.is_empty()).then_some(total_ms)
}

/// A duration for a flag.
///
/// # Errors
/// A sentence that says what a duration looks like.
pub fn flag(text: &str) -> Result<std::time::Duration, String> {
    parse_ms(text)
        .and_then(|ms| u64::try_from(ms).ok())
        .map(std::time::Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration like 15d, 1h30m or 250ms"))
}

/// A number of bytes for a flag.
///
/// # Errors
/// A sentence that says what a size looks like.
pub fn size_flag(text: &str) -> Result<usize, String> {
    let error = || format!("{text:?} is not a size like 1048576, 32MiB or 2GiB");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(error)?;
    let factor = match unit {
        "" | "B" => 1,
        _ => SIZES.iter().find(|(name, _)| *name == unit).map(|(_, f)| *f).ok_or_else(error)?,
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(error)?;
    usize::try_from(bytes).map_err(|_| error())
}

/// A number of bytes for a flag of Prometheus, whose units are powers of 1024 however they are written.
///
/// # Errors
/// As [`size_flag`].
pub fn binary_size_flag(text: &str) -> Result<u64, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let bytes = match unit.strip_suffix('B') {
        // `KB` is what `K` is elsewhere; `KiB` says it itself.
        Some(prefix) if prefix.len() == 1 => size_flag(text.strip_suffix('B').unwrap_or(text))?,
        _ => size_flag(text)?,
    };
    Ok(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let cases = [
            ("15d", Some(1_296_000_000)),
            ("1h30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("1y2w3d4h5m6s7ms", Some(31_536_000_000 + 1_209_600_000 + 273_906_007)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("5", None),
            ("m", None),
            ("1h1d", None),
            ("1h1h", None),
            ("-1h", None),
            ("1.5h", None),
            ("99999999999999y", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_as_text() {
        let cases = [
            ("0s", 0),
            ("15d", 1_296_000_000),
            ("1h30m", 5_400_000),
            ("1w", 604_800_000),
            ("25h1s", 90_001_000),
        ];
        for (text, ms) in cases {
            assert_eq!(Span(std::time::Duration::from_millis(ms)).to_string(), text);
            assert_eq!(parse_ms(text), i64::try_from(ms).ok(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        let cases = [
            ("1048576", Some(1 << 20)),
            ("32MiB", Some(32 << 20)),
            ("2G", Some(2 << 30)),
            ("1KB", Some(1_000)),
            ("", None),
            ("MiB", None),
            ("1x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size_flag(text).ok(), expected, "{text}");
        }
        let binary = [
            ("0", Some(0)),
            ("7B", Some(7)),
            ("512MB", Some(512 << 20)),
            ("1KiB", Some(1 << 10)),
            ("2TB", Some(2 << 40)),
            ("3T", Some(3 << 40)),
            ("1XB", None),
            ("GB", None),
        ];
        for (text, expected) in binary {
            assert_eq!(binary_size_flag(text).ok(), expected, "{text}");
        }
    }
}

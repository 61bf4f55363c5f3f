//! Durations as the test language writes them.

/// A duration such as `1h30m`, `-5s` or a plain number of seconds, in milliseconds.
///
/// # Errors
/// It is none.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = || format!("no duration: {text:?}");
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    if let Ok(seconds) = unsigned.parse::<f64>() {
        let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
        return Ok((sign * seconds * 1000.0).round() as i64);
    }
    let mut total: i64 = 0;
    let mut rest = unsigned;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let number: i64 = rest[..digits].parse().map_err(|_| bad())?;
        let after = &rest[digits..];
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let unit: i64 = match &after[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "y" => 365 * 86_400_000,
            _ => return Err(bad()),
        };
        total = number.checked_mul(unit).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        rest = &after[letters..];
    }
    Ok(if text.starts_with('-') { -total } else { total })
}

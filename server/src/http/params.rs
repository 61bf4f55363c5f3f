//! Request parameters: query string and form body merged, times, durations, limits, with Prometheus' error texts.

use crate::error::ApiError;
use kymo_storage::model::Timestamp;

/// The parameters of one request, in order: those of the form body first, then those of the query string.
#[derive(Debug, Clone, Default)]
pub struct Params(Vec<(String, String)>);

/// More parameters than any client sends.
const PARAMETERS_MAX: usize = 10_000;
/// What clients that mean "from the beginning" and "to the end" send.
const MIN_TIME_TEXT: &str = "-292273086-05-16T16:47:06Z";
const MAX_TIME_TEXT: &str = "292277025-08-18T07:12:54.999999999Z";
/// Largest duration in seconds (that of Go's `time.Duration`).
const DURATION_S_MAX: f64 = 9_223_372_036.0;

impl Params {
    /// Parses what came with a request.
    ///
    /// # Errors
    /// A `%` without two hexadecimal digits, text that is not UTF-8, too many parameters.
    pub fn parse(query: Option<&str>, form: &[u8]) -> Result<Self, ApiError> {
        let mut pairs = Vec::new();
        for source in [form, query.unwrap_or_default().as_bytes()] {
            for pair in source.split(|&b| b == b'&').filter(|p| !p.is_empty()) {
                if pairs.len() == PARAMETERS_MAX {
                    return Err(ApiError::bad_data(format!("more than {PARAMETERS_MAX} parameters")));
                }
                let (name, value) = match pair.iter().position(|&b| b == b'=') {
                    Some(at) => (&pair[..at], &pair[at + 1..]),
                    None => (pair, &[][..]),
                };
                pairs.push((unescape(name)?, unescape(value)?));
            }
        }
        Ok(Self(pairs))
    }

    /// The first value of `name`, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All values of `name`.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A time that must be there (`start` and `end` of a range query).
    ///
    /// # Errors
    /// Missing or not a time.
    pub fn required_time(&self, name: &str) -> Result<Timestamp, ApiError> {
        parse_time(self.get(name).unwrap_or_default()).map_err(|e| ApiError::parameter(name, e))
    }

    /// A time that may be left out.
    ///
    /// # Errors
    /// Not a time.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrapped = |e| ApiError::parameter(name, format_args!("invalid time value for '{name}': {e}"));
        parse_time(text).map(Some).map_err(wrapped)
    }

    /// A duration in milliseconds that may be left out.
    ///
    /// # Errors
    /// Not a duration.
    pub fn duration_ms(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_duration_ms(text).map(Some).map_err(|e| ApiError::parameter(name, e))
    }

    /// A duration in milliseconds that must be there (`step`).
    ///
    /// # Errors
    /// Missing or not a duration.
    pub fn required_duration_ms(&self, name: &str) -> Result<i64, ApiError> {
        parse_duration_ms(self.get(name).unwrap_or_default()).map_err(|e| ApiError::parameter(name, e))
    }

    /// A count that may be left out; 0 stands for "no limit" and gives `None`.
    ///
    /// # Errors
    /// Not a number, or a negative one.
    pub fn limit(&self, name: &str) -> Result<Option<usize>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number: i64 = text.parse().map_err(|_| {
            ApiError::parameter(name, format_args!("strconv.Atoi: parsing {text:?}: invalid syntax"))
        })?;
        if number < 0 {
            return Err(ApiError::parameter(name, "limit must be non-negative"));
        }
        Ok(usize::try_from(number).ok().filter(|&n| n > 0))
    }

    /// A whole number that may be left out.
    ///
    /// # Errors
    /// It is none; `sentence` says so.
    pub fn number(&self, name: &str, sentence: &str) -> Result<Option<i64>, ApiError> {
        let parse = |text: &str| text.parse().map_err(|_| ApiError::bad_data(sentence));
        self.get(name).map(parse).transpose()
    }
}

fn unescape(bytes: &[u8]) -> Result<String, ApiError> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'+' => out.push(b' '),
            b'%' => {
                let digit = |i: usize| tail.get(i).and_then(|&b| char::from(b).to_digit(16));
                let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                    let shown = String::from_utf8_lossy(tail.get(..2).unwrap_or(tail)).into_owned();
                    return Err(ApiError::bad_data(format!(
                        "error parsing form values: invalid URL escape \"%{shown}\""
                    )));
                };
                out.push((high * 16 + low) as u8);
                rest = tail.get(2..).unwrap_or_default();
            }
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|_| ApiError::bad_data("a parameter is not valid UTF-8"))
}

/// A time in milliseconds from seconds since the epoch (with a fraction) or RFC 3339.
///
/// # Errors
/// The sentence of the API.
pub fn parse_time(text: &str) -> Result<Timestamp, String> {
    let error = || format!("cannot parse {text:?} to a valid timestamp");
    if let Ok(seconds) = text.parse::<f64>() {
        // Fractions are kept to the millisecond; what lies outside 64 bits of milliseconds is no time.
        let ms = (seconds * 1000.0).round();
        return if ms.abs() < 9.2e18 { Ok(ms as i64) } else { Err(error()) };
    }
    match text {
        MIN_TIME_TEXT => Ok(i64::MIN / 1000),
        MAX_TIME_TEXT => Ok(i64::MAX / 1000),
        _ => parse_rfc3339(text).ok_or_else(error),
    }
}

/// Milliseconds from `2026-01-31T10:00:00.123+02:00`.
fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, clock) = text.split_once('T')?;
    let number = |part: &str, len: usize| {
        (part.len() == len && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<i64>().ok())?
    };
    let mut date_parts = date.split('-');
    let year = number(date_parts.next()?, 4)?;
    let month = number(date_parts.next()?, 2)?;
    let day = number(date_parts.next()?, 2)?;
    if date_parts.next().is_some() {
        return None;
    }
    let zone_at = clock.find(['Z', '+', '-'])?;
    let (clock, zone) = clock.split_at_checked(zone_at)?;
    let offset_s = match zone {
        "Z" => 0,
        _ => {
            let (sign, hours_minutes) = match zone.split_at_checked(1)? {
                ("+", rest) => (1, rest),
                (_, rest) => (-1, rest),
            };
            let (hours, minutes) = hours_minutes.split_once(':')?;
            let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            sign * (hours * 3600 + minutes * 60)
        }
    };
    let (whole, fraction) = clock.split_once('.').map_or((clock, None), |(w, f)| (w, Some(f)));
    let mut clock_parts = whole.split(':');
    let hour = number(clock_parts.next()?, 2)?;
    let minute = number(clock_parts.next()?, 2)?;
    let second = number(clock_parts.next()?, 2)?;
    let fraction_ms = match fraction {
        None => 0,
        Some(digits) if !digits.is_empty() && digits.len() <= 9 => {
            number(digits, digits.len())?;
            number(format!("{digits:0<3}").get(..3)?, 3)?
        }
        Some(_) => return None,
    };
    if clock_parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_from_civil(year, month, day)?;
    Some(((days * 86_400 + hour * 3600 + minute * 60 + second) - offset_s) * 1000 + fraction_ms)
}

/// Days since 1970-01-01 of a date of the Gregorian calendar, `None` if there is no such date.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let month_days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > month_days {
        return None;
    }
    // Years counted from March, so that the leap day is the last of its year.
    let march_year = if month > 2 { year } else { year - 1 };
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let leap_days = march_year.div_euclid(4) - march_year.div_euclid(100) + march_year.div_euclid(400);
    Some(march_year * 365 + leap_days + day_of_year - 719_468)
}

/// A duration in milliseconds from seconds (with a fraction) or `1h30m`.
///
/// # Errors
/// The sentence of the API.
pub fn parse_duration_ms(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        if seconds.is_nan() || seconds.abs() > DURATION_S_MAX {
            return Err(format!("cannot parse {text:?} to a valid duration. It overflows int64"));
        }
        return Ok((seconds * 1000.0).trunc() as i64);
    }
    crate::config::duration::parse_ms(text)
        .ok_or_else(|| format!("cannot parse {text:?} to a valid duration"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn body_comes_before_query_string() {
        let params = Params::parse(Some("a=2&b=x%20y+z&match[]=u&e="), b"a=1&match%5B%5D=v&lone").unwrap();
        assert_eq!(params.get("a"), Some("1"));
        assert_eq!(params.get("b"), Some("x y z"));
        assert_eq!((params.get("lone"), params.get("e"), params.get("none")), (None, None, None));
        assert_eq!(params.all("match[]").collect::<Vec<_>>(), ["v", "u"]);
        for bad in ["a=%zz", "a=%4", "a=%ff"] {
            assert!(Params::parse(Some(bad), b"").is_err(), "{bad}");
        }
    }

    #[test]
    fn times_in_all_forms() {
        let cases = [
            ("1435781451.781", Some(1_435_781_451_781)),
            ("-5.5", Some(-5_500)),
            ("1e3", Some(1_000_000)),
            ("2015-07-01T20:10:51.781Z", Some(1_435_781_451_781)),
            ("2015-07-01T22:10:51.781+02:00", Some(1_435_781_451_781)),
            ("2015-07-01T20:10:51.781999999Z", Some(1_435_781_451_781)),
            ("1969-12-31T23:59:59Z", Some(-1_000)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800_000)),
            ("2023-02-29T00:00:00Z", None),
            (MIN_TIME_TEXT, Some(i64::MIN / 1000)),
            (MAX_TIME_TEXT, Some(i64::MAX / 1000)),
            ("abc", None),
            ("", None),
            ("NaN", None),
            ("Inf", None),
            ("1e300", None),
            ("2015-07-01", None),
            ("2015-07-01T20:10:51.Z", None),
            ("2015-07-01T20:10:51é", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text).ok(), expected, "{text}");
        }
        assert_eq!(parse_time("abc").unwrap_err(), "cannot parse \"abc\" to a valid timestamp");
    }

    #[test]
    fn durations_and_limits_have_their_texts() {
        assert_eq!(parse_duration_ms("0.02"), Ok(20));
        assert_eq!(parse_duration_ms("-1"), Ok(-1_000));
        assert_eq!(parse_duration_ms("1h30m"), Ok(5_400_000));
        assert_eq!(parse_duration_ms("x").unwrap_err(), "cannot parse \"x\" to a valid duration");
        assert!(parse_duration_ms("1e12").unwrap_err().ends_with("It overflows int64"));
        let params = Params::parse(Some("a=5&b=0&c=-1&d=x"), b"").unwrap();
        assert_eq!(params.limit("a"), Ok(Some(5)));
        assert_eq!(params.limit("b"), Ok(None));
        assert!(params.limit("c").unwrap_err().message.ends_with("limit must be non-negative"));
        assert!(params.limit("d").is_err());
    }

    proptest! {
        #[test]
        fn any_text_ends_in_an_answer(text in any::<String>()) {
            let _ = parse_time(&text);
            let _ = parse_duration_ms(&text);
            let _ = Params::parse(Some(&text), text.as_bytes());
        }

        #[test]
        fn clock_shaped_text_ends_in_an_answer(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.Z+-]{0,20}") {
            let _ = parse_time(&text);
        }
    }
}

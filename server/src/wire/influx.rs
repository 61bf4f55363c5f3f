//! Reads lines of the Influx line protocol: `measurement,tag=value field=1i,other=2.5 timestamp`.
//!
//! Source: <https://docs.influxdata.com/influxdb/v1/write_protocols/line_protocol_reference/>.

use kymo_storage::model::Timestamp;
use std::borrow::Cow;

/// The unit of the timestamps of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// What is meant if nothing is said.
    #[default]
    Nanoseconds,
    /// `u`, `us`, `µ`.
    Microseconds,
    /// `ms`.
    Milliseconds,
    /// `s`.
    Seconds,
    /// `m`.
    Minutes,
    /// `h`.
    Hours,
}

impl Precision {
    /// The precision of that name, in the words of both versions of the interface.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "n" | "ns" => Self::Nanoseconds,
            "u" | "us" | "µ" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return None,
        })
    }

    /// Milliseconds, rounded down; `None` beyond 64 bits.
    fn to_ms(self, time: i64) -> Option<Timestamp> {
        match self {
            Self::Nanoseconds => Some(time.div_euclid(1_000_000)),
            Self::Microseconds => Some(time.div_euclid(1_000)),
            Self::Milliseconds => Some(time),
            Self::Seconds => time.checked_mul(1_000),
            Self::Minutes => time.checked_mul(60_000),
            Self::Hours => time.checked_mul(3_600_000),
        }
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue {
    /// A float, an integer, or a boolean as 0 or 1.
    Number(f64),
    /// A text, which no sample can hold.
    Text,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Point<'l> {
    /// The measurement.
    pub measurement: Cow<'l, str>,
    /// Tags in their order.
    pub tags: Vec<(Cow<'l, str>, Cow<'l, str>)>,
    /// Fields in their order.
    pub fields: Vec<(Cow<'l, str>, FieldValue)>,
    /// Milliseconds, if the line says so.
    pub timestamp: Option<Timestamp>,
}

/// Whether a line ends inside of a quoted text, which may hold line feeds.
pub fn is_open(line: &[u8]) -> bool {
    let mut bytes = line.iter();
    // Quotes mean nothing before the first blank that is not escaped.
    loop {
        match bytes.next() {
            None => return false,
            Some(b'\\') => drop(bytes.next()),
            Some(b' ') => break,
            Some(_) => {}
        }
    }
    let mut is_open = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => is_open = !is_open,
            _ => {}
        }
    }
    is_open
}

/// Reads one line (without its line feed); `None` if it says nothing.
///
/// # Errors
/// What is wrong with it, and the column, in bytes from 1.
pub fn read_line(precision: Precision, line: &str) -> Result<Option<Point<'_>>, String> {
    let line = line.strip_suffix('\r').unwrap_or(line);
    let trimmed = line.trim_start_matches(' ');
    if trimmed.is_empty() || trimmed.starts_with('#') {
        return Ok(None);
    }
    let mut scanner = Scanner { line, at: line.len() - trimmed.len() };
    scanner.point(precision).map(Some).map_err(|why| format!("column {}: {why}", scanner.at + 1))
}

struct Scanner<'l> {
    line: &'l str,
    at: usize,
}

impl<'l> Scanner<'l> {
    fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// A name up to one of `ends` that is not behind a backslash; a backslash before anything else stands for itself.
    fn name(&mut self, ends: &[u8]) -> Cow<'l, str> {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let bytes = rest.as_bytes();
        let (mut len, mut has_escapes) = (0, false);
        while let Some(byte) = bytes.get(len) {
            if *byte == b'\\' && bytes.get(len + 1).is_some_and(|next| b",= ".contains(next)) {
                has_escapes = true;
                len += 2;
            } else if ends.contains(byte) {
                break;
            } else {
                len += 1;
            }
        }
        self.at += len;
        let text = rest.get(..len).unwrap_or_default();
        if !has_escapes {
            return text.into();
        }
        text.replace("\\,", ",").replace("\\=", "=").replace("\\ ", " ").into()
    }

    fn point(&mut self, precision: Precision) -> Result<Point<'l>, String> {
        let measurement = self.name(b", ");
        if measurement.is_empty() {
            return Err("the measurement is missing".to_owned());
        }
        let mut tags = Vec::new();
        while self.take(b',') {
            let name = self.name(b",= ");
            if name.is_empty() || !self.take(b'=') {
                return Err("a tag has no name or no value".to_owned());
            }
            let value = self.name(b",= ");
            if value.is_empty() {
                return Err(format!("the tag {name:?} has no value"));
            }
            tags.push((name, value));
        }
        self.blanks("fields")?;
        let mut fields = Vec::new();
        loop {
            let name = self.name(b",= ");
            if name.is_empty() || !self.take(b'=') {
                return Err("a field has no name or no value".to_owned());
            }
            let value = self.value()?;
            fields.push((name, value));
            if !self.take(b',') {
                break;
            }
        }
        let timestamp = self.timestamp(precision)?;
        Ok(Point { measurement, tags, fields, timestamp })
    }

    fn blanks(&mut self, what: &str) -> Result<(), String> {
        if !self.take(b' ') {
            return Err(format!("the {what} are missing"));
        }
        while self.take(b' ') {}
        Ok(())
    }

    fn value(&mut self) -> Result<FieldValue, String> {
        if self.take(b'"') {
            loop {
                match self.peek() {
                    None => return Err("the quotes of a text are not closed".to_owned()),
                    Some(b'\\') => self.at += 2,
                    Some(b'"') => break,
                    Some(_) => self.at += 1,
                }
            }
            self.at += 1;
            return Ok(FieldValue::Text);
        }
        let rest = self.line.get(self.at..).unwrap_or_default();
        let text = rest.get(..rest.find([',', ' ']).unwrap_or(rest.len())).unwrap_or_default();
        let number = match text {
            "t" | "T" | "true" | "True" | "TRUE" => Some(1.0),
            "f" | "F" | "false" | "False" | "FALSE" => Some(0.0),
            _ => match text.as_bytes().last() {
                Some(b'i') => text.strip_suffix('i').and_then(|t| t.parse::<i64>().ok()).map(|n| n as f64),
                Some(b'u') => text.strip_suffix('u').and_then(|t| t.parse::<u64>().ok()).map(|n| n as f64),
                Some(b'0'..=b'9' | b'.') => text.parse::<f64>().ok().filter(|n| n.is_finite()),
                _ => None,
            },
        };
        let number = number.ok_or_else(|| format!("{text:?} is no value of a field"))?;
        self.at += text.len();
        Ok(FieldValue::Number(number))
    }

    fn timestamp(&mut self, precision: Precision) -> Result<Option<Timestamp>, String> {
        let rest = self.line.get(self.at..).unwrap_or_default();
        let text = rest.trim_matches(' ');
        if text.is_empty() {
            return Ok(None);
        }
        if !rest.starts_with(' ') {
            return Err("a comma or blank is missing behind a field".to_owned());
        }
        let time = text.parse().ok().and_then(|time| precision.to_ms(time));
        time.map(Some).ok_or_else(|| format!("{text:?} is no timestamp"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines() {
        use FieldValue::{Number as N, Text as T};
        type Case<'c> =
            (&'c str, &'c str, &'c [(&'c str, &'c str)], &'c [(&'c str, FieldValue)], Option<i64>);
        let good: [Case<'_>; 8] = [
            ("cpu value=1", "cpu", &[], &[("value", N(1.0))], None),
            (
                "cpu,host=a,dc=b x=1i,y=2u,z=-3.5e2 1500000000\r",
                "cpu",
                &[("host", "a"), ("dc", "b")],
                &[("x", N(1.0)), ("y", N(2.0)), ("z", N(-350.0))],
                Some(1500),
            ),
            ("a\\,b\\ c,t\\=1=x\\,y v\\ 1=t", "a,b c", &[("t=1", "x,y")], &[("v 1", N(1.0))], None),
            ("m s=\"a \\\"b\\\", c=d\",n=FALSE", "m", &[], &[("s", T), ("n", N(0.0))], None),
            ("m s=\"two\nlines\" 1000000", "m", &[], &[("s", T)], Some(1)),
            ("  m   v=1   -1  ", "m", &[], &[("v", N(1.0))], Some(-1)),
            ("m\\x v=1", "m\\x", &[], &[("v", N(1.0))], None),
            ("m,q=\"x v=1", "m", &[("q", "\"x")], &[("v", N(1.0))], None),
        ];
        for (line, measurement, tags, fields, timestamp) in good {
            let point = read_line(Precision::Nanoseconds, line).unwrap().unwrap();
            assert_eq!((point.measurement.as_ref(), point.timestamp), (measurement, timestamp), "{line}");
            assert!(
                point.tags.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).eq(tags.iter().copied()),
                "{line}"
            );
            assert!(point.fields.iter().map(|(n, v)| (n.as_ref(), *v)).eq(fields.iter().copied()), "{line}");
        }
        let bad = [
            ("cpu", "column 4: the fields are missing"),
            ("cpu ", "column 5: a field has no name or no value"),
            (",a=b v=1", "column 1: the measurement is missing"),
            ("cpu,a v=1", "column 6: a tag has no name or no value"),
            ("cpu,a= v=1", "column 7: the tag \"a\" has no value"),
            ("cpu v=1x", "column 7: \"1x\" is no value of a field"),
            ("cpu v=NaN", "column 7: \"NaN\" is no value of a field"),
            ("cpu v=1e999", "column 7: \"1e999\" is no value of a field"),
            ("cpu v=\"a", "column 9: the quotes of a text are not closed"),
            ("cpu v=1 soon", "column 8: \"soon\" is no timestamp"),
            ("cpu v=\"a\"b", "column 10: a comma or blank is missing behind a field"),
        ];
        for (line, why) in bad {
            assert_eq!(read_line(Precision::Seconds, line).unwrap_err(), why, "{line}");
        }
        assert_eq!(read_line(Precision::Seconds, "# comment"), Ok(None));
        assert_eq!(read_line(Precision::Hours, "m v=1 2").unwrap().unwrap().timestamp, Some(7_200_000));
        assert!(read_line(Precision::Hours, "m v=1 9223372036854775807").is_err());
        let open = [
            ("m v=\"a", true),
            ("m,q=\" v=1", false),
            ("m v=\"a\\\"", true),
            ("m v=\"a\"", false),
            ("m\\ \" v=1", false),
        ];
        for (line, expected) in open {
            assert_eq!(is_open(line.as_bytes()), expected, "{line}");
        }
    }

    fn escape(text: &str) -> String {
        text.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ")
    }

    proptest! {
        #[test]
        fn any_line_ends_in_an_answer(line in "[ -~é\\n]{0,60}", structured in "m?(,[a-z=\\\\ ]{0,4}){0,3} [a-z]{0,2}=?(\"[ \\\\\"]?|[0-9iu.]{0,3}) ?[0-9]{0,3}") {
            for text in [&line, &structured] {
                let _ = (read_line(Precision::Nanoseconds, text), is_open(text.as_bytes()));
            }
        }

        #[test]
        fn what_is_printed_is_read(
            names in prop::collection::vec("[a-zé,= ]{1,5}", 4),
            value in any::<f64>().prop_filter("texts of others are no numbers", |v| v.is_finite()),
            timestamp in any::<Option<i64>>(),
        ) {
            let [m, t, v, f] = [&names[0], &names[1], &names[2], &names[3]];
            prop_assume!(!m.starts_with(' '));
            let time = timestamp.map(|t| format!(" {t}")).unwrap_or_default();
            let line = format!("{},{}={} {}={value:?}{time}", escape(m), escape(t), escape(v), escape(f));
            let point = read_line(Precision::Milliseconds, &line).unwrap().unwrap();
            prop_assert_eq!(&point.measurement, m);
            prop_assert_eq!((&point.tags[0].0, &point.tags[0].1), (&Cow::from(t), &Cow::from(v)));
            prop_assert_eq!(&point.fields[0].0, f);
            let FieldValue::Number(read) = point.fields[0].1 else { return Err(TestCaseError::fail(line)) };
            prop_assert_eq!((read.to_bits(), point.timestamp), (value.to_bits(), timestamp));
        }
    }
}

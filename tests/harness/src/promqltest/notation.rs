//! The series notation: `name{label="value"} 1 2+3x4 _ stale`.

use super::duration::parse_duration;
use crate::answer::{LabelMap, SampleValue, parse_value};
use kymo_query::syntax::series_text::parse_series;
use kymo_storage::model::{FloatHistogram, stale_nan};
use std::sync::Arc;

/// One point of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub enum Point {
    /// `_`: nothing at this step.
    Absent,
    /// A float; `stale` is the staleness marker.
    Float(f64),
    /// A native histogram, and whether its hint was written.
    Histogram(Arc<FloatHistogram>, bool),
}

impl Point {
    /// Whether it is a native histogram.
    pub fn is_histogram(&self) -> bool {
        matches!(self, Self::Histogram(..))
    }
}

/// A series with its points.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The labels, `__name__` among them.
    pub labels: LabelMap,
    /// The points; none on a line of start timestamps.
    pub points: Vec<Point>,
    /// On a line of start timestamps (`@st`), which is about the line after it: milliseconds from each point of that line to
    /// its start, `None` where that is not known.
    pub starts: Option<Vec<Option<i64>>>,
}

/// A series to store.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The labels, `__name__` among them.
    pub labels: LabelMap,
    /// Milliseconds and values.
    pub points: Vec<(i64, SampleValue)>,
    /// Since when each point counts, in milliseconds, 0 where that is not known; empty if it is known of none.
    pub starts: Vec<i64>,
}

/// The most points a line may stand for.
const POINTS_MAX: usize = 1_000_000;

/// Reads one line.
///
/// # Errors
/// A sentence that says what was met.
pub fn parse_row(line: &str) -> Result<Row, String> {
    let mut text = Text { rest: line.trim() };
    let labels = text.labels()?;
    if text.take("@st") {
        return Ok(Row { labels, points: Vec::new(), starts: Some(parse_starts(text.rest)?) });
    }
    Ok(Row { labels, points: text.points()?, starts: None })
}

/// Reads a sequence of start timestamps, each relative to its sample: `_`, `_x3`, `-1m`, `-1mx3`, `-30s-1mx3`.
fn parse_starts(text: &str) -> Result<Vec<Option<i64>>, String> {
    let mut starts = Vec::new();
    for item in text.split_whitespace() {
        let bad = |what: &str| format!("start timestamp {item:?}: {what}");
        let (first, times) = match item.split_once('x') {
            Some((first, times)) => {
                (first, Some(times.parse::<usize>().map_err(|_| bad("no count after x"))?))
            }
            None => (item, None),
        };
        if times.unwrap_or(0) > POINTS_MAX || starts.len() > POINTS_MAX {
            return Err(format!("more than {POINTS_MAX} points"));
        }
        if first == "_" {
            starts.extend(std::iter::repeat_n(None, times.unwrap_or(1)));
            continue;
        }
        let sign = first.len() - first.trim_start_matches(['+', '-']).len();
        let split = first[sign..].find(['+', '-']).map_or(first.len(), |at| sign + at);
        let (base, step) = first.split_at(split);
        let duration =
            |text: &str| parse_duration(text.strip_prefix('+').unwrap_or(text)).map_err(|e| bad(&e));
        let (base, step) = (duration(base)?, if step.is_empty() { 0 } else { duration(step)? });
        if step != 0 && times.is_none() {
            return Err(bad("expected x and a count"));
        }
        starts.extend((0..=times.unwrap_or(0) as i64).map(|i| Some(base + i * step)));
    }
    Ok(starts)
}

struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !accept(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn labels(&mut self) -> Result<LabelMap, String> {
        let mut labels = LabelMap::new();
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        if !name.is_empty() {
            labels.insert("__name__".to_owned(), name.to_owned());
        }
        if !self.take("{") {
            return Ok(labels);
        }
        loop {
            self.skip_space();
            if self.take("}") {
                break;
            }
            let quoted = self.rest.starts_with(['"', '\'', '`']);
            let name = match quoted {
                true => self.quoted()?,
                false => self.take_while(|c| c.is_ascii_alphanumeric() || c == '_').to_owned(),
            };
            self.skip_space();
            if self.take("=") {
                self.skip_space();
                let value = self.quoted()?;
                labels.insert(name, value);
            } else if quoted {
                labels.insert("__name__".to_owned(), name);
            } else {
                return Err(format!("expected = before {:?}", self.rest));
            }
            self.skip_space();
            if !self.take(",") && !self.rest.starts_with('}') {
                return Err(format!("expected , or }} before {:?}", self.rest));
            }
        }
        labels.retain(|_, value| !value.is_empty());
        Ok(labels)
    }

    fn quoted(&mut self) -> Result<String, String> {
        let (value, rest) = unquote(self.rest)?;
        self.rest = rest;
        Ok(value)
    }

    fn points(&mut self) -> Result<Vec<Point>, String> {
        let mut points = Vec::new();
        loop {
            self.skip_space();
            if self.rest.is_empty() {
                return Ok(points);
            }
            if self.take("_") {
                let count = self.times()?.unwrap_or(1);
                push(&mut points, Point::Absent, count)?;
            } else if self.rest.starts_with("{{") {
                self.histograms(&mut points)?;
            } else {
                self.floats(&mut points)?;
            }
            if !self.rest.is_empty() && !self.rest.starts_with(char::is_whitespace) {
                return Err(format!("unexpected {:?}", self.rest));
            }
        }
    }

    fn floats(&mut self, points: &mut Vec<Point>) -> Result<(), String> {
        let mut value = if self.take("stale") { stale_nan() } else { self.number()? };
        let step = if self.rest.starts_with(['+', '-']) { Some(self.number()?) } else { None };
        match (step, self.times()?) {
            (None, times) => push(points, Point::Float(value), times.map_or(1, |n| n + 1)),
            (Some(_), None) => Err(format!("expected x and a count before {:?}", self.rest)),
            (Some(step), Some(times)) => {
                for _ in 0..=times {
                    push(points, Point::Float(value), 1)?;
                    value += step;
                }
                Ok(())
            }
        }
    }

    fn histograms(&mut self, points: &mut Vec<Point>) -> Result<(), String> {
        let whole = self.rest;
        let mut last = self.histogram()?;
        if self.rest.starts_with("+{{") || self.rest.starts_with("-{{") {
            self.rest = &self.rest[1..];
            last = self.histogram()?;
        }
        self.times()?;
        let text = &whole[..whole.len() - self.rest.len()];
        let run = parse_series(&format!("run {text}")).map_err(|e| format!("{text}: {e}"))?;
        let hint_written = last.contains("counter_reset_hint");
        for item in &run.items {
            for histogram in item.histograms().map_err(|e| format!("{text}: {e}"))? {
                push(points, Point::Histogram(Arc::new(histogram), hint_written), 1)?;
            }
        }
        Ok(())
    }

    /// Takes the text of one histogram.
    fn histogram(&mut self) -> Result<&'a str, String> {
        let end = self.rest.find("}}").ok_or("histogram without }}")?;
        let (text, rest) = self.rest.split_at(end + 2);
        self.rest = rest;
        Ok(text)
    }

    fn times(&mut self) -> Result<Option<usize>, String> {
        if !self.take("x") {
            return Ok(None);
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        digits.parse().map(Some).map_err(|_| format!("no count after x: {digits:?}"))
    }

    fn number(&mut self) -> Result<f64, String> {
        let text = self.rest;
        let unsigned = text.trim_start_matches(['+', '-']);
        let sign = text.len() - unsigned.len();
        let word = unsigned.get(..3).unwrap_or_default();
        let mut end = sign;
        if word.eq_ignore_ascii_case("inf") || word.eq_ignore_ascii_case("nan") {
            end += 3;
        } else {
            let mut before = ' ';
            for c in unsigned.chars() {
                let exponent_sign = matches!(c, '+' | '-') && matches!(before, 'e' | 'E');
                if !c.is_ascii_digit() && !matches!(c, '.' | 'e' | 'E') && !exponent_sign {
                    break;
                }
                before = c;
                end += 1;
            }
        }
        self.rest = &text[end..];
        parse_value(&text[..end]).ok_or_else(|| format!("no number: {text:?}"))
    }
}

fn push(points: &mut Vec<Point>, point: Point, count: usize) -> Result<(), String> {
    if count > POINTS_MAX || points.len() + count > POINTS_MAX {
        return Err(format!("more than {POINTS_MAX} points"));
    }
    points.extend(std::iter::repeat_n(point, count));
    Ok(())
}

/// Reads a quoted string at the start of `text`, with the escapes of PromQL; also gives what follows it.
///
/// # Errors
/// There is none, or it does not end.
pub fn unquote(text: &str) -> Result<(String, &str), String> {
    let mut chars = text.char_indices();
    let Some((_, quote @ ('"' | '\'' | '`'))) = chars.next() else {
        return Err(format!("expected a quoted string: {text:?}"));
    };
    let mut bytes = Vec::new();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            let value = String::from_utf8(bytes).map_err(|e| e.to_string())?;
            return Ok((value, &text[at + 1..]));
        }
        if c != '\\' || quote == '`' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (at, escape) = chars.next().ok_or("string ends in an escape")?;
        let mut number = |digits: usize, from: usize, radix: u32| -> Result<u32, String> {
            let code = text.get(from..from + digits).and_then(|d| u32::from_str_radix(d, radix).ok());
            while chars.as_str().len() > text.len().saturating_sub(from + digits) && chars.next().is_some() {}
            code.ok_or_else(|| format!("bad escape in {text:?}"))
        };
        let one: u8 = match escape {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '"' | '\'' => escape as u8,
            'x' => number(2, at + 1, 16)? as u8,
            '0'..='7' => number(3, at, 8)? as u8,
            'u' | 'U' => {
                let digits = if escape == 'u' { 4 } else { 8 };
                let c = char::from_u32(number(digits, at + 1, 16)?).ok_or("no character")?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return Err(format!("unknown escape \\{escape} in {text:?}")),
        };
        bytes.push(one);
    }
    Err(format!("string does not end: {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(values: &[f64]) -> Vec<Point> {
        values.iter().map(|v| Point::Float(*v)).collect()
    }

    #[test]
    fn sequences() {
        for (line, points) in [
            ("m 1 2 3", floats(&[1., 2., 3.])),
            ("m 1x2", floats(&[1., 1., 1.])),
            ("m 1+2x2 0-1x1", floats(&[1., 3., 5., 0., -1.])),
            ("m -1.5e+1-0.5x1", floats(&[-15., -15.5])),
            ("m 0x1", floats(&[0., 0.])),
            ("m Inf -Inf +inf", floats(&[f64::INFINITY, f64::NEG_INFINITY, f64::INFINITY])),
            ("m _ _x2 4", vec![Point::Absent, Point::Absent, Point::Absent, Point::Float(4.)]),
            ("m", vec![]),
        ] {
            assert_eq!(parse_row(line).unwrap().points, points, "{line}");
        }
        let histograms = parse_row(
            "m {{schema:1 count:3 buckets:[1 2]}}x1 {{}}+{{count:1}}x2 {{counter_reset_hint:gauge}}",
        );
        let seen: Vec<(f64, bool)> = histograms
            .unwrap()
            .points
            .iter()
            .map(|point| match point {
                Point::Histogram(histogram, hint) => (histogram.count, *hint),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [(3.0, false), (3.0, false), (0.0, false), (1.0, false), (2.0, false), (0.0, true)];
        assert_eq!(seen, expected);
        let stale = parse_row("m stale").unwrap().points;
        assert!(matches!(stale[..], [Point::Float(v)] if kymo_storage::model::is_stale(v)));
        for line in ["m 1+2", "m 1y", "m{a} 1", "m{a=\"b} 1", "m 1x", "m 1x99999999999", "m {{"] {
            assert!(parse_row(line).is_err(), "{line}");
        }
    }

    #[test]
    fn label_sets() {
        let pairs = |line| -> Vec<(String, String)> { parse_row(line).unwrap().labels.into_iter().collect() };
        let own = |p: &[(&str, &str)]| -> Vec<(String, String)> {
            p.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        assert_eq!(pairs("m{b='x', a=\"y\",} 1"), own(&[("__name__", "m"), ("a", "y"), ("b", "x")]));
        assert_eq!(
            pairs("{\"a b\", c=\"\\x41\\u00e9\\101\\n\"} 1"),
            own(&[("__name__", "a b"), ("c", "AéA\n")])
        );
        assert_eq!(pairs("{} 1"), own(&[]));
        let row = parse_row("m{a=\"b\"}@st _ 5s").unwrap();
        assert_eq!((row.labels.len(), row.starts), (2, Some(vec![None, Some(5000)])));
    }

    #[test]
    fn start_timestamps() {
        let starts = |text: &str| parse_row(&format!("m@st {text}")).map(|row| row.starts.unwrap());
        let known = |starts: &[i64]| -> Vec<Option<i64>> { starts.iter().copied().map(Some).collect() };
        for (text, expected) in [
            ("_ _x2", vec![None; 3]),
            ("-1mx2", known(&[-60_000; 3])),
            ("-60s-1mx2", known(&[-60_000, -120_000, -180_000])),
            ("0-1mx1 +1m -0ms 1ms-1sx1", known(&[0, -60_000, 60_000, 0, 1, -999])),
        ] {
            assert_eq!(starts(text), Ok(expected), "{text}");
        }
        for bad in ["-1m-1m", "1x", "1mxa", "a", "-1m*2x3"] {
            assert!(starts(bad).is_err(), "{bad}");
        }
    }
}

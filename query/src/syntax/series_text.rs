//! The notation of series in test scripts: `name{label="value"} 1+2x3 _x4 stale {{schema:0 sum:1 count:1}}x3`.
//!
//! `VxN` stands for N+1 points of value V, `V+DxN` for V, V+D, ..., V+N*D, `_` for a step without a point and `_xN` for N
//! such steps. A histogram is written as its parts in double braces and can be repeated and added up in the same way.

use super::stream::Stop;
use super::{ParseOptions, number, run, selector};
use crate::error::ParseError;
use crate::format::quote;
use crate::span::Span;
use kymo_storage::model::{Labels, MatchOp, stale_nan};
use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while, take_while1};
use nom::character::complete::{digit1, one_of};
use nom::combinator::{opt, recognize};
use nom::{IResult, Parser as _};

/// The most points one line may stand for.
const POINTS_MAX: u64 = 1_000_000;

/// A line: a series and its points, step by step.
#[derive(Debug, Clone, PartialEq)]
pub struct SeriesText {
    /// The labels with the metric name.
    pub labels: Labels,
    /// Runs of points, in order.
    pub items: Vec<SeriesItem>,
}

/// A run of points.
#[derive(Debug, Clone, PartialEq)]
pub enum SeriesItem {
    /// So many steps without a point.
    Absent {
        /// How many.
        count: u64,
    },
    /// Floats; the marker of staleness is one.
    Float {
        /// The first value.
        start: f64,
        /// What each further value adds to the one before.
        step: f64,
        /// How many values.
        count: u64,
    },
    /// Histograms.
    Histogram {
        /// The first one.
        start: Box<HistogramText>,
        /// What is added for each further one, or taken away if the flag is set.
        step: Option<(bool, Box<HistogramText>)>,
        /// How many.
        count: u64,
    },
}

/// One step of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Point<'s> {
    /// No point.
    Absent,
    /// A float.
    Float(f64),
    /// The histogram of this item, with its step applied so many times.
    Histogram(&'s SeriesItem, u64),
}

/// What a histogram says about the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterResetHint {
    /// `unknown`
    Unknown,
    /// `reset`: counting began anew.
    Reset,
    /// `not_reset`: counting went on.
    NotReset,
    /// `gauge`: it is no counter.
    Gauge,
}

/// A native histogram as written. Parts not written are zero or empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HistogramText {
    /// The resolution, -4 to 8, or -53 for custom bounds.
    pub schema: i32,
    /// The sum of observations.
    pub sum: f64,
    /// The number of observations.
    pub count: f64,
    /// Observations in the zero bucket.
    pub zero_count: f64,
    /// The width of the zero bucket.
    pub zero_threshold: f64,
    /// The index of the first positive bucket.
    pub offset: i32,
    /// Observations in consecutive positive buckets.
    pub buckets: Vec<f64>,
    /// The index of the first negative bucket.
    pub negative_offset: i32,
    /// Observations in consecutive negative buckets.
    pub negative_buckets: Vec<f64>,
    /// The upper bounds of schema -53.
    pub custom_values: Vec<f64>,
    /// The hint, if one is written.
    pub counter_reset_hint: Option<CounterResetHint>,
}

impl SeriesText {
    /// All steps in order.
    pub fn points(&self) -> impl Iterator<Item = Point<'_>> {
        self.items.iter().flat_map(|item| {
            let (count, mut value) = match item {
                SeriesItem::Absent { count } | SeriesItem::Histogram { count, .. } => (*count, 0.0),
                SeriesItem::Float { start, count, .. } => (*count, *start),
            };
            (0..count).map(move |index| match item {
                SeriesItem::Absent { .. } => Point::Absent,
                SeriesItem::Histogram { .. } => Point::Histogram(item, index),
                SeriesItem::Float { step, .. } => {
                    let point = Point::Float(value);
                    // A step of zero must not change the bits, which may be those of the marker of staleness.
                    if *step != 0.0 {
                        value += step;
                    }
                    point
                }
            })
        })
    }
}

/// Reads a line.
///
/// # Errors
/// What is wrong, and where.
pub fn parse_series(text: &str) -> Result<SeriesText, ParseError> {
    let metric = text.get(..metric_end(text)).unwrap_or_default();
    let labels = if metric.trim().is_empty() { Labels::empty() } else { labels(metric)? };
    let mut items = Vec::new();
    let mut points: u64 = 0;
    let mut rest = text.get(metric.len()..).unwrap_or_default().trim_start();
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let fail = |message: String| ParseError::new(text, Span::new(at, text.len()), message);
        let (behind, item) = item(rest).map_err(|_| {
            let word = rest.split_whitespace().next().unwrap_or_default();
            fail(format!("unexpected {} in series values", quote(word.as_bytes())))
        })?;
        let item = item.map_err(fail)?;
        points = points.saturating_add(match &item {
            SeriesItem::Absent { count }
            | SeriesItem::Float { count, .. }
            | SeriesItem::Histogram { count, .. } => *count,
        });
        if points > POINTS_MAX {
            return Err(fail(format!("series of more than {POINTS_MAX} points")));
        }
        items.push(item);
        let next = behind.trim_start();
        if next.len() == behind.len() && !next.is_empty() {
            return Err(fail("series values must be separated by white space".to_owned()));
        }
        rest = next;
    }
    Ok(SeriesText { labels, items })
}

/// Where the metric ends: behind its braces, or at the first white space if it has none.
fn metric_end(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    let mut braces = false;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') if braces => quote = Some(c),
            (None, '}') if braces => return at + 1,
            (None, '{') if text.get(at..).is_some_and(|t| t.starts_with("{{")) => return at,
            (None, '{') => braces = true,
            (None, c) if c.is_ascii_whitespace() && !braces => {
                // White space may stand between the name and its braces.
                let behind = text.get(at..).unwrap_or_default().trim_start();
                if !behind.starts_with('{') || behind.starts_with("{{") {
                    return at;
                }
            }
            (None, _) => {}
        }
    }
    text.len()
}

fn labels(metric: &str) -> Result<Labels, ParseError> {
    let options = ParseOptions::default();
    let matchers = run(metric, &options, |stream| {
        let selector = selector::vector_selector(stream)?;
        if let Some(bad) = selector.matchers.iter().find(|m| m.op() != MatchOp::Equal) {
            let message = format!("unexpected \"{}\" in label set, expected \"=\"", bad.op());
            stream.errors.add(selector.span, message);
            return Err(Stop::End);
        }
        Ok(selector.matchers)
    });
    match matchers {
        Ok(matchers) => Ok(Labels::from_pairs(matchers.iter().map(|m| (m.name(), m.value())))),
        Err(errors) => {
            Err(errors.into_iter().next().unwrap_or_else(|| ParseError::without_position("unexpected error")))
        }
    }
}

/// A rule over text; the inner result is a mistake of meaning.
type Rule<'t, T> = IResult<&'t str, Result<T, String>>;

/// One run of points.
fn item(input: &str) -> Rule<'_, SeriesItem> {
    if let Ok((rest, _)) = tag::<_, _, ()>("_")(input) {
        let (rest, times) = times(rest)?;
        return Ok((rest, Ok(SeriesItem::Absent { count: times.unwrap_or(1) })));
    }
    if input.starts_with("{{") {
        return histogram_item(input);
    }
    if let Ok((rest, _)) = tag::<_, _, ()>("stale")(input) {
        let item = SeriesItem::Float { start: stale_nan(), step: 0.0, count: 1 };
        return Ok((rest, Ok(item)));
    }
    let (rest, start) = signed_number(input)?;
    let (rest, step) = if rest.starts_with(['+', '-']) {
        let (rest, step) = signed_number(rest)?;
        (rest, Some(step))
    } else {
        (rest, None)
    };
    let (rest, times) = times(rest)?;
    if step.is_some() && times.is_none() {
        return Ok((rest, Err("a step needs a number of repetitions, as in 1+2x3".to_owned())));
    }
    let item = start.and_then(|start| {
        let step = step.unwrap_or(Ok(0.0))?;
        Ok(SeriesItem::Float { start, step, count: times.map_or(1, |n| n.saturating_add(1)) })
    });
    Ok((rest, item))
}

/// `x12`, if it is there.
fn times(input: &str) -> IResult<&str, Option<u64>> {
    let (rest, digits) = opt((tag("x"), digit1)).parse(input)?;
    // More digits than a number holds are more points than are allowed.
    Ok((rest, digits.map(|(_, d): (&str, &str)| d.parse().unwrap_or(u64::MAX))))
}

/// A number with its sign.
fn signed_number(input: &str) -> Rule<'_, f64> {
    let (rest, sign) = opt(one_of("+-")).parse(input)?;
    let exponent = (one_of("eE"), opt(one_of("+-")), digit1);
    let digits = take_while1(|c: char| c.is_ascii_digit() || c == '.' || c == '_');
    let plain = recognize((digits, opt(exponent)));
    let (rest, text) = alt((tag_no_case("inf"), tag_no_case("nan"), plain)).parse(rest)?;
    let value = number::value(text).map(|v| if sign == Some('-') { -v } else { v });
    Ok((rest, value))
}

fn histogram_item(input: &str) -> Rule<'_, SeriesItem> {
    let (rest, start) = histogram(input)?;
    let (rest, sign) = opt(one_of("+-")).parse(rest)?;
    let (rest, step) = match sign {
        Some(_) => {
            let (rest, step) = histogram(rest)?;
            (rest, Some(step))
        }
        None => (rest, None),
    };
    let (rest, times) = times(rest)?;
    let item = start.and_then(|start| {
        let step = step.transpose()?.map(|step| (sign == Some('-'), Box::new(step)));
        let count = times.map_or(1, |n| n.saturating_add(1));
        Ok(SeriesItem::Histogram { start: Box::new(start), step, count })
    });
    Ok((rest, item))
}

fn space(input: &str) -> IResult<&str, &str> {
    take_while(|c: char| c.is_ascii_whitespace())(input)
}

/// `{{key:value key:[a b c]}}`.
fn histogram(input: &str) -> Rule<'_, HistogramText> {
    let (mut rest, _) = (tag("{{"), space).parse(input)?;
    let mut histogram = HistogramText::default();
    let mut seen: Vec<&str> = Vec::new();
    loop {
        if let Ok((behind, _)) = tag::<_, _, ()>("}}")(rest) {
            return Ok((behind, Ok(histogram)));
        }
        let (behind, (key, _)) =
            (take_while1(|c: char| c == '_' || c.is_ascii_alphabetic()), tag(":")).parse(rest)?;
        if seen.contains(&key) {
            let message = format!("duplicate key {} in histogram", quote(key.as_bytes()));
            return Ok((behind, Err(message)));
        }
        seen.push(key);
        let (behind, problem) = descriptor(&mut histogram, key, behind)?;
        if let Err(problem) = problem {
            return Ok((behind, Err(problem)));
        }
        (rest, _) = space(behind)?;
    }
}

/// The value of one key.
fn descriptor<'t>(histogram: &mut HistogramText, key: &str, input: &'t str) -> Rule<'t, ()> {
    let (rest, result) = match key {
        "sum" | "count" | "z_bucket" | "z_bucket_w" => {
            let (rest, value) = signed_number(input)?;
            let field = match key {
                "sum" => &mut histogram.sum,
                "count" => &mut histogram.count,
                "z_bucket" => &mut histogram.zero_count,
                _ => &mut histogram.zero_threshold,
            };
            (rest, value.map(|v| *field = v))
        }
        "schema" | "offset" | "n_offset" => {
            let (rest, text) = recognize((opt(tag("-")), digit1)).parse(input)?;
            let field = match key {
                "schema" => &mut histogram.schema,
                "offset" => &mut histogram.offset,
                _ => &mut histogram.negative_offset,
            };
            let value = text.parse().map_err(|_| format!("error parsing {key} number: {text}"));
            (rest, value.map(|v| *field = v))
        }
        "buckets" | "n_buckets" | "custom_values" => {
            let (rest, values) = list(input)?;
            let field = match key {
                "buckets" => &mut histogram.buckets,
                "n_buckets" => &mut histogram.negative_buckets,
                _ => &mut histogram.custom_values,
            };
            (rest, values.map(|v| *field = v))
        }
        "counter_reset_hint" => {
            let (rest, word) = take_while1(|c: char| c == '_' || c.is_ascii_alphabetic())(input)?;
            let hint = match word {
                "unknown" => Ok(CounterResetHint::Unknown),
                "reset" => Ok(CounterResetHint::Reset),
                "not_reset" => Ok(CounterResetHint::NotReset),
                "gauge" => Ok(CounterResetHint::Gauge),
                _ => Err(format!("bad histogram descriptor found: {}", quote(word.as_bytes()))),
            };
            (rest, hint.map(|h| histogram.counter_reset_hint = Some(h)))
        }
        _ => (input, Err(format!("bad histogram descriptor found: {}", quote(key.as_bytes())))),
    };
    Ok((rest, result))
}

/// `[1 2.5 -3]`.
fn list(input: &str) -> Rule<'_, Vec<f64>> {
    let (mut rest, _) = (tag("["), space).parse(input)?;
    let mut values = Vec::new();
    loop {
        if let Ok((behind, _)) = tag::<_, _, ()>("]")(rest) {
            return Ok((behind, Ok(values)));
        }
        let (behind, value) = signed_number(rest)?;
        match value {
            Ok(value) => values.push(value),
            Err(problem) => return Ok((behind, Err(problem))),
        }
        (rest, _) = space(behind)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_storage::model::is_stale;

    fn floats(text: &str) -> Vec<Option<f64>> {
        let series = parse_series(text).unwrap();
        let float = |point| match point {
            Point::Absent => None,
            Point::Float(v) => Some(v),
            Point::Histogram(..) => panic!("{text} has no histograms"),
        };
        series.points().map(float).collect()
    }

    #[test]
    fn floats_and_gaps() {
        let cases: &[(&str, &[Option<f64>])] = &[
            ("m", &[]),
            ("m 1 2.5 -3e2", &[Some(1.0), Some(2.5), Some(-300.0)]),
            ("m _ _x2 7", &[None, None, None, Some(7.0)]),
            ("m{a=\"} x\"} 1x2", &[Some(1.0), Some(1.0), Some(1.0)]),
            ("{a=\"b\", } 1+2x2", &[Some(1.0), Some(3.0), Some(5.0)]),
            ("sum {} 1-2x1 -Inf", &[Some(1.0), Some(-1.0), Some(f64::NEG_INFINITY)]),
            ("m -1-1x1", &[Some(-1.0), Some(-2.0)]),
        ];
        for (text, expected) in cases {
            assert_eq!(floats(text), *expected, "{text}");
        }
        assert!(floats("m stale").iter().all(|v| v.is_some_and(is_stale)));
        assert!(floats("m NaNx3").iter().all(|v| v.is_some_and(f64::is_nan)));
    }

    #[test]
    fn labels_are_read() {
        let series = parse_series(r#"{"my.metric", "a.b"='x', c="y",} 1"#).unwrap();
        let expected = [("__name__", "my.metric"), ("a.b", "x"), ("c", "y")];
        assert_eq!(series.labels, Labels::from_pairs(expected));
    }

    #[test]
    fn histograms() {
        let text = "h{a=\"b\"} {{schema:-1 sum:-0.3 count:7.1 z_bucket:1 z_bucket_w:0.05 buckets:[5 1e1 7] offset:-3 \
                    n_buckets:[1 NaN] n_offset:2 counter_reset_hint:gauge}} _ {{}}x2 {{ count:1 }}-{{sum:1}}x3";
        let series = parse_series(text).unwrap();
        let SeriesItem::Histogram { start, step: None, count: 1 } = &series.items[0] else {
            panic!("{:?}", series.items[0]);
        };
        assert_eq!((start.schema, start.offset, start.negative_offset), (-1, -3, 2));
        assert_eq!((start.sum, start.count, start.zero_count), (-0.3, 7.1, 1.0));
        assert_eq!((start.zero_threshold, &start.buckets), (0.05, &vec![5.0, 10.0, 7.0]));
        assert_eq!(start.negative_buckets.len(), 2);
        assert_eq!(start.counter_reset_hint, Some(CounterResetHint::Gauge));
        let empty = Box::new(HistogramText::default());
        assert_eq!(series.items[2], SeriesItem::Histogram { start: empty, step: None, count: 3 });
        assert_eq!(series.points().count(), 1 + 1 + 3 + 4);
        let Some(Point::Histogram(SeriesItem::Histogram { step, .. }, 3)) = series.points().last() else {
            panic!("{text}");
        };
        assert!(step.as_ref().is_some_and(|(minus, h)| *minus && h.sum == 1.0));
    }

    #[test]
    fn mistakes() {
        let cases = [
            ("m{a!=\"b\"} 1", "1:1: parse error: unexpected \"!=\" in label set, expected \"=\""),
            ("m{a=\"b\" 1", "1:9: parse error: unexpected character inside braces: '1'"),
            ("m 1 foo", "1:5: parse error: unexpected \"foo\" in series values"),
            ("m 1+2", "1:3: parse error: a step needs a number of repetitions, as in 1+2x3"),
            ("m 1x99999999999999999999", "1:3: parse error: series of more than 1000000 points"),
            ("m {{sum:1 sum:2}}", "1:3: parse error: duplicate key \"sum\" in histogram"),
            ("m {{foo:1}}", "1:3: parse error: bad histogram descriptor found: \"foo\""),
            ("m {{sum:1", "1:3: parse error: unexpected \"{{sum:1\" in series values"),
            ("m 1{{}}", "1:3: parse error: series values must be separated by white space"),
        ];
        for (text, expected) in cases {
            let error = parse_series(text).map_err(|e| e.to_string());
            assert_eq!(error.err().as_deref(), Some(expected), "{text}");
        }
    }
}

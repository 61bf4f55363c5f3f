//! Reads lines of the Prometheus text format and of OpenMetrics: comments, samples, exemplars.
//!
//! Sources: <https://prometheus.io/docs/instrumenting/exposition_formats/>,
//! <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>. Names in quotes may hold any characters.

use super::label_bytes::LabelBytes;
use kymo_storage::model::{METRIC_NAME, MetricType, Timestamp};

/// The NaN that Prometheus stores when a target says `NaN`.
const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// Which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The Prometheus text format: times in milliseconds, free comments.
    Prometheus,
    /// OpenMetrics: times in seconds, exemplars, `# EOF` at the end.
    OpenMetrics,
}

/// What a line says. The labels of a sample are in the buffer that was given.
#[derive(Debug, Clone, PartialEq)]
pub enum Line<'l> {
    /// Nothing.
    Blank,
    /// The end of OpenMetrics.
    End,
    /// `# TYPE`.
    Type(&'l str, MetricType),
    /// `# HELP`.
    Help(&'l str, String),
    /// `# UNIT`.
    Unit(&'l str, &'l str),
    /// A sample.
    Sample(SampleLine),
}

/// The numbers of a sample's line.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleLine {
    /// The value.
    pub value: f64,
    /// Milliseconds, if the line says so.
    pub timestamp: Option<Timestamp>,
    /// What stands behind ` # `.
    pub exemplar: Option<ExemplarText>,
}

/// An exemplar.
#[derive(Debug, Clone, PartialEq)]
pub struct ExemplarText {
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// The observed value.
    pub value: f64,
    /// Milliseconds, if it says so.
    pub timestamp: Option<Timestamp>,
}

/// Reads one line (without its line feed).
///
/// # Errors
/// What is wrong with it, and the column, in bytes from 1.
pub fn read_line<'l>(dialect: Dialect, line: &'l str, labels: &mut LabelBytes) -> Result<Line<'l>, String> {
    labels.clear();
    let line = line.strip_suffix('\r').unwrap_or(line);
    let trimmed = line.trim_start_matches([' ', '\t']);
    if trimmed.is_empty() {
        return Ok(Line::Blank);
    }
    if let Some(comment) = trimmed.strip_prefix('#') {
        return read_comment(dialect, comment);
    }
    let mut scanner = Scanner { line, at: line.len() - trimmed.len() };
    let sample = scanner.sample(dialect, labels);
    sample.map(Line::Sample).map_err(|why| format!("column {}: {why}", scanner.at + 1))
}

fn read_comment(dialect: Dialect, comment: &str) -> Result<Line<'_>, String> {
    let words = comment.trim_start_matches([' ', '\t']);
    if words.trim_end() == "EOF" && dialect == Dialect::OpenMetrics {
        return Ok(Line::End);
    }
    let Some((keyword, rest)) = words.split_once([' ', '\t']) else { return Ok(Line::Blank) };
    if !["TYPE", "HELP", "UNIT"].contains(&keyword) {
        return Ok(Line::Blank);
    }
    let (family, text) = family(rest.trim_start_matches([' ', '\t']))?;
    match keyword {
        "TYPE" => match text.trim() {
            "counter" => Ok(MetricType::Counter),
            "gauge" => Ok(MetricType::Gauge),
            "histogram" => Ok(MetricType::Histogram),
            "gaugehistogram" => Ok(MetricType::GaugeHistogram),
            "summary" => Ok(MetricType::Summary),
            "info" => Ok(MetricType::Info),
            "stateset" => Ok(MetricType::StateSet),
            "untyped" | "unknown" => Ok(MetricType::Unknown),
            other => Err(format!("there is no metric type {other:?}")),
        }
        .map(|metric_type| Line::Type(family, metric_type)),
        "HELP" => Ok(Line::Help(family, unescape(text))),
        _ => Ok(Line::Unit(family, text.trim())),
    }
}

/// The name of a family, bare or in quotes, and what follows it. Quoted names with escapes are taken as they stand.
fn family(text: &str) -> Result<(&str, &str), String> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("the quotes of the name are not closed")?,
        None => text.split_once([' ', '\t']).unwrap_or((text, "")),
    };
    if name.is_empty() {
        Err("the name is missing".to_owned())
    } else {
        Ok((name, rest.trim_start_matches([' ', '\t'])))
    }
}

/// `\\`, `\n` and `\"`; what else follows a backslash stands for itself, backslash included.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        let (escaped, after) = match tail.as_bytes().get(1) {
            Some(b'\\') => ("\\", 2),
            Some(b'n') => ("\n", 2),
            Some(b'"') => ("\"", 2),
            _ => ("\\", 1),
        };
        out.push_str(escaped);
        rest = tail.get(after..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

struct Scanner<'l> {
    line: &'l str,
    at: usize,
}

impl<'l> Scanner<'l> {
    fn rest(&self) -> &'l str {
        self.line.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.line.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn blanks(&mut self) {
        while self.take(b' ') || self.take(b'\t') {}
    }

    /// Everything up to one of `ends`, or the end of the line.
    fn until(&mut self, ends: &[u8]) -> &'l str {
        let rest = self.rest();
        let len = rest.bytes().position(|b| ends.contains(&b)).unwrap_or(rest.len());
        self.at += len;
        rest.get(..len).unwrap_or_default()
    }

    /// What stands between quotes, the first of which was taken.
    fn quoted(&mut self) -> Result<std::borrow::Cow<'l, str>, String> {
        let rest = self.rest();
        let (mut len, mut has_escapes) = (0, false);
        loop {
            match rest.as_bytes().get(len) {
                None => return Err("the quotes are not closed".to_owned()),
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    len += 2;
                }
                Some(_) => len += 1,
            }
        }
        self.at += len + 1;
        let text = rest.get(..len).ok_or("the quotes are not closed")?;
        Ok(if has_escapes { unescape(text).into() } else { text.into() })
    }

    fn sample(&mut self, dialect: Dialect, labels: &mut LabelBytes) -> Result<SampleLine, String> {
        let name = self.until(b"{ \t");
        if !name.is_empty() {
            if !is_metric_name(name) {
                self.at -= name.len();
                return Err(format!("{name:?} is no metric name (others go in quotes into the braces)"));
            }
            labels.push(METRIC_NAME, name);
        }
        self.blanks();
        if self.take(b'{') {
            self.labels(&mut |name, value| labels.push(name, value), true)?;
        }
        if labels.metric().is_empty() {
            return Err("the metric name is missing".to_owned());
        }
        let value = self.number()?;
        let timestamp = self.timestamp(dialect)?;
        self.blanks();
        let exemplar = if self.take(b'#') {
            if dialect == Dialect::Prometheus {
                return Err("exemplars are of OpenMetrics, say so in Content-Type".to_owned());
            }
            Some(self.exemplar()?)
        } else {
            None
        };
        self.blanks();
        if self.rest().is_empty() {
            Ok(SampleLine { value, timestamp, exemplar })
        } else {
            Err(format!("{:?} is too much", self.rest()))
        }
    }

    /// Pairs up to the closing brace; a name in quotes without a value is the metric's if `may_name`.
    fn labels(&mut self, push: &mut dyn FnMut(&str, &str), may_name: bool) -> Result<(), String> {
        loop {
            self.blanks();
            if self.take(b'}') {
                return Ok(());
            }
            let is_quoted = self.take(b'"');
            let name = if is_quoted { self.quoted()? } else { self.until(b"=,} \t\"").into() };
            if name.is_empty() {
                return Err("a label name is missing".to_owned());
            }
            self.blanks();
            if self.take(b'=') {
                self.blanks();
                if !self.take(b'"') {
                    return Err("a label value is missing its quotes".to_owned());
                }
                let value = self.quoted()?;
                push(&name, &value);
            } else if is_quoted && may_name {
                push(METRIC_NAME, &name);
            } else {
                return Err(format!("the label {name:?} has no value"));
            }
            self.blanks();
            if !self.take(b',') && self.peek() != Some(b'}') {
                return Err("a comma or closing brace is missing between labels".to_owned());
            }
        }
    }

    fn number(&mut self) -> Result<f64, String> {
        self.blanks();
        let text = self.until(b" \t#");
        number(text).ok_or_else(|| {
            self.at -= text.len();
            if text.is_empty() { "the value is missing".to_owned() } else { format!("{text:?} is no number") }
        })
    }

    fn timestamp(&mut self, dialect: Dialect) -> Result<Option<Timestamp>, String> {
        self.blanks();
        let text = self.until(b" \t#");
        if text.is_empty() {
            return Ok(None);
        }
        let time = match dialect {
            Dialect::Prometheus => text.parse().ok(),
            Dialect::OpenMetrics => seconds(text),
        };
        time.map(Some).ok_or_else(|| {
            self.at -= text.len();
            let unit = if dialect == Dialect::Prometheus { "milliseconds" } else { "seconds" };
            format!("{text:?} is no time in {unit}")
        })
    }

    fn exemplar(&mut self) -> Result<ExemplarText, String> {
        self.blanks();
        if !self.take(b'{') {
            return Err("the labels of the exemplar are missing".to_owned());
        }
        let mut labels = Vec::new();
        self.labels(&mut |name, value| labels.push((name.to_owned(), value.to_owned())), false)?;
        let value = self.number()?;
        let timestamp = self.timestamp(Dialect::OpenMetrics)?;
        Ok(ExemplarText { labels, value, timestamp })
    }
}

fn is_metric_name(name: &str) -> bool {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b':';
    name.bytes().all(is_part) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// A float as Go reads it, but for hexadecimal ones. All NaN are the one that Prometheus stores.
pub(super) fn number(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    Some(if value.is_nan() { f64::from_bits(NORMAL_NAN_BITS) } else { value })
}

/// Milliseconds from seconds with a fraction.
fn seconds(text: &str) -> Option<Timestamp> {
    let ms = (text.parse::<f64>().ok()? * 1000.0).round();
    (ms.abs() < 9.2e18).then_some(ms as Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(dialect: Dialect, line: &str) -> String {
        let mut labels = LabelBytes::default();
        match read_line(dialect, line, &mut labels) {
            Ok(Line::Sample(s)) => {
                let shown = kymo_storage::model::Labels::from_wire(labels.encode()).unwrap();
                format!(
                    "{shown} {} {:?} {:?}",
                    s.value,
                    s.timestamp,
                    s.exemplar.map(|e| (e.labels, e.value, e.timestamp))
                )
            }
            Ok(other) => format!("{other:?}"),
            Err(why) => why,
        }
    }

    #[test]
    fn lines_of_both_formats() {
        use Dialect::{OpenMetrics as O, Prometheus as P};
        let cases = [
            (P, "", "Blank"),
            (P, "# a comment", "Blank"),
            (P, "# EOF", "Blank"),
            (O, "# EOF", "End"),
            (P, "# TYPE a_total counter", "Type(\"a_total\", Counter)"),
            (P, "# TYPE \"a.b\" gauge", "Type(\"a.b\", Gauge)"),
            (P, "# TYPE a nonsense", "there is no metric type \"nonsense\""),
            (P, "# HELP a two \\n lines \\\\", "Help(\"a\", \"two \\n lines \\\\\")"),
            (O, "# UNIT a_seconds seconds", "Unit(\"a_seconds\", \"seconds\")"),
            (P, "a 1", "{__name__=\"a\"} 1 None None"),
            (P, "a{} 1 1500\r", "{__name__=\"a\"} 1 Some(1500) None"),
            (O, "a 1 1.5", "{__name__=\"a\"} 1 Some(1500) None"),
            (P, " a { x = \"1\" , } -Inf -5 ", "{__name__=\"a\", x=\"1\"} -inf Some(-5) None"),
            (P, "{\"a.b\", \"c d\"=\"e\"} 1e3", "{__name__=\"a.b\", \"c d\"=\"e\"} 1000 None None"),
            (
                O,
                "a_total 3 # {t=\"x\"} 0.5 2",
                "{__name__=\"a_total\"} 3 None Some(([(\"t\", \"x\")], 0.5, Some(2000)))",
            ),
            (P, "a 1 # {t=\"x\"} 0.5", "column 6: exemplars are of OpenMetrics, say so in Content-Type"),
            (P, "a", "column 2: the value is missing"),
            (P, "a one", "column 3: \"one\" is no number"),
            (P, "a 1 1.5", "column 5: \"1.5\" is no time in milliseconds"),
            (P, "a 1 1 1", "column 7: \"1\" is too much"),
            (P, "a-b 1", "column 1: \"a-b\" is no metric name (others go in quotes into the braces)"),
            (P, "a{x=\"1} 1", "column 6: the quotes are not closed"),
            (P, "a{x=\"1\" y=\"2\"} 1", "column 9: a comma or closing brace is missing between labels"),
            (P, "a{x} 1", "column 4: the label \"x\" has no value"),
            (P, "{x=\"1\"} 1", "column 8: the metric name is missing"),
        ];
        for (dialect, line, expected) in cases {
            assert_eq!(read(dialect, line), expected, "{line}");
        }
    }

    fn print(labels: &[(String, String)], value: f64, timestamp: Option<i64>) -> String {
        let quote = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let pairs: Vec<String> = labels
            .iter()
            .map(|(n, v)| {
                if n == METRIC_NAME {
                    format!("\"{}\"", quote(v))
                } else {
                    format!("\"{}\"=\"{}\"", quote(n), quote(v))
                }
            })
            .collect();
        format!("{{{}}} {value} {}", pairs.join(","), timestamp.map(|t| t.to_string()).unwrap_or_default())
    }

    proptest! {
        #[test]
        fn any_line_ends_in_an_answer(line in "[ -~é\\t]{0,60}", structured in "a?\\{?(\"?[a-z\\\\\"]{0,3}=?\"?,?){0,4}\\}? ?[0-9.e]{0,4} ?#?.{0,9}") {
            for dialect in [Dialect::Prometheus, Dialect::OpenMetrics] {
                for text in [&line, &structured] {
                    let _ = read_line(dialect, text, &mut LabelBytes::default());
                }
            }
        }

        #[test]
        fn what_is_printed_is_read(
            name in ".{1,6}",
            labels in prop::collection::btree_map("[^_].{0,5}", ".{1,8}", 0..4),
            value in any::<f64>().prop_filter("NaN has many forms", |v| !v.is_nan()),
            timestamp in any::<Option<i64>>(),
        ) {
            let mut pairs = vec![(METRIC_NAME.to_owned(), name)];
            pairs.extend(labels);
            let mut buffer = LabelBytes::default();
            let line = print(&pairs, value, timestamp);
            let Ok(Line::Sample(sample)) = read_line(Dialect::Prometheus, &line, &mut buffer) else {
                return Err(TestCaseError::fail(line));
            };
            prop_assert_eq!((sample.value.to_bits(), sample.timestamp), (value.to_bits(), timestamp));
            let expected = kymo_storage::model::Labels::from_pairs(pairs);
            prop_assert_eq!(buffer.encode(), expected.as_bytes());
        }
    }
}

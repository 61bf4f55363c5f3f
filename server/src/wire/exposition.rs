//! Samples as targets expose them: the text format and the delimited protobuf of `io.prometheus.client.MetricFamily`.
//!
//! Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>; of the protobuf, the fields that are written:
//!
//! ```text
//! MetricFamily  1 name   3 type (3 untyped, 4 histogram, 5 gauge histogram)   4 metric
//! Metric        1 label { 1 name  2 value }   5 untyped { 1 value }   6 timestamp_ms   7 histogram
//! Histogram     2 sum   4 count   5 schema   6 zero threshold   8 zero count   9 11 negative spans and counts   12 14 positive
//! ```

use super::protobuf_writer::{bytes_field, double_field, message_field, uvarint, varint_field, zigzag};
use kymo_storage::model::{
    Buckets, FloatHistogram, General, Labels, METRIC_NAME, ResetHint, Span, Timestamp,
};
use std::borrow::Cow;
use std::fmt::Write;

/// What becomes of names with characters outside of `[a-zA-Z0-9_:]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escaping {
    /// They stay, in quotes where the format is text.
    Utf8,
    /// Each such character becomes `_`.
    Underscores,
    /// `.` becomes `_dot_`, `_` becomes `__`, and any other such character `__`.
    Dots,
    /// The name becomes `U__` and the name, with each such character as `_HEX_` and `_` as `__`.
    Values,
}

impl Escaping {
    /// The names that clients know them by.
    const NAMES: [(&str, Self); 4] = [
        ("allow-utf-8", Self::Utf8),
        ("underscores", Self::Underscores),
        ("dots", Self::Dots),
        ("values", Self::Values),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, escaping)| *escaping == self).map_or("", |(name, _)| name)
    }

    /// A name as it is written.
    fn apply(self, name: &str) -> Cow<'_, str> {
        if self == Self::Utf8 || (self != Self::Dots && is_plain(name)) {
            return Cow::Borrowed(name);
        }
        let mut out = String::from(if self == Self::Values { "U__" } else { "" });
        for (i, c) in name.chars().enumerate() {
            let fits = c.is_ascii_alphabetic() || c == '_' || c == ':' || i > 0 && c.is_ascii_digit();
            match (self, c) {
                (Self::Dots | Self::Values, '_') => out.push_str("__"),
                _ if fits => out.push(c),
                (Self::Dots, '.') => out.push_str("_dot_"),
                (Self::Dots, _) => out.push_str("__"),
                // Writing to a string cannot fail.
                (Self::Values, _) => drop(write!(out, "_{:x}_", u32::from(c))),
                (Self::Underscores | Self::Utf8, _) => out.push('_'),
            }
        }
        Cow::Owned(out)
    }
}

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposition {
    /// Protobuf messages, each behind its length; else text.
    pub is_protobuf: bool,
    /// Which version of the text format the client was told; what is written is the same.
    pub text_version: &'static str,
    /// What becomes of names.
    pub escaping: Escaping,
}

/// The versions of the text format.
const TEXT_VERSIONS: [&str; 2] = ["0.0.4", "1.0.0"];

/// What a series has at a moment.
#[derive(Debug, Clone)]
pub enum Exposed {
    /// A float.
    Float(f64),
    /// A native histogram, which only protobuf can say.
    Histogram(std::sync::Arc<FloatHistogram>),
}

/// One series of a family.
#[derive(Debug, Clone)]
pub struct ExposedSeries {
    /// All labels.
    pub labels: Labels,
    /// When it was sampled.
    pub timestamp: Timestamp,
    /// What was found then.
    pub value: Exposed,
}

impl Exposition {
    /// What a client accepts, by its `Accept` header: protobuf if it prefers that, else text.
    pub fn negotiate(accept: &str) -> Self {
        let plain =
            Self { is_protobuf: false, text_version: TEXT_VERSIONS[0], escaping: Escaping::Underscores };
        let mut best = (-1.0, plain);
        for item in accept.split(',') {
            let mut parts = item.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
            let parameter = |name: &str| {
                parameters
                    .iter()
                    .find(|(n, _)| n.trim() == name)
                    .map_or("", |(_, v)| v.trim().trim_matches('"'))
            };
            let is_protobuf = media == "application/vnd.google.protobuf"
                && parameter("proto") == "io.prometheus.client.MetricFamily"
                && parameter("encoding") == "delimited";
            let version = match parameter("version") {
                "" => Some(TEXT_VERSIONS[0]),
                asked => TEXT_VERSIONS.into_iter().find(|version| *version == asked),
            };
            let is_text = media == "text/plain" && version.is_some();
            let weight = parameter("q").parse().unwrap_or(1.0);
            if (is_protobuf || is_text) && weight > best.0 {
                let escaping = Escaping::NAMES.iter().find(|(name, _)| *name == parameter("escaping"));
                let escaping = escaping.map_or(plain.escaping, |(_, escaping)| *escaping);
                let text_version = version.unwrap_or(plain.text_version);
                best = (weight, Self { is_protobuf, text_version, escaping });
            }
        }
        best.1
    }

    /// The `Content-Type`.
    pub fn content_type(self) -> String {
        let escaping = self.escaping.name();
        if self.is_protobuf {
            return format!(
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping={escaping}"
            );
        }
        format!("text/plain; version={}; charset=utf-8; escaping={escaping}", self.text_version)
    }

    /// Appends the series of one metric; histograms are left out of text.
    pub fn write_family(self, out: &mut Vec<u8>, name: &str, series: &[ExposedSeries]) {
        let name = self.escaping.apply(name);
        for same_kind in series.chunk_by(|a, b| kind(&a.value) == kind(&b.value)) {
            let Some(first) = same_kind.first() else { continue };
            if self.is_protobuf {
                let mut family = Vec::new();
                bytes_field(&mut family, 1, name.as_bytes());
                varint_field(&mut family, 3, kind(&first.value));
                same_kind.iter().for_each(|s| message_field(&mut family, 4, |out| self.write_metric(out, s)));
                uvarint(out, family.len() as u64);
                out.extend_from_slice(&family);
            } else {
                self.write_text(out, &name, same_kind);
            }
        }
    }

    fn write_text(self, out: &mut Vec<u8>, name: &str, series: &[ExposedSeries]) {
        let mut text = String::new();
        for one in series {
            let Exposed::Float(value) = one.value else { continue };
            // Writing to a string cannot fail; here and below.
            if text.is_empty() {
                let _ = if is_plain(name) {
                    writeln!(text, "# TYPE {name} untyped")
                } else {
                    writeln!(text, "# TYPE \"{}\" untyped", escaped(name))
                };
            }
            let mut open = if is_plain(name) {
                text.push_str(name);
                '{'
            } else {
                let _ = write!(text, "{{\"{}\"", escaped(name));
                ','
            };
            for (label, value) in one.labels.iter().filter(|(n, _)| *n != METRIC_NAME) {
                let label = self.escaping.apply(label);
                text.push(open);
                open = ',';
                // A colon may stand in the name of a metric, but not of a label.
                let _ = match is_plain(&label) && (self.escaping != Escaping::Utf8 || !label.contains(':')) {
                    true => write!(text, "{label}=\"{}\"", escaped(value)),
                    false => write!(text, "\"{}\"=\"{}\"", escaped(&label), escaped(value)),
                };
            }
            if one.labels.get("instance").is_none() {
                let _ = write!(text, "{open}instance=\"\"");
            }
            let _ = writeln!(text, "}} {} {}", General(value), one.timestamp);
        }
        out.extend_from_slice(text.as_bytes());
    }

    fn write_metric(self, out: &mut Vec<u8>, series: &ExposedSeries) {
        let mut label = |name: &str, value: &str| {
            message_field(out, 1, |out| {
                bytes_field(out, 1, name.as_bytes());
                bytes_field(out, 2, value.as_bytes());
            });
        };
        for (name, value) in series.labels.iter().filter(|(n, _)| *n != METRIC_NAME) {
            label(&self.escaping.apply(name), value);
        }
        if series.labels.get("instance").is_none() {
            label("instance", "");
        }
        match &series.value {
            Exposed::Float(value) => message_field(out, 5, |out| double_field(out, 1, *value)),
            Exposed::Histogram(histogram) => message_field(out, 7, |out| write_histogram(out, histogram)),
        }
        varint_field(out, 6, series.timestamp.cast_unsigned());
    }
}

/// The type of a family in protobuf.
fn kind(value: &Exposed) -> u64 {
    match value {
        Exposed::Float(_) => 3,
        Exposed::Histogram(histogram) if histogram.hint == ResetHint::Gauge => 5,
        Exposed::Histogram(_) => 4,
    }
}

fn write_histogram(out: &mut Vec<u8>, histogram: &FloatHistogram) {
    double_field(out, 2, histogram.sum);
    double_field(out, 4, histogram.count);
    varint_field(out, 5, zigzag(i64::from(histogram.schema)));
    double_field(out, 6, histogram.zero_threshold);
    double_field(out, 8, histogram.zero_count);
    let sides: [(u32, &Buckets<f64>); 2] = [(9, &histogram.negative), (12, &histogram.positive)];
    for (number, side) in sides {
        for Span { offset, length } in side.spans() {
            message_field(out, number, |out| {
                varint_field(out, 1, zigzag(i64::from(*offset)));
                varint_field(out, 2, u64::from(*length));
            });
        }
        let counts: Vec<u8> = side.counts().iter().flat_map(|c| c.to_le_bytes()).collect();
        if !counts.is_empty() {
            bytes_field(out, number + 2, &counts);
        }
    }
    if side_is_empty(histogram) {
        // An empty span tells a native histogram without observations from a classic one.
        bytes_field(out, 12, &[]);
    }
}

fn side_is_empty(histogram: &FloatHistogram) -> bool {
    histogram.positive.is_empty() && histogram.negative.is_empty()
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

/// Whether a name can stand without quotes.
fn is_plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(labels: &[(&str, &str)], value: f64) -> ExposedSeries {
        let labels = Labels::from_pairs(labels.iter().copied());
        ExposedSeries { labels, timestamp: 1_500, value: Exposed::Float(value) }
    }

    /// Names of a metric and a label, a value, and the text of the sample without its time.
    #[test]
    fn text() {
        use Escaping::{Dots, Underscores, Utf8, Values};
        let cases = [
            (Underscores, "m", "a", "b\"\n\\", 1e6, r#"m{a="b\"\n\\",instance=""} 1e+06"#),
            (Underscores, "m", "instance", "i", f64::NEG_INFINITY, r#"m{instance="i"} -Inf"#),
            (Underscores, "m:x", "a:b", "é", f64::INFINITY, r#"m:x{a:b="é",instance=""} +Inf"#),
            (Underscores, "ü.x", "µ", "1", 0.5, r#"__x{_="1",instance=""} 0.5"#),
            (Underscores, "9a", "1", "1", f64::NAN, r#"_a{_="1",instance=""} NaN"#),
            (Utf8, "ü.x", "µ", "1", -0.0, r#"{"ü.x","µ"="1",instance=""} -0"#),
            (Utf8, "a\"b\\", "x\ny", "1", 5e-324, r#"{"a\"b\\","x\ny"="1",instance=""} 5e-324"#),
            (Utf8, "m", "a:b", "1", 1.0, r#"m{"a:b"="1",instance=""} 1"#),
            (
                Dots,
                "http.server_requests",
                "k.x",
                "1",
                1.0,
                r#"http_dot_server__requests{k_dot_x="1",instance=""} 1"#,
            ),
            (Dots, "a-b", "µ", "1", 1.0, r#"a__b{__="1",instance=""} 1"#),
            (Values, "a_b", "c_d", "1", 1.0, r#"a_b{c_d="1",instance=""} 1"#),
            (Values, "a_b.c", "😀", "1", 1.0, r#"U__a__b_2e_c{U___1f600_="1",instance=""} 1"#),
            (Values, "9a", "b", "1", 1.0, r#"U___39_a{b="1",instance=""} 1"#),
        ];
        for (escaping, name, label, text, value, expected) in cases {
            let mut out = Vec::new();
            let one = series(&[("__name__", name), (label, text)], value);
            let exposition = Exposition { escaping, ..Exposition::negotiate("") };
            exposition.write_family(&mut out, name, std::slice::from_ref(&one));
            let written = String::from_utf8(out).unwrap();
            let (head, sample) = written.split_once(" untyped\n").unwrap();
            assert_eq!(sample, format!("{expected} 1500\n"));
            let shown = head.strip_prefix("# TYPE ").unwrap().trim_matches('"');
            let own = expected.strip_prefix("{\"").unwrap_or(expected);
            assert!(own.starts_with(shown), "{head}");
        }
    }

    #[test]
    fn negotiation() {
        use Escaping::{Dots, Underscores, Utf8, Values};
        let proto =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let cases = [
            ("", false, "0.0.4", Underscores),
            ("*/*", false, "0.0.4", Underscores),
            ("application/openmetrics-text;version=1.0.0", false, "0.0.4", Underscores),
            (proto, true, "0.0.4", Underscores),
            (&format!("{proto};q=0.3,text/plain;version=0.0.4;q=0.5"), false, "0.0.4", Underscores),
            (&format!("{proto};escaping=allow-utf-8;q=0.6,text/plain;q=0.5"), true, "0.0.4", Utf8),
            ("text/plain;version=1.0.0;escaping=allow-utf-8", false, "1.0.0", Utf8),
            ("text/plain;escaping=dots", false, "0.0.4", Dots),
            ("text/plain;version=2.0;escaping=dots,text/plain;escaping=\"values\"", false, "0.0.4", Values),
            ("text/plain;escaping=none", false, "0.0.4", Underscores),
        ];
        for (accept, is_protobuf, text_version, escaping) in cases {
            let expected = Exposition { is_protobuf, text_version, escaping };
            assert_eq!(Exposition::negotiate(accept), expected, "{accept}");
        }
        let (text, binary) = (Exposition::negotiate("text/plain"), Exposition::negotiate(proto));
        assert_eq!(text.content_type(), "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
        assert!(binary.content_type().ends_with("encoding=delimited; escaping=underscores"));
    }
}

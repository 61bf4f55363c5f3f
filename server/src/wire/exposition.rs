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

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exposition {
    /// Protobuf messages, each behind its length; else text.
    pub is_protobuf: bool,
    /// Names may hold any characters; else those outside of `[a-zA-Z0-9_:]` become `_`.
    pub is_utf8: bool,
}

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
        let mut best = (-1.0, Self { is_protobuf: false, is_utf8: false });
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
            let is_text = media == "text/plain" && ["", "0.0.4", "1.0.0"].contains(&parameter("version"));
            let weight = parameter("q").parse().unwrap_or(1.0);
            if (is_protobuf || is_text) && weight > best.0 {
                best = (weight, Self { is_protobuf, is_utf8: parameter("escaping") == "allow-utf-8" });
            }
        }
        best.1
    }

    /// The `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match (self.is_protobuf, self.is_utf8) {
            (false, false) => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            (false, true) => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            (true, false) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=underscores"
            }
            (true, true) => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8"
            }
        }
    }

    fn name<'n>(self, name: &'n str) -> Cow<'n, str> {
        if self.is_utf8 || is_plain(name) {
            return Cow::Borrowed(name);
        }
        let plain = |(i, c): (usize, char)| {
            let fits = c.is_ascii_alphabetic() || c == '_' || c == ':' || i > 0 && c.is_ascii_digit();
            if fits { c } else { '_' }
        };
        Cow::Owned(name.chars().enumerate().map(plain).collect())
    }

    /// Appends the series of one metric; histograms are left out of text.
    pub fn write_family(self, out: &mut Vec<u8>, name: &str, series: &[ExposedSeries]) {
        let name = self.name(name);
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
                let label = self.name(label);
                text.push(open);
                open = ',';
                let _ = match is_plain(&label) {
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
            label(&self.name(name), value);
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

    #[test]
    fn text() {
        let cases = [
            (
                false,
                &[("__name__", "m"), ("a", "b\"\n")][..],
                1e6,
                "# TYPE m untyped\nm{a=\"b\\\"\\n\",instance=\"\"} 1e+06 1500\n",
            ),
            (
                false,
                &[("__name__", "m"), ("instance", "i")],
                f64::NEG_INFINITY,
                "# TYPE m untyped\nm{instance=\"i\"} -Inf 1500\n",
            ),
            (
                false,
                &[("__name__", "ü.x"), ("µ", "1")],
                0.5,
                "# TYPE __x untyped\n__x{_=\"1\",instance=\"\"} 0.5 1500\n",
            ),
            (
                true,
                &[("__name__", "ü.x"), ("µ", "1")],
                0.5,
                "# TYPE \"ü.x\" untyped\n{\"ü.x\",\"µ\"=\"1\",instance=\"\"} 0.5 1500\n",
            ),
        ];
        for (is_utf8, labels, value, expected) in cases {
            let mut out = Vec::new();
            let one = series(labels, value);
            let exposition = Exposition { is_protobuf: false, is_utf8 };
            exposition.write_family(&mut out, one.labels.metric_name(), std::slice::from_ref(&one));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn negotiation() {
        let proto =
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
        let cases = [
            ("", false, false),
            ("*/*", false, false),
            ("application/openmetrics-text;version=1.0.0", false, false),
            (proto, true, false),
            (&format!("{proto};q=0.3,text/plain;version=0.0.4;q=0.5"), false, false),
            (&format!("{proto};escaping=allow-utf-8;q=0.6,text/plain;q=0.5"), true, true),
            ("text/plain;version=1.0.0;escaping=allow-utf-8", false, true),
        ];
        for (accept, is_protobuf, is_utf8) in cases {
            assert_eq!(Exposition::negotiate(accept), Exposition { is_protobuf, is_utf8 }, "{accept}");
        }
    }
}

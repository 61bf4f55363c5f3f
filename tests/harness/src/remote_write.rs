//! Builds remote-write 1.0 requests: protobuf by hand, snappy block format.

use crate::http::{Client, Response};
use kymo_storage::model::{Buckets, FloatHistogram, Histogram, IntHistogram, ResetHint};
use std::io;

/// One series of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct TimeSeries {
    /// Names and values, written in this order.
    pub labels: Vec<(String, String)>,
    /// Milliseconds and values, written in this order.
    pub samples: Vec<(i64, f64)>,
}

impl TimeSeries {
    /// A series of metric `name` with more labels, sorted as the protocol asks.
    pub fn new(name: &str, labels: &[(&str, &str)], samples: Vec<(i64, f64)>) -> Self {
        let mut all = vec![("__name__".to_owned(), name.to_owned())];
        all.extend(labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        all.sort();
        Self { labels: all, samples }
    }
}

/// A request under construction, in protobuf.
#[derive(Debug, Default, Clone)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// An empty request.
    pub fn new() -> Self {
        Self::default()
    }

    /// A request of these series.
    pub fn of(series: &[TimeSeries]) -> Self {
        let mut request = Self::new();
        for one in series {
            request.push(&label_bytes(&one.labels), &one.samples);
        }
        request
    }

    /// Adds a series whose labels are encoded already (see [`label_bytes`]).
    pub fn push(&mut self, labels: &[u8], samples: &[(i64, f64)]) {
        let sizes: usize = samples.iter().map(|(t, _)| 2 + sample_len(*t)).sum();
        self.bytes.push(0x0a);
        uvarint(&mut self.bytes, (labels.len() + sizes) as u64);
        self.bytes.extend_from_slice(labels);
        for (timestamp, value) in samples {
            self.bytes.push(0x12);
            uvarint(&mut self.bytes, sample_len(*timestamp) as u64);
            self.bytes.push(0x09);
            self.bytes.extend_from_slice(&value.to_le_bytes());
            self.bytes.push(0x10);
            uvarint(&mut self.bytes, *timestamp as u64);
        }
    }

    /// Adds a series of native histograms with float counts; each is at its milliseconds.
    pub fn push_histograms(&mut self, labels: &[u8], histograms: &[(i64, &FloatHistogram)]) {
        let mut series = labels.to_vec();
        for (timestamp, histogram) in histograms {
            field(&mut series, 0x22, &histogram_bytes(*timestamp, histogram));
        }
        field(&mut self.bytes, 0x0a, &series);
    }

    /// As [`Request::push_histograms`], with whole numbers for counts.
    pub fn push_whole_histograms(&mut self, labels: &[u8], histograms: &[(i64, &IntHistogram)]) {
        let mut series = labels.to_vec();
        for (timestamp, histogram) in histograms {
            field(&mut series, 0x22, &whole_histogram_bytes(*timestamp, histogram));
        }
        field(&mut self.bytes, 0x0a, &series);
    }

    /// Adds metadata of one family; `metric_type` is the protocol's number.
    pub fn push_metadata(&mut self, family: &str, metric_type: u64, help: &str, unit: &str) {
        let mut message = vec![0x08];
        uvarint(&mut message, metric_type);
        for (tag, text) in [(0x12, family), (0x22, help), (0x2a, unit)] {
            field(&mut message, tag, text.as_bytes());
        }
        field(&mut self.bytes, 0x1a, &message);
    }

    /// The protobuf bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body to send.
    pub fn compress(&self) -> Vec<u8> {
        compress(&self.bytes)
    }
}

/// Snappy, block format.
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).expect("a test's request fits snappy's limit of 4 GiB")
}

/// The headers of a remote-write 1.0 request.
pub const HEADERS: [(&str, &str); 3] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf"),
    ("X-Prometheus-Remote-Write-Version", "0.1.0"),
];

/// Sends a compressed body to `/api/v1/write`.
///
/// # Errors
/// The connection failed: whether the samples were stored is then unknown.
pub fn send(client: &mut Client, compressed: &[u8]) -> io::Result<Response> {
    client.request("POST", "/api/v1/write", &HEADERS, compressed)
}

/// Sends one without waiting for the answer, which [`Client::finish`] reads.
///
/// # Errors
/// The connection failed.
pub fn begin(client: &mut Client, compressed: &[u8]) -> io::Result<()> {
    client.begin("POST", "/api/v1/write", &HEADERS, compressed)
}

/// The protobuf of `repeated Label labels = 1`.
pub fn label_bytes<S: AsRef<str>>(labels: &[(S, S)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        field(&mut label, 0x0a, name.as_ref().as_bytes());
        field(&mut label, 0x12, value.as_ref().as_bytes());
        field(&mut out, 0x0a, &label);
    }
    out
}

/// The protobuf of `Histogram` with float counts, all fields written.
fn histogram_bytes(timestamp: i64, histogram: &FloatHistogram) -> Vec<u8> {
    let mut out = Vec::new();
    double(&mut out, 0x11, histogram.count);
    double(&mut out, 0x39, histogram.zero_count);
    for (spans_tag, counts_tag, buckets) in
        [(0x42, 0x52, &histogram.negative), (0x5a, 0x6a, &histogram.positive)]
    {
        spans(&mut out, spans_tag, buckets);
        doubles(&mut out, counts_tag, buckets.counts());
    }
    rest(&mut out, timestamp, histogram);
    out
}

/// The protobuf of `Histogram` with whole numbers, buckets as differences.
fn whole_histogram_bytes(timestamp: i64, histogram: &IntHistogram) -> Vec<u8> {
    let mut out = vec![0x08];
    uvarint(&mut out, histogram.count);
    out.push(0x30);
    uvarint(&mut out, histogram.zero_count);
    for (spans_tag, deltas_tag, buckets) in
        [(0x42, 0x4a, &histogram.negative), (0x5a, 0x62, &histogram.positive)]
    {
        spans(&mut out, spans_tag, buckets);
        let (mut deltas, mut before) = (Vec::new(), 0);
        for count in buckets.counts() {
            let count = count.cast_signed();
            uvarint(&mut deltas, zigzag(count - std::mem::replace(&mut before, count)));
        }
        if !deltas.is_empty() {
            field(&mut out, deltas_tag, &deltas);
        }
    }
    rest(&mut out, timestamp, histogram);
    out
}

fn double(out: &mut Vec<u8>, tag: u8, value: f64) {
    out.push(tag);
    out.extend_from_slice(&value.to_le_bytes());
}

fn spans<N: Copy>(out: &mut Vec<u8>, tag: u8, buckets: &Buckets<N>) {
    for span in buckets.spans() {
        let mut message = vec![0x08];
        uvarint(&mut message, zigzag(i64::from(span.offset)));
        message.push(0x10);
        uvarint(&mut message, u64::from(span.length));
        field(out, tag, &message);
    }
}

/// What does not depend on the kind of counts.
fn rest<N: Copy>(out: &mut Vec<u8>, timestamp: i64, histogram: &Histogram<N>) {
    double(out, 0x19, histogram.sum);
    out.push(0x20);
    uvarint(out, zigzag(i64::from(histogram.schema)));
    double(out, 0x29, histogram.zero_threshold);
    out.push(0x70);
    let hint: u64 = match histogram.hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NotReset => 2,
        ResetHint::Gauge => 3,
    };
    uvarint(out, hint);
    out.push(0x78);
    uvarint(out, timestamp as u64);
    if !histogram.custom_bounds.is_empty() {
        // Field 16 needs a tag of two bytes.
        out.push(0x82);
        doubles(out, 0x01, &histogram.custom_bounds);
    }
}

/// `repeated double`, packed.
fn doubles(out: &mut Vec<u8>, tag: u8, values: &[f64]) {
    if !values.is_empty() {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        field(out, tag, &bytes);
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn field(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn sample_len(timestamp: i64) -> usize {
    10 + (64 - (timestamp as u64 | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_as_the_protocol_has_them() {
        let series = TimeSeries::new("m", &[("a", "b")], vec![(1, 2.0), (-1, 0.5)]);
        let mut expected = vec![0x0a, 0x30];
        expected.extend_from_slice(b"\x0a\x0d\x0a\x08__name__\x12\x01m");
        expected.extend_from_slice(b"\x0a\x06\x0a\x01a\x12\x01b");
        expected.extend_from_slice(b"\x12\x0b\x09\0\0\0\0\0\0\0\x40\x10\x01");
        expected.extend_from_slice(
            b"\x12\x14\x09\0\0\0\0\0\0\xe0\x3f\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        );
        expected[1] = (expected.len() - 2) as u8;
        assert_eq!(Request::of(&[series]).as_bytes(), expected);
        let labels = label_bytes(&[("__name__", "m"), ("a", "b")]);
        assert_eq!(kymo_storage::model::Labels::from_wire(&labels).unwrap().as_bytes(), labels);
    }
}

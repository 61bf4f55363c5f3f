//! Remote write 2.0 as prost derives it: what tests send, and the oracle of the hand-written decoder.

use crate::http::{Client, Response};
use crate::remote_write::compress;
use prost::Message;
use std::io;

/// `io.prometheus.write.v2.Request`.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// Every text once; the first is empty.
    #[prost(string, repeated, tag = "4")]
    pub symbols: Vec<String>,
    /// The series.
    #[prost(message, repeated, tag = "5")]
    pub timeseries: Vec<TimeSeries>,
    /// A field no version has yet.
    #[prost(string, tag = "9")]
    pub from_the_future: String,
}

/// `io.prometheus.write.v2.TimeSeries`.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Name, value, name, value and so on, in symbols.
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// Floats.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    /// Native histograms.
    #[prost(message, repeated, tag = "3")]
    pub histograms: Vec<Histogram>,
    /// Exemplars.
    #[prost(message, repeated, tag = "4")]
    pub exemplars: Vec<Exemplar>,
    /// Type, help, unit.
    #[prost(message, optional, tag = "5")]
    pub metadata: Option<Metadata>,
    /// A field no version has yet.
    #[prost(fixed32, tag = "77")]
    pub from_the_future: u32,
}

/// `io.prometheus.write.v2.Sample`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// The value.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    /// Milliseconds; 0 is unset.
    #[prost(int64, tag = "3")]
    pub start_timestamp: i64,
}

/// `io.prometheus.write.v2.Exemplar`.
#[derive(Clone, PartialEq, Message)]
pub struct Exemplar {
    /// As [`TimeSeries::labels_refs`].
    #[prost(uint32, repeated, tag = "1")]
    pub labels_refs: Vec<u32>,
    /// The value.
    #[prost(double, tag = "2")]
    pub value: f64,
    /// Milliseconds.
    #[prost(int64, tag = "3")]
    pub timestamp: i64,
}

/// `io.prometheus.write.v2.Metadata`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Metadata {
    /// The protocol's number.
    #[prost(int32, tag = "1")]
    pub metric_type: i32,
    /// In symbols.
    #[prost(uint32, tag = "3")]
    pub help_ref: u32,
    /// In symbols.
    #[prost(uint32, tag = "4")]
    pub unit_ref: u32,
}

/// `io.prometheus.write.v2.Histogram`, of whole numbers and with positive buckets only or with custom bounds.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// Observations.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// Their sum.
    #[prost(double, tag = "3")]
    pub sum: f64,
    /// The schema.
    #[prost(sint32, tag = "4")]
    pub schema: i32,
    /// How far the bucket of zero reaches.
    #[prost(double, tag = "5")]
    pub zero_threshold: f64,
    /// Observations in it.
    #[prost(uint64, tag = "6")]
    pub zero_count: u64,
    /// Where the buckets lie.
    #[prost(message, repeated, tag = "11")]
    pub positive_spans: Vec<Span>,
    /// Differences of counts.
    #[prost(sint64, repeated, tag = "12")]
    pub positive_deltas: Vec<i64>,
    /// Milliseconds.
    #[prost(int64, tag = "15")]
    pub timestamp: i64,
    /// Upper bounds of custom buckets.
    #[prost(double, repeated, tag = "16")]
    pub custom_values: Vec<f64>,
    /// Milliseconds; 0 is unset.
    #[prost(int64, tag = "17")]
    pub start_timestamp: i64,
}

/// `io.prometheus.write.v2.BucketSpan`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Span {
    /// Buckets left out before.
    #[prost(sint32, tag = "1")]
    pub offset: i32,
    /// Buckets.
    #[prost(uint32, tag = "2")]
    pub length: u32,
}

/// The headers of a remote-write 2.0 request.
pub const HEADERS: [(&str, &str); 3] = [
    ("Content-Encoding", "snappy"),
    ("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
    ("X-Prometheus-Remote-Write-Version", "2.0.0"),
];

impl Request {
    /// A request without series.
    pub fn new() -> Self {
        Self { symbols: vec![String::new()], ..Self::default() }
    }

    /// The number of a text in the table, in which it is from now on.
    pub fn symbol(&mut self, text: &str) -> u32 {
        let at = self.symbols.iter().position(|s| s == text).unwrap_or_else(|| {
            self.symbols.push(text.to_owned());
            self.symbols.len() - 1
        });
        at as u32
    }

    /// The numbers of labels.
    pub fn labels(&mut self, labels: &[(&str, &str)]) -> Vec<u32> {
        labels.iter().flat_map(|(name, value)| [self.symbol(name), self.symbol(value)]).collect()
    }

    /// Adds a series; its labels stand in the order given.
    pub fn push(&mut self, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> &mut TimeSeries {
        let labels_refs = self.labels(labels);
        let sample = |&(timestamp, value): &(i64, f64)| Sample { value, timestamp, start_timestamp: 0 };
        let samples = samples.iter().map(sample).collect();
        self.timeseries.push(TimeSeries { labels_refs, samples, ..TimeSeries::default() });
        self.timeseries.last_mut().expect("just pushed")
    }

    /// The body to send.
    pub fn compress(&self) -> Vec<u8> {
        compress(&self.encode_to_vec())
    }
}

/// Sends a compressed body to `/api/v1/write`.
///
/// # Errors
/// The connection failed: whether the samples were stored is then unknown.
pub fn send(client: &mut Client, compressed: &[u8]) -> io::Result<Response> {
    client.request("POST", "/api/v1/write", &HEADERS, compressed)
}

/// What the response says was written: samples, histograms, exemplars.
pub fn written(response: &Response) -> Option<[u64; 3]> {
    let count = |name| response.header(name)?.parse().ok();
    Some([
        count("x-prometheus-remote-write-samples-written")?,
        count("x-prometheus-remote-write-histograms-written")?,
        count("x-prometheus-remote-write-exemplars-written")?,
    ])
}

//! The fleet as remote-write 1.0 requests, native histograms among them.

use crate::fleet::{FleetSeries, LENGTH_MS, Point, START_MS};
use kymo_storage::model::{AnyHistogram, Buckets, Span};
use kymo_tests::http::Client;
use kymo_tests::remote_write::{HEADERS, compress, label_bytes};

/// So much time goes into one request.
const SLICE_MS: i64 = 5 * 60_000;

/// Sends all samples, a slice of time after another, the first sample of each series before everything else.
///
/// # Panics
/// The server refuses one.
pub(crate) fn send_all(client: &mut Client, fleet: &[FleetSeries]) {
    let all = |series: &FleetSeries| series.points.len();
    let mut sent: Vec<usize> = fleet.iter().map(|s| all(s).min(1)).collect();
    send(client, fleet, &vec![0; fleet.len()], &sent);
    let mut end = START_MS + SLICE_MS;
    while end < START_MS + LENGTH_MS + SLICE_MS {
        let until: Vec<usize> = fleet
            .iter()
            .zip(&sent)
            .map(|(s, sent)| s.points.partition_point(|p| p.0 < end).max(*sent))
            .collect();
        send(client, fleet, &sent, &until);
        sent = until;
        end += SLICE_MS;
    }
    assert!(sent.iter().zip(fleet).all(|(sent, series)| *sent == all(series)));
}

fn send(client: &mut Client, fleet: &[FleetSeries], from: &[usize], until: &[usize]) {
    let mut body = Vec::new();
    for (index, series) in fleet.iter().enumerate() {
        let points = &series.points[from[index]..until[index]];
        let pairs: Vec<(&str, &str)> = series.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        // A message has all its floats before all its histograms: a series that changes needs several.
        for run in points.chunk_by(|a, b| is_float(&a.1) == is_float(&b.1)) {
            let mut message = label_bytes(&pairs);
            for (time, point) in run {
                match point {
                    Point::Float(value) => field(&mut message, 2, &sample(*time, *value)),
                    Point::Histogram(value) => field(&mut message, 4, &histogram(*time, value)),
                }
            }
            field(&mut body, 1, &message);
        }
    }
    let answer = client.request("POST", "/api/v1/write", &HEADERS, &compress(&body)).unwrap();
    assert!(answer.status / 100 == 2, "HTTP {}: {}", answer.status, answer.text());
}

fn is_float(point: &Point) -> bool {
    matches!(point, Point::Float(_))
}

fn sample(time: i64, value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    double(&mut out, 1, value);
    key(&mut out, 2, 0);
    varint(&mut out, time as u64);
    out
}

fn histogram(time: i64, histogram: &AnyHistogram) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = histogram.to_float();
    match histogram {
        AnyHistogram::Int(h) => {
            for (number, value) in [(1, h.count), (6, h.zero_count)] {
                key(&mut out, number, 0);
                varint(&mut out, value);
            }
            deltas(&mut out, 9, &h.negative);
            deltas(&mut out, 12, &h.positive);
        }
        AnyHistogram::Float(h) => {
            double(&mut out, 2, h.count);
            double(&mut out, 7, h.zero_count);
            for (number, buckets) in [(10, &h.negative), (13, &h.positive)] {
                doubles(&mut out, number, buckets.counts());
            }
        }
    }
    double(&mut out, 3, frame.sum);
    key(&mut out, 4, 0);
    varint(&mut out, zigzag(i64::from(frame.schema)));
    double(&mut out, 5, frame.zero_threshold);
    spans(&mut out, 8, frame.negative.spans());
    spans(&mut out, 11, frame.positive.spans());
    key(&mut out, 14, 0);
    varint(&mut out, u64::from(frame.hint.number()));
    key(&mut out, 15, 0);
    varint(&mut out, time as u64);
    doubles(&mut out, 16, &frame.custom_bounds);
    out
}

fn deltas(out: &mut Vec<u8>, number: u64, buckets: &Buckets<u64>) {
    let (mut packed, mut before) = (Vec::new(), 0);
    for count in buckets.counts() {
        varint(&mut packed, zigzag(*count as i64 - before));
        before = *count as i64;
    }
    field(out, number, &packed);
}

fn doubles(out: &mut Vec<u8>, number: u64, values: &[f64]) {
    let packed: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    field(out, number, &packed);
}

fn spans(out: &mut Vec<u8>, number: u64, spans: &[Span]) {
    for span in spans {
        let mut message = Vec::new();
        key(&mut message, 1, 0);
        varint(&mut message, zigzag(i64::from(span.offset)));
        key(&mut message, 2, 0);
        varint(&mut message, u64::from(span.length));
        field(out, number, &message);
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn key(out: &mut Vec<u8>, number: u64, wire: u64) {
    varint(out, number << 3 | wire);
}

fn double(out: &mut Vec<u8>, number: u64, value: f64) {
    key(out, number, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    key(out, number, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

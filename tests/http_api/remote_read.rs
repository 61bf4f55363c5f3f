//! Remote read: both kinds of answers, external labels, limits and refusals.

#![allow(clippy::disallowed_methods, reason = "tests read answers and write configurations as they are")]

use crate::{Fresh, now_ms, store};
use kymo_storage::prometheus::{FloatChunkReader, crc32c};
use kymo_tests::http::{Client, Response};
use kymo_tests::prometheus_messages::{
    ChunkedReadResponse, Label, LabelMatcher, Query, ReadRequest, ReadResponse,
};
use kymo_tests::remote_write::{TimeSeries, compress};
use prost::Message;

const SAMPLES: i32 = 0;
const STREAMED: i32 = 1;

fn query(start: i64, end: i64, matchers: &[(i32, &str, &str)]) -> Query {
    let matcher = |&(kind, name, value): &(i32, &str, &str)| LabelMatcher {
        kind,
        name: name.to_owned(),
        value: value.to_owned(),
    };
    Query { start, end, matchers: matchers.iter().map(matcher).collect(), hints: Vec::new() }
}

fn send(client: &mut Client, body: &[u8]) -> Response {
    client.request("POST", "/api/v1/read", &[("Content-Encoding", "snappy")], body).unwrap()
}

fn ask(client: &mut Client, accepted: &[i32], queries: Vec<Query>) -> Response {
    let request = ReadRequest { queries, accepted: accepted.to_vec() };
    send(client, &compress(&request.encode_to_vec()))
}

/// A request for streamed chunks of all metrics that match a regular expression.
pub(crate) fn stream_request(start: i64, end: i64, names: &str) -> Vec<u8> {
    request_of(STREAMED, start, end, names)
}

/// The same for all samples at once.
pub(crate) fn samples_request(start: i64, end: i64, names: &str) -> Vec<u8> {
    request_of(SAMPLES, start, end, names)
}

fn request_of(accepted: i32, start: i64, end: i64, names: &str) -> Vec<u8> {
    let queries = vec![query(start, end, &[(2, "__name__", names)])];
    compress(&ReadRequest { queries, accepted: vec![accepted] }.encode_to_vec())
}

/// Query, labels, and their samples; in the order of the answer.
type Found = Vec<(i64, String, Vec<(i64, f64)>)>;

fn text(labels: &[Label]) -> String {
    labels.iter().map(|l| format!("{}={};", l.name, l.value)).collect()
}

fn of_samples(response: &Response) -> Found {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(response.header("content-encoding"), Some("snappy"));
    let bytes = snap::raw::Decoder::new().decompress_vec(&response.body).unwrap();
    let results = ReadResponse::decode(bytes.as_slice()).unwrap().results;
    let series =
        results.into_iter().enumerate().flat_map(|(i, r)| r.timeseries.into_iter().map(move |s| (i, s)));
    series
        .map(|(i, s)| {
            let samples = s.samples.iter().map(|s| (s.timestamp, s.value)).collect();
            (i as i64, text(&s.labels), samples)
        })
        .collect()
}

fn of_stream(response: &Response) -> Found {
    assert_eq!(response.status, 200, "{}", response.text());
    let content_type = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
    assert_eq!(response.header("content-type"), Some(content_type));
    let mut found: Found = Vec::new();
    let mut rest = response.body.as_slice();
    while !rest.is_empty() {
        let len = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
        assert!(len < (1 << 20) + 4_096, "a frame of {len} bytes");
        let (sum, data) = rest.split_first_chunk::<4>().unwrap();
        let (data, after) = data.split_at(len);
        assert_eq!(u32::from_be_bytes(*sum), crc32c(data));
        rest = after;
        let frame = ChunkedReadResponse::decode(data).unwrap();
        assert_eq!(frame.chunked_series.len(), 1);
        let labels = text(&frame.chunked_series[0].labels);
        let mut samples = Vec::new();
        for chunk in &frame.chunked_series[0].chunks {
            assert_eq!(chunk.kind, 1);
            let own: Vec<(i64, f64)> =
                FloatChunkReader::new(&chunk.data).unwrap().map(Result::unwrap).collect();
            assert_eq!((chunk.min_time_ms, chunk.max_time_ms), (own[0].0, own[own.len() - 1].0));
            samples.extend(own);
        }
        match found.last_mut().filter(|last| (last.0, &last.1) == (frame.query_index, &labels)) {
            Some(last) => last.2.extend(samples),
            None => found.push((frame.query_index, labels, samples)),
        }
    }
    found
}

#[test]
fn both_kinds_of_answers_hold_the_same() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms() - 1_000_000;
    let long: Vec<(i64, f64)> = (0..700).map(|i| (t + i * 1_000, (i * i) as f64 / 7.0)).collect();
    let series = [
        TimeSeries::new("m", &[("x", "b")], long.clone()),
        TimeSeries::new("m", &[("x", "a"), ("y", "1")], vec![(t, 1.0), (t + 5_000, f64::INFINITY)]),
        TimeSeries::new("n", &[], vec![(t + 3_000, 3.0)]),
    ];
    store(&mut client, &series);
    let queries = || {
        vec![
            query(t, t + 5_000, &[(0, "__name__", "m")]),
            query(t - 10, t - 1, &[(0, "__name__", "m")]),
            query(t, t - 1, &[(0, "__name__", "m")]),
            query(i64::MIN, i64::MAX, &[(2, "__name__", "m|n"), (1, "x", "a")]),
            query(t, t + 5_000, &[(3, "x", ".+"), (2, "__name__", ".+")]),
        ]
    };
    let first: Vec<(i64, f64)> = long[..6].to_vec();
    let expected: Found = vec![
        (0, "__name__=m;x=a;y=1;".into(), vec![(t, 1.0), (t + 5_000, f64::INFINITY)]),
        (0, "__name__=m;x=b;".into(), first),
        (3, "__name__=m;x=b;".into(), long),
        (3, "__name__=n;".into(), vec![(t + 3_000, 3.0)]),
        (4, "__name__=n;".into(), vec![(t + 3_000, 3.0)]),
    ];
    let own = |found: Found| -> Found { found.into_iter().filter(|f| !f.1.contains("kymo")).collect() };
    assert_eq!(own(of_samples(&ask(&mut client, &[SAMPLES], queries()))), expected);
    assert_eq!(own(of_samples(&ask(&mut client, &[], queries()))), expected);
    assert_eq!(own(of_stream(&ask(&mut client, &[STREAMED], queries()))), expected);
    assert_eq!(own(of_stream(&ask(&mut client, &[7, STREAMED, SAMPLES], queries()))), expected);
    assert_eq!(of_stream(&ask(&mut client, &[STREAMED], vec![])), []);
}

#[test]
fn a_long_series_comes_in_several_frames() {
    let fresh = Fresh::start(&["--self-monitor=false"]);
    let mut client = fresh.client();
    let t = now_ms() - 40_000_000;
    // Values that do not compress.
    let value = |i: i64| f64::from_bits((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 2);
    let samples: Vec<(i64, f64)> = (0..200_000).map(|i| (t + i * 200 + i % 7, value(i))).collect();
    for part in samples.chunks(50_000) {
        store(&mut client, &[TimeSeries::new("m", &[], part.to_vec())]);
    }
    let all = query(i64::MIN, i64::MAX, &[(0, "__name__", "m")]);
    let response = ask(&mut client, &[STREAMED], vec![all]);
    assert!(response.body.len() > 1_200_000, "{}", response.body.len());
    let found = of_stream(&response);
    assert_eq!(found.len(), 1);
    assert!(found[0].2 == samples);
}

#[test]
fn external_labels_are_matched_and_added() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kymo.yml");
    std::fs::write(&file, "external_labels: {region: eu, zz: last}\n").unwrap();
    let config = format!("--config={}", file.display());
    let fresh = Fresh::start(&[&config, "--self-monitor=false"]);
    let mut client = fresh.client();
    let t = now_ms();
    let series = [
        TimeSeries::new("m", &[("a", "1")], vec![(t, 1.0)]),
        TimeSeries::new("m", &[("a", "1"), ("zy", "2")], vec![(t, 2.0)]),
        TimeSeries::new("m", &[("region", "own")], vec![(t, 3.0)]),
    ];
    store(&mut client, &series);
    let both = ["__name__=m;a=1;region=eu;zy=2;zz=last;", "__name__=m;a=1;region=eu;zz=last;"];
    let cases: [(&str, &str, &[&str]); 3] = [
        ("asked by an external label", "eu", &both),
        ("asked by a label of its own", "own", &["__name__=m;region=own;zz=last;"]),
        ("asked by another region", "us", &[]),
    ];
    for (what, region, expected) in cases {
        let matchers = [(0, "__name__", "m"), (0, "region", region)];
        for accepted in [SAMPLES, STREAMED] {
            let response = ask(&mut client, &[accepted], vec![query(t, t, &matchers)]);
            let found = if accepted == SAMPLES { of_samples(&response) } else { of_stream(&response) };
            let labels: Vec<&str> = found.iter().map(|f| f.1.as_str()).collect();
            assert_eq!(labels, expected, "{what}");
        }
    }
}

#[test]
fn refusals() {
    let fresh = Fresh::start(&["--query-max-samples=10"]);
    let mut client = fresh.client();
    let t = now_ms();
    store(&mut client, &[TimeSeries::new("m", &[], (0..11).map(|i| (t - i, 1.0)).collect())]);
    let request = |accepted: &[i32], matchers: &[(i32, &str, &str)]| {
        let queries = vec![query(t - 100, t, matchers)];
        compress(&ReadRequest { queries, accepted: accepted.to_vec() }.encode_to_vec())
    };
    let good = request(&[], &[(0, "__name__", "m")]);
    let patterns: Vec<String> = (0..1_000).map(|i| format!("[a-c].{{0,{}}}x", 100 + i % 300)).collect();
    let patterns: Vec<(i32, &str, &str)> = patterns.iter().map(|p| (2, "a", p.as_str())).collect();
    let mut half = good.clone();
    half.truncate(good.len() / 2);
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("empty", vec![], "corrupt input"),
        ("not snappy", b"hello".to_vec(), "corrupt input"),
        ("half", half, "corrupt input"),
        ("not the message", compress(b"\x0a\xff"), "malformed protobuf"),
        ("a wrong regular expression", request(&[], &[(2, "a", "(")]), "matcher of label \"a\""),
        ("many expressions", request(&[], &patterns), "bytes compiled, more than the 4194304 allowed"),
        ("an unknown matcher", request(&[], &[(9, "a", "b")]), "matcher type 9 is unknown"),
        ("no known kind of answer", request(&[5], &[]), "does not support any of the requested"),
        ("too many samples", good, "exceeded sample limit (10)"),
    ];
    for (what, body, says) in cases {
        let response = send(&mut client, &body);
        assert_eq!(response.status, 400, "{what}: {}", response.text());
        assert!(response.text().contains(says), "{what}: {}", response.text());
    }
    let huge = compress(&vec![0; 2 << 20]);
    assert_eq!(send(&mut client, &huge).status, 400);
    assert_eq!(client.get("/api/v1/read").unwrap().status, 405);
    // A stream has no limit of samples: it is never in memory as a whole.
    let streamed = send(&mut client, &request(&[STREAMED], &[(0, "__name__", "m")]));
    assert_eq!(of_stream(&streamed)[0].2.len(), 11);
}

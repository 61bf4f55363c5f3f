//! OTLP: both formats, every kind of point, deltas, partial success, refusals.

#![allow(clippy::disallowed_methods, reason = "tests write configurations as they are")]

use crate::{Fresh, ask, count, now_ms};
use flate2::Compression;
use flate2::write::GzEncoder;
use kymo_tests::http::{Client, Response};
use serde_json::{Value, json};
use std::io::Write;

const PATH: &str = "/api/v1/otlp/v1/metrics";

fn send(client: &mut Client, body: &Value) -> Response {
    client
        .request("POST", PATH, &[("Content-Type", "application/json")], body.to_string().as_bytes())
        .unwrap()
}

fn nanos(ms: i64) -> String {
    format!("{ms}000000")
}

/// A request of one resource with metrics.
fn request(metrics: &Value) -> Value {
    let attribute = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    json!({"resourceMetrics": [{
        "resource": {"attributes": [
            attribute("service.name", "api"), attribute("service.instance.id", "i1"), attribute("host.name", "h"),
        ]},
        "scopeMetrics": [{"scope": {"name": "lib"}, "metrics": metrics}],
    }]})
}

/// The value of the only series a query finds.
fn value(client: &mut Client, query: &str, time: i64) -> String {
    let result = ask(client, query, time);
    assert_eq!(result.as_array().unwrap().len(), 1, "{query}: {result}");
    result[0]["value"][1].as_str().unwrap().to_owned()
}

#[test]
fn points_of_every_kind() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms() - 60_000;
    let (time, start) = (nanos(t), nanos(t - 30_000));
    let attributes = json!([{"key": "http.method", "value": {"stringValue": "GET"}}]);
    let metrics = json!([
        {"name": "my.req.duration", "unit": "s", "description": "Spent.", "sum": {
            "aggregationTemporality": 2, "isMonotonic": true,
            "dataPoints": [{"attributes": attributes, "timeUnixNano": time, "startTimeUnixNano": start, "asInt": "7",
                "exemplars": [{"timeUnixNano": time, "asDouble": 0.5, "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}]}]}},
        {"name": "g", "unit": "1", "gauge": {"dataPoints": [{"timeUnixNano": time, "asDouble": 0.25}]}},
        {"name": "gone", "gauge": {"dataPoints": [{"timeUnixNano": time, "flags": 1}]}},
        {"name": "h", "histogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": time, "count": "6", "sum": 4.5, "bucketCounts": ["1", "2", "3"], "explicitBounds": [0.1, 1]}]}},
        {"name": "e", "exponentialHistogram": {"aggregationTemporality": 2, "dataPoints": [
            {"timeUnixNano": time, "count": "6", "sum": 9, "scale": 9, "zeroCount": "1",
             "positive": {"offset": -1, "bucketCounts": ["1", "2", "2"]}}]}},
        {"name": "s", "summary": {"dataPoints": [
            {"timeUnixNano": time, "count": "3", "sum": 6, "quantileValues": [{"quantile": 0.5, "value": 2}]}]}},
    ]);
    let response = send(&mut client, &request(&metrics));
    assert_eq!((response.status, response.text().as_str()), (200, "{}"));
    let cases = [
        (r#"my_req_duration_seconds_total{job="api",instance="i1",http_method="GET"}"#, "7"),
        ("g_ratio", "0.25"),
        (r#"h_bucket{le="0.1"}"#, "1"),
        (r#"h_bucket{le="1"}"#, "3"),
        (r#"h_bucket{le="+Inf"}"#, "6"),
        ("h_sum", "4.5"),
        ("h_count", "6"),
        ("histogram_count(e)", "6"),
        ("histogram_sum(e)", "9"),
        (r#"s{quantile="0.5"}"#, "2"),
        ("s_sum", "6"),
        ("s_count", "3"),
        (r#"target_info{job="api",instance="i1",host_name="h"}"#, "1"),
    ];
    for (query, expected) in cases {
        assert_eq!(value(&mut client, query, t), expected, "{query}");
    }
    assert_eq!(count(&mut client, "gone", t), 0, "a staleness marker");
    // Scale 9 becomes schema 8: positions 0, 1, 2 become 0, 1, 1.
    let buckets = ask(&mut client, "e", t)[0]["histogram"][1]["buckets"].as_array().unwrap().len();
    assert_eq!(buckets, 3);
    let metadata =
        client.get("/api/v1/metadata?metric=my_req_duration_seconds_total").unwrap().json().unwrap();
    let expected = json!([{"type": "counter", "help": "Spent.", "unit": "seconds"}]);
    assert_eq!(metadata["data"]["my_req_duration_seconds_total"], expected);
}

#[test]
fn deltas_add_up() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms() - 60_000;
    let delta = |i: i64| {
        let (time, start) = (nanos(t + i * 1_000), nanos(t + (i - 1) * 1_000));
        request(&json!([
            {"name": "c", "sum": {"aggregationTemporality": 1, "isMonotonic": true,
                "dataPoints": [{"timeUnixNano": time, "startTimeUnixNano": start, "asInt": 2}]}},
            {"name": "h", "histogram": {"aggregationTemporality": 1, "dataPoints": [
                {"timeUnixNano": time, "startTimeUnixNano": start, "count": 3, "sum": 1.5, "bucketCounts": [1, 2], "explicitBounds": [1]}]}},
            {"name": "e", "exponentialHistogram": {"aggregationTemporality": 1, "dataPoints": [
                {"timeUnixNano": time, "startTimeUnixNano": start, "count": 2, "sum": 1, "scale": 0,
                 "positive": {"offset": i, "bucketCounts": [2]}}]}},
        ]))
    };
    for i in 0..3 {
        let response = send(&mut client, &delta(i));
        assert_eq!((response.status, response.text().as_str()), (200, "{}"), "{i}");
    }
    let now = t + 2_000;
    let expected = [
        ("c_total", "6"),
        ("h_count", "9"),
        ("h_bucket{le=\"1\"}", "3"),
        ("h_sum", "4.5"),
        ("histogram_count(e)", "6"),
    ];
    for (query, expected) in expected {
        assert_eq!(value(&mut client, query, now), expected, "{query}");
    }
    // The same again counts nothing twice.
    let response = send(&mut client, &delta(2));
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.text().contains("not newer"), "{}", response.text());
    assert_eq!(value(&mut client, "c_total", now), "6");
}

#[test]
fn what_is_rejected_is_said_in_the_format_of_the_request() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let time = nanos(now_ms());
    let good = json!({"name": "good", "gauge": {"dataPoints": [{"timeUnixNano": time, "asInt": 1}]}});
    let point = |kind: &str, temporality: i32, mut point: Value| {
        point["timeUnixNano"] = json!(time);
        json!({"name": "bad", kind: {"aggregationTemporality": temporality, "dataPoints": [point]}})
    };
    let cases = [
        (point("sum", 0, json!({"asInt": 1})), "aggregation temporality 0 is neither"),
        (
            point("histogram", 2, json!({"bucketCounts": [1], "explicitBounds": [1, 2]})),
            "2 bounds and 1 bucket counts",
        ),
        (point("exponentialHistogram", 2, json!({"scale": -5})), "scale must be -4 or more"),
        (
            point(
                "exponentialHistogram",
                2,
                json!({"count": 1, "positive": {"offset": 1, "bucketCounts": [5]}}),
            ),
            "its buckets hold 5",
        ),
    ];
    for (bad, says) in cases {
        let response = send(&mut client, &request(&json!([good, bad])));
        assert_eq!(response.status, 200, "{}", response.text());
        let partial = &response.json().unwrap()["partialSuccess"];
        assert_eq!(partial["rejectedDataPoints"], "1", "{partial}");
        assert!(partial["errorMessage"].as_str().unwrap().contains(says), "{partial}");
    }
    let future = nanos(now_ms() + 3_600_000);
    let late = json!([{"name": "late", "gauge": {"dataPoints": [{"timeUnixNano": future, "asInt": 1}]}}]);
    let response = send(&mut client, &request(&late));
    assert_eq!(response.status, 400);
    let status = response.json().unwrap();
    assert_eq!(status["code"], 3);
    assert!(status["message"].as_str().unwrap().contains("too far in the future"), "{status}");
}

#[test]
fn encodings_and_refusals() {
    let fresh = Fresh::start(&["--ingest-max-decoded-bytes=100000"]);
    let mut client = fresh.client();
    let gzip = |bytes: &[u8]| {
        let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    let body = request(
        &json!([{"name": "z", "gauge": {"dataPoints": [{"timeUnixNano": nanos(now_ms()), "asInt": 1}]}}]),
    );
    let body = body.to_string().into_bytes();
    let (json, protobuf) = ("application/json", "application/x-protobuf");
    let cases: [(&str, &str, Vec<u8>, u16, &str); 9] = [
        (json, "gzip", gzip(&body), 200, "{}"),
        ("application/json; charset=utf-8", "", body.clone(), 200, "{}"),
        (protobuf, "", vec![], 200, ""),
        (
            "text/plain",
            "",
            body.clone(),
            400,
            "unsupported content type: text/plain, supported: [application/json, application/x-protobuf]",
        ),
        (json, "br", body.clone(), 400, "unsupported compression: br"),
        (json, "", b"{".to_vec(), 400, "malformed JSON"),
        (protobuf, "", b"\x0a\xff".to_vec(), 400, "malformed protobuf"),
        (json, "gzip", body, 400, "corrupt"),
        (json, "gzip", gzip(&vec![b' '; 2_000_000]), 400, "over the limit of 100000 bytes"),
    ];
    for (content_type, encoding, body, status, says) in cases {
        let headers = [("Content-Type", content_type), ("Content-Encoding", encoding)];
        let response = client.request("POST", PATH, &headers, &body).unwrap();
        assert_eq!(response.status, status, "{content_type} {encoding}: {}", response.text());
        assert!(response.text().contains(says), "{content_type} {encoding}: {}", response.text());
        if status == 200 || content_type != "text/plain" {
            assert_eq!(response.header("content-type"), content_type.split(';').next(), "{content_type}");
        }
    }
    assert_eq!(count(&mut client, "z", now_ms()), 1);
    assert_eq!(client.get(PATH).unwrap().status, 405);
}

#[test]
fn names_follow_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kymo.yml");
    let text = "otlp:\n  translation_strategy: NoTranslation\n  promote_resource_attributes: [host.name]\n  \
                promote_scope_metadata: true\n  convert_histograms_to_nhcb: true\n";
    std::fs::write(&file, text).unwrap();
    let fresh = Fresh::start(&[&format!("--config={}", file.display())]);
    let mut client = fresh.client();
    let t = now_ms();
    let metrics = json!([{"name": "h.x", "unit": "s", "histogram": {"aggregationTemporality": 2, "dataPoints": [
        {"timeUnixNano": nanos(t), "count": 3, "sum": 4.5, "bucketCounts": [1, 2], "explicitBounds": [0.5]}]}}]);
    assert_eq!(send(&mut client, &request(&metrics)).text(), "{}");
    let query = r#"histogram_count({"h.x", "host.name"="h", "otel_scope_name"="lib"})"#;
    assert_eq!(value(&mut client, query, t), "3");
}

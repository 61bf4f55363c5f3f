//! Labels nobody should send, by every door for samples: refused by name, with what came beside them stored; and bodies of millions
//! of tiny parts, which may not become more memory than they are worth.

use crate::{Fresh, ask, now_ms};
use kymo_tests::http::{Client, Response};
use kymo_tests::remote_write::{self as v1, HEADERS, compress, label_bytes};
use kymo_tests::remote_write_v2 as v2;
use prost::Message;
use serde_json::json;

/// Names and values; `@@` stands for bytes that are no text.
type Labels = Vec<(String, String)>;

/// The bytes that `@@` stands for.
fn break_text(mut bytes: Vec<u8>) -> Vec<u8> {
    for i in 1..bytes.len() {
        if bytes[i - 1..=i] == *b"@@" {
            bytes[i - 1..=i].copy_from_slice(b"\xff\xfe");
        }
    }
    bytes
}

fn name_of(labels: &Labels) -> &str {
    labels.iter().find(|l| l.0 == "__name__").map_or("", |l| &l.1)
}

fn others(labels: &Labels) -> impl Iterator<Item = &(String, String)> {
    labels.iter().filter(|l| l.0 != "__name__")
}

fn by_version_1(client: &mut Client, series: &[Labels], t: i64) -> Response {
    let mut request = v1::Request::new();
    series.iter().for_each(|labels| request.push(&label_bytes(labels), &[(t, 1.0)]));
    v1::send(client, &compress(&break_text(request.as_bytes().to_vec()))).unwrap()
}

fn by_version_2(client: &mut Client, series: &[Labels], t: i64) -> Response {
    let mut request = v2::Request::new();
    for labels in series {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        request.push(&labels, &[(t, 1.0)]);
    }
    v2::send(client, &compress(&break_text(request.encode_to_vec()))).unwrap()
}

fn post(client: &mut Client, path: &str, media: &str, body: String) -> Response {
    client.request("POST", path, &[("Content-Type", media)], &break_text(body.into_bytes())).unwrap()
}

fn exposition(series: &[Labels], time: &str) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let line = |labels: &Labels| {
        let pairs = others(labels).map(|(n, v)| format!(",\"{}\"=\"{}\"", quoted(n), quoted(v)));
        format!("{{\"{}\"{}}} 1 {time}\n", quoted(name_of(labels)), pairs.collect::<String>())
    };
    series.iter().map(line).collect()
}

fn by_text(client: &mut Client, series: &[Labels], t: i64) -> Response {
    post(client, "/api/v1/import/prometheus", "text/plain", exposition(series, &t.to_string()))
}

fn by_open_metrics(client: &mut Client, series: &[Labels], t: i64) -> Response {
    let body = exposition(series, &format!("{}.{:03}", t / 1000, t % 1000)) + "# EOF\n";
    post(client, "/api/v1/import/prometheus", "application/openmetrics-text; version=1.0.0", body)
}

fn by_lines(client: &mut Client, series: &[Labels], t: i64) -> Response {
    let line = |labels: &Labels| {
        let pair = |(n, v): &(String, String)| format!("{}:{}", json!(n), json!(v));
        let pairs: Vec<String> = labels.iter().map(pair).collect();
        format!("{{\"metric\":{{{}}},\"values\":[1],\"timestamps\":[{t}]}}\n", pairs.join(","))
    };
    post(client, "/api/v1/import", "application/json", series.iter().map(line).collect())
}

fn by_influx(client: &mut Client, series: &[Labels], t: i64) -> Response {
    let escaped = |text: &str| text.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ");
    let line = |labels: &Labels| {
        let tags = others(labels).map(|(n, v)| format!(",{}={}", escaped(n), escaped(v)));
        format!("{}{} v=1 {t}\n", escaped(name_of(labels)), tags.collect::<String>())
    };
    post(client, "/write?precision=ms", "text/plain", series.iter().map(line).collect())
}

fn by_otlp(client: &mut Client, series: &[Labels], t: i64) -> Response {
    let metric = |labels: &Labels| {
        let attributes: Vec<_> =
            others(labels).map(|(n, v)| json!({"key": n, "value": {"stringValue": v}})).collect();
        let point = json!({"timeUnixNano": format!("{t}000000"), "asInt": 1, "attributes": attributes});
        json!({"name": name_of(labels), "gauge": {"dataPoints": [point]}})
    };
    let metrics: Vec<_> = series.iter().map(metric).collect();
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]});
    post(client, "/api/v1/otlp/v1/metrics", "application/json", body.to_string())
}

type Door = fn(&mut Client, &[Labels], i64) -> Response;
/// Their names, and whether a text that is no text makes the whole body no request.
const DOORS: [(&str, Door, bool); 7] = [
    ("1.0", by_version_1, false),
    ("2.0", by_version_2, false),
    ("text", by_text, false),
    ("OpenMetrics", by_open_metrics, false),
    ("JSON lines", by_lines, false),
    ("Influx", by_influx, false),
    ("OTLP", by_otlp, true),
];

/// What is wrong, and the labels.
fn abuses() -> Vec<(&'static str, Labels)> {
    let owned = |labels: &[(&str, &str)]| -> Labels {
        labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    };
    let long = "x".repeat(1 << 20);
    let many = (0..1_000).map(|i| (format!("l{i:04}"), "x".to_owned()));
    vec![
        ("a thousand labels", owned(&[("__name__", "bad")]).into_iter().chain(many).collect()),
        ("a value of 1 MiB", owned(&[("__name__", "bad"), ("a", &long)])),
        ("a label name of 1 MiB", owned(&[("__name__", "bad"), (&long, "a")])),
        ("a metric name of 1 MiB", owned(&[("__name__", &long)])),
        ("no metric name", owned(&[("a", "b")])),
        ("an empty label name", owned(&[("__name__", "bad"), ("", "b")])),
        ("a label twice", owned(&[("__name__", "bad"), ("a", "1"), ("a", "2")])),
        ("no text", owned(&[("__name__", "bad"), ("a", "@@")])),
    ]
}

#[test]
fn labels_are_judged_at_every_door() {
    for (door, send, is_whole) in DOORS {
        let fresh = Fresh::start(&[]);
        let mut client = fresh.client();
        let t = now_ms() - 1_000;
        let (mut stored, mut refused) = (0, 0);
        let before = fresh.server.usage().resident_bytes;
        for (i, (what, bad)) in abuses().into_iter().enumerate() {
            // OpenTelemetry joins attributes that become one label, as Prometheus does; so this is no abuse there.
            if door == "OTLP" && what == "a label twice" {
                continue;
            }
            let good = |which: &str| -> Labels {
                let labels = [("__name__", "good"), ("which", which), ("case", &*i.to_string())];
                labels.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec()
            };
            let response = send(&mut client, &[good("before"), bad, good("after")], t);
            let text = response.text();
            let is_said = match response.status {
                200 if door == "OTLP" => text.contains("\"rejectedDataPoints\":\"1\""),
                status => status == 400,
            };
            assert!(is_said && text.len() < 2_000, "{door}, {what}: {} {text}", response.status);
            refused += 1;
            let is_no_request = is_whole && what == "no text";
            stored += if is_no_request { 0 } else { 2 };
            let found = ask(&mut client, "count({__name__!=\"\"})", t);
            assert_eq!(found[0]["value"][1], stored.to_string(), "{door}, {what}: {text}");
        }
        let more = fresh.server.usage().peak_resident_bytes.saturating_sub(before) >> 20;
        println!("{door}: {refused} refused, {stored} beside them stored, {more} MiB more at the peak");
        assert!(more <= 64, "{door}: {more} MiB more at the peak");
        assert!(!fresh.server.output().contains("panicked"));
    }
}

#[test]
fn odd_values_are_kept_at_every_door() {
    for (door, send, _) in DOORS {
        let fresh = Fresh::start(&[]);
        let mut client = fresh.client();
        let t = now_ms() - 1_000;
        // Influx lines end with a line; so there is none within.
        let odd = if door == "Influx" {
            "a\tb \u{202e}é\u{1f980}"
        } else {
            "a\n\tb\\ \"\u{202e}é\u{1f980}\u{7f}"
        };
        let labels = [("__name__", "m"), ("odd", odd)].map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let response = send(&mut client, &[labels], t);
        assert!([200, 204].contains(&response.status), "{door}: {}", response.text());
        let found = ask(&mut client, "{odd!=\"\"}", t);
        assert_eq!(found[0]["metric"]["odd"], odd, "{door}");
    }
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    kymo_storage::codec::varint::put_uvarint(&mut out, bytes.len() as u64);
    out.extend_from_slice(bytes);
    out
}

/// Fields within fields, the innermost as often as fit into `size` bytes.
fn nested(path: &[u8], size: usize) -> Vec<u8> {
    let (last, outer) = path.split_last().unwrap();
    let inner = [last << 3 | 2, 0].repeat(size / 2);
    outer.iter().rev().fold(inner, |inner, number| field(*number, &inner))
}

#[test]
fn bodies_of_millions_of_tiny_parts() {
    const SIZE: usize = 31 << 20;
    // What a million parts may take while they are judged, of the body itself 32 MiB.
    const MORE_MIB_MAX: u64 = 256;
    let second = [HEADERS[0], v2::HEADERS[1]];
    let first = [HEADERS[0], HEADERS[1]];
    let plain = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf")];
    type Bomb = (&'static str, &'static str, [(&'static str, &'static str); 2], &'static [u8]);
    let cases: [Bomb; 18] = [
        ("/api/v1/write", "series of 1.0", first, &[1]),
        ("/api/v1/write", "labels", first, &[1, 1]),
        ("/api/v1/write", "samples", first, &[1, 2]),
        ("/api/v1/write", "exemplars", first, &[1, 3]),
        ("/api/v1/write", "histograms", first, &[1, 4]),
        ("/api/v1/write", "spans", first, &[1, 4, 11]),
        ("/api/v1/write", "metadata", first, &[3]),
        ("/api/v1/write", "symbols", second, &[4]),
        ("/api/v1/write", "series of 2.0", second, &[5]),
        ("/api/v1/write", "samples of 2.0", second, &[5, 2]),
        ("/api/v1/write", "exemplars of 2.0", second, &[5, 4]),
        ("/api/v1/otlp/v1/metrics", "resources", plain, &[1]),
        ("/api/v1/otlp/v1/metrics", "scopes", plain, &[1, 2]),
        ("/api/v1/otlp/v1/metrics", "metrics", plain, &[1, 2, 2]),
        ("/api/v1/otlp/v1/metrics", "attributes", plain, &[1, 1, 1]),
        ("/api/v1/otlp/v1/metrics", "points", plain, &[1, 2, 2, 5, 1]),
        ("/api/v1/read", "queries", plain, &[1]),
        ("/api/v1/read", "matchers", plain, &[1, 3]),
    ];
    for (path, what, headers, nesting) in cases {
        // A server of its own, so that the peak is of this body.
        let fresh = Fresh::start(&[]);
        let mut client = fresh.client();
        let body = compress(&nested(nesting, SIZE));
        let before = fresh.server.usage().resident_bytes;
        let response = client.request("POST", path, &headers, &body).unwrap();
        let more = fresh.server.usage().peak_resident_bytes.saturating_sub(before) >> 20;
        let text = response.text();
        println!("{path} {what}: {} with {more} MiB more: {}", response.status, &text[..text.len().min(100)]);
        assert!([400, 413].contains(&response.status), "{path} {what}: {} {text}", response.status);
        assert!(text.len() < 4_000, "{path} {what}: {} bytes of answer", text.len());
        assert!(more <= MORE_MIB_MAX, "{path} {what}: {more} MiB more");
        assert_eq!(client.get("/-/healthy").unwrap().status, 200, "{what}");
        assert!(!fresh.server.output().contains("panicked"), "{what}");
    }
}

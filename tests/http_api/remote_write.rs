//! What the receiver stores and what it refuses, case by case.

use crate::{Fresh, ask, count, now_ms, store};
use kymo_storage::codec::varint::put_uvarint;
use kymo_tests::remote_write::{HEADERS, Request, TimeSeries, label_bytes, send};

fn series(name: &str, samples: Vec<(i64, f64)>) -> TimeSeries {
    TimeSeries::new(name, &[("x", "1")], samples)
}

/// A request, the status and what the text must contain, and how many samples the metric has afterwards.
struct Case {
    what: &'static str,
    request: Vec<TimeSeries>,
    status: u16,
    says: &'static str,
    stored: &'static str,
}

#[test]
fn samples_in_every_order() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms() - 60_000;
    let far = now_ms() + 11 * 60_000;
    let one = |what, name: &str, samples, status, says, stored| Case {
        what,
        request: vec![series(name, samples)],
        status,
        says,
        stored,
    };
    let cases = [
        one("first", "a", vec![(t, 1.0)], 204, "", "1"),
        one("the same again", "a", vec![(t, 1.0)], 204, "", "1"),
        one("another value", "a", vec![(t, 2.0)], 400, "another value", "1"),
        one("late", "a", vec![(t - 30_000, 7.0)], 204, "", "2"),
        one("too far in the future", "b", vec![(far, 1.0)], 400, "too far in the future", "0"),
        one("older than the retention", "b", vec![(1_000, 1.0)], 400, "", "0"),
        one("out of order inside one request", "c", vec![(t, 1.0), (t - 1_000, 2.0)], 204, "", "2"),
        one(
            "two values inside one request",
            "d",
            vec![(t, 1.0), (t, 2.0)],
            400,
            "1 of 2 samples refused",
            "1",
        ),
        one("no samples", "e", vec![], 204, "", "0"),
    ];
    for case in cases {
        let response = send(&mut client, &Request::of(&case.request).compress()).unwrap();
        assert_eq!(response.status, case.status, "{}: {}", case.what, response.text());
        assert!(response.text().contains(case.says), "{}: {}", case.what, response.text());
        let name = &case.request[0].labels[0].1;
        let query = format!("sum(count_over_time({name}[1h])) or vector(0)");
        let result = ask(&mut client, &query, now_ms());
        assert_eq!(result[0]["value"][1], case.stored, "{}", case.what);
    }
}

#[test]
fn the_good_part_is_stored_and_the_rest_is_named() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let many: Vec<(String, String)> = std::iter::once(("__name__".to_owned(), "bad".to_owned()))
        .chain((0..20_000).map(|i| (format!("l{i:05}"), "x".to_owned())))
        .collect();
    let long = "x".repeat(8 << 20);
    let bad: [(&str, Vec<u8>, &str); 8] = [
        ("20,000 labels", label_bytes(&many), "20001 labels, the limit is 64"),
        ("a value of 8 MiB", label_bytes(&[("__name__", "bad"), ("v", long.as_str())]), "the limit is 4096"),
        ("no name", label_bytes(&[("a", "b")]), "\"__name__\" is missing"),
        ("no labels", Vec::new(), "\"__name__\" is missing"),
        ("an empty label name", label_bytes(&[("", "b"), ("__name__", "bad")]), "empty label name"),
        ("a label twice", label_bytes(&[("__name__", "bad"), ("a", "1"), ("a", "2")]), "duplicated label"),
        ("not UTF-8", b"\x0a\x0d\x0a\x08__name__\x12\x01\xff".to_vec(), "UTF-8"),
        ("malformed labels", b"\x0a\x03\x0a\x08_".to_vec(), "malformed"),
    ];
    for (i, (what, labels, says)) in bad.iter().enumerate() {
        let mut request = Request::new();
        let name = format!("good_{i}");
        request.push(&label_bytes(&[("__name__", name.as_str())]), &[(t, 1.0)]);
        request.push(labels, &[(t, 1.0)]);
        request.push(&label_bytes(&[("__name__", name.as_str()), ("after", "1")]), &[(t, 1.0)]);
        let response = send(&mut client, &request.compress()).unwrap();
        assert_eq!(response.status, 400, "{what}: {}", response.text());
        assert!(response.text().contains(says), "{what}: {}", response.text());
        assert!(response.text().len() < 2_000, "{what}: the text is short");
        assert_eq!(count(&mut client, &name, t), 2, "{what}");
    }
    assert_eq!(count(&mut client, "bad", t), 0);
}

#[test]
fn labels_as_senders_write_them() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let mut request = Request::new();
    let unsorted = [("x", "1"), ("__name__", "m"), ("empty", ""), ("a", "2")];
    request.push(&label_bytes(&unsorted), &[(t, 1.0)]);
    request.push(&label_bytes(&[("__name__", "höhe.über"), ("λ.x", "µ")]), &[(t, 2.0)]);
    assert_eq!(send(&mut client, &request.compress()).unwrap().status, 204);
    let expected = serde_json::json!({"__name__": "m", "a": "2", "x": "1"});
    assert_eq!(ask(&mut client, "m", t)[0]["metric"], expected);
    assert_eq!(count(&mut client, "{\"höhe.über\", \"λ.x\"=\"µ\"}", t), 1);
    // The same labels in order are the same series.
    store(&mut client, &[TimeSeries::new("m", &[("a", "2"), ("x", "1")], vec![(t + 1, 3.0)])]);
    assert_eq!(count(&mut client, "m", t + 1), 1);
}

/// A field of a protobuf message.
fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, payload.len() as u8][..], payload].concat()
}

/// `prometheus.Histogram` of whole numbers with schema 0 and buckets that begin at position 0.
fn histogram(timestamp: i64, count: u8, deltas: &[u8]) -> Vec<u8> {
    let mut out = vec![0x08, count, 0x19];
    out.extend_from_slice(&2.5_f64.to_le_bytes());
    out.extend_from_slice(&field(11, &[0x10, deltas.len() as u8]));
    out.extend_from_slice(&field(12, deltas));
    out.push(15 << 3);
    let mut rest = timestamp as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
    field(4, &out)
}

#[test]
fn histograms_are_stored_and_wrong_ones_named() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let labels = label_bytes(&[("__name__", "h")]);
    let series = |parts: &[&[u8]]| [&labels[..], &parts.concat()].concat();
    // Differences are zigzag: 4 is 2, 1 is -1.
    let (good, other) = (histogram(t, 3, &[4, 1]), histogram(t, 5, &[4, 2]));
    let cases: [(&str, Vec<u8>, u16, &str); 6] = [
        ("good", series(&[&good]), 204, ""),
        ("again", series(&[&good]), 204, ""),
        ("another at the same time", series(&[&other]), 400, "has another value"),
        (
            "too few observations",
            series(&[&histogram(t + 1, 2, &[4, 1]), &histogram(t + 2, 3, &[4, 1])]),
            400,
            "1 of 2 samples refused, the others are stored: histogram counts 2 observations, but its buckets hold 3",
        ),
        (
            "a negative bucket",
            series(&[&histogram(t + 3, 2, &[4, 5])]),
            400,
            "negative number of observations",
        ),
        ("cut short", series(&[&field(4, &[0x08])]), 400, "cut short"),
    ];
    for (what, series, status, says) in cases {
        let mut request = Request::new();
        request.push(&series, &[]);
        let response = send(&mut client, &request.compress()).unwrap();
        assert_eq!(response.status, status, "{what}: {}", response.text());
        assert!(response.text().contains(says), "{what}: {}", response.text());
    }
    assert_eq!(ask(&mut client, "histogram_count(h)", t + 2)[0]["value"][1], "3");
    assert_eq!(ask(&mut client, "count_over_time(h[1m])", t + 2)[0]["value"][1], "2");
    let mut float = Request::new();
    float.push(&labels, &[(t + 2, 1.0)]);
    let response = send(&mut client, &float.compress()).unwrap();
    assert_eq!(response.status, 400, "a float where a histogram is");
}

#[test]
fn exemplars_are_stored_or_named() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let with_exemplar = |timestamp: i64| {
        let mut exemplar = field(1, b"\x0a\x02id\x12\x01x");
        exemplar.extend_from_slice(b"\x11\0\0\0\0\0\0\xf0\x3f\x18");
        let mut rest = timestamp as u64;
        while rest >= 0x80 {
            exemplar.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        exemplar.push(rest as u8);
        let mut series = label_bytes(&[("__name__", "h")]);
        series.extend_from_slice(&field(3, &exemplar));
        let mut request = Request::new();
        request.push(&series, &[(t, 1.0)]);
        request.compress()
    };
    let good = send(&mut client, &with_exemplar(t)).unwrap();
    assert_eq!(good.status, 204, "{}", good.text());
    let old = send(&mut client, &with_exemplar(1)).unwrap();
    assert_eq!(old.status, 400, "{}", old.text());
    assert!(old.text().starts_with("1 of 2 samples refused"), "{}", old.text());
}

#[test]
fn exemplars_are_stored_and_queried() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let send_exemplar = |client: &mut _, name: &str, trace: &str, at: i64| {
        let mut exemplar = label_bytes(&[("trace_id", trace)]);
        exemplar.extend_from_slice(b"\x11\0\0\0\0\0\0\xf8\x3f\x18");
        put_uvarint(&mut exemplar, at as u64);
        let mut series = label_bytes(&[("__name__", name)]);
        series.push(0x1a);
        put_uvarint(&mut series, exemplar.len() as u64);
        series.extend_from_slice(&exemplar);
        let mut request = Request::new();
        request.push(&series, &[(t, 1.0)]);
        let response = send(client, &request.compress()).unwrap();
        (response.status, response.text())
    };
    let read = |client: &mut kymo_tests::http::Client, query: &str| {
        client.get(&format!("/api/v1/query_exemplars?{query}")).unwrap().text()
    };
    for (name, trace, at) in [("h", "a", t), ("h", "b", t + 1500), ("g", "c", t)] {
        assert_eq!(send_exemplar(&mut client, name, trace, at), (204, String::new()));
    }
    assert_eq!(send_exemplar(&mut client, "h", "b", t + 1500).0, 204, "again the same");
    let (status, text) = send_exemplar(&mut client, "h", "z", t + 7);
    assert!(status == 400 && text.contains("out of order exemplar"), "{text}");
    let (status, text) = send_exemplar(&mut client, "h", &"x".repeat(121), t + 9000);
    assert!(status == 400 && text.contains("129 characters, the limit is 128"), "{text}");

    let seconds = |ms: i64| {
        let (s, ms) = (ms / 1000, ms % 1000);
        if ms == 0 { s.to_string() } else { format!("{s}.{ms:03}") }
    };
    let exemplar = |trace: &str, at: i64| {
        format!(r#"{{"labels":{{"trace_id":"{trace}"}},"value":"1.5","timestamp":{}}}"#, seconds(at))
    };
    let of_series = |name: &str, exemplars: &[String]| {
        let exemplars = exemplars.join(",");
        format!(r#"{{"seriesLabels":{{"__name__":"{name}"}},"exemplars":[{exemplars}]}}"#)
    };
    let answer = |series: &[String]| format!(r#"{{"status":"success","data":[{}]}}"#, series.join(","));
    let g = of_series("g", &[exemplar("c", t)]);
    let h = of_series("h", &[exemplar("a", t), exemplar("b", t + 1500)]);
    assert_eq!(read(&mut client, "query=sum(rate(h[5m]))/g"), answer(&[g, h.clone()]));
    assert_eq!(read(&mut client, "query=h"), answer(&[h]));
    let range = format!("query=h&start={}&end={}", seconds(t + 1), seconds(t + 2000));
    assert_eq!(read(&mut client, &range), answer(&[of_series("h", &[exemplar("b", t + 1500)])]));
    assert_eq!(read(&mut client, "query=nothing"), answer(&[]));
    assert_eq!(read(&mut client, "query=1"), answer(&[]));
    assert!(read(&mut client, "query=h&start=5&end=4").contains("end timestamp must not be before start"));
    assert!(read(&mut client, "query=h{").contains("bad_data"));
}

#[test]
fn types_and_encodings_are_judged_in_order() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let good = Request::of(&[series("m", vec![(now_ms(), 1.0)])]).compress();
    type Headers = [(&'static str, &'static str); 2];
    let protobuf = "application/x-protobuf";
    let v3 = "application/x-protobuf;proto=io.prometheus.write.v3.Request";
    let cases: [(Headers, &[u8], u16, &str); 8] = [
        (
            [("Content-Encoding", "zstd"), ("Content-Type", protobuf)],
            &good,
            415,
            "zstd encoding (compression) is not accepted",
        ),
        ([("Content-Encoding", "gzip"), ("Content-Type", protobuf)], &good, 415, "only snappy is acceptable"),
        (
            [("Content-Encoding", "snappy"), ("Content-Type", "application/json")],
            &good,
            415,
            "expected application/x-protobuf as the first (media) part, got application/json content-type",
        ),
        (
            [("Content-Encoding", "snappy"), ("Content-Type", "application/json")],
            b"junk",
            400,
            "corrupt input",
        ),
        (
            [("Content-Encoding", "snappy"), ("Content-Type", v3)],
            &good,
            415,
            "io.prometheus.write.v2.Request",
        ),
        ([("X-None", ""), ("Content-Type", protobuf)], &good, 204, ""),
        ([("X-None", ""), ("Content-Type", "")], &good, 204, ""),
        (
            [
                ("Content-Encoding", "snappy"),
                ("Content-Type", "application/x-protobuf;proto=prometheus.WriteRequest"),
            ],
            &good,
            204,
            "",
        ),
    ];
    for (headers, body, status, says) in cases {
        let response = client.request("POST", "/api/v1/write", &headers, body).unwrap();
        assert_eq!(response.status, status, "{headers:?}: {}", response.text());
        assert!(response.text().contains(says), "{headers:?}: {}", response.text());
    }
}

#[test]
fn limits_have_names() {
    let fresh = Fresh::start(&[
        "--ingest-max-series=2",
        "--ingest-max-decoded-bytes=1000",
        "--ingest-max-body-bytes=900",
    ]);
    let mut client = fresh.client();
    let t = now_ms();
    store(&mut client, &[series("a", vec![(t, 1.0)]), series("b", vec![(t, 1.0)])]);
    let third = Request::of(&[series("c", vec![(t, 1.0)]), series("a", vec![(t + 1, 1.0)])]).compress();
    let response = send(&mut client, &third).unwrap();
    assert_eq!((response.status, response.text().contains("limit")), (429, true), "{}", response.text());
    assert_eq!(response.header("retry-after"), Some("5"));
    assert_eq!(
        ask(&mut client, "count_over_time(a[1m])", t + 1)[0]["value"][1],
        "2",
        "known series are taken"
    );

    let zeros = kymo_tests::remote_write::compress(&[0; 2_000]);
    let response = client.request("POST", "/api/v1/write", &HEADERS, &zeros).unwrap();
    assert_eq!(response.status, 400);
    assert!(response.text().contains("--ingest-max-decoded-bytes"), "{}", response.text());
    let response = fresh.client().request("POST", "/api/v1/write", &HEADERS, &[0; 901]).unwrap();
    assert_eq!(response.status, 413, "{}", response.text());
}

#[test]
fn metadata_is_kept() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let mut request = Request::new();
    request.push_metadata("m_seconds_total", 1, "How \"long\".", "seconds");
    request.push_metadata("other", 2, "", "");
    assert_eq!(send(&mut client, &request.compress()).unwrap().status, 204);
    let all = client.get("/api/v1/metadata").unwrap().text();
    let expected = r#"{"status":"success","data":{"m_seconds_total":[{"type":"counter","help":"How \"long\".","unit":"seconds"}],"other":[{"type":"gauge","help":"","unit":""}]}}"#;
    assert_eq!(all, expected);
    let one = client.get("/api/v1/metadata?metric=other").unwrap().text();
    assert_eq!(one, r#"{"status":"success","data":{"other":[{"type":"gauge","help":"","unit":""}]}}"#);
    assert_eq!(
        client.get("/api/v1/metadata?limit=1").unwrap().json().unwrap()["data"].as_object().unwrap().len(),
        1
    );
}

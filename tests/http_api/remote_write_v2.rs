//! Remote write 2.0, and the rules of both versions side by side, row by row.

use crate::{Fresh, ask, count, now_ms};
use kymo_storage::Storage;
use kymo_storage::api::{Queryable, Samples};
use kymo_storage::model::{Matcher, TimeRange};
use kymo_storage::options::Options;
use kymo_tests::http::Response;
use kymo_tests::remote_write::{self as v1, label_bytes};
use kymo_tests::remote_write_v2::{
    Exemplar, HEADERS, Histogram, Metadata, Request, Sample, Span, TimeSeries, send, written,
};
use prost::Message;

type Labels = Vec<(&'static str, &'static str)>;
/// Labels and samples of one series.
type Sent = (Labels, Vec<(i64, f64)>);
/// What is sent in `Content-Encoding` and `Content-Type`, the body, the status, a part of the text, and the samples written.
type Negotiated<'a> = (&'a str, &'a str, Vec<u8>, u16, &'a str, Option<u64>);
/// Histograms, the status, a part of the text, and what is written.
type HistogramCase<'a> = (&'a str, Vec<Histogram>, u16, &'a str, [u64; 3]);

/// What is sent in both versions, and what both answer.
struct Row {
    what: &'static str,
    series: Vec<Sent>,
    /// Status and what the text must contain.
    v1: (u16, &'static str),
    /// The same, and the samples it says are written.
    v2: (u16, &'static str, u64),
    /// How many samples of metric `m` are there afterwards.
    stored: u64,
}

fn m(samples: &[(i64, f64)]) -> Sent {
    (vec![("__name__", "m"), ("x", "1")], samples.to_vec())
}

/// The rows, each for a store in which `m{x="1"}` has the value 1 at `t`.
fn rows(t: i64) -> Vec<Row> {
    let labels = |labels: &[(&'static str, &'static str)]| (labels.to_vec(), vec![(t + 1, 1.0)]);
    let good = || m(&[(t + 5, 5.0)]);
    let future = t + 22 * 60_000;
    let month = 30 * 86_400_000;
    vec![
        Row { what: "a newer sample", series: vec![good()], v1: (204, ""), v2: (204, "", 1), stored: 2 },
        Row {
            what: "the newest sample again",
            series: vec![m(&[(t, 1.0)])],
            v1: (204, ""),
            v2: (204, "", 1),
            stored: 1,
        },
        Row {
            what: "the same time, another value",
            series: vec![m(&[(t, 2.0)])],
            v1: (400, "duplicate sample for timestamp"),
            v2: (400, "duplicate sample for timestamp", 0),
            stored: 1,
        },
        // Kymo takes late samples of any age within the retention.
        Row {
            what: "older than the newest",
            series: vec![m(&[(t - 60_000, 7.0)])],
            v1: (204, ""),
            v2: (204, "", 1),
            stored: 2,
        },
        Row {
            what: "older than anything kept",
            series: vec![m(&[(t - month, 7.0)])],
            v1: (400, "too old sample"),
            v2: (400, "too old sample", 0),
            stored: 1,
        },
        Row {
            what: "far in the future",
            series: vec![m(&[(future, 7.0)])],
            v1: (400, "too far in the future"),
            v2: (400, "too far in the future", 0),
            stored: 1,
        },
        Row {
            what: "out of order within one request",
            series: vec![m(&[(t + 9, 1.0), (t + 4, 2.0)])],
            v1: (204, ""),
            v2: (204, "", 2),
            stored: 3,
        },
        Row {
            what: "two values for one time within one request",
            series: vec![m(&[(t + 9, 1.0), (t + 9, 2.0)])],
            v1: (400, "1 of 2 samples refused"),
            v2: (400, "1 of 2 samples refused", 1),
            stored: 2,
        },
        Row {
            what: "a bad sample and a good series",
            series: vec![m(&[(t, 2.0)]), (vec![("__name__", "m"), ("x", "2")], vec![(t, 2.0)])],
            v1: (400, "1 of 2 samples refused, the others are stored"),
            v2: (400, "1 of 2 samples refused, the others are stored", 1),
            stored: 2,
        },
        Row {
            what: "no metric name",
            series: vec![labels(&[("x", "1")]), good()],
            v1: (400, "\"__name__\" is missing"),
            v2: (400, "invalid metric name or labels", 1),
            stored: 2,
        },
        Row {
            what: "a label twice",
            series: vec![labels(&[("__name__", "m"), ("a", "1"), ("a", "2")]), good()],
            v1: (400, "duplicated label \"a\""),
            v2: (400, "duplicated label \"a\"", 1),
            stored: 2,
        },
        Row {
            what: "text that is not UTF-8",
            series: vec![labels(&[("__name__", "m"), ("a", "@@")]), good()],
            v1: (400, "not valid UTF-8"),
            v2: (400, "not valid UTF-8", 1),
            stored: 2,
        },
        Row {
            what: "an empty label name",
            series: vec![labels(&[("__name__", "m"), ("", "2")]), good()],
            v1: (400, "empty label name"),
            v2: (400, "empty label name", 1),
            stored: 2,
        },
        Row {
            what: "unsorted labels",
            series: vec![(vec![("x", "1"), ("__name__", "m")], vec![(t + 5, 1.0)])],
            v1: (204, ""),
            v2: (204, "", 1),
            stored: 2,
        },
        Row {
            what: "an empty label value",
            series: vec![(vec![("__name__", "m"), ("a", ""), ("x", "1")], vec![(t + 5, 1.0)])],
            v1: (204, ""),
            v2: (204, "", 1),
            stored: 2,
        },
        Row {
            what: "names beyond ASCII",
            series: vec![(vec![("__name__", "m"), ("λ.x", "µ")], vec![(t + 5, 1.0)])],
            v1: (204, ""),
            v2: (204, "", 1),
            stored: 2,
        },
        Row {
            what: "no samples",
            series: vec![m(&[]), good()],
            v1: (204, ""),
            v2: (400, "TimeSeries must contain at least one sample or histogram", 1),
            stored: 2,
        },
        Row { what: "no series", series: vec![], v1: (204, ""), v2: (204, "", 0), stored: 1 },
    ]
}

/// The marker of text that cannot be in a `String`.
fn break_text(mut bytes: Vec<u8>) -> Vec<u8> {
    for i in 1..bytes.len() {
        if bytes[i - 1..=i] == *b"@@" {
            bytes[i - 1..=i].copy_from_slice(b"\xff\xfe");
        }
    }
    v1::compress(&bytes)
}

fn send_v1(client: &mut kymo_tests::http::Client, series: &[Sent]) -> Response {
    let mut request = v1::Request::new();
    series.iter().for_each(|(labels, samples)| request.push(&label_bytes(labels), samples));
    v1::send(client, &break_text(request.as_bytes().to_vec())).unwrap()
}

fn send_v2(client: &mut kymo_tests::http::Client, series: &[Sent]) -> Response {
    let mut request = Request::new();
    for (labels, samples) in series {
        request.push(labels, samples);
    }
    send(client, &break_text(request.encode_to_vec())).unwrap()
}

/// The same rows with another metric name, so that one server serves all.
fn renamed(series: &[Sent], name: &'static str) -> Vec<Sent> {
    let mut series = series.to_vec();
    for (labels, _) in &mut series {
        labels.iter_mut().filter(|l| l.0 == "__name__").for_each(|l| l.1 = name);
    }
    series
}

#[test]
fn both_versions_row_by_row() {
    let fresh = Fresh::start(&["--retention=20d"]);
    let mut client = fresh.client();
    let t = now_ms() - 600_000;
    for (i, row) in rows(t).into_iter().enumerate() {
        for version in [1, 2] {
            let name: &'static str = format!("m{i}_v{version}").leak();
            let first = renamed(&[m(&[(t, 1.0)])], name);
            assert_eq!(send_v1(&mut client, &first).status, 204);
            let series = renamed(&row.series, name);
            let what = format!("{} in version {version}", row.what);
            if version == 1 {
                let response = send_v1(&mut client, &series);
                assert_eq!(response.status, row.v1.0, "{what}: {}", response.text());
                assert!(response.text().contains(row.v1.1), "{what}: {}", response.text());
                assert_eq!(written(&response), None, "{what}");
            } else {
                let response = send_v2(&mut client, &series);
                assert_eq!(response.status, row.v2.0, "{what}: {}", response.text());
                assert!(response.text().contains(row.v2.1), "{what}: {}", response.text());
                assert_eq!(written(&response), Some([row.v2.2, 0, 0]), "{what}: {}", response.text());
            }
            let query = format!("sum(count_over_time({name}[1h]))");
            let result = ask(&mut client, &query, now_ms());
            assert_eq!(result[0]["value"][1], row.stored.to_string(), "{what}");
        }
    }
}

fn histogram(timestamp: i64, count: u64) -> Histogram {
    Histogram {
        count,
        sum: 2.5,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_deltas: vec![2, -1],
        timestamp,
        start_timestamp: timestamp - 1_000,
        ..Histogram::default()
    }
}

#[test]
fn histograms_are_counted_on_their_own() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms() - 60_000;
    let custom = Histogram {
        count: 3,
        sum: 4.0,
        schema: -53,
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_deltas: vec![1, 0, 0],
        timestamp: t,
        custom_values: vec![0.5, 1.0],
        ..Histogram::default()
    };
    let fine = Histogram { schema: 12, ..histogram(t, 3) };
    let cases: [HistogramCase<'_>; 6] = [
        ("good", vec![histogram(t, 3), histogram(t + 1, 3)], 204, "", [1, 2, 0]),
        ("again", vec![histogram(t + 1, 3)], 204, "", [1, 1, 0]),
        (
            "another at that time",
            vec![Histogram { sum: 9.0, ..histogram(t + 1, 3) }],
            400,
            "duplicate",
            [1, 0, 0],
        ),
        (
            "one of two is wrong",
            vec![histogram(t + 2, 2), histogram(t + 3, 3)],
            400,
            "counts 2 observations, but its buckets hold 3",
            [1, 1, 0],
        ),
        ("custom buckets", vec![custom], 204, "", [1, 1, 0]),
        ("a schema of 12", vec![fine], 204, "", [1, 1, 0]),
    ];
    for (i, (what, histograms, status, says, counts)) in cases.into_iter().enumerate() {
        // All cases but the last two are about one series.
        let name = if i < 4 { "h".to_owned() } else { format!("h{i}") };
        let mut request = Request::new();
        request.push(&[("__name__", &name)], &[]).histograms = histograms;
        request.push(&[("__name__", "beside")], &[(t + i as i64, 1.0)]);
        let response = send(&mut client, &request.compress()).unwrap();
        assert_eq!(response.status, status, "{what}: {}", response.text());
        assert!(response.text().contains(says), "{what}: {}", response.text());
        assert_eq!(written(&response), Some(counts), "{what}");
    }
    assert_eq!(ask(&mut client, "count_over_time(h[1m])", t + 3)[0]["value"][1], "3");
    assert_eq!(ask(&mut client, "histogram_count(h4)", t)[0]["value"][1], "3");
    assert_eq!(ask(&mut client, "histogram_quantile(1, h4)", t)[0]["value"][1], "1");
}

#[test]
fn wrong_references_are_named_and_the_rest_is_stored() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    type Change = fn(&mut TimeSeries);
    let cases: [(&str, Change, &str); 5] = [
        (
            "labels outside of the table",
            |s| s.labels_refs = vec![1, 2, 99, 100],
            "parsing labels for series [1 2 99 100]: labelRefs 99 (name) = 100 (value) outside of symbols table (size 3)",
        ),
        ("a name without a value", |s| s.labels_refs = vec![1, 2, 1], "invalid labelRefs length 3"),
        ("no labels", |s| s.labels_refs = vec![], "invalid metric name or labels"),
        (
            "a help outside of the table",
            |s| s.metadata = Some(Metadata { metric_type: 1, help_ref: 77, unit_ref: 0 }),
            "metadata help_ref 77 outside of symbols table (size 3)",
        ),
        (
            "a unit outside of the table",
            |s| s.metadata = Some(Metadata { metric_type: 1, help_ref: 0, unit_ref: 3 }),
            "metadata unit_ref 3 outside of symbols table (size 3)",
        ),
    ];
    for (i, (what, change, says)) in cases.into_iter().enumerate() {
        let mut request = Request::new();
        request.push(&[("__name__", "m")], &[(t + i as i64, 1.0)]);
        let sample = Sample { value: 1.0, timestamp: t, start_timestamp: 0 };
        let mut bad =
            TimeSeries { labels_refs: vec![1, 2], samples: vec![sample; 3], ..TimeSeries::default() };
        change(&mut bad);
        request.timeseries.push(bad);
        let response = send(&mut client, &request.compress()).unwrap();
        assert_eq!(response.status, 400, "{what}: {}", response.text());
        assert!(response.text().contains(says), "{what}: {}", response.text());
        assert!(response.text().starts_with("3 of 4 samples refused"), "{what}: {}", response.text());
        assert_eq!(written(&response), Some([1, 0, 0]), "{what}");
    }
    assert_eq!(count(&mut client, "m", t + 10), 1);
    let mut exemplar = Request::new();
    exemplar.push(&[("__name__", "m")], &[(t + 20, 1.0)]).exemplars =
        vec![Exemplar { labels_refs: vec![1, 9], value: 1.0, timestamp: t }];
    let response = send(&mut client, &exemplar.compress()).unwrap();
    assert_eq!((response.status, written(&response)), (400, Some([1, 0, 0])));
    assert!(
        response.text().contains("parsing exemplar: labelRefs 1 (name) = 9 (value)"),
        "{}",
        response.text()
    );
}

#[test]
fn exemplars_are_stored_counted_and_named() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms() - 60_000;
    let cases = [
        ("good", t, "abc", 204, "", 1),
        ("again", t, "abc", 204, "", 1),
        ("newer", t + 10, "def", 204, "", 1),
        ("older than the newest", t - 10, "ghi", 400, "", 0),
        ("too long", t + 20, &"x".repeat(130), 400, "the limit is 128", 0),
    ];
    for (i, (what, timestamp, id, status, says, exemplars)) in cases.into_iter().enumerate() {
        let mut request = Request::new();
        let labels_refs = request.labels(&[("trace_id", id)]);
        request.push(&[("__name__", "m")], &[(t + i as i64, 1.0)]).exemplars =
            vec![Exemplar { labels_refs, value: 1.0, timestamp }];
        let response = send(&mut client, &request.compress()).unwrap();
        assert_eq!(response.status, status, "{what}: {}", response.text());
        assert!(response.text().contains(says), "{what}: {}", response.text());
        assert_eq!(written(&response), Some([1, 0, exemplars]), "{what}: {}", response.text());
    }
}

#[test]
fn exemplars_may_come_without_samples() {
    // Prometheus 3.x puts each exemplar into a series of its own.
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms() - 60_000;
    let mut request = Request::new();
    let labels_refs = request.labels(&[("trace_id", "abc")]);
    request.push(&[("__name__", "m")], &[(t, 1.0)]);
    request.push(&[("__name__", "m")], &[]).exemplars =
        vec![Exemplar { labels_refs, value: 1.0, timestamp: t }];
    let response = send(&mut client, &request.compress()).unwrap();
    assert_eq!((response.status, written(&response)), (204, Some([1, 0, 1])), "{}", response.text());
    let range = format!("start={}&end={}", t / 1000 - 1, t / 1000 + 1);
    let found = client.get(&format!("/api/v1/query_exemplars?query=m&{range}")).unwrap().json().unwrap();
    assert_eq!(found["data"][0]["exemplars"][0]["labels"]["trace_id"], "abc", "{found}");
}

#[test]
fn start_timestamps_are_stored() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let mut request = Request::new();
    let sample = Sample { value: 1.0, timestamp: t, start_timestamp: t - 5_000 };
    request.push(&[("__name__", "c")], &[]).samples = vec![sample];
    request.push(&[("__name__", "h")], &[]).histograms = vec![histogram(t, 3)];
    assert_eq!(send(&mut client, &request.compress()).unwrap().status, 204);
    drop(client);
    let Fresh { server, _dir: dir } = fresh;
    drop(server);
    let storage = Storage::open(&dir.path().join("data"), Options::default()).unwrap();
    let querier = storage.querier(TimeRange::ALL).unwrap();
    let mut samples = Samples::new();
    let mut read = |name: &str| {
        let set = querier.select(TimeRange::ALL, &[Matcher::equal("__name__", name)]).unwrap();
        set.read(0, TimeRange::ALL, &mut samples).unwrap();
        samples.clone()
    };
    assert_eq!(read("c").start_timestamps, [t - 5_000]);
    assert_eq!(read("h").histograms[0].start_timestamp, t - 1_000);
}

#[test]
fn metadata_comes_with_the_series() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let mut request = Request::new();
    let (help, unit) = (request.symbol("Served."), request.symbol("seconds"));
    for name in ["d_seconds_bucket", "d_seconds_count"] {
        request.push(&[("__name__", name)], &[(t, 1.0)]).metadata =
            Some(Metadata { metric_type: 3, help_ref: help, unit_ref: unit });
    }
    request.push(&[("__name__", "r_total")], &[(t, 1.0)]).metadata =
        Some(Metadata { metric_type: 1, help_ref: 0, unit_ref: 0 });
    for _ in 0..2 {
        assert_eq!(send(&mut client, &request.compress()).unwrap().status, 204);
    }
    let all = client.get("/api/v1/metadata").unwrap().json().unwrap();
    let expected = serde_json::json!({
        "d_seconds": [{"type": "histogram", "help": "Served.", "unit": "seconds"}],
        "r_total": [{"type": "counter", "help": "", "unit": ""}],
    });
    assert_eq!(all["data"], expected);
}

#[test]
fn what_is_negotiated() {
    let fresh = Fresh::start(&["--ingest-max-body-bytes=2000"]);
    let mut client = fresh.client();
    let mut request = Request::new();
    request.push(&[("__name__", "m")], &[(now_ms(), 1.0)]);
    let good = request.compress();
    let [_, (_, v2), _] = HEADERS;
    let first = Request { symbols: vec!["x".to_owned()], ..Request::default() };
    let cases: [Negotiated<'_>; 8] = [
        ("snappy", v2, good.clone(), 204, "", Some(1)),
        ("", v2, good.clone(), 204, "", Some(1)),
        (
            "snappy",
            "application/x-protobuf; proto=io.prometheus.write.v2.Request",
            good.clone(),
            204,
            "",
            Some(1),
        ),
        ("gzip", v2, good.clone(), 415, "only snappy is acceptable", None),
        (
            "snappy",
            "application/x-protobuf;proto=io.prometheus.write.v9.Request",
            good.clone(),
            415,
            "unknown type for remote write protobuf message io.prometheus.write.v9.Request, supported: ",
            None,
        ),
        ("snappy", v2, b"junk".to_vec(), 400, "corrupt input", Some(0)),
        (
            "snappy",
            v2,
            v1::compress(&first.encode_to_vec()),
            400,
            "must begin with the empty string",
            Some(0),
        ),
        ("snappy", v2, vec![0; 2001], 413, "larger than the limit of 2000 bytes", Some(0)),
    ];
    for (encoding, content_type, body, status, says, samples) in cases {
        let headers = [("Content-Encoding", encoding), ("Content-Type", content_type)];
        let response = fresh.client().request("POST", "/api/v1/write", &headers, &body).unwrap();
        assert_eq!(response.status, status, "{encoding} {content_type}: {}", response.text());
        assert!(response.text().contains(says), "{encoding} {content_type}: {}", response.text());
        assert_eq!(written(&response).map(|w| w[0]), samples, "{encoding} {content_type}");
    }
    // A body of one version under the name of the other would seem empty: it is refused.
    let says = "the body is a io.prometheus.write.v2.Request, but the Content-Type calls it a prometheus.WriteRequest\n";
    let response = v1::send(&mut client, &good).unwrap();
    assert_eq!((response.status, response.text().as_str(), written(&response)), (400, says, None));
    let mut other = v1::Request::new();
    other.push(&label_bytes(&[("__name__", "m")]), &[(now_ms(), 1.0)]);
    let response = send(&mut client, &other.compress()).unwrap();
    let says = "the body is a prometheus.WriteRequest, but the Content-Type calls it a io.prometheus.write.v2.Request\n";
    assert_eq!((response.status, response.text().as_str(), written(&response)), (400, says, Some([0; 3])));
}

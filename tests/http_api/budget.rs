//! What queries may take: memory, time, cores, places; what is told of those that run, and how one is ended.

use crate::contract::description::Description;
use crate::{Fresh, now_ms};
use kymo_tests::http::{Client, escape};
use kymo_tests::load::Load;
use kymo_tests::remote_write::{Request, send};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A server with `series` series of `samples` samples, 15 s apart, and the time of the last.
fn loaded(arguments: &[&str], series: usize, samples: i64) -> (Fresh, i64) {
    let fresh = Fresh::start(arguments);
    let mut client = fresh.client();
    let mut load = Load::new(7, series);
    let last = now_ms() - 60_000;
    for step in 0..samples {
        let series = load.step(last - (samples - 1 - step) * 15_000);
        let response = send(&mut client, &Request::of(&series).compress()).unwrap();
        assert_eq!(response.status, 204, "{}", response.text());
    }
    (fresh, last)
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// The target of a query that takes several seconds and little memory.
fn endless(last: i64) -> String {
    let query = "sum(sum_over_time(mad_over_time(rate({__name__=~\"load_metric.*\"}[5m])[30m:1s])[30m:1s]))";
    format!("/api/v1/query?query={}&time={}", escape(query), seconds(last))
}

fn running(client: &mut Client) -> Vec<Value> {
    let answer = client.get("/api/v1/status/active_queries").unwrap().json().unwrap();
    answer["data"].as_array().unwrap().clone()
}

/// Waits until as many queries run as wanted.
fn wait_until(client: &mut Client, what: &str, wanted: impl Fn(&[Value]) -> bool) {
    #[allow(clippy::disallowed_methods, reason = "the clock of the test is the real one")]
    let began = Instant::now();
    while !wanted(&running(client)) {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: {:?}", running(client));
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a GET on a connection of its own and does not wait.
fn send_only(fresh: &Fresh, target: &str) -> TcpStream {
    let mut stream = TcpStream::connect(fresh.server.address()).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream
}

#[test]
fn running_queries_are_listed_and_can_be_ended() {
    let (fresh, last) = loaded(&[], 200, 60);
    let mut client = fresh.client();
    assert!(running(&mut client).is_empty());
    let mut asker = send_only(&fresh, &endless(last));
    wait_until(&mut client, "a query starts", |all| all.iter().any(|q| q["samples"].as_u64() > Some(0)));
    let query = running(&mut client).remove(0);
    assert_eq!((query["kind"].as_str(), query["peer"].as_str()), (Some("instant"), Some("127.0.0.1")));
    assert!(query["query"].as_str().unwrap().starts_with("sum(sum_over_time("), "{query}");
    assert!((query["start"].as_f64().unwrap() * 1_000.0 - now_ms() as f64).abs() < 60_000.0);
    assert!(query["elapsed"].as_f64().unwrap() > 0.0);
    let metrics = client.get("/metrics").unwrap().text();
    assert!(metrics.contains("kymo_queries_active{kind=\"instant\"} 1\n"), "{metrics}");
    assert!(!metrics.contains("kymo_query_oldest_seconds 0\n"), "{metrics}");
    let cancel = format!("/api/v1/status/active_queries/{}/cancel", query["id"]);
    assert_eq!(client.get(&cancel).unwrap().status, 405);
    let description = Description::published();
    let list = client.get("/api/v1/status/active_queries").unwrap();
    description.check("/api/v1/status/active_queries", "get", &list).unwrap();
    let ended = client.post_form(&cancel, &[]).unwrap();
    assert_eq!(ended.status, 200);
    description.check("/api/v1/status/active_queries/{id}/cancel", "post", &ended).unwrap();
    let mut answer = [0; 12];
    asker.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 499");
    wait_until(&mut client, "the query is gone", <[Value]>::is_empty);
    let gone = client.post_form(&cancel, &[]).unwrap();
    assert_eq!(gone.status, 404, "{}", gone.text());
    assert_eq!(client.post_form("/api/v1/status/active_queries/x/cancel", &[]).unwrap().status, 400);
}

#[test]
fn a_query_takes_no_more_than_a_tenth_of_a_cpu_second_after_its_client_left() {
    let (fresh, last) = loaded(&[], 200, 60);
    let mut client = fresh.client();
    for _ in 0..3 {
        let asker = send_only(&fresh, &endless(last));
        wait_until(&mut client, "a query starts", |all| all.iter().any(|q| q["samples"].as_u64() > Some(0)));
        std::thread::sleep(Duration::from_millis(100));
        let before = fresh.server.usage().cpu;
        drop(asker);
        std::thread::sleep(Duration::from_millis(600));
        let after = fresh.server.usage().cpu - before;
        assert!(after <= Duration::from_millis(100), "{after:?} of CPU time after the client left");
        assert!(running(&mut client).is_empty());
    }
}

#[test]
fn stats_count_the_samples_of_each_step() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = (now_ms() - 3_600_000) / 60_000 * 60_000;
    let points = |n: i64| (0..n).map(|i| (t + i * 15_000, i as f64)).collect();
    let series = [
        kymo_tests::remote_write::TimeSeries::new("m_total", &[("a", "1")], points(9)),
        kymo_tests::remote_write::TimeSeries::new("m_total", &[("a", "2")], points(5)),
    ];
    crate::store(&mut client, &series);
    // Query, stats, samples of each of three steps a minute apart.
    let cases: [(&str, [u64; 3]); 8] = [
        ("m_total", [2, 2, 2]),
        ("sum(rate(m_total[1m]))", [2, 8, 4]),
        ("m_total + m_total", [4, 4, 4]),
        ("m_total @ start() + m_total", [4, 4, 4]),
        ("1 + 2", [0, 0, 0]),
        ("max_over_time(m_total{a=\"1\"}[1m:30s])", [1, 2, 2]),
        ("none", [0, 0, 0]),
        ("scalar(m_total{a=\"1\"})", [1, 1, 1]),
    ];
    for (query, samples) in cases {
        let (start, end) = (seconds(t), seconds(t + 120_000));
        let fields = [("query", query), ("start", &start), ("end", &end), ("step", "60"), ("stats", "all")];
        let answer = client.post_form("/api/v1/query_range", &fields).unwrap().json().unwrap();
        let told = &answer["data"]["stats"]["samples"];
        let steps: Vec<Value> =
            (0..).zip(samples).map(|(step, n)| serde_json::json!([t / 1_000 + step * 60, n])).collect();
        assert_eq!(told["totalQueryableSamplesPerStep"], Value::from(steps), "{query}");
        assert_eq!(told["totalQueryableSamples"], samples.iter().sum::<u64>(), "{query}");
        for timing in ["evalTotalTime", "execQueueTime", "execTotalTime", "innerEvalTime"] {
            assert!(answer["data"]["stats"]["timings"][timing].as_f64().unwrap() >= 0.0, "{timing}");
        }
    }
    let target = format!("/api/v1/query?query=m_total[1m]&time={}", seconds(t + 60_000));
    let totals = client.get(&format!("{target}&stats=true")).unwrap().json().unwrap();
    let samples = &totals["data"]["stats"]["samples"];
    assert_eq!(samples["totalQueryableSamples"], 8);
    assert!(
        samples.get("totalQueryableSamplesPerStep").is_none() && samples["peakSamples"].as_u64() > Some(0)
    );
    assert!(client.get(&target).unwrap().json().unwrap()["data"].get("stats").is_none());
}

#[test]
fn explain_tells_what_each_operator_did() {
    let (fresh, last) = loaded(&[], 100, 20);
    let mut client = fresh.client();
    let query = "sum by (job) (rate({__name__=~\"load_metric.*\"}[2m])) > 0";
    let (start, end) = (seconds(last - 60_000), seconds(last));
    let fields = [("query", query), ("start", &start), ("end", &end), ("step", "15"), ("explain", "true")];
    let answer = client.post_form("/api/v1/query_range", &fields).unwrap().json().unwrap();
    let root = &answer["data"]["explain"];
    assert_eq!((root["operator"].as_str(), root["steps"].as_u64()), (Some(">"), Some(5)), "{root}");
    let sum = &root["children"][0];
    assert_eq!((sum["operator"].as_str(), sum["series"].as_u64()), (Some("sum by (job)"), Some(2)), "{sum}");
    assert!(sum["bytes"].as_u64() > Some(0) && sum["seconds"].as_f64() > Some(0.0));
    let rate = &sum["children"][0];
    assert_eq!(rate["text"], "rate({__name__=~\"load_metric.*\"}[2m])");
    assert_eq!((rate["operator"].as_str(), rate["series"].as_u64()), (Some("rate"), Some(100)), "{rate}");
    assert_eq!((rate["computed"].as_u64(), rate["points"].as_u64()), (Some(100), Some(500)), "{rate}");
    // Windows of two minutes that end within one minute: the samples of three minutes.
    assert_eq!(rate["samples"].as_u64(), Some(100 * 12), "{rate}");
    let instant = client.get("/api/v1/query?query=1&explain=true").unwrap().json().unwrap();
    assert!(instant["data"].get("explain").is_none(), "a number has no operators: {instant}");
}

#[test]
fn parameters_that_bound_a_query() {
    let (fresh, last) = loaded(&[], 10, 4);
    let mut client = fresh.client();
    let later = last + 200_000;
    let cases: [(&str, i64, u16, &str); 8] = [
        ("lookback_delta=1m", later, 200, "\"result\":[]"),
        ("lookback_delta=0", later, 200, "load_metric"),
        (
            "lookback_delta=x",
            later,
            400,
            "error parsing lookback delta duration: cannot parse \\\"x\\\" to a valid duration",
        ),
        ("timeout=0", last, 503, "query timed out"),
        (
            "timeout=y",
            last,
            400,
            "invalid parameter \\\"timeout\\\": cannot parse \\\"y\\\" to a valid duration",
        ),
        ("limit=3", last, 200, "\"warnings\":[\"results truncated due to limit\"]"),
        ("limit=10", last, 200, "\"value\":"),
        ("limit=-1", last, 400, "limit must be non-negative"),
    ];
    for (parameters, time, status, says) in cases {
        let query = escape("{__name__=~\"load_metric.*\"}");
        let target = format!("/api/v1/query?query={query}&time={}&{parameters}", seconds(time));
        let response = client.get(&target).unwrap();
        assert_eq!(response.status, status, "{parameters}: {}", response.text());
        assert!(response.text().contains(says), "{parameters}: {}", response.text());
        assert_eq!(response.text().contains("warnings"), parameters == "limit=3", "{parameters}");
    }
}

/// The most memory of a server while `work` goes on, in bytes.
fn most_memory(fresh: &Fresh, work: impl FnOnce()) -> u64 {
    kymo_tests::process::most_memory(fresh.server.id(), work).0
}

#[test]
fn hostile_queries_stay_within_the_memory_of_all_queries() {
    const POOL: u64 = 96 << 20;
    /// For threads, their stacks, and what the allocator has not yet given back of what was freed.
    const SLACK: u64 = 32 << 20;
    let (fresh, last) = loaded(&["--query-memory=96MiB"], 2_000, 40);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/api/hostile_queries.json");
    #[allow(clippy::disallowed_methods, reason = "the cases are in a file")]
    let text = std::fs::read_to_string(path).unwrap();
    let hostile: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(hostile.len() >= 12);
    let ask = |row: &Value| {
        let points = row["points"].as_i64();
        let end = seconds(last);
        let start = seconds(last - points.unwrap_or(0) * 50);
        let mut fields = vec![("query", row["query"].as_str().unwrap())];
        match points {
            Some(_) => fields.extend([("start", &*start), ("end", &*end), ("step", "0.05")]),
            None => fields.push(("time", &*end)),
        }
        fields.extend(row["timeout"].as_str().map(|timeout| ("timeout", timeout)));
        let endpoint = if points.is_some() { "/api/v1/query_range" } else { "/api/v1/query" };
        let began = fresh.server.usage().cpu;
        let response = fresh.client().post_form(endpoint, &fields).unwrap();
        let (name, cpu) = (&row["name"], fresh.server.usage().cpu - began);
        let start: String = response.text().chars().take(300).collect();
        println!("{name}: {} after {cpu:?}: {start}", response.status);
        let expected = row["status"].as_array().unwrap();
        assert!(expected.iter().any(|s| *s == response.status), "{name}: {}: {start}", response.status);
        if let Some(says) = row["says"].as_str() {
            assert!(response.text().contains(says), "{name}: {start}");
        }
    };
    let baseline = fresh.server.usage().resident_bytes;
    let most = most_memory(&fresh, || {
        hostile.iter().for_each(&ask);
        // And two at a time: what one is refused for may now be the memory of all.
        std::thread::scope(|scope| {
            for turn in 0..2 {
                let (hostile, fresh) = (&hostile, &fresh);
                scope.spawn(move || {
                    for row in hostile.iter().filter(|r| r["timeout"].is_null()).skip(turn) {
                        let time = seconds(last);
                        let fields = [("query", row["query"].as_str().unwrap()), ("time", &time)];
                        let response = fresh.client().post_form("/api/v1/query", &fields).unwrap();
                        assert!(response.status < 500, "{}: {}", row["name"], response.text());
                    }
                });
            }
        });
    });
    println!("baseline {} MiB, at most {} MiB", baseline >> 20, most >> 20);
    assert!(most <= baseline + POOL + SLACK, "{} MiB over {} MiB", (most - baseline) >> 20, POOL >> 20);
    let metrics = fresh.client().get("/metrics").unwrap().text();
    assert!(metrics.contains("kymo_query_memory_bytes 0\n"), "memory was not given back");
}

#[test]
fn a_long_answer_is_sent_as_it_is_written() {
    // Numbers with all their digits: the answer is longer as text than as numbers.
    let (fresh, last) = loaded(&["--query-memory=256MiB"], 1_000, 40);
    let target = format!(
        "/api/v1/query_range?query={}&start={}&end={}&step=0.5",
        escape("{__name__=~\"load_metric.*\"} / 3"),
        seconds(last - 500_000),
        seconds(last)
    );
    let baseline = fresh.server.usage().resident_bytes;
    let mut plain = Vec::new();
    let most = most_memory(&fresh, || {
        let response = fresh.client().get(&target).unwrap();
        assert_eq!((response.status, response.header("content-length")), (200, None));
        plain = response.body;
    });
    let (text, grown) = (plain.len() as u64, most.saturating_sub(baseline));
    println!("{} MiB of text, {} MiB of memory", text >> 20, grown >> 20);
    assert!(text > 10 << 20);
    assert!(grown < text, "{grown} bytes for an answer of {text}");
    let headers = [("Accept-Encoding", "gzip")];
    let packed = fresh.client().request("GET", &target, &headers, &[]).unwrap();
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.body.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == plain && packed.body.len() < plain.len() / 3);
    serde_json::from_slice::<Value>(&plain).unwrap();
}

#[test]
fn a_cheap_query_stays_fast_beside_expensive_ones() {
    let (fresh, last) = loaded(&["--query-max-concurrency=6"], 500, 60);
    let mut client = fresh.client();
    let cheap = format!("/api/v1/query?query=load_metric_0&time={}", seconds(last));
    let mut measure = |times: usize| {
        let mut all: Vec<Duration> = (0..times)
            .map(|_| {
                #[allow(clippy::disallowed_methods, reason = "the clock of the test is the real one")]
                let began = Instant::now();
                let response = client.get(&cheap).unwrap();
                assert_eq!(response.status, 200, "{}", response.text());
                began.elapsed()
            })
            .collect();
        all.sort();
        all[times * 99 / 100]
    };
    let alone = measure(200);
    // More than there are places: those who turn out to be long leave theirs to others.
    let askers: Vec<TcpStream> = (0..8).map(|_| send_only(&fresh, &endless(last))).collect();
    wait_until(&mut fresh.client(), "eight queries run", |all| {
        all.iter().filter(|q| q["samples"].as_u64() > Some(0)).count() >= 8
    });
    let beside = measure(200);
    println!("p99 alone {alone:?}, beside eight expensive queries {beside:?}");
    assert!(running(&mut fresh.client()).len() >= 8, "the expensive queries still run");
    // The threads of long queries take no more turns at a time than there are cores, however many queries they are of: a cheap
    // one waits for its share of a core and for nothing else.
    assert!(beside <= alone * 10 + Duration::from_millis(150), "{beside:?}, alone {alone:?}");
    drop(askers);
}

#[test]
fn long_lists_of_label_values_are_refused_before_they_are_made() {
    let fresh = Fresh::start(&["--query-memory=8MiB"]);
    let mut client = fresh.client();
    let now = now_ms();
    // 60 MiB of values, of which 16 KiB are under another label.
    for batch in 0..60 {
        let mut body = String::new();
        for i in 0..256 {
            let long = format!("{:04}{}", batch * 256 + i, "x".repeat(4_000));
            body.push_str(&format!("m{{long=\"{long}\",batch=\"{batch}\"}} 1 {now}\n"));
        }
        let stored = client.request("POST", "/api/v1/import/prometheus", &[], body.as_bytes()).unwrap();
        assert_eq!(stored.status, 204, "{}", stored.text());
    }
    let baseline = fresh.server.usage().resident_bytes;
    let most = most_memory(&fresh, || {
        for target in [
            "/api/v1/label/long/values",
            "/api/v1/label/long/values?limit=1",
            "/api/v1/label/long/values?match[]=m",
            "/api/v1/label/long/values?match[]=%7Bbatch=~%22.%2B%22%7D",
        ] {
            let refused = client.get(target).unwrap();
            assert_eq!(refused.status, 422, "{target}: {}", refused.text());
            assert!(refused.text().contains("memory"), "{}", refused.text());
        }
    });
    let grown = most.saturating_sub(baseline);
    println!("{} MiB of memory for four lists of 60 MiB", grown >> 20);
    assert!(grown < 24 << 20, "{grown} bytes");
    // What is short is answered, and so is a part of what is long.
    let values = |client: &mut Client, target: &str| {
        let answer = client.get(target).unwrap();
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        answer.json().unwrap()["data"].as_array().unwrap().len()
    };
    assert_eq!(values(&mut client, "/api/v1/label/batch/values"), 60);
    assert_eq!(values(&mut client, "/api/v1/label/long/values?match[]=m%7Bbatch=%227%22%7D"), 256);
    // From the second time on the list is remembered.
    assert_eq!(values(&mut client, "/api/v1/labels"), 3);
    assert_eq!(values(&mut client, "/api/v1/labels"), 3);
}

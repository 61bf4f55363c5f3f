//! Blocks go to Debian's Prometheus and come from it: its tools read ours, and both answer the same about the same samples.
//!
//! Debian 12 has Prometheus 2.42, whose windows include their left edge; Kymo's, like those of 3.x, do not. So all samples lie at
//! multiples of 15 s, and the questions are asked 7 s after one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test, and the figures are what it is run for"
)]

use kymo_storage::model::{Buckets, FloatHistogram, ResetHint, Span, stale_nan};
use kymo_tests::answer::{Answer, LabelMap, Outcome, SampleValue};
use kymo_tests::compare::{close, same_bits};
use kymo_tests::http::Client;
use kymo_tests::peers::{Peer, require};
use kymo_tests::remote_write::{Request, label_bytes, send};
use kymo_tests::server::Server;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const STEP_MS: i64 = 15_000;
/// Five hours: with [`BEFORE_BORDER_MS`], four windows.
const SAMPLES: i64 = 1_200;
const WINDOW_MS: i64 = 7_200_000;
/// How far before a border of two hours the samples begin, at whatever hour the test runs: near to its first sample 3.x and Kymo do not
/// extrapolate the rate of a histogram below zero, 2.42 does.
const BEFORE_BORDER_MS: i64 = 45 * 60_000;
/// Compensated sums differ from plain ones in the last digits.
const EPSILON: f64 = 1e-9;
/// Asked of both sides.
const QUERIES: [&str; 12] = [
    "{kind=\"float\"}",
    "{kind=\"histogram\"}",
    "rate(requests_total[5m])",
    "sum by (job) (increase(requests_total[10m]))",
    "avg_over_time(temperature[3m])",
    "count_over_time(temperature[10m])",
    "max_over_time(temperature[1h])",
    "stops",
    "histogram_count(rate(latency[5m]))",
    "histogram_count(latency)",
    "histogram_sum(rate(sizes[10m]))",
    "count by (__name__) ({kind=~\"float|histogram\"})",
];

/// The first time of the load: recent enough for every retention, and so far back that all of it is past.
fn first_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let latest = now - (SAMPLES + 20) * STEP_MS;
    (latest + BEFORE_BORDER_MS) / WINDOW_MS * WINDOW_MS - BEFORE_BORDER_MS
}

fn histogram(counts: &[f64], zero: f64) -> FloatHistogram {
    FloatHistogram {
        hint: ResetHint::Unknown,
        schema: 2,
        zero_threshold: 0.001,
        zero_count: zero,
        count: counts.iter().sum::<f64>() + zero,
        sum: counts.iter().sum::<f64>() * 1.5,
        positive: Buckets::new(vec![Span { offset: -2, length: counts.len() as u32 }], counts.to_vec())
            .unwrap(),
        negative: Buckets::default(),
        custom_bounds: Arc::new([]),
    }
}

fn labels(name: &str, kind: &str, job: &str) -> Vec<u8> {
    label_bytes(&[("__name__", name), ("job", job), ("kind", kind), ("text", "größe \"x\"\\")])
}

/// What is written of the samples `from..to` of every series.
fn request(first: i64, from: i64, to: i64) -> Request {
    let mut request = Request::new();
    let times = || (from..to).map(|i| (i, first + i * STEP_MS));
    for job in ["a", "b"] {
        // A counter that begins anew in between, and a gauge with many digits.
        let counter: Vec<_> = times().map(|(i, t)| (t, (i % 700) as f64 * 3.0)).collect();
        request.push(&labels("requests_total", "float", job), &counter);
        let gauge: Vec<_> = times().map(|(i, t)| (t, (i as f64 * 0.37).sin() * 1e3)).collect();
        request.push(&labels("temperature", "float", job), &gauge);
    }
    // A series that ends with a staleness marker, and infinities.
    let stops =
        times().filter(|(i, _)| *i <= 500).map(|(i, t)| (t, if i == 500 { stale_nan() } else { i as f64 }));
    let stops: Vec<_> = stops.collect();
    if !stops.is_empty() {
        request.push(&labels("stops", "float", "a"), &stops);
    }
    let ends: Vec<_> = times().map(|(i, t)| (t, if i % 2 == 0 { f64::INFINITY } else { -0.0 })).collect();
    request.push(&labels("ends", "float", "a"), &ends);
    // Histograms whose buckets change, of whole numbers.
    let buckets = |i: i64| if i < 300 { 2 } else { 3 };
    let whole: Vec<_> = times()
        .map(|(i, t)| {
            let counts = [i as f64, (2 * i) as f64, (i / 3) as f64];
            (t, histogram(&counts[..buckets(i)], i as f64).to_whole().unwrap())
        })
        .collect();
    let whole: Vec<_> = whole.iter().map(|(t, h)| (*t, h)).collect();
    request.push_whole_histograms(&labels("latency", "histogram", "a"), &whole);
    request
}

/// And of fractions, which Prometheus 2.42 does not take by remote write.
fn request_of_fractions(first: i64, from: i64, to: i64) -> Request {
    let times = (from..to).map(|i| (i, first + i * STEP_MS));
    let parts: Vec<_> = times.map(|(i, t)| (t, histogram(&[i as f64 + 0.5, i as f64 / 4.0], 0.25))).collect();
    let parts: Vec<_> = parts.iter().map(|(t, h)| (*t, h)).collect();
    let mut request = Request::new();
    request.push_histograms(&labels("sizes", "histogram", "a"), &parts);
    request
}

fn load(client: &mut Client, make: impl Fn(i64, i64) -> Request) {
    for from in (0..SAMPLES).step_by(100) {
        let answer = send(client, &make(from, (from + 100).min(SAMPLES)).compress()).unwrap();
        assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
    }
}

fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}\n{}", text(&output.stdout), text(&output.stderr));
    output
}

fn lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone()).unwrap().lines().map(str::to_owned).collect()
}

fn tsdb(data: &Path, arguments: &[&str]) -> Vec<String> {
    let program =
        std::env::var_os("KYMO_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_kymo").into(), PathBuf::from);
    lines(&output(Command::new(program).arg("tsdb").args(arguments).arg("--data").arg(data)))
}

fn ask(client: &mut Client, query: &str, time_ms: i64) -> BTreeMap<LabelMap, Vec<(i64, SampleValue)>> {
    let time = format!("{:.3}", time_ms as f64 / 1000.0);
    let answer = client.post_form("/api/v1/query", &[("query", query), ("time", &time)]).unwrap();
    match Outcome::from_json(&answer.json().unwrap()).unwrap().result {
        Ok(Answer::Vector(all)) => all.into_iter().map(|(l, v)| (l, vec![(time_ms, v)])).collect(),
        Ok(Answer::Matrix(all)) => all.into_iter().collect(),
        other => panic!("{query}: {other:?}"),
    }
}

fn is_same(a: &SampleValue, b: &SampleValue, epsilon: f64) -> bool {
    let same = |a: f64, b: f64| if epsilon == 0.0 { same_bits(a, b) } else { close(a, b, epsilon) };
    match (a, b) {
        (SampleValue::Float(a), SampleValue::Float(b)) => same(*a, *b),
        (SampleValue::Shown(a), SampleValue::Shown(b)) => {
            same(a.count, b.count)
                && same(a.sum, b.sum)
                && a.buckets.len() == b.buckets.len()
                && a.buckets.iter().zip(&b.buckets).all(|(a, b)| {
                    a.boundary_rule == b.boundary_rule
                        && same(a.count, b.count)
                        && close(a.lower, b.lower, EPSILON)
                        && close(a.upper, b.upper, EPSILON)
                })
        }
        _ => false,
    }
}

/// Asks both sides and gives how many values were compared.
fn compare(query: &str, time: i64, epsilon: f64, theirs: &mut Client, ours: &mut Client) -> usize {
    let (theirs, ours) = (ask(theirs, query, time), ask(ours, query, time));
    let names = |all: &BTreeMap<LabelMap, Vec<(i64, SampleValue)>>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&theirs), names(&ours), "{query} at {time}");
    for (labels, a) in &theirs {
        let b = &ours[labels];
        assert_eq!(a.len(), b.len(), "{query} at {time}: {labels:?}");
        for (a, b) in a.iter().zip(b) {
            assert!(
                a.0 == b.0 && is_same(&a.1, &b.1, epsilon),
                "{query} at {time}: {labels:?}: {a:?}, here {b:?}"
            );
        }
    }
    theirs.values().map(Vec::len).sum()
}

/// `visible` is how many samples a selector shows.
fn compare_all(first: i64, visible: i64, theirs: &mut Client, ours: &mut Client) {
    let last = first + (SAMPLES - 1) * STEP_MS;
    // Every sample, bit for bit, staleness markers apart: no selector shows those.
    let raw = compare("{kind=~\"float|histogram\"}[6h]", last + 7_000, 0.0, theirs, ours);
    assert_eq!(raw as i64, visible);
    let mut values = 0;
    for query in QUERIES {
        // Behind the staleness marker at sample 500 too, and at both sides of every border of two hours.
        for sample in (30..SAMPLES).step_by(90).chain([299, 300, 499, 500, 501, 701, SAMPLES - 1]) {
            values += compare(query, first + sample * STEP_MS + 7_000, EPSILON, theirs, ours);
        }
        let border = (first / WINDOW_MS + 1) * WINDOW_MS;
        for time in [border - 8_000, border + 7_000] {
            values += compare(query, time, EPSILON, theirs, ours);
        }
    }
    println!("{raw} samples bit for bit, {values} values of queries");
    assert!(values > 300);
}

#[test]
fn prometheus_reads_what_is_exported() {
    let (Some(prometheus), Some(promtool)) = (require("prometheus"), require("promtool")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let out = dir.path().join("prometheus");
    let mut server = Server::start(env!("CARGO_BIN_EXE_kymo"), &data, &[]);
    let first = first_ms();
    load(&mut server.client(), |from, to| request(first, from, to));
    load(&mut server.client(), |from, to| request_of_fractions(first, from, to));
    assert!(server.terminate(Duration::from_secs(30)).unwrap().success());

    let said = tsdb(&data, &["export-blocks", "--out", out.to_str().unwrap()]);
    println!("{}", said.join("\n"));
    let last = first + (SAMPLES - 1) * STEP_MS;
    let windows = (last / WINDOW_MS - first / WINDOW_MS + 1) as usize;
    let total = 7 * SAMPLES + 501;
    assert!(said[0].starts_with(&format!("{windows} blocks with {total} samples")), "{said:?}");

    std::fs::create_dir_all(out.join("wal")).unwrap();
    let run = |words: &[&str]| lines(&output(Command::new(&promtool).arg("tsdb").args(words)));
    let path = out.to_str().unwrap();
    let listed = run(&["list", path]);
    assert_eq!(listed.len(), windows + 1, "{listed:?}");
    let analyzed = run(&["analyze", path]).join("\n");
    assert!(analyzed.contains("Block ID") && analyzed.contains("requests_total"), "{analyzed}");
    let theirs = run(&["dump", "--match={kind=\"float\"}", path]);
    let ours = tsdb(&data, &["dump", "--match", "{kind=\"float\"}"]);
    assert_eq!(ours.len() as i64, 5 * SAMPLES + 501);
    // Lines in any order, values by their bits: 2.42 writes large numbers with an exponent.
    let sorted = |all: Vec<String>| {
        let row = |line: &String| {
            let mut words = line.rsplitn(3, ' ').map(str::to_owned);
            let (time, value) = (words.next().unwrap(), words.next().unwrap());
            (words.next().unwrap(), time, value.parse::<f64>().unwrap().to_bits())
        };
        let mut rows: Vec<_> = all.iter().map(row).collect();
        rows.sort_unstable();
        rows
    };
    assert_eq!(sorted(theirs), sorted(ours));

    let features = ["--enable-feature=native-histograms"];
    let peer = Peer::prometheus(&prometheus, dir.path(), "scrape_configs: []\n", &features);
    server.restart();
    compare_all(first, 7 * SAMPLES + 500, &mut peer.client(), &mut server.client());

    // A part of the time, and the looks at a store.
    assert!(server.terminate(Duration::from_secs(30)).unwrap().success());
    let part = dir.path().join("part");
    let seconds = |sample: i64| ((first + sample * STEP_MS) / 1000).to_string();
    let (start, end) = (seconds(100), seconds(109));
    let said =
        tsdb(&data, &["export-blocks", "--start", &start, "--end", &end, "--out", part.to_str().unwrap()]);
    assert!(said[0].contains("with 80 samples"), "{said:?}");
    assert!(tsdb(&data, &["verify"]).join("\n").contains("the store is whole"));
    assert!(tsdb(&data, &["analyze"]).join("\n").contains("series: 8"));
}

/// A Prometheus that was sent the load and from then on records a rate each second: that is how it comes to histograms of fractions.
/// Not before: a sample of now would put the rest of the load out of its bounds.
fn recording_prometheus(program: &Path, dir: &Path, first: i64) -> Peer {
    let rules = dir.join("rules.yml");
    std::fs::write(&rules, "groups: []\n").unwrap();
    let flags = [
        "--enable-feature=native-histograms",
        "--web.enable-remote-write-receiver",
        "--web.enable-admin-api",
        "--web.enable-lifecycle",
    ];
    let peer = Peer::prometheus(program, dir, "rule_files: [rules.yml]\n", &flags);
    load(&mut peer.client(), |from, to| request(first, from, to));
    let recorded = "groups: [{name: g, interval: 1s, rules: [{record: recorded, expr: 'rate(latency[8h])', labels: {kind: recorded}}]}]";
    std::fs::write(&rules, recorded).unwrap();
    post(&mut peer.client(), "/-/reload", &[]);
    peer
}

fn post(client: &mut Client, path: &str, fields: &[(&str, &str)]) -> kymo_tests::http::Response {
    let answer = client.post_form(path, fields).unwrap();
    assert!((200..300).contains(&answer.status), "{}: {}", answer.status, answer.text());
    answer
}

/// The tombstones of blocks below `dir` that are more than an empty list.
fn deleting(dir: &Path) -> usize {
    let blocks = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path().join("tombstones"));
    blocks.filter(|f| std::fs::metadata(f).is_ok_and(|m| m.len() > 9)).count()
}

#[test]
fn what_prometheus_wrote_is_imported() {
    let Some(prometheus) = require("prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let first = first_ms();
    let peer = recording_prometheus(&prometheus, dir.path(), first);
    // Five hours are more than it keeps in memory: it writes blocks by itself.
    let theirs = dir.path().join("prometheus");
    let begin = Instant::now();
    let has_block =
        || std::fs::read_dir(&theirs).unwrap().any(|e| e.unwrap().path().join("meta.json").exists());
    while !has_block() {
        assert!(begin.elapsed() < Duration::from_secs(60), "no block yet");
        std::thread::sleep(Duration::from_millis(100));
    }
    // What is deleted lies in a block and in memory.
    let time = |sample: i64| format!("{:.3}", (first + sample * STEP_MS) as f64 / 1000.0);
    let (start, end) = (time(10), time(SAMPLES - 11));
    let fields = [("match[]", "temperature{job=\"a\"}"), ("start", &start), ("end", &end)];
    post(&mut peer.client(), "/api/v1/admin/tsdb/delete_series", &fields);
    let gone = SAMPLES - 20;
    let stored = 6 * SAMPLES + 501 - gone;
    std::thread::sleep(Duration::from_millis(2500));
    let recorded_until = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64 - 1000;
    let made = post(&mut peer.client(), "/api/v1/admin/tsdb/snapshot", &[]);
    let name = made.json().unwrap()["data"]["name"].as_str().unwrap().to_owned();
    let snapshot = theirs.join("snapshots").join(name);
    assert!(deleting(&snapshot) > 0, "no block with tombstones");

    let data = dir.path().join("data");
    let import = || tsdb(&data, &["import-blocks", snapshot.to_str().unwrap()]);
    let said = import();
    println!("{}", said.join("\n"));
    let dump = |kind: &str| tsdb(&data, &["dump", "--match", &format!("{{kind{kind}}}")]);
    let dumped = dump("!=\"recorded\"");
    assert_eq!(dumped.len() as i64, stored);
    assert!(tsdb(&data, &["list"]).len() > 1);
    // Once more stores nothing.
    let blocks = || std::fs::read_dir(data.join("blocks")).unwrap().count();
    let before = (blocks(), tsdb(&data, &["dump"]));
    let again = import();
    println!("{}", again.join("\n"));
    assert!(again[0].contains(" 0 samples (0 of them histograms)"), "{again:?}");
    assert!(before == (blocks(), tsdb(&data, &["dump"])));
    assert!(tsdb(&data, &["verify"]).join("\n").contains("the store is whole"));

    let server = Server::start(env!("CARGO_BIN_EXE_kymo"), &data, &[]);
    let (mut theirs, mut ours) = (peer.client(), server.client());
    let recorded = compare("{kind=\"recorded\"}[10m]", recorded_until, 0.0, &mut theirs, &mut ours);
    assert!(recorded > 0, "nothing was recorded");
    println!("{recorded} recorded histograms, {} blocks with tombstones", deleting(&snapshot));
    compare_all(first, stored - 1, &mut theirs, &mut ours);
}

//! A real Prometheus scrapes a real exporter and remote-writes to Kymo; then both are asked the same and must answer alike.
//!
//! Debian 12 has Prometheus 2.42, whose windows include their left edge; Kymo's, like those of 3.x, do not. So the test asks
//! at times at which no sample lies near the edge of a window: all windows are whole seconds and scrapes come every
//! second, so it is enough that the fraction of a second of the evaluation time is far from that of every scrape.

use crate::answers::{compare_outcomes, instant, now_ms, range, raw, wait_until_same};
use crate::program::{Program, every_prometheus, kymo};
use kymo_tests::answer::Outcome;
use kymo_tests::compare::close;
use kymo_tests::http::Client;
use kymo_tests::peers::{Peer, require};
use kymo_tests::server::Server;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

/// How long Prometheus scrapes before the comparison.
const SCRAPE_SECONDS: u64 = 30;
/// The window of the longest query, its subquery and offset included, in seconds.
const REACH_SECONDS: i64 = 15;
/// The relative tolerance. Prometheus 2.42 adds up plainly where 3.x and Kymo compensate rounding, so sums over many
/// series may differ in the last digits; anything larger is a mistake.
const EPSILON: f64 = 1e-9;
/// The same for fits of a line, where differences of nearly equal large sums magnify that rounding.
const EPSILON_FIT: f64 = 1e-6;

fn configuration(exporter: &Peer, kymo: &Server) -> String {
    format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n\
         - {{job_name: node, static_configs: [{{targets: ['{}'], labels: {{team: infra}}}}]}}\n\
         - {{job_name: prometheus, static_configs: [{{targets: ['PROMETHEUS']}}]}}\n\
         remote_write:\n\
         - url: '{}'\n  \
           queue_config: {{capacity: 10000, max_samples_per_send: 1000, batch_send_deadline: 200ms, min_backoff: 30ms, max_backoff: 200ms}}\n  \
           metadata_config: {{send: true, send_interval: 2s}}\n",
        exporter.address,
        kymo.url("/api/v1/write"),
    )
}

/// A fraction of a second (in ms) as far as possible from that of every scrape.
fn quiet_fraction(prometheus: &mut Client) -> i64 {
    let series = raw(prometheus, "up[2m]", now_ms());
    let mut used: Vec<i64> = series.iter().flat_map(|s| s.1.iter().map(|p| p.0.rem_euclid(1000))).collect();
    used.sort_unstable();
    used.push(used[0] + 1000);
    let gap = used.windows(2).max_by_key(|w| w[1] - w[0]).unwrap();
    println!("widest gap between scrapes: {} ms", gap[1] - gap[0]);
    assert!(gap[1] - gap[0] >= 20, "scrapes come at any fraction of a second: {used:?}");
    i64::midpoint(gap[0], gap[1]) % 1000
}

/// Compares two answers; gives the number of values compared.
fn compare(query: &str, theirs: Outcome, ours: Outcome) -> Result<usize, String> {
    let epsilon =
        if query.contains("predict_linear") || query.contains("deriv") { EPSILON_FIT } else { EPSILON };
    compare_outcomes(theirs, ours, |a, b| close(a, b, epsilon))
}

/// Asks every query at some instants and over some ranges.
fn compare_all(prometheus: &mut Client, kymo: &mut Client, first: i64, end: i64) {
    let queries: Vec<&str> =
        include_str!("queries.promql").lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    assert!(queries.len() >= 60);
    let (mut values, mut answers, mut failures) = (0, 0, Vec::new());
    for query in &queries {
        let mut judge = |what: String, theirs: Outcome, ours: Outcome| {
            answers += 1;
            match compare(query, theirs, ours) {
                Ok(count) => values += count,
                Err(reason) => failures.push(format!("{query} ({what})\n  {reason}")),
            }
        };
        for time in [first, first + 5000, i64::midpoint(first, end) / 1000 * 1000 + first % 1000, end] {
            let what = format!("at {time}");
            judge(what, instant(prometheus, query, time), instant(kymo, query, time));
        }
        for step in ["1", "3"] {
            let what = format!("from {first} to {end} step {step}");
            let theirs = range(prometheus, query, first, end, step);
            // A string has no range; both must say so, each in its words.
            if theirs.result.is_err() {
                assert!(range(kymo, query, first, end, step).result.is_err(), "{query}");
                continue;
            }
            judge(what, theirs, range(kymo, query, first, end, step));
        }
    }
    println!("{} queries, {answers} answers, {values} values compared", queries.len());
    assert!(failures.is_empty(), "{} answers differ:\n{}", failures.len(), failures.join("\n"));
    assert!(values > 5_000, "only {values} values compared");
}

fn compare_labels(prometheus: &mut Client, kymo: &mut Client) {
    for target in [
        "/api/v1/labels",
        "/api/v1/label/__name__/values",
        "/api/v1/label/mode/values",
        "/api/v1/label/job/values?match[]=node_load1",
        "/api/v1/series?match[]=node_cpu_seconds_total",
        "/api/v1/series?match[]=up&match[]=node_load1",
    ] {
        let list = |client: &mut Client| {
            let json = client.get(target).unwrap().json().unwrap();
            let mut items: Vec<String> =
                json["data"].as_array().unwrap().iter().map(ToString::to_string).collect();
            items.sort();
            items
        };
        let theirs = list(prometheus);
        assert!(!theirs.is_empty(), "{target}");
        assert_eq!(theirs, list(kymo), "{target}");
    }
}

fn compare_metadata(prometheus: &mut Client, kymo: &mut Client) {
    let metric = "node_cpu_seconds_total";
    let target = format!("/api/v1/metadata?metric={metric}");
    let entry = |client: &mut Client| client.get(&target).unwrap().json().unwrap()["data"][metric][0].clone();
    let theirs = entry(prometheus);
    assert_eq!(theirs["type"], "counter");
    assert_eq!(theirs, entry(kymo));
}

#[test]
fn prometheus_and_kymo_answer_alike() {
    let Some(exporter) = require("prometheus-node-exporter") else { return };
    for prometheus in every_prometheus() {
        scrape_and_compare(&prometheus, &exporter);
    }
}

fn scrape_and_compare(prometheus: &Program, exporter: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let server = kymo(&dir.path().join("kymo"), "external_labels: {kymo: one}\n");
    let mut exporter = Peer::node_exporter(exporter, dir.path());
    let configuration = configuration(&exporter, &server);
    let peer = prometheus.start_watching_itself(&dir.path().join("scraping"), &configuration);
    let start = now_ms();
    sleep(Duration::from_secs(SCRAPE_SECONDS - 4));
    // The exporter goes: its series end with staleness markers, and both sides must see that.
    exporter.process.kill();
    sleep(Duration::from_secs(4));

    let (mut theirs, mut ours) = (peer.client(), server.client());
    let fraction = quiet_fraction(&mut theirs);
    let end = (now_ms() - 1500) / 1000 * 1000 + fraction;
    // The first seconds are left out: there windows are not full, and 2.42 extrapolates those in another way.
    let first = (start / 1000 + 4 + REACH_SECONDS) * 1000 + fraction;
    assert!(first + 8000 < end);
    let count = wait_until_same(&mut theirs, &mut ours, "{__name__=~\".+\"}[2m]", end);
    println!("{count} samples on both sides, bit for bit");
    compare_all(&mut theirs, &mut ours, first, end);
    compare_labels(&mut theirs, &mut ours);
    compare_metadata(&mut theirs, &mut ours);

    // One without data of its own, which reads from Kymo, answers as the one that has scraped. It is asked by the labels it
    // shares with Kymo, and sees the series without them.
    let reading = format!(
        "global: {{external_labels: {{kymo: one}}}}\n\
         remote_read:\n- {{url: '{}', read_recent: true}}\n",
        server.url("/api/v1/read"),
    );
    let reader = prometheus.start(&dir.path().join("reader"), &reading, &[]);
    compare_all(&mut theirs, &mut reader.client(), first, end);
}

//! `promtool` asks Kymo, looks at its metrics, and (from version 3 on) pushes to it.

use crate::answers::{now_ms, seconds};
use crate::program::kymo;
use kymo_tests::http::{Client, escape};
use kymo_tests::peers::require;
use kymo_tests::process::run_to_end;
use kymo_tests::remote_write::{Request, TimeSeries, send};
use kymo_tests::server::Server;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn run(promtool: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(promtool);
    command.args(arguments);
    run_to_end(command, Duration::from_secs(30))
}

fn store(client: &mut Client, t: i64) {
    let samples = |factor: f64| (0..60).map(|i| (t - i * 5_000, (60 - i) as f64 * factor)).collect();
    let series = [
        TimeSeries::new("m_total", &[("job", "a"), ("odd", "é \" \\ \n")], samples(1.5)),
        TimeSeries::new("m_total", &[("job", "b")], samples(0.25)),
        TimeSeries::new("other", &[("job", "c")], samples(f64::NAN)),
    ];
    let response = send(client, &Request::of(&series).compress()).unwrap();
    assert_eq!(response.status, 204, "{}", response.text());
}

/// The `data` of an answer of the API.
fn data(client: &mut Client, target: &str) -> Value {
    let answer = client.get(target).unwrap().json().unwrap();
    assert_eq!(answer["status"], "success", "{target}: {answer}");
    answer["data"].clone()
}

/// The program of the system, and that of version 3 which `KYMO_PROMTOOL` names.
fn every_promtool() -> Vec<PathBuf> {
    require("promtool").into_iter().chain(std::env::var_os("KYMO_PROMTOOL").map(PathBuf::from)).collect()
}

#[test]
fn promtool_queries() {
    for promtool in every_promtool() {
        let dir = tempfile::tempdir().unwrap();
        let server = kymo(dir.path(), "");
        let mut client = server.client();
        let t = now_ms() / 1000 * 1000 - 10_000;
        store(&mut client, t);
        let url = server.url("");
        queries(&promtool, &url, &mut client, t);
        lists(&promtool, &url, &mut client, t);
        metrics_are_clean(&server, &promtool);
    }
}

fn queries(promtool: &Path, url: &str, client: &mut Client, t: i64) {
    let json = |arguments: &[&str]| -> Value {
        let text = run(promtool, arguments);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments:?}: {e} in {text}"))
    };
    let (start, end) = (seconds(t - 120_000), seconds(t));
    for query in
        ["m_total", "rate(m_total[1m])", "sum by (job) (m_total) > 20", "other", "{job=~\"a|b\"}[30s]"]
    {
        let answer = data(client, &format!("/api/v1/query?query={}&time={end}", escape(query)));
        assert!(!answer["result"].as_array().unwrap().is_empty());
        let at = format!("--time={end}");
        assert_eq!(json(&["query", "instant", "-o", "json", &at, url, query]), answer["result"], "{query}");
        if query.ends_with("[30s]") {
            continue;
        }
        let target = format!("/api/v1/query_range?query={}&start={start}&end={end}&step=15", escape(query));
        let answer = data(client, &target);
        let (from, to) = (format!("--start={start}"), format!("--end={end}"));
        let found = json(&["query", "range", "-o", "json", &from, &to, "--step=15s", url, query]);
        assert_eq!(found, answer["result"], "{query}");
    }
    let at = format!("--time={end}");
    let text = run(promtool, &["query", "instant", &at, url, "m_total{job=\"b\"}"]);
    assert_eq!(text.trim_end(), format!("m_total{{job=\"b\"}} => 15 @[{}]", t / 1000));
    let text = run(promtool, &["query", "instant", &at, url, "1 + 1"]);
    assert!(text.starts_with("scalar: 2 @["), "{text}");
}

fn lists(promtool: &Path, url: &str, client: &mut Client, t: i64) {
    let (from, to) = (format!("--start={}", seconds(t - 300_000)), format!("--end={}", seconds(t)));
    let all = ["query", "series", "-o", "json", "--match=m_total", "--match=other", &from, &to, url];
    let found: Value = serde_json::from_str(&run(promtool, &all)).unwrap();
    assert_eq!(found, data(client, "/api/v1/series?match[]=m_total&match[]=other"));
    assert_eq!(found.as_array().unwrap().len(), 3);
    assert_eq!(run(promtool, &["query", "labels", &from, &to, url, "job"]), "a\nb\nc\n");
    let few = ["query", "labels", "--match=m_total", &from, &to, url, "job"];
    assert_eq!(run(promtool, &few), "a\nb\n");
}

/// What Kymo says of itself passes the checks that Prometheus has for metrics.
fn metrics_are_clean(server: &Server, promtool: &Path) {
    let file = server.data().with_extension("metrics");
    std::fs::write(&file, server.client().get("/metrics").unwrap().body).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" check metrics < \"$1\""]).arg(promtool).arg(&file);
    let text = run_to_end(command, Duration::from_secs(30));
    assert_eq!(text, "");
}

#[test]
fn promtool_pushes() {
    let pushers: Vec<PathBuf> = every_promtool()
        .into_iter()
        .filter(|promtool| run(promtool, &["--help"]).contains("push metrics"))
        .collect();
    if pushers.is_empty() {
        println!("skipped: this promtool cannot push");
    }
    for promtool in pushers {
        let dir = tempfile::tempdir().unwrap();
        let server = kymo(dir.path(), "");
        let file = dir.path().join("pushed.prom");
        let body = "# HELP pushed Pushed.\n# TYPE pushed gauge\npushed{a=\"1\"} 1.5\npushed{a=\"2\"} -2\n";
        std::fs::write(&file, body).unwrap();
        run(&promtool, &["push", "metrics", "--label=by=me", &server.url(""), &file.display().to_string()]);
        let found = data(&mut server.client(), "/api/v1/query?query=pushed%7Bby=%22me%22%7D");
        let values: Vec<&str> =
            found["result"].as_array().unwrap().iter().map(|s| s["value"][1].as_str().unwrap()).collect();
        assert_eq!(values, ["1.5", "-2"], "{found}");
    }
}

//! The configuration: read at the start, read again, and never half.

use crate::{Fresh, ask, now_ms, store};
use kymo_tests::http::Client;
use kymo_tests::remote_write::{Request, TimeSeries, send};
use std::path::PathBuf;
use std::time::{Duration, Instant};

struct Configured {
    fresh: Fresh,
    file: PathBuf,
}

fn start(text: &str, arguments: &[&str]) -> Configured {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kymo.yml");
    std::fs::write(&file, text).unwrap();
    let flag = format!("--config={}", file.display());
    let mut all = vec![flag.as_str()];
    all.extend(arguments);
    Configured { fresh: Fresh::start_in(dir, &all), file }
}

fn yaml(client: &mut Client) -> String {
    let page = client.get("/api/v1/status/config").unwrap().json().unwrap();
    page["data"]["yaml"].as_str().unwrap().to_owned()
}

fn metric(client: &mut Client, name: &str) -> f64 {
    let page = client.get("/metrics").unwrap().text();
    let line = page.lines().find(|l| l.split(' ').next() == Some(name)).unwrap().to_owned();
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_reload_changes_limits_and_a_bad_one_changes_nothing() {
    let c = start("query: {max_points: 100}\nexternal_labels: {region: eu}\n", &["--web-enable-lifecycle"]);
    let mut client = c.fresh.client();
    let points = |client: &mut Client, n: u32| {
        client.get(&format!("/api/v1/query_range?query=1&start=0&end={n}&step=1")).unwrap().status
    };
    assert_eq!((points(&mut client, 100), points(&mut client, 101)), (200, 400));
    assert!(yaml(&mut client).contains("region: eu"));

    std::fs::write(&c.file, "query: {max_points: 200}\n").unwrap();
    assert_eq!(points(&mut client, 101), 400, "not before it is asked for");
    assert_eq!(client.get("/-/reload").unwrap().text(), "Only POST or PUT requests allowed");
    assert_eq!(client.get("/-/reload").unwrap().status, 405);
    let response = client.request("POST", "/-/reload", &[], b"").unwrap();
    assert_eq!((response.status, response.text().as_str()), (200, ""));
    assert_eq!((points(&mut client, 101), points(&mut client, 201)), (200, 400));
    assert!(!yaml(&mut client).contains("region"));

    let good_since = metric(&mut client, "kymo_config_last_reload_success_timestamp_seconds");
    for (bad, words) in [
        ("query: {max_points: 300}\nqueri: {}\n", "line 2, column 1"),
        ("query: {max_points: 300}\notlp: {ignore_resource_attributes: [a]}\n", "ignore_resource_attributes"),
        ("query: [", "line"),
    ] {
        std::fs::write(&c.file, bad).unwrap();
        let response = client.request("PUT", "/-/reload", &[], b"").unwrap();
        let text = response.text();
        assert_eq!(response.status, 500, "{text}");
        assert!(text.contains(words) && text.contains("kymo.yml"), "{text}");
        assert_eq!((points(&mut client, 200), points(&mut client, 201)), (200, 400));
        assert_eq!(metric(&mut client, "kymo_config_last_reload_successful"), 0.0);
        assert_eq!(metric(&mut client, "kymo_config_last_reload_success_timestamp_seconds"), good_since);
    }
    std::fs::remove_file(&c.file).unwrap();
    assert_eq!(client.request("POST", "/-/reload", &[], b"").unwrap().status, 500);

    // By signal, too.
    std::fs::write(&c.file, "query: {max_points: 400}\n").unwrap();
    let id = c.fresh.server.id().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(20);
    while points(&mut client, 400) != 200 {
        assert!(Instant::now() < deadline, "{}", c.fresh.server.output());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(metric(&mut client, "kymo_config_last_reload_successful"), 1.0);
}

#[test]
fn a_reload_changes_how_long_some_series_are_kept_and_how_large_a_body_may_be() {
    let c = start("", &["--web-enable-lifecycle"]);
    let mut client = c.fresh.client();
    let now = now_ms();
    let series = ["dev", "prod"]
        .map(|env| TimeSeries::new("m", &[("env", env)], vec![(now - 7_200_000, 1.0), (now - 1_000, 2.0)]));
    store(&mut client, &series);
    let counts = |client: &mut Client| {
        let found = ask(client, "sort_by_label(count_over_time(m[3h]), \"env\")", now);
        let found = found.as_array().unwrap().iter();
        found.map(|s| s["value"][1].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(counts(&mut client), ["2", "2"]);
    let reload = |text: &str, client: &mut Client| {
        std::fs::write(&c.file, text).unwrap();
        client.request("POST", "/-/reload", &[], b"").unwrap()
    };
    let rules = "retention: [{match: '{env=\"dev\"}', keep: 1h}]\n";
    assert_eq!(reload(rules, &mut client).status, 200);
    assert_eq!(counts(&mut client), ["1", "2"]);
    let bad = reload("retention: [{match: '{env=\"prod\"}', keep: 1ms}]\n", &mut client);
    assert_eq!(bad.status, 500);
    assert!(bad.text().contains("the least is 1s"), "{}", bad.text());
    assert_eq!(counts(&mut client), ["1", "2"]);
    assert_eq!(reload("{}\n", &mut client).status, 200);
    assert_eq!(counts(&mut client), ["2", "2"]);

    let late: Vec<(i64, f64)> = (0..200).map(|i| (now - 900_000 + i, i as f64)).collect();
    let request = Request::of(&[TimeSeries::new("n", &[], late)]).compress();
    assert_eq!(send(&mut client, &request).unwrap().status, 204);
    for (limits, status, words) in [
        ("ingest: {max_body_bytes: 100}\n", 413, "100 bytes"),
        ("ingest: {max_decoded_bytes: 100}\n", 400, "100"),
        ("ingest: {max_body_bytes: 1000000, max_decoded_bytes: 1000000}\n", 204, ""),
    ] {
        assert_eq!(reload(limits, &mut client).status, 200);
        let response = send(&mut c.fresh.client(), &request).unwrap();
        assert_eq!(response.status, status, "{limits}: {}", response.text());
        assert!(response.text().contains(words), "{limits}: {}", response.text());
    }
}

#[test]
fn without_the_flag_nobody_reloads_or_stops_it() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    for path in ["/-/reload", "/-/quit"] {
        let response = client.request("POST", path, &[], b"").unwrap();
        assert_eq!(
            (response.status, response.text().as_str()),
            (403, "Lifecycle API is not enabled."),
            "{path}"
        );
    }
}

#[test]
fn quit_ends_it_in_order() {
    let mut fresh = Fresh::start(&["--web.enable-lifecycle"]);
    let mut client = fresh.client();
    store(&mut client, &[TimeSeries::new("m", &[], vec![(now_ms(), 1.0)])]);
    let response = client.request("POST", "/-/quit", &[], b"").unwrap();
    assert_eq!(response.text(), "Requesting termination... Goodbye!");
    let status = fresh.server.terminate(Duration::from_secs(10)).unwrap();
    assert!(status.success() || status.code() == Some(130), "{status}");
    fresh.server.restart();
    assert_eq!(ask(&mut fresh.client(), "count(m)", now_ms()).as_array().unwrap().len(), 1);
}

#[test]
fn a_bad_file_is_said_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.yml");
    for (flag, text, words) in [
        ("--config", "otlp:\n  nope: 1\n", "line 2, column 3"),
        ("--web.config.file", "basic_auth_users:\n  a: canary\n", "not a bcrypt hash"),
        ("--web.config.file", "tls_server_config:\n  cert_file: no.crt\n  key_file: no.key\n", "no.crt"),
    ] {
        std::fs::write(&file, text).unwrap();
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_kymo"))
            .arg(format!("--data={}", dir.path().join("data").display()))
            .arg("--listen=127.0.0.1:0")
            .arg(format!("{flag}={}", file.display()))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains(words) && !text.contains("canary"), "{text}");
    }
}

#[test]
fn pages_about_the_server() {
    let fresh = Fresh::start(&["--query-timeout=30s", "--storage.tsdb.retention.size=1GB", "--scrub-rate=0"]);
    let mut client = fresh.client();
    let flags = client.get("/api/v1/status/flags").unwrap().json().unwrap();
    for (name, value) in [
        ("query-timeout", "30s"),
        ("query.timeout", "30s"),
        ("web.enable-lifecycle", "false"),
        ("retention-size", "1GB"),
        ("storage.tsdb.retention.size", "1GB"),
        ("compaction-percent", "50"),
        ("scrub-rate", "0"),
        ("delete-reclaim-after", "1h"),
    ] {
        assert_eq!(flags["data"][name], value, "{name}");
    }
    let features = client.get("/api/v1/features").unwrap().json().unwrap();
    assert_eq!(features["data"]["promql_functions"]["rate"], true);
    assert_eq!(features["data"]["promql_operators"]["topk"], true);
    assert_eq!(features["data"]["api"]["lifecycle"], false);
    for path in
        ["/api/otlp_write_receiver", "/tsdb/exemplar_storage", "/kymo/remote_write_2", "/api/federation"]
    {
        assert_eq!(features["data"].pointer(path), Some(&serde_json::Value::Bool(true)), "{path}");
    }
    let version = client.get("/version").unwrap().json().unwrap();
    assert_eq!(version["application"], "Kymo");
    let replay = client.get("/api/v1/status/walreplay").unwrap().json().unwrap();
    assert!(replay["data"]["current"].is_number());
}

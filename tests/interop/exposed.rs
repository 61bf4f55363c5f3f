//! What the Python client of Prometheus exposes: imported in both formats, and scraped by Prometheus and sent on. Every family is
//! read back with its values, exemplars, beginnings and metadata.

use crate::answers::{now_ms, seconds, wait_for, wait_for_sending, wait_until_same};
use crate::program::{Program, every_prometheus, kymo};
use kymo_tests::answer::LabelMap;
use kymo_tests::http::Client;
use kymo_tests::peers::{Peer, python, script};
use kymo_tests::process::run_to_end;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const SCRIPT: &str = "prometheus_client_exposition.py";

fn labels_of(json: &Value) -> LabelMap {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    json.as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn named(name: &Value, labels: &Value) -> LabelMap {
    let mut labels = labels_of(labels);
    labels.insert("__name__".to_owned(), name.as_str().unwrap().to_owned());
    labels
}

/// A value as the script or Kymo writes it.
fn number(json: &Value) -> f64 {
    json.as_f64().unwrap_or_else(|| json.as_str().unwrap().parse().unwrap())
}

/// The only sample of every series, with the beginning in milliseconds if there is one.
fn exported(client: &mut Client) -> BTreeMap<LabelMap, (f64, Option<i64>)> {
    let text = client.get("/api/v1/export?match[]=%7B__name__%3D~%22.%2B%22%7D").unwrap().text();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["values"].as_array().unwrap().len(), 1, "{line}");
        let value = (number(&line["values"][0]), line["start_timestamps"][0].as_i64());
        assert!(found.insert(labels_of(&line["metric"]), value).is_none(), "twice: {line}");
    }
    found
}

fn compare_values(told: &Value, has_starts: bool, found: &BTreeMap<LabelMap, (f64, Option<i64>)>) {
    let mut expected: BTreeMap<LabelMap, (f64, Option<i64>)> = BTreeMap::new();
    for sample in told["samples"].as_array().unwrap() {
        expected.insert(named(&sample[0], &sample[1]), (number(&sample[2]), None));
    }
    for created in told["created"].as_array().unwrap() {
        let (names, labels, at) = (created[0].as_array().unwrap(), &created[1], number(&created[2]));
        if has_starts {
            for (labels, (_, start)) in &mut expected {
                let is_of = |name: &Value| {
                    let mut bare = labels.clone();
                    if labels["__name__"].ends_with("_bucket") {
                        bare.remove("le");
                    }
                    bare == named(name, &created[1])
                };
                if names.iter().any(is_of) {
                    *start = Some((at * 1000.0) as i64);
                }
            }
        } else {
            let first = names[0].as_str().unwrap();
            let family = ["_total", "_bucket", "_count"].iter().find_map(|end| first.strip_suffix(end));
            let name = json!(format!("{}_created", family.unwrap()));
            expected.insert(named(&name, labels), (at, None));
        }
    }
    assert_eq!(expected.keys().collect::<Vec<_>>(), found.keys().collect::<Vec<_>>());
    for ((labels, (value, start)), (found, found_start)) in expected.iter().zip(found.values()) {
        assert!(value == found || value.is_nan() && found.is_nan(), "{labels:?}: {value} became {found}");
        match (start, found_start) {
            (None, None) => {}
            // A beginning in seconds has more digits than milliseconds.
            (Some(a), Some(b)) if (a - b).abs() <= 1 => {}
            other => panic!("{labels:?} began at {other:?}"),
        }
    }
}

/// The exemplars of all series, as the script tells them.
fn exemplars(client: &mut Client) -> Vec<(LabelMap, Value, f64)> {
    let now = now_ms();
    let query = "%7B__name__%3D~%22.%2B%22%7D";
    let (start, end) = (seconds(now - 300_000), seconds(now + 60_000));
    let target = format!("/api/v1/query_exemplars?query={query}&start={start}&end={end}");
    let answer = client.get(&target).unwrap().json().unwrap();
    let mut all = Vec::new();
    for series in answer["data"].as_array().unwrap_or_else(|| panic!("{answer}")) {
        for exemplar in series["exemplars"].as_array().unwrap() {
            let value = number(&exemplar["value"]);
            all.push((labels_of(&series["seriesLabels"]), exemplar["labels"].clone(), value));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn told_exemplars(told: &Value) -> Vec<(LabelMap, Value, f64)> {
    let rows = told["exemplars"].as_array().unwrap().iter();
    let mut all: Vec<_> = rows.map(|e| (named(&e[0], &e[1]), e[2].clone(), number(&e[3]))).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[test]
fn the_exposition_of_the_python_client_is_imported() {
    let Some(python) = python() else { return };
    let mut command = script(&python, SCRIPT);
    command.arg("print");
    let told: Value = serde_json::from_str(&run_to_end(command, Duration::from_secs(60))).unwrap();
    let formats = [
        ("text", "text/plain; version=0.0.4; charset=utf-8"),
        ("openmetrics", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ];
    for (format, media) in formats {
        let dir = tempfile::tempdir().unwrap();
        let server = kymo(dir.path(), "");
        let mut client = server.client();
        let body = told[format].as_str().unwrap().as_bytes();
        let headers = [("Content-Type", media)];
        let response = client.request("POST", "/api/v1/import/prometheus", &headers, body).unwrap();
        assert_eq!((response.status, response.text().as_str()), (204, ""), "{format}");
        let is_open = format == "openmetrics";
        compare_values(&told, is_open, &exported(&mut client));
        let expected = if is_open { told_exemplars(&told) } else { Vec::new() };
        assert_eq!(exemplars(&mut client), expected, "{format}");
        let about = client.get("/api/v1/metadata").unwrap().json().unwrap()["data"].clone();
        for (family, told) in told["families"].as_object().unwrap() {
            let kind = told[0].as_str().unwrap();
            // Text has fewer types and names a family as its samples.
            let (name, kind) = match (is_open, kind) {
                (false, "counter") => (format!("{family}_total"), "counter"),
                (false, "info") => (format!("{family}_info"), "gauge"),
                (false, "stateset") => (family.clone(), "gauge"),
                _ => (family.clone(), kind),
            };
            assert_eq!(about[&name][0]["type"], kind, "{format}: {about}");
            assert_eq!(about[&name][0]["help"], told[1], "{format}: {about}");
        }
        println!("{format}: {} samples read back", told["samples"].as_array().unwrap().len());
    }
}

#[test]
fn the_exposition_of_the_python_client_comes_through_prometheus() {
    let Some(python) = python() else { return };
    for prometheus in every_prometheus() {
        scrape_and_send(&prometheus, &python);
    }
}

fn scrape_and_send(prometheus: &Program, python: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let server = kymo(&dir.path().join("kymo"), "");
    let targets = dir.path().join("targets.json");
    std::fs::write(&targets, "[]").unwrap();
    let configuration = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\n\
         scrape_configs:\n- {{job_name: kymo, static_configs: [{{targets: ['{}']}}]}}\n\
         - {{job_name: shop, file_sd_configs: [{{files: ['{}'], refresh_interval: 1s}}]}}\n{}",
        server.address(),
        targets.display(),
        prometheus.remote_write(&server)
    );
    let peer = prometheus.start(&dir.path().join("prometheus"), &configuration, &[prometheus.features()]);
    let (mut theirs, mut ours) = (peer.client(), server.client());
    // What is exposed begins, with its exemplars, only now.
    wait_for_sending(&mut ours);
    let exposer = Peer::start("exposition", dir.path(), "/metrics", |address| {
        let mut command = script(python, SCRIPT);
        command.args(["serve", &address.port().to_string()]);
        command
    });
    // It may answer before it has said what it exposes.
    let told: Value = wait_for(|| {
        let output = exposer.process.output();
        let line = output.split_inclusive('\n').next().unwrap_or_default();
        serde_json::from_str(line).map_err(|error| format!("{error} in {line:?}"))
    });
    std::fs::write(&targets, format!("[{{\"targets\": [\"{}\"]}}]", exposer.address)).unwrap();
    let expected = told["samples"].as_array().unwrap().len();
    let count = wait_for(|| {
        let end = now_ms() - 1_000;
        let count = wait_until_same(&mut theirs, &mut ours, "{job=\"shop\"}[5m]", end);
        if count > 2 * expected { Ok(count) } else { Err(format!("only {count} samples")) }
    });
    let in_kymo = wait_for(|| {
        let (in_prometheus, in_kymo) = (exemplars(&mut theirs), exemplars(&mut ours));
        if in_prometheus == in_kymo && !in_kymo.is_empty() {
            return Ok(in_kymo);
        }
        Err(format!("Prometheus has {in_prometheus:?}\n  Kymo has {in_kymo:?}"))
    });
    let without_target = |(mut labels, exemplar, value): (LabelMap, Value, f64)| {
        labels.retain(|name, _| name != "job" && name != "instance");
        (labels, exemplar, value)
    };
    assert_eq!(in_kymo.into_iter().map(without_target).collect::<Vec<_>>(), told_exemplars(&told));
    if prometheus.is_third {
        // Version 2.0 of the protocol has metadata with the series, but 3.14 has none to send.
        println!("{count} samples, bit for bit");
        return;
    }
    let families = told["families"].as_object().unwrap();
    let known = wait_for(|| {
        let about = |client: &mut Client| -> BTreeMap<String, Value> {
            let all = client.get("/api/v1/metadata").unwrap().json().unwrap()["data"].clone();
            let all = all.as_object().unwrap().clone();
            all.into_iter().filter(|(name, _)| name.starts_with("shop_")).collect()
        };
        let (in_prometheus, in_kymo) = (about(&mut theirs), about(&mut ours));
        if in_prometheus == in_kymo && in_kymo.len() >= families.len() {
            return Ok(in_kymo);
        }
        Err(format!("Prometheus knows {in_prometheus:?}\n  Kymo knows {in_kymo:?}"))
    });
    println!("{count} samples, {} families, bit for bit", known.len());
}

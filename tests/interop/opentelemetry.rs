//! The OpenTelemetry SDK exports to Kymo by OTLP over HTTP: every instrument, both temporalities, exemplars.

use crate::answers::{instant, now_ms, seconds};
use crate::program::kymo;
use kymo_tests::answer::{Answer, LabelMap, SampleValue};
use kymo_tests::http::{Client, escape};
use kymo_tests::peers::{python, script};
use kymo_tests::process::run_to_end;
use serde_json::Value;
use std::time::Duration;

fn vector(client: &mut Client, query: &str) -> Vec<(LabelMap, SampleValue)> {
    match instant(client, query, now_ms()).result {
        Ok(Answer::Vector(series)) => series,
        other => panic!("{query} gives no vector: {other:?}"),
    }
}

fn labels(json: &Value) -> LabelMap {
    serde_json::from_value(json.clone()).unwrap()
}

#[test]
fn the_sdk_of_opentelemetry_exports() {
    let Some(python) = python() else { return };
    for arguments in [["cumulative", "gzip"].as_slice(), &["delta"]] {
        let dir = tempfile::tempdir().unwrap();
        let server = kymo(dir.path(), "");
        let mut command = script(&python, "opentelemetry_sdk.py");
        command.arg(server.url("/api/v1/otlp/v1/metrics")).args(arguments);
        let told: Value = serde_json::from_str(&run_to_end(command, Duration::from_secs(60))).unwrap();
        let mut client = server.client();
        for (query, series) in told["instant"].as_object().unwrap() {
            let mut expected: Vec<(LabelMap, f64)> = series
                .as_array()
                .unwrap()
                .iter()
                .map(|row| (labels(&row[0]), row[1].as_f64().unwrap()))
                .collect();
            let found = vector(&mut client, query);
            let mut found: Vec<(LabelMap, f64)> =
                found.into_iter().map(|(labels, value)| (labels, value.float().unwrap())).collect();
            let by_labels = |a: &(LabelMap, f64), b: &(LabelMap, f64)| a.0.cmp(&b.0);
            expected.sort_by(by_labels);
            found.sort_by(by_labels);
            assert_eq!(found, expected, "{query} {arguments:?}");
        }
        for (query, values) in told["observed"].as_object().unwrap() {
            let values: Vec<f64> = values.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
            each_value_is_in_its_bucket(&mut client, query, &values);
        }
        for (query, expected) in told["exemplars"].as_object().unwrap() {
            let mut expected = expected.as_array().unwrap().clone();
            expected.sort_by_key(ToString::to_string);
            assert_eq!(exemplars(&mut client, query), expected, "{query} {arguments:?}");
        }
        println!("{arguments:?}: {} queries", told["instant"].as_object().unwrap().len());
    }
}

fn each_value_is_in_its_bucket(client: &mut Client, query: &str, values: &[f64]) {
    let found = vector(client, query);
    let [(_, SampleValue::Shown(histogram))] = found.as_slice() else {
        panic!("{query} is no native histogram: {found:?}")
    };
    assert_eq!(histogram.count, values.len() as f64);
    for bucket in &histogram.buckets {
        let inside = |value: &&f64| match bucket.boundary_rule {
            0 => bucket.lower < **value && **value <= bucket.upper,
            1 => bucket.lower <= **value && **value < bucket.upper,
            2 => bucket.lower < **value && **value < bucket.upper,
            _ => bucket.lower <= **value && **value <= bucket.upper,
        };
        assert_eq!(bucket.count, values.iter().filter(inside).count() as f64, "{bucket:?}");
    }
}

/// Trace, span and value of each exemplar.
fn exemplars(client: &mut Client, query: &str) -> Vec<Value> {
    let (start, end) = (seconds(now_ms() - 300_000), seconds(now_ms() + 60_000));
    let target = format!("/api/v1/query_exemplars?query={}&start={start}&end={end}", escape(query));
    let answer = client.get(&target).unwrap().json().unwrap();
    let mut all = Vec::new();
    for series in answer["data"].as_array().unwrap() {
        for exemplar in series["exemplars"].as_array().unwrap() {
            let value: f64 = exemplar["value"].as_str().unwrap().parse().unwrap();
            all.push(serde_json::json!([
                exemplar["labels"]["trace_id"],
                exemplar["labels"]["span_id"],
                value
            ]));
        }
    }
    all.sort_by_key(ToString::to_string);
    all
}

//! Federation: the newest samples in the exposition formats.

#![allow(clippy::disallowed_methods, reason = "tests write configurations as they are")]

use crate::{Fresh, now_ms, store};
use kymo_tests::http::Client;
use kymo_tests::remote_write::TimeSeries;

const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

fn get(client: &mut Client, query: &str, accept: &str) -> (u16, String, String) {
    let response = client.request("GET", &format!("/federate{query}"), &[("Accept", accept)], &[]).unwrap();
    let content_type = response.header("content-type").unwrap_or_default().to_owned();
    (response.status, content_type, response.text())
}

#[test]
fn newest_samples_with_external_labels() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kymo.yml");
    std::fs::write(&file, "external_labels: {region: eu}\n").unwrap();
    let fresh = Fresh::start(&[&format!("--config={}", file.display()), "--self-monitor=false"]);
    let mut client = fresh.client();
    let t = now_ms() - 10_000;
    let series = [
        TimeSeries::new("b", &[("instance", "i"), ("region", "own")], vec![(t - 1_000, 1.0), (t, 2.5)]),
        TimeSeries::new("a", &[("x", "2")], vec![(t, f64::INFINITY)]),
        TimeSeries::new("a", &[("x", "1")], vec![(t, 1e6)]),
        TimeSeries::new("a", &[("x", "gone")], vec![(t - 1_000, 1.0), (t, STALE)]),
        TimeSeries::new("a", &[("x", "old")], vec![(t - 400_000, 1.0)]),
    ];
    store(&mut client, &series);
    let text = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";
    let all = format!(
        "# TYPE a untyped\na{{region=\"eu\",x=\"1\",instance=\"\"}} 1e+06 {t}\n\
         a{{region=\"eu\",x=\"2\",instance=\"\"}} +Inf {t}\n\
         # TYPE b untyped\nb{{instance=\"i\",region=\"own\"}} 2.5 {t}\n"
    );
    let two = "?match[]=a&match[]=%7B__name__=~%22a%7Cb%22%7D";
    assert_eq!(get(&mut client, two, "*/*"), (200, text.to_owned(), all.clone()));
    let open_metrics = "application/openmetrics-text;version=1.0.0";
    assert_eq!(get(&mut client, two, open_metrics), (200, text.to_owned(), all));
    assert_eq!(get(&mut client, "", ""), (200, text.to_owned(), String::new()));
    let (status, _, says) = get(&mut client, "?match[]=a%7B", "");
    assert_eq!(status, 400);
    assert!(says.contains("parse error"), "{says}");
    let protobuf =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";
    let (status, content_type, body) = get(&mut client, "?match[]=b", protobuf);
    assert_eq!(status, 200);
    assert!(content_type.starts_with("application/vnd.google.protobuf"), "{content_type}");
    assert!(body.contains("instance") && body.contains("own"), "{body:?}");
}

//! Health, status pages, metrics and self-monitoring.

use crate::{Fresh, ask, now_ms, store};
use kymo_tests::remote_write::TimeSeries;
use std::time::Duration;

#[test]
fn pages_as_grafana_reads_them() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let build = client.get("/api/v1/status/buildinfo").unwrap().json().unwrap();
    assert!(build["data"]["version"].as_str().unwrap().starts_with("3."));
    assert_eq!(build["data"]["application"], "Kymo");
    assert!(build["data"].get("features").is_none());
    let same = [
        ("/api/v1/rules", r#"{"status":"success","data":{"groups":[]}}"#),
        ("/api/v1/alerts", r#"{"status":"success","data":{"alerts":[]}}"#),
        (
            "/api/v1/query_exemplars?query=test&start=1795238406000&end=1795238466000",
            r#"{"status":"success","data":[]}"#,
        ),
        ("/api/v1/metadata", r#"{"status":"success","data":{}}"#),
        ("/-/healthy", "Kymo is Healthy.\n"),
        ("/-/ready", "Kymo is Ready.\n"),
    ];
    for (path, expected) in same {
        let response = client.get(path).unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, expected), "{path}");
    }
    assert_eq!(client.request("HEAD", "/-/healthy", &[], b"").unwrap().status, 200);
    for path in ["/", "/api/v1/status/runtimeinfo", "/api/v1/status/tsdb"] {
        assert_eq!(client.get(path).unwrap().status, 200, "{path}");
    }
}

#[test]
fn metrics_count_what_happened() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    store(&mut client, &[TimeSeries::new("m", &[], vec![(now_ms(), 1.0)])]);
    client.get("/api/v1/query?query=m").unwrap();
    client.get("/who/knows").unwrap();
    let response = client.get("/metrics").unwrap();
    assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let page = response.text();
    for line in [
        "kymo_http_requests_total{code=\"204\",handler=\"/api/v1/write\"} 1\n",
        "kymo_http_requests_total{code=\"200\",handler=\"/api/v1/query\"} 1\n",
        "kymo_ingest_samples_total 1\n",
        "kymo_queries_total{outcome=\"success\"} 1\n",
        "kymo_storage_series 1\n",
        "kymo_storage_writable 1\n",
        "# TYPE kymo_storage_wal_bytes gauge\n",
        "# TYPE kymo_storage_scrub_rounds_total counter\n",
        "kymo_queries_active{kind=\"instant\"} 0\n",
        "kymo_query_oldest_seconds 0\n",
        "# TYPE process_resident_memory_bytes gauge\n",
    ] {
        assert!(page.contains(line), "{line}{page}");
    }
    assert!(!page.contains("/who/knows"), "labels never come from outside");
}

#[test]
fn it_watches_itself() {
    let fresh = Fresh::start(&["--self-monitor=true"]);
    let mut client = fresh.client();
    let instance = fresh.server.address().to_string();
    let query = format!("up{{job=\"kymo\", instance=\"{instance}\"}}");
    let deadline = 50;
    for attempt in 0.. {
        let result = ask(&mut client, &query, now_ms() + 1_000);
        if result.as_array().unwrap().len() == 1 {
            assert_eq!(result[0]["value"][1], "1");
            break;
        }
        assert!(attempt < deadline, "the first round comes at once");
        std::thread::sleep(Duration::from_millis(50));
    }
    let rss = ask(&mut client, "process_resident_memory_bytes{job=\"kymo\"} > 1e6", now_ms() + 1_000);
    assert_eq!(rss.as_array().unwrap().len(), 1);
    let metadata = client.get("/api/v1/metadata?metric=kymo_http_requests_total").unwrap().json().unwrap();
    assert_eq!(metadata["data"]["kymo_http_requests_total"][0]["type"], "counter");
}

//! Orders to the store, and the pages that say what it consists of.

use crate::{Fresh, count, now_ms, store};
use kymo_tests::http::Client;
use kymo_tests::remote_write::TimeSeries;
use serde_json::{Value, json};

const ORDERS: [&str; 3] = [
    "/api/v1/admin/tsdb/delete_series?match[]=m",
    "/api/v1/admin/tsdb/clean_tombstones",
    "/api/v1/admin/tsdb/snapshot",
];

fn fill(client: &mut Client, now: i64) {
    let series =
        |name: &str, job: &str| TimeSeries::new(name, &[("job", job)], vec![(now - 60_000, 1.0), (now, 2.0)]);
    store(client, &[series("m", "a"), series("m", "bb"), series("other", "a")]);
}

#[test]
fn orders_are_off_unless_enabled() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    for path in ORDERS {
        for method in ["POST", "PUT"] {
            let response = client.request(method, path, &[], b"").unwrap();
            let expected = r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#;
            assert_eq!((response.status, response.text().as_str()), (500, expected), "{method} {path}");
        }
        assert_eq!(client.get(path).unwrap().status, 405, "{path}");
    }
}

#[test]
fn deletes_by_time_and_selector() {
    let mut fresh = Fresh::start(&["--web-enable-admin-api"]);
    let mut client = fresh.client();
    let now = now_ms();
    fill(&mut client, now);
    let bad = [
        ("", "no match[] parameter provided"),
        (
            "?match[]=m%7B",
            "invalid parameter \"match[]\": 1:3: parse error: unexpected end of input inside braces",
        ),
        (
            "?match[]=%7Ba%3D~%22.*%22%7D",
            "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher",
        ),
        (
            "?match[]=m&start=2&end=1",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            "?match[]=m&start=x",
            "invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp",
        ),
    ];
    for (query, text) in bad {
        let path = format!("/api/v1/admin/tsdb/delete_series{query}");
        let response = client.request("POST", &path, &[], b"").unwrap();
        assert_eq!(
            (response.status, response.json().unwrap()["error"].as_str()),
            (400, Some(text)),
            "{query}"
        );
    }
    // Nothing matches: nothing to do, and that is no mistake.
    let none = client.request("POST", "/api/v1/admin/tsdb/delete_series?match[]=nope", &[], b"").unwrap();
    assert_eq!((none.status, none.body.len()), (204, 0));
    assert_eq!(count(&mut client, "m", now), 2);
    // One sample of one series, by a form in a PUT.
    let form = format!("match[]=m%7Bjob%3D%22a%22%7D&start={}&end={}", now / 1000, now / 1000);
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let response =
        client.request("PUT", "/api/v1/admin/tsdb/delete_series", &headers, form.as_bytes()).unwrap();
    assert_eq!(response.status, 204, "{}", response.text());
    assert_eq!(count(&mut client, "m == 2", now), 1);
    assert_eq!(count(&mut client, "m", now), 2);
    // Several selectors; what stays is there after cleaning and a restart.
    let path = "/api/v1/admin/tsdb/delete_series?match[]=m%7Bjob%3D%22a%22%7D&match[]=other";
    assert_eq!(client.request("POST", path, &[], b"").unwrap().status, 204);
    assert_eq!(count(&mut client, "{__name__=~\".+\"}", now), 1);
    assert_eq!(client.request("POST", ORDERS[1], &[], b"").unwrap().status, 204);
    fresh.server.restart();
    let mut client = fresh.client();
    assert_eq!(count(&mut client, "{__name__=~\".+\"}", now), 1);
    assert_eq!(count(&mut client, "m{job=\"bb\"}", now), 1);
}

#[test]
fn a_snapshot_opens_as_a_store() {
    let fresh = Fresh::start(&["--web-enable-admin-api"]);
    let mut client = fresh.client();
    let now = now_ms();
    fill(&mut client, now);
    let refused = client.request("POST", "/api/v1/admin/tsdb/snapshot?skip_head=x", &[], b"").unwrap();
    assert_eq!(refused.status, 400);
    let mut names = Vec::new();
    for (query, series) in [("?skip_head=true", 0), ("", 3), ("?skip_head=0", 3)] {
        let path = format!("/api/v1/admin/tsdb/snapshot{query}");
        let response = client.request("POST", &path, &[], b"").unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        let name = response.json().unwrap()["data"]["name"].as_str().unwrap().to_owned();
        assert!(name.len() == 33 && name.as_bytes()[15] == b'Z', "{name}");
        let data = fresh.server.data().join("snapshots").join(&name);
        let copy = kymo_tests::server::Server::start(env!("CARGO_BIN_EXE_kymo"), &data, &[]);
        assert_eq!(count(&mut copy.client(), "{__name__=~\".+\"}", now), series, "{query}");
        names.push(name);
    }
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[test]
fn the_store_says_what_it_consists_of() {
    let fresh = Fresh::start(&["--web-enable-admin-api"]);
    let mut client = fresh.client();
    fill(&mut client, now_ms());
    let mut page = |path: &str| client.get(path).unwrap().json().unwrap()["data"].clone();
    let rows = |list: &Value| -> Vec<(String, u64)> {
        let row = |r: &Value| (r["name"].as_str().unwrap().to_owned(), r["value"].as_u64().unwrap());
        list.as_array().unwrap().iter().map(row).collect()
    };
    let expect = |pairs: &[(&str, u64)]| pairs.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect::<Vec<_>>();
    // The same in memory and in blocks.
    for round in 0..2 {
        let tsdb = page("/api/v1/status/tsdb");
        assert_eq!(
            (&tsdb["headStats"]["numSeries"], &tsdb["headStats"]["numLabelPairs"]),
            (&json!(3), &json!(4))
        );
        assert_eq!(rows(&tsdb["seriesCountByMetricName"]), expect(&[("m", 2), ("other", 1)]));
        assert_eq!(rows(&tsdb["labelValueCountByLabelName"]), expect(&[("__name__", 2), ("job", 2)]));
        assert_eq!(rows(&tsdb["memoryInBytesByLabelName"]), expect(&[("__name__", 7), ("job", 4)]));
        let pairs = expect(&[("__name__=m", 2), ("job=a", 2), ("__name__=other", 1), ("job=bb", 1)]);
        assert_eq!(rows(&tsdb["seriesCountByLabelValuePair"]), pairs);
        assert_eq!(rows(&page("/api/v1/status/tsdb?limit=1")["seriesCountByMetricName"]).len(), 1);
        let blocks = page("/api/v1/status/tsdb/blocks")["blocks"].clone();
        if round == 0 {
            assert_eq!(blocks, json!([]));
            fresh.client().request("POST", ORDERS[2], &[], b"").unwrap();
        } else {
            let series: u64 =
                blocks.as_array().unwrap().iter().map(|b| b["stats"]["numSeries"].as_u64().unwrap()).sum();
            assert_eq!(series, 3, "{blocks}");
            assert_eq!(blocks[0]["ulid"].as_str().unwrap().len(), 26);
            assert!(blocks[0]["maxTime"].as_i64() > blocks[0]["minTime"].as_i64());
        }
    }
    let bad = [("/api/v1/status/tsdb?limit=10001", 400), ("/api/v1/status/tsdb?limit=-1", 400)];
    for (path, status) in bad {
        assert_eq!(fresh.client().get(path).unwrap().status, status, "{path}");
    }
}

#[test]
fn pages_have_the_shapes_clients_read() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let same = [
        ("targets?state=active", r#"{"activeTargets":[],"droppedTargetCounts":{},"droppedTargets":[]}"#),
        ("targets/metadata?match_target={}&limit=3", "[]"),
        ("scrape_pools", r#"{"scrapePools":[]}"#),
        ("alertmanagers", r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#),
        ("notifications", "[]"),
    ];
    for (path, data) in same {
        let response = client.get(&format!("/api/v1/{path}")).unwrap();
        let expected = format!(r#"{{"status":"success","data":{data}}}"#);
        assert_eq!((response.status, response.text()), (200, expected), "{path}");
    }
    let info = client.get("/api/v1/status/runtimeinfo").unwrap().json().unwrap()["data"].clone();
    let keys = [
        "startTime",
        "CWD",
        "hostname",
        "serverTime",
        "reloadConfigSuccess",
        "lastConfigTime",
        "corruptionCount",
        "goroutineCount",
        "GOMAXPROCS",
        "GOMEMLIMIT",
        "GOGC",
        "GODEBUG",
        "storageRetention",
    ];
    for key in keys {
        assert!(info.get(key).is_some(), "{key} in {info}");
    }
    assert_eq!((&info["storageRetention"], &info["reloadConfigSuccess"]), (&json!("1296000s"), &json!(true)));
    let path = "/api/v1/status/self_metrics?metric_name_pattern=kymo_(ingest_samples_total|http_request_duration_seconds)";
    let families = client.get(path).unwrap().json().unwrap()["data"].clone();
    let counter = families.as_array().unwrap().iter().find(|f| f["type"] == "COUNTER").unwrap();
    assert_eq!(counter["metric"], json!([{ "label": [], "counter": { "value": 0.0 } }]));
    let histogram = families.as_array().unwrap().iter().find(|f| f["type"] == "HISTOGRAM").unwrap();
    let last = histogram["metric"][0]["histogram"]["bucket"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["upperBound"], "Infinity");
    assert_eq!(last["cumulativeCount"], histogram["metric"][0]["histogram"]["sampleCount"]);
    assert_eq!(client.get("/api/v1/status/self_metrics?metric_name_pattern=(").unwrap().status, 400);
}

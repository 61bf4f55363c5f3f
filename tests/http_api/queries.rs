//! Query endpoints: answers byte for byte, errors with their texts, limits.

use crate::{Fresh, now_ms, store};
use kymo_tests::http::{Client, escape};
use kymo_tests::remote_write::TimeSeries;

/// A store with three series at `t` (milliseconds).
fn filled() -> (Fresh, Client, i64) {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms() - 60_000;
    let series = [
        TimeSeries::new("m", &[("job", "a"), ("q", "x\"<")], vec![(t, 1e22), (t + 15_280, 2.5)]),
        TimeSeries::new("m", &[("job", "b")], vec![(t, 1e-7)]),
        TimeSeries::new("other", &[("job", "b"), ("k.x", "v")], vec![(t, f64::NAN)]),
    ];
    store(&mut client, &series);
    (fresh, client, t)
}

fn seconds(t: i64) -> String {
    format!("{}", t / 1_000)
}

#[test]
fn answers_byte_for_byte() {
    let (_fresh, mut client, t) = filled();
    let s = seconds(t);
    let later = format!("{}.280", t / 1_000 + 15);
    let cases = [
        (format!("query?query=1&time={s}"), format!(r#"{{"resultType":"scalar","result":[{s},"1"]}}"#)),
        (
            format!("query?query=1e22&time={s}.5"),
            format!(r#"{{"resultType":"scalar","result":[{s}.5,"10000000000000000000000"]}}"#),
        ),
        (
            format!("query?query=%22a%3Cb%22&time={s}"),
            format!(r#"{{"resultType":"string","result":[{s},"a\u003cb"]}}"#),
        ),
        (
            format!("query?query=sort(m)&time={s}"),
            format!(
                r#"{{"resultType":"vector","result":[{{"metric":{{"__name__":"m","job":"b"}},"value":[{s},"1e-07"]}},{{"metric":{{"__name__":"m","job":"a","q":"x\"\u003c"}},"value":[{s},"1e+22"]}}]}}"#
            ),
        ),
        (
            format!("query?query=m{{job=%22a%22}}[1m]&time={}", t / 1_000 + 30),
            format!(
                r#"{{"resultType":"matrix","result":[{{"metric":{{"__name__":"m","job":"a","q":"x\"\u003c"}},"values":[[{s},"1e+22"],[{later},"2.5"]]}}]}}"#
            ),
        ),
        (
            format!("query_range?query=other&start={s}&end={}&step=1", t / 1_000 + 1),
            format!(
                r#"{{"resultType":"matrix","result":[{{"metric":{{"__name__":"other","job":"b","k.x":"v"}},"values":[[{s},"NaN"],[{},"NaN"]]}}]}}"#,
                t / 1_000 + 1
            ),
        ),
        (format!("query?query=none&time={s}"), r#"{"resultType":"vector","result":[]}"#.to_owned()),
        (format!("query_range?query=none&start={s}&end={s}&step=1"), r#"{"resultType":"matrix","result":[]}"#.to_owned()),
        (r#"series?match[]=m&match[]={job="b"}"#.to_owned(), r#"[{"__name__":"m","job":"a","q":"x\"\u003c"},{"__name__":"m","job":"b"},{"__name__":"other","job":"b","k.x":"v"}]"#.to_owned()),
        ("labels".to_owned(), r#"["__name__","job","k.x","q"]"#.to_owned()),
        ("labels?match[]=m".to_owned(), r#"["__name__","job","q"]"#.to_owned()),
        ("label/job/values".to_owned(), r#"["a","b"]"#.to_owned()),
        ("label/job/values?match[]=other".to_owned(), r#"["b"]"#.to_owned()),
        ("label/U__k_2e_x/values".to_owned(), r#"["v"]"#.to_owned()),
        ("label/__name__/values".to_owned(), r#"["m","other"]"#.to_owned()),
        ("label/nope/values".to_owned(), "[]".to_owned()),
        ("format_query?query=sum(m)by(job)".to_owned(), r#""sum by (job) (m)""#.to_owned()),
    ];
    for (path, data) in cases {
        let target = format!("/api/v1/{}", path.replace('{', "%7B").replace('}', "%7D").replace('"', "%22"));
        let response = client.get(&target).unwrap();
        assert_eq!(response.text(), format!(r#"{{"status":"success","data":{data}}}"#), "{path}");
    }
}

#[test]
fn parameters_come_from_form_and_url() {
    let (_fresh, mut client, t) = filled();
    let time = seconds(t);
    let both = client.post_form(&format!("/api/v1/query?time={time}"), &[("query", "count(m)")]).unwrap();
    assert!(both.text().ends_with(&format!(r#""value":[{time},"2"]}}]}}}}"#)), "{}", both.text());
    let forms: [(&str, &[(&str, &str)]); 4] = [
        ("/api/v1/query_range", &[("query", "m"), ("start", &time), ("end", &time), ("step", "15s")]),
        ("/api/v1/series", &[("match[]", "m")]),
        ("/api/v1/labels", &[("match[]", "m"), ("limit", "40000")]),
        ("/api/v1/query_exemplars", &[("query", "m")]),
    ];
    for (path, fields) in forms {
        let response = client.post_form(path, fields).unwrap();
        assert_eq!(response.status, 200, "{path}: {}", response.text());
    }
    let rfc = client.get("/api/v1/query?query=time()&time=1970-01-01T01:00:00.5%2B01:00").unwrap();
    assert_eq!(rfc.text(), r#"{"status":"success","data":{"resultType":"scalar","result":[0.5,"0.5"]}}"#);
    // Grafana's "Save & test".
    assert_eq!(client.post_form("/api/v1/query", &[("query", "1+1"), ("time", "4")]).unwrap().status, 200);
}

#[test]
fn errors_have_their_texts() {
    let (_fresh, mut client, _) = filled();
    let range = |rest: &str| format!("query_range?query=m&{rest}");
    let exceeded = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
    let cases: [(String, u16, &str, &str); 22] = [
        (
            "query".into(),
            400,
            "bad_data",
            "invalid parameter \"query\": unknown position: parse error: no expression found in input",
        ),
        ("query?query=sum(".into(), 400, "bad_data", "parse error"),
        (
            "query?query=rate(m)".into(),
            400,
            "bad_data",
            "invalid parameter \"query\": 1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        (
            "query?query=1&time=abc".into(),
            400,
            "bad_data",
            "invalid parameter \"time\": invalid time value for 'time': cannot parse \"abc\" to a valid timestamp",
        ),
        (
            "query?query=1&timeout=x".into(),
            400,
            "bad_data",
            "invalid parameter \"timeout\": cannot parse \"x\" to a valid duration",
        ),
        ("query?query=1&limit=-1".into(), 400, "bad_data", "limit must be non-negative"),
        ("query?query=1&limit=x".into(), 400, "bad_data", "invalid parameter \"limit\""),
        ("query?query=%zz".into(), 400, "bad_data", "invalid URL escape"),
        (
            range("end=1&step=1"),
            400,
            "bad_data",
            "invalid parameter \"start\": cannot parse \"\" to a valid timestamp",
        ),
        (
            range("start=2&end=1&step=1"),
            400,
            "bad_data",
            "invalid parameter \"end\": end timestamp must not be before start time",
        ),
        (
            range("start=1&end=2"),
            400,
            "bad_data",
            "invalid parameter \"step\": cannot parse \"\" to a valid duration",
        ),
        (
            range("start=1&end=2&step=0"),
            400,
            "bad_data",
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
        ),
        (range("start=1&end=2&step=-5"), 400, "bad_data", "zero or negative"),
        (range("start=0&end=11001&step=1"), 400, "bad_data", exceeded),
        (
            "query_range?query=m[5m]&start=1&end=2&step=1".into(),
            400,
            "bad_data",
            "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
        ),
        ("query?query=m*on(none)m".into(), 422, "execution", "many-to-many"),
        ("series".into(), 400, "bad_data", "no match[] parameter provided"),
        (
            "series?match[]=%7B%7D".into(),
            400,
            "bad_data",
            "match[] must contain at least one non-empty matcher",
        ),
        ("series?match[]=m%7B".into(), 400, "bad_data", "invalid parameter \"match[]\": 1:3: parse error"),
        ("labels?match[]=%7Ba%3D~%22%28%22%7D".into(), 400, "bad_data", "error parsing regexp"),
        (
            "label/x/values?start=abc".into(),
            400,
            "bad_data",
            "invalid parameter \"start\": invalid time value for 'start'",
        ),
        ("label/%ff/values".into(), 400, "bad_data", "invalid label name"),
    ];
    for (path, status, error_type, text) in cases {
        let response = client.get(&format!("/api/v1/{path}")).unwrap();
        assert_eq!(response.status, status, "{path}: {}", response.text());
        let page = response.json().unwrap();
        assert_eq!(
            (page["status"].as_str(), page["errorType"].as_str()),
            (Some("error"), Some(error_type)),
            "{path}"
        );
        let error = page["error"].as_str().unwrap();
        assert!(error.contains(text), "{path}: {error}");
    }
}

#[test]
fn limits_and_notes() {
    let (_fresh, mut client, t) = filled();
    let time = seconds(t);
    let truncated = r#""warnings":["results truncated due to limit"]"#;
    for path in [
        format!("query?query=m&limit=1&time={time}"),
        format!("query_range?query=m&limit=1&start={time}&end={time}&step=1"),
        "series?match[]=m&limit=1".to_owned(),
        "labels?limit=1".to_owned(),
        "label/job/values?limit=1".to_owned(),
    ] {
        let text = client.get(&format!("/api/v1/{path}")).unwrap().text();
        assert!(text.contains(truncated), "{path}: {text}");
        let all = client.get(&format!("/api/v1/{}", path.replace("limit=1", "limit=0"))).unwrap().text();
        assert!(!all.contains(truncated), "{path}: {all}");
    }
    let exact = client.get("/api/v1/label/job/values?limit=2").unwrap().text();
    assert!(!exact.contains(truncated), "{exact}");
    let noted = client.get(&format!("/api/v1/query?query=rate(m%5B1m%5D)&time={}", t / 1_000 + 30));
    let noted = noted.unwrap().text();
    assert!(noted.contains(r#""infos":["PromQL info: metric might not be a counter"#), "{noted}");
    let stats = client.get("/api/v1/query?query=m&stats=true").unwrap().json().unwrap();
    assert!(stats["data"]["stats"]["samples"]["totalQueryableSamples"].is_u64());
    let deprecated = client.get("/api/v1/query?query=m&stats=1").unwrap().text();
    assert!(deprecated.contains("is deprecated"), "{deprecated}");
    let short =
        client.get(&format!("/api/v1/query?query=m&time={}&lookback_delta=1s", t / 1_000 + 5)).unwrap();
    assert!(short.text().contains(r#""result":[]"#), "{}", short.text());
    let most = client.get("/api/v1/query_range?query=1&start=0&end=11000&step=1").unwrap();
    assert_eq!(most.status, 200, "11,001 points are the most");
}

#[test]
fn long_deep_and_wide_queries_are_refused() {
    let (fresh, mut client, _) = filled();
    let repeat = |text: &str, n: usize| text.repeat(n);
    let cases = [
        ("parentheses", format!("{}1{}", repeat("(", 20_000), repeat(")", 20_000))),
        ("signs", format!("{}1", repeat("-", 100_000))),
        ("terms", format!("1{}", repeat("+1", 100_000))),
        ("subqueries", format!("m{}", repeat("[1m:1s]", 2_000))),
        ("calls", format!("{}m{}", repeat("abs(", 10_000), repeat(")", 10_000))),
        ("labels", format!("sum by ({}) (m)", repeat("a,", 100_000))),
        ("a long string", format!("\"{}\"", repeat("x", 100_000))),
        ("scraps of UTF-8", repeat("é(", 20_000)),
        ("a regex bomb", "m{a=~\"(((((a{1,100}){1,100}){1,100}){1,100}){1,100})\"}".to_owned()),
        ("over the body's limit", repeat("x", 3 << 20)),
    ];
    for (what, query) in cases {
        let mut client = fresh.client().with_timeout(std::time::Duration::from_secs(5));
        let body = format!("query={}", escape(&query));
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        match client.request("POST", "/api/v1/query", &headers, body.as_bytes()) {
            Ok(response) => assert!([400, 413].contains(&response.status), "{what}: {}", response.text()),
            // A body that is refused before it is read may end in a broken pipe.
            Err(error) => assert!(
                what.starts_with("over") && error.kind() != std::io::ErrorKind::WouldBlock,
                "{what}: {error}"
            ),
        }
        let selector = format!("/api/v1/series?match[]={}", escape(&query));
        if selector.len() < 60_000 {
            let response = client.get(&selector).unwrap();
            assert_eq!(response.status, 400, "{what} as match[]: {}", response.text());
        }
    }
    assert_eq!(client.get("/-/ready").unwrap().status, 200);
}

/// Runs for many seconds in little memory: a quantile of 3,600 samples at each of 864,000 steps.
const HEAVY: &str = "sum_over_time(quantile_over_time(0.5, vector(time())[1h:1s])[10d:1s])";

/// The value of one line of `/metrics`, 0 if it is not there.
fn metric(client: &mut Client, line: &str) -> f64 {
    let page = client.get("/metrics").unwrap().text();
    let found = page.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or(0.0)
}

#[test]
fn a_query_ends_when_its_client_leaves() {
    let fresh = Fresh::start(&["--query-max-concurrency=1"]);
    let mut leaving = std::net::TcpStream::connect(fresh.server.address()).unwrap();
    let head = format!("GET /api/v1/query?query={} HTTP/1.1\r\nhost: x\r\n\r\n", escape(HEAVY));
    std::io::Write::write_all(&mut leaving, head.as_bytes()).unwrap();
    let mut client = fresh.client();
    let mut wait_for = |line: &str, wanted: f64| {
        let limit = std::time::Duration::from_secs(10);
        let pause = std::time::Duration::from_millis(10);
        let mut waited = std::time::Duration::ZERO;
        while metric(&mut client, line) != wanted {
            assert!(waited < limit, "{line} is not {wanted}");
            std::thread::sleep(pause);
            waited += pause;
        }
    };
    wait_for("kymo_queries_running", 1.0);
    // Health does not wait behind the gate, a query does.
    assert_eq!(fresh.client().get("/-/healthy").unwrap().status, 200);
    let mut second = fresh.client();
    let waiting = std::thread::spawn(move || second.get("/api/v1/query?query=1").unwrap().status);
    wait_for("kymo_queries_waiting", 1.0);
    drop(leaving);
    assert_eq!(waiting.join().unwrap(), 200, "the place of the query whose client left is free");
    wait_for("kymo_queries_total{outcome=\"canceled\"}", 1.0);
    wait_for("kymo_queries_running", 0.0);
}

#[test]
fn queries_over_a_limit_name_it() {
    let fresh = Fresh::start(&["--query-max-samples=2000", "--query-max-points=100"]);
    let mut client = fresh.client();
    let now = now_ms() - 1_000;
    let samples: Vec<(i64, f64)> = (0..3_000).map(|i| (now - i * 100, 1.0)).collect();
    store(&mut client, &[TimeSeries::new("m", &[], samples)]);
    let cases: [(String, u16, &str); 3] = [
        (format!("query?query={}", escape(HEAVY)), 422, "the limit of samples is 2000, the query needs"),
        ("query?query=m[10m]".to_owned(), 422, "too many samples"),
        ("query_range?query=m&start=0&end=101&step=1".to_owned(), 400, "maximum resolution of 100 points"),
    ];
    for (path, status, text) in cases {
        let response = client.get(&format!("/api/v1/{path}")).unwrap();
        assert_eq!(response.status, status, "{path}: {}", response.text());
        assert!(response.text().contains(text), "{path}: {}", response.text());
    }
    let timed = Fresh::start(&[]);
    let path = format!("/api/v1/query?query={}&timeout=300ms", escape(HEAVY));
    let response = timed.client().get(&path).unwrap();
    assert_eq!((response.status, response.header("retry-after")), (503, Some("5")), "{}", response.text());
    assert_eq!(response.json().unwrap()["errorType"], "timeout");
}

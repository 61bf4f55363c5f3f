//! Imports and exports: what comes in by each door is what queries and the export give, bit for bit.

use crate::{Fresh, ask, count, now_ms};
use kymo_tests::http::Client;
use serde_json::json;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

fn post(client: &mut Client, path: &str, media: &str, body: &str) -> (u16, String) {
    let response = client.request("POST", path, &[("Content-Type", media)], body.as_bytes()).unwrap();
    (response.status, response.text())
}

/// The lines of an export, in order.
fn export(client: &mut Client, query: &str) -> Vec<String> {
    let response = client.get(&format!("/api/v1/export?{query}")).unwrap();
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/stream+json; charset=utf-8"));
    response.text().lines().map(str::to_owned).collect()
}

const ALL: &str = "match[]=%7B__name__%3D~%22.%2B%22%7D";

#[test]
fn the_text_format() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let now = now_ms();
    let body = format!(
        "# HELP req_total Requests \\\\ served.\n# TYPE req_total counter\nreq_total{{code=\"200\"}} 7 {now}\r\n\n\
         req_total{{code=\"a\\\"b\\n\"}} 1\nbroken line\n{{\"utf8.name\",\"x y\"=\"é\"}} NaN {now}\nreq_total 1e3 {now} 5\ntemp -Inf {now}"
    );
    let path = format!("/api/v1/import/prometheus?timestamp={}&extra_label=job=i", now - 1_000);
    let (status, text) = post(&mut client, &path, "text/plain; version=0.0.4", &body);
    let expected = format!(
        "2 lines refused, 4 samples of the others are stored: line 6: column 8: \"line\" is no number\n\
         line 8: column {}: \"5\" is too much\n",
        "req_total 1e3  ".len() + now.to_string().len() + 1
    );
    assert_eq!((status, text.as_str()), (400, expected.as_str()));
    assert_eq!(count(&mut client, "req_total{job=\"i\"}", now), 2);
    let late = ask(&mut client, "timestamp(req_total{code=\"a\\\"b\\n\"})", now);
    assert_eq!(late[0]["value"][1].as_str(), Some(format!("{}", (now - 1_000) / 1000).as_str()));
    assert_eq!(count(&mut client, "{\"utf8.name\",\"x y\"=\"é\"}", now), 1);
    let about = client.get("/api/v1/metadata?metric=req_total").unwrap().json().unwrap()["data"].clone();
    assert_eq!(about["req_total"], json!([{ "type": "counter", "help": "Requests \\ served.", "unit": "" }]));
    assert_eq!(post(&mut client, "/api/v1/import/prometheus", "text/plain", "a 1\n"), (204, String::new()));
    assert_eq!(post(&mut client, "/api/v1/import/prometheus", "application/x-protobuf", "").0, 415);
    for query in ["timestamp=soon", "extra_label=x"] {
        let path = format!("/api/v1/import/prometheus?{query}");
        assert_eq!(post(&mut client, &path, "text/plain", "a 1\n").0, 400, "{query}");
    }
}

#[test]
fn open_metrics_with_exemplars_and_starts() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let now = now_ms() / 1000;
    let media = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let body = format!(
        "# TYPE job counter\n# UNIT job seconds\njob_total{{a=\"1\"}} 5 {now} # {{trace_id=\"x\"}} 0.5 {now}.25\n\
         job_created{{a=\"1\"}} {}\njob_total{{a=\"2\"}} 6 {now}\n# TYPE g gauge\ng_created 1 {now}\n# EOF\n",
        now - 100
    );
    assert_eq!(post(&mut client, "/api/v1/import/prometheus", media, &body), (204, String::new()));
    let lines = export(&mut client, ALL);
    let ms = now * 1000;
    let expected = [
        format!(r#"{{"metric":{{"__name__":"g_created"}},"values":[1],"timestamps":[{ms}]}}"#),
        format!(
            r#"{{"metric":{{"__name__":"job_total","a":"1"}},"values":[5],"timestamps":[{ms}],"start_timestamps":[{}]}}"#,
            ms - 100_000
        ),
        format!(r#"{{"metric":{{"__name__":"job_total","a":"2"}},"values":[6],"timestamps":[{ms}]}}"#),
    ];
    assert_eq!(lines, expected);
    let path = format!("/api/v1/query_exemplars?query=job_total&start={}&end={}", now - 10, now + 10);
    let exemplars = client.get(&path).unwrap().json().unwrap()["data"].clone();
    assert_eq!(exemplars[0]["exemplars"][0]["labels"], json!({ "trace_id": "x" }));
    let about = client.get("/api/v1/metadata?metric=job").unwrap().json().unwrap()["data"].clone();
    assert_eq!(about["job"], json!([{ "type": "counter", "help": "", "unit": "seconds" }]));
    let cut = post(&mut client, "/api/v1/import/prometheus", media, "# TYPE g gauge\ng 1\n");
    let text = "1 lines refused, 1 samples of the others are stored: line 2: behind it # EOF is missing: the body is cut short\n";
    assert_eq!((cut.0, cut.1.as_str()), (400, text));
    let more = post(&mut client, "/api/v1/import/prometheus", media, "# EOF\ng 2\n");
    assert_eq!(more.0, 400, "{}", more.1);
}

#[test]
fn influx_lines() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let now = now_ms();
    let response = client.get("/ping").unwrap();
    assert_eq!((response.status, response.header("x-influxdb-version")), (204, Some("1.8.10")));
    let body = format!(
        "cpu,host=a\\ b,db=own usage=0.5,cores=8i,up=t,note=\"two\nlines\" {now}\ncpu,host=c usage=1u,note=\"x\" {now}\n"
    );
    let response = client.request("POST", "/write?db=tele&precision=ms", &[], body.as_bytes()).unwrap();
    assert_eq!((response.status, response.text().as_str()), (204, ""));
    assert_eq!(response.header("x-kymo-skipped-fields"), Some("2"));
    assert_eq!(response.header("x-kymo-skipped-field-names"), Some("cpu_note"));
    let lines = export(&mut client, ALL);
    let line = |name: &str, db: &str, host: &str, value: &str| {
        format!(
            r#"{{"metric":{{"__name__":"{name}","db":"{db}","host":"{host}"}},"values":[{value}],"timestamps":[{now}]}}"#
        )
    };
    let expected = [
        line("cpu_cores", "own", "a b", "8"),
        line("cpu_up", "own", "a b", "1"),
        line("cpu_usage", "own", "a b", "0.5"),
        line("cpu_usage", "tele", "c", "1"),
    ];
    assert_eq!(lines, expected);
    // Version 2 has other words for the same.
    let at = now / 1000 - 1;
    let path = "/api/v2/write?org=o&bucket=b/autogen&precision=s";
    let (status, text) = post(&mut client, path, "text/plain", &format!("m v=1 {at}\nm v=x {at}\n"));
    let expected = r#"{"code":"invalid","message":"partial write: 1 lines refused, 1 samples of the others are stored: line 2: column 5: \"x\" is no value of a field"}"#;
    assert_eq!((status, text.as_str()), (400, expected));
    assert_eq!(count(&mut client, "m_v{db=\"b/autogen\"}", now), 1);
    let (status, text) = post(&mut client, "/write?precision=d", "text/plain", "m v=1\n");
    let expected = r#"{"error":"invalid precision \"d\" (use n, ns, u, us, ms, s, m or h)"}"#;
    assert_eq!((status, text.as_str()), (400, expected));
}

#[test]
fn what_is_exported_is_imported_bit_for_bit() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let now = now_ms();
    let values = [
        "-0",
        "5e-324",
        "0.1",
        "1.7976931348623157e308",
        "\"NaN\"",
        "\"StaleNaN\"",
        "\"Infinity\"",
        "\"-Infinity\"",
        "\"NaN:7ff8000000000abc\"",
        "123456789.12345679",
    ];
    let times: Vec<String> = (0..values.len() as i64).map(|i| (now - i * 1000).to_string()).rev().collect();
    let floats = format!(
        r#"{{"metric":{{"__name__":"f","q":"\"\\\n<é"}},"values":[{}],"timestamps":[{}]}}"#,
        values.join(","),
        times.join(",")
    );
    let histograms = format!(
        r#"{{"metric":{{"__name__":"h"}},"values":[],"timestamps":[],"histograms":[{{"timestamp":{now},"start_timestamp":{},"hint":0,"schema":3,"zero_threshold":"0.001","zero_count":"2","count":"5","sum":"18.4","positive":{{"spans":[[0,2]],"counts":["1","2"]}},"negative":{{"spans":[],"counts":[]}},"custom_bounds":[]}}]}}"#,
        now - 5_000
    );
    let body = format!("{floats}\n\n{histograms}\n");
    assert_eq!(post(&mut client, "/api/v1/import", "application/json", &body), (204, String::new()));
    let lines = export(&mut client, ALL);
    let parsed = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    // Kymo writes the angle bracket as an escape; else it is byte for byte what came.
    assert_eq!(lines[0].replace("\\u003c", "<"), floats);
    assert_eq!(parsed(&lines[1]), parsed(&histograms));
    // Into another store, compressed, and out again; also by POST, and both selectors name the same series.
    let other = Fresh::start(&[]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let mut second = other.client();
    let packed = gzip.finish().unwrap();
    let headers = [("Content-Encoding", "gzip")];
    assert_eq!(second.request("POST", "/api/v1/import", &headers, &packed).unwrap().status, 204);
    assert_eq!(export(&mut second, ALL), lines);
    assert_eq!(export(&mut second, &format!("match[]=f&{ALL}")), lines);
    assert_eq!(export(&mut second, &format!("{ALL}&start={}", now / 1000 + 1)), Vec::<String>::new());
    let form = second.post_form("/api/v1/export", &[("match[]", "h")]).unwrap();
    assert_eq!(form.text().trim_end(), lines[1]);
    let count = ask(&mut second, "histogram_count(h)", now);
    assert_eq!(count[0]["value"][1], "5");
    // A body that is cut short is no whole one, whatever of it is stored.
    let cut = second.request("POST", "/api/v1/import", &headers, &packed[..packed.len() - 9]).unwrap();
    assert_eq!(cut.status, 400);
    assert!(cut.text().contains("cut short"), "{}", cut.text());
    let snappy = second.request("POST", "/api/v1/import", &[("Content-Encoding", "snappy")], b"").unwrap();
    assert_eq!(
        (snappy.status, snappy.text().as_str()),
        (415, "snappy is not accepted here, only gzip and zstd\n")
    );
    for path in ["/api/v1/export", "/api/v1/export?match[]=%7B", "/api/v1/export?match[]=a&start=2&end=1"] {
        assert_eq!(second.get(path).unwrap().status, 400, "{path}");
    }
}

#[test]
fn long_imports_come_out_whole_and_endless_lines_are_cut() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let now = now_ms();
    let mut body = String::new();
    let (series, samples) = (200, 500);
    for i in 0..series {
        let times: Vec<String> = (0..samples).map(|t| (now - 1_000 * (samples - t)).to_string()).collect();
        let values: Vec<String> = (0..samples).map(|t| format!("{}.5", i * t)).collect();
        body.push_str(&format!(
            "{{\"metric\":{{\"__name__\":\"m\",\"i\":\"{i:03}\"}},\"values\":[{}],\"timestamps\":[{}]}}\n",
            values.join(","),
            times.join(",")
        ));
    }
    assert_eq!(post(&mut client, "/api/v1/import", "text/plain", &body), (204, String::new()));
    let lines = export(&mut client, ALL);
    assert!(lines.join("\n") == body.trim_end(), "{} lines of {series}", lines.len());
    // A line without end is refused at its limit, not gathered.
    let endless = vec![b'x'; 9 << 20];
    for path in ["/api/v1/import", "/api/v1/import/prometheus", "/write"] {
        let response = fresh.client().request("POST", path, &[], &endless);
        if let Ok(response) = response {
            assert_eq!(response.status, 413, "{path} {}", response.text());
            assert!(response.text().contains("longer than the limit of 2097152 bytes"), "{path}");
        }
    }
    // The server goes on.
    assert_eq!(fresh.client().get("/-/ready").unwrap().status, 200);
}

#[test]
fn an_export_that_nobody_takes_keeps_nobody_waiting() {
    let fresh = Fresh::start(&["--query-max-concurrency=1"]);
    let mut client = fresh.client().with_timeout(Duration::from_secs(5));
    let start = now_ms() - 3_600_000;
    // More than the buffers of a connection hold, in numbers that compress badly.
    let (series, samples) = (300_u64, 1_000_u64);
    let mut body = String::new();
    for i in 0..series {
        for t in 0..samples {
            let value = (i * samples + t + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12;
            body.push_str(&format!("m{{i=\"{i}\"}} 0.{value} {}\n", start as u64 + t * 1_000));
        }
    }
    assert_eq!(post(&mut client, "/api/v1/import/prometheus", "text/plain", &body), (204, String::new()));
    let ask_for_all = |target: &str| {
        let mut stream = TcpStream::connect(fresh.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).unwrap();
        assert!(status.contains(" 200 "), "{status}");
        reader
    };
    // More of them than there are threads for connections.
    let mut waiting: Vec<_> = (0..16).map(|_| ask_for_all("/api/v1/export?match[]=m")).collect();
    for _ in 0..20 {
        assert_eq!(count(&mut client, "m", start + 10_000), series as usize);
    }
    let mut rest = String::new();
    waiting.remove(0).read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("{\"metric\":").count(), series as usize);
    assert!(rest.ends_with("0\r\n\r\n"), "whole");
}

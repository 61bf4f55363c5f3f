//! Paths, methods, headers, slow clients, shutdown.

use crate::{Fresh, now_ms, store};
use kymo_tests::remote_write::TimeSeries;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn long_answers_are_compressed_on_request() {
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    let t = now_ms();
    let series: Vec<TimeSeries> =
        (0..200).map(|i| TimeSeries::new("m", &[("i", &i.to_string())], vec![(t, 1.0)])).collect();
    store(&mut client, &series);
    let path = "/api/v1/series?match[]=m";
    let plain = client.get(path).unwrap();
    for encoding in ["gzip", "deflate", "zstd"] {
        let packed = client.request("GET", path, &[("Accept-Encoding", encoding)], b"").unwrap();
        assert_eq!(packed.header("content-encoding"), Some(encoding));
        assert_eq!(packed.header("vary"), Some("Accept-Encoding"));
        let mut text = String::new();
        let mut bytes = packed.body.as_slice();
        let read = match encoding {
            "gzip" => flate2::read::GzDecoder::new(&mut bytes).read_to_string(&mut text),
            "zstd" => zstd::stream::read::Decoder::new(&mut bytes).unwrap().read_to_string(&mut text),
            _ => flate2::read::ZlibDecoder::new(&mut bytes).read_to_string(&mut text),
        };
        assert!(read.is_ok());
        assert_eq!(text, plain.text());
        assert!(packed.body.len() * 4 < plain.body.len());
    }
    for (accepted, chosen) in
        [("br", None), ("gzip;q=0.1, zstd;q=0", Some("gzip")), ("gzip;q=0.5, deflate", Some("deflate"))]
    {
        let packed = client.request("GET", path, &[("Accept-Encoding", accepted)], b"").unwrap();
        assert_eq!(packed.header("content-encoding"), chosen, "{accepted}");
    }
}

#[test]
fn http_oddities() {
    let fresh = Fresh::start(&[]);
    let huge = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100_000));
    let chunk =
        "POST /api/v1/write HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n7fffffffffffffff\r\nabc";
    let two_lengths =
        "POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd";
    let long_length = "POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n";
    let cases: [(&str, &[u8]); 6] = [
        ("a header of 1 MiB", huge.as_bytes()),
        ("100,000 headers", many.as_bytes()),
        ("a chunk of 2^63 - 1", chunk.as_bytes()),
        ("two lengths", two_lengths.as_bytes()),
        ("a length of 100 GB", long_length.as_bytes()),
        ("not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    ];
    for (what, bytes) in cases {
        let mut stream = TcpStream::connect(fresh.server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The server may close before it has read all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 4"), "{what}: {text}");
    }
    assert_eq!(fresh.client().get("/-/healthy").unwrap().status, 200);
}

#[test]
fn slow_heads_are_cut_and_others_served_meanwhile() {
    let fresh = Fresh::start(&[]);
    let mut slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(fresh.server.address()).unwrap();
            stream.write_all(b"GET /-/healthy HTTP/1.1\r\nx: ").unwrap();
            stream
        })
        .collect();
    let mut client = fresh.client();
    for _ in 0..20 {
        assert_eq!(client.get("/api/v1/query?query=1").unwrap().status, 200);
    }
    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        assert_eq!(stream.read_to_end(&mut rest).unwrap_or(0), 0, "closed without an answer");
    }
}

#[test]
fn connections_beyond_the_limit_are_closed() {
    let fresh = Fresh::start(&["--max-connections=20"]);
    // More are refused at a time than are listened to: those beyond are told as well.
    let mut held: Vec<TcpStream> =
        (0..120).map(|_| TcpStream::connect(fresh.server.address()).unwrap()).collect();
    let mut closed = 0;
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut text = String::new();
        if stream.read_to_string(&mut text).is_ok() {
            assert!(
                text.starts_with("HTTP/1.1 503") && text.ends_with("the limit is set by --max-connections\n"),
                "{text}"
            );
            closed += 1;
        }
    }
    assert!(closed >= 100, "{closed}");
    drop(held);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(fresh.client().get("/-/ready").unwrap().status, 200);
}

#[test]
fn sigterm_ends_it_in_order() {
    let mut fresh = Fresh::start(&[]);
    store(&mut fresh.client(), &[TimeSeries::new("m", &[], vec![(now_ms(), 1.0)])]);
    // An idle connection must not hold it up.
    let mut idle = fresh.client();
    idle.get("/-/ready").unwrap();
    let status = fresh.server.terminate(Duration::from_secs(10)).unwrap();
    assert!(status.success(), "{status}: {}", fresh.server.output());
}

#[test]
fn a_taken_address_and_a_wrong_flag_are_said() {
    let fresh = Fresh::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let kymo = |arguments: &[&str]| {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_kymo"))
            .arg(format!("--data={}", dir.path().display()))
            .args(arguments)
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (success, text) = kymo(&[&format!("--listen={}", fresh.server.address())]);
    assert!(!success && text.contains("listen on 127.0.0.1"), "{text}");
    let (success, text) = kymo(&["--retention=soon"]);
    assert!(!success && text.contains("is not a duration"), "{text}");
    let (success, text) = kymo(&["--nope"]);
    assert!(!success && text.contains("--nope"), "{text}");
}

//! Clients that ask for long answers and do not take them: others are served meanwhile, and memory stays.

use crate::remote_read::{samples_request, stream_request};
use crate::{Fresh, now_ms};
use kymo_tests::hostile::allow_files;
use kymo_tests::http::escape;
use kymo_tests::load::Load;
use kymo_tests::remote_write::{Request, send};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Of each kind of request; many more than there are places for queries.
const EACH: usize = 25;

#[test]
fn slow_readers_hold_nobody_up() {
    let fresh =
        Fresh::start(&["--query-max-concurrency=4", "--query-memory=128MiB", "--web-write-timeout=6s"]);
    let mut client = fresh.client();
    let mut load = Load::new(7, 2_000);
    let last = now_ms() - 60_000;
    for step in 0..240 {
        let series = load.step(last - (239 - step) * 15_000);
        let response = send(&mut client, &Request::of(&series).compress()).unwrap();
        assert_eq!(response.status, 204, "{}", response.text());
    }
    let all = escape("{__name__=~\"load_metric.*\"}");
    let (start, end) = (last / 1000 - 3_600, last / 1000);
    let get = |target: String| format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes();
    let read = stream_request(start * 1000, end * 1000, "load_metric.*");
    let mut post = format!(
        "POST /api/v1/read HTTP/1.1\r\nhost: x\r\ncontent-encoding: snappy\r\ncontent-length: {}\r\n\r\n",
        read.len()
    )
    .into_bytes();
    post.extend_from_slice(&read);
    let requests = [
        get(format!("/api/v1/export?match[]={all}")),
        get(format!("/api/v1/query_range?query={all}&start={start}&end={end}&step=15")),
        get(format!("/api/v1/query?query={all}[2h]&time={end}")),
        post,
    ];
    let whole = client.get(&format!("/api/v1/export?match[]={all}")).unwrap().body.len();
    let before = fresh.server.usage().resident_bytes;
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..EACH {
        for request in &requests {
            let mut stream = TcpStream::connect(fresh.server.address()).unwrap();
            stream.write_all(request).unwrap();
            slow.push(stream);
        }
    }
    // All have had their turn when a last one has: turns are in the order of arrival.
    assert_eq!(client.get("/api/v1/query?query=1").unwrap().status, 200);
    std::thread::sleep(Duration::from_secs(1));
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            let started = Instant::now();
            let response = client.get("/api/v1/query?query=count(load_metric_0)").unwrap();
            assert_eq!(response.status, 200, "{}", response.text());
            started.elapsed()
        })
        .collect();
    times.sort();
    let more = fresh.server.usage().peak_resident_bytes.saturating_sub(before) >> 20;
    // What a query made is in the memory of all queries, and what finds no room there is refused; an answer that is read from the
    // store while it is sent has the labels of its series and some pieces.
    assert!(more <= 128 + 2 * slow.len() as u64, "{more} MiB more");
    println!("slow readers n={} query_ms={} rss_mib=+{more}", slow.len(), times[25].as_millis());
    assert!(times[25] < Duration::from_millis(100), "{times:?}");
    // One who takes it after all gets all of it; one who never does is cut off before the end.
    let mut late = slow.swap_remove(0);
    late.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut bytes = Vec::new();
    let _ = late.read_to_end(&mut bytes);
    assert!(bytes.ends_with(b"0\r\n\r\n") && bytes.len() >= whole, "{} of {whole} bytes", bytes.len());
    std::thread::sleep(Duration::from_secs(8));
    for mut stream in slow.into_iter().step_by(requests.len()).skip(1).take(3) {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(!rest.ends_with(b"0\r\n\r\n"), "an answer that was cut off looks whole");
    }
    assert!(!fresh.server.output().contains("panicked"));
}

/// Who keeps a connection for the next request holds little in the server until that comes.
#[test]
fn connections_between_requests_take_little() {
    const COUNT: u64 = 1_500;
    allow_files(COUNT + 500);
    let fresh = Fresh::start(&[]);
    let mut client = fresh.client();
    assert_eq!(client.get("/-/healthy").unwrap().status, 200);
    let before = fresh.server.usage().resident_bytes;
    let mut idle = Vec::new();
    for _ in 0..COUNT {
        let mut stream = TcpStream::connect(fresh.server.address()).unwrap();
        // One after the other: what each takes while it is answered goes to the next.
        let mut answer = [0; 1_024];
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        assert!(stream.read(&mut answer).unwrap() > 0);
        idle.push(stream);
    }
    let more = fresh.server.usage().resident_bytes.saturating_sub(before);
    println!("idle connections n={COUNT} bytes_each={}", more / COUNT);
    assert!(more / COUNT <= 6 << 10, "{more} bytes for {COUNT} connections");
    for mut stream in idle.into_iter().step_by(100) {
        let mut answer = [0; 1_024];
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let got = stream.read(&mut answer).unwrap();
        assert!(answer[..got].starts_with(b"HTTP/1.1 200"));
    }
}

/// A server with 2,000 series of 60 samples that end now, and their end in seconds.
fn loaded(arguments: &[&str]) -> (Fresh, i64) {
    let fresh = Fresh::start(arguments);
    let mut client = fresh.client();
    let mut load = Load::new(7, 2_000);
    let last = now_ms();
    for step in 0..60 {
        let series = load.step(last - (59 - step) * 2_000);
        let response = send(&mut client, &Request::of(&series).compress()).unwrap();
        assert_eq!(response.status, 204, "{}", response.text());
    }
    (fresh, last / 1_000)
}

fn metric(fresh: &Fresh, name: &str) -> u64 {
    let text = fresh.client().get("/metrics").unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or(" 0");
    line.trim().parse().unwrap()
}

fn wait_until(what: &str, fresh: &Fresh, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}: {}", fresh.server.output());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Of HTTP/2 a stream can be without room while its connection is well: nothing waits in the socket then.
#[test]
fn a_stream_without_room_gives_its_memory_back() {
    let (fresh, end) = loaded(&["--web-write-timeout=1s", "--web-idle-timeout=2s"]);
    let all = escape("{__name__=~\"load_metric.*\"}");
    let target = format!("/api/v1/query_range?query={all}&start={}&end={end}&step=2", end - 120);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(fresh.server.address()).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let (sender, connection) =
            builder.initial_window_size(0).handshake::<_, bytes::Bytes>(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut answers = Vec::new();
        for _ in 0..4 {
            let mut sender = sender.clone().ready().await.unwrap();
            let request =
                hyper::Request::builder().uri(format!("http://localhost{target}")).body(()).unwrap();
            let response = sender.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(response.status(), 200);
            answers.push(response.into_body());
        }
        tokio::task::block_in_place(|| {
            assert!(metric(&fresh, "kymo_query_memory_bytes ") > 1 << 20, "answers wait in memory");
            wait_until("the memory is given back", &fresh, || {
                metric(&fresh, "kymo_query_memory_bytes ") == 0
            });
            assert_eq!(metric(&fresh, "kymo_http_connections_cut_total{slow=\"answer\"} "), 4);
        });
        // The connection has no request any more: it is idle, and cut when that is over.
        assert!(tokio::time::timeout(Duration::from_secs(30), connection).await.is_ok());
        drop(answers);
    });
}

#[test]
fn an_answer_in_memory_is_not_taken_drop_by_drop() {
    let (fresh, end) = loaded(&["--web-write-timeout=1s"]);
    let all = escape("{__name__=~\"load_metric.*\"}");
    let mut stream = TcpStream::connect(fresh.server.address()).unwrap();
    let target = format!("/api/v1/query_range?query={all}&start={}&end={end}&step=0.02", end - 120);
    write!(stream, "GET {target} HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let began = Instant::now();
    let (mut piece, mut taken) = (vec![0; 64 << 10], 0);
    // Fast enough that the socket moves all the time, too slow for all of it.
    let is_cut = loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break true,
            Ok(n) => taken += n,
        }
        if began.elapsed() > Duration::from_secs(40) {
            break false;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(is_cut, "{taken} bytes in {:?}", began.elapsed());
    assert!(!piece.ends_with(b"0\r\n\r\n"));
    wait_until("its memory is given back", &fresh, || metric(&fresh, "kymo_query_memory_bytes ") == 0);
}

#[test]
fn lists_of_samples_are_in_the_memory_of_all_queries() {
    let (fresh, end) = loaded(&["--query-memory=1MiB"]);
    let mut client = fresh.client();
    let all = escape("{__name__=~\"load_metric.*\"}");
    let refused =
        client.get(&format!("/federate?match[]={all}&match[]={all}&match[]={all}&match[]={all}")).unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("bytes of all queries"), "{}", refused.text());
    let few = client.get(&format!("/federate?match[]={}", escape("load_metric_0"))).unwrap();
    assert_eq!(few.status, 200, "{}", few.text());
    let body = samples_request((end - 120) * 1_000, end * 1_000, "load_metric.*");
    let refused = client.request("POST", "/api/v1/read", &[("Content-Encoding", "snappy")], &body).unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("bytes of all queries"), "{}", refused.text());
    assert_eq!(metric(&fresh, "kymo_query_memory_bytes "), 0);
}

//! Mixed requests of every kind the server has: writes by each protocol, questions, orders, mistakes, and clients that leave
//! half way. Each is a function of a seed and its number.

use crate::http::{Client, escape};
use crate::prometheus_messages::{LabelMatcher, Query, ReadRequest};
use crate::remote_write::{self, Request, compress, label_bytes};
use crate::remote_write_v2;
use crate::rng::{Rng, mix};
use kymo_storage::model::{Buckets, FloatHistogram};
use prost::Message as _;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Series that are there from the first request to the last.
const FIXED: u64 = 400;
/// Samples of them in one write.
const FIXED_IN_A_WRITE: u64 = 15;
/// Series that come and go, in one write.
const CHURN_IN_A_WRITE: u64 = 5;
/// So many requests further, one of those is gone and another has come.
const CHURN_REQUESTS: u64 = 20;
/// How late samples are at most.
const LATE_MS: u64 = 6 * 3_600_000;
const HOUR_MS: i64 = 3_600_000;
const CENTURY_MS: i64 = 36_500 * 24 * HOUR_MS;
/// One request of so many has a connection of its own.
const NEW_CONNECTION: u64 = 4;
/// Answers that were not meant and are told of.
const TOLD: usize = 5;

const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const SNAPPY: (&str, &str) = ("Content-Encoding", "snappy");

/// The requests of a run.
#[derive(Debug, Clone)]
pub struct Mixed {
    /// Where they go.
    pub address: SocketAddr,
    /// Where chance comes from.
    pub seed: u64,
    /// The time of the samples of request 0, in milliseconds.
    pub base_ms: i64,
    /// From the samples of one request to those of the next, in milliseconds.
    pub step_ms: i64,
    /// How many series come and go before the first of them comes again.
    pub names: u64,
    /// Where the server makes its snapshots; each is removed, which no request can order.
    pub snapshots: PathBuf,
}

/// What the requests met.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Those that were sent.
    pub requests: u64,
    /// Statuses; 0 is no answer.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers that were not meant.
    pub odd: u64,
    /// The first of them.
    pub told: Vec<String>,
    /// Answers that say the server is at fault, but for those that were meant.
    pub faults: u64,
}

impl Tally {
    fn note(&mut self, status: u16, meant: Meant, what: impl FnOnce() -> String) {
        *self.statuses.entry(status).or_default() += 1;
        if meant.holds(status) {
            return;
        }
        self.odd += 1;
        self.faults += u64::from(status >= 500);
        if self.told.len() < TOLD {
            self.told.push(what());
        }
    }

    /// Adds what others met.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.odd += other.odd;
        self.faults += other.faults;
        self.told.extend(other.told);
        self.told.truncate(TOLD);
    }
}

/// Which statuses are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meant {
    Good,
    /// It has a mistake in it.
    Refused,
    /// It is given no time: answered, or refused for that.
    InTimeOrNot,
}

impl Meant {
    fn holds(self, status: u16) -> bool {
        match self {
            Self::Good => (200..300).contains(&status),
            Self::Refused => (400..500).contains(&status),
            Self::InTimeOrNot => [200, 503].contains(&status),
        }
    }
}

/// What is done.
enum Act {
    Ask(Ask),
    /// Sends these bytes, reads as many of the answer, and is gone.
    Leave(Vec<u8>, usize),
    Snapshot,
}

struct Ask {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    meant: Meant,
}

fn get(target: impl Into<String>) -> Act {
    let (method, headers, body) = ("GET", Vec::new(), Vec::new());
    Act::Ask(Ask { method, target: target.into(), headers, body, meant: Meant::Good })
}

fn post(
    target: impl Into<String>,
    headers: &[(&'static str, &'static str)],
    body: impl Into<Vec<u8>>,
) -> Act {
    let (target, headers, body) = (target.into(), headers.to_vec(), body.into());
    Act::Ask(Ask { method: "POST", target, headers, body, meant: Meant::Good })
}

/// Milliseconds as the API takes times.
fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

/// One request's number, its time, and its chance.
struct Turn {
    seed: u64,
    names: u64,
    number: u64,
    now: i64,
    rng: Rng,
}

type Make = fn(&mut Turn) -> Act;

/// How many of a thousand requests are of which kind.
const KINDS: [(u64, Make); 20] = [
    (380, Turn::write),
    (20, Turn::write_histograms),
    (15, Turn::write_metadata),
    (25, Turn::write_v2),
    (15, Turn::import_text),
    (15, Turn::import_influx),
    (10, Turn::import_json),
    (20, Turn::import_otlp),
    (150, Turn::instant),
    (80, Turn::range),
    (40, Turn::labels),
    (40, Turn::series),
    (40, Turn::page),
    (20, Turn::export),
    (10, Turn::remote_read),
    (60, Turn::mistake),
    (40, Turn::leave),
    (5, Turn::no_time),
    (10, Turn::delete),
    (5, Turn::order),
];

impl Mixed {
    /// Carries out the requests of these numbers by so many workers, each with a connection that it keeps for a while; `done` counts
    /// them. Ends when all connections are closed.
    ///
    /// # Panics
    /// A worker does.
    pub fn run(&self, numbers: Range<u64>, workers: u64, done: &AtomicU64) -> Tally {
        let next = AtomicU64::new(numbers.start);
        let mut all = Tally::default();
        std::thread::scope(|scope| {
            let work = || self.work(&next, numbers.end, done);
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                all.add(worker.join().expect("a worker ends"));
            }
        });
        all
    }

    fn work(&self, next: &AtomicU64, end: u64, done: &AtomicU64) -> Tally {
        let (mut tally, mut client) = (Tally::default(), Client::new(self.address));
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return tally;
            }
            let mut rng = Rng::new(mix(&[self.seed, number]));
            if rng.below(NEW_CONNECTION) == 0 {
                client = Client::new(self.address);
            }
            let now = self.base_ms + number as i64 * self.step_ms;
            let act = Turn { seed: self.seed, names: self.names, number, now, rng }.make();
            self.carry_out(&mut client, act, &mut tally);
            tally.requests += 1;
            done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn carry_out(&self, client: &mut Client, act: Act, tally: &mut Tally) {
        match act {
            Act::Ask(ask) => {
                let answer = client.request(ask.method, &ask.target, &ask.headers, &ask.body);
                let status = answer.as_ref().map_or(0, |answer| answer.status);
                tally.note(status, ask.meant, || {
                    let said = answer.map_or_else(|e| e.to_string(), |answer| answer.text());
                    format!("{} {:.150}: {status} {said:.150}", ask.method, ask.target)
                });
            }
            Act::Leave(bytes, taken) => leave(self.address, &bytes, taken),
            Act::Snapshot => {
                let answer = client.request("POST", "/api/v1/admin/tsdb/snapshot", &[], &[]);
                let status = answer.as_ref().map_or(0, |answer| answer.status);
                let text = answer.map_or_else(|e| e.to_string(), |answer| answer.text());
                tally.note(status, Meant::Good, || format!("a snapshot: {status} {text:.150}"));
                let json = serde_json::from_str::<serde_json::Value>(&text).ok();
                // Only what is finished: the next snapshot removes the rest of others.
                if let Some(name) = json.as_ref().and_then(|json| json["data"]["name"].as_str()) {
                    let _ = std::fs::remove_dir_all(self.snapshots.join(name));
                }
            }
        }
    }
}

/// A client that leaves: what it sends and takes is up to it, and what the server makes of it is seen nowhere but in the server.
fn leave(address: SocketAddr, bytes: &[u8], taken: usize) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
    let _ = stream.write_all(bytes);
    let _ = stream.read_exact(&mut vec![0; taken]);
}

impl Turn {
    fn make(mut self) -> Act {
        let mut at = self.rng.below(KINDS.iter().map(|kind| kind.0).sum());
        for (weight, make) in KINDS {
            if at < weight {
                return make(&mut self);
            }
            at -= weight;
        }
        self.write()
    }

    fn pick<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.rng.below(of.len() as u64) as usize]
    }

    /// The same sample has the same value whoever sends it, so that none contradicts another.
    fn value(&self, series: u64, time: i64) -> f64 {
        (mix(&[self.seed, series, time.cast_unsigned()]) >> 44) as f64
    }

    /// A series that comes and goes.
    fn passing(&self, which: u64) -> u64 {
        (self.number / CHURN_REQUESTS + which) % self.names
    }

    fn write(&mut self) -> Act {
        let mut request = Request::new();
        let first = self.rng.below(FIXED);
        for at in first..first + FIXED_IN_A_WRITE {
            let number = at % FIXED;
            let (name, instance) = (format!("soak_{}", number % 10), format!("10.0.0.{}:9100", number / 10));
            let job = ["a", "b", "c"][(number % 3) as usize];
            let labels = label_bytes(&[("__name__", &*name), ("instance", &instance), ("job", job)]);
            // Some are late, by seconds or by hours: they take another way through the store.
            let late = if self.rng.below(10) == 0 { self.rng.below(LATE_MS) as i64 } else { 0 };
            let time = self.now - late;
            request.push(&labels, &[(time, self.value(number, time))]);
        }
        for which in 0..CHURN_IN_A_WRITE {
            let number = self.passing(which);
            let pod = format!("pod-{number:08x}");
            let labels = label_bytes(&[("__name__", "soak_pod"), ("pod", &*pod)]);
            request.push(&labels, &[(self.now, self.value(FIXED + number, self.now))]);
        }
        post("/api/v1/write", &remote_write::HEADERS, request.compress())
    }

    fn write_histograms(&mut self) -> Act {
        let counts: Vec<f64> = (0..8).map(|_| self.rng.below(1_000) as f64).collect();
        let histogram = FloatHistogram {
            count: counts.iter().sum(),
            sum: self.rng.unit(),
            positive: Buckets::run(0, counts).expect("eight buckets"),
            ..FloatHistogram::default()
        };
        let host = self.rng.below(20).to_string();
        let mut request = Request::new();
        let labels = label_bytes(&[("__name__", "soak_histogram"), ("host", &*host)]);
        request.push_histograms(&labels, &[(self.now, &histogram)]);
        post("/api/v1/write", &remote_write::HEADERS, request.compress())
    }

    fn write_metadata(&mut self) -> Act {
        let mut request = Request::new();
        let family = format!("soak_{}", self.rng.below(10));
        request.push_metadata(&family, 1, &format!("help of {}", self.rng.below(3)), "seconds");
        post("/api/v1/write", &remote_write::HEADERS, request.compress())
    }

    fn write_v2(&mut self) -> Act {
        let mut request = remote_write_v2::Request::new();
        for _ in 0..5 {
            let number = self.rng.below(50);
            let host = number.to_string();
            let value = self.value(number, self.now);
            request.push(&[("__name__", "soak_v2"), ("host", &host)], &[(self.now, value)]);
        }
        post("/api/v1/write", &remote_write_v2::HEADERS, request.compress())
    }

    fn import_text(&mut self) -> Act {
        let (host, value) = (self.rng.below(30), self.rng.below(1_000));
        let text = format!("# TYPE soak_text gauge\nsoak_text{{host=\"{host}\"}} {value} {}\n", self.now);
        post("/api/v1/import/prometheus", &[], text)
    }

    fn import_influx(&mut self) -> Act {
        let (host, value) = (self.rng.below(30), self.rng.below(1_000));
        let line = format!("soak_influx,host={host} a={value},b={value}i {}\n", self.now);
        if value % 2 == 0 {
            post("/write?db=soak&precision=ms", &[], line)
        } else {
            post("/api/v2/write?bucket=soak&precision=ms", &[], line)
        }
    }

    fn import_json(&mut self) -> Act {
        let (host, value, now) = (self.rng.below(30), self.rng.below(1_000), self.now);
        let metric = format!("{{\"__name__\":\"soak_json\",\"host\":\"{host}\"}}");
        let line = format!("{{\"metric\":{metric},\"values\":[{value}],\"timestamps\":[{now}]}}\n");
        post("/api/v1/import", &[], line)
    }

    fn import_otlp(&mut self) -> Act {
        let (host, value, now) = (self.rng.below(30), self.rng.below(1_000), self.now);
        let attributes = format!("[{{\"key\":\"host\",\"value\":{{\"stringValue\":\"{host}\"}}}}]");
        let point =
            format!("{{\"timeUnixNano\":\"{now}000000\",\"asDouble\":{value},\"attributes\":{attributes}}}");
        let metric = format!("{{\"name\":\"soak.otlp\",\"gauge\":{{\"dataPoints\":[{point}]}}}}");
        let body = format!("{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{metric}]}}]}}]}}");
        post("/api/v1/otlp/v1/metrics", &[JSON], body)
    }

    fn instant(&mut self) -> Act {
        let query = self.pick(&[
            "soak_0",
            "sum by (job) (rate(soak_1[30m]))",
            "topk(5, soak_2)",
            "count({__name__=~\"soak_.*\"})",
            "histogram_quantile(0.9, sum(rate(soak_histogram[1h])))",
            "quantile_over_time(0.5, soak_3[1h])",
            "soak_4 / on (instance) group_left soak_5",
            "count(soak_pod) or vector(0)",
            "label_replace(soak_v2, \"x\", \"$1\", \"host\", \"(.).*\")",
            "max_over_time(sum(soak_6)[30m:1m])",
        ]);
        let time = seconds(self.now);
        if self.rng.below(2) == 0 {
            return get(format!("/api/v1/query?query={}&time={time}", escape(query)));
        }
        post("/api/v1/query", &[FORM], format!("query={}&time={time}", escape(query)))
    }

    fn range(&mut self) -> Act {
        let query = self.pick(&[
            "sum(rate(soak_7[30m]))",
            "avg by (instance) (soak_8)",
            "count(soak_pod)",
            "soak_9{job=\"a\"}",
            "soak_json + soak_text",
            "sum by (host) (soak_influx_a)",
        ]);
        let (hours, step) = if self.rng.below(8) == 0 { (24, 300) } else { (2, 60) };
        let (start, end) = (seconds(self.now - hours * HOUR_MS), seconds(self.now));
        get(format!("/api/v1/query_range?query={}&start={start}&end={end}&step={step}", escape(query)))
    }

    fn labels(&mut self) -> Act {
        let (start, end) = (seconds(self.now - HOUR_MS), seconds(self.now));
        let path =
            self.pick(&["labels", "label/pod/values", "label/__name__/values", "label/instance/values"]);
        get(format!("/api/v1/{path}?start={start}&end={end}"))
    }

    fn series(&mut self) -> Act {
        let (start, end) = (seconds(self.now - HOUR_MS), seconds(self.now));
        let selector = self.pick(&["soak_pod", "{job=\"a\"}", "soak_v2", "{__name__=~\"soak_[0-3]\"}"]);
        get(format!("/api/v1/series?match[]={}&start={start}&end={end}", escape(selector)))
    }

    fn page(&mut self) -> Act {
        get(self.pick(&[
            "/",
            "/-/healthy",
            "/-/ready",
            "/version",
            "/ping",
            "/metrics",
            "/api/v1/metadata",
            "/api/v1/status/tsdb",
            "/api/v1/status/tsdb/blocks",
            "/api/v1/status/runtimeinfo",
            "/api/v1/status/buildinfo",
            "/api/v1/status/flags",
            "/api/v1/status/config",
            "/api/v1/status/active_queries",
            "/api/v1/status/self_metrics",
            "/api/v1/openapi.yaml",
            "/api/v1/rules",
            "/api/v1/alerts",
            "/api/v1/targets",
            "/api/v1/format_query?query=sum(a)by(b)",
            "/api/v1/parse_query?query=a%2Bb",
            "/api/v1/query_exemplars?query=soak_0&start=0&end=1",
        ]))
    }

    fn export(&mut self) -> Act {
        let selector = escape(self.pick(&["soak_0", "soak_pod", "soak_histogram"]));
        let (start, end) = (seconds(self.now - HOUR_MS), seconds(self.now));
        if self.rng.below(2) == 0 {
            return get(format!("/federate?match[]={selector}"));
        }
        get(format!("/api/v1/export?match[]={selector}&start={start}&end={end}"))
    }

    fn remote_read(&mut self) -> Act {
        let matcher = LabelMatcher { kind: 0, name: "__name__".to_owned(), value: "soak_1".to_owned() };
        let (start, end) = (self.now - HOUR_MS, self.now);
        let queries = vec![Query { start, end, matchers: vec![matcher], hints: Vec::new() }];
        let accepted = vec![self.rng.below(2) as i32];
        let body = compress(&ReadRequest { queries, accepted }.encode_to_vec());
        post("/api/v1/read", &[SNAPPY], body)
    }

    fn mistake(&mut self) -> Act {
        let act = match self.rng.below(8) {
            0 => post("/api/v1/write", &remote_write::HEADERS, b"no snappy".to_vec()),
            1 => post("/api/v1/write", &remote_write::HEADERS, compress(b"no protobuf")),
            2 => post("/api/v1/write", &remote_write::HEADERS, self.of_a_century_ahead()),
            3 => post("/api/v1/import", &[], "{no json}\n"),
            4 => post("/api/v1/read", &[SNAPPY], b"no snappy".to_vec()),
            5 => post("/api/v1/otlp/v1/metrics", &[JSON], "{no json}"),
            6 => post("/api/v1/admin/tsdb/delete_series", &[], ""),
            _ => get(self.pick(&[
                "/api/v1/query?query=sum(",
                "/api/v1/query",
                "/api/v1/query?query=a%7Bb%3D~%22(%22%7D",
                "/api/v1/query_range?query=a&start=5&end=1&step=1",
                "/api/v1/query_range?query=a&start=0&end=1000000&step=1",
                "/api/v1/series",
                "/api/v1/write",
                "/nothing/here",
            ])),
        };
        with_meaning(act, Meant::Refused)
    }

    /// A write of samples that are too far ahead.
    fn of_a_century_ahead(&self) -> Vec<u8> {
        let mut request = Request::new();
        request.push(&label_bytes(&[("__name__", "soak_ahead")]), &[(self.now + CENTURY_MS, 1.0)]);
        request.compress()
    }

    fn no_time(&mut self) -> Act {
        let query = escape("count by (instance) ({__name__=~\"soak_.*\"})");
        let act = get(format!("/api/v1/query?query={query}&time={}&timeout=0.001", seconds(self.now)));
        with_meaning(act, Meant::InTimeOrNot)
    }

    fn leave(&mut self) -> Act {
        let (start, end) = (seconds(self.now - 24 * HOUR_MS), seconds(self.now));
        let all = escape("{__name__=~\"soak_.*\"}");
        let range = format!("/api/v1/query_range?query={all}&start={start}&end={end}&step=60");
        let export = format!("/api/v1/export?match[]={all}&start={start}&end={end}");
        let whole = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n");
        let (text, taken) = match self.rng.below(6) {
            0 => (String::new(), 0),
            1 => ("GET /api/v1/query?query=soak_0 HTTP/1.1\r\nhost: x".to_owned(), 0),
            2 => ("POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 9999\r\n\r\nabc".to_owned(), 0),
            3 => (whole(&range), 0),
            4 => (whole(&export), 0),
            _ => (whole(&export), 100),
        };
        Act::Leave(text.into_bytes(), taken)
    }

    fn delete(&mut self) -> Act {
        let selector = if self.rng.below(2) == 0 {
            format!("soak_pod{{pod=\"pod-{:08x}\"}}", self.passing(0))
        } else {
            format!("soak_{}{{job=\"b\"}}", self.rng.below(10))
        };
        let (start, end) = (seconds(self.now - 3 * HOUR_MS), seconds(self.now - 2 * HOUR_MS));
        let match_ = escape(&selector);
        post(format!("/api/v1/admin/tsdb/delete_series?match[]={match_}&start={start}&end={end}"), &[], "")
    }

    /// Has the head written into blocks, or blocks with deleted samples rewritten.
    fn order(&mut self) -> Act {
        if self.rng.below(5) < 3 {
            return Act::Snapshot;
        }
        post("/api/v1/admin/tsdb/clean_tombstones", &[], "")
    }
}

fn with_meaning(act: Act, meant: Meant) -> Act {
    match act {
        Act::Ask(ask) => Act::Ask(Ask { meant, ..ask }),
        other => other,
    }
}

//! A steady load that every product takes: clients that write in order and remember what was answered, and a judgement of
//! what is there after the worst has happened.

use crate::http::Client;
use crate::oracle::Outcome;
use crate::remote_write::{Request, label_bytes, send};
use crate::rng::mix;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between the samples of two requests of one client.
const STEP_MS: i64 = 100;
/// How long a client waits after it was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// What one question reads back, in samples; some products answer no more than some millions at once.
const READ_SAMPLES: u64 = 1_000_000;

/// The load.
#[derive(Debug, Clone, Copy)]
pub struct Steady {
    /// Values are a function of it.
    pub seed: u64,
    /// The time of the first samples, in milliseconds.
    pub base_ms: i64,
    /// Clients that write at the same time.
    pub clients: u64,
    /// Series of each; every request has one sample for each of them.
    pub series: u64,
}

/// A request, as its client saw it.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// Who.
    pub client: u64,
    /// Which of its requests.
    pub request: u64,
    /// Before its first byte left.
    pub sent: Instant,
    /// When the answer was read, or the connection was gone.
    pub ended: Instant,
    /// The status, if there was an answer.
    pub status: Option<u16>,
}

impl Sent {
    /// What may be expected of it.
    pub fn outcome(&self) -> Outcome {
        match self.status {
            Some(200..300) => Outcome::Acked,
            // A refusal for now, or for good: both say that nothing was taken.
            Some(400..500 | 503) => Outcome::Refused,
            _ => Outcome::Unknown,
        }
    }
}

/// What was there.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Acknowledged samples.
    pub acked: u64,
    /// Refused requests.
    pub refused: u64,
    /// Requests without an answer, or with one that leaves open what became of them.
    pub unknown: u64,
    /// Acknowledged samples that are not there.
    pub lost: u64,
    /// Samples that are there and were refused.
    pub refused_present: u64,
    /// Samples that are there with another value than was sent, or that nobody sent.
    pub wrong: u64,
    /// The first acknowledgement of which something is lost.
    pub first_lost: Option<Instant>,
    /// Acknowledged requests of which something is lost.
    pub requests_hit: u64,
    /// The number of the first of them.
    pub first_hit: Option<u64>,
}

impl Verdict {
    /// Adds what another trial showed.
    pub fn add(&mut self, other: &Self) {
        self.acked += other.acked;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.lost += other.lost;
        self.refused_present += other.refused_present;
        self.wrong += other.wrong;
    }

    /// Whether no promise was broken, and something was promised.
    pub fn kept(&self) -> bool {
        self.lost + self.refused_present + self.wrong == 0 && self.acked > 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acked, refused, unknown, lost, refused_present, wrong, .. } = self;
        write!(f, "acked={acked} refused={refused} unknown={unknown} lost={lost}")?;
        write!(f, " refused_present={refused_present} wrong={wrong}")
    }
}

impl Steady {
    /// A load whose samples begin an hour ago.
    pub fn new(seed: u64, clients: u64, series: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        Self { seed, base_ms: now.as_millis() as i64 - 3_600_000, clients, series }
    }

    /// When the samples of a request are, in milliseconds.
    pub fn timestamp(&self, request: u64) -> i64 {
        self.base_ms + request as i64 * STEP_MS
    }

    /// What they are.
    pub fn value(&self, client: u64, series: u64, request: u64) -> f64 {
        (mix(&[self.seed, client, series, request]) >> 12) as f64
    }

    /// The body of a request.
    pub fn body(&self, client: u64, request: u64) -> Vec<u8> {
        let mut body = Request::new();
        for series in 0..self.series {
            let (c, s) = (client.to_string(), series.to_string());
            let labels = label_bytes(&[("__name__", "steady"), ("client", &c), ("series", &s)]);
            body.push(&labels, &[(self.timestamp(request), self.value(client, series, request))]);
        }
        body.compress()
    }

    /// Lets all clients write to `address`, each from its request `first` on, while `during` runs. A client ends when its
    /// connection does.
    ///
    /// # Panics
    /// A client does.
    pub fn write_while<T>(
        &self,
        address: SocketAddr,
        first: u64,
        during: impl FnOnce() -> T,
    ) -> (Vec<Sent>, T) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let stop = &stop;
            let clients: Vec<_> = (0..self.clients)
                .map(|client| scope.spawn(move || self.write_until(address, client, first, stop)))
                .collect();
            let result = during();
            stop.store(true, Ordering::Relaxed);
            let sent = clients.into_iter().flat_map(|c| c.join().expect("a client ends")).collect();
            (sent, result)
        })
    }

    fn write_until(&self, address: SocketAddr, client: u64, first: u64, stop: &AtomicBool) -> Vec<Sent> {
        let mut http = Client::new(address).with_timeout(REQUEST_LIMIT);
        let mut all = Vec::new();
        for request in first.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let one = self.send_one(&mut http, client, request);
            all.push(one);
            match one.status {
                None => break,
                Some(200..300) => {}
                Some(_) => std::thread::sleep(REFUSED_PAUSE),
            }
        }
        all
    }

    /// Sends one request.
    pub fn send_one(&self, http: &mut Client, client: u64, request: u64) -> Sent {
        let body = self.body(client, request);
        let sent = Instant::now();
        let status = send(http, &body).ok().map(|answer| answer.status);
        Sent { client, request, sent, ended: Instant::now(), status }
    }

    /// Reads all back and compares.
    ///
    /// # Panics
    /// The server does not answer, or not with a matrix.
    pub fn judge(&self, http: &mut Client, sent: &[Sent]) -> Verdict {
        let mut verdict = Verdict::default();
        for client in 0..self.clients {
            let requests = sent.iter().filter(|s| s.client == client).map(|s| s.request + 1).max();
            let mut stored = self.read_back(http, client, requests.unwrap_or(0));
            for one in sent.iter().filter(|s| s.client == client) {
                let mut present = 0;
                for series in 0..self.series {
                    let Some(value) = stored.remove(&(series, self.timestamp(one.request))) else { continue };
                    let expected = self.value(client, series, one.request);
                    if value.to_bits() == expected.to_bits() { present += 1 } else { verdict.wrong += 1 }
                }
                match one.outcome() {
                    Outcome::Acked => {
                        verdict.acked += self.series;
                        verdict.lost += self.series - present;
                        if present < self.series {
                            verdict.requests_hit += 1;
                            let first = verdict.first_lost.map_or(one.ended, |first| first.min(one.ended));
                            verdict.first_lost = Some(first);
                            verdict.first_hit.get_or_insert(one.request);
                        }
                    }
                    Outcome::Refused => {
                        verdict.refused += 1;
                        verdict.refused_present += present;
                    }
                    Outcome::Unknown => verdict.unknown += 1,
                }
            }
            verdict.wrong += stored.len() as u64;
        }
        verdict
    }

    /// All stored samples of a client that has sent `requests`.
    fn read_back(&self, http: &mut Client, client: u64, requests: u64) -> HashMap<(u64, i64), f64> {
        let mut stored = HashMap::new();
        let piece = (READ_SAMPLES / self.series.max(1)).max(1);
        let mut from = 0;
        while from < requests {
            let until = (from + piece).min(requests);
            // From half a step before the first to half a step behind the last.
            let range_ms = (until - from) as i64 * STEP_MS;
            let query = format!("steady{{client=\"{client}\"}}[{range_ms}ms]");
            let end_ms = self.timestamp(until) - STEP_MS / 2;
            let time = format!("{:.3}", end_ms as f64 / 1000.0);
            let form = [("query", &*query), ("time", &*time), ("nocache", "1")];
            let answer = http.post_form("/api/v1/query", &form).expect("an answer");
            assert_eq!(answer.status, 200, "{}", answer.text());
            take_matrix(&answer.json().expect("JSON"), &mut stored);
            from = until;
        }
        stored
    }
}

fn take_matrix(json: &Json, stored: &mut HashMap<(u64, i64), f64>) {
    for series in json["data"]["result"].as_array().expect("a matrix") {
        let number = series["metric"]["series"].as_str().and_then(|s| s.parse().ok()).expect("a series");
        for point in series["values"].as_array().expect("values") {
            let time = (point[0].as_f64().expect("a time") * 1000.0).round() as i64;
            let value = point[1].as_str().and_then(|v| v.parse().ok()).expect("a value");
            assert!(stored.insert((number, time), value).is_none(), "two samples at {time} of {number}");
        }
    }
}

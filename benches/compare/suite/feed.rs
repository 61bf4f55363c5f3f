//! The fleets of the suite, made while they are sent: a day of many series is too much to keep.

use crate::subject::Subject;
use kymo_storage::model::is_stale;
use kymo_tests::captures::{Capture, Member};
use kymo_tests::http::Client;
use kymo_tests::peers::Peer;
use kymo_tests::remote_write::{HEADERS, Request};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// Between two scrapes of an instance.
pub(crate) const INTERVAL_MS: i64 = 15_000;
/// Connections that send.
const LANES: usize = 2;
/// Samples in one request, at least, unless there are no more.
const SAMPLES_A_REQUEST: usize = 10_000;

/// A fleet of exporters made of captures.
pub(crate) struct Fleet {
    /// The name of its table.
    pub(crate) name: &'static str,
    /// Exporters, half of each kind.
    pub(crate) instances: usize,
    /// Scrapes of each.
    pub(crate) scrapes: usize,
    /// Scrapes of a series in one request: 1 as an agent sends them, more as one that was cut off for a while.
    pub(crate) scrapes_a_request: usize,
    /// The time of the first scrape in milliseconds.
    pub(crate) start_ms: i64,
    /// What the exporters are made of.
    pub(crate) kinds: [Arc<Capture>; 2],
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loaded {
    /// Series that had a sample.
    pub(crate) series: u64,
    /// Samples.
    pub(crate) samples: u64,
    /// Staleness markers among them.
    pub(crate) stale: u64,
    /// From the first request to the last answer.
    pub(crate) wall: Duration,
}

impl Fleet {
    /// The time of the last scrape, rounded down to seconds, in milliseconds.
    pub(crate) fn end_ms(&self) -> i64 {
        self.start_ms + self.scrapes as i64 * INTERVAL_MS
    }

    /// Sends all of it to `subject`: all exporters move through time together, a few minutes at once, since Prometheus takes
    /// nothing that is much older than its newest sample.
    pub(crate) fn send(&self, subject: &Subject, peer: &Peer) -> Loaded {
        let begin = Instant::now();
        let barrier = Barrier::new(LANES);
        let [series, samples, stale] = [0, 0, 0].map(AtomicU64::new);
        std::thread::scope(|scope| {
            for lane in 0..LANES {
                let (barrier, series, samples, stale) = (&barrier, &series, &samples, &stale);
                scope.spawn(move || {
                    let sent = self.send_lane(lane, subject, peer.client(), barrier);
                    series.fetch_add(sent.0, Ordering::Relaxed);
                    samples.fetch_add(sent.1, Ordering::Relaxed);
                    stale.fetch_add(sent.2, Ordering::Relaxed);
                });
            }
        });
        let [series, samples, stale] = [series, samples, stale].map(AtomicU64::into_inner);
        Loaded { series, samples, stale, wall: begin.elapsed() }
    }

    /// Gives series, samples, and staleness markers among them.
    fn send_lane(
        &self,
        lane: usize,
        subject: &Subject,
        client: Client,
        barrier: &Barrier,
    ) -> (u64, u64, u64) {
        let mut client = client.with_timeout(Duration::from_secs(300));
        let mut members: Vec<Member> = (lane..self.instances)
            .step_by(LANES)
            .map(|i| Member::new(&self.kinds[i % 2], i, self.instances, INTERVAL_MS))
            .collect();
        let mut seen: Vec<Vec<bool>> = members.iter().map(|m| vec![false; m.labels.len()]).collect();
        let mut pending: Vec<Vec<(i64, f64)>> = Vec::new();
        let (mut sent, mut stale) = (0, 0);
        for first in (0..self.scrapes).step_by(self.scrapes_a_request) {
            barrier.wait();
            for (member, seen) in members.iter_mut().zip(&mut seen) {
                pending.resize_with(member.labels.len(), Vec::new);
                for step in first..self.scrapes.min(first + self.scrapes_a_request) {
                    let (time, samples) = member.scrape(step, INTERVAL_MS);
                    stale += samples.iter().filter(|s| is_stale(s.1)).count() as u64;
                    for (number, value) in samples {
                        pending[number as usize].push((self.start_ms + time, value));
                    }
                }
                let (mut request, mut held) = (Request::new(), 0);
                for (number, samples) in pending.iter_mut().enumerate().filter(|p| !p.1.is_empty()) {
                    request.push(&member.labels[number], samples);
                    seen[number] = true;
                    held += samples.len();
                    samples.clear();
                    if held >= SAMPLES_A_REQUEST {
                        post(subject, &mut client, &std::mem::take(&mut request).compress());
                        sent += std::mem::take(&mut held) as u64;
                    }
                }
                if held > 0 {
                    post(subject, &mut client, &request.compress());
                    sent += held as u64;
                }
            }
        }
        (seen.iter().flatten().filter(|s| **s).count() as u64, sent, stale)
    }
}

fn post(subject: &Subject, client: &mut Client, body: &[u8]) {
    loop {
        let answer = client.request("POST", subject.write_path, &HEADERS, body).expect("an answer");
        match answer.status {
            200..300 => return,
            // Asked to come back, as a real sender would.
            429 | 500.. => std::thread::sleep(Duration::from_millis(30)),
            status => assert!(status < 300, "{} refuses with {status}: {}", subject.name, answer.text()),
        }
    }
}

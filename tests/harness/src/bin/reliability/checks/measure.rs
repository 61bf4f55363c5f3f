//! What the checks of the network measure with: a server with data, times, the kernel's figures, and peers beside.

use super::Place;
use kymo_tests::http::{Client, Response};
use kymo_tests::load::Load;
use kymo_tests::peers::Peer;
use kymo_tests::process::{Usage, find_program};
use kymo_tests::remote_write::{Request, send};
use kymo_tests::server::Server;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Whose selector is every series of [`fill`].
pub(super) const ALL: &str = "{__name__=~\"load_metric.*\"}";

/// A server on an empty directory of its own.
pub(super) fn start(place: &Place<'_>, name: &str, arguments: &[&str]) -> Server {
    Server::start_this(place.program, &place.dir.join(name), arguments)
}

/// A program that is put to a test.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject {
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its process.
    pub(super) id: u32,
}

impl Subject {
    /// A client of it.
    pub(super) fn client(self) -> Client {
        Client::new(self.address)
    }

    /// What the kernel counts.
    pub(super) fn usage(self) -> Usage {
        Usage::of(self.id)
    }

    /// From now on the peak of its memory is counted anew.
    pub(super) fn forget_peak(self) -> Result<(), String> {
        std::fs::write(format!("/proc/{}/clear_refs", self.id), "5")
            .map_err(|e| format!("the peak of memory cannot be counted anew here: {e}"))
    }
}

impl From<&Server> for Subject {
    fn from(server: &Server) -> Self {
        Self { address: server.address(), id: server.id() }
    }
}

impl From<&Peer> for Subject {
    fn from(peer: &Peer) -> Self {
        Self { address: peer.address, id: peer.process.id() }
    }
}

/// Runs a test on each peer that is installed, if peers are asked for; each has a new process on an empty directory.
pub(super) fn beside(
    place: &Place<'_>,
    name: &str,
    test: impl Fn(Subject) -> Result<String, String>,
) -> Vec<(String, String)> {
    if !place.peers {
        return Vec::new();
    }
    let mut told = Vec::new();
    let dir = place.dir.join(format!("{name}-peers"));
    let put = |peer: Peer| test(Subject::from(&peer)).unwrap_or_else(|why| format!("not run: {why}"));
    if std::fs::create_dir_all(&dir).is_ok() {
        if let Some(program) = find_program("prometheus") {
            let arguments = ["--web.enable-remote-write-receiver"];
            let peer = Peer::prometheus(&program, &dir, "global: {scrape_interval: 1h}\n", &arguments);
            told.push(("prometheus".to_owned(), put(peer)));
        }
        if let Some(program) = find_program("victoria-metrics") {
            told.push(("victoria-metrics".to_owned(), put(Peer::victoria_metrics(&program, &dir, &[]))));
        }
    }
    told
}

/// Now, in milliseconds.
pub(super) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Milliseconds as the API takes times.
pub(super) fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1_000, ms % 1_000)
}

/// Milliseconds with one digit behind the point.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// MiB that `now` is over `before`.
pub(super) fn mib_more(now: u64, before: u64) -> u64 {
    now.saturating_sub(before).div_ceil(1 << 20)
}

/// The time that `of` in a thousand of `times` do not pass.
pub(super) fn quantile(times: &mut [Duration], of: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * of).div_ceil(1_000).saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

/// Writes `series` series of `samples` samples, `step_ms` apart; gives the time of the last.
pub(super) fn fill(subject: Subject, series: usize, samples: i64, step_ms: i64) -> Result<i64, String> {
    let mut client = subject.client();
    let mut load = Load::new(7, series);
    let last = (now_ms() - 30_000) / 1_000 * 1_000;
    for step in 0..samples {
        let body = Request::of(&load.step(last - (samples - 1 - step) * step_ms)).compress();
        let answer = send(&mut client, &body).map_err(|e| format!("a write: {e}"))?;
        if answer.status >= 300 {
            return Err(format!("a write: {} {}", answer.status, answer.text()));
        }
    }
    Ok(last)
}

/// The statuses of requests, counted; a connection that was closed instead of an answer is 0.
pub(super) fn status(answer: io::Result<Response>) -> u16 {
    answer.map_or(0, |response| response.status)
}

/// Asks again and again until told to stop; each answer's status, and how long it took.
pub(super) fn keep_asking(
    stop: &AtomicBool,
    pause: Duration,
    mut ask: impl FnMut() -> io::Result<Response>,
) -> Vec<(u16, Duration)> {
    let mut met = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let status = status(ask());
        met.push((status, began.elapsed()));
        std::thread::sleep(pause);
    }
    met
}

/// Sets a flag when it goes, so that those who work until then end even if something panics.
pub(super) struct Stopper<'a>(pub(super) &'a AtomicBool);

impl Drop for Stopper<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A metric of the server.
pub(super) fn metric(client: &mut Client, name: &str) -> f64 {
    let text = client.get("/metrics").map(|r| r.text()).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    lines.next().unwrap_or(0.0)
}

/// Whether the server is alive and has not met a bug.
pub(super) fn is_well(server: &Server) -> bool {
    let answers = server.client().get("/-/healthy").is_ok_and(|r| r.status == 200);
    answers && !has_bug(server)
}

/// Whether it has met a bug, by what it printed.
pub(super) fn has_bug(server: &Server) -> bool {
    let output = server.output();
    output.contains("panicked") || output.contains("bug of Kymo")
}

//! Clients that leave while their query runs.

use super::measure::{ALL, Subject, beside, fill, has_bug, ms, seconds, start};
use super::{Check, Figures, Place, Way};
use kymo_tests::http::{Client, escape};
use kymo_tests::http2::Frames;
use kymo_tests::server::Server;
use kymo_tests::tls::{Stream, Tls};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[Check {
    number: "R33",
    name: "cancel",
    what: "the client of a long query leaves after a second",
    way: Way::Server(cancel),
}];

/// A query that takes long and little memory, in words that all know.
pub(super) fn endless(last: i64) -> String {
    // Each round takes seconds.
    let rounds = (0..8).fold(format!("rate({ALL}[5m])"), |q, _| format!("predict_linear({q}[30m:1s], 60)"));
    let query = format!("sum({rounds})");
    format!("/api/v1/query?query={}&time={}", escape(&query), seconds(last))
}

/// Waits until a process has come to rest: a whole second in which it takes less than 20 ms, 30 s at most.
fn wait_for_rest(subject: Subject) {
    let mut last = subject.usage().cpu;
    for _ in 0..30 {
        std::thread::sleep(Duration::from_secs(1));
        let now = subject.usage().cpu;
        if now - last < Duration::from_millis(20) {
            return;
        }
        last = now;
    }
}

/// How a client asks and leaves.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    Http1,
    Http2Reset,
}

/// What a trial came to.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// CPU time while the client was there.
    cpu_before: Duration,
    /// CPU time after it had left.
    cpu_after: Duration,
    /// From its leaving until the query was gone from the list of those that run.
    gone: Duration,
}

impl Left {
    /// The least of the first, the most of the others.
    fn worst(self, other: Self) -> Self {
        Self {
            cpu_before: self.cpu_before.min(other.cpu_before),
            cpu_after: self.cpu_after.max(other.cpu_after),
            gone: self.gone.max(other.gone),
        }
    }
}

/// Looks at the queries that have a place and run.
struct Running(Client);

impl Running {
    fn texts(&mut self) -> Result<Vec<String>, String> {
        let answer = self.0.get("/api/v1/status/active_queries").map_err(|e| e.to_string())?;
        let json = answer.json()?;
        let list = json["data"].as_array().ok_or("the queries that run are no list")?;
        Ok(list.iter().map(|one| one["query"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// How long it takes until none runs; half a minute if one goes on.
    fn wait_gone(&mut self) -> Result<Duration, String> {
        let began = Instant::now();
        while !self.texts()?.is_empty() && began.elapsed() < Duration::from_secs(30) {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(began.elapsed())
    }
}

/// A query that is asked, and leaves when told.
enum Asked {
    Http1(Stream),
    Http2(Frames, u32),
}

impl Asked {
    fn ask(address: SocketAddr, how: Leaving, tls: Option<&Tls>, target: &str) -> io::Result<Self> {
        match how {
            Leaving::Http1 => {
                let mut stream = Stream::connect(address, Duration::from_secs(10), tls)?;
                write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")?;
                stream.flush()?;
                Ok(Self::Http1(stream))
            }
            Leaving::Http2Reset => {
                let mut frames = Frames::connect(address)?;
                let number = frames.get(target)?;
                Ok(Self::Http2(frames, number))
            }
        }
    }

    /// Whether nothing was said to it yet. Of HTTP/2 that is not looked at: there the connection itself is talked about.
    fn is_waiting(&mut self) -> bool {
        let Self::Http1(stream) = self else { return true };
        let looks = stream.socket().set_read_timeout(Some(Duration::from_millis(1))).is_ok();
        looks && stream.read(&mut [0; 1]).is_err_and(|e| e.kind() == io::ErrorKind::WouldBlock)
    }

    /// Leaves; a connection of HTTP/2 stays open for others.
    fn leave(self) -> io::Result<Option<Frames>> {
        match self {
            Self::Http1(stream) => {
                drop(stream);
                Ok(None)
            }
            Self::Http2(mut frames, number) => {
                frames.reset(number)?;
                Ok(Some(frames))
            }
        }
    }
}

/// Asks, and leaves after a second. Where the program tells which queries run, this one must be there and the only one just before;
/// what is not running costs nothing afterwards, and says nothing.
fn leave(
    subject: Subject,
    (how, tls): (Leaving, Option<&Tls>),
    target: &str,
    mut running: Option<&mut Running>,
) -> Result<Left, String> {
    let failed = |e: io::Error| e.to_string();
    if let Some(texts) = running.as_mut().map(|running| running.texts()).transpose()?
        && !texts.is_empty()
    {
        return Err(format!("{how:?}: {} queries run before the trial", texts.len()));
    }
    let at_first = subject.usage().cpu;
    let mut asked = Asked::ask(subject.address, how, tls, target).map_err(failed)?;
    std::thread::sleep(Duration::from_secs(1));
    if !asked.is_waiting() {
        return Err(format!("{how:?}: the query was answered or refused within a second"));
    }
    if let Some(texts) = running.as_mut().map(|running| running.texts()).transpose()? {
        let is_it = |text: &String| target.contains(&escape(text));
        if texts.len() != 1 || !texts.iter().all(is_it) {
            return Err(format!("{how:?}: {} queries run instead of the one of the trial", texts.len()));
        }
    }
    let before = subject.usage().cpu;
    let connection = asked.leave().map_err(failed)?;
    let gone = running.map(Running::wait_gone).transpose()?.unwrap_or_default();
    wait_for_rest(subject);
    drop(connection);
    Ok(Left { cpu_before: before - at_first, cpu_after: subject.usage().cpu - before, gone })
}

fn cancel(place: &Place<'_>) -> Result<Figures, String> {
    let trials = place.count(1, 5);
    let plain = start(place, "cancel", &[]);
    let target = endless(fill(Subject::from(&plain), 2_000, 120, 15_000)?);
    let tls = Tls::make(&place.dir.join("tls"))?;
    let mut told = Vec::new();
    let mut all = Left { cpu_before: Duration::MAX, ..Left::default() };
    let mut try_on = |server: &Server, name: &str, how, tls: Option<&Tls>| -> Result<bool, String> {
        let client = server.client();
        let mut running = Running(tls.into_iter().fold(client, |client, tls| client.with_tls(tls)));
        for _ in 0..trials {
            all = all.worst(leave(Subject::from(server), (how, tls), &target, Some(&mut running))?);
        }
        told.push(format!("{name}={trials}"));
        let lives = running.0.get("/-/healthy").is_ok_and(|r| r.status == 200);
        Ok(lives && !has_bug(server))
    };
    let mut is_well = try_on(&plain, "http1", Leaving::Http1, None)?;
    is_well &= try_on(&plain, "http2_reset", Leaving::Http2Reset, None)?;
    // The same data behind TLS. That a server is ready is then read from its log, so this one has its own.
    drop(plain);
    let option = format!("--web.config.file={}", tls.web_config.display());
    let (data, log) = (place.dir.join("cancel"), place.dir.join("cancel-tls.log"));
    let behind = Server::start_with_log(place.program, &data, &log, &[&option]);
    is_well &= try_on(&behind, "http1_tls", Leaving::Http1, Some(&tls))?;
    let text = format!(
        "trials={} {} running_before=all cpu_before_s_min={:.2} cpu_after_s={:.2} slot_ms={}",
        3 * trials,
        told.join(" "),
        all.cpu_before.as_secs_f64(),
        all.cpu_after.as_secs_f64(),
        ms(all.gone)
    );
    let limit = Duration::from_millis(100);
    let kept = is_well && all.cpu_after <= limit && all.gone <= limit;
    let mut figures = Figures::new(text, kept);
    figures.beside = beside(place, "cancel", |peer| {
        let target = endless(fill(peer, 2_000, 120, 15_000)?);
        std::thread::sleep(Duration::from_secs(2));
        let left = leave(peer, (Leaving::Http1, None), &target, None)?;
        Ok(format!(
            "trials=1 (HTTP/1 closed) cpu_before_s={:.2} cpu_after_s={:.2}",
            left.cpu_before.as_secs_f64(),
            left.cpu_after.as_secs_f64()
        ))
    });
    Ok(figures)
}

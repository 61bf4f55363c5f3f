//! What machines do to a server under load: a kill, power that is cut, room that runs out. Ours and its peers alike.

use crate::http::Client;
use crate::kill_nine::{Summary, Trials};
use crate::loop_disk::LoopDisk;
use crate::remote_write::send;
use crate::rng::{Rng, mix};
use crate::server::{Launch, Product, Server};
use crate::steady::{Sent, Steady, Verdict};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

/// The disk whose power is cut; the file takes what is written.
const POWER_DISK_BYTES: u64 = 2 << 30;
/// After so many cuts the next ones meet a new disk: what is read back at the end of each grows.
const CUTS_OF_A_DISK: usize = 10;

/// Cuts the power of the disk at random instants under load.
///
/// # Errors
/// No disk can be made: no root, no loop device.
///
/// # Panics
/// As [`Trials::one`].
pub fn cut_power(program: &Path, dir: &Path, trials: usize, seed: u64) -> io::Result<Summary> {
    let mut summary = Summary::default();
    while summary.trials < trials && summary.kept() {
        let place = dir.join(format!("disk-{}", summary.trials));
        std::fs::create_dir_all(&place)?;
        let mut disk = LoopDisk::new(&place, POWER_DISK_BYTES)?;
        let data = disk.path().join("data");
        let mut run = Trials::start(program, &data, &place, &[], mix(&[seed, summary.trials as u64]));
        let count = CUTS_OF_A_DISK.min(trials - summary.trials);
        while run.summary.trials < count && run.summary.kept() {
            let pause = Duration::from_millis(50 + run.rng.below(900));
            run.one(|server| {
                std::thread::sleep(pause);
                let cut = disk.cut().expect("cut the power");
                server.kill();
                disk.restore().expect("mount the disk again");
                Some(cut)
            });
        }
        summary.add(&run.summary);
        // The server must be gone before its disk, and the disk before its file.
        drop(run);
        drop(disk);
        std::fs::remove_dir_all(&place)?;
    }
    Ok(summary)
}

/// What trials with a steady load came to, each on a store of its own.
#[derive(Debug, Clone, Default)]
pub struct Ends {
    /// How many.
    pub trials: usize,
    /// All that was there and was not.
    pub verdict: Verdict,
    /// The longest time between the first acknowledgement of what was lost and the end, in milliseconds.
    pub window_ms: u64,
    /// The longest time from a start to ready, in milliseconds.
    pub reopen_ms: u64,
}

impl fmt::Display for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trials, verdict, window_ms, reopen_ms } = self;
        write!(f, "trials={trials} {verdict} window_max_ms={window_ms} reopen_max_ms={reopen_ms}")
    }
}

impl Ends {
    /// Starts the server, which has ended at `end`, and adds what is there of what was `sent`.
    ///
    /// # Panics
    /// It does not start, or answers what is no answer.
    pub fn judge(&mut self, load: &Steady, server: &mut Server, sent: &[Sent], end: Instant) {
        let start = Instant::now();
        server.restart();
        self.reopen_ms = self.reopen_ms.max(start.elapsed().as_millis() as u64);
        let verdict = load.judge(&mut server.client(), sent);
        let window = verdict.first_lost.map_or(Duration::ZERO, |first| end.saturating_duration_since(first));
        self.window_ms = self.window_ms.max(window.as_millis() as u64);
        self.verdict.add(&verdict);
        self.trials += 1;
    }
}

/// How hard a trial is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `kill -9`.
    Kill,
    /// The power of the disk.
    Power,
}

/// A server, its arguments, and how it is put to the test.
#[derive(Debug, Clone, Copy)]
pub struct Trial<'t> {
    /// What it is.
    pub product: Product,
    /// Its program.
    pub program: &'t Path,
    /// Its arguments.
    pub arguments: &'t [&'t str],
    /// How it ends.
    pub way: Way,
    /// How long it works before.
    pub load_for: Duration,
}

/// Lets a server write for a while on an empty disk, ends it, starts it again and judges; `trials` times.
///
/// # Errors
/// No disk can be made: no root, no loop device.
///
/// # Panics
/// A server does not start, or answers what is no answer.
pub fn end_steady(trial: &Trial<'_>, dir: &Path, trials: usize, seed: u64) -> io::Result<Ends> {
    let mut ends = Ends::default();
    let mut rng = Rng::new(seed);
    for number in 0..trials {
        let place = dir.join(format!("{}-{number}", trial.product.name()));
        std::fs::create_dir_all(&place)?;
        let mut disk = match trial.way {
            Way::Kill => None,
            Way::Power => Some(LoopDisk::new(&place, POWER_DISK_BYTES)?),
        };
        let data = disk.as_ref().map_or_else(|| place.join("data"), |disk| disk.path().join("data"));
        let launch = Launch::new(trial.product, trial.program, &data, &place.join("server.log"));
        let mut server = launch.arguments(trial.arguments).start();
        let load = Steady::new(mix(&[seed, number as u64]), 4, 100);
        // Not always the same phase of what the server does at intervals.
        let load_for = trial.load_for.mul_f64(0.75 + rng.unit() / 2.0);
        let (mut sent, end) = load.write_while(server.address(), 0, || {
            std::thread::sleep(load_for);
            let end = match &disk {
                Some(disk) => instant_of(disk.cut().expect("cut the power")),
                None => Instant::now(),
            };
            server.kill();
            end
        });
        if disk.is_some() {
            for one in sent.iter_mut().filter(|one| one.ended > end) {
                // Without power nobody would have been answered.
                one.status = None;
            }
        }
        if let Some(disk) = &mut disk {
            disk.restore()?;
        }
        ends.judge(&load, &mut server, &sent, end);
        drop(server);
        drop(disk);
        std::fs::remove_dir_all(&place)?;
    }
    Ok(ends)
}

/// The instant of a time that has passed.
fn instant_of(time: SystemTime) -> Instant {
    let now = Instant::now();
    now.checked_sub(time.elapsed().unwrap_or_default()).unwrap_or(now)
}

/// What a full disk came to.
#[derive(Debug, Clone, Default)]
pub struct Full {
    /// How long the disk was full, in seconds.
    pub full_s: f64,
    /// Requests acknowledged while it was.
    pub acked: u64,
    /// Queries while it was full, and how many of them were answered.
    pub reads: (u64, u64),
    /// Whether the server lived through it.
    pub lived: bool,
    /// Whether a delete was carried out while it was full.
    pub deleted: bool,
    /// Whether what was deleted is gone after the restart.
    pub gone: bool,
    /// From the moment there was room again to the first write that was taken, in milliseconds.
    pub resume_ms: u64,
    /// What was there after a restart.
    pub ends: Ends,
}

/// Fills a disk of `bytes` under load, frees it after `full`, kills the server and starts it again.
///
/// # Errors
/// No disk can be made: no root, no loop device.
///
/// # Panics
/// A server does not start, or answers what is no answer.
pub fn fill_disk(trial: &Trial<'_>, dir: &Path, bytes: u64, full: Duration, seed: u64) -> io::Result<Full> {
    std::fs::create_dir_all(dir)?;
    let disk = LoopDisk::new(dir, bytes)?;
    let launch =
        Launch::new(trial.product, trial.program, &disk.path().join("data"), &dir.join("server.log"));
    let mut server = launch.arguments(trial.arguments).start();
    let load = Steady::new(seed, 4, 100);
    let ballast = disk.path().join("ballast");
    let mut met = Full::default();
    let mut http = server.client();
    // Written before, to be deleted while there is no room.
    let doomed = Steady { base_ms: load.base_ms - 600_000, ..load };
    let written = send(&mut http, &doomed.body(0, 0)).is_ok_and(|answer| answer.status < 300);
    assert!(written, "an empty store takes a sample");
    let (sent, (full_from, full_until)) = load.write_while(server.address(), 0, || {
        std::thread::sleep(trial.load_for);
        fill(&ballast).expect("fill the disk");
        let since = Instant::now();
        while since.elapsed() < full {
            // What the server gives back is taken, too.
            fill(&ballast).expect("fill the disk");
            let answered = http.get("/api/v1/query?query=count(steady)").is_ok_and(|a| a.status == 200);
            met.reads = (met.reads.0 + 1, met.reads.1 + u64::from(answered));
            std::thread::sleep(Duration::from_millis(100));
        }
        met.deleted = delete(&mut http, &doomed);
        let until = Instant::now();
        met.full_s = since.elapsed().as_secs_f64();
        std::fs::remove_file(&ballast).expect("free the disk");
        met.resume_ms = until_taken(&mut http, &load);
        std::thread::sleep(Duration::from_millis(500));
        (since, until)
    });
    // Begun and acknowledged while there was no room; the first second belongs to noticing it.
    let noticed = full_from + Duration::from_secs(1);
    let during = |s: &&Sent| s.sent > noticed && s.ended < full_until;
    met.acked = sent.iter().filter(during).filter(|s| s.status.is_some_and(|c| c < 300)).count() as u64;
    met.lived = server.ended().is_none();
    server.kill();
    met.ends.judge(&load, &mut server, &sent, Instant::now());
    met.gone = count_of(&mut server.client(), &doomed) == 0;
    drop(server);
    Ok(met)
}

/// Appends to the file until there is no room.
fn fill(path: &Path) -> io::Result<()> {
    let mut file = File::options().create(true).append(true).open(path)?;
    let mut piece = vec![7_u8; 1 << 20];
    while !piece.is_empty() {
        match file.write(&piece) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => piece.truncate(piece.len() / 2),
            Err(error) => return Err(error),
        }
    }
    file.sync_all()
}

/// Deletes the first samples of a load; whether the server says that it is done.
fn delete(http: &mut Client, load: &Steady) -> bool {
    let time = |ms: i64| format!("{:.3}", ms as f64 / 1000.0);
    let (start, end) = (time(load.base_ms - 1), time(load.base_ms + 1));
    let form = [("match[]", "steady"), ("start", &*start), ("end", &*end)];
    http.post_form("/api/v1/admin/tsdb/delete_series", &form).is_ok_and(|answer| answer.status == 204)
}

/// How many samples there are of the first request of a load, at most 1.
fn count_of(http: &mut Client, load: &Steady) -> u64 {
    let time = format!("{:.3}", load.base_ms as f64 / 1000.0);
    let form = [("query", "count(steady)"), ("time", &*time)];
    let answer = http.post_form("/api/v1/query", &form).expect("an answer");
    let json = answer.json().expect("JSON");
    json["data"]["result"].as_array().map_or(0, |list| list.len() as u64)
}

/// How long it takes until a write is taken, in milliseconds; at most half a minute.
fn until_taken(http: &mut Client, load: &Steady) -> u64 {
    let since = Instant::now();
    // A series of its own, so that nothing that is judged depends on it.
    let other = Steady { series: 1, base_ms: load.base_ms + 3_000_000, ..*load };
    while since.elapsed() < Duration::from_secs(30) {
        if send(http, &other.body(9, 0)).is_ok_and(|answer| answer.status < 300) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    since.elapsed().as_millis() as u64
}

//! What disks do to a server under load: power that is cut, room that runs out. Judged as kills are.

use crate::http::Client;
use crate::kill_nine::{Summary, Trials};
use crate::loop_disk::LoopDisk;
use crate::remote_write::{Request, label_bytes, send};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The disk whose power is cut; the file takes what is written.
const POWER_DISK_BYTES: u64 = 2 << 30;
/// The disk that gets full. A server takes no samples with less than 256 MiB free.
const SMALL_DISK_BYTES: u64 = 600 << 20;

/// Cuts the power of the disk at random instants under load.
///
/// # Errors
/// No disk can be made: no root, no loop device.
///
/// # Panics
/// As [`Trials::one`].
pub fn cut_power(program: &Path, dir: &Path, trials: usize, seed: u64) -> io::Result<Summary> {
    let mut disk = LoopDisk::new(dir, POWER_DISK_BYTES)?;
    let data = disk.path().join("data");
    let mut run = Trials::start(program, &data, dir, &[], seed);
    for _ in 0..trials {
        let pause = Duration::from_millis(50 + run.rng.below(900));
        run.one(|server| {
            std::thread::sleep(pause);
            disk.cut().expect("cut the power");
            server.kill();
            disk.restore().expect("mount the disk again");
        });
        if !run.summary.kept() {
            break;
        }
    }
    let summary = run.summary.clone();
    // The server must be gone before its disk.
    drop(run);
    Ok(summary)
}

/// What a full disk came to.
#[derive(Debug, Clone, Default)]
pub struct Full {
    /// How long the disk was full, in seconds.
    pub full_s: f64,
    /// Queries while it was full, and how many of them were answered.
    pub reads: (u64, u64),
    /// From the moment there was room again to the first write that was taken, in milliseconds.
    pub resume_ms: u64,
    /// What was there after a restart.
    pub summary: Summary,
}

/// Fills the disk under load, frees it after `full`, kills the server and starts it again.
///
/// # Errors
/// No disk can be made: no root, no loop device.
///
/// # Panics
/// As [`Trials::one`].
pub fn fill_disk(program: &Path, dir: &Path, full: Duration, seed: u64) -> io::Result<Full> {
    let disk = LoopDisk::new(dir, SMALL_DISK_BYTES)?;
    let mut run = Trials::start(program, &disk.path().join("data"), dir, &[], seed);
    let ballast = disk.path().join("ballast");
    let mut met = Full::default();
    run.one(|server| {
        std::thread::sleep(Duration::from_millis(500));
        fill(&ballast).expect("fill the disk");
        let since = Instant::now();
        let mut http = server.client();
        while since.elapsed() < full {
            // What the server gives back is taken, too.
            fill(&ballast).expect("fill the disk");
            let answered = http.get("/api/v1/query?query=count(kill_nine)").is_ok_and(|a| a.status == 200);
            met.reads = (met.reads.0 + 1, met.reads.1 + u64::from(answered));
            std::thread::sleep(Duration::from_millis(100));
        }
        met.full_s = since.elapsed().as_secs_f64();
        std::fs::remove_file(&ballast).expect("free the disk");
        met.resume_ms = until_taken(&mut http);
        server.kill();
    });
    met.summary = run.summary.clone();
    drop(run);
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

/// How long it takes until a write is taken, in milliseconds; at most half a minute.
fn until_taken(http: &mut Client) -> u64 {
    let since = Instant::now();
    let labels = label_bytes(&[("__name__", "room_again")]);
    while since.elapsed() < Duration::from_secs(30) {
        let mut request = Request::new();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        request.push(&labels, &[(now.as_millis() as i64, 1.0)]);
        if send(http, &request.compress()).is_ok_and(|answer| answer.status < 300) {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    since.elapsed().as_millis() as u64
}

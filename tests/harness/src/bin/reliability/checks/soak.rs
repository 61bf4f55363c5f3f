//! Soak: whether memory, descriptors, threads and temporary files stay level under mixed requests without end.

use super::measure::{Stopper, is_well, now_ms, start, status};
use super::{Check, Figures, Place, Way};
use kymo_tests::mixed::{Mixed, Tally};
use kymo_tests::server::Server;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[Check {
    number: "R26",
    name: "soak",
    what: "mixed requests of every kind; memory, descriptors, threads and temporary files level",
    way: Way::Server(soak),
}];

/// What makes a correct server steady, and flushes and merges frequent. Samples are of past days, and their time goes faster than
/// the clock: a head whose samples span two hours is flushed by itself, and orders among the requests flush and merge beside.
/// The oldest blocks go when all take more than the bound of size, which 50,000 requests come to; the age alone
/// would not let them go, as it must hold the whole run. Series are bounded by their names: those that come and go come again, since
/// a series leaves memory only after an hour of samples and ten minutes of the clock without it (what that takes is for
/// `storage/tests/soak.rs`, whose clock is its own).
const FLAGS: [&str; 5] = [
    "--web-enable-admin-api",
    "--retention=1y",
    "--retention-size=2MiB",
    "--compaction-percent=100",
    "--delete-reclaim-after=5s",
];
/// From one request's samples to the next's: 100,000 requests are four days and a half.
const STEP_MS: i64 = 4_000;
/// Connections at a time.
const WORKERS: u64 = 4;
/// Between two looks at the server.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// The line through the memory of the last seven tenths (in smoke: half) has so many points, each the mean of the looks of a fortieth.
/// Heads that fill and are flushed swing faster than that, merges hardly slower (a tenth up and down in 100,000 requests), and looks
/// that follow one another closely are no witnesses of their own. Before it, heaps of threads come to their size, for some 250,000
/// requests.
const POINTS: usize = 40;
/// The server is at rest when no count has fallen for so long, which is longer than anything takes that it does by itself.
const REST: Duration = Duration::from_secs(3);
/// It is judged as it is after so long.
const REST_LIMIT: Duration = Duration::from_secs(60);
/// What smoke lets memory grow by. It ends before the store has its size: tables, heaps of threads and the buffers of merges still come
/// to theirs. So it sees only what loses 3 KB with a request, and the longer tiers see the rest.
const SMOKE_GROWTH_BYTES: f64 = 8_388_608.0;

/// What is seen of the server from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Look {
    requests: u64,
    anonymous_bytes: u64,
    resident_bytes: u64,
    fds: usize,
    threads: usize,
    temporary: usize,
}

impl Look {
    fn at(server: &Server, requests: u64) -> Self {
        let usage = server.usage();
        Self {
            requests,
            anonymous_bytes: usage.anonymous_bytes,
            resident_bytes: usage.resident_bytes,
            fds: descriptors(server.id(), server.data()),
            threads: std::fs::read_dir(format!("/proc/{}/task", server.id())).map_or(0, Iterator::count),
            temporary: temporary_files(server.data()),
        }
    }

    /// The same with the lower of each count.
    fn least(self, other: Self) -> Self {
        Self {
            fds: self.fds.min(other.fds),
            threads: self.threads.min(other.threads),
            temporary: self.temporary.min(other.temporary),
            ..self
        }
    }

    /// What must not grow by a single one.
    fn counts(&self) -> [usize; 3] {
        [self.fds, self.threads, self.temporary]
    }
}

/// Open descriptors but those of blocks: each block is open as long as it is there, and how many there are is up to merges. One that
/// was removed and is still open counts.
fn descriptors(id: u32, data: &Path) -> usize {
    let blocks = data.join("blocks");
    let list = std::fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    let is_counted = |link: &Path| !(link.starts_with(&blocks) && link.exists());
    list.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|link| is_counted(&link))).count()
}

/// Files and folders that are not finished, by their ending.
fn temporary_files(dir: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        count += usize::from(path.extension().is_some_and(|ending| ending == "tmp"));
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            count += temporary_files(&path);
        }
    }
    count
}

/// What stays of the server with all connections closed and nothing in its head: the least of each count, for a thread that comes and
/// goes each second is no growth.
fn at_rest(server: &Server, requests: u64) -> Result<Look, String> {
    let flushed = status(server.client().request("POST", "/api/v1/admin/tsdb/snapshot", &[], &[]));
    if flushed != 200 {
        return Err(format!("a flush was answered {flushed}"));
    }
    std::fs::remove_dir_all(server.data().join("snapshots")).map_err(|e| e.to_string())?;
    let (began, mut since, mut least) = (Instant::now(), Instant::now(), Look::at(server, requests));
    while since.elapsed() < REST && began.elapsed() < REST_LIMIT {
        std::thread::sleep(LOOK_PAUSE);
        let lower = least.least(Look::at(server, requests));
        if lower != least {
            since = Instant::now();
        }
        least = lower;
    }
    Ok(least)
}

/// Looks at the server until `work` is done.
fn watched(server: &Server, done: &AtomicU64, work: impl FnOnce() -> Tally) -> (Vec<Look>, Tally) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                looks.push(Look::at(server, done.load(Ordering::Relaxed)));
                std::thread::sleep(LOOK_PAUSE);
            }
            looks
        });
        let stopper = Stopper(&stop);
        let tally = work();
        drop(stopper);
        (watch.join().unwrap_or_default(), tally)
    })
}

/// A straight line through points.
#[derive(Debug, Clone, Copy, Default)]
struct Line {
    mean: f64,
    slope: f64,
    /// Of the slope.
    error: f64,
}

impl Line {
    fn through(points: &[(f64, f64)]) -> Self {
        let count = points.len() as f64;
        let (mean_x, mean) =
            points.iter().fold((0.0, 0.0), |sum, p| (sum.0 + p.0 / count, sum.1 + p.1 / count));
        let square: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
        let slope = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean)).sum::<f64>() / square;
        let rest: f64 = points.iter().map(|p| (p.1 - mean - slope * (p.0 - mean_x)).powi(2)).sum();
        Self { mean, slope, error: (rest / (count - 2.0) / square).sqrt() }
    }

    fn t(self) -> f64 {
        self.slope / self.error
    }
}

/// The means of requests and anonymous bytes in each of [`POINTS`] equal parts of the requests from `first` to `end`.
fn means(looks: &[Look], first: u64, end: u64) -> Vec<(f64, f64)> {
    let part = (end - first).div_ceil(POINTS as u64).max(1);
    let mean = |number: u64| {
        let from = first + number * part;
        let of_part = || looks.iter().filter(|look| (from..from + part).contains(&look.requests));
        let count = of_part().count() as f64;
        let sum = of_part().fold((0.0, 0.0), |sum, look| {
            (sum.0 + look.requests as f64, sum.1 + look.anonymous_bytes as f64)
        });
        (count > 0.0).then_some((sum.0 / count, sum.1 / count))
    };
    (0..POINTS as u64).filter_map(mean).collect()
}

fn soak(place: &Place<'_>) -> Result<Figures, String> {
    let total = place.count_weekly(6_000, 1_000_000, 4_000_000);
    let server = start(place, "soak", &FLAGS);
    let mixed = Mixed {
        address: server.address(),
        seed: place.seed,
        base_ms: now_ms() - (total as i64 + 1_000) * STEP_MS,
        step_ms: STEP_MS,
        // All have come once when a fifth of the requests is done, or earlier.
        names: total.min(100_000) / 100,
        snapshots: server.data().join("snapshots"),
    };
    let (warm, settled, done) = (total / 4, place.count(total / 2, total / 10 * 3), AtomicU64::new(0));
    let began = Instant::now();
    let mut tally = mixed.run(0..warm, WORKERS, &done);
    let before = at_rest(&server, warm)?;
    let (looks, rest) = watched(&server, &done, || mixed.run(warm..total, WORKERS, &done));
    tally.add(rest);
    let seconds = began.elapsed().as_secs_f64();
    let after = at_rest(&server, total)?;
    let judged: Vec<Look> = looks.into_iter().filter(|look| look.requests >= settled).collect();
    let points = means(&judged, settled, total);
    if points.len() < POINTS {
        return Err(format!("the last part has {} points, the line needs {POINTS}", points.len()));
    }
    let line = Line::through(&points);
    let growth_bytes = line.slope * (total - settled) as f64;
    let growth_pct = 100.0 * growth_bytes / line.mean;
    // A slope below twice its error is not told from none. One above is a leak only if it leads somewhere: allocators and tables settle
    // for long, and the points of a quiet server lie so close to the line that a few hundred KiB are many errors. A twentieth of the
    // 30 MiB that it holds is 2.2 B lost with each request of the night.
    let is_level = line.t() < 2.0 || growth_pct < 5.0 || growth_bytes < place.count(SMOKE_GROWTH_BYTES, 0.0);
    let most = |of: fn(&Look) -> usize| judged.iter().map(of).max().unwrap_or(0);
    let errors =
        server.output().lines().filter(|line| line.split_whitespace().nth(1) == Some("ERROR")).count();
    let mut resident: Vec<u64> = judged.iter().map(|look| look.resident_bytes).collect();
    resident.sort_unstable();
    let text = format!(
        "requests={total} per_s={:.0} rss_mib={} rss_max_mib={} anon_mib={:.1} at_rest_mib={}->{} slope_kib_per_1000={:.2} t={:.1} growth_pct={growth_pct:.1} \
         looks={} fds={}->{} threads={}->{} temp_files={}->{} most_at_work=fds:{},threads:{},temp_files:{} errors={errors} \
         answers_5xx={} odd={}{}",
        total as f64 / seconds,
        resident.get(resident.len() / 2).copied().unwrap_or(0) >> 20,
        resident.last().copied().unwrap_or(0) >> 20,
        line.mean / f64::from(1 << 20),
        before.anonymous_bytes >> 20,
        after.anonymous_bytes >> 20,
        line.slope * 1_000.0 / 1_024.0,
        line.t(),
        judged.len(),
        before.fds,
        after.fds,
        before.threads,
        after.threads,
        before.temporary,
        after.temporary,
        most(|look| look.fds),
        most(|look| look.threads),
        most(|look| look.temporary),
        tally.faults,
        tally.odd,
        tally.told.first().map(|one| format!(" first={one:?}")).unwrap_or_default(),
    );
    let has_none_more = after.counts().iter().zip(before.counts()).all(|(after, before)| *after <= before);
    let kept = is_level && has_none_more && errors == 0 && tally.odd == 0 && tally.requests == total;
    Ok(Figures::new(text, kept && is_well(&server)))
}

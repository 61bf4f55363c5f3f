//! Crash, power and disk: what happens to the machine below the server.

use super::{Check, Figures, Place, Way};
use kymo_tests::hard_times::{self, Ends, Trial, cut_power, end_steady, fill_disk};
use kymo_tests::hostile::allow_files;
use kymo_tests::kill_calls;
use kymo_tests::kill_nine::{self, Summary};
use kymo_tests::remote_write::begin;
use kymo_tests::server::{Launch, Product, Server};
use kymo_tests::steady::{Sent, Steady};
use kymo_tests::strace::Strace;
use std::path::Path;
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[
    Check { number: "R1", name: "kill9", what: "`kill -9` under mixed load", way: Way::Server(kill9) },
    Check {
        number: "R2",
        name: "killcall",
        what: "`kill -9` at each system call that changes files",
        way: Way::Server(killcall),
    },
    Check {
        number: "R3",
        name: "states",
        what: "a crash after every operation of the file system, with each choice of what survived",
        way: Way::Tests {
            arguments: &["-p", "kymo-storage", "--test", "recovery"],
            only: "every_crash",
            variable: "KYMO_CRASH_HISTORIES",
            count: (36, 3_000),
        },
    },
    Check {
        number: "R4",
        name: "powerloss",
        what: "the power of the disk is cut under load",
        way: Way::Server(powerloss),
    },
    Check {
        number: "R4",
        name: "interval",
        what: "the same with `--durability interval=1s`: what is lost is that young",
        way: Way::Server(interval),
    },
    Check {
        number: "R7",
        name: "restart",
        what: "random histories: a restart changes no answer",
        way: Way::Tests {
            arguments: &["-p", "kymo-storage", "--test", "model"],
            only: "",
            variable: "KYMO_MODEL_CASES",
            count: (200, 10_000),
        },
    },
    Check {
        number: "R9",
        name: "fsync_eio",
        what: "every sync fails from some instant on",
        way: Way::Server(fsync_eio),
    },
    Check { number: "R10", name: "enospc", what: "the disk is full, then is not", way: Way::Server(enospc) },
    Check { number: "R12", name: "slowsync", what: "each sync takes longer", way: Way::Server(slowsync) },
    Check {
        number: "R13",
        name: "lock",
        what: "a second process on the same directory; a lock left behind",
        way: Way::Server(lock),
    },
];

fn judged(summary: &Summary, more: &str, kept: bool) -> Figures {
    let notes = first_notes(&summary.notes);
    Figures::new(format!("{summary}{more}{notes}"), kept && summary.kept() && summary.acked > 0)
}

/// What the peers that are installed do in the same trial.
fn beside(
    place: &Place<'_>,
    mut run: impl FnMut(Product, &Path) -> Result<String, String>,
) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for product in Product::PEERS.into_iter().filter(|_| place.peers) {
        let figures = match product.installed() {
            Some(program) => run(product, &program).unwrap_or_else(|why| format!("not run: {why}")),
            None => "not run: not installed".to_owned(),
        };
        lines.push((product.name().to_owned(), figures));
    }
    lines
}

/// What the peers need to be told, as little as possible.
fn peer_arguments(product: Product) -> &'static [&'static str] {
    match product {
        Product::Prometheus => &["--web.enable-admin-api"],
        _ => &[],
    }
}

/// Trials of two lengths: shorter and longer than the time a peer keeps what it acknowledged in memory.
fn peer_ends(
    place: &Place<'_>,
    product: Product,
    program: &Path,
    way: hard_times::Way,
) -> Result<String, String> {
    let mut all = Vec::new();
    for seconds in [3, 15] {
        let load_for = Duration::from_secs(seconds);
        let trial = Trial { product, program, arguments: peer_arguments(product), way, load_for };
        let ends = end_steady(&trial, place.dir, place.count(1, 5), place.seed).map_err(|e| no_disk(&e))?;
        all.push(format!("load_s={seconds} {ends}"));
    }
    Ok(all.join("; "))
}

fn no_disk(error: &std::io::Error) -> String {
    format!("no disk of our own: {error}")
}

fn kill9(place: &Place<'_>) -> Result<Figures, String> {
    let trials = place.count(20, 500);
    let summary = kill_nine::run(place.program, place.dir, &[], trials, place.seed);
    let kept = summary.trials == trials && summary.reopen_p99_ms() <= 2_000 && summary.flushes > 0;
    let mut figures = judged(&summary, "", kept);
    figures.beside =
        beside(place, |product, program| peer_ends(place, product, program, hard_times::Way::Kill));
    Ok(figures)
}

fn killcall(place: &Place<'_>) -> Result<Figures, String> {
    let runs = kill_calls::run(place.program, place.dir, place.count(60, usize::MAX), place.seed)?;
    let threads: Vec<String> = runs.threads.iter().map(|(name, n)| format!("{name}={n}")).collect();
    let (lost, wrong) = (runs.verdict.lost, runs.verdict.wrong + runs.verdict.refused_present);
    let text = format!(
        "calls={} of_strace={} places={} ({}) chosen={} killed_at={} varying={} varying_killed_at={} runs={} acked={} lost={lost} \
         wrong={wrong} undeleted={} leftovers={} unsound={}{}",
        runs.seen.1,
        runs.seen.0,
        runs.places,
        threads.join(" "),
        runs.chosen,
        runs.killed,
        runs.varying.0,
        runs.varying.1,
        runs.runs,
        runs.verdict.acked,
        runs.undeleted,
        runs.leftovers,
        runs.unsound,
        first_notes(&runs.notes)
    );
    let broken = lost + wrong + runs.undeleted + runs.leftovers + runs.unsound;
    // A call of which the library does not know cannot be killed at, and a place that every listing has must be.
    let is_complete = runs.seen.0 == runs.seen.1 && runs.killed == runs.chosen && runs.chosen > 0;
    Ok(Figures::new(text, broken == 0 && is_complete && runs.verdict.acked > 0))
}

/// The first notes of what went wrong, if anything did.
pub(super) fn first_notes(notes: &[String]) -> String {
    notes.iter().take(5).map(|note| format!("; {note}")).collect()
}

fn powerloss(place: &Place<'_>) -> Result<Figures, String> {
    let trials = place.count(3, 100);
    let summary = cut_power(place.program, place.dir, trials, place.seed).map_err(|e| no_disk(&e))?;
    let mut figures = judged(&summary, "", summary.trials == trials);
    figures.beside =
        beside(place, |product, program| peer_ends(place, product, program, hard_times::Way::Power));
    Ok(figures)
}

fn interval(place: &Place<'_>) -> Result<Figures, String> {
    let arguments = &["--durability=interval=1s"];
    let (way, load_for) = (hard_times::Way::Power, Duration::from_secs(3));
    let trial = Trial { product: Product::Kymo, program: place.program, arguments, way, load_for };
    let ends: Ends =
        end_steady(&trial, place.dir, place.count(2, 20), place.seed).map_err(|e| no_disk(&e))?;
    let wrong = ends.verdict.wrong + ends.verdict.refused_present;
    Ok(Figures::new(ends.to_string(), ends.window_ms <= 1_200 && wrong == 0 && ends.verdict.acked > 0))
}

fn enospc(place: &Place<'_>) -> Result<Figures, String> {
    let full = Duration::from_secs(place.count(3, 20));
    let sizes: &[u64] = place.count(&[600], &[420, 600, 900]);
    let run = |product, program: &Path, arguments: &[&str], mebibytes: u64| {
        let (way, load_for) = (hard_times::Way::Kill, Duration::from_secs(2));
        let trial = Trial { product, program, arguments, way, load_for };
        let dir = place.dir.join(format!("{product:?}-{mebibytes}"));
        let met = fill_disk(&trial, &dir, mebibytes << 20, full, place.seed).map_err(|e| no_disk(&e))?;
        let text = format!(
            "disk_mib={mebibytes} full_s={:.1} lived={} acked_while_full={} reads={} reads_answered={} deleted_while_full={} \
             deleted_is_gone={} resume_ms={} {}",
            met.full_s,
            met.lived,
            met.acked,
            met.reads.0,
            met.reads.1,
            met.deleted,
            met.gone,
            met.resume_ms,
            met.ends
        );
        let kept = met.lived
            && met.reads.0 == met.reads.1
            && met.resume_ms <= 5_000
            && met.ends.verdict.kept()
            && met.deleted
            && met.gone
            && met.ends.verdict.refused > 0;
        Ok((text, kept))
    };
    let (mut texts, mut kept) = (Vec::new(), true);
    for size in sizes {
        let (text, good) = run(Product::Kymo, place.program, &["--web-enable-admin-api"], *size)?;
        texts.push(text);
        kept &= good;
    }
    let mut figures = Figures::new(texts.join("; "), kept);
    figures.beside = beside(place, |product, program| {
        run(product, program, peer_arguments(product), 600).map(|(text, _)| text)
    });
    Ok(figures)
}

/// A server of ours below the check's directory.
pub(super) fn kymo(place: &Place<'_>, arguments: &[&str]) -> Server {
    let (data, log) = (place.dir.join("data"), place.dir.join("server.log"));
    Launch::new(Product::Kymo, place.program, &data, &log).arguments(arguments).start()
}

fn fsync_eio(place: &Place<'_>) -> Result<Figures, String> {
    let mut server = kymo(place, &[]);
    let load = Steady::new(place.seed, 4, 100);
    let mut http = server.client();
    let (sent, met) = load.write_while(server.address(), 0, || -> Result<_, String> {
        std::thread::sleep(Duration::from_secs(1));
        let log = place.dir.join("strace.log");
        let strace = Strace::attach(server.id(), "fsync,fdatasync", "error=EIO", &log)?;
        let attached = Instant::now();
        let (mut reads, mut answered) = (0_u64, 0_u64);
        while attached.elapsed() < Duration::from_secs(place.count(3, 15)) {
            reads += 1;
            let answer = http.get("/api/v1/query?query=count(steady)");
            answered += u64::from(answer.is_ok_and(|a| a.status == 200));
            std::thread::sleep(Duration::from_millis(50));
        }
        let ready = http.get("/-/ready").map(|answer| answer.text()).unwrap_or_default();
        drop(strace);
        Ok((attached, reads, answered, ready))
    });
    let (attached, reads, answered, ready) = met?;
    // A request that began after another one was told of the failure must not be acknowledged.
    let failed = sent.iter().filter(|s| s.ended > attached && s.status.is_some_and(|c| c >= 500));
    let first_failure = failed.map(|s| s.ended).min();
    let injected = u64::from(first_failure.is_some());
    let acks_after = sent
        .iter()
        .filter(|s| first_failure.is_some_and(|f| s.sent > f) && s.status.is_some_and(|c| c < 300))
        .count();
    server.kill();
    server.restart();
    let verdict = load.judge(&mut server.client(), &sent);
    let says_why = ready.contains("until restarted");
    let text = format!(
        "failures_seen={injected} acks_after={acks_after} reads={reads} reads_answered={answered} ready_says_why={says_why} {verdict}"
    );
    let kept = injected > 0 && acks_after == 0 && reads == answered && says_why && verdict.kept();
    Ok(Figures::new(text, kept))
}

fn slowsync(place: &Place<'_>) -> Result<Figures, String> {
    let mut server = kymo(place, &[]);
    let load = Steady::new(place.seed, 8, 100);
    let (mut texts, mut kept, mut first) = (Vec::new(), true, 0);
    let mut all = Vec::new();
    let quick = Duration::from_secs(place.count(3, 20));
    let mut base_p99 = None;
    for delay_ms in [0_u64, 500, 5_000] {
        let mut http = server.client();
        let before = server.usage().resident_bytes;
        let (sent, met) = load.write_while(server.address(), first, || -> Result<_, String> {
            let log = place.dir.join(format!("strace-{delay_ms}.log"));
            let fault = format!("delay_exit={}", delay_ms * 1_000);
            let strace = match delay_ms {
                0 => None,
                _ => Some(Strace::attach(server.id(), "fdatasync,fsync", &fault, &log)?),
            };
            let mut took = Vec::new();
            let since = Instant::now();
            while since.elapsed() < quick.max(Duration::from_millis(3 * delay_ms)) {
                let asked = Instant::now();
                let answer = http.get("/api/v1/query?query=count(steady)").map_err(|e| e.to_string())?;
                if answer.status != 200 {
                    return Err(format!("a query was answered {}", answer.status));
                }
                took.push(asked.elapsed());
                std::thread::sleep(Duration::from_millis(20));
            }
            drop(strace);
            Ok((took, since.elapsed()))
        });
        let (mut took, lasted) = met?;
        took.sort_unstable();
        let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or_default();
        let base = *base_p99.get_or_insert(p99);
        let ratio = p99.as_secs_f64() / base.as_secs_f64().max(1e-6);
        let growth = server.usage().resident_bytes.saturating_sub(before) >> 20;
        let acked = sent.iter().filter(|s| s.status.is_some_and(|c| c < 300)).count();
        first = sent.iter().map(|s| s.request + 1).max().unwrap_or(first);
        all.extend(sent);
        let rate = acked as f64 / lasted.as_secs_f64();
        texts.push(format!(
            "delay_ms={delay_ms} acked/s={rate:.1} rss_growth_mib={growth} q_p99_ms={:.2} q_p99_ratio={ratio:.2}",
            p99.as_secs_f64() * 1000.0
        ));
        // A ratio of two times below five milliseconds is that of two waits for a core: a single one of them makes it 2 or 10, whatever
        // the disk does. A query that waited for a sync would take the half second of it at least.
        kept &= growth <= 32 && acked > 0 && (ratio <= 2.0 || p99 < Duration::from_millis(5));
    }
    server.kill();
    server.restart();
    let verdict = load.judge(&mut server.client(), &all);
    texts.push(verdict.to_string());
    drop(server);
    let (text, queue_kept) = full_queue(place)?;
    texts.push(text);
    Ok(Figures::new(texts.join("; "), kept && verdict.kept() && queue_kept))
}

/// Requests that come while one sync takes its time: more than the queue of the store takes, which is 4,096, and the group before it.
const CROWD: u64 = 8_000;

/// Fills the queue behind a sync that takes five seconds. Who finds it full is told so at once, and nothing of his is stored.
fn full_queue(place: &Place<'_>) -> Result<(String, bool), String> {
    allow_files(CROWD + 1_000);
    let (data, log) = (place.dir.join("queue"), place.dir.join("queue.log"));
    let launch =
        Launch::new(Product::Kymo, place.program, &data, &log).arguments(&["--max-connections=12000"]);
    let mut server = launch.start();
    let load = Steady::new(place.seed, 1, 1);
    // The series is known and the log begun: what is slow from now on is the sync alone.
    let mut all = vec![load.send_one(&mut server.client(), 0, 0)];
    // All are connected before, so that they can speak within one sync.
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut http = server.client();
        http.get("/-/healthy").map_err(|e| format!("a client of a crowd: {e}"))?;
        crowd.push(http);
    }
    let log = place.dir.join("strace-queue.log");
    let fault = "delay_exit=5000000";
    let strace = Strace::attach_thread(server.id(), "kymo-commit", "fdatasync,fsync", fault, &log)?;
    let mut begun = Vec::new();
    for (mut http, request) in crowd.into_iter().zip(1..) {
        let body = load.body(0, request);
        let sent = Instant::now();
        begin(&mut http, &body).map_err(|e| format!("a client of a crowd: {e}"))?;
        begun.push((http, request, sent));
    }
    let crowded = begun.first().map(|(_, _, sent)| sent.elapsed()).unwrap_or_default();
    // The sync stays slow until the last of them is answered: that all have reached the queue.
    let mut slow = Some(strace);
    let (mut full, mut other) = (0_u64, 0_u64);
    for (mut http, request, sent) in begun.into_iter().rev() {
        let answer = http.finish("POST");
        drop(slow.take());
        let status = answer.as_ref().ok().map(|answer| answer.status);
        match answer {
            Ok(answer) if answer.status == 503 && answer.text().contains("the write queue is full") => {
                full += 1;
            }
            Ok(answer) if answer.status < 300 => {}
            _ => other += 1,
        }
        all.push(Sent { client: 0, request, sent, ended: Instant::now(), status });
    }
    server.kill();
    server.restart();
    let verdict = load.judge(&mut server.client(), &all);
    let text = format!(
        "queue: requests={CROWD} sent_in_s={:.1} queue_full_503={full} other={other} {verdict}",
        crowded.as_secs_f64()
    );
    Ok((text, full > 0 && other == 0 && verdict.kept()))
}

fn lock(place: &Place<'_>) -> Result<Figures, String> {
    let mut server = kymo(place, &[]);
    let (data, log) = (place.dir.join("data"), place.dir.join("second.log"));
    let launch = Launch::new(Product::Kymo, place.program, &data, &log);
    let began = Instant::now();
    let (mut second, _) = launch.spawn()?;
    while second.ended().is_none() && began.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = began.elapsed();
    let status = second.ended().and_then(|status| status.code());
    let said = second.output();
    let names_holder = said.contains(&format!("process {}", server.id()));
    let first_lives = server.client().get("/-/ready").is_ok_and(|answer| answer.status == 200);
    server.kill();
    let stale = launch.try_start().is_ok();
    let text = format!(
        "second_exit={status:?} refused_ms={} names_holder={names_holder} first_lives={first_lives} stale_lock_ignored={stale}",
        took.as_millis()
    );
    let in_time = took <= Duration::from_secs(1);
    Ok(Figures::new(text, status == Some(1) && in_time && names_holder && first_lives && stale))
}

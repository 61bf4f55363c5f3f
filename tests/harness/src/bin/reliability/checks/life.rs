//! Memory, time and life cycle: what the machine has too little of, clocks that jump, starts and ends.

use super::disk::kymo;
use super::rot::metric;
use super::{Check, Figures, Place, Way};
use kymo_storage::model::Labels;
use kymo_storage::options::{Durability, Options};
use kymo_tests::clock_preload::Clock;
use kymo_tests::hard_times::Ends;
use kymo_tests::http::Client;
use kymo_tests::memory_cap::MemoryCap;
use kymo_tests::remote_write::{Request, label_bytes, send};
use kymo_tests::rng::{Rng, mix};
use kymo_tests::server::{Launch, Product, Server};
use kymo_tests::steady::Steady;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[
    Check {
        number: "R23",
        name: "memory",
        what: "512 MiB, and new series without end",
        way: Way::Server(memory),
    },
    Check {
        number: "R24",
        name: "oomkill",
        what: "the kernel ends it for want of memory",
        way: Way::Server(oomkill),
    },
    Check { number: "R25", name: "clock", what: "the clock jumps and stands", way: Way::Server(clock) },
    Check {
        number: "R27",
        name: "term",
        what: "SIGTERM under load, and a second one",
        way: Way::Server(term),
    },
    Check { number: "R28", name: "reload", what: "a configuration that is wrong", way: Way::Server(reload) },
    Check { number: "R29", name: "bigwal", what: "a start with a long log", way: Way::Server(bigwal) },
];

const CAP_BYTES: u64 = 512 << 20;

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64
}

/// Sends new series without end, `each` at a time, until told to stop or the server is gone.
fn flood(mut http: Client, each: u64, stop: &AtomicBool) -> (u64, u64, String) {
    let (mut taken, mut refused, mut said, mut next) = (0, 0, String::new(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        let mut request = Request::new();
        for _ in 0..each {
            let (pod, path) = (format!("pod-{:016x}", mix(&[next])), format!("/api/v1/items/{next}"));
            let labels = [("__name__", "flood"), ("namespace", "production"), ("path", &path), ("pod", &pod)];
            request.push(&label_bytes(&labels), &[(now_ms(), next as f64)]);
            next += 1;
        }
        match send(&mut http, &request.compress()) {
            Ok(answer) if answer.status < 300 => taken += 1,
            Ok(answer) => {
                refused += 1;
                let text = answer.text();
                said = format!("{} {}", answer.status, text.lines().next().unwrap_or_default());
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(_) => break,
        }
    }
    (taken, refused, said)
}

fn memory(place: &Place<'_>) -> Result<Figures, String> {
    let cap = MemoryCap::new(CAP_BYTES).map_err(|e| format!("no memory group of our own: {e}"))?;
    let (data, log) = (place.dir.join("data"), place.dir.join("server.log"));
    // The store a third of what there is, queries and requests a tenth each.
    let limits = ["--storage-memory=176MiB", "--query-memory=48MiB", "--ingest-memory=48MiB"];
    let launch = Launch::new(Product::Kymo, place.program, &data, &log).arguments(&limits).by(cap.prefix());
    let mut server = launch.start();
    // So early that no client of a fast server comes to be ahead of the clock.
    let known = Steady { base_ms: now_ms() - 12 * 3_600_000, ..Steady::new(place.seed, 2, 100) };
    let (stop, lasts) = (AtomicBool::new(false), Duration::from_secs(place.count(20, 300)));
    let mut http = server.client();
    let (mut peak, mut queries, mut answered) = (0, 0_u64, 0_u64);
    let (sent, (_, refused, said)) = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(server.client(), 2_000, &stop));
        let (sent, ()) = known.write_while(server.address(), 0, || {
            let began = Instant::now();
            while began.elapsed() < lasts {
                peak = peak.max(server.usage().resident_bytes);
                queries += 1;
                let ok = http.get("/api/v1/query?query=sum(rate(steady%5B1m%5D))");
                answered += u64::from(ok.is_ok_and(|a| a.status == 200));
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        stop.store(true, Ordering::Relaxed);
        (sent, flooding.join().unwrap_or_default())
    });
    let alive = server.ended().is_none();
    let good = sent.iter().filter(|s| s.status.is_some_and(|c| c < 300)).count();
    let known_pct = good as f64 * 100.0 / sent.len().max(1) as f64;
    let series = metric(&mut http, "kymo_storage_series");
    server.kill();
    server.restart();
    let verdict = known.judge(&mut server.client(), &sent);
    let text = format!(
        "mib=512 rss_peak_mib={} failcnt={} alive={} series={series} flood_refused={refused} known_ok_pct={known_pct:.2} \
         queries={queries} answered={answered} {verdict} said={said:?}",
        peak >> 20,
        cap.failures(),
        u8::from(alive),
    );
    server.kill();
    let in_room = peak * 10 <= CAP_BYTES * 9;
    let is_told = refused > 0 && said.contains("429") && said.contains("limit");
    let kept = alive && in_room && known_pct >= 99.0 && queries == answered && is_told && verdict.kept();
    Ok(Figures::new(text, kept))
}

fn oomkill(place: &Place<'_>) -> Result<Figures, String> {
    let trials = place.count(3, 50);
    let mut rng = Rng::new(place.seed);
    let mut ends = Ends::default();
    let mut killed = 0;
    for number in 0..trials {
        let dir = place.dir.join(number.to_string());
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        let cap = MemoryCap::new((48 + rng.below(80)) << 20)
            .map_err(|e| format!("no memory group of our own: {e}"))?;
        let (data, log) = (dir.join("data"), dir.join("server.log"));
        let launch = Launch::new(Product::Kymo, place.program, &data, &log);
        let mut server = launch.clone().by(cap.prefix()).start();
        let load = Steady::new(mix(&[place.seed, number]), 3, 100);
        let stop = AtomicBool::new(false);
        let (address, flooder) = (server.address(), server.client().with_timeout(Duration::from_secs(5)));
        let (sent, ended) = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(flooder, 2_000, &stop));
            let met = load.write_while(address, 0, || wait_for_end(&mut server));
            stop.store(true, Ordering::Relaxed);
            let _ = flooding.join();
            met
        });
        killed += u64::from(ended);
        server.kill();
        let mut again = launch.start();
        ends.judge(&load, &mut again, &sent, Instant::now());
        drop(again);
        drop(server);
        std::fs::remove_dir_all(&dir).map_err(|e| e.to_string())?;
    }
    let text = format!("killed={killed} {ends}");
    Ok(Figures::new(text, killed == trials && ends.verdict.kept()))
}

/// Whether the kernel ended it within a minute.
fn wait_for_end(server: &mut Server) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(60) {
        if let Some(status) = server.ended() {
            return status.signal() == Some(9);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Milliseconds by which the clock is wrong; the last one stands still.
const JUMPS: [(&str, i64); 6] = [
    ("-1h", -3_600_000),
    ("+1h", 3_600_000),
    ("+10y", 315_360_000_000),
    ("back", 0),
    ("-10y", -315_360_000_000),
    ("frozen", 0),
];

fn clock(place: &Place<'_>) -> Result<Figures, String> {
    let clock = Clock::make(place.dir)?;
    let (data, log) = (place.dir.join("data"), place.dir.join("server.log"));
    let launch = Launch::new(Product::Kymo, place.program, &data, &log)
        .arguments(&["--web-enable-admin-api", "--self-monitor=true"]);
    let mut server = clock.preload(launch).start();
    let mut http = server.client();
    // Samples of the last ten days, most of them in blocks.
    let old = Steady { base_ms: now_ms() - 10 * 86_400_000, ..Steady::new(place.seed, 1, 100) };
    let fresh = Steady::new(place.seed, 2, 50);
    let old_sent: Vec<_> = (0..50).map(|request| old.send_one(&mut http, 0, request)).collect();
    let flushed = http.request("POST", "/api/v1/admin/tsdb/snapshot", &[], &[]);
    assert!(flushed.is_ok_and(|answer| answer.status < 300), "a flush is carried out");
    let (mut all, mut next, mut late_refused) = (Vec::new(), 0, 0);
    for (name, shift) in JUMPS {
        clock.set(shift, name == "frozen")?;
        // Longer than the store takes to look at age, retention and room.
        let pause = Duration::from_secs(place.count(12, 25));
        let (sent, ()) = fresh.write_while(server.address(), next, || std::thread::sleep(pause));
        next = sent.iter().map(|s| s.request + 1).max().unwrap_or(next);
        late_refused += sent.iter().filter(|s| s.status.is_some_and(|c| c >= 400)).count();
        all.extend(sent);
    }
    clock.set(0, false)?;
    let dropped = metric(&mut http, "kymo_storage_blocks_dropped_total");
    let own = "count_over_time(kymo_storage_series[1h])";
    let own = http.post_form("/api/v1/query", &[("query", own)]).map_err(|e| e.to_string())?;
    let own = own.json()?["data"]["result"][0]["value"][1].as_str().and_then(|v| v.parse().ok());
    let own: f64 = own.unwrap_or(0.0);
    let output = server.output();
    let panics = output.matches("panicked").count() + output.matches("met a bug").count();
    let old_now = old.judge(&mut http, &old_sent);
    let fresh_now = fresh.judge(&mut http, &all);
    let alive = server.ended().is_none();
    server.kill();
    server.restart();
    let mut http = server.client();
    let (old_then, fresh_then) = (old.judge(&mut http, &old_sent), fresh.judge(&mut http, &all));
    let deleted = old_now.lost + old_then.lost;
    let lost = fresh_now.lost + fresh_then.lost;
    // One sample in 15 s, and one more for a round that a jump began.
    let burst = own > (JUMPS.len() as f64) * place.count(12.0, 25.0) / 15.0 + 8.0;
    let text = format!(
        "jumps={} alive={alive} panics={panics} blocks_dropped={dropped} deleted={deleted} lost={lost} late_refused={late_refused} \
         acked={} own_samples={own} burst={burst}",
        JUMPS.len(),
        fresh_now.acked
    );
    let kept = alive && panics == 0 && dropped == 0.0 && deleted == 0 && lost == 0 && !burst;
    Ok(Figures::new(text, kept && fresh_now.acked > 0 && old_now.acked > 0))
}

fn term(place: &Place<'_>) -> Result<Figures, String> {
    let mut ends = Ends::default();
    let (mut slowest, mut codes, mut second_ms) = (Duration::ZERO, Vec::new(), 0);
    for number in 0..place.count(3, 20) {
        let dir = place.dir.join(format!("{number}"));
        std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
        let (data, log) = (dir.join("data"), dir.join("server.log"));
        let mut server = Launch::new(Product::Kymo, place.program, &data, &log).start();
        let load = Steady::new(mix(&[place.seed, number]), 4, 100);
        let is_impatient = number % 2 == 1;
        let (sent, (took, code)) = load.write_while(server.address(), 0, || {
            std::thread::sleep(Duration::from_millis(1_500));
            let began = Instant::now();
            if is_impatient {
                let id = server.id().to_string();
                for _ in 0..2 {
                    let _ = Command::new("kill").args(["-TERM", &id]).status();
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            let asked = Instant::now();
            let status = if is_impatient {
                while server.ended().is_none() && asked.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(2));
                }
                server.ended()
            } else {
                server.terminate(Duration::from_secs(20))
            };
            let took = if is_impatient { asked.elapsed() } else { began.elapsed() };
            (took, status.and_then(|s| s.code()))
        });
        if is_impatient {
            second_ms = second_ms.max(took.as_millis());
        } else {
            slowest = slowest.max(took);
            codes.push(code);
        }
        ends.judge(&load, &mut server, &sent, Instant::now());
    }
    let all_zero = codes.iter().all(|code| *code == Some(0));
    let text =
        format!("term_max_ms={} exit_zero={all_zero} second_max_ms={second_ms} {ends}", slowest.as_millis());
    let in_time = slowest <= Duration::from_secs(10) && second_ms <= 100;
    Ok(Figures::new(text, all_zero && in_time && ends.verdict.kept()))
}

/// A configuration that is right, and those that are not.
const GOOD: &str = "query:\n  max_points: 5000\nretention:\n  - match: '{env=\"dev\"}'\n    keep: 3d\n";
const BAD: [(&str, &str); 12] = [
    ("syntax", "query: [unclosed"),
    ("tab", "query:\n\tmax_points: 7000\n"),
    ("unknown key", "query:\n  max_points: 7000\n  max_pionts: 1\n"),
    ("unknown section", "query:\n  max_points: 7000\nquerry: {}\n"),
    ("wrong type", "query:\n  max_points: many\n"),
    ("second part wrong", "query:\n  max_points: 7000\nretention:\n  - match: '{env='\n    keep: 3d\n"),
    ("bad regex", "query:\n  max_points: 7000\nretention:\n  - match: '{env=~\"(\"}'\n    keep: 3d\n"),
    ("keeps nothing", "query:\n  max_points: 7000\nretention:\n  - match: '{env=\"dev\"}'\n    keep: 0s\n"),
    ("negative", "query:\n  max_points: -1\n"),
    ("two documents", "query:\n  max_points: 7000\n---\nquery:\n  max_points: 7001\n"),
    ("list", "- query\n"),
    ("key twice", "query:\n  max_points: 7000\nquery:\n  max_points: 7001\n"),
];

fn reload(place: &Place<'_>) -> Result<Figures, String> {
    let file = place.dir.join("kymo.yml");
    std::fs::write(&file, GOOD).map_err(|e| e.to_string())?;
    let config = format!("--config={}", file.display());
    let server = kymo(place, &[&config, "--web-enable-lifecycle"]);
    let mut http = server.client();
    let shown = |http: &mut Client| http.get("/api/v1/status/config").map(|a| a.text()).unwrap_or_default();
    // What the limit is in truth, not what a page says.
    let limit = |http: &mut Client| {
        let query = "/api/v1/query_range?query=1&start=0&end=6000&step=1";
        http.get(query).map(|answer| answer.status).unwrap_or_default()
    };
    let (good, at_first) = (shown(&mut http), limit(&mut http));
    let mut wrong = Vec::new();
    let mut cases: Vec<(&str, Option<Vec<u8>>)> =
        BAD.iter().map(|(name, text)| (*name, Some(text.as_bytes().to_vec()))).collect();
    cases.push(("missing", None));
    cases.push(("not UTF-8", Some(b"query:\n  max_points: 7000 # \xff\xfe\n".to_vec())));
    cases.push((
        "too long",
        Some([b"#".repeat(5 << 20), b"\nquery:\n  max_points: 7000\n".to_vec()].concat()),
    ));
    for (name, text) in &cases {
        match text {
            Some(text) => std::fs::write(&file, text).map_err(|e| e.to_string())?,
            None => std::fs::remove_file(&file).map_err(|e| e.to_string())?,
        }
        let answer = http.request("POST", "/-/reload", &[], &[]).map_err(|e| e.to_string())?;
        let says_why = answer.text().len() > "failed to reload config: ".len() + 5;
        let told = metric(&mut http, "kymo_config_last_reload_successful") == 0.0;
        let same = shown(&mut http) == good && limit(&mut http) == at_first;
        let lives = http.get("/-/ready").is_ok_and(|a| a.status == 200);
        if answer.status != 500 || !says_why || !told || !same || !lives {
            wrong.push(format!("{name}: {} told={told} same={same}", answer.status));
        }
    }
    std::fs::write(&file, GOOD.replace("5000", "7000")).map_err(|e| e.to_string())?;
    let answer = http.request("POST", "/-/reload", &[], &[]).map_err(|e| e.to_string())?;
    let healed = answer.status == 200 && limit(&mut http) == 200 && at_first == 400;
    let text = format!(
        "bad={} applied={} good_one_after_is_applied={healed} {}",
        cases.len(),
        wrong.len(),
        wrong.join("; ")
    );
    Ok(Figures::new(text.trim_end().to_owned(), wrong.is_empty() && healed))
}

/// Writes a log of about `mebibytes` that no flush has made shorter. Answers how many samples are in it.
fn write_long_log(place: &Place<'_>, mebibytes: u64) -> Result<u64, String> {
    const SERIES: u64 = 10_000;
    let options = Options {
        durability: Durability::Os,
        flush_bytes: 64 << 30,
        flush_wal_bytes: 64 << 30,
        flush_wal_bytes_per_series: 64 << 20,
        flush_age: Duration::from_secs(86_400),
        compaction_percent: 0,
        ..Options::default()
    };
    let text = |e: kymo_storage::Error| e.to_string();
    let storage = kymo_storage::Storage::open(&place.dir.join("data"), options).map_err(text)?;
    let mut rng = Rng::new(place.seed);
    // So early that none is ahead of the clock; less than a day in all, which the head may hold.
    let base = now_ms() - 20 * 3_600_000;
    let mut samples = SERIES;
    let labels = |series: u64| {
        let (instance, series) = (format!("10.0.0.{}:9100", series % 251), series.to_string());
        Labels::from_pairs([("__name__", "long_log"), ("instance", &instance), ("series", &series)])
    };
    let mut first = storage.batch();
    let known: Vec<_> = (0..SERIES)
        .map(|series| first.series_labels(&labels(series)).map_err(|refusal| format!("{refusal:?}")))
        .collect::<Result<_, _>>()?;
    for series in &known {
        first.sample(*series, base - 1_000, 0.0);
    }
    storage.append(first).map_err(text)?;
    for step in 0_i64.. {
        let mut batch = storage.batch();
        for series in &known {
            batch.sample(*series, base + step * 1_000, rng.below(100_000) as f64);
        }
        let report = storage.append(batch).map_err(text)?;
        if report.refused_total > 0 {
            return Err(format!("step {step}: {} samples are refused", report.refused_total));
        }
        samples += SERIES;
        if step % 16 == 0 && storage.stats().wal_bytes >= mebibytes << 20 {
            break;
        }
    }
    // Let go without an orderly end, which would flush.
    drop(storage);
    Ok(samples)
}

/// How long a server that has started is left alone until its memory is what it needs.
const REST: Duration = Duration::from_secs(30);

fn bigwal(place: &Place<'_>) -> Result<Figures, String> {
    let mebibytes = place.count(64, 1_024);
    let samples = write_long_log(place, mebibytes)?;
    let (data, log) = (place.dir.join("data"), place.dir.join("server.log"));
    let began = Instant::now();
    let (mut process, address) = Launch::new(Product::Kymo, place.program, &data, &log).spawn()?;
    let mut http = Client::new(address).with_timeout(Duration::from_secs(5));
    let (mut progress, mut not_ready, mut peak) = (0_u64, 0_u64, 0_u64);
    let took = loop {
        peak = peak.max(process.usage().resident_bytes);
        let answer = http.get("/-/ready");
        match answer {
            Ok(answer) if answer.status == 200 => break began.elapsed(),
            Ok(answer) => {
                not_ready += 1;
                progress += u64::from(answer.text().contains("the log is being read: segment"));
            }
            Err(_) => {}
        }
        if process.ended().is_some() || began.elapsed() > Duration::from_secs(300) {
            return Err(format!("it does not become ready: {}", process.output()));
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let replayed = metric(&mut http, "kymo_storage_replayed_samples");
    let at_ready = process.usage();
    let peak = peak.max(at_ready.peak_resident_bytes);
    // At the instant of readiness it still holds what reading took; what it needs to go on shows when it has come to rest.
    std::thread::sleep(REST);
    let at_rest = process.usage().resident_bytes;
    let mib_s = mebibytes as f64 / took.as_secs_f64();
    let ratio = |steady: u64| peak as f64 / steady.max(1) as f64;
    let text = format!(
        "mib={mebibytes} samples={samples} replayed={replayed} s={:.1} mib_s={mib_s:.0} not_ready_answers={not_ready} \
         with_progress={progress} rss_peak_mib={} rss_ready_mib={} peak_of_ready={:.2} rss_rest_mib={} peak_of_rest={:.2}",
        took.as_secs_f64(),
        peak >> 20,
        at_ready.resident_bytes >> 20,
        ratio(at_ready.resident_bytes),
        at_rest >> 20,
        ratio(at_rest)
    );
    process.kill();
    let is_told = progress > 0 || took < Duration::from_millis(500);
    let kept =
        took <= Duration::from_secs(20) && ratio(at_rest) <= 1.3 && replayed as u64 == samples && is_told;
    Ok(Figures::new(text, kept))
}

//! Queries of death: texts, bombs, many at once, regular expressions.

use super::measure::{
    ALL, Stopper, Subject, beside, fill, is_well, keep_asking, metric, mib_more, ms, now_ms, quantile,
    seconds, start, status,
};
use super::{Check, Figures, Place, Way};
use kymo_tests::hostile::{LONG_TEXTS, allow_files, regex_bombs};
use kymo_tests::http::{Client, escape};
use kymo_tests::process::most_memory;
use kymo_tests::remote_write::{Request, TimeSeries, compress, send};
use kymo_tests::server::Server;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[
    Check {
        number: "R30",
        name: "deeptext",
        what: "texts of queries that are long, deep or no text, by every door that takes one",
        way: Way::Server(deeptext),
    },
    Check {
        number: "R32",
        name: "bomb",
        what: "queries made to take everything, beside a small one and a sender",
        way: Way::Server(bomb),
    },
    Check {
        number: "R34",
        name: "stampede",
        what: "1,000 heavy queries at once",
        way: Way::Server(stampede),
    },
    Check {
        number: "R35",
        name: "regex",
        what: "regular expressions that are bombs, by every door that takes one",
        way: Way::Server(regex),
    },
];

const FORM: [(&str, &str); 1] = [("Content-Type", "application/x-www-form-urlencoded")];

/// A form of one field with bytes that need not be text.
fn form(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = format!("{name}=").into_bytes();
    for byte in value {
        if byte.is_ascii_alphanumeric() || b"(){}[]-_.,:;*!\"^@".contains(byte) {
            out.push(*byte);
        } else {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    out
}

/// A remote read whose only matcher is a regular expression.
fn read_request(pattern: &[u8]) -> Vec<u8> {
    let field = |tag: u8, bytes: &[u8]| {
        let mut out = vec![tag];
        kymo_storage::codec::varint::put_uvarint(&mut out, bytes.len() as u64);
        out.extend_from_slice(bytes);
        out
    };
    let matcher = [vec![0x08, 2], field(0x12, b"a"), field(0x1a, pattern)].concat();
    compress(&field(0x0a, &[vec![0x08, 1, 0x10, 2], field(0x1a, &matcher)].concat()))
}

/// The slowest of several, with its name.
#[derive(Debug, Default)]
struct Slowest(Duration, String);

impl Slowest {
    fn take(&mut self, time: Duration, name: impl FnOnce() -> String) {
        if time > self.0 {
            *self = Self(time, name());
        }
    }
}

/// Texts over this are refused as too long.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// How long a refusal may take.
const TEXT_TIME_MAX: Duration = Duration::from_millis(50);

/// A path, headers, and the body that brings a text there.
type TextDoor = (&'static str, &'static [(&'static str, &'static str)], Vec<u8>);

fn deeptext(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "deeptext", &[]);
    let mut client = server.client();
    let (mut cases, mut wrong, mut slowest) = (0, Vec::new(), Slowest::default());
    for (kind, text) in LONG_TEXTS {
        for size in [1_000, 10_000, 65_000, 200_000, 2_000_000] {
            let text = text(size);
            let doors: [TextDoor; 7] = [
                ("/api/v1/query", &FORM, form("query", &text)),
                ("/api/v1/query_range?start=1&end=2&step=1", &FORM, form("query", &text)),
                ("/api/v1/format_query", &FORM, form("query", &text)),
                ("/api/v1/parse_query", &FORM, form("query", &text)),
                ("/api/v1/series", &FORM, form("match[]", &text)),
                ("/api/v1/labels", &FORM, form("match[]", &text)),
                ("/api/v1/read", &[("Content-Encoding", "snappy")], read_request(&text)),
            ];
            for (path, headers, body) in doors {
                let mut ask = || {
                    let began = Instant::now();
                    (status(client.request("POST", path, headers, &body)), began.elapsed())
                };
                let (met, mut took) = ask();
                // Once more if it took long: the machine may do other things.
                if took > TEXT_TIME_MAX {
                    took = took.min(ask().1).min(ask().1);
                }
                slowest.take(took, || format!("{kind} of {size} bytes at {path}"));
                // A connection may be closed before a body that is too long is sent.
                let is_long = text.len() > TEXT_BYTES_MAX && !path.ends_with("read");
                let is_right = match met {
                    400 | 413 | 422 => true,
                    0 => body.len() > 1 << 20,
                    200 => !is_long,
                    _ => false,
                };
                if !is_right {
                    wrong.push(format!("{kind} of {size} at {path}: {met}"));
                }
                cases += 1;
            }
        }
    }
    let is_well = is_well(&server);
    let text = format!(
        "cases={cases} wrong={} alive={} max_ms={} slowest={:?}{}",
        wrong.len(),
        u8::from(is_well),
        ms(slowest.0),
        slowest.1,
        first(&wrong)
    );
    let kept = wrong.is_empty() && is_well && slowest.0 <= TEXT_TIME_MAX;
    let mut figures = Figures::new(format!("{text}; {}", long_queries(Subject::from(&server))), kept);
    figures.beside = beside(place, "deeptext", |peer| Ok(long_queries(peer)));
    Ok(figures)
}

/// The first of what went wrong.
fn first(wrong: &[String]) -> String {
    wrong.first().map(|one| format!(" first={one:?}")).unwrap_or_default()
}

/// What the four texts of the table of peers cost.
fn long_queries(subject: Subject) -> String {
    let brackets = |n: usize| "(".repeat(n);
    let sum = |n: usize| "1+".repeat(n) + "1";
    let texts = [
        ("brackets_20k", brackets(20_000)),
        ("sum_20k", sum(20_000)),
        ("brackets_100k", brackets(100_000)),
        ("sum_100k", sum(100_000)),
    ];
    let mut told = Vec::new();
    for (name, text) in texts {
        let mut client = subject.client().with_timeout(Duration::from_secs(30));
        let (before, began) = (subject.usage(), Instant::now());
        let answer = status(client.post_form("/api/v1/query", &[("query", &text)]));
        let (took, after) = (began.elapsed(), subject.usage());
        let answer = if answer == 0 { "none in 30 s".to_owned() } else { answer.to_string() };
        let more = mib_more(after.peak_resident_bytes, before.resident_bytes);
        told.push(format!("{name}: {answer} ms={} rss_mib=+{more}", ms(took)));
    }
    told.join(", ")
}

/// The queries that tests know as hostile.
fn hostile_queries(place: &Place<'_>) -> Result<Vec<Value>, String> {
    let path = place.root.join("tests/testdata/api/hostile_queries.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// Asks one of them; its status.
fn ask_hostile(client: &mut Client, row: &Value, last: i64) -> u16 {
    let end = seconds(last);
    let start = seconds(last - row["points"].as_i64().unwrap_or(0) * 50);
    let mut fields = vec![("query", row["query"].as_str().unwrap_or_default()), ("timeout", "5s")];
    let path = if row["points"].is_null() {
        fields.push(("time", &end));
        "/api/v1/query"
    } else {
        fields.extend([("start", &*start), ("end", &*end), ("step", "0.05")]);
        "/api/v1/query_range"
    };
    status(client.post_form(path, &fields))
}

/// What the small query and the sender met in some time.
#[derive(Default)]
struct Met {
    canary: Vec<Duration>,
    failed: usize,
    written: usize,
    lasted: Duration,
}

impl Met {
    fn add(&mut self, other: Self) {
        self.canary.extend(other.canary);
        self.failed += other.failed;
        self.written += other.written;
        self.lasted += other.lasted;
    }

    /// Requests written in a second.
    fn rate(&self) -> f64 {
        self.written as f64 / self.lasted.as_secs_f64()
    }
}

/// Asks a small query every 20 ms and sends 1,000 samples every 50 ms, until `work` is done.
fn beside_work(server: &Server, last: i64, work: impl FnOnce()) -> Met {
    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let canary = format!("/api/v1/query?query={}&time={}", escape("sum(rate(canary[5m]))"), seconds(last));
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = server.client();
            keep_asking(&stop, Duration::from_millis(20), || client.get(&canary))
        });
        let sending = scope.spawn(|| {
            let mut client = server.client();
            let began = Instant::now();
            for turn in 0_u32.. {
                let due = began + Duration::from_millis(50) * turn;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let samples = [(now_ms(), 1.0)];
                let series: Vec<TimeSeries> = (0..1_000)
                    .map(|i| TimeSeries::new("sent", &[("i", &i.to_string())], samples.to_vec()))
                    .collect();
                if send(&mut client, &Request::of(&series).compress()).is_ok_and(|r| r.status == 204) {
                    written.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let (stopper, began) = (Stopper(&stop), Instant::now());
        work();
        let lasted = began.elapsed();
        drop(stopper);
        let met = asking.join().unwrap_or_default();
        let _ = sending.join();
        let failed = met.iter().filter(|(status, _)| *status != 200).count();
        let canary = met.into_iter().map(|(_, took)| took).collect();
        Met { canary, failed, written: written.load(Ordering::Relaxed), lasted }
    })
}

fn bomb(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "bomb", &["--query-memory=256MiB"]);
    let subject = Subject::from(&server);
    let last = fill(subject, 5_000, 60, 15_000)?;
    let canary: Vec<TimeSeries> = (0..50)
        .map(|i| {
            let samples = (0..40).map(|n| (last - (39 - n) * 15_000, n as f64)).collect();
            TimeSeries::new("canary", &[("i", &i.to_string())], samples)
        })
        .collect();
    send(&mut server.client(), &Request::of(&canary).compress()).map_err(|e| e.to_string())?;
    // In turns, so that a machine that is slow for a while is so for both.
    let (turns, span) = (place.count(1, 6), Duration::from_secs(5));
    let rows = hostile_queries(place)?;
    let (mut cases, mut statuses) = (0, std::collections::BTreeMap::<u16, usize>::new());
    let (mut quiet, mut loud, mut baseline, mut most) = (Met::default(), Met::default(), u64::MAX, 0);
    for _ in 0..turns {
        quiet.add(beside_work(&server, last, || std::thread::sleep(span)));
        baseline = baseline.min(subject.usage().resident_bytes);
        let (of_turn, met) = most_memory(server.id(), || {
            beside_work(&server, last, || {
                let (mut client, began) = (server.client(), Instant::now());
                while began.elapsed() < span {
                    for row in &rows {
                        *statuses.entry(ask_hostile(&mut client, row, last)).or_default() += 1;
                        cases += 1;
                    }
                }
            })
        });
        most = most.max(of_turn);
        loud.add(met);
    }
    let percent = 100.0 * loud.rate() / quiet.rate().max(f64::MIN_POSITIVE);
    let (mut a, mut b) = (quiet.canary, loud.canary);
    let (before, while_bombed) = (quantile(&mut a, 990), quantile(&mut b, 990));
    let ratio = while_bombed.as_secs_f64() / before.as_secs_f64().max(1e-6);
    let is_well = is_well(&server) && !statuses.contains_key(&0) && !statuses.contains_key(&500);
    let failed = quiet.failed + loud.failed;
    let more = mib_more(most, baseline);
    let text = format!(
        "cases={cases} statuses={statuses:?} canary_p99_ms={} alone_ms={} canary_ratio={ratio:.1} canary_failed={failed} \
         ingest_pct={percent:.1} rss_mib=+{more} pool_mib=256 alive={}",
        ms(while_bombed),
        ms(before),
        u8::from(is_well)
    );
    let kept = is_well && failed == 0 && ratio <= 2.0 && percent >= 95.0 && more <= 256 + 52;
    Ok(Figures::new(text, kept))
}

fn stampede(place: &Place<'_>) -> Result<Figures, String> {
    const POOL_MIB: u64 = 1_024;
    const GATE: usize = 20;
    let count = place.count(200, 1_000);
    allow_files(count as u64 + 500);
    let server = start(place, "stampede", &[]);
    let subject = Subject::from(&server);
    let last = fill(subject, 2_000, 60, 15_000)?;
    let target = format!(
        "/api/v1/query_range?query={}&start={}&end={}&step=0.5",
        escape(&format!("sum by (number) (predict_linear(rate({ALL}[5m])[5m:1s], 60))")),
        seconds(last - 600_000),
        seconds(last)
    );
    let (stop, running_max) = (AtomicBool::new(false), AtomicUsize::new(0));
    let before = subject.usage().resident_bytes;
    let (most, (mut healthy, answers)) = most_memory(server.id(), || {
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let mut client = server.client();
                keep_asking(&stop, Duration::from_millis(10), || client.get("/-/healthy"))
            });
            scope.spawn(|| {
                let mut client = server.client();
                while !stop.load(Ordering::Relaxed) {
                    let now = metric(&mut client, "kymo_queries_running ") as usize;
                    running_max.fetch_max(now, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(100));
                }
            });
            let stopper = Stopper(&stop);
            let askers: Vec<_> = (0..count)
                .map(|_| {
                    let target = &target;
                    let ask = move || {
                        let began = Instant::now();
                        let mut client = subject.client().with_timeout(Duration::from_secs(120));
                        (status(client.get(target)), began.elapsed())
                    };
                    let thread = std::thread::Builder::new().stack_size(128 << 10);
                    thread.spawn_scoped(scope, ask)
                })
                .collect();
            let answers: Vec<_> = askers.into_iter().filter_map(|a| a.ok()?.join().ok()).collect();
            drop(stopper);
            (asking.join().unwrap_or_default(), answers)
        })
    });
    let of = |wanted: u16| answers.iter().filter(|(status, _)| *status == wanted).count();
    let (answered, refused, over) = (of(200), of(503), of(422));
    let waited = answers.iter().filter(|(s, _)| *s == 503).map(|(_, took)| *took).max().unwrap_or_default();
    let unhealthy = healthy.iter().filter(|(status, _)| *status != 200).count();
    let mut times: Vec<Duration> = healthy.drain(..).map(|(_, took)| took).collect();
    let p99 = quantile(&mut times, 990);
    let (running, more) = (running_max.load(Ordering::Relaxed), mib_more(most, before));
    let is_well = is_well(&server);
    let text = format!(
        "n={count} answered={answered} busy={refused} over_limit={over} others={} running_max={running} \
         busy_after_s={:.1} healthy_p99_ms={} rss_mib=+{more} pool_mib={POOL_MIB}",
        answers.len() - answered - refused - over,
        waited.as_secs_f64(),
        ms(p99)
    );
    let kept = is_well
        && answered + refused + over == count
        && unhealthy == 0
        // Those that turned out to be long work beside as many short ones; one may be counted a moment longer than it works.
        && running <= 2 * GATE + 2
        && waited <= Duration::from_secs(12)
        && p99 <= Duration::from_millis(50)
        && more <= POOL_MIB;
    Ok(Figures::new(text, kept))
}

/// The doors of a regular expression: asked of a label whose values are short, or of the long one.
fn regex_doors(pattern: &str, label: &str, t: i64) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let quoted = serde_json::to_string(pattern).unwrap_or_default();
    let (matcher, time) = (format!("m{{{label}=~{quoted}}}"), seconds(t));
    let replaced = format!("label_replace(m{{{label}!=\"\"}}, \"w\", \"$1\", \"{label}\", {quoted})");
    vec![
        ("/api/v1/query", vec![("query", matcher.clone()), ("time", time.clone())]),
        ("/api/v1/query", vec![("query", replaced), ("time", time.clone())]),
        ("/api/v1/query", vec![("query", format!("m{{{label}!~{quoted}}}")), ("time", time)]),
        ("/api/v1/series", vec![("match[]", matcher.clone())]),
        ("/api/v1/labels", vec![("match[]", matcher)]),
    ]
}

/// What [`regex`] counts.
#[derive(Debug, Default)]
struct RegexMet {
    requests: usize,
    wrong: Vec<String>,
}

impl RegexMet {
    fn ask(&mut self, bomb: &str, path: &str, ask: impl FnOnce() -> u16) -> Duration {
        let began = Instant::now();
        let met = ask();
        self.requests += 1;
        if ![200, 400, 422].contains(&met) {
            self.wrong.push(format!("{bomb:.30} at {path}: {met}"));
        }
        began.elapsed()
    }
}

/// How often a door is asked; the shortest time counts, so that what the machine does besides does not.
const REGEX_TURNS: usize = 3;

/// How long a regular expression takes at the slowest door, for each of `labels`. The doors are asked in turns, so that a machine
/// that is slow for a while is so for all lengths.
fn regex_times<const N: usize>(
    client: &mut Client,
    met: &mut RegexMet,
    bomb: &str,
    labels: [&str; N],
    t: i64,
) -> [Duration; N] {
    let doors = labels.map(|label| regex_doors(bomb, label, t));
    let mut shortest = doors.each_ref().map(|doors| vec![Duration::MAX; doors.len()]);
    for _ in 0..REGEX_TURNS {
        for (doors, shortest) in doors.iter().zip(&mut shortest) {
            for ((path, fields), shortest) in doors.iter().zip(shortest) {
                let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
                let took = met.ask(bomb, path, || status(client.post_form(path, &fields)));
                *shortest = took.min(*shortest);
            }
        }
    }
    shortest.map(|times| times.into_iter().max().unwrap_or_default())
}

fn regex(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "regex", &[]);
    let mut client = server.client();
    let t = now_ms();
    // What makes engines that go back try everything, in two lengths.
    let long = |n: usize| ["a".repeat(n - 1) + "!", "ab ".repeat(n / 3), "é,".repeat(n / 3)];
    let labels = [
        ("short", ["x".to_owned(), "a".to_owned(), "!".to_owned()]),
        ("half", long(2_000)),
        ("whole", long(4_000)),
    ];
    let series: Vec<TimeSeries> = labels
        .iter()
        .flat_map(|(label, values)| {
            values.iter().map(|v| TimeSeries::new("m", &[(*label, v)], vec![(t, 1.0)]))
        })
        .collect();
    send(&mut client, &Request::of(&series).compress()).map_err(|e| e.to_string())?;
    let (mut met, mut compile, mut matching, mut ratio) =
        (RegexMet::default(), Slowest::default(), Slowest::default(), 0.0_f64);
    for bomb in regex_bombs() {
        let mut times = regex_times(&mut client, &mut met, &bomb, labels.each_ref().map(|l| l.0), t);
        let body = read_request(bomb.as_bytes());
        let snappy = [("Content-Encoding", "snappy")];
        let mut read = || status(client.request("POST", "/api/v1/read", &snappy, &body));
        let read = (0..REGEX_TURNS).map(|_| met.ask(&bomb, "/api/v1/read", &mut read)).min();
        times[0] = times[0].max(read.unwrap_or_default());
        compile.take(times[0], || format!("{bomb:.40}"));
        matching.take(times[2], || format!("{bomb:.40}"));
        // Of what is over in no time nothing can be said.
        if times[2] > times[0] + Duration::from_millis(5) {
            let beyond = |time: Duration| time.saturating_sub(times[0]).as_secs_f64().max(1e-3);
            ratio = ratio.max(beyond(times[2]) / beyond(times[1]));
        }
    }
    let is_well = is_well(&server);
    let text = format!(
        "cases={} requests={} wrong={} worst_ms={} of={:?} 12_kb_match_ms={} of={:?} twice_as_long_takes={ratio:.1}x{}",
        regex_bombs().len(),
        met.requests,
        met.wrong.len(),
        ms(compile.0),
        compile.1,
        ms(matching.0),
        matching.1,
        first(&met.wrong)
    );
    let kept = is_well && met.wrong.is_empty() && compile.0 <= Duration::from_millis(50) && ratio <= 3.0;
    Ok(Figures::new(text, kept))
}

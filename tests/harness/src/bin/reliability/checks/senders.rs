//! Hostile senders: bombs of compression, labels nobody should send, floods of series, slow clients, odd framing.

use super::measure::{
    Stopper, Subject, beside, is_well, keep_asking, metric, mib_more, ms, now_ms, quantile, seconds, start,
    status,
};
use super::{Check, Figures, Place, Way};
use kymo_tests::hostile::{answer, bombs, framing_oddities, snappy_claim, statuses};
use kymo_tests::http::Client;
use kymo_tests::http2::Frames;
use kymo_tests::remote_write::{HEADERS, Request, TimeSeries, compress, label_bytes, send};
use kymo_tests::remote_write_v2 as v2;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[
    Check {
        number: "R36",
        name: "snappybomb",
        what: "blocks of snappy that claim 4 GiB or a wrong length, at every route that takes a body",
        way: Way::Server(snappybomb),
    },
    Check {
        number: "R37",
        name: "bombs",
        what: "bombs of gzip, deflate, zstd and snappy, encodings twice and unknown, at every route that takes samples",
        way: Way::Server(encodings),
    },
    Check {
        number: "R38",
        name: "badlabels",
        what: "series nobody should send, between good ones",
        way: Way::Server(badlabels),
    },
    Check {
        number: "R39",
        name: "flood",
        what: "new series without end, with 256 MiB for the store",
        way: Way::Server(flood),
    },
    Check {
        number: "R41",
        name: "http",
        what: "odd framing, long pipelines, floods of HTTP/2",
        way: Way::Server(http),
    },
];

/// What takes samples.
const WRITE_ROUTES: [&str; 6] = [
    "/api/v1/write",
    "/api/v1/otlp/v1/metrics",
    "/api/v1/import",
    "/api/v1/import/prometheus",
    "/write",
    "/api/v2/write?bucket=b",
];

/// A body of one series.
fn good_body() -> Vec<u8> {
    Request::of(&[TimeSeries::new("legit", &[], vec![(now_ms(), 1.0)])]).compress()
}

/// Writes one sample every few milliseconds until told to stop.
fn legit_writes(subject: Subject, stop: &AtomicBool) -> Vec<(u16, Duration)> {
    let mut client = subject.client();
    keep_asking(stop, Duration::from_millis(5), || send(&mut client, &good_body()))
}

fn snappybomb(place: &Place<'_>) -> Result<Figures, String> {
    const CONNECTIONS: usize = 100;
    let count = place.count(1_000, 5_000);
    let server = start(place, "snappybomb", &[]);
    let subject = Subject::from(&server);
    let true_block = compress(&[7; 1_000]);
    let wrong_length = |by: u8| {
        let mut body = true_block.clone();
        body[0] = body[0].wrapping_add(by);
        body
    };
    let bodies = [
        snappy_claim(b"\xff\xff\xff\xff\x0f"),
        snappy_claim(b"\x80\x80\xc0\x0f"),
        wrong_length(1),
        wrong_length(0xff),
        true_block[..true_block.len() / 2].to_vec(),
    ];
    let routes = [&WRITE_ROUTES[..], &["/api/v1/read"]].concat();
    let mut clients: Vec<Client> = (0..CONNECTIONS).map(|_| server.client()).collect();
    let round = &|client: &mut Client, turn: usize, met: &mut BTreeMap<u16, usize>| {
        let headers = [HEADERS[0], HEADERS[1]];
        let (path, body) = (routes[turn % routes.len()], &bodies[turn / routes.len() % bodies.len()]);
        *met.entry(status(client.request("POST", path, &headers, body))).or_default() += 1;
    };
    let attack = |clients: &mut Vec<Client>| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| legit_writes(subject, &stop));
            let stopper = Stopper(&stop);
            let senders: Vec<_> = clients
                .iter_mut()
                .enumerate()
                .map(|(number, client)| {
                    scope.spawn(move || {
                        let mut met = BTreeMap::new();
                        (0..count / CONNECTIONS).for_each(|turn| round(client, turn + number, &mut met));
                        met
                    })
                })
                .collect();
            let mut all = BTreeMap::<u16, usize>::new();
            for (status, times) in senders.into_iter().flat_map(|sender| sender.join().unwrap_or_default()) {
                *all.entry(status).or_default() += times;
            }
            drop(stopper);
            (all, writing.join().unwrap_or_default())
        })
    };
    // Connections, threads and their buffers are there before anything is measured.
    for _ in 0..3 {
        attack(&mut clients);
    }
    let before = subject.usage().resident_bytes;
    let (met, mut legit) = attack(&mut clients);
    let more = mib_more(subject.usage().resident_bytes, before);
    let failed = legit.iter().filter(|(status, _)| *status != 204).count();
    let mut times: Vec<Duration> = legit.drain(..).map(|(_, took)| took).collect();
    let p99 = quantile(&mut times, 990);
    let is_well = is_well(&server);
    let text = format!(
        "n={count} connections={CONNECTIONS} status={met:?} rss_mib=+{more} legit_p99_ms={} legit_failed={failed}",
        ms(p99)
    );
    // What does not speak snappy says so.
    let refused = met.keys().all(|status| [400, 415].contains(status));
    let kept = is_well && refused && more <= 1 && failed == 0 && p99 <= Duration::from_millis(50);
    let mut figures = Figures::new(text, kept);
    figures.beside = beside(place, "snappybomb", |peer| {
        // Each takes what is claimed, and may take long to do so.
        let mut client = peer.client().with_timeout(Duration::from_secs(5));
        let (before, began) = (peer.usage().resident_bytes, Instant::now());
        let (mut met, mut sent) = (BTreeMap::<u16, usize>::new(), 0);
        while sent < 20 && began.elapsed() < Duration::from_secs(10) {
            let answer = client.request("POST", "/api/v1/write", &HEADERS, &bodies[0]);
            *met.entry(status(answer)).or_default() += 1;
            sent += 1;
        }
        let more = mib_more(peer.usage().peak_resident_bytes, before);
        Ok(format!("n={sent} status={met:?} rss_mib=+{more}"))
    });
    Ok(figures)
}

fn encodings(place: &Place<'_>) -> Result<Figures, String> {
    const ALLOWED_MIB: u64 = 32 + 4;
    let kinds = bombs();
    let (mut met, mut worst, mut slowest) =
        (BTreeMap::<u16, usize>::new(), (0, String::new()), Duration::ZERO);
    let mut wrong = Vec::new();
    for path in WRITE_ROUTES {
        let server = start(place, &format!("bombs{}", path.replace(['/', '?'], "-")), &[]);
        let subject = Subject::from(&server);
        for media in ["application/x-protobuf", "application/json", "text/plain"] {
            for (number, (encoding, body)) in kinds.iter().enumerate() {
                let mut client = server.client();
                let _ = client.get("/-/healthy");
                let before = subject.usage().resident_bytes;
                subject.forget_peak()?;
                let headers = [("Content-Encoding", *encoding), ("Content-Type", media)];
                let began = Instant::now();
                let answer = status(client.request("POST", path, &headers, body));
                slowest = slowest.max(began.elapsed());
                let more = mib_more(subject.usage().peak_resident_bytes, before);
                *met.entry(answer).or_default() += 1;
                if more > worst.0 {
                    worst = (more, format!("{encoding} {number} as {media} at {path}"));
                }
                if ![0, 400, 413, 415].contains(&answer) {
                    wrong.push(format!("{encoding} {number} as {media} at {path}: {answer}"));
                }
            }
        }
        if !is_well(&server) {
            wrong.push(format!("not well after {path}"));
        }
    }
    let text = format!(
        "kinds={} requests={} status={met:?} wrong={} rss_mib=+{} worst={:?} slowest_ms={}{}",
        kinds.len(),
        met.values().sum::<usize>(),
        wrong.len(),
        worst.0,
        worst.1,
        ms(slowest),
        wrong.first().map(|w| format!(" first={w:?}")).unwrap_or_default()
    );
    let mut figures = Figures::new(text, wrong.is_empty() && worst.0 <= ALLOWED_MIB);
    figures.beside = beside(place, "bombs", |peer| {
        let before = peer.usage().resident_bytes;
        let body = &kinds.iter().find(|(encoding, _)| *encoding == "gzip").ok_or("no bomb")?.1;
        let headers = [("Content-Encoding", "gzip"), ("Content-Type", "text/plain")];
        let mut told = Vec::new();
        for path in ["/api/v1/import", "/api/v1/import/prometheus", "/write"] {
            let answer = status(peer.client().request("POST", path, &headers, body));
            let more = mib_more(peer.usage().peak_resident_bytes, before);
            told.push(format!("gzip of 256 MiB at {path}: {answer} rss_mib=+{more}"));
        }
        Ok(told.join(", "))
    });
    Ok(figures)
}

/// The series of a request of version 1.0 and what is wrong with it; `@@` in them stands for bytes that are no text.
fn bad_series() -> Vec<(&'static str, Vec<(String, String)>)> {
    let owned = |labels: &[(&str, &str)]| -> Vec<(String, String)> {
        labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    };
    let many = (0..20_000).map(|i| (format!("l{i:05}"), "x".to_owned()));
    let long = "x".repeat(8 << 20);
    vec![
        ("20,000 labels", owned(&[("__name__", "bad")]).into_iter().chain(many).collect()),
        ("a value of 8 MiB", owned(&[("__name__", "bad"), ("a", &long)])),
        ("a name of 8 MiB", owned(&[("__name__", "bad"), (&long, "a")])),
        ("a metric name of 8 MiB", owned(&[("__name__", &long)])),
        ("an empty label name", owned(&[("__name__", "bad"), ("", "b")])),
        ("a label twice", owned(&[("__name__", "bad"), ("a", "1"), ("a", "2")])),
        ("no text", owned(&[("__name__", "bad"), ("a", "@@")])),
        ("no metric name", owned(&[("a", "b")])),
        ("no labels", Vec::new()),
    ]
}

fn bad_v1(labels: &[(String, String)], case: usize, t: i64) -> Vec<u8> {
    let mut request = Request::new();
    let good = |which| label_bytes(&[("__name__", "good"), ("case", &case.to_string()), ("which", which)]);
    request.push(&good("before"), &[(t, 1.0)]);
    request.push(&label_bytes(labels), &[(t, 1.0)]);
    request.push(&good("after"), &[(t, 1.0)]);
    let mut bytes = request.as_bytes().to_vec();
    if let Some(at) = bytes.windows(2).position(|pair| pair == b"@@") {
        bytes[at..at + 2].copy_from_slice(b"\xff\xfe");
    }
    compress(&bytes)
}

/// What is wrong with a series of version 2.0, and how it is made so.
type BadV2 = (&'static str, fn(&mut v2::Request, i64));

const BAD_V2: [BadV2; 6] = [
    ("a symbol that is not there", |request, t| {
        request.push(&[("__name__", "bad")], &[(t, 1.0)]).labels_refs[1] = 4_000_000;
    }),
    ("half a label", |request, t| {
        request.push(&[("__name__", "bad"), ("a", "b")], &[(t, 1.0)]).labels_refs.pop();
    }),
    ("a million symbols", |request, t| {
        request.symbols.extend((0..1_000_000).map(|i| format!("s{i}")));
        request.push(&[("__name__", "bad"), ("", "b")], &[(t, 1.0)]);
    }),
    ("spans that lead nowhere", |request, t| {
        let spans = vec![v2::Span { offset: i32::MAX, length: u32::MAX }; 3];
        histogram(request, v2::Histogram { positive_spans: spans, timestamp: t, ..v2::Histogram::default() });
    }),
    ("fewer buckets than spans say", |request, t| {
        let positive_spans = vec![v2::Span { offset: 0, length: 3 }];
        let deltas = vec![1];
        let wrong = v2::Histogram {
            count: 1,
            positive_spans,
            positive_deltas: deltas,
            timestamp: t,
            ..v2::Histogram::default()
        };
        histogram(request, wrong);
    }),
    ("a schema there is none of", |request, t| {
        histogram(request, v2::Histogram { schema: 99, timestamp: t, ..v2::Histogram::default() });
    }),
];

fn histogram(request: &mut v2::Request, histogram: v2::Histogram) {
    request.push(&[("__name__", "bad")], &[]).histograms = vec![histogram];
}

fn badlabels(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "badlabels", &[]);
    let mut client = server.client();
    let t = now_ms() - 1_000;
    let (mut kinds, mut wrong, mut stored) = (0, Vec::new(), 0);
    let mut judge = |what: &str, case: usize, answer: std::io::Result<kymo_tests::http::Response>| {
        kinds += 1;
        let said = answer.map(|r| (r.status, r.text())).unwrap_or_default();
        if said.0 != 400 || said.1.is_empty() || said.1.len() > 4_000 {
            wrong.push(format!("{what}: {} {:.200}", said.0, said.1));
        }
        let query = format!("/api/v1/query?query=count(good{{case=\"{case}\"}})&time={}", seconds(t));
        let query = query.replace(['{', '}', '"'], "").replace("goodcase=", "good%7Bcase%3D%22");
        let query = query.replace(&format!("%22{case})"), &format!("%22{case}%22%7D)"));
        let found = client.get(&query).ok().and_then(|r| r.json().ok()).unwrap_or_default();
        let found = found["data"]["result"][0]["value"][1].as_str().and_then(|n| n.parse().ok()).unwrap_or(0);
        if found != 2 {
            wrong.push(format!("{what}: {found} of 2 good series stored; {} {:.200}", said.0, said.1));
        }
        stored += found;
    };
    let mut sender = server.client();
    let before = server.usage().resident_bytes;
    for (case, (what, labels)) in bad_series().iter().enumerate() {
        judge(what, case, send(&mut sender, &bad_v1(labels, case, t)));
    }
    for (number, (what, spoil)) in BAD_V2.iter().enumerate() {
        let case = 100 + number;
        let mut request = v2::Request::new();
        let number = case.to_string();
        let good = |which| [("__name__", "good"), ("case", number.as_str()), ("which", which)];
        request.push(&good("before"), &[(t, 1.0)]);
        spoil(&mut request, t);
        request.push(&good("after"), &[(t, 1.0)]);
        judge(what, case, v2::send(&mut sender, &request.compress()));
    }
    let more = mib_more(server.usage().peak_resident_bytes, before);
    let is_well = is_well(&server);
    let text = format!(
        "kinds={kinds} stored_good={}% wrong={} rss_mib=+{more} panics={}{}",
        100 * stored / (2 * kinds),
        wrong.len(),
        u8::from(!is_well),
        wrong.first().map(|w| format!(" first={w:?}")).unwrap_or_default()
    );
    Ok(Figures::new(text, is_well && wrong.is_empty()))
}

fn flood(place: &Place<'_>) -> Result<Figures, String> {
    const STORE_MIB: u64 = 256;
    /// Beside the store: bodies being decoded, threads, what the allocator holds.
    const BESIDE_MIB: u64 = 128;
    const KNOWN: usize = 2_000;
    let span = Duration::from_secs(place.count(20, 300));
    let server = start(place, "flood", &["--storage-memory=256MiB", "--query-memory=64MiB"]);
    let known = |t: i64| {
        let one = |i: usize| TimeSeries::new("known", &[("i", &i.to_string())], vec![(t, i as f64)]);
        Request::of(&(0..KNOWN).map(one).collect::<Vec<_>>()).compress()
    };
    send(&mut server.client(), &known(now_ms())).map_err(|e| e.to_string())?;
    let stop = AtomicBool::new(false);
    let (accepted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut others = BTreeMap::<u16, usize>::new();
    let (met, peak) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = server.client();
            keep_asking(&stop, Duration::from_millis(200), || send(&mut client, &known(now_ms())))
        });
        let stopper = Stopper(&stop);
        let mut client = server.client();
        let (began, mut number, mut peak) = (Instant::now(), 0_u64, 0);
        while began.elapsed() < span {
            let t = now_ms();
            let one = |i: u64| {
                let (id, pod) =
                    (format!("{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15)), format!("pod-{i}"));
                TimeSeries::new(
                    "flood",
                    &[("id", &id), ("pod", &pod), ("region", "eu-west-1")],
                    vec![(t, 1.0)],
                )
            };
            let body = Request::of(&(number..number + 5_000).map(one).collect::<Vec<_>>()).compress();
            number += 5_000;
            match status(send(&mut client, &body)) {
                204 => drop(accepted.fetch_add(5_000, Ordering::Relaxed)),
                429 => drop(refused.fetch_add(5_000, Ordering::Relaxed)),
                other => *others.entry(other).or_default() += 1,
            }
            peak = peak.max(server.usage().resident_bytes);
        }
        drop(stopper);
        (asking.join().unwrap_or_default(), peak)
    });
    let good = met.iter().filter(|(status, _)| *status == 204).count();
    let percent = 100.0 * good as f64 / met.len().max(1) as f64;
    let lines = server.output().lines().count() as f64 / span.as_secs_f64();
    let (accepted, refused) = (accepted.load(Ordering::Relaxed), refused.load(Ordering::Relaxed));
    let per_s = (accepted + refused) as f64 / span.as_secs_f64();
    let is_well = is_well(&server);
    let peak = peak >> 20;
    let text = format!(
        "s={} new_per_s={per_s:.0} new_accepted={accepted} new_refused={refused} others={others:?} rss_peak_mib={peak} \
         store_mib={STORE_MIB} known_ok_pct={percent:.1} log_lines_per_s={lines:.1}",
        span.as_secs()
    );
    let kept =
        is_well && percent >= 99.0 && lines <= 10.0 && others.is_empty() && peak <= STORE_MIB + BESIDE_MIB;
    Ok(Figures::new(text, kept))
}

/// 100,000 requests sent before an answer is read; how many were answered.
fn pipeline(subject: Subject, requests: usize) -> Result<usize, String> {
    let failed = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(subject.address).map_err(failed)?;
    let mut sender = stream.try_clone().map_err(failed)?;
    let sending = std::thread::spawn(move || {
        let request = "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n".repeat(requests - 1);
        sender.write_all(request.as_bytes())?;
        sender.write_all(b"GET /-/healthy HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    });
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(failed)?;
    sending.join().map_err(|_| "the sender met a bug")?.map_err(failed)?;
    Ok(text.matches("HTTP/1.1 200 OK").count())
}

/// What a flood of HTTP/2 does to the connection that sends it.
type Flood = (&'static str, fn(&mut Frames, usize) -> std::io::Result<()>);

const FLOODS: [Flood; 4] = [
    ("rapid reset of a query", |frames, n| frames.rapid_reset("/api/v1/query?query=1", n)),
    ("rapid reset of nothing", |frames, n| frames.rapid_reset("/nope", n)),
    ("continuations", |frames, n| frames.continuation_flood(n, 1_000)),
    ("empty frames", Frames::empty_frames),
];

fn http(place: &Place<'_>) -> Result<Figures, String> {
    let server = start(place, "http", &[]);
    let subject = Subject::from(&server);
    let (before, began, rss) = (subject.usage().cpu, Instant::now(), subject.usage().resident_bytes);
    let (mut cases, mut wrong) = (0, Vec::new());
    for (what, bytes, fine) in framing_oddities() {
        let text = answer(subject.address, &bytes);
        let is_odd = |s: &u16| *s != 100 && !(400..500).contains(s) && !(fine && *s == 200);
        if statuses(&text).iter().any(is_odd) || text.contains("Ready") {
            wrong.push(format!("{what}: {text:.200}"));
        }
        cases += 1;
    }
    let requests = place.count(10_000, 100_000);
    let answered = pipeline(subject, requests)?;
    if answered != requests {
        wrong.push(format!("a pipeline of {requests}: {answered} answered"));
    }
    let count = place.count(5_000, 50_000);
    let mut closed = 0;
    for (what, flood) in FLOODS {
        for _ in 0..place.count(1, 4) {
            let mut frames = Frames::connect(subject.address).map_err(|e| format!("{what}: {e}"))?;
            let is_cut = flood(&mut frames, count).is_err();
            closed += usize::from(is_cut || frames.is_closed_within(Duration::from_millis(500)));
            cases += 1;
        }
    }
    // Who behaves is served on a connection of his own.
    let legit = status(server.client().get("/api/v1/query?query=1"));
    let cores = (subject.usage().cpu - before).as_secs_f64() / began.elapsed().as_secs_f64();
    let more = mib_more(subject.usage().peak_resident_bytes, rss);
    let running = metric(&mut server.client(), "kymo_queries_running ");
    let is_well = is_well(&server);
    let text = format!(
        "cases={} alive={} pipelined={answered} frames_each={count} floods_closed={closed} cpu_cores={cores:.2} \
         rss_peak_mib=+{more} still_running={running} wrong={}{}",
        cases + 1,
        u8::from(is_well),
        wrong.len(),
        wrong.first().map(|w| format!(" first={w:?}")).unwrap_or_default()
    );
    let kept = is_well && wrong.is_empty() && legit == 200 && cores <= 1.0 && running == 0.0 && more <= 64;
    Ok(Figures::new(text, kept))
}

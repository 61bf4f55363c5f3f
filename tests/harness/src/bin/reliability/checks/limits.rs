//! Limits are exact: what just fits is taken, and one more is refused with the limit's value and, where it is known, the value met.

use super::measure::{fill, is_well, mib_more, now_ms, seconds, start};
use super::{Check, Figures, Place, Way};
use kymo_tests::http::{Client, Response};
use kymo_tests::http2::Frames;
use kymo_tests::process::most_memory;
use kymo_tests::remote_write::{HEADERS, Request, TimeSeries, compress, send};
use kymo_tests::server::Server;
use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[Check {
    number: "R31",
    name: "limits",
    what: "each limit met exactly, and passed by one",
    way: Way::Server(limits),
}];

const FLAGS: [&str; 9] = [
    "--query-max-samples=1000",
    "--query-max-points=100",
    "--query-memory=64MiB",
    "--ingest-max-body-bytes=100KiB",
    "--ingest-max-decoded-bytes=200KiB",
    "--ingest-max-labels=10",
    "--ingest-max-series=2000",
    "--web-max-header-bytes=64KiB",
    "--max-connections=400",
];

/// What is asked, and what is expected.
struct Case {
    what: &'static str,
    fits: io::Result<Response>,
    passes: io::Result<Response>,
    /// The status of what passes the limit, and what its words hold.
    expected: (u16, &'static [&'static str]),
}

impl Case {
    /// What is wrong, if anything is.
    fn judge(self) -> Option<String> {
        let fits = self.fits.map_or(0, |r| r.status);
        let (passes, text) = self.passes.map(|r| (r.status, r.text())).unwrap_or_default();
        let (status, words) = self.expected;
        let is_right =
            [200, 204].contains(&fits) && passes == status && words.iter().all(|w| text.contains(w));
        (!is_right).then(|| format!("{}: {fits}, then {passes} {:.300}", self.what, text.trim()))
    }
}

/// Sends one series by remote write.
fn write(client: &mut Client, labels: &[(&str, &str)], samples: Vec<(i64, f64)>) -> io::Result<Response> {
    send(client, &Request::of(&[TimeSeries::new("limits", labels, samples)]).compress())
}

fn query(client: &mut Client, text: &str, t: i64) -> io::Result<Response> {
    client.post_form("/api/v1/query", &[("query", text), ("time", &seconds(t))])
}

fn of_queries(client: &mut Client, t: i64) -> io::Result<Vec<Case>> {
    for (name, count) in [("fits", 1_000), ("passes", 1_001)] {
        write(client, &[("which", name)], (0..count).map(|i| (t - i * 1_000, 1.0)).collect())?;
    }
    let mut ask = |text: &str| query(client, text, t);
    let nested = |n: usize| "(".repeat(n) + "1" + &")".repeat(n);
    let text = |n: usize| format!("\"{}\"", "x".repeat(n - 2));
    let mut cases = vec![
        Case {
            what: "samples",
            fits: ask("limits{which=\"fits\"}[1h]"),
            passes: ask("limits{which=\"passes\"}[1h]"),
            expected: (422, &["limit of samples is 1000", "needs 1001"]),
        },
        Case {
            what: "text",
            fits: ask(&text(64 << 10)),
            passes: ask(&text((64 << 10) + 1)),
            expected: (400, &["65536", "65537"]),
        },
        Case {
            what: "depth",
            fits: ask(&nested(128)),
            passes: ask(&nested(129)),
            expected: (400, &["nested deeper than 128 levels"]),
        },
        Case {
            what: "label value",
            fits: ask("label_replace(vector(1), \"a\", \"x\", \"\", \"\")"),
            passes: ask(&(0..22)
                .fold("label_replace(vector(1), \"a\", \"x\", \"\", \"\")".to_owned(), |q, _| {
                    format!("label_replace({q}, \"a\", \"$1$1\", \"a\", \"(.*)\")")
                })),
            expected: (422, &["1048576"]),
        },
    ];
    let mut range = |points: i64| {
        let (start, end) = (seconds(t - points * 1_000), seconds(t));
        let fields = [("query", "1"), ("start", start.as_str()), ("end", &end), ("step", "1")];
        client.post_form("/api/v1/query_range", &fields)
    };
    cases.push(Case {
        what: "points",
        fits: range(100),
        passes: range(101),
        expected: (400, &["maximum resolution of 100 points"]),
    });
    let mut timed =
        |timeout: &str| client.post_form("/api/v1/query", &[("query", "1"), ("timeout", timeout)]);
    cases.push(Case { what: "time", fits: timed("1s"), passes: timed("0"), expected: (503, &["timed out"]) });
    Ok(cases)
}

/// What is limited, what was answered to what fits and to what does not, and what the latter's words hold.
type Pair = (&'static str, [io::Result<Response>; 2], &'static [&'static str]);

fn of_series(client: &mut Client, t: i64) -> Vec<Case> {
    let mut labelled = |count: usize| {
        let names: Vec<String> = (0..count - 1).map(|i| format!("l{i}")).collect();
        let labels: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "x")).collect();
        write(client, &labels, vec![(t, 1.0)])
    };
    let labels = [labelled(10), labelled(11)];
    let mut named = |bytes: usize| write(client, &[(&"n".repeat(bytes), "x")], vec![(t, 1.0)]);
    let names = [named(256), named(257)];
    let mut valued = |bytes: usize| write(client, &[("v", &"v".repeat(bytes))], vec![(t, 1.0)]);
    let values = [valued(4_096), valued(4_097)];
    let mut ahead = |seconds: i64| write(client, &[("ahead", "x")], vec![(now_ms() + seconds * 1_000, 1.0)]);
    let times = [ahead(595), ahead(620)];
    let mut aged = |days: i64| write(client, &[("aged", "x")], vec![(now_ms() - days * 86_400_000, 1.0)]);
    let ages = [aged(14), aged(16)];
    let expected: [Pair; 5] = [
        ("labels", labels, &["10", "11"]),
        ("bytes of a label name", names, &["256", "257"]),
        ("bytes of a label value", values, &["4096", "4097"]),
        ("time ahead", times, &["too far in the future"]),
        ("age", ages, &["older than the retention"]),
    ];
    expected
        .into_iter()
        .map(|(what, [fits, passes], words)| Case { what, fits, passes, expected: (400, words) })
        .collect()
}

/// Each on a connection of its own: a body that is not read to its end closes it.
fn of_bodies(server: &Server, t: i64) -> Vec<Case> {
    // A body of so many bytes when it is compressed, or before that: one series, and bytes of a field that nobody knows.
    let filled = |bytes: usize, random: bool| {
        let mut state = 7_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let base = Request::of(&[TimeSeries::new("body", &[], vec![(t, 1.0)])]).as_bytes().to_vec();
        let rest = bytes - base.len() - 5;
        let mut out = base;
        out.extend_from_slice(&[0xfa, 0x01, rest as u8 | 0x80, (rest >> 7) as u8 | 0x80, (rest >> 14) as u8]);
        out.extend((0..rest).map(|_| if random { next() } else { 0 }));
        out
    };
    let sent = |body: &[u8]| server.client().request("POST", "/api/v1/write", &HEADERS, body);
    let of_length = |wanted: usize| {
        let mut bytes = wanted - 400;
        loop {
            let body = compress(&filled(bytes, true));
            if body.len() >= wanted {
                break body;
            }
            bytes += (wanted - body.len()).div_ceil(2);
        }
    };
    let (fits, passes) = (of_length((100 << 10) - 50), of_length((100 << 10) + 1));
    let mut cases =
        vec![Case { what: "body", fits: sent(&fits), passes: sent(&passes), expected: (413, &["102400"]) }];
    cases.push(Case {
        what: "decoded body",
        fits: sent(&compress(&filled(200 << 10, false))),
        passes: sent(&compress(&filled((200 << 10) + 1, false))),
        expected: (400, &["204800", "204801"]),
    });
    let form = |bytes: usize| {
        let fields = ["query=1&x=".as_bytes().to_vec(), vec![b'x'; bytes - 10]].concat();
        let media = [("Content-Type", "application/x-www-form-urlencoded")];
        server.client().request("POST", "/api/v1/query", &media, &fields)
    };
    cases.push(Case {
        what: "form",
        fits: form(2 << 20),
        passes: form((2 << 20) + 1),
        expected: (413, &["2097152"]),
    });
    let read = |bytes: usize| {
        // A field of the request that nobody knows.
        let mut body = vec![0xfa, 0x01];
        let rest = bytes - 6;
        body.extend_from_slice(&[
            rest as u8 | 0x80,
            (rest >> 7) as u8 | 0x80,
            (rest >> 14) as u8 | 0x80,
            (rest >> 21) as u8,
        ]);
        body.resize(bytes, 0);
        server.client().request("POST", "/api/v1/read", &[HEADERS[0], HEADERS[1]], &compress(&body))
    };
    cases.push(Case {
        what: "remote read",
        fits: read(1 << 20),
        passes: read((1 << 20) + 1),
        expected: (400, &["1048576"]),
    });
    let head = |bytes: usize| server.client().request("GET", "/-/healthy", &[("X", &"x".repeat(bytes))], b"");
    cases.push(Case { what: "head", fits: head(60 << 10), passes: head(70 << 10), expected: (431, &[]) });
    cases
}

/// All series there may be: the next is refused, the known are taken.
fn of_all_series(client: &mut Client, t: i64) -> io::Result<Case> {
    let some = |from: usize, to: usize| {
        let one = |i: usize| TimeSeries::new("many", &[("i", &i.to_string())], vec![(t, 1.0)]);
        Request::of(&(from..to).map(one).collect::<Vec<_>>()).compress()
    };
    let known =
        client.post_form("/api/v1/query", &[("query", "count({__name__!=\"\"})"), ("time", &seconds(t))])?;
    let known = known.json().map_err(io::Error::other)?;
    let known: usize =
        known["data"]["result"][0]["value"][1].as_str().and_then(|n| n.parse().ok()).unwrap_or(0);
    // Some series have no sample at that time.
    let room = 2_000 - known - 1;
    let mut fits = send(client, &some(0, room - 20));
    for i in room - 20.. {
        let next = send(client, &some(i, i + 1))?;
        if next.status != 204 {
            let known = send(client, &some(0, i))?;
            if known.status != 204 {
                fits = Ok(known);
            }
            return Ok(Case { what: "series", fits, passes: Ok(next), expected: (429, &["2000"]) });
        }
        if i > 2_000 {
            break;
        }
    }
    Ok(Case {
        what: "series",
        fits,
        passes: Err(io::Error::other("never refused")),
        expected: (429, &["2000"]),
    })
}

/// Of 400 connections one address has 300.
fn of_connections(server: &Server) -> Case {
    let opened: Vec<TcpStream> = (0..290).filter_map(|_| TcpStream::connect(server.address()).ok()).collect();
    let fits = server.client().get("/-/healthy");
    let more: Vec<TcpStream> = (0..20).filter_map(|_| TcpStream::connect(server.address()).ok()).collect();
    std::thread::sleep(Duration::from_millis(100));
    let passes = server.client().get("/-/healthy");
    drop((opened, more));
    Case {
        what: "connections",
        fits,
        passes,
        expected: (503, &["too many connections", "--max-connections"]),
    }
}

/// Memory of one query: half of that of all.
fn of_memory(place: &Place<'_>) -> Option<String> {
    let server = start(place, "memory", &["--query-memory=64MiB"]);
    let ask = |range: &str| {
        let text = format!("count_over_time(vector(time())[{range}:1s])");
        query(&mut server.client(), &text, now_ms())
    };
    let (fits, before) = (ask("1d"), server.usage().resident_bytes);
    let (most, passes) = most_memory(server.id(), || ask("1y"));
    let case = Case { what: "bytes", fits, passes, expected: (422, &["33554432", "would bring it to"]) };
    let more = mib_more(most, before);
    case.judge().or_else(|| (more > 64).then(|| format!("bytes: +{more} MiB")))
}

/// One query at a time: the one that waits is told so after ten seconds.
fn of_places(place: &Place<'_>) -> Result<Option<String>, String> {
    let server = start(place, "places", &["--query-max-concurrency=1"]);
    let last = fill((&server).into(), 2_000, 120, 15_000)?;
    let endless = super::leaving::endless(last);
    // The first two turn out to be long: one gives up its place, the other keeps it.
    let held: Vec<TcpStream> = (0..2)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(server.address()).ok()?;
            io::Write::write_all(
                &mut stream,
                format!("GET {endless} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes(),
            )
            .ok()?;
            std::thread::sleep(Duration::from_millis(1_500));
            Some(stream)
        })
        .collect();
    let began = Instant::now();
    let passes = server.client().get("/api/v1/query?query=1");
    let waited = began.elapsed();
    drop(held);
    std::thread::sleep(Duration::from_millis(200));
    let fits = server.client().get("/api/v1/query?query=1");
    let case =
        Case { what: "places", fits, passes, expected: (503, &["1 places", "--query-max-concurrency"]) };
    let wrong = case.judge();
    let is_late = waited > Duration::from_secs(11);
    Ok(wrong.or_else(|| is_late.then(|| format!("places: told after {waited:?}"))))
}

/// Of HTTP/2 a head beyond the limit, and more streams than there may be, end the stream or the connection.
fn of_http2(server: &Server) -> Option<String> {
    let mut frames = Frames::connect(server.address()).ok()?;
    let _ = frames.get(&format!("/-/healthy?{}", "x".repeat(100 << 10)));
    frames.is_closed_within(Duration::from_millis(300));
    let alive = server.client().get("/-/healthy").is_ok_and(|r| r.status == 200);
    (!alive).then(|| "HTTP/2: not alive after a long head".to_owned())
}

fn limits(place: &Place<'_>) -> Result<Figures, String> {
    const POOL_MIB: u64 = 64;
    let server = start(place, "limits", &FLAGS);
    let t = now_ms() / 1_000 * 1_000;
    let before = server.usage().resident_bytes;
    let (most, cases) = most_memory(server.id(), || {
        let mut client = server.client();
        let mut cases = of_queries(&mut client, t)?;
        cases.extend(of_bodies(&server, t));
        cases.extend(of_series(&mut client, t));
        cases.push(of_all_series(&mut client, t)?);
        cases.push(of_connections(&server));
        Ok::<_, io::Error>(cases)
    });
    let cases = cases.map_err(|e| e.to_string())?;
    let count = cases.len() + 3;
    let mut wrong: Vec<String> = cases.into_iter().filter_map(Case::judge).collect();
    wrong.extend(of_memory(place));
    wrong.extend(of_places(place)?);
    wrong.extend(of_http2(&server));
    let more = mib_more(most, before);
    let over = (100 * more).saturating_sub(100 * POOL_MIB) / POOL_MIB;
    let text = format!(
        "cases={count} exact={} wrong={} rss_mib=+{more} pool_mib={POOL_MIB} rss_over_pct={over}{}",
        count - wrong.len(),
        wrong.len(),
        wrong.iter().map(|w| format!(" [{w}]")).collect::<String>()
    );
    Ok(Figures::new(text, wrong.is_empty() && over <= 20 && is_well(&server)))
}

//! Ten thousand slow clients: of their heads, their bodies, their reading, and those that say nothing at all.

use super::measure::{
    ALL, Stopper, Subject, beside, fill, is_well, keep_asking, metric, mib_more, ms, quantile, seconds, start,
};
use super::{Check, Figures, Place, Way};
use kymo_tests::hostile::allow_files;
use kymo_tests::http::escape;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The checks of this group.
pub(super) const CHECKS: &[Check] = &[Check {
    number: "R40",
    name: "slow",
    what: "10,000 slow connections: heads, bodies, readers, idle",
    way: Way::Server(slow),
}];

/// Bytes that a slow reader's socket takes before it is full.
const NARROW_BYTES: usize = 4 << 10;

/// How a client is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Head,
    Body,
    Reader,
    Idle,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Head, Self::Body, Self::Reader, Self::Idle];

    /// How long the server bears with it, by its defaults.
    fn deadline(self) -> Duration {
        Duration::from_secs(match self {
            Self::Head | Self::Body => 10,
            Self::Reader => 30,
            Self::Idle => 90,
        })
    }

    /// How much later than that a connection may be seen to be closed. The time of a reader begins when he takes nothing any more: the
    /// first of his answer has to be made before, and all readers ask at once.
    fn late_max(self) -> Duration {
        Duration::from_secs(if self == Self::Reader { 5 } else { 1 })
    }
}

/// A connection to `to` from the loopback address with this last byte; one that is narrow takes little at a time.
fn connect_from(last: u8, to: SocketAddr, narrow: bool) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if narrow {
        sockopt::set_socket_recv_buffer_size(&socket, NARROW_BYTES)?;
    }
    bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, last), 0))?;
    connect(&socket, &to)?;
    Ok(TcpStream::from(socket))
}

/// How often clients are looked at: what is measured of their end is late by so much.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often those that are slow to speak say a little more.
const SPEAK_EVERY: Duration = Duration::from_millis(500);

/// A slow client.
struct Slow {
    kind: Kind,
    stream: TcpStream,
    since: Instant,
    spoke: Instant,
    closed: Option<Duration>,
}

impl Slow {
    fn open(subject: Subject, number: usize, kinds: &[Kind], answer: &str) -> io::Result<Self> {
        let kind = kinds[number % kinds.len()];
        let address = 1 + (number / kinds.len() % 4) as u8;
        let mut stream = connect_from(address, subject.address, kind == Kind::Reader)?;
        let start = match kind {
            Kind::Head => "GET /-/healthy HTTP/1.1\r\nx: ".to_owned(),
            Kind::Body => {
                "POST /api/v1/write HTTP/1.1\r\nhost: x\r\ncontent-length: 10000\r\n\r\nabc".to_owned()
            }
            Kind::Reader => format!("GET {answer} HTTP/1.1\r\nhost: x\r\n\r\n"),
            Kind::Idle => "GET /-/healthy HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        };
        stream.write_all(start.as_bytes())?;
        stream.set_nonblocking(true)?;
        let since = Instant::now();
        Ok(Self { kind, stream, since, spoke: since, closed: None })
    }

    /// Says a little more, if it is of that kind, and looks whether the server has closed.
    fn look(&mut self) {
        if self.closed.is_some() {
            return;
        }
        let written = match self.kind {
            Kind::Head | Kind::Body if self.spoke.elapsed() >= SPEAK_EVERY => {
                self.spoke = Instant::now();
                self.stream.write(b"a").map(drop)
            }
            Kind::Head | Kind::Body | Kind::Reader | Kind::Idle => Ok(()),
        };
        let mut piece = [0; 512];
        // A slow reader takes nothing: that it was cut off shows at the server only.
        let read = match self.kind {
            Kind::Reader => Ok(1),
            Kind::Head | Kind::Body | Kind::Idle => self.stream.read(&mut piece),
        };
        let is_open = |e: &io::Error| e.kind() == ErrorKind::WouldBlock;
        let ended = written.is_err_and(|e| !is_open(&e)) || read.map_or_else(|e| !is_open(&e), |n| n == 0);
        if ended {
            self.closed = Some(self.since.elapsed());
        }
    }
}

/// Times of a small query from an address of its own, for as long as `work` takes.
fn legit_while<T>(
    subject: Subject,
    patience: Duration,
    work: impl FnOnce() -> T,
) -> (Vec<(u16, Duration)>, T) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut client = subject.client().with_timeout(patience);
            let target = format!("/api/v1/query?query={}", escape("count(load_metric_0)"));
            keep_asking(&stop, Duration::from_millis(50), || client.get(&target))
        });
        let stopper = Stopper(&stop);
        let given = work();
        drop(stopper);
        (asking.join().unwrap_or_default(), given)
    })
}

fn slow(place: &Place<'_>) -> Result<Figures, String> {
    let count = place.count(2_000, 10_000);
    allow_files(count as u64 + 2_000);
    let server = start(place, "slow", &["--max-connections=12000"]);
    let subject = Subject::from(&server);
    // Long answers: more than the system takes for a client that reads nothing.
    let last = fill(subject, 2_000, 240, 5_000)?;
    let answer = format!(
        "/api/v1/export?match[]={}&start={}&end={}",
        escape(ALL),
        seconds(last - 900_000),
        seconds(last)
    );
    let before = subject.usage();
    let (met, all) = legit_while(subject, Duration::from_secs(30), || {
        let opening = || -> io::Result<Vec<Slow>> {
            (0..count).map(|number| Slow::open(subject, number, &Kind::ALL, &answer)).collect()
        };
        let mut all = opening()?;
        let (mut client, mut readers_closed) = (subject.client(), None);
        let began = Instant::now();
        // Somewhat longer than the longest deadline.
        while began.elapsed() < Duration::from_secs(110) {
            all.iter_mut().for_each(Slow::look);
            let open = |slow: &&Slow| slow.closed.is_none() && slow.kind != Kind::Reader;
            let open = all.iter().filter(open).count();
            // The two that ask, and one that is just being closed.
            if readers_closed.is_none() && metric(&mut client, "kymo_http_connections ") <= open as f64 + 3.0
            {
                readers_closed = Some(began.elapsed());
            }
            if open == 0 && readers_closed.is_some() {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        for slow in all.iter_mut().filter(|slow| slow.kind == Kind::Reader) {
            slow.closed = readers_closed;
        }
        Ok::<_, io::Error>(all)
    });
    let all = all.map_err(|e| format!("a slow client: {e}"))?;
    let peak = subject.usage().peak_resident_bytes;
    let (mut kept, mut told) = (true, Vec::new());
    for kind in Kind::ALL {
        let of_kind = || all.iter().filter(|slow| slow.kind == kind);
        let still = of_kind().filter(|slow| slow.closed.is_none()).count();
        let longest = of_kind().filter_map(|slow| slow.closed).max().unwrap_or_default();
        told.push(format!("{kind:?}:{:.1}", longest.as_secs_f64()));
        kept &= longest <= kind.deadline() + kind.late_max() && still == 0;
        if still > 0 {
            told.push(format!("({still} open)"));
        }
    }
    let open = metric(&mut server.client(), "kymo_http_connections ");
    drop(all);
    std::thread::sleep(Duration::from_secs(1));
    let failed = met.iter().filter(|(status, _)| *status != 200).count();
    let mut times: Vec<Duration> = met.into_iter().map(|(_, took)| took).collect();
    let p99 = quantile(&mut times, 990);
    let more = mib_more(peak, before.resident_bytes);
    let (one_address, other) = cap(place)?;
    let is_well = is_well(&server);
    let text = format!(
        "n={count} legit_p99_ms={} legit_failed={failed} rss_mib=+{more} closed_s={} open_afterwards={open} \
         one_address_max={one_address} others_served={other}",
        ms(p99),
        told.join(","),
    );
    kept &= is_well && failed == 0 && p99 <= Duration::from_millis(100) && more <= 200 && open <= 10.0;
    kept &= one_address == 900 && other;
    let mut figures = Figures::new(text, kept);
    figures.beside = beside(place, "slow", |peer| Ok(slow_heads(peer, 1_000)));
    Ok(figures)
}

/// How many connections one address gets of three quarters of 1,200, and whether another is served meanwhile.
fn cap(place: &Place<'_>) -> Result<(usize, bool), String> {
    let server = start(place, "cap", &["--max-connections=1200", "--web-head-timeout=60s"]);
    let mut all = Vec::new();
    for _ in 0..1_000 {
        let stream = connect_from(2, server.address(), false).map_err(|e| format!("one address: {e}"))?;
        stream.set_nonblocking(true).map_err(|e| e.to_string())?;
        all.push(stream);
    }
    std::thread::sleep(Duration::from_millis(500));
    // Those inside wait for a request and say nothing.
    let mut inside = 0;
    for stream in &mut all {
        inside += usize::from(stream.read(&mut [0; 64]).is_err_and(|e| e.kind() == ErrorKind::WouldBlock));
    }
    let served = server.client().get("/-/healthy").is_ok_and(|r| r.status == 200);
    Ok((inside, served))
}

/// What slow heads alone do to a peer.
fn slow_heads(subject: Subject, count: usize) -> String {
    let patience = Duration::from_secs(20);
    let before = subject.usage().resident_bytes;
    let (met, all) = legit_while(subject, patience, || {
        let opened: Vec<Slow> =
            (0..count).filter_map(|n| Slow::open(subject, n, &[Kind::Head], "").ok()).collect();
        let mut all = opened;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) && all.iter().any(|slow| slow.closed.is_none()) {
            all.iter_mut().for_each(Slow::look);
            std::thread::sleep(Duration::from_millis(500));
        }
        all
    });
    let more = mib_more(subject.usage().peak_resident_bytes, before);
    let closed = all.iter().filter(|slow| slow.closed.is_some()).count();
    let answered = met.iter().filter(|(status, _)| *status == 200).count();
    let mut times: Vec<Duration> = met.iter().map(|(_, took)| *took).collect();
    format!(
        "slow heads n={} legit_answered={answered} of {} legit_p99_ms={} rss_mib=+{more} closed_within_30s={closed}",
        all.len(),
        met.len(),
        ms(quantile(&mut times, 990))
    )
}

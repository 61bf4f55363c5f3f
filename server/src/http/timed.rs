//! A socket that gives up on slow clients, and what it knows of the requests on it.
//!
//! The head of a request is handed on as a whole, if it is not long: the HTTP library takes some 20 KiB as soon as it has a byte of
//! one, and ten thousand clients may send theirs drop by drop.

use crate::telemetry::Metrics;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep};

/// An HTTP/2 connection without requests is cut after this many idle times even if its client keeps asking for signs of life.
const IDLE_TIMES_MAX: u32 = 10;

/// A longer head is handed on as it comes.
const HEAD_HELD_BYTES_MAX: usize = 4 << 10;
/// What a connection of HTTP/2 begins with: from then on there are no heads.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// How slow a client may be.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From the first byte of a request (or the connection's start) to the end of its head.
    pub head: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Without taking a byte of a response.
    pub write: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), idle: Duration::from_secs(90), write: Duration::from_secs(30) }
    }
}

/// The requests of one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Requests whose response has not been handed to the connection to its end.
    active: AtomicUsize,
    /// Counts changes of `active`.
    turns: AtomicU64,
    /// Set with the first request of HTTP/2.
    http2: AtomicBool,
    /// Told when a request ends: not always by the connection's own doing.
    ended: Notify,
}

/// One request at work; it ends when this is dropped.
pub(super) struct AtWork(Arc<Activity>);

impl Activity {
    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>, http2: bool) -> AtWork {
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        self.active.fetch_add(1, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
        AtWork(Arc::clone(self))
    }

    /// Whether a request is at work.
    #[cfg(test)]
    pub(super) fn is_at_work(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Returns when the last request at work has ended: the connection is idle then and must be told.
    pub(super) async fn idle(&self) {
        self.ended.notified().await;
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        let before = self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        if before == 1 && self.0.http2.load(Ordering::Relaxed) {
            self.0.ended.notify_one();
        }
    }
}

/// What the read side of a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The rest of a request's head.
    Head,
    /// The next request.
    Idle,
    /// The handler, which has its own deadlines.
    Handler,
}

/// Bytes of a head that has not come to its end.
#[derive(Default)]
struct HeldHead {
    bytes: Vec<u8>,
    /// How many of them are handed on.
    taken: usize,
    /// The last bytes that were handed on: with those that are held they may be the end of a head.
    before: [u8; 3],
    /// Whatever comes is handed on: until the next request, or for ever.
    is_open: bool,
    is_open_for_ever: bool,
}

impl HeldHead {
    /// Whether what is held is to be handed on.
    fn is_ready(&self) -> bool {
        self.is_open && self.taken < self.bytes.len()
    }

    /// Takes in what has come.
    fn push(&mut self, bytes: &[u8]) {
        let from = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        if self.bytes.starts_with(HTTP2_PREFACE) {
            self.is_open_for_ever = true;
        }
        // No method begins like that: who speaks something else is told at once.
        let is_other = |first: &u8| !first.is_ascii_alphabetic() && !b"\r\n".contains(first);
        self.is_open |= self.bytes.first().is_some_and(is_other);
        // An empty line, which may begin before these bytes, and before all that is held.
        let mut seen: Vec<u8> = Vec::with_capacity(bytes.len() + 3);
        seen.extend_from_slice(&self.before);
        seen.extend_from_slice(self.bytes.get(..from).unwrap_or_default());
        let mut seen = seen.split_off(seen.len() - 3);
        seen.extend_from_slice(bytes);
        let ends = seen.windows(2).any(|w| w == b"\n\n") || seen.windows(3).any(|w| w == b"\n\r\n");
        self.is_open |= ends || self.is_open_for_ever || self.bytes.len() > HEAD_HELD_BYTES_MAX;
    }

    /// Hands on as much as there is room for.
    fn fill(&mut self, buffer: &mut ReadBuf<'_>) {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let given = rest.get(..buffer.remaining().min(rest.len())).unwrap_or_default();
        buffer.put_slice(given);
        self.taken += given.len();
        let given = given.to_vec();
        self.note(&given);
        if self.taken >= self.bytes.len() {
            (self.bytes, self.taken) = (Vec::new(), 0);
        }
    }

    /// Remembers the end of what was handed on.
    fn note(&mut self, given: &[u8]) {
        for byte in given.iter().skip(given.len().saturating_sub(3)) {
            self.before.rotate_left(1);
            self.before[2] = *byte;
        }
    }
}

/// A socket that gives up on slow clients.
pub(super) struct TimedStream {
    stream: TcpStream,
    deadlines: Deadlines,
    activity: Arc<Activity>,
    turns_seen: u64,
    /// When a request last began or ended.
    last_turn: Instant,
    phase: Phase,
    head: HeldHead,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
}

impl TimedStream {
    pub(super) fn new(
        stream: TcpStream,
        deadlines: Deadlines,
        activity: Arc<Activity>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let read_deadline = Box::pin(sleep(deadlines.head));
        Self {
            stream,
            deadlines,
            activity,
            turns_seen: 0,
            last_turn: Instant::now(),
            phase: Phase::Head,
            head: HeldHead::default(),
            read_deadline,
            write_deadline: None,
            metrics,
        }
    }

    /// From now on bytes are handed on as they come: they are not those of requests.
    pub(super) fn sealed(mut self) -> Self {
        self.head.is_open_for_ever = true;
        self.head.is_open = true;
        self
    }

    /// Reads what is there of a head; ready when there is something to hand on.
    fn poll_head(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [MaybeUninit::uninit(); 1 << 10];
        while !self.head.is_open {
            let mut piece = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                // The end: whoever waits for the rest is told.
                self.head.is_open = true;
            }
            if self.phase == Phase::Idle && !piece.filled().is_empty() {
                self.enter(Phase::Head);
            }
            self.head.push(piece.filled());
        }
        if self.head.is_ready() {
            self.head.fill(buffer);
        }
        Poll::Ready(Ok(()))
    }

    /// Follows the handler. Called at every read, write and flush: hyper does not read again after a response if the read
    /// before found nothing, so the deadline of an idle connection must be set when its response is written.
    fn follow(&mut self, cx: &mut Context<'_>) {
        let turns = self.activity.turns.load(Ordering::Relaxed);
        if turns == self.turns_seen {
            return;
        }
        self.turns_seen = turns;
        self.last_turn = Instant::now();
        if self.activity.active.load(Ordering::Relaxed) > 0 {
            self.phase = Phase::Handler;
        } else {
            self.enter(Phase::Idle);
            self.head.is_open = self.head.is_open_for_ever;
            // Just set, so not over: this only asks to be woken.
            let _ = self.read_deadline.as_mut().poll(cx);
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        let wait = match phase {
            Phase::Head => self.deadlines.head,
            Phase::Idle | Phase::Handler => self.deadlines.idle,
        };
        self.read_deadline.as_mut().reset(Instant::now() + wait);
    }

    fn cut<T>(&self, slow: &'static str) -> Poll<io::Result<T>> {
        self.metrics.connections_cut.get(slow).inc();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, slow)))
    }

    /// Judges the result of a write: while the client takes nothing the deadline runs.
    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.follow(cx);
        if result.is_ready() {
            self.write_deadline = None;
            if self.phase == Phase::Idle && self.last_turn.elapsed() < self.deadlines.idle * IDLE_TIMES_MAX {
                self.enter(Phase::Idle);
            }
            return result;
        }
        let wait = self.deadlines.write;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(wait)));
        if deadline.as_mut().poll(cx).is_ready() { self.cut("write") } else { Poll::Pending }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.follow(cx);
        let before = buffer.filled().len();
        let http2 = this.activity.http2.load(Ordering::Relaxed);
        let is_held = this.head.is_ready() || (!this.head.is_open && !http2 && this.phase != Phase::Handler);
        let read = if is_held {
            this.poll_head(cx, buffer)
        } else {
            Pin::new(&mut this.stream).poll_read(cx, buffer).map_ok(|()| {
                this.head.note(buffer.filled().get(before..).unwrap_or_default());
            })
        };
        if let Poll::Ready(result) = read {
            // In HTTP/2 bytes need not be the beginning of a request; a head that comes slowly meets the idle time.
            if this.phase == Phase::Idle && !http2 && buffer.filled().len() > before {
                this.enter(Phase::Head);
            }
            return Poll::Ready(result);
        }
        match this.phase {
            Phase::Handler => Poll::Pending,
            Phase::Head | Phase::Idle => {
                ready!(this.read_deadline.as_mut().poll(cx));
                this.cut(if this.phase == Phase::Head { "head" } else { "idle" })
            }
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.after_write(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.after_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.follow(cx);
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes each piece; says behind which one something is handed on.
    fn opens_at(head: &mut HeldHead, pieces: &[&str]) -> Option<usize> {
        pieces.iter().position(|piece| {
            head.push(piece.as_bytes());
            head.is_open
        })
    }

    fn taken(head: &mut HeldHead, room: usize) -> String {
        let mut bytes = vec![0; room];
        let mut buffer = ReadBuf::new(&mut bytes);
        head.fill(&mut buffer);
        String::from_utf8_lossy(buffer.filled()).into_owned()
    }

    #[test]
    fn heads_are_handed_on_as_a_whole() {
        let long = "x".repeat(HEAD_HELD_BYTES_MAX);
        let cases: [(&[&str], Option<usize>); 9] = [
            (&["\x16\x03\x01"], Some(0)),
            (&["GET / HTTP/1.1\r\n", "host: x\r\n", "\r\n"], Some(2)),
            (&["GET / HTTP/1.1\r\nhost: x\r\n\r", "\n"], Some(1)),
            (&["GET / HTTP/1.1\n", "\n"], Some(1)),
            (&["GET / HTTP/1.1\r", "\n", "\r", "\n"], Some(3)),
            (&["GET / HTTP/1.1\r\nhost: x\r\n"], None),
            (&["GET ", "/", &long], Some(2)),
            (&["PRI ", "* HTTP/2.0"], Some(1)),
            (&["POST / HTTP/1.1\r\n\r\nbody"], Some(0)),
        ];
        for (pieces, expected) in cases {
            let mut head = HeldHead::default();
            assert_eq!(opens_at(&mut head, pieces), expected, "{pieces:?}");
            if let Some(last) = expected {
                let all = pieces[..=last].concat();
                assert_eq!(taken(&mut head, 24) + &taken(&mut head, 1 << 20), all);
                assert!(!head.is_ready() && head.bytes.capacity() == 0);
            }
        }
    }

    #[test]
    fn what_was_handed_on_before_may_be_the_begin_of_the_end() {
        for (before, rest) in [("GET / HTTP/1.1\r\n", "\r\n"), ("a: b\r\n\r", "\n"), ("a: b\n", "\n")] {
            let mut head = HeldHead::default();
            head.note(before.as_bytes());
            head.push(rest.as_bytes());
            assert!(head.is_open, "{before:?} {rest:?}");
        }
    }
}

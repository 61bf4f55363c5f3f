//! A socket that gives up on slow clients, and what it knows of the requests on it.

use crate::telemetry::Metrics;
use std::io;
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
    /// Of the last request, if it is one of HTTP/1: its body has not been read to its end.
    unread: AtomicBool,
    /// Of the same: its answer has not been given to its end.
    unanswered: AtomicBool,
    /// All that was to be written is, and nothing is left of the last request.
    at_rest: AtomicBool,
    /// Told when a request ends: not always by the connection's own doing.
    ended: Notify,
}

/// One request at work; it ends when this is dropped.
pub(super) struct AtWork(Arc<Activity>);

impl Activity {
    /// A request begins.
    pub(super) fn begin(self: &Arc<Self>, http2: bool, has_body: bool) -> AtWork {
        if http2 {
            self.http2.store(true, Ordering::Relaxed);
        }
        self.unread.store(has_body, Ordering::Relaxed);
        self.unanswered.store(true, Ordering::Relaxed);
        self.at_rest.store(false, Ordering::Relaxed);
        self.active.fetch_add(1, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
        AtWork(Arc::clone(self))
    }

    /// Whether a request is at work.
    pub(super) fn is_at_work(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// The body of the last request is read to its end.
    pub(super) fn end_of_body(&self) {
        self.unread.store(false, Ordering::Relaxed);
    }

    /// Whether the body of the last request is not read to its end.
    pub(super) fn is_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// A request of HTTP/1 is about to begin.
    pub(super) fn leave_rest(&self) {
        self.unanswered.store(true, Ordering::Relaxed);
        self.at_rest.store(false, Ordering::Relaxed);
    }

    /// All that was to be written until now is in the socket.
    pub(super) fn flushed(&self) {
        let is_over = !self.is_at_work() && !self.is_unread() && !self.unanswered.load(Ordering::Relaxed);
        self.at_rest.store(is_over, Ordering::Relaxed);
    }

    /// Whether there is nothing left of the last request of HTTP/1: all of it was read, all of its answer given, and no other has
    /// begun.
    pub(super) fn is_at_rest(&self) -> bool {
        self.at_rest.load(Ordering::Relaxed)
    }

    /// Returns when the last request at work has ended: the connection is idle then and must be told.
    pub(super) async fn idle(&self) {
        self.ended.notified().await;
    }
}

impl AtWork {
    /// The answer was given to its end.
    pub(super) fn answered(self) {
        self.0.unanswered.store(false, Ordering::Relaxed);
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

/// A socket that gives up on slow clients.
pub(super) struct TimedStream {
    stream: TcpStream,
    deadlines: Deadlines,
    activity: Arc<Activity>,
    turns_seen: u64,
    /// When a request last began or ended.
    last_turn: Instant,
    phase: Phase,
    /// The client has said more than was read; it is there, then.
    has_more: bool,
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
            has_more: false,
            read_deadline,
            write_deadline: None,
            metrics,
        }
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
            // Just set, so not over: this only asks to be woken.
            let _ = self.read_deadline.as_mut().poll(cx);
        }
    }

    /// Whether the client has left while its request is at work. Nothing is read for that: who reads has a buffer.
    fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.phase != Phase::Handler || self.has_more || self.activity.http2.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let mut byte = [0];
        match ready!(self.stream.poll_peek(cx, &mut ReadBuf::new(&mut byte))) {
            Ok(0) => Poll::Ready(io::Error::new(io::ErrorKind::UnexpectedEof, "the client left")),
            Ok(_) => {
                self.has_more = true;
                Poll::Pending
            }
            Err(error) => Poll::Ready(error),
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
        if deadline.as_mut().poll(cx).is_ready() {
            return self.cut("write");
        }
        self.poll_left(cx).map(Err)
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
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buffer) {
            this.has_more = false;
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
        // The library asks for this whenever it has nothing to write.
        match this.poll_left(cx) {
            Poll::Ready(left) => Poll::Ready(Err(left)),
            Poll::Pending => Pin::new(&mut this.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

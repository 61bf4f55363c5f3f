//! The accept loop: how many may connect, and how slow they may be.
//!
//! A connection is cut when its request head takes longer than [`Deadlines::head`], when it idles between requests
//! longer than [`Deadlines::idle`], or when it takes nothing of a response for [`Deadlines::write`]. Bodies have their own
//! rule, where they are read (`http/intake.rs`).

use crate::telemetry::Metrics;
use crate::telemetry::registry::GaugeGuard;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Sleep, sleep};
use tower::ServiceExt;

/// Largest request head in bytes. A query may come in the URL, so the limit of query texts fits twice.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// How long to wait after the system refused to accept (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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

/// What [`serve`] needs to know.
#[derive(Debug, Clone)]
pub struct ListenOptions {
    /// Open connections in all. One address may hold three quarters of them, so that it cannot lock out the others.
    pub connections_max: usize,
    /// How slow a client may be.
    pub deadlines: Deadlines,
    /// How long requests may go on after the shutdown began.
    pub drain: Duration,
}

/// Serves `app` until `shutdown` turns true, then finishes the requests in flight within [`ListenOptions::drain`].
pub async fn serve(
    listener: TcpListener,
    app: Router,
    options: ListenOptions,
    metrics: Arc<Metrics>,
    mut shutdown: watch::Receiver<bool>,
) {
    let doors = Arc::new(Doors::new(options.connections_max, Arc::clone(&metrics)));
    // Every connection holds a sender; when the last is gone the receiver ends.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(pair) => pair,
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = doors.enter(address.ip()) else { continue };
        // Answers are small and complete: there is nothing to gain from waiting for more bytes.
        let _ = stream.set_nodelay(true);
        let task = connection(stream, app.clone(), options.deadlines, Arc::clone(&metrics), shutdown.clone());
        let open = open.clone();
        tokio::spawn(async move {
            task.await;
            drop((place, open));
        });
    }
    drop((listener, open));
    if tokio::time::timeout(options.drain, all_closed.recv()).await.is_err() {
        tracing::warn!("requests were still running at the end of the shutdown; their connections are cut");
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn connection(
    stream: TcpStream,
    app: Router,
    deadlines: Deadlines,
    metrics: Arc<Metrics>,
    mut shutdown: watch::Receiver<bool>,
) {
    let turns = Arc::new(AtomicU64::new(0));
    let io = TokioIo::new(TimedStream::new(stream, deadlines, Arc::clone(&turns), metrics));
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, turns) = (app.clone(), Arc::clone(&turns));
        turns.fetch_add(1, Ordering::Relaxed);
        async move {
            let response: Result<Response<Body>, _> = app.oneshot(request).await;
            turns.fetch_add(1, Ordering::Relaxed);
            response
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(HEAD_BYTES_MAX);
    let mut connection = std::pin::pin!(builder.serve_connection(io, service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Who is inside, in all and by address.
struct Doors {
    max: usize,
    per_address_max: usize,
    inside: Mutex<HashMap<IpAddr, usize>>,
    metrics: Arc<Metrics>,
}

/// One connection's place; given back when dropped.
struct Place {
    doors: Arc<Doors>,
    address: IpAddr,
    _open: GaugeGuard,
}

impl Doors {
    fn new(max: usize, metrics: Arc<Metrics>) -> Self {
        let per_address_max = (max / 4 * 3).max(1);
        Self { max, per_address_max, inside: Mutex::new(HashMap::new()), metrics }
    }

    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut inside = self.inside.lock();
        let limit = if self.metrics.connections.get() >= self.max as i64 {
            Some("total")
        } else if inside.get(&address).is_some_and(|n| *n >= self.per_address_max) {
            Some("address")
        } else {
            None
        };
        if let Some(limit) = limit {
            self.metrics.connections_refused.get(limit).inc();
            return None;
        }
        *inside.entry(address).or_default() += 1;
        Some(Place { doors: Arc::clone(self), address, _open: self.metrics.connections.hold() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.doors.inside.lock();
        if let Some(count) = inside.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.address);
            }
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
struct TimedStream {
    stream: TcpStream,
    deadlines: Deadlines,
    /// Counts requests that reached the handler and responses that left it: odd while the handler works.
    turns: Arc<AtomicU64>,
    turns_seen: u64,
    phase: Phase,
    read_deadline: Pin<Box<Sleep>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    metrics: Arc<Metrics>,
}

impl TimedStream {
    fn new(stream: TcpStream, deadlines: Deadlines, turns: Arc<AtomicU64>, metrics: Arc<Metrics>) -> Self {
        let read_deadline = Box::pin(sleep(deadlines.head));
        Self {
            stream,
            deadlines,
            turns,
            turns_seen: 0,
            phase: Phase::Head,
            read_deadline,
            write_deadline: None,
            metrics,
        }
    }

    /// Follows the handler. Called at every read, write and flush: hyper does not read again after a response if the read
    /// before found nothing, so the deadline of an idle connection must be set when its response is written.
    fn follow(&mut self, cx: &mut Context<'_>) {
        let turns = self.turns.load(Ordering::Relaxed);
        if turns == self.turns_seen {
            return;
        }
        self.turns_seen = turns;
        if turns % 2 == 1 {
            self.phase = Phase::Handler;
        } else {
            self.enter(Phase::Idle);
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
            if self.phase == Phase::Idle {
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
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(cx, buffer) {
            if this.phase == Phase::Idle && buffer.filled().len() > before {
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn options() -> ListenOptions {
        let ms = Duration::from_millis;
        ListenOptions {
            connections_max: 4,
            deadlines: Deadlines { head: ms(150), idle: ms(400), write: ms(500) },
            drain: Duration::from_secs(5),
        }
    }

    async fn start() -> (std::net::SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = || async {
            sleep(Duration::from_millis(300)).await;
            "late"
        };
        let app = Router::new()
            .route("/", axum::routing::get(|| async { "hello" }))
            .route("/slow", axum::routing::get(slow));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, app, options(), Arc::new(Metrics::default()), stopped));
        (address, stop, task)
    }

    async fn read_all(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn slow_heads_are_cut_and_slow_handlers_are_not() {
        let (address, _stop, _task) = start().await;
        let mut slow_head = TcpStream::connect(address).await.unwrap();
        slow_head.write_all(b"GET / HT").await.unwrap();
        let mut slow_handler = TcpStream::connect(address).await.unwrap();
        slow_handler.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let started = Instant::now();
        assert_eq!(read_all(&mut slow_head).await, "");
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(read_all(&mut slow_handler).await.ends_with("late"));
        // An idle connection may be used again until its deadline, a request that begins must then come quickly.
        let mut kept = TcpStream::connect(address).await.unwrap();
        let mut buffer = [0; 512];
        for _ in 0..2 {
            kept.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            assert!(kept.read(&mut buffer).await.unwrap() > 0);
            sleep(Duration::from_millis(250)).await;
        }
        assert_eq!(read_all(&mut kept).await, "");
    }

    #[tokio::test]
    async fn one_address_cannot_take_every_place() {
        let (address, _stop, _task) = start().await;
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        let mut fourth = TcpStream::connect(address).await.unwrap();
        assert_eq!(read_all(&mut fourth).await, "");
    }

    #[tokio::test]
    async fn shutdown_lets_requests_finish() {
        let (address, stop, task) = start().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        sleep(Duration::from_millis(50)).await;
        stop.send(true).unwrap();
        assert!(read_all(&mut stream).await.ends_with("late"));
        task.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}

//! The accept loop: how many may connect, and how slow they may be.
//!
//! A connection is cut when its request head takes longer than [`Deadlines::head`], when it idles between requests
//! longer than [`Deadlines::idle`], or when it takes nothing of a response for [`Deadlines::write`]. Bodies have their own
//! rules: those of requests where they are read (`http/intake.rs`), those of responses in `http/taking.rs`.

use super::doors::Doors;
use super::heads::{Begun, Between};
use super::refusals::Refusals;
use super::taking::{Taken, Taker};
use super::timed::{Activity, TimedStream};
use super::unread;
use crate::telemetry::Metrics;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::sockopt;
use rustls::ServerConfig;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

pub use super::timed::Deadlines;

/// How long to wait after the system refused to accept (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections that may wait to be accepted; the system may allow fewer. One that finds no place tries again after a second.
const BACKLOG: u32 = 4_096;
/// Requests of one HTTP/2 connection at the same time.
const STREAMS_MAX: u32 = 128;
/// Headers of one HTTP/2 request in bytes, uncompressed.
const HTTP2_HEADERS_BYTES_MAX: u32 = 64 << 10;
/// Bytes of a request body that an HTTP/2 client may send ahead: in one stream, and in all.
const HTTP2_WINDOW_BYTES: (u32, u32) = (1 << 20, 4 << 20);
/// What the system may hold for a client that has not taken it, in bytes; it takes twice that. By itself it would go up to
/// megabytes, which ten thousand slow clients are not worth; and a client that is slow, but takes all, shows that it moves.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Of that, what may wait to be sent, in bytes: the rest is for what is on its way to the client and not yet acknowledged, which
/// is nothing if the client has no room.
const UNSENT_BYTES: u32 = 32 << 10;
/// What a client that speaks plain HTTP to a TLS port is told, as Go's servers do.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Where TLS as it is now comes from; `None` for plain HTTP.
pub type TlsSource = Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>;

/// What [`serve`] needs to know.
#[derive(Clone)]
pub struct ListenOptions {
    /// Open connections in all. One address may hold three quarters of them, so that it cannot lock out the others.
    pub connections_max: usize,
    /// How slow a client may be.
    pub deadlines: Deadlines,
    /// How long requests may go on after the shutdown began.
    pub drain: Duration,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Whether HTTP/2 is spoken: over TLS by agreement, without TLS by prior knowledge.
    pub http2: bool,
    /// TLS, asked at every connection, so that new certificates hold at once.
    pub tls: TlsSource,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            deadlines: Deadlines::default(),
            drain: Duration::from_secs(8),
            head_bytes_max: 128 << 10,
            http2: true,
            tls: Arc::new(|| None),
        }
    }
}

/// What all connections share.
struct Face {
    app: Router,
    options: ListenOptions,
    metrics: Arc<Metrics>,
    builders: Builders,
    /// Places for those who are told why they are refused.
    refusals: Refusals,
}

/// Listens on `address`.
///
/// # Errors
/// The address is taken, or none of this machine.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As the library does: one that ended a moment ago holds nobody up.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
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
    let (drain, builders) = (options.drain, Builders::new(&options));
    let refusals = Refusals::default();
    let face = Arc::new(Face { app, options, metrics, builders, refusals });
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
        let Some(place) = doors.enter(address.ip()) else {
            if (face.options.tls)().is_none() {
                face.refusals.turn_away(stream);
            }
            continue;
        };
        // Answers are small and complete: there is nothing to gain from waiting for more bytes.
        let _ = stream.set_nodelay(true);
        let _ = sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
        bound_unsent(&stream);
        let task = connection(Arc::clone(&face), stream, address, shutdown.clone());
        let open = open.clone();
        tokio::spawn(async move {
            task.await;
            drop((place, open));
        });
    }
    drop((listener, open));
    if tokio::time::timeout(drain, all_closed.recv()).await.is_err() {
        tracing::warn!("requests were still running at the end of the shutdown; their connections are cut");
    }
}

/// Systems without the option hold what the buffer holds.
fn bound_unsent(stream: &TcpStream) {
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
    #[cfg(not(target_os = "linux"))]
    let _ = (stream, UNSENT_BYTES);
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

/// How connections are served.
struct Builders {
    http1: http1::Builder,
    /// The same over TLS, whose end only the library sees.
    http1_over_tls: http1::Builder,
    /// Unless it is not spoken.
    http2: Option<http2::Builder<TokioExecutor>>,
}

impl Builders {
    fn new(options: &ListenOptions) -> Self {
        let mut http1 = http1::Builder::new();
        http1.timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(options.head_bytes_max);
        let http1_over_tls = http1.clone();
        // Without this the library reads while a request is at work, to see its client leave, and holds a buffer for it; the socket
        // looks for itself.
        http1.half_close(true);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HTTP2_HEADERS_BYTES_MAX)
            .initial_stream_window_size(HTTP2_WINDOW_BYTES.0)
            .initial_connection_window_size(HTTP2_WINDOW_BYTES.1);
        Self { http1, http1_over_tls, http2: options.http2.then_some(http2) }
    }
}

/// What serves a connection until it ends.
type Served = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One connection from its start to its end. There may be ten thousand: one without TLS has no room for it.
fn connection(
    face: Arc<Face>,
    stream: TcpStream,
    address: SocketAddr,
    shutdown: watch::Receiver<bool>,
) -> Served {
    let activity = Arc::new(Activity::default());
    let deadlines = face.options.deadlines;
    let stream = TimedStream::new(stream, deadlines, Arc::clone(&activity), Arc::clone(&face.metrics));
    match (face.options.tls)() {
        None => Box::pin(requests(face, stream, false, address, activity, shutdown)),
        Some(tls) => Box::pin(over_tls(face, tls, stream, address, activity, shutdown)),
    }
}

/// Agrees on TLS, then serves the requests.
async fn over_tls(
    face: Arc<Face>,
    tls: Arc<ServerConfig>,
    stream: TimedStream,
    address: SocketAddr,
    activity: Arc<Activity>,
    shutdown: watch::Receiver<bool>,
) {
    let deadlines = face.options.deadlines;
    match tokio::time::timeout(deadlines.head, TlsAcceptor::from(tls).accept(stream).into_fallible()).await {
        Ok(Ok(stream)) => requests(face, stream, true, address, activity, shutdown).await,
        Ok(Err((error, mut stream))) => {
            face.metrics.connections_cut.get("tls").inc();
            tracing::debug!(%error, %address, "a TLS handshake failed");
            let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            if matches!(
                inner,
                Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType))
            ) {
                // A courtesy; the connection ends here anyway.
                let _ = stream.write_all(NOT_TLS).await;
                let _ = stream.shutdown().await;
            }
        }
        Err(_) => face.metrics.connections_cut.get("head").inc(),
    }
}

/// Serves the requests of one connection.
async fn requests(
    face: Arc<Face>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    is_tls: bool,
    address: SocketAddr,
    activity: Arc<Activity>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut stream = Between::new(stream, Arc::clone(&activity));
    let line = Line { face: &face, is_tls, address, activity: &activity };
    let mut stop = std::pin::pin!(stopped(&mut shutdown));
    loop {
        let begun = tokio::select! {
            begun = stream.begun() => begun,
            () = stop.as_mut() => Ok(Begun::End),
        };
        match (begun, &face.builders.http2) {
            // What takes much is there while a request is.
            (Ok(Begun::Request), _) | (Ok(Begun::Http2), None) => {
                match Box::pin(line.http1(&mut stream, stop.as_mut())).await {
                    Ok(true) => {}
                    Ok(false) => {
                        if activity.is_unread() {
                            face.refusals.hear_out(stream).await;
                        }
                        return;
                    }
                    Err(error) => return ended_early(&error),
                }
            }
            (Ok(Begun::Http2), Some(builder)) => return Box::pin(line.http2(builder, stream, stop)).await,
            (Ok(Begun::End), _) => {
                // Who speaks TLS is told that this is the end; the connection ends here anyway.
                let _ = stream.shutdown().await;
                return;
            }
            (Err(error), _) => return ended_early(&error),
        }
    }
}

fn ended_early(error: &dyn std::error::Error) {
    tracing::debug!(%error, "a connection ended early");
}

/// What the requests of a connection have in common.
struct Line<'a> {
    face: &'a Arc<Face>,
    is_tls: bool,
    address: SocketAddr,
    activity: &'a Arc<Activity>,
}

impl Line<'_> {
    fn service(
        &self,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Taken>,
        Error = Infallible,
        Future: Send + 'static,
    > + use<> {
        let (address, requests) = (self.address, Arc::clone(self.activity));
        let (app, metrics) = (self.face.app.clone(), Arc::clone(&self.face.metrics));
        let grace = self.face.options.deadlines.write;
        service_fn(move |mut request: Request<Incoming>| {
            let version = request.version();
            let at_work = requests.begin(version == Version::HTTP_2, !request.body().is_end_stream());
            request.extensions_mut().insert(ConnectInfo(address));
            let (app, taker) = (app.clone(), Taker { version, grace, metrics: Arc::clone(&metrics) });
            let (request, unread) = unread::watch(request, &requests);
            async move { Ok::<_, Infallible>(unread.tell(taker.watch(app.oneshot(request).await?, at_work))) }
        })
    }

    /// Serves what has begun, and what follows it at once. Says whether the connection goes on: it is given back when its client
    /// waits for nothing and has said nothing.
    async fn http1<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut Between<S>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> hyper::Result<bool> {
        self.activity.leave_rest();
        let builders = &self.face.builders;
        let builder = if self.is_tls { &builders.http1_over_tls } else { &builders.http1 };
        let mut connection = builder.serve_connection(TokioIo::new(&mut *stream), self.service());
        let mut is_stopped = false;
        let ended = poll_fn(|cx| {
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                return Poll::Ready(Some(ended));
            }
            if self.activity.is_at_rest() && !is_stopped {
                return Poll::Ready(None);
            }
            if !is_stopped && stop.as_mut().poll(cx).is_ready() {
                is_stopped = true;
                Pin::new(&mut connection).graceful_shutdown();
                return Pin::new(&mut connection).poll(cx).map(Some);
            }
            Poll::Pending
        });
        let Some(ended) = ended.await else {
            let unread = connection.into_parts().read_buf;
            stream.give_back(&unread);
            return Ok(true);
        };
        ended.map(|()| false)
    }

    /// Serves a connection of HTTP/2 to its end.
    async fn http2<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        builder: &http2::Builder<TokioExecutor>,
        stream: Between<S>,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) {
        let connection = builder.serve_connection(TokioIo::new(stream), self.service());
        let mut connection = std::pin::pin!(connection);
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = stop.as_mut() => {
                    connection.as_mut().graceful_shutdown();
                    break connection.await;
                }
                // Its client may say nothing more: the connection must look at its deadline.
                () = self.activity.idle() => {}
            }
        };
        if let Err(error) = ended {
            ended_early(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::time::Instant;

    fn options() -> ListenOptions {
        let ms = Duration::from_millis;
        ListenOptions {
            connections_max: 4,
            deadlines: Deadlines { head: ms(150), idle: ms(400), write: ms(500) },
            drain: Duration::from_secs(5),
            ..ListenOptions::default()
        }
    }

    #[tokio::test]
    async fn a_connection_that_waits_takes_little() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, address) = listener.accept().await.unwrap();
        let (options, metrics) = (options(), Arc::<Metrics>::default());
        let builders = Builders::new(&options);
        let face =
            Arc::new(Face { app: Router::new(), options, metrics, builders, refusals: Refusals::default() });
        let bytes = size_of_val(&*connection(face, stream, address, watch::channel(false).1));
        println!("a connection is {bytes} bytes");
        assert!(bytes <= 6 << 10, "{bytes}");
        drop(client);
    }

    #[tokio::test]
    async fn who_is_refused_is_told_why_though_he_sends() {
        let patient = Deadlines { head: Duration::from_secs(60), ..options().deadlines };
        let (address, stop, task) = start_with(ListenOptions { deadlines: patient, ..options() }).await;
        // One address may hold three of the four connections.
        let mut inside = Vec::new();
        for _ in 0..3 {
            inside.push(TcpStream::connect(address).await.unwrap());
        }
        for round in 0..30 {
            let mut client = TcpStream::connect(address).await.unwrap();
            for part in ["GET / HTTP/1.1\r\n", "Host: x\r\n", "\r\n"] {
                // The answer is under way now; what is sent on top must not take it back.
                sleep(Duration::from_millis(2)).await;
                client.write_all(part.as_bytes()).await.unwrap();
            }
            sleep(Duration::from_millis(2)).await;
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
            assert!(text.contains("too many connections"), "{text}");
        }
        drop(inside);
        stop.send(true).unwrap();
        task.await.unwrap();
    }

    async fn start() -> (std::net::SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        start_with(options()).await
    }

    async fn start_with(
        options: ListenOptions,
    ) -> (std::net::SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let slow = || async {
            sleep(Duration::from_millis(300)).await;
            "late"
        };
        let app = Router::new()
            .route("/", axum::routing::get(|| async { "hello" }))
            .route("/echo", axum::routing::post(|body: String| async { body }))
            .route("/slow", axum::routing::get(slow));
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, app, options, Arc::new(Metrics::default()), stopped));
        (address, stop, task)
    }

    async fn read_all(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    #[tokio::test]
    async fn an_answer_that_ends_the_connection_says_so() {
        let (address, _stop, _task) = start().await;
        for (length, is_close) in [(100_000, true), (10, false)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut buffer = vec![0; 1_024];
            let got = stream.read(&mut buffer).await.unwrap();
            let text = String::from_utf8_lossy(&buffer[..got]).into_owned();
            assert_eq!(
                (text.contains(" 405 "), text.contains("connection: close")),
                (true, is_close),
                "{text}"
            );
        }
    }

    /// The connection goes from request to request, wherever what comes is cut: none of it is lost, or taken for another request.
    #[tokio::test]
    async fn requests_in_a_row_are_answered_wherever_they_are_cut() {
        let (address, _stop, _task) = start().await;
        let requests = [
            "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 21\r\n\r\nGET /x HTTP/1.1\r\n\r\n12",
            "HEAD / HTTP/1.1\r\nhost: x\r\n\r\n",
            "\r\nPOST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        ];
        let all = requests.concat();
        for cut in 1..all.len() {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (first, second) = all.as_bytes().split_at(cut);
            stream.write_all(first).await.unwrap();
            sleep(Duration::from_millis(1)).await;
            stream.write_all(second).await.unwrap();
            let text = read_all(&mut stream).await;
            let statuses: Vec<&str> = text.split("HTTP/1.1 ").skip(1).filter_map(|t| t.get(..3)).collect();
            assert_eq!(statuses, ["200", "200", "200", "200", "404"], "{cut}: {text}");
            assert!(
                text.contains("GET /x HTTP/1.1\r\n\r\n12HTTP") && text.contains("abcHTTP"),
                "{cut}: {text}"
            );
        }
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
        let text = read_all(&mut fourth).await;
        assert!(text.starts_with("HTTP/1.1 503") && text.contains("--max-connections"), "{text}");
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

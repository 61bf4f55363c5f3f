//! The accept loop: how many may connect, and how slow they may be.
//!
//! A connection is cut when its request head takes longer than [`Deadlines::head`], when it idles between requests
//! longer than [`Deadlines::idle`], or when it takes nothing of a response for [`Deadlines::write`]. Bodies have their own
//! rules: those of requests where they are read (`http/intake.rs`), those of responses in `http/taking.rs`.

use super::taking::Taker;
use super::timed::{Activity, TimedStream};
use super::unread;
use crate::telemetry::Metrics;
use crate::telemetry::registry::GaugeGuard;
use axum::Router;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustix::net::sockopt;
use rustls::ServerConfig;
#[cfg(target_os = "linux")]
use socket2::SockRef;
use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
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
/// What a client beyond the limit of connections is told.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nRetry-After: 5\r\n\
    Content-Length: 59\r\nConnection: close\r\n\r\ntoo many connections; the limit is set by --max-connections\n";
/// So many are listened to at a time after they were refused,
const REFUSALS_MAX: usize = 64;
/// for so long,
const REFUSAL_TIME: Duration = Duration::from_secs(1);
/// and as long as they send no more than this, in bytes.
const REFUSED_BYTES_MAX: u64 = 64 << 10;
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
    builder: auto::Builder<TokioExecutor>,
    /// Places for those who are being told that there is no place.
    refusals: Arc<Semaphore>,
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
    let (drain, builder) = (options.drain, builder(&options));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let face = Arc::new(Face { app, options, metrics, builder, refusals });
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
            refuse(&face, stream);
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

fn builder(options: &ListenOptions) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(options.head_bytes_max);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HTTP2_HEADERS_BYTES_MAX)
        .initial_stream_window_size(HTTP2_WINDOW_BYTES.0)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES.1);
    if options.http2 { builder } else { builder.http1_only() }
}

/// Says why before the door closes. A socket closed while its client still sends takes back what the client has not read yet, so
/// some of those who are refused at a time are listened to for a moment; the others may miss the reason.
fn refuse(face: &Face, mut stream: TcpStream) {
    if (face.options.tls)().is_some() {
        return;
    }
    let Ok(place) = Arc::clone(&face.refusals).try_acquire_owned() else {
        let _ = stream.try_write(REFUSAL);
        return;
    };
    tokio::spawn(async move {
        let told = async {
            stream.write_all(REFUSAL).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut stream.take(REFUSED_BYTES_MAX), &mut tokio::io::sink()).await
        };
        // Whoever does not read it is closed out all the same.
        let _ = tokio::time::timeout(REFUSAL_TIME, told).await;
        drop(place);
    });
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
        None => Box::pin(requests(face, stream, address, activity, shutdown)),
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
    match tokio::time::timeout(deadlines.head, TlsAcceptor::from(tls).accept(stream.sealed()).into_fallible())
        .await
    {
        Ok(Ok(stream)) => requests(face, stream, address, activity, shutdown).await,
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
    address: SocketAddr,
    activity: Arc<Activity>,
    mut shutdown: watch::Receiver<bool>,
) {
    let app = face.app.clone();
    let (requests, metrics) = (Arc::clone(&activity), Arc::clone(&face.metrics));
    let grace = face.options.deadlines.write;
    let service = service_fn(move |mut request: Request<Incoming>| {
        let version = request.version();
        let at_work = requests.begin(version == Version::HTTP_2);
        request.extensions_mut().insert(ConnectInfo(address));
        let (app, taker) = (app.clone(), Taker { version, grace, metrics: Arc::clone(&metrics) });
        let (request, unread) = unread::watch(request);
        async move { Ok::<_, Infallible>(unread.tell(taker.watch(app.oneshot(request).await?, at_work))) }
    });
    let mut connection = std::pin::pin!(face.builder.serve_connection(TokioIo::new(stream), service));
    let ended = loop {
        tokio::select! {
            ended = connection.as_mut() => break ended,
            () = stopped(&mut shutdown) => {
                connection.as_mut().graceful_shutdown();
                break connection.await;
            }
            // Its client may say nothing more: the connection must look at its deadline.
            () = activity.idle() => {}
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

#[cfg(test)]
mod tests {
    use super::*;
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
        let builder = builder(&options);
        let face = Arc::new(Face {
            app: Router::new(),
            options,
            metrics,
            builder,
            refusals: Arc::new(Semaphore::new(1)),
        });
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

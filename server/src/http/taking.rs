//! Answers that wait for their client: how slowly one may be taken before it is let go.
//!
//! A client of HTTP/1 that takes nothing fills its socket, which has a deadline of its own (`http/timed.rs`). One of HTTP/2
//! just gives a stream no room, and one of either may take a little now and then, while the answer holds memory of all queries.
//! So the time that an answer waits for its client is counted: it has [`Patience::grace`], and each KiB taken gives a second
//! back; an answer that is in memory as a whole may wait [`MEMORY_GRACES`] times as long in all. After that the answer is
//! dropped, with its memory; its stream ends with an error, its connection if it is one of HTTP/1.
//!
//! An answer is asked for its next piece when the socket has all of the one before, and not when there is room in some queue:
//! what a slow client keeps in memory is one piece.

use super::timed::AtWork;
use crate::telemetry::Metrics;
use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Response, Version};
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// What a client must take in a second, once its grace is used up; as much as one that sends must bring.
const RATE_MIN_BYTES_PER_S: u64 = 1_024;
/// How many times its grace an answer in memory may wait in all, however fast it is taken in between.
const MEMORY_GRACES: u32 = 10;
/// A shorter answer of HTTP/1 is in the socket at once.
const SHORT_BYTES: u64 = 64 << 10;

/// In the extensions of a response whose body is read from the store while it is sent, however long that takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadFromStore;

/// How long an answer waits for its client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Without a byte taken.
    pub(super) grace: Duration,
    /// In all.
    pub(super) total: Duration,
}

/// Whom an answer is for.
pub(super) struct Taker {
    /// How it asked.
    pub(super) version: Version,
    /// What it may take its time for.
    pub(super) grace: Duration,
    /// Where answers that were let go are counted.
    pub(super) metrics: Arc<Metrics>,
}

impl Taker {
    /// The response with its body watched, and `at_work` kept until that is taken or let go.
    pub(super) fn watch(&self, response: Response<Body>, at_work: AtWork) -> Response<Taken> {
        let is_short = response.body().size_hint().upper().is_some_and(|bytes| bytes <= SHORT_BYTES);
        let total = match response.extensions().get::<ReadFromStore>() {
            Some(_) => Duration::MAX,
            None => self.grace.saturating_mul(MEMORY_GRACES),
        };
        let patience = Patience { grace: self.grace, total };
        let is_watched = (!is_short || self.version == Version::HTTP_2) && !response.body().is_end_stream();
        response.map(|body| {
            let waiting = Waiting {
                held: Some((body, at_work)),
                credit: patience.grace,
                waited: Duration::ZERO,
                since: Some(Instant::now()),
                broke: false,
            };
            let shared = Arc::new(Shared { waiting: Mutex::new(waiting), patience });
            let way = is_watched.then(Arc::<Way>::default);
            let watch = way.clone().map(|way| {
                let (shared, metrics) = (Arc::clone(&shared), Arc::clone(&self.metrics));
                Watch(tokio::spawn(async move {
                    shared.let_go().await;
                    way.wake();
                    metrics.connections_cut.get("answer").inc();
                }))
            });
            Taken { shared, way, _watch: watch }
        })
    }
}

/// An answer, and how long it has waited.
struct Waiting {
    held: Option<(Body, AtWork)>,
    /// What is left of the grace.
    credit: Duration,
    /// In all.
    waited: Duration,
    /// Since when it waits; `None` while it is being made, which is not the client's doing.
    since: Option<Instant>,
    /// There was an error in place of the rest.
    broke: bool,
}

struct Shared {
    waiting: Mutex<Waiting>,
    patience: Patience,
}

impl Shared {
    /// Returns when the answer has waited too long and is dropped.
    async fn let_go(&self) {
        while let Some(until) = self.next_look() {
            sleep_until(until).await;
        }
    }

    /// When to look again; `None` if the answer has waited too long, and is dropped.
    fn next_look(&self) -> Option<Instant> {
        let mut waiting = self.waiting.lock();
        let Some(since) = waiting.since else { return Some(Instant::now() + self.patience.grace) };
        let until = since + waiting.credit.min(self.patience.total.saturating_sub(waiting.waited));
        if until > Instant::now() {
            return Some(until);
        }
        waiting.held = None;
        None
    }
}

/// Ends the watch with what it watches.
struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether a piece is on its way into the socket.
#[derive(Default)]
struct Way(Mutex<OnWay>);

#[derive(Default)]
enum OnWay {
    #[default]
    Nothing,
    /// A piece, and who wants to know when it is gone.
    Piece(Option<Waker>),
}

impl Way {
    /// Ready when nothing is on its way; else the task is woken then.
    fn poll_clear(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.0.lock() {
            OnWay::Nothing => Poll::Ready(()),
            OnWay::Piece(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Wakes who waits for the piece to be gone, as there is something else to know.
    fn wake(&self) {
        let waiting = match &mut *self.0.lock() {
            OnWay::Piece(waker) => waker.take(),
            OnWay::Nothing => None,
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The same bytes; they are on their way until the last of them is dropped.
    fn send(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        *self.0.lock() = OnWay::Piece(None);
        Bytes::from_owner(Piece { bytes, way: Arc::clone(self) })
    }
}

/// Bytes that say when the socket has them.
struct Piece {
    bytes: Bytes,
    way: Arc<Way>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let before = std::mem::take(&mut *self.way.0.lock());
        if let OnWay::Piece(Some(waker)) = before {
            waker.wake();
        }
    }
}

/// The body of a response that does not wait forever.
pub(super) struct Taken {
    shared: Arc<Shared>,
    /// Where its pieces go, if there may be several.
    way: Option<Arc<Way>>,
    _watch: Option<Watch>,
}

impl HttpBody for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut waiting = self.shared.waiting.lock();
        let waiting = &mut *waiting;
        if let (Some(way), true) = (&self.way, waiting.held.is_some()) {
            ready!(way.poll_clear(cx));
        }
        if let Some(since) = waiting.since.take() {
            let waited = since.elapsed();
            waiting.waited += waited;
            waiting.credit = waiting.credit.saturating_sub(waited);
        }
        let Some((body, _)) = &mut waiting.held else {
            let text = "the answer was not taken in time";
            return Poll::Ready(Some(Err(axum::Error::new(io::Error::new(io::ErrorKind::TimedOut, text)))));
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        waiting.broke |= frame.as_ref().is_some_and(Result::is_err);
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
            let earned = Duration::from_micros(bytes.saturating_mul(1_000_000) / RATE_MIN_BYTES_PER_S);
            waiting.credit = waiting.credit.saturating_add(earned).min(self.shared.patience.grace);
            waiting.since = Some(Instant::now());
        }
        let on_its_way = |bytes| match &self.way {
            Some(way) => way.send(bytes),
            None => bytes,
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(on_its_way))))
    }

    fn is_end_stream(&self) -> bool {
        self.shared.waiting.lock().held.as_ref().is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.shared.waiting.lock().held.as_ref().map(|(body, _)| body.size_hint()).unwrap_or_default()
    }
}

impl Drop for Taken {
    /// The request ends here, and not when the watch has ended.
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting.lock();
        if let Some((body, at_work)) = waiting.held.take()
            && body.is_end_stream()
            && !waiting.broke
        {
            at_work.answered();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::timed::Activity;
    use super::*;
    use http_body_util::BodyExt;

    /// A body of so many pieces of so many bytes.
    struct Pieces(usize, usize);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            if self.0 == 0 {
                return Poll::Ready(None);
            }
            self.0 -= 1;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![0; self.1])))))
        }
    }

    const GRACE: Duration = Duration::from_secs(30);

    fn taken(pieces: usize, bytes: usize, from_store: bool) -> (Taken, Arc<Activity>, Arc<Metrics>) {
        let (activity, metrics) = (Arc::<Activity>::default(), Arc::<Metrics>::default());
        let taker = Taker { version: Version::HTTP_2, grace: GRACE, metrics: Arc::clone(&metrics) };
        let mut response = Response::new(Body::new(Pieces(pieces, bytes)));
        if from_store {
            response.extensions_mut().insert(ReadFromStore);
        }
        let body = taker.watch(response, activity.begin(true, false)).into_body();
        (body, activity, metrics)
    }

    /// How many pieces a client gets that waits so long before each.
    async fn pieces_got(mut body: Taken, wait: Duration) -> usize {
        let mut got = 0;
        loop {
            tokio::time::sleep(wait).await;
            match body.frame().await {
                Some(Ok(_)) => got += 1,
                Some(Err(_)) | None => return got,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_takes_is_dropped() {
        let (mut body, activity, metrics) = taken(100, 64 << 10, true);
        tokio::time::sleep(GRACE - Duration::from_secs(1)).await;
        assert!(activity.is_at_work());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!activity.is_at_work(), "its request is over");
        assert_eq!(metrics.connections_cut.get("answer").get(), 1);
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()), "nobody takes it for whole");
    }

    #[tokio::test(start_paused = true)]
    async fn one_piece_is_on_its_way_at_a_time() {
        let (mut body, activity, _) = taken(3, 1 << 10, false);
        let data =
            |frame: Option<Result<Frame<Bytes>, axum::Error>>| frame.unwrap().unwrap().into_data().unwrap();
        for _ in 0..3 {
            let mut piece = data(body.frame().await);
            let first_half = piece.split_to(100);
            drop(piece);
            let wait = Duration::from_secs(1);
            assert!(tokio::time::timeout(wait, body.frame()).await.is_err(), "a part of it is not gone yet");
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                drop(first_half);
            });
        }
        assert!(body.frame().await.is_none());
        drop(body);
        tokio::task::yield_now().await;
        assert!(!activity.is_at_work());
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_nobody_takes_is_waited_for_no_longer_than_an_answer() {
        let (mut body, activity, _) = taken(3, 1 << 10, true);
        let piece = body.frame().await;
        tokio::time::sleep(GRACE + Duration::from_secs(1)).await;
        assert!(!activity.is_at_work(), "its memory is given back while the piece is still on its way");
        assert!(body.frame().await.is_some_and(|frame| frame.is_err()));
        drop(piece);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drip_is_not_enough_and_a_slow_line_is() {
        // 512 bytes a second, and 4 KiB a second.
        let half = taken(10_000, 5 << 10, true).0;
        let got = pieces_got(half, Duration::from_secs(10)).await;
        assert!((3..10).contains(&got), "{got}");
        let slow = taken(10_000, 64 << 10, true).0;
        assert_eq!(pieces_got(slow, Duration::from_secs(16)).await, 10_000);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_memory_waits_no_more_than_so_long_in_all() {
        let (body, activity, _) = taken(10_000, 64 << 10, false);
        let got = pieces_got(body, Duration::from_secs(10)).await;
        assert!((29..=30).contains(&got), "{got} in 300 seconds");
        assert!(!activity.is_at_work());
    }
}

//! Reads request bodies: capped in size, in slowness, and in what all of them together hold in memory.

use crate::error::{ApiError, Side};
use crate::wire::body::{Held, Memory};
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use kymo_storage::ErrorKind;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A body must bring at least this much in a second, after [`GRACE`].
const RATE_MIN_BYTES_PER_S: u64 = 1_024;
/// The time a body has before its rate counts.
const GRACE: Duration = Duration::from_secs(10);
/// The buffer's first size when the client does not say how much comes.
const FIRST_BUFFER_BYTES: usize = 8 << 10;
/// The buffer before more than that has come, whatever was claimed.
const CLAIM_BUFFER_BYTES: usize = 1 << 10;
/// The largest first buffer: a claimed length is believed no further.
const FIRST_BUFFER_BYTES_MAX: usize = 1 << 20;

/// Why a body was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntakeError {
    /// Longer than allowed, by its claim or in fact.
    TooLarge {
        /// How long it is, as far as is known.
        at_least_bytes: u64,
    },
    /// It came too slowly.
    TooSlow,
    /// The bodies being read hold all the memory they may.
    NoMemory,
    /// The connection broke, or its framing is wrong.
    Broken,
}

impl IntakeError {
    /// The answer to the client; `bytes_max` is the limit that was given to [`BodyPool::read`].
    pub fn into_api(self, side: Side, bytes_max: usize) -> ApiError {
        match self {
            Self::TooLarge { at_least_bytes } => ApiError::body_too_large(format!(
                "the body is larger than the limit of {bytes_max} bytes: it has {at_least_bytes} bytes or more"
            )),
            Self::TooSlow => ApiError::body_too_slow(format!(
                "the body came slower than {RATE_MIN_BYTES_PER_S} bytes a second"
            )),
            Self::NoMemory => {
                let text =
                    "the bodies being received hold all the memory they may (--ingest-memory); try again";
                ApiError::new(side, ErrorKind::Unavailable, text)
            }
            Self::Broken => {
                ApiError::new(side, ErrorKind::Invalid, "the body is cut short or wrongly framed")
            }
        }
    }
}

/// Memory that all bodies being read may hold together.
#[derive(Debug, Clone)]
pub struct BodyPool(Memory);

/// A whole body; its memory counts until this is dropped.
#[derive(Debug)]
pub struct HeldBody {
    /// The bytes as sent.
    pub bytes: Bytes,
    /// Their memory; what is decoded of them is counted here too.
    pub held: Held,
}

/// A body that is read piece by piece. Only the time spent waiting for the client counts against it.
pub struct Paced {
    body: Body,
    waited: Duration,
    /// Bytes that came.
    pub received: u64,
}

impl Paced {
    /// Nothing is read yet.
    pub fn new(body: Body) -> Self {
        Self { body, waited: Duration::ZERO, received: 0 }
    }

    /// About `bytes` more, fewer only at the end, which is said too.
    ///
    /// # Errors
    /// It came too slowly, or the connection broke; or there is no room for it in `held`.
    pub async fn next(&mut self, bytes: usize, held: &mut Held) -> Result<(BytesMut, bool), IntakeError> {
        let mut piece = BytesMut::new();
        while piece.len() < bytes {
            let allowed = GRACE + Duration::from_secs(self.received / RATE_MIN_BYTES_PER_S);
            let started = Instant::now();
            let frame = timeout_at(started + allowed.saturating_sub(self.waited), self.body.frame()).await;
            self.waited += started.elapsed();
            let Some(frame) = frame.map_err(|_| IntakeError::TooSlow)? else { return Ok((piece, true)) };
            let Ok(data) = frame.map_err(|_| IntakeError::Broken)?.into_data() else { continue };
            held.grow(data.len()).map_err(|_| IntakeError::NoMemory)?;
            self.received += data.len() as u64;
            piece.extend_from_slice(&data);
        }
        Ok((piece, false))
    }
}

impl BodyPool {
    /// A part of the pool, to be grown.
    pub fn hold(&self) -> Held {
        self.0.hold()
    }

    /// A pool of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Memory::new(bytes))
    }

    /// What is held now, in bytes.
    pub fn used(&self) -> usize {
        self.0.used()
    }

    /// Reads `body` to its end.
    ///
    /// # Errors
    /// See [`IntakeError`]; the rest of the body is not read.
    pub async fn read(&self, body: Body, bytes_max: usize) -> Result<HeldBody, IntakeError> {
        let claimed = body.size_hint();
        if claimed.lower() > bytes_max as u64 {
            return Err(IntakeError::TooLarge { at_least_bytes: claimed.lower() });
        }
        let expected = claimed.exact().and_then(|n| usize::try_from(n).ok()).unwrap_or(FIRST_BUFFER_BYTES);
        // A small one until something has come: who says much may send little.
        let mut bytes = BytesMut::with_capacity(expected.min(CLAIM_BUFFER_BYTES));
        let mut held = self.0.hold();
        let mut body = std::pin::pin!(body);
        let started = Instant::now();
        loop {
            let allowed = Duration::from_secs(bytes.len() as u64 / RATE_MIN_BYTES_PER_S);
            let frame = timeout_at(started + GRACE + allowed, body.frame()).await;
            let Some(frame) = frame.map_err(|_| IntakeError::TooSlow)? else { break };
            let Ok(data) = frame.map_err(|_| IntakeError::Broken)?.into_data() else { continue };
            if bytes.len() + data.len() > bytes_max {
                return Err(IntakeError::TooLarge { at_least_bytes: (bytes.len() + data.len()) as u64 });
            }
            held.grow(data.len()).map_err(|_| IntakeError::NoMemory)?;
            if bytes.capacity() <= CLAIM_BUFFER_BYTES && bytes.len() + data.len() > bytes.capacity() {
                bytes.reserve(expected.min(FIRST_BUFFER_BYTES_MAX).saturating_sub(bytes.len()));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(HeldBody { bytes: bytes.freeze(), held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use std::convert::Infallible;

    /// A body that sends one byte and then nothing.
    struct Stuck(bool);

    impl hyper::body::Body for Stuck {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
            if std::mem::replace(&mut self.0, true) {
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_are_capped() {
        let pool = BodyPool::new(4 << 10);
        let full = |n: usize| Body::new(Full::new(Bytes::from(vec![1; n])));
        let held = pool.read(full(3 << 10), 3 << 10).await.unwrap();
        assert_eq!(held.bytes.len(), 3 << 10);
        assert_eq!(pool.read(full(3 << 10), 1 << 20).await.unwrap_err(), IntakeError::NoMemory);
        drop(held);
        assert!(pool.read(full(3 << 10), 1 << 20).await.is_ok());
        assert_eq!(
            pool.read(full(100), 99).await.unwrap_err(),
            IntakeError::TooLarge { at_least_bytes: 100 }
        );
        assert_eq!(pool.read(Body::new(Stuck(false)), 99).await.unwrap_err(), IntakeError::TooSlow);
    }
}

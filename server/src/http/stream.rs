//! Long answers leave as they are written: one piece in memory at a time, made when the one before is in the socket
//! (`http/taking.rs` sees to that). Pieces are small for a client that takes little, and grow for one that takes them fast.

use super::admission::{Cancel, run_query};
use super::app::App;
use super::respond::{BodyWriter, Encoding, typed_response};
use super::taking::ReadFromStore;
use crate::error::{ApiError, Side};
use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use kymo_query::Held;
use kymo_storage::ErrorKind;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// An answer that can be written bit by bit.
pub trait Pieces: Send + Unpin {
    /// Writes a little more, at most some KiB if it can be cut so small; says whether there is more to come.
    ///
    /// # Errors
    /// As the writer, and as what is written is read from; the connection ends then, so that nobody takes the answer for whole.
    fn write_next(&mut self, out: &mut BodyWriter) -> io::Result<bool>;

    /// Gives back memory that is not needed before the next call: there may be time until then.
    fn let_go(&mut self) {}
}

/// What answers in memory are.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Pieces of about this size are handed to the connection at first: what a client that takes nothing keeps in memory.
const PIECE_BYTES_MIN: usize = 4 << 10;
/// And of this size at most: a client that is just fast enough takes it within its grace.
const PIECE_BYTES_MAX: usize = 32 << 10;
/// A piece is no more than this part of what its client has taken: sockets take much for one that reads nothing, and the piece that
/// they do not take is little beside that.
const PIECE_PART: usize = 8;
/// A client that takes longer for a piece begins anew with small ones.
const SLOW: Duration = Duration::from_millis(250);
/// How often something may be written to an answer that is read from the store before somebody looks whether the client is still
/// there: what is written may be nothing.
const WRITES_AT_A_TIME: usize = 256;

/// 200 with a JSON answer in memory that brings its own envelope; it is sent as it is written if it is long.
pub fn streamed(app: &App, encoding: Encoding, pieces: Box<dyn Pieces>) -> Response {
    match start(app, encoding, pieces, &Cancel::default()) {
        Ok(begun) => begun.into_response(JSON, Left::InMemory),
        Err(failure) => refused(&failure).into_response(),
    }
}

/// 200 with an answer that is read from the store while it is sent. `begin` and each piece have a place among the long answers and a
/// blocking thread while they work; while the client takes what is there, they have neither.
///
/// # Errors
/// Those of the gate, of `begin`, and of the first piece. Later ones end the connection.
pub async fn read_out(
    app: &App,
    encoding: Encoding,
    content_type: HeaderValue,
    begin: impl FnOnce(&Cancel) -> Result<Box<dyn Pieces>, ApiError> + Send + 'static,
) -> Result<Response, ApiError> {
    let of_work = app.clone();
    let work =
        move |cancel: &Cancel| start(&of_work, encoding, begin(cancel)?, cancel).map_err(|e| refused(&e));
    let begun = run_query(&app.read_gate, &app.metrics, work).await?;
    let from_store = |rest| Left::InStore(app.clone(), Box::new(rest));
    let mut response = begun.into_response(content_type, from_store);
    response.extensions_mut().insert(ReadFromStore);
    Ok(response)
}

/// A body that is there as a whole, sent slice by slice; `memory` is held until the last is taken.
pub fn sliced(bytes: Vec<u8>, memory: Vec<Held>) -> Body {
    Body::new(Rest::new(Left::Whole(Bytes::from(bytes), memory)))
}

/// Memory of something that grows and shrinks, out of that of all queries.
pub struct Fitting {
    app: App,
    bytes: usize,
    held: Option<Held>,
}

impl Fitting {
    /// Nothing is held yet.
    pub fn new(app: App) -> Self {
        Self { app, bytes: 0, held: None }
    }

    /// From now on it takes so many bytes.
    ///
    /// # Errors
    /// There is not so much left: a [`Refused`]; nothing is held then.
    pub fn fit(&mut self, bytes: usize) -> io::Result<()> {
        if bytes > self.bytes || bytes < self.bytes / 2 {
            (self.bytes, self.held) = (0, None);
            self.held = Some(self.app.hold(bytes).map_err(Refused::error)?);
            self.bytes = bytes;
        }
        Ok(())
    }

    /// It takes nothing any more.
    pub fn clear(&mut self) {
        (self.bytes, self.held) = (0, None);
    }
}

/// Why there is no more of an answer, if that is for the client to know.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.message)]
pub struct Refused(ApiError);

impl Refused {
    /// As an error of writing.
    pub fn error(why: ApiError) -> io::Error {
        io::Error::other(Self(why))
    }
}

/// Why there is no answer: what the store or the memory of queries says of itself, if it was one of them.
pub fn refused(failure: &io::Error) -> ApiError {
    let inner = failure.get_ref();
    if let Some(Refused(error)) = inner.and_then(|e| e.downcast_ref()) {
        return error.clone();
    }
    match inner.and_then(|e| e.downcast_ref::<kymo_storage::Error>()) {
        Some(error) => ApiError::storage(Side::Read, error),
        None if failure.kind() == io::ErrorKind::Interrupted => ApiError::cancelled(),
        None => ApiError::new(Side::Read, ErrorKind::Internal, failure.to_string()),
    }
}

/// An answer whose first piece is written.
enum Begun {
    /// That was all; and the encoding it is in.
    Whole(Vec<u8>, Option<&'static str>),
    /// There is more.
    Long(Writing),
}

impl Begun {
    fn into_response(self, content_type: HeaderValue, left: impl FnOnce(Writing) -> Left) -> Response {
        match self {
            Self::Whole(bytes, encoding) => typed_response(Body::from(bytes), content_type, encoding),
            Self::Long(writing) => {
                let encoding = writing.writer.encoding();
                typed_response(Body::new(Rest::new(left(writing))), content_type, encoding)
            }
        }
    }
}

/// Writes until a first piece is full or the answer is whole. Without memory for a compressor it is sent as it is.
fn start(app: &App, encoding: Encoding, mut pieces: Box<dyn Pieces>, cancel: &Cancel) -> io::Result<Begun> {
    let compressor = match encoding.state_bytes() {
        0 => None,
        bytes => app.hold(bytes).ok(),
    };
    let mut writer = BodyWriter::new(if compressor.is_some() { encoding } else { Encoding::Identity });
    while pieces.write_next(&mut writer)? {
        if writer.written() >= PIECE_BYTES_MIN {
            // One piece on its way, and one being made.
            let piece = app.hold(2 * PIECE_BYTES_MIN).map_err(Refused::error)?;
            let memory = [Some(piece), compressor];
            let app = app.clone();
            return Ok(Begun::Long(Writing { app, writer, pieces, _memory: memory, for_more: None }));
        }
        if cancel.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    let (bytes, encoding) = writer.finish()?;
    Ok(Begun::Whole(bytes, encoding))
}

/// An answer on its way.
struct Writing {
    app: App,
    writer: BodyWriter,
    pieces: Box<dyn Pieces>,
    /// Of its pieces and of its compressor.
    _memory: [Option<Held>; 2],
    /// Of what larger pieces take more.
    for_more: Option<Held>,
}

/// A piece, and what comes after it; an empty one says that nothing has come together yet, or that there was no more.
type Step = io::Result<(Vec<u8>, Option<Writing>)>;

impl Writing {
    /// The next piece, of about so many bytes if there is memory for so large ones.
    fn next(mut self, bytes: usize) -> Step {
        if bytes <= PIECE_BYTES_MIN {
            self.for_more = None;
        } else if self.for_more.is_none() {
            self.for_more = self.app.hold(2 * (PIECE_BYTES_MAX - PIECE_BYTES_MIN)).ok();
        }
        let bytes = if self.for_more.is_some() { bytes } else { PIECE_BYTES_MIN };
        for _ in 0..WRITES_AT_A_TIME {
            let piece = self.writer.take_piece(bytes);
            if !piece.is_empty() {
                if bytes <= PIECE_BYTES_MIN {
                    self.pieces.let_go();
                }
                return Ok((piece, Some(self)));
            }
            if !self.pieces.write_next(&mut self.writer)? {
                return Ok((self.writer.finish()?.0, None));
            }
        }
        Ok((Vec::new(), Some(self)))
    }
}

/// The making of one piece. Nothing is done before the connection asks for it.
type Making = Pin<Box<dyn Future<Output = Step> + Send>>;

fn make(app: App, writing: Box<Writing>, bytes: usize) -> Making {
    Box::pin(async move {
        let place = app.read_gate.next_turn().await;
        let work = move || {
            let _place = place;
            writing.next(bytes)
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| {
            tracing::error!(%failure, "a streamed answer ended in a bug");
            Err(io::Error::other("the answer met a bug of Kymo"))
        })
    })
}

/// What is still to be sent of an answer.
enum Left {
    /// Bytes, and the memory they are in.
    Whole(Bytes, Vec<Held>),
    /// What is in memory and not yet written.
    InMemory(Writing),
    /// What is read from the store.
    InStore(App, Box<Writing>),
    /// The same, while a piece is being made.
    Making(App, Making),
    Nothing,
}

impl Left {
    /// The next piece, of about so many bytes; it may be empty.
    fn poll_piece(&mut self, context: &mut Context<'_>, bytes: usize) -> Poll<io::Result<Bytes>> {
        if let Self::Making(app, making) = self {
            let made = ready!(making.as_mut().poll(context));
            let app = app.clone();
            return Poll::Ready(self.step(made, move |rest| Self::InStore(app, Box::new(rest))));
        }
        Poll::Ready(match std::mem::replace(self, Self::Nothing) {
            Self::Whole(mut rest, memory) => {
                let piece = rest.split_to(rest.len().min(bytes));
                if !rest.is_empty() {
                    *self = Self::Whole(rest, memory);
                }
                Ok(piece)
            }
            Self::InMemory(writing) => self.step(writing.next(bytes), Self::InMemory),
            Self::InStore(app, writing) => {
                *self = Self::Making(app.clone(), make(app, writing, bytes));
                return self.poll_piece(context, bytes);
            }
            Self::Making(..) | Self::Nothing => Ok(Bytes::new()),
        })
    }

    /// Takes what was made.
    fn step(&mut self, made: Step, rest: impl FnOnce(Writing) -> Self) -> io::Result<Bytes> {
        *self = Self::Nothing;
        let (piece, more) = made.inspect_err(|failure| {
            tracing::warn!(%failure, "a streamed answer ended early");
        })?;
        if let Some(more) = more {
            *self = rest(more);
        }
        Ok(Bytes::from(piece))
    }
}

/// How large the pieces of an answer are.
#[derive(Default)]
struct Pace {
    /// Bytes that the client has taken since it was slow.
    taken: usize,
    /// When it got a piece, and of how many bytes; nothing while the next is being made.
    given: Option<(Instant, usize)>,
}

impl Pace {
    /// The size of the next piece, which the client asks for.
    fn asked(&mut self) -> usize {
        if let Some((since, bytes)) = self.given.take() {
            let is_slow = since.elapsed() >= SLOW;
            self.taken = if is_slow { 0 } else { self.taken.saturating_add(bytes) };
        }
        (self.taken / PIECE_PART).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX)
    }

    fn given(&mut self, bytes: usize) {
        self.given = Some((Instant::now(), bytes));
    }
}

/// The body of a long answer.
struct Rest {
    left: Left,
    pace: Pace,
}

impl Rest {
    fn new(left: Left) -> Self {
        Self { left, pace: Pace::default() }
    }
}

impl HttpBody for Rest {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let bytes = this.pace.asked();
        while !matches!(this.left, Left::Nothing) {
            let piece = ready!(this.left.poll_piece(context, bytes));
            if !piece.as_ref().is_ok_and(Bytes::is_empty) {
                this.pace.given(piece.as_ref().map_or(0, Bytes::len));
                return Poll::Ready(Some(piece.map(Frame::data)));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.left, Left::Nothing)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.left {
            Left::Whole(rest, _) => SizeHint::with_exact(rest.len() as u64),
            Left::InMemory(_) | Left::InStore(..) | Left::Making(..) => SizeHint::default(),
            Left::Nothing => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pieces_grow_for_who_takes_them_and_shrink_for_who_does_not() {
        let mut pace = Pace::default();
        let (mut taken, mut pieces) = (0, 0);
        while pace.asked() < PIECE_BYTES_MAX {
            let bytes = pace.asked();
            assert!(bytes == PIECE_BYTES_MIN || bytes <= taken / PIECE_PART, "{bytes} after {taken}");
            pace.given(bytes);
            tokio::time::advance(SLOW / 2).await;
            (taken, pieces) = (taken + bytes, pieces + 1);
        }
        assert!(pieces <= 30, "{pieces}");
        pace.given(PIECE_BYTES_MAX);
        tokio::time::advance(SLOW).await;
        assert_eq!(pace.asked(), PIECE_BYTES_MIN);
    }
}

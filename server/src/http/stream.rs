//! Long answers leave as they are written: one piece in memory at a time, made when the connection has room for it.

use super::admission::{Cancel, run_query};
use super::app::App;
use super::respond::{BodyWriter, Encoding, typed_response, unwritten};
use super::taking::ReadFromStore;
use crate::error::{ApiError, Side};
use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use kymo_query::Held;
use kymo_storage::ErrorKind;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// An answer that can be written bit by bit.
pub trait Pieces: Send + Unpin {
    /// Writes a little more, at most some KiB if it can be cut so small; says whether there is more to come.
    ///
    /// # Errors
    /// As the writer, and as what is written is read from; the connection ends then, so that nobody takes the answer for whole.
    fn write_next(&mut self, out: &mut BodyWriter) -> io::Result<bool>;
}

/// What answers in memory are.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Pieces of about this size are handed to the connection.
const PIECE_BYTES: usize = 64 << 10;
/// How often something may be written to an answer that is read from the store before somebody looks whether the client is still
/// there: what is written may be nothing.
const WRITES_AT_A_TIME: usize = 256;

/// 200 with a JSON answer in memory that brings its own envelope; it is sent as it is written if it is long.
pub fn streamed(encoding: Encoding, pieces: Box<dyn Pieces>) -> Response {
    match start(encoding, pieces, &Cancel::default()) {
        Ok(begun) => begun.into_response(JSON, |rest| Body::new(InMemory { rest: Some(rest) })),
        Err(failure) => unwritten(&failure),
    }
}

/// 200 with an answer that is read from the store while it is sent. `begin` and each piece have a place among the queries and a
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
    let work = move |cancel: &Cancel| start(encoding, begin(cancel)?, cancel).map_err(|e| refused(&e));
    let begun = run_query(&app.query_gate, &app.metrics, work).await?;
    let from_store = |rest| Body::new(FromStore { app: app.clone(), step: Some(make(app.clone(), rest)) });
    let mut response = begun.into_response(content_type, from_store);
    response.extensions_mut().insert(ReadFromStore);
    Ok(response)
}

/// A body that is there as a whole, sent slice by slice; `memory` is held until the last is taken.
pub fn sliced(bytes: Vec<u8>, memory: Vec<Held>) -> Body {
    Body::new(Sliced { rest: Bytes::from(bytes), _memory: memory })
}

/// The rest of a body that is there as a whole.
struct Sliced {
    rest: Bytes,
    _memory: Vec<Held>,
}

impl HttpBody for Sliced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let length = self.rest.len().min(PIECE_BYTES);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// Why there is no answer: what the store says of itself, if it was the store.
fn refused(failure: &io::Error) -> ApiError {
    match failure.get_ref().and_then(|e| e.downcast_ref::<kymo_storage::Error>()) {
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
    fn into_response(self, content_type: HeaderValue, body: impl FnOnce(Writing) -> Body) -> Response {
        match self {
            Self::Whole(bytes, encoding) => typed_response(Body::from(bytes), content_type, encoding),
            Self::Long(writing) => {
                let encoding = writing.writer.encoding();
                typed_response(body(writing), content_type, encoding)
            }
        }
    }
}

/// Writes until a first piece is full or the answer is whole.
fn start(encoding: Encoding, mut pieces: Box<dyn Pieces>, cancel: &Cancel) -> io::Result<Begun> {
    let mut writer = BodyWriter::new(encoding);
    while pieces.write_next(&mut writer)? {
        if writer.written() >= PIECE_BYTES {
            return Ok(Begun::Long(Writing { writer, pieces }));
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
    writer: BodyWriter,
    pieces: Box<dyn Pieces>,
}

/// A piece, and what comes after it; an empty one says that nothing has come together yet, or that there was no more.
type Step = io::Result<(Vec<u8>, Option<Writing>)>;

impl Writing {
    fn next(mut self) -> Step {
        for _ in 0..WRITES_AT_A_TIME {
            let piece = self.writer.take_piece(PIECE_BYTES);
            if !piece.is_empty() {
                return Ok((piece, Some(self)));
            }
            if !self.pieces.write_next(&mut self.writer)? {
                return Ok((self.writer.finish()?.0, None));
            }
        }
        Ok((Vec::new(), Some(self)))
    }
}

/// The frame for a piece, if there is something in it.
fn frame(piece: Vec<u8>) -> Option<Result<Frame<Bytes>, io::Error>> {
    (!piece.is_empty()).then(|| Ok(Frame::data(Bytes::from(piece))))
}

/// The rest of an answer in memory.
struct InMemory {
    rest: Option<Writing>,
}

impl HttpBody for InMemory {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        while let Some(writing) = self.rest.take() {
            match writing.next() {
                Ok((piece, rest)) => {
                    self.rest = rest;
                    if let Some(frame) = frame(piece) {
                        return Poll::Ready(Some(frame));
                    }
                }
                Err(failure) => return Poll::Ready(Some(Err(failure))),
            }
        }
        Poll::Ready(None)
    }
}

/// The making of one piece. Nothing is done before the connection asks for it.
type Making = Pin<Box<dyn Future<Output = Step> + Send>>;

fn make(app: App, writing: Writing) -> Making {
    Box::pin(async move {
        let place = app.query_gate.next_turn().await;
        let work = move || {
            let _place = place;
            writing.next()
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|failure| {
            tracing::error!(%failure, "a streamed answer ended in a bug");
            Err(io::Error::other("the answer met a bug of Kymo"))
        })
    })
}

/// The rest of an answer that is read from the store.
struct FromStore {
    app: App,
    step: Option<Making>,
}

impl HttpBody for FromStore {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        while let Some(step) = &mut self.step {
            let made = ready!(step.as_mut().poll(context));
            self.step = None;
            let (piece, rest) = match made {
                Ok(made) => made,
                Err(failure) => {
                    tracing::warn!(%failure, "a streamed answer ended early");
                    return Poll::Ready(Some(Err(failure)));
                }
            };
            self.step = rest.map(|rest| make(self.app.clone(), rest));
            if let Some(frame) = frame(piece) {
                return Poll::Ready(Some(frame));
            }
        }
        Poll::Ready(None)
    }
}

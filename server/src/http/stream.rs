//! Long answers leave as they are written: one piece in memory at a time, made when the connection has room for it.

use super::respond::{BodyWriter, Encoding, json_response, unwritten};
use axum::body::{Body, Bytes};
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

/// An answer that can be written bit by bit.
pub trait Pieces: Send + Unpin {
    /// Writes a little more, at most some KiB; says whether there is more to come.
    ///
    /// # Errors
    /// As the writer.
    fn write_next(&mut self, out: &mut BodyWriter) -> io::Result<bool>;
}

/// Pieces of about this size are handed to the connection.
const PIECE_BYTES: usize = 64 << 10;

/// 200 with an answer that brings its own envelope; it is sent as it is written if it is long.
pub fn streamed(encoding: Encoding, pieces: Box<dyn Pieces>) -> Response {
    match start(encoding, pieces) {
        Ok(Ok((bytes, encoding))) => json_response(Body::from(bytes), encoding),
        Ok(Err(begun)) => {
            let encoding = begun.encoding();
            json_response(begun.into_body(), encoding)
        }
        Err(failure) => unwritten(&failure),
    }
}

/// Writes the first piece. `Ok` is the whole answer and its encoding if that is all there is.
///
/// # Errors
/// As the writer (the outer one).
fn start(encoding: Encoding, mut pieces: Box<dyn Pieces>) -> io::Result<Result<Whole, Streamed>> {
    let mut writer = BodyWriter::new(encoding);
    while pieces.write_next(&mut writer)? {
        if writer.written() >= PIECE_BYTES {
            return Ok(Err(Streamed { writer: Some(writer), pieces }));
        }
    }
    Ok(Ok(writer.finish()?))
}

/// Bytes, and the encoding they are in.
type Whole = (Vec<u8>, Option<&'static str>);

/// The rest of an answer that has begun.
struct Streamed {
    writer: Option<BodyWriter>,
    pieces: Box<dyn Pieces>,
}

impl Streamed {
    /// The encoding of the body.
    fn encoding(&self) -> Option<&'static str> {
        self.writer.as_ref().and_then(BodyWriter::encoding)
    }

    /// The body of the response.
    fn into_body(self) -> Body {
        Body::new(self)
    }

    /// The next piece; empty at the end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        let Some(mut writer) = self.writer.take() else { return Ok(Vec::new()) };
        loop {
            let piece = writer.take_piece(PIECE_BYTES);
            if !piece.is_empty() {
                self.writer = Some(writer);
                return Ok(piece);
            }
            if !self.pieces.write_next(&mut writer)? {
                return Ok(writer.finish()?.0);
            }
        }
    }
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(match self.next() {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => Some(Ok(Frame::data(Bytes::from(piece)))),
            Err(error) => Some(Err(error)),
        })
    }
}

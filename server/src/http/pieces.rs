//! Answers that are sent while they are made: whoever makes one waits for the client, so that no more than a few pieces of it are
//! ever in memory.

use super::admission::{Cancel, run_query};
use super::app::App;
use crate::error::{ApiError, Side};
use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use kymo_storage::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, timeout_at};

/// Pieces that may wait for the client.
const PIECES_WAITING: usize = 4;

/// Where the pieces of an answer go.
pub struct Pieces {
    sender: Sender<Result<Bytes, ApiError>>,
    runtime: Handle,
    deadline: Instant,
}

impl Pieces {
    /// Hands over the next piece; waits until the client has taken some of those before.
    ///
    /// # Errors
    /// The client has left, or the time of the query is up.
    pub fn send(&self, piece: Vec<u8>) -> Result<(), ApiError> {
        let sent = self.runtime.block_on(timeout_at(self.deadline, self.sender.send(Ok(piece.into()))));
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ApiError::cancelled()),
            Err(_) => {
                let text = "the query timed out while its answer was sent";
                Err(ApiError::new(Side::Read, ErrorKind::Deadline, text))
            }
        }
    }
}

/// A body of pieces; one that ends in an error ends the connection, so that nobody takes it for whole.
struct PiecesBody {
    first: Option<Bytes>,
    rest: Receiver<Result<Bytes, ApiError>>,
}

impl hyper::body::Body for PiecesBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        self.rest.poll_recv(context).map(|piece| {
            piece.map(|piece| piece.map(Frame::data).map_err(|e| std::io::Error::other(e.message)))
        })
    }
}

/// Runs `work` as a query and gives the body it makes, once its first piece is there.
///
/// # Errors
/// Those of the gate, and those of `work` before its first piece. Later ones end the connection.
pub async fn stream(
    app: &App,
    work: impl FnOnce(&Pieces, &Cancel) -> Result<(), ApiError> + Send + 'static,
) -> Result<Body, ApiError> {
    let (sender, mut receiver) = channel(PIECES_WAITING);
    let deadline = Instant::now() + app.settings().query.timeout;
    let pieces = Pieces { sender: sender.clone(), runtime: Handle::current(), deadline };
    let app = app.clone();
    tokio::spawn(async move {
        let done = run_query(&app.query_gate, &app.metrics, move |cancel| work(&pieces, cancel)).await;
        if let Err(error) = done {
            tracing::debug!(error = error.message, "a streamed answer ended early");
            // The client may have left.
            let _ = sender.send(Err(error)).await;
        }
    });
    let first = receiver.recv().await.transpose()?;
    Ok(Body::new(PiecesBody { first, rest: receiver }))
}

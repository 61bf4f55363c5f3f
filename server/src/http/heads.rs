//! What a connection holds between requests: nothing but the bytes of a head that has not come to its end.
//!
//! The HTTP library takes some 16 KiB as soon as it serves a connection, and keeps them until that ends; ten thousand clients may say
//! nothing, or send their heads drop by drop. So the library is given a connection when the head of a request is there as a whole (if
//! it is not long), and the connection is taken back when the answer is in the socket.

use super::timed::Activity;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A longer head is handed on as it comes.
const HEAD_HELD_BYTES_MAX: usize = 4 << 10;
/// What a connection of HTTP/2 begins with: from then on there are no heads.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0";
/// What is read at a time of a head.
const READ_BYTES: usize = 1 << 10;

/// What a client has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// A request, or something that has to be told that it is none.
    Request,
    /// HTTP/2.
    Http2,
    /// Nothing: it has closed.
    End,
}

/// A connection whose next request is waited for outside of the HTTP library.
pub(super) struct Between<S> {
    stream: S,
    activity: Arc<Activity>,
    /// What has come and is not handed on.
    held: Vec<u8>,
    /// How much of that is handed on after all.
    taken: usize,
}

impl<S> Between<S> {
    pub(super) fn new(stream: S, activity: Arc<Activity>) -> Self {
        Self { stream, activity, held: Vec::new(), taken: 0 }
    }

    /// Takes back what the library has read and not looked at: the begin of the next request.
    pub(super) fn give_back(&mut self, bytes: &[u8]) {
        let rest = self.held.split_off(self.taken.min(self.held.len()));
        (self.held, self.taken) = ([bytes, &rest].concat(), 0);
    }

    /// What is held, if it is to be handed on; the bytes before `seen` have been looked at.
    fn judge(&self, seen: usize) -> Option<Begun> {
        if self.held.starts_with(HTTP2_PREFACE) {
            return Some(Begun::Http2);
        }
        // No method begins like that: who speaks something else is told at once.
        let is_other = |first: &u8| !first.is_ascii_alphabetic() && !b"\r\n".contains(first);
        // An empty line, which may begin before what is new.
        let new = self.held.get(seen.saturating_sub(2)..).unwrap_or_default();
        let ends = new.windows(2).any(|w| w == b"\n\n") || new.windows(3).any(|w| w == b"\n\r\n");
        let is_long = self.held.len() > HEAD_HELD_BYTES_MAX;
        (ends || is_long || self.held.first().is_some_and(is_other)).then_some(Begun::Request)
    }
}

impl<S: AsyncRead + Unpin> Between<S> {
    /// Waits for the next request.
    ///
    /// # Errors
    /// The client was too slow, or the connection broke.
    pub(super) async fn begun(&mut self) -> io::Result<Begun> {
        let mut judged = self.judge(0);
        poll_fn(|cx| self.poll_begun(cx, &mut judged)).await
    }

    fn poll_begun(&mut self, cx: &mut Context<'_>, judged: &mut Option<Begun>) -> Poll<io::Result<Begun>> {
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            if let Some(begun) = *judged {
                return Poll::Ready(Ok(begun));
            }
            let mut piece = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
            let piece = piece.filled();
            if piece.is_empty() {
                let is_nothing = self.held.is_empty();
                return Poll::Ready(Ok(if is_nothing { Begun::End } else { Begun::Request }));
            }
            let seen = self.held.len();
            self.held.extend_from_slice(piece);
            *judged = self.judge(seen);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Between<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = this.held.get(this.taken..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let given = rest.get(..buffer.remaining().min(rest.len())).unwrap_or_default();
        buffer.put_slice(given);
        this.taken += given.len();
        if this.taken >= this.held.len() {
            (this.held, this.taken) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Between<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        // The library asks for this when it has written all it has.
        this.activity.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn pair() -> (DuplexStream, Between<DuplexStream>) {
        let (client, server) = duplex(1 << 20);
        (client, Between::new(server, Arc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_handed_on_when_its_head_is_whole() {
        let long = "x".repeat(HEAD_HELD_BYTES_MAX);
        let cases: [(&[&str], Option<usize>); 9] = [
            (&["\x16\x03\x01"], Some(0)),
            (&["GET / HTTP/1.1\r\n", "host: x\r\n", "\r\n"], Some(2)),
            (&["GET / HTTP/1.1\r\nhost: x\r\n\r", "\n"], Some(1)),
            (&["GET / HTTP/1.1\n", "\n"], Some(1)),
            (&["GET / HTTP/1.1\r", "\n", "\r", "\n"], Some(3)),
            (&["GET / HTTP/1.1\r\nhost: x\r\n"], None),
            (&["GET ", "/", &long], Some(2)),
            (&["PRI ", "* HTTP/2.0"], Some(1)),
            (&["POST / HTTP/1.1\r\n\r\nbody"], Some(0)),
        ];
        for (pieces, expected) in cases {
            let (mut client, mut between) = pair();
            let mut found = None;
            for (at, piece) in pieces.iter().enumerate() {
                client.write_all(piece.as_bytes()).await.unwrap();
                let wait = std::time::Duration::from_secs(1);
                if let Ok(begun) = tokio::time::timeout(wait, between.begun()).await {
                    let is_http2 = pieces.concat().starts_with("PRI");
                    assert_eq!(begun.unwrap(), if is_http2 { Begun::Http2 } else { Begun::Request });
                    found = Some(at);
                    break;
                }
            }
            assert_eq!(found, expected, "{pieces:?}");
            client.write_all(b"more").await.unwrap();
            drop(client);
            let mut all = String::new();
            between.read_to_string(&mut all).await.unwrap();
            assert_eq!(all, pieces.concat() + "more");
            assert_eq!(between.held.capacity(), 0);
        }
    }

    #[tokio::test]
    async fn what_is_given_back_comes_first() {
        let (mut client, mut between) = pair();
        client.write_all(b"/ HTTP/1.1\r\n\r\n").await.unwrap();
        between.give_back(b"GET ");
        assert_eq!(between.begun().await.unwrap(), Begun::Request);
        between.give_back(b"\r\n");
        drop(client);
        let mut all = String::new();
        between.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "\r\nGET / HTTP/1.1\r\n\r\n");
    }

    #[tokio::test]
    async fn a_client_that_closes_has_begun_nothing_or_half_a_request() {
        for (said, expected) in [("", Begun::End), ("GET", Begun::Request)] {
            let (mut client, mut between) = pair();
            client.write_all(said.as_bytes()).await.unwrap();
            drop(client);
            assert_eq!(between.begun().await.unwrap(), expected);
        }
    }
}

//! Requests that are answered before their bodies are read: the answer says that the connection ends, as it must (RFC 9112,
//! section 9.6), so that nobody sends the next request into it.

use super::timed::Activity;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Request, Response, Version};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// The rest of a body as short as this is read and forgotten, and the connection goes on.
const SHORT_BYTES: u64 = 64 << 10;

/// Whether a request's body has been read to its end, if that is worth knowing.
pub(super) struct Unread(Option<Arc<Activity>>);

/// The request, which has begun on the connection of `activity`, and what is known of its body when it is answered.
pub(super) fn watch(request: Request<Incoming>, activity: &Arc<Activity>) -> (Request<Watched>, Unread) {
    let is_short = request.body().size_hint().upper().is_some_and(|bytes| bytes <= SHORT_BYTES);
    // Of HTTP/2 there are several at a time, and none ends its connection.
    let activity = (request.version() < Version::HTTP_2).then(|| Arc::clone(activity));
    let unread = Unread(activity.clone().filter(|_| !is_short));
    (request.map(|body| Watched { body, activity }), unread)
}

impl Unread {
    /// Says in the answer that the connection ends, if it must.
    pub(super) fn tell<B>(&self, mut response: Response<B>) -> Response<B> {
        if self.0.as_ref().is_some_and(|activity| activity.is_unread()) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// A body that notes its end.
pub(super) struct Watched {
    body: Incoming,
    /// Who is told; nobody after the body broke.
    activity: Option<Arc<Activity>>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.as_ref().is_some_and(Result::is_err) {
            self.activity = None;
        }
        if let Some(activity) = &self.activity
            && (frame.is_none() || self.body.is_end_stream())
        {
            activity.end_of_body();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

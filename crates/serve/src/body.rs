//! The bodies of requests, read up to a limit, and those of answers, whole or as a stream.

use std::{
    convert::Infallible,
    future::{Future as _, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{
    HeaderMap,
    body::{Body, Bytes, Frame, Incoming},
    header::CONTENT_LENGTH,
};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, Sleep, sleep_until},
};

use crate::{job::Event, problem::Problem, speech, speech::Speech};

/// Bytes of a stream that go out together.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes of a body beyond the limit that are read and forgotten, so that its sender comes to read
/// the answer.
const FORGOTTEN_BYTES: usize = 64 << 20;

/// A request's body of at most `limit` bytes.
pub(crate) async fn read(
    mut body: Incoming,
    headers: &HeaderMap,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut size: usize = 0;
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| Problem::broken())?.into_data() else { continue };
        size += data.len();
        if size <= limit && announced.unwrap_or(0) <= limit {
            bytes.extend_from_slice(&data);
        } else if limit.saturating_add(FORGOTTEN_BYTES) < size {
            break;
        }
    }
    if limit < size.max(announced.unwrap_or(0)) { Err(Problem::large(limit)) } else { Ok(bytes) }
}

/// The body of an answer.
pub(crate) enum Reply {
    /// What is left of it.
    Whole(Bytes),
    /// Events, as they come.
    Stream(Box<Stream>),
}

/// Events on their way to a client.
pub(crate) struct Stream {
    events: mpsc::Receiver<Event>,
    speech: Speech,
    deadline: Pin<Box<Sleep>>,
    timeout_secs: u64,
    is_over: bool,
    /// The request's place in the house, given back when the stream is dropped.
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// A stream that is given up at the deadline.
    pub(crate) fn new(
        events: mpsc::Receiver<Event>,
        speech: Speech,
        (deadline, timeout_secs): (Instant, u64),
        place: OwnedSemaphorePermit,
    ) -> Self {
        let deadline = Box::pin(sleep_until(deadline));
        Self { events, speech, deadline, timeout_secs, is_over: false, _place: place }
    }

    /// What can be sent now.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let mut out = Vec::new();
        if self.deadline.as_mut().poll(cx).is_ready() {
            self.end(Err(Problem::timeout(self.timeout_secs)), &mut out);
        }
        while !self.is_over && out.len() < PIECE_BYTES {
            match self.events.poll_recv(cx) {
                Poll::Pending => break,
                Poll::Ready(Some(event)) => {
                    if let Err(problem) = self.speech.stream(event, &mut out) {
                        self.end(Err(problem), &mut out);
                    }
                }
                Poll::Ready(None) => {
                    let closed = self.speech.close(&mut out);
                    self.end(closed, &mut out);
                }
            }
        }
        if out.is_empty() { Poll::Pending } else { Poll::Ready(Some(out.into())) }
    }

    /// Nothing more comes; a problem is told in place of the end.
    fn end(&mut self, how: Result<(), Problem>, out: &mut Vec<u8>) {
        self.is_over = true;
        self.events.close();
        if let Err(problem) = how {
            speech::send(&problem.to_json(), out);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Stream(stream) => {
                stream.poll_bytes(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            Self::Whole(bytes) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => hyper::body::SizeHint::default(),
        }
    }
}

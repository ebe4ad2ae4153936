//! The requests to the sequencer, and the order in which it takes them.
//!
//! Holds: new filters, publishers and the events of other nodes have the first turn one after the other, so that a storm
//! of one kind keeps none of the others waiting. Not left to chance: a replay takes the same turns.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::mpsc;

use super::elsewhere::Elsewhere;
use crate::{
    frame::Frames,
    log::{Link, publish::Submission},
    store::AppendError,
};

/// The queues that a log's users fill.
pub(in crate::log) struct Queues {
    pub(in crate::log) publish: mpsc::Receiver<Submission>,
    pub(in crate::log) background: mpsc::Receiver<Submission>,
    pub(in crate::log) links: mpsc::Receiver<Link>,
}

/// The queues, and the events of other nodes.
pub(super) struct Inbox {
    queues: Queues,
    elsewhere: Elsewhere,
    first: Source,
}

#[derive(Clone, Copy)]
enum Source {
    Links,
    Publishers,
    Elsewhere,
}

impl Source {
    /// The queue that has the next turn.
    fn next(self) -> Self {
        match self {
            Self::Links => Self::Publishers,
            Self::Publishers => Self::Elsewhere,
            Self::Elsewhere => Self::Links,
        }
    }
}

/// One thing to do.
pub(super) enum Incoming {
    Link(Link),
    Publish(Submission),
    Elsewhere(Arc<Frames>),
    /// The queues of publishers are closed and empty.
    Closed,
}

impl Inbox {
    pub(super) fn new(queues: Queues, elsewhere: Elsewhere) -> Self {
        Self {
            queues,
            elsewhere,
            first: Source::Links,
        }
    }

    /// Takes nothing more from publishers; queued requests are still handed out.
    pub(super) fn close(&mut self) {
        self.queues.publish.close();
        self.queues.background.close();
    }

    /// Asks no more for events of other nodes.
    pub(super) fn end_elsewhere(&mut self) {
        self.elsewhere.end();
    }

    /// The next thing to do. While a batch is being stored publishers have no turn. Dropping the future loses nothing.
    pub(super) async fn next(&mut self, storing: bool) -> Result<Incoming, AppendError> {
        std::future::poll_fn(|cx| self.poll_next(storing, cx)).await
    }

    fn poll_next(
        &mut self,
        storing: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Incoming, AppendError>> {
        let mut source = self.first;
        for _ in 0..3 {
            let next = match source {
                Source::Links => self.queues.poll_link(cx),
                Source::Publishers if storing => Poll::Pending,
                Source::Publishers => self.queues.poll_publish(cx),
                Source::Elsewhere => match self.elsewhere.poll_next(cx) {
                    Poll::Ready(events) => Poll::Ready(Incoming::Elsewhere(events?)),
                    Poll::Pending => Poll::Pending,
                },
            };
            source = source.next();
            if let Poll::Ready(incoming) = next {
                self.first = source;
                return Poll::Ready(Ok(incoming));
            }
        }
        if storing {
            return Poll::Pending;
        }
        // Background work has a turn only if no other queue wants one.
        match self.queues.background.poll_recv(cx) {
            Poll::Ready(Some(request)) => Poll::Ready(Ok(Incoming::Publish(request))),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// The present queue of publishers; background work rides along only where they left space.
    pub(super) fn queued(&mut self) -> Option<Submission> {
        let queues = &mut self.queues;
        let request = queues.publish.try_recv();
        request.or_else(|_| queues.background.try_recv()).ok()
    }
}

impl Queues {
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        match self.links.poll_recv(cx) {
            Poll::Ready(Some(link)) => Poll::Ready(Incoming::Link(link)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn poll_publish(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        match self.publish.poll_recv(cx) {
            Poll::Ready(Some(request)) => Poll::Ready(Incoming::Publish(request)),
            Poll::Pending => Poll::Pending,
            // Both are closed together.
            Poll::Ready(None) => match self.background.poll_recv(cx) {
                Poll::Ready(Some(request)) => Poll::Ready(Incoming::Publish(request)),
                Poll::Ready(None) => Poll::Ready(Incoming::Closed),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

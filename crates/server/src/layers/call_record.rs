//! The facts about one call, collected while it runs, for the line at its end.
//!
//! Holds: cheap to write from any thread; nothing here waits.
//! Does not: log.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::request_id::RequestId;
use super::sums::Sums;
use crate::contract::Method;
use crate::lifecycle::Drain;
use crate::limits::LOG_FIELD_BYTES_MAX;
use crate::transport::{abort::StreamAbort, connection::ConnectionContext, listener::Peer};

/// One call's facts. Its `Arc` is in the request's extensions before the method is called; the method keeps a clone and
/// writes its facts.
///
/// A node holds one for each live stream, so rare facts and those with few values take little memory here.
#[derive(Debug)]
pub struct CallRecord {
    request_id: Option<RequestId>,
    method: Called,
    connection: Option<Arc<ConnectionContext>>,
    started: Instant,
    /// One for all calls, behind one pointer.
    of_node: Arc<OfNode>,
    /// Ends the stream from outside; `None` where no transport is in front of the layers.
    abort: Option<StreamAbort>,
    /// Written by the method and by the log layer, which sees more than one chunk pass.
    streaming: AtomicBool,
    /// Set by code that has already logged the facts of the line.
    quiet: AtomicBool,
    /// Written by the method's body as it sends.
    events: AtomicU64,
    /// Written by the method as it answers.
    published: AtomicU64,
    texts: Mutex<Texts>,
}

/// The state that the records of a node share.
#[derive(Debug)]
pub(crate) struct OfNode {
    /// Tells a client that went away from a server that went away.
    pub(crate) drain: Drain,
    /// Knows whether an end has a line of its own.
    pub(crate) sums: Sums,
}

#[derive(Debug, Default)]
struct Texts {
    subscriber: Option<Arc<str>>,
    // In a box, since most records wait for it for hours.
    end: Option<Box<Cow<'static, str>>>,
}

/// Which method was called.
#[derive(Debug)]
enum Called {
    Known(Method),
    /// Of health or reflection, or none: as much of it as a line shows.
    Other(Box<str>),
}

/// The begin of a text that a peer has chosen, as much as a line of the log shows of it.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    const DOTS: &str = "...";
    if text.len() <= LOG_FIELD_BYTES_MAX {
        return text.into();
    }
    let mut end = LOG_FIELD_BYTES_MAX - DOTS.len();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{DOTS}", &text[..end]).into()
}

impl Called {
    fn of(path: &str) -> Self {
        Method::of(path).map_or_else(|| Self::Other(cut(path).into()), Self::Known)
    }
}

impl CallRecord {
    /// The connection that it came by.
    pub(crate) fn connection(&self) -> Option<&Arc<ConnectionContext>> {
        self.connection.as_ref()
    }

    pub(crate) fn new(
        method: &str,
        request_id: Option<RequestId>,
        connection: Option<Arc<ConnectionContext>>,
        abort: Option<StreamAbort>,
        of_node: Arc<OfNode>,
    ) -> Self {
        Self {
            request_id,
            method: Called::of(method),
            connection,
            started: Instant::now(),
            of_node,
            abort,
            streaming: AtomicBool::new(false),
            quiet: AtomicBool::new(false),
            events: AtomicU64::new(0),
            published: AtomicU64::new(0),
            texts: Mutex::default(),
        }
    }

    /// Whose call this is, once known.
    pub fn set_subscriber(&self, subscriber: impl Into<Arc<str>>) {
        self.texts.lock().subscriber = Some(subscriber.into());
    }

    /// This call answers with a stream: its end is logged at info also when nothing failed.
    pub fn set_streaming(&self) {
        self.streaming.store(true, Ordering::Relaxed);
    }

    /// The end of this call is one of many of a kind that has a line of its own: it is logged at debug.
    pub fn set_quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    /// See [`Self::set_quiet`].
    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// `count` more events were handed to the connection.
    pub fn add_events(&self, count: u64) {
        self.events.fetch_add(count, Ordering::Relaxed);
    }

    /// `count` more messages are stored, by the answers this call gives.
    pub fn add_published(&self, count: u64) {
        self.published.fetch_add(count, Ordering::Relaxed);
    }

    /// Messages answered as stored so far; `None` where there are none, as in most calls.
    pub fn published(&self) -> Option<u64> {
        let published = self.published.load(Ordering::Relaxed);
        (published > 0).then_some(published)
    }

    /// Why the call ends; the first reason that is set holds. Without one the line has the status message, or says that
    /// the client went away.
    pub fn set_end(&self, reason: impl Into<Cow<'static, str>>) {
        let end = &mut self.texts.lock().end;
        end.get_or_insert_with(|| Box::new(reason.into()));
    }

    /// Events handed to the connection so far.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// The full method, such as `/longlived.v1.SubscriptionService/Subscribe`.
    pub fn method(&self) -> &str {
        match &self.method {
            Called::Known(method) => method.path(),
            Called::Other(path) => path,
        }
    }

    /// The id in the log and in the response's metadata.
    pub fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    /// The caller.
    pub fn peer(&self) -> Option<Peer> {
        self.connection.as_ref().map(|it| it.peer)
    }

    /// When the call arrived.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Whether the answer is a stream.
    pub fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Relaxed)
    }

    /// Whose call this is.
    pub fn subscriber(&self) -> Option<Arc<str>> {
        self.texts.lock().subscriber.clone()
    }

    /// Why it ended, as far as the method said.
    pub fn end(&self) -> Option<Cow<'static, str>> {
        self.texts.lock().end.as_deref().cloned()
    }

    /// Ends the stream, for a reader that takes nothing.
    pub(crate) fn abort(&self) {
        if let Some(abort) = &self.abort {
            abort.abort();
        }
    }

    pub(super) fn sums(&self) -> &Sums {
        &self.of_node.sums
    }

    pub(super) fn server_was_killed(&self) -> bool {
        self.of_node.drain.is_killed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_a_call_stays_small() {
        // With the counts of its `Arc` 160, which is a size of the allocator.
        assert!(
            size_of::<CallRecord>() <= 144,
            "{}",
            size_of::<CallRecord>()
        );
    }
}

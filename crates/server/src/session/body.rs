//! The hand-made response body of a subscription: the responses of one stream, in order, as wire-ready bytes.
//!
//! Holds: Welcome first, and after a reset its gap; a gap before the events that follow it; a GoAway before any planned
//! end; some response at least every `max_silence` while the reader reads. Nothing is queued: each poll asks the
//! cursor. While its reader takes nothing the body reads requests and sends nothing; the answers wait, up to a limit.
//! Does not: watch a reader that takes nothing; [`Maintenance`](crate::registry::Maintenance) does.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use longlived_broker::{
    Cursor, CursorError, Delivery, Interest, Outcome, SlowPolicy, TailReader, TailSource,
    faults::{Fault, planted},
};
use tokio::time::Instant;
use tonic::Status;

use super::{OpenedSession, requests::Requests};
use crate::{
    contract::{CloseReason, Contract, Dialect, Plan, status, wire::Welcome},
    layers::{CallRecord, Kind},
    limits::SESSION_ANSWERS_BYTES_MAX,
    node::Node,
    registry::{Registration, Session},
    transport::connection::{Followed, Follower, Heartbeat},
};

/// The body of one live session.
pub(crate) struct SessionBody {
    node: Arc<Node>,
    cursor: Cursor,
    registration: Registration,
    contract: Contract,
    // Control messages that come before anything else. They are few: most often the box is not there.
    control: Option<Box<Bytes>>,
    end: Option<Status>,
    ended: bool,
    // To be told to the registry, after the message that says so.
    became_current: bool,
    // The kind of the last piece.
    last_piece: Piece,
    // The frozen contract has no gaps; they are counted for the log line.
    unannounced_gaps: u32,
    // Kept here, and told to the record at the end: a delivery touches as little memory as it can.
    events: u32,
    // Whether the stall watch wants to know of each poll.
    watched: bool,
    // How long it may be idle before a heartbeat, and since when it is; `None` when it has sent since that was asked.
    heartbeat_after_ms: u32,
    idle_since: Option<Instant>,
    // Only a `Session` call has requests.
    requests: Option<Box<Requests>>,
}

/// The kind of a piece of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// Events.
    Events,
    /// A control message, behind which only events may stand.
    Control,
}

impl SessionBody {
    /// The body of an opened session.
    pub(crate) fn new(
        node: Arc<Node>,
        plan: &Plan,
        opened: OpenedSession,
        requests: Option<Box<Requests>>,
    ) -> Self {
        let welcome = plan.contract.dialect().welcome(&Welcome {
            node_id: &node.id,
            generation: opened.registration.session().generation,
            outcome: opened.outcome,
            position: opened.position,
            max_silence: plan.max_silence,
            max_stream_age: node.config.max_stream_age,
            credential_expires: plan.caller.expires_at(&node.environment),
            epoch: node.log.epoch().get(),
        });
        // A stream that begins with the next event has nothing to catch up with.
        let current = opened.outcome == Outcome::New && opened.cursor.is_current();
        if current {
            opened.registration.session().set_current();
        }
        Self {
            node,
            contract: plan.contract,
            control: welcome.map(Box::new),
            end: None,
            ended: false,
            became_current: current,
            last_piece: Piece::Control,
            unannounced_gaps: 0,
            events: 0,
            watched: plan.options.slow_policy == SlowPolicy::Disconnect,
            heartbeat_after_ms: heartbeat_after_ms(plan.max_silence),
            idle_since: Some(Instant::now()),
            requests,
            cursor: opened.cursor,
            registration: opened.registration,
        }
    }

    /// The next bytes to send, or `None` when the stream is to end with `self.end`.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.control.take() {
                return Poll::Ready(Some(*bytes));
            }
            if self.end.is_some() {
                return Poll::Ready(None);
            }
            // A reset has announced a gap: no event and no answer comes before it.
            let gap_first = self.cursor.gap_comes_first() && !planted(Fault::ResetGapLater);
            if !gap_first && self.cursor.signal().take(Interest::Control) {
                self.follow_orders();
                if self.control.is_some() || self.end.is_some() {
                    continue;
                }
            }
            if std::mem::take(&mut self.became_current) {
                self.registration.became_current();
            }
            if !gap_first && self.poll_requests(cx) {
                continue;
            }
            match self.cursor.poll_next(cx) {
                Poll::Ready(Ok(delivery)) => {
                    if let Some(bytes) = self.encode(delivery) {
                        return Poll::Ready(Some(bytes));
                    }
                }
                Poll::Ready(Err(error)) => self.fail(&error),
                // The cursor has registered its waker with the signal; an order that came before woke no task.
                Poll::Pending if self.cursor.signal().is_raised(Interest::Control) => {}
                Poll::Pending if self.needs_heartbeat() => self.progress(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn encode(&mut self, delivery: Delivery) -> Option<Bytes> {
        match delivery {
            Delivery::Events { bytes, count } => {
                self.count(count as u32);
                self.last_piece = Piece::Events;
                return Some(bytes);
            }
            Delivery::Gap(gap) => match self.dialect().gap(&gap) {
                Some(gap) => return Some(gap),
                None => self.unannounced_gaps += 1,
            },
            Delivery::Scanned => self.progress(false),
            Delivery::Current => {
                self.became_current = true;
                self.registration.session().set_current();
                self.progress(true);
            }
        }
        None
    }

    fn count(&mut self, events: u32) {
        self.events = self.events.checked_add(events).unwrap_or_else(|| {
            self.record().add_events(self.events.into());
            events
        });
    }

    /// `reached`: a catch-up has come to the end of the log; on a busy log there may be newer events already.
    fn progress(&mut self, reached: bool) {
        let dialect = self.dialect();
        if dialect.has_progress() {
            let (mut position, current) = self.cursor.settle();
            if planted(Fault::ProgressBeyondVisible) {
                position.sequence += 1;
            }
            let now = self.node.environment.now();
            let progress = dialect.progress(position, now, current || reached);
            self.control = progress.map(Box::new);
        }
    }

    fn go_away(&mut self, reason: CloseReason) {
        let dialect = self.dialect();
        if !self.registration.session().knows_of(reason) {
            let last = dialect.go_away(reason, self.cursor.position(), None);
            self.control = last.map(Box::new);
        }
        self.record().set_end(reason.as_str());
        self.end = Some(dialect.closed(reason));
    }

    /// What code outside of the body has asked it to do.
    fn follow_orders(&mut self) {
        let session = self.registration.session().clone();
        if let Some(reason) = session.closing() {
            self.go_away(reason);
            return;
        }
        if let Some((reason, ends)) = session.take_move() {
            let ends_in = ends.saturating_duration_since(Instant::now());
            let at = self.cursor.position();
            if let Some(word) = self.dialect().go_away(reason, at, Some(ends_in)) {
                self.keep(word);
            }
        }
        let orders = session.take_orders();
        if orders.decide {
            self.withdraw_filters(&session);
        }
        if orders.remind && self.end.is_none() {
            let expires = session.caller().expires_at(&self.node.environment);
            if let Some(notice) = self.dialect().credential_notice(expires) {
                self.keep(notice);
            }
        }
    }

    /// Ends the filters that the caller may no longer follow, and the stream if no other is left.
    fn withdraw_filters(&mut self, session: &Session) {
        let caller = session.caller();
        let filters = self.cursor.filters();
        let refused: Vec<_> = filters
            .filter_map(|filter| Some((filter.clone(), caller.may_subscribe(filter).err()?)))
            .collect();
        let kept = self.cursor.filters().count() - refused.len();
        for (filter, problem) in refused {
            let removed = self.cursor.remove(&filter);
            session.uncount_filter();
            let told = removed.and_then(|after| {
                let why = problem.to_string();
                self.dialect().withdrawn(&filter, after, &why)
            });
            match told {
                Some(told) if kept > 0 => self.keep(told),
                _ => {
                    self.record().set_end("no longer granted".to_owned());
                    self.end = Some(status::not_granted(&problem));
                }
            }
        }
        session.set_filters(&self.cursor);
    }

    fn fail(&mut self, error: &CursorError) {
        if let CursorError::Slow { .. } = error {
            self.go_away(CloseReason::slow(&self.node.environment));
        } else {
            self.end = Some(self.dialect().failed(error));
        }
    }

    /// Whether a request of the client was dealt with, so that a message may wait.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(requests) = &mut self.requests else {
            return false;
        };
        let session = self.registration.session();
        match requests.poll_answer(cx, &mut self.cursor, session, &self.node) {
            Poll::Pending => false,
            Poll::Ready(Some(Ok(answer))) => {
                session.set_filters(&self.cursor);
                self.keep(answer);
                true
            }
            Poll::Ready(Some(Err(status))) => {
                self.end = Some(status);
                true
            }
            // Half-closed: the stream goes on.
            Poll::Ready(None) => {
                self.requests = None;
                false
            }
        }
    }

    /// Reads requests while nothing can be sent, as many as may wait for their answers. Ready when only its status is left
    /// to send.
    pub(crate) fn poll_while_blocked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // A session that was told to end changes no more.
        if self.requests.is_none() || self.registration.session().closing().is_some() {
            return Poll::Pending;
        }
        // The gap that a reset has announced stands before the first answer.
        if self.cursor.gap_comes_first()
            && let Poll::Ready(Ok(gap)) = self.cursor.poll_next(cx)
            && let Some(bytes) = self.encode(gap)
        {
            self.keep(bytes);
        }
        let mut goes_on = true;
        while goes_on && self.end.is_none() {
            let waits = self.control.as_ref().map_or(0, |control| control.len());
            goes_on = waits < SESSION_ANSWERS_BYTES_MAX && self.poll_requests(cx);
        }
        match (&self.control, &self.end) {
            (None, Some(_)) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Sends this after the control messages that wait already.
    fn keep(&mut self, message: Bytes) {
        let Some(control) = &mut self.control else {
            self.control = Some(Box::new(message));
            return;
        };
        // Its buffer grows; it is not copied for each message.
        let mut both = BytesMut::from(std::mem::take(&mut **control));
        both.extend_from_slice(&message);
        **control = both.freeze();
    }

    /// Whether it is idle for so long that a heartbeat may be sent now.
    fn needs_heartbeat(&mut self) -> bool {
        self.idle_since.get_or_insert_with(Instant::now);
        self.heartbeat(None)
            .is_some_and(|heartbeat| heartbeat.from <= Instant::now())
    }

    fn dialect(&self) -> &'static dyn Dialect {
        self.contract.dialect()
    }

    fn record(&self) -> &CallRecord {
        self.registration.session().record()
    }

    fn trailers(&mut self) -> HeaderMap {
        self.ended = true;
        // Before the log line that the trailers set off.
        let events = std::mem::take(&mut self.events);
        self.record().add_events(events.into());
        self.registration.session().set_told();
        match self.end.take() {
            Some(status) => status::trailers(&status, self.contract),
            None => status::ok(),
        }
    }
}

impl Drop for SessionBody {
    fn drop(&mut self) {
        self.record().add_events(self.events.into());
        if self.unannounced_gaps > 0 {
            let subscriber = &self.registration.session().subscriber;
            let gaps = self.unannounced_gaps;
            if self.node.sums.has_line(Kind::BegunAfterLoss) {
                tracing::info!(%subscriber, gaps, "gaps that the frozen contract cannot announce");
            } else {
                tracing::debug!(%subscriber, gaps, "gaps that the frozen contract cannot announce");
            }
        }
    }
}

impl Body for SessionBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        this.last_piece = Piece::Control;
        let next = this.poll_next(cx);
        if this.watched {
            let session = this.registration.session();
            session.polled(next.is_pending());
        }
        match next {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(bytes)) => {
                this.idle_since = None;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(None) => Poll::Ready(Some(Ok(Frame::trailers(this.trailers())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

impl Follower<TailReader> for SessionBody {
    fn source(&self) -> Option<TailSource<'_>> {
        // The stall watch wants to know of each poll.
        let at_rest = self.control.is_none() && self.end.is_none() && !self.ended && !self.watched;
        (at_rest && !self.became_current).then(|| self.cursor.source())?
    }

    fn reader(&self) -> Option<TailReader> {
        self.cursor.tail_reader()
    }

    fn follow(&mut self, reader: &mut TailReader) -> bool {
        let follows = self.cursor.follow(reader);
        if follows {
            let session = self.registration.session();
            session.set_reader(Some(reader.signal().clone()));
        }
        follows
    }

    fn unfollow(&mut self, followed: Followed) {
        self.cursor.unfollow(followed.position);
        self.registration.session().set_reader(None);
        self.count(u32::try_from(followed.events).unwrap_or(u32::MAX));
        self.idle_since = self.idle_since.max(followed.last_sent_at);
    }

    fn hold(&self, sending: bool) {
        let said = self.control.is_some() || self.end.is_some();
        self.cursor.hold(sending || said);
    }

    fn set_capacity(&mut self, bytes: usize) {
        self.cursor.set_capacity(bytes);
    }

    fn drop_page(&mut self) {
        self.cursor.drop_page();
    }

    fn heartbeat(&self, last_sent_at: Option<Instant>) -> Option<Heartbeat> {
        let since = self.idle_since.max(last_sent_at)?;
        let idle_max = Duration::from_millis(self.heartbeat_after_ms.into());
        // An eighth earlier will do: streams of a connection fall into step then.
        self.dialect().has_progress().then(|| Heartbeat {
            from: since + idle_max - idle_max / 8,
            until: since + idle_max,
        })
    }

    fn larger(&mut self, piece: Bytes, bytes: usize) -> Bytes {
        if self.last_piece != Piece::Events {
            return piece;
        }
        let padded = (self.dialect()).padded(&piece, self.cursor.position(), bytes);
        padded.unwrap_or(piece)
    }
}

/// When to send a heartbeat so that the promise holds on the client's side too: a quarter earlier, at most a second.
fn heartbeat_after_ms(max_silence: Duration) -> u32 {
    let after = max_silence.saturating_sub((max_silence / 4).min(Duration::from_secs(1)));
    u32::try_from(after.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_stays_small() {
        // A size of the allocator, and each delivery walks over all of it.
        assert!(
            size_of::<SessionBody>() <= 192,
            "{}",
            size_of::<SessionBody>()
        );
    }
}

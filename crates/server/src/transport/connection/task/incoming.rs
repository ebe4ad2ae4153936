//! What the peer sends, in portions, and what it means for the streams of the connection.
//!
//! Holds: a portion is a bounded number of frames and calls; the rest waits for the next poll of the connection's task.
//! Does not: know the rules of HTTP/2; `longlived_http2` does.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Method, Request, header};
use longlived_http2::{ConnectionError, ErrorCode, Event, FrameType, Opening, Slot};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;
use tokio::time::Instant;

use super::{Connection, KEEPALIVE_PING};
use crate::limits;
use crate::transport::abort::StreamAbort;
use crate::transport::connection::inbox::{Inbox, Outbox, WithFields};
use crate::transport::connection::io::Input;
use crate::transport::connection::request_body::RequestBody;
use crate::transport::connection::response_body::ResponseBody;
use crate::transport::connection::service::ConnectionService;
use crate::transport::connection::stream::Stream;
use crate::transport::connection::wakes::SOCKET;
use crate::transport::connection::wire::{Frames, Sending, Wire};
use crate::transport::connection::{ConnectionEnd, HeadersTooLarge};
use crate::transport::connection_counts::Refused;

/// What the look at the socket came to.
pub(super) enum Taken {
    /// Everything that is there, or nothing because answers wait for the socket.
    All,
    /// A portion; there is more.
    Portion,
    /// The connection is over.
    End(ConnectionEnd),
}

impl<T, S, B> Connection<T, S, B>
where
    T: AsyncRead + AsyncWrite + Unpin,
    S: ConnectionService<B>,
    B: ResponseBody,
{
    /// Writes what waited for the socket, and takes what the peer sent: one portion of it.
    // Never inlined: a request on the stack would cost each delivery, which has none.
    #[inline(never)]
    pub(super) fn poll_socket(&mut self) -> Taken {
        self.untimed = true;
        let taken = self.take_portion();
        if let Taken::End(_) = taken {
            // A peer that has closed its side may read what the turns before have answered.
            let _ = self.wire.frames.io.write();
        } else {
            self.count_frames();
            let bytes_max = self.shared.settings.connection.connection_bytes_max;
            self.wire.frames.share_among_streams(bytes_max);
        }
        taken
    }

    fn take_portion(&mut self) -> Taken {
        if self.wire.frames.io.is_blocked()
            && let Err(error) = self.wire.frames.io.write()
        {
            return Taken::End(ConnectionEnd::Io(error));
        }
        self.drained = false;
        let mut portion = Portion::default();
        loop {
            let (buffer, range) = match self.wire.frames.io.poll_read() {
                Poll::Pending => {
                    // A task that has used its budget up is told so whatever there is.
                    self.drained = coop::has_budget_remaining();
                    return Taken::All;
                }
                Poll::Ready(Err(error)) => return Taken::End(ConnectionEnd::Io(error)),
                Poll::Ready(Ok(Input::Closed)) => return Taken::End(ConnectionEnd::Closed),
                Poll::Ready(Ok(Input::Bytes(buffer, range))) => (buffer, range),
            };
            let seen = self.look_at(&buffer[range.clone()], &mut portion);
            let unseen = seen.map_or(range.end, |seen| range.start + seen)..range.end;
            let all = unseen.is_empty();
            self.wire.frames.io.put_back(buffer, unseen);
            if let Err(error) = seen {
                return Taken::End(self.fail(error));
            }
            if portion.is_over() {
                self.wakes.mark(SOCKET);
                return Taken::Portion;
            }
            if !all {
                // Answers wait for the socket: reading goes on when it has taken them.
                return Taken::All;
            }
        }
    }

    /// Takes frames until the portion is over, and says how many bytes they were.
    fn look_at(&mut self, bytes: &[u8], portion: &mut Portion) -> Result<usize, ConnectionError> {
        let now = Instant::now();
        let mut seen = 0;
        while seen < bytes.len() && !portion.is_over() {
            let Frames {
                http2, io, policy, ..
            } = &mut self.wire.frames;
            let received = http2.receive(&bytes[seen..], now.into_std(), io.out())?;
            if received.consumed == 0 {
                break;
            }
            seen += received.consumed;
            match &received.event {
                Some(Event::Data { bytes, .. }) => {
                    portion.data += limits::CONNECTION_TURN_DATA_PIECE + bytes.len() / 64;
                }
                _ if received.frame.is_some_and(is_small) => {}
                _ => portion.octets += received.work,
            }
            if let Some(frame) = received.frame {
                let is_content = matches!(received.event, Some(Event::Data { .. }));
                portion.frames += u32::from(!is_content);
                match (frame, &received.event) {
                    (FrameType::Data, _) if received.empty => policy.received_empty_data(now)?,
                    // After the last GOAWAY much is late that was sent before the peer knew.
                    (FrameType::Data, _) if received.late && self.shared.drain.is_draining() => {}
                    (FrameType::Data, _) if received.late => policy.received_late_data(now)?,
                    (FrameType::Data, _) => policy.received_data(),
                    (FrameType::WindowUpdate, _) => policy.window_update(now)?,
                    (frame, event) if asks_for_nothing(frame, event.as_ref()) => {
                        policy.idle_frame(now)?;
                    }
                    _ => {}
                }
                // The first frame is SETTINGS, or there would be an error.
                self.begin_until = None;
            }
            if let Some(event) = received.event {
                self.event(event, now, portion)?;
            }
        }
        Ok(seen)
    }

    fn event(
        &mut self,
        event: Event<'_, Sending>,
        now: Instant,
        portion: &mut Portion,
    ) -> Result<(), ConnectionError> {
        let policy = &mut self.wire.frames.policy;
        match event {
            Event::Request(request, opening) => {
                policy.called();
                portion.calls += 1;
                self.call(*request, opening, now);
            }
            Event::HeadTooLarge { opening, grpc } => {
                portion.refused += 1;
                self.shared.counts.count_refused_request(Refused::Headers);
                self.call_without_headers(opening, grpc, now);
            }
            Event::Malformed(error) => {
                portion.refused += 1;
                // And not a frame for a stream that the peer has reset.
                if error.code == ErrorCode::PROTOCOL_ERROR {
                    self.shared.counts.count_refused_request(Refused::Malformed);
                }
                policy.closed_early();
                policy.fault(now)?;
            }
            Event::Refused => {
                portion.refused += 1;
                self.shared
                    .counts
                    .count_refused_request(Refused::StreamsMax);
                policy.closed_early();
                policy.over_the_limit(now)?;
            }
            Event::Data { slot, bytes, end } => {
                self.content(slot, bytes, end);
                self.hold_credit();
            }
            Event::Trailers {
                slot,
                trailers,
                held_bytes,
            } => {
                let key = self.wire.frames.http2.value(slot).key;
                if let Some(stream) = self.streams.get_mut(key)
                    && let Some(inbox) = stream.inbox()
                {
                    inbox.put_trailers(trailers, held_bytes);
                }
            }
            Event::Reset { value, code } => {
                let stream = self.streams.get_mut(value.key);
                let answered = stream.is_some_and(|stream| stream.is_answered());
                policy.cancelled(now, value.called_at, answered)?;
                // To let go of a call takes as much as to refuse one.
                portion.refused += 1;
                self.drop_stream(&value, code);
            }
            Event::Failed { value, error } => {
                portion.refused += 1;
                policy.closed_early();
                policy.fault(now)?;
                self.drop_stream(&value, error.code);
            }
            Event::WindowUpdate { slot, increment } => self.wire.frames.widened(slot, increment),
            Event::Pong(payload) => {
                if payload == KEEPALIVE_PING {
                    let settings = &self.shared.settings.connection;
                    let taken = self.wire.frames.io.taken();
                    self.keepalive.answered(settings, now, taken);
                }
            }
            // It closes the connection when its calls have ended.
            Event::GoAway(_) => {}
        }
        Ok(())
    }

    /// Content of a request, which its call reads or has left.
    fn content(&mut self, slot: Slot, bytes: &[u8], end: bool) {
        let Frames { http2, io, .. } = &mut self.wire.frames;
        let stream = self.streams.get_mut(http2.value(slot).key);
        match stream.and_then(|stream| stream.inbox().as_ref()) {
            Some(inbox) if inbox.put(bytes, end) => {}
            _ => http2.taken(slot, bytes.len(), io.out()),
        }
    }

    /// HTTP/2 has closed the stream.
    fn drop_stream(&mut self, sending: &Sending, code: ErrorCode) {
        self.wire.frames.forget(sending);
        if let Some(mut stream) = self.streams.remove(sending.key) {
            let Wire {
                followers, frames, ..
            } = &mut self.wire;
            stream.detach(followers, frames);
            if let Some(inbox) = stream.inbox() {
                inbox.reset(code);
            }
        }
    }

    fn call(&mut self, request: Request<()>, opening: Opening, now: Instant) {
        let socket = self.wakes.socket.clone();
        let Frames {
            http2, io, policy, ..
        } = &mut self.wire.frames;
        let called_at = policy.clock(now);
        let mut service = self.shared.service.clone();
        match service.poll_ready(&mut Context::from_waker(&socket)) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(never)) => match never {},
            Poll::Pending => {
                policy.closed_early();
                http2.refuse(opening, ErrorCode::REFUSED_STREAM, io.out());
                return;
            }
        }
        let expects_continue = request
            .headers()
            .get(header::EXPECT)
            .is_some_and(|expected| expected.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let window = self.shared.settings.connection.stream_window_bytes;
        let timeout = self.shared.settings.connection.request_timeout;
        let context = &self.context;
        let account = (self.account).open(&self.shared.accounts, context, &self.wakes.socket);
        self.streams.insert(|key, own| {
            let inbox = Inbox::new(
                Arc::clone(own),
                Arc::clone(account),
                &opening,
                window,
                expects_continue,
            );
            let with_fields = WithFields(Some(Arc::clone(&inbox)));
            let mut request = request.map(|()| {
                if opening.is_request_ended() {
                    return tonic::body::Body::empty();
                }
                let outbox = Outbox(Arc::clone(&inbox));
                tonic::body::Body::new(RequestBody::new(outbox, timeout))
            });
            request.extensions_mut().insert(with_fields);
            request.extensions_mut().insert(Arc::clone(context));
            let abort = StreamAbort::of(Arc::clone(own));
            request.extensions_mut().insert(abort);
            let at = http2.open(opening, Sending::new(key, called_at));
            Stream::new(service.call(request), at, key, inbox)
        });
    }

    /// A request whose headers are over their limit is answered by the service, which has the words for it.
    fn call_without_headers(&mut self, opening: Opening, grpc: bool, now: Instant) {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        if grpc {
            let kind = HeaderValue::from_static("application/grpc");
            request.headers_mut().insert(header::CONTENT_TYPE, kind);
        }
        let bytes_max = self.shared.settings.connection.header_list_bytes_max;
        request
            .extensions_mut()
            .insert(HeadersTooLarge { bytes_max });
        self.call(request, opening, now);
    }
}

/// Whether a frame costs the server work and asks it for nothing: what honest peers send of these answers something of ours, or, as
/// HEADERS, comes with a call, which allows for it.
fn asks_for_nothing(frame: FrameType, event: Option<&Event<'_, Sending>>) -> bool {
    match frame {
        // Counted by themselves.
        FrameType::Data | FrameType::WindowUpdate => false,
        // Of a closed stream.
        FrameType::RstStream => event.is_none(),
        _ => true,
    }
}

/// A frame of a few octets: the number of such frames bounds their work.
fn is_small(frame: FrameType) -> bool {
    matches!(
        frame,
        FrameType::Ping | FrameType::WindowUpdate | FrameType::RstStream | FrameType::Priority
    )
}

/// What was taken in one round.
#[derive(Default)]
struct Portion {
    /// Frames other than content.
    frames: u32,
    /// Bytes of frames other than DATA, and of DATA that nobody reads.
    octets: usize,
    /// Content, as [`limits::CONNECTION_TURN_DATA`] counts it.
    data: usize,
    calls: u32,
    /// Requests that reach no handler, and calls that end before their answer does.
    refused: u32,
}

impl Portion {
    fn is_over(&self) -> bool {
        self.frames >= limits::CONNECTION_TURN_FRAMES
            || self.octets >= limits::CONNECTION_TURN_OCTETS
            || self.data >= limits::CONNECTION_TURN_DATA
            || self.calls >= limits::CONNECTION_TURN_CALLS
            || self.refused >= limits::CONNECTION_TURN_HEADS
    }
}

//! The connection under test with its peer: what the peer sends goes in, what it sends goes before the judge.

use std::sync::Arc;
use std::time::{Duration, Instant};

use longlived_http2::hpack::encode;
use longlived_http2::{
    Config, Connection, ConnectionError, DATA_BYTES_MAX, Event, Heads, Output, Slot,
};

use crate::peer::{Frame, Peer};
use crate::wire;

/// What an event said, without its borrows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The stream, its head as text, and whether the request ends there.
    Request(u32, String, bool),
    TooLarge(u32, bool),
    Malformed(u32),
    Refused,
    Data(u32, Vec<u8>, bool),
    Trailers(u32, String),
    Reset(u32, u32),
    Failed(u32, u32),
    WindowUpdate(u32, u32),
    Pong([u8; 8]),
    GoAway(u32),
    /// The connection has ended with this code.
    Over(u32),
}

impl Said {
    /// The stream that is handed out here.
    fn opened(&self) -> Option<u32> {
        match self {
            Self::Request(id, ..) | Self::TooLarge(id, _) => Some(*id),
            _ => None,
        }
    }

    /// The stream whose request ends here.
    fn ended(&self) -> Option<u32> {
        match self {
            Self::Request(id, _, true) | Self::Data(id, _, true) | Self::Trailers(id, _) => {
                Some(*id)
            }
            _ => None,
        }
    }
}

/// When the calls take the content of their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    AtOnce,
    AtTheEnd,
    Never,
}

/// A call's value in the connection.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: u32,
    /// Content that was not taken.
    pub(crate) untaken: usize,
    pub(crate) answered: bool,
}

/// The server's end of a connection, with a peer.
pub(crate) struct Server {
    pub(crate) connection: Connection<Call>,
    pub(crate) out: Output,
    pub(crate) peer: Peer,
    pub(crate) now: Instant,
    pub(crate) said: Vec<Said>,
    pub(crate) take: Take,
    /// A request that has ended gets a response without content, and its stream ends.
    pub(crate) answers: bool,
    /// The socket takes what the server sends.
    pub(crate) flushes: bool,
    /// Bytes in `out` that the judge has seen.
    pub(crate) judged: usize,
    pub(crate) error: Option<ConnectionError>,
}

impl Server {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            connection: Connection::new(Arc::new(config)),
            out: Output::default(),
            peer: Peer::new(),
            now: Instant::now(),
            said: Vec::new(),
            take: Take::AtOnce,
            answers: false,
            flushes: true,
            judged: 0,
            error: None,
        }
    }

    /// A connection whose first frames have been exchanged.
    pub(crate) fn begun(config: Config) -> Self {
        let mut server = Self::new(config);
        server.send(&wire::begin());
        server.peer.inbox.clear();
        server
    }

    pub(crate) fn usual() -> Self {
        Self::begun(Config::default())
    }

    /// The peer sends this, and it is read at once. It gives back how many bytes the connection consumed.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: &[u8]) -> usize {
        let mut consumed = 0;
        while consumed < bytes.len() {
            let (n, event) =
                match (self.connection).receive(&bytes[consumed..], self.now, &mut self.out) {
                    Ok(received) => (received.consumed, received.event),
                    Err(error) => {
                        self.fail(error);
                        return bytes.len();
                    }
                };
            if n == 0 {
                assert!(event.is_none(), "an event of nothing");
                break;
            }
            self.peer.sent(&bytes[consumed..consumed + n]);
            consumed += n;
            if let Some(event) = event {
                let said = Self::event(&mut self.connection, self.take, event, &mut self.out);
                if let (Some(id), Some((last, _))) = (said.opened(), self.peer.go_aways.last()) {
                    assert!(
                        id <= *last,
                        "{id} is handed out after the last was said (6.8)"
                    );
                }
                self.said.push(said);
            }
            self.flush();
            if self.answers
                && let Some(id) = self.said.last().and_then(Said::ended)
                && self
                    .connection
                    .slots()
                    .any(|it| self.connection.stream_id(it) == id)
            {
                self.answer(id);
            }
        }
        if consumed == bytes.len() {
            self.peer.settled();
        }
        consumed
    }

    #[track_caller]
    pub(crate) fn fail(&mut self, error: ConnectionError) {
        assert_eq!(self.error, None, "a connection fails once");
        self.error = Some(error);
        self.connection.fail(&error, &mut self.out);
        self.said.push(Said::Over(error.code.0));
        self.flush();
    }

    /// What the connection sent goes before the judge, and to the peer if the socket takes it.
    #[track_caller]
    pub(crate) fn flush(&mut self) {
        self.peer.received(&self.out.bytes()[self.judged..]);
        if self.flushes {
            self.out.written(self.out.len());
        }
        self.judged = self.out.len();
    }

    fn event(
        connection: &mut Connection<Call>,
        take: Take,
        event: Event<'_, Call>,
        out: &mut Output,
    ) -> Said {
        match event {
            Event::Request(request, opening) => {
                let (id, ended) = (opening.id(), opening.is_request_ended());
                connection.open(opening, Call::new(id));
                let (method, uri) = (request.method(), request.uri());
                Said::Request(
                    id,
                    format!("{method} {uri} {}", fields(request.headers())),
                    ended,
                )
            }
            Event::HeadTooLarge { opening, grpc } => {
                let id = opening.id();
                connection.open(opening, Call::new(id));
                Said::TooLarge(id, grpc)
            }
            Event::Malformed(error) => Said::Malformed(error.code.0),
            Event::Refused => Said::Refused,
            Event::Data { slot, bytes, end } => {
                let call = connection.value_mut(slot);
                let id = call.id;
                call.untaken += bytes.len();
                if take == Take::AtOnce || take == Take::AtTheEnd && end {
                    let untaken = std::mem::take(&mut call.untaken);
                    connection.taken(slot, untaken, out);
                }
                Said::Data(id, bytes.to_vec(), end)
            }
            Event::Trailers { slot, trailers, .. } => {
                let call = connection.value_mut(slot);
                let id = call.id;
                if take != Take::Never {
                    let untaken = std::mem::take(&mut call.untaken);
                    connection.taken(slot, untaken, out);
                }
                Said::Trailers(id, fields(&trailers))
            }
            Event::Reset { value, code } => Said::Reset(value.id, code.0),
            Event::Failed { value, error } => Said::Failed(value.id, error.code.0),
            Event::WindowUpdate { slot, increment } => {
                let id = slot.map_or(0, |slot| connection.stream_id(slot));
                Said::WindowUpdate(id, increment)
            }
            Event::Pong(payload) => Said::Pong(payload),
            Event::GoAway(code) => Said::GoAway(code.0),
        }
    }

    /// The open stream of this identifier.
    #[track_caller]
    pub(crate) fn slot(&self, id: u32) -> Slot {
        let slots = &mut self.connection.slots();
        let slot = slots.find(|slot| self.connection.stream_id(*slot) == id);
        slot.unwrap_or_else(|| panic!("stream {id} is not open"))
    }

    /// The head of a response.
    #[track_caller]
    pub(crate) fn respond(&mut self, id: u32, end: bool) {
        let slot = self.slot(id);
        self.connection
            .respond(slot, &response("200"), end, &mut self.out);
        self.flush();
    }

    /// Content of a response, as much as the windows allow.
    #[track_caller]
    pub(crate) fn data(&mut self, id: u32, bytes: &[u8], end: bool) -> usize {
        let slot = self.slot(id);
        let sent = put_data(&mut self.connection, slot, bytes, end, &mut self.out);
        self.flush();
        sent
    }

    /// The end of a stream whose response has ended.
    #[track_caller]
    pub(crate) fn close(&mut self, id: u32) {
        let slot = self.slot(id);
        self.connection.close(slot, &mut self.out);
        self.flush();
    }

    /// A whole response without content.
    #[track_caller]
    pub(crate) fn answer(&mut self, id: u32) {
        self.respond(id, true);
        self.close(id);
    }

    #[track_caller]
    pub(crate) fn reset(&mut self, id: u32, code: u32) {
        let slot = self.slot(id);
        let code = longlived_http2::ErrorCode(code);
        self.connection.reset(slot, code, &mut self.out);
        self.flush();
    }

    /// Time passes, and what its time has come for is done.
    #[track_caller]
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        if self.connection.deadline().is_some_and(|at| at <= self.now)
            && let Err(error) = self.connection.expire(self.now, &mut self.out)
        {
            self.fail(error);
        }
        self.flush();
    }

    /// Streams that have become writable since the last look.
    pub(crate) fn writable(&mut self) -> Vec<u32> {
        let mut ids = Vec::new();
        while let Some(slot) = self.connection.next_writable() {
            ids.push(self.connection.stream_id(slot));
        }
        ids
    }

    /// What was said since the last look.
    pub(crate) fn take_said(&mut self) -> Vec<Said> {
        std::mem::take(&mut self.said)
    }

    /// What the peer has received since the last look.
    pub(crate) fn take_frames(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.peer.inbox)
    }
}

impl Call {
    fn new(id: u32) -> Self {
        Self {
            id,
            untaken: 0,
            answered: false,
        }
    }
}

fn fields(fields: &http::HeaderMap) -> String {
    let lines = fields.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes());
        format!("{name}={value};")
    });
    lines.collect()
}

/// Sends content, and much of it by each of the two ways: whole frames of the connection's, and heads for bytes that the caller writes.
pub(crate) fn put_data<V>(
    connection: &mut Connection<V>,
    slot: Slot,
    bytes: &[u8],
    end: bool,
    out: &mut Output,
) -> usize {
    if end || bytes.len() < 1_000 {
        return connection.data(slot, bytes, end, out);
    }
    let (copied, referred) = bytes.split_at(bytes.len() / 3);
    let sent = connection.data(slot, copied, false, out);
    if sent < copied.len() {
        return sent;
    }
    let mut heads = Heads::default();
    let (by_reference, _) = connection.data_by_reference(slot, referred, &mut heads);
    let mut parts = referred[..by_reference].chunks(DATA_BYTES_MAX);
    for head in heads.iter() {
        out.put_data(head);
        out.put_data(parts.next().expect("a head is of some bytes"));
    }
    sent + by_reference
}

/// The head of a response with this status.
pub(crate) fn response(status: &str) -> Vec<u8> {
    let mut block = Vec::new();
    encode::field(&mut block, b":status", status.as_bytes());
    block
}

/// Trailers of a response.
pub(crate) fn trailers() -> Vec<u8> {
    let mut block = Vec::new();
    encode::field(&mut block, b"grpc-status", b"0");
    block
}

//! A connection: what both ends have said, and what each may say next.

mod closing;
mod content;
mod control;
mod flow;
mod headers;
mod receive;
mod send;

use std::sync::Arc;
use std::time::Instant;

use self::closing::Closing;
pub use self::closing::GO_AWAY_PING;
use self::headers::Block;
use self::receive::Reading;
pub use self::send::{DATA_BYTES_MAX, HEADS_MAX, Heads};
use crate::closed::{Closed, ClosedStreams};
use crate::error::{ConnectionError, ErrorCode};
use crate::event::Opening;
use crate::frame;
use crate::hpack::Decoder;
use crate::output::Output;
use crate::settings::{Config, HEADER_TABLE, INITIAL_WINDOW, PeerSettings};
use crate::slot::Slot;
use crate::streams::{Stream, Streams};

/// The server's side of one connection. `V` is the caller's value for each open stream.
///
/// Every frame that a call makes is written to the [`Output`] that it is given, whole and in order.
#[derive(Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each says a thing of its own"
)]
pub struct Connection<V> {
    config: Arc<Config>,
    reading: Reading,
    /// The begin of a frame that is not whole.
    half_frame: Vec<u8>,
    /// A header block that goes on in CONTINUATION.
    block: Option<Box<Block>>,
    /// Since when a frame or a header block is under way.
    half_since: Option<Instant>,
    decoder: Decoder,
    /// Our SETTINGS were sent then, and are not acknowledged.
    settings_sent: Option<Instant>,
    /// The peer's first frame, SETTINGS, has come.
    settings_received: bool,
    /// A header block was sent: the first begins with a size of the table (RFC 7541, 4.2).
    block_sent: bool,
    peer: PeerSettings,
    /// Bytes of DATA that we may send.
    send_window: u32,
    /// No stream has an offset above this one; see [`Stream::send_offset`].
    highest_offset: i32,
    /// Streams that wait for their own windows may have got some by SETTINGS.
    look_again: bool,
    /// Bytes of DATA that the peer may send.
    receive_window: u32,
    /// Bytes of DATA that came and are not yet given back to the peer's window.
    unreturned: u32,
    /// Nothing is given back to the connection's window now.
    credit_held: bool,
    /// The initial window of the peer's DATA, as far as it must hold to it.
    receive_initial: u32,
    streams: Streams<V>,
    closed: ClosedStreams,
    /// The highest identifier that the peer has used.
    highest_seen: u32,
    /// The highest identifier that was opened: what is above was not acted upon (6.8).
    highest_opened: u32,
    closing: Closing,
}

/// Bytes of heap that a connection holds, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Frames that are not whole.
    pub half_frames: usize,
    /// Header blocks that are not whole.
    pub header_blocks: usize,
    /// The table of header compression.
    pub header_table: usize,
    /// Tables of streams, with the callers' values.
    pub streams: usize,
}

impl Held {
    /// All of them.
    pub fn total(&self) -> usize {
        self.half_frames + self.header_blocks + self.header_table + self.streams
    }
}

impl<V> Connection<V> {
    /// A connection whose peer has said nothing yet. SETTINGS are sent when the peer's preface has come.
    pub fn new(config: Arc<Config>) -> Self {
        let mut connection = Self {
            reading: Reading::Preface(0),
            half_frame: Vec::new(),
            block: None,
            half_since: None,
            // What the peer uses until it has read our SETTINGS.
            decoder: Decoder::new(HEADER_TABLE),
            settings_sent: None,
            settings_received: false,
            block_sent: false,
            peer: PeerSettings::default(),
            send_window: INITIAL_WINDOW,
            highest_offset: 0,
            look_again: false,
            receive_window: INITIAL_WINDOW,
            unreturned: 0,
            credit_held: false,
            receive_initial: INITIAL_WINDOW,
            streams: Streams::default(),
            closed: ClosedStreams::default(),
            highest_seen: 0,
            highest_opened: 0,
            closing: Closing::Open,
            config,
        };
        // A wider window holds from sending it; a narrower one when the peer has acknowledged it (6.5.3).
        connection.receive_initial = connection.config.stream_window.max(INITIAL_WINDOW);
        connection
    }

    /// Opens the stream of a request.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a stream is opened or refused once"
    )]
    pub fn open(&mut self, opening: Opening, value: V) -> Slot {
        self.highest_opened = self.highest_opened.max(opening.id);
        let mut stream = Stream::new(opening.id, value);
        stream.end_seen = opening.request_ended;
        stream.request_ended = opening.request_ended;
        stream.head_request = opening.head_request;
        stream.content_left = opening.content_left;
        self.streams.insert(stream)
    }

    /// Resets the stream of a request that the caller does not take. REFUSED_STREAM tells the peer that nothing was done for it (8.7).
    #[allow(
        clippy::needless_pass_by_value,
        reason = "a stream is opened or refused once"
    )]
    pub fn refuse(&mut self, opening: Opening, code: ErrorCode, out: &mut Output) {
        self.reset_id(opening.id, code, out);
    }

    /// How many streams are open.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// The open streams, in the order of their identifiers.
    pub fn slots(&self) -> impl Iterator<Item = Slot> {
        self.streams.slots()
    }

    /// The values of the open streams.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.streams.iter().map(|stream| &stream.value)
    }

    /// The caller's value for a stream.
    pub fn value(&self, slot: Slot) -> &V {
        &self.streams.get(slot).value
    }

    /// The caller's value for a stream.
    pub fn value_mut(&mut self, slot: Slot) -> &mut V {
        &mut self.streams.get_mut(slot).value
    }

    /// The stream's identifier.
    pub fn stream_id(&self, slot: Slot) -> u32 {
        self.streams.get(slot).id
    }

    /// Whether the peer has sent all of the request.
    pub fn is_request_ended(&self, slot: Slot) -> bool {
        self.streams.get(slot).request_ended
    }

    /// Bytes of heap that the connection holds.
    pub fn held(&self) -> Held {
        Held {
            half_frames: self.half_frame.capacity(),
            header_blocks: self.block.as_ref().map_or(0, |block| block.held_bytes())
                + self.decoder.held_literal_bytes(),
            header_table: self.decoder.held_bytes(),
            streams: self.streams.held_bytes() + self.closed.held_bytes(),
        }
    }

    /// Resets an open stream and gives its value back.
    pub fn reset(&mut self, slot: Slot, code: ErrorCode, out: &mut Output) -> V {
        let stream = self.remove(slot);
        self.reset_id(stream.id, code, out);
        stream.value
    }

    /// Closes a stream whose response has ended, and gives its value back. A peer that still sends its request is told that the rest is
    /// not needed (8.1).
    pub fn close(&mut self, slot: Slot, out: &mut Output) -> V {
        debug_assert!(
            self.streams.get(slot).response_ended,
            "the response has ended"
        );
        let stream = self.remove(slot);
        if stream.request_ended {
            self.closed.insert(stream.id, Closed::Ended);
        } else {
            self.reset_id(stream.id, ErrorCode::NO_ERROR, out);
        }
        stream.value
    }

    fn remove(&mut self, slot: Slot) -> Stream<V> {
        self.reading.forget(slot);
        let id = self.stream_id(slot);
        if let Some(block) = &mut self.block {
            block.forget(id);
        }
        self.streams.remove(slot)
    }

    fn reset_id(&mut self, id: u32, code: ErrorCode, out: &mut Output) {
        self.closed.insert(id, Closed::ByUs);
        frame::rst_stream(out, id, code);
    }

    /// Since when a header block is under way. Half frames of other types are small, or belong to no call: they may take their time.
    fn header_block_since(&self) -> Option<Instant> {
        let of_a_block = self.block.is_some() || frame::begins_block(&self.half_frame);
        self.half_since.filter(|_| of_a_block)
    }

    /// The earliest time at which [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        let settings = self
            .settings_sent
            .map(|at| at + self.config.settings_timeout);
        let half = self
            .header_block_since()
            .map(|at| at + self.config.header_block_timeout);
        let closing = self
            .closing
            .ping_sent()
            .map(|at| at + self.config.go_away_timeout);
        [settings, half, closing].into_iter().flatten().min()
    }

    /// Does what its time has come for.
    pub fn expire(&mut self, now: Instant, out: &mut Output) -> Result<(), ConnectionError> {
        let over = |since: Option<Instant>, after| since.is_some_and(|at| now >= at + after);
        if over(self.closing.ping_sent(), self.config.go_away_timeout) {
            self.go_away_now(out);
        }
        if over(self.settings_sent, self.config.settings_timeout) {
            return Err(ConnectionError::new(
                ErrorCode::SETTINGS_TIMEOUT,
                "SETTINGS were not acknowledged in time (6.5.3)",
            ));
        }
        if over(self.header_block_since(), self.config.header_block_timeout) {
            return Err(ConnectionError::new(
                ErrorCode::ENHANCE_YOUR_CALM,
                "a header block did not come whole in time",
            ));
        }
        Ok(())
    }
}

//! The other end of the connection, which keeps account of all windows as RFC 9113 counts them and holds every frame
//! against that.
//!
//! A change of the initial window binds the sender when it has read it, which it says with its ACK: until then the
//! largest of those under way counts. A frame of the peer counts when its last byte is in the pipe.
//!
//! Holds: no DATA beyond a window, before a head, or after the end of its stream.
//! Does not: wait; it writes and reads as much as is possible at once.

use std::collections::{BTreeMap, VecDeque};

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use longlived_testkit::block::Block;
use longlived_testkit::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, FRAME_HEADER_BYTES, GOAWAY, HEADERS, PING,
    RST_STREAM, SETTINGS, WINDOW_INITIAL, WINDOW_MAX, WINDOW_UPDATE, frame, hello, initial_window,
    reset, window_update,
};

/// How the peer calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) padding: Option<u8>,
    /// Where the head is parted, rising.
    pub(super) cuts: Vec<usize>,
}

/// The effect on the windows as soon as the server can have read it.
enum Effect {
    None,
    Initial(u32),
    Give(u32, u32),
    Called(u32),
}

/// How a stream ended, as the server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Ended,
    Reset,
}

/// The peer's state of one stream.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) received: Vec<u8>,
    pub(super) end: Option<End>,
    /// The peer has reset it, ...
    pub(super) reset: bool,
    // ... and the server has read that: it answered a PING that came behind.
    reset_read: bool,
    has_head: bool,
    // The first of `Peer::initial` that counts for it, since the server had read that before the call.
    initial_from: usize,
    // Sent, and sent or about to be.
    given: u64,
    promised: u64,
}

pub(super) struct Peer {
    near: DuplexStream,
    // To be written, in order.
    unsent: VecDeque<(Vec<u8>, Effect)>,
    // Of the first of them.
    written: usize,
    // Read, and not a whole frame yet.
    partial: Vec<u8>,
    streams: BTreeMap<u32, Seen>,
    // Of the connection: the bytes given, those sent or about to be, and those received.
    given: u64,
    promised: u64,
    received: u64,
    // Sent, behind the initial one; those before the one at `acked` count no more.
    initial: Vec<u64>,
    acked: usize,
    initial_promised: u64,
}

impl Peer {
    pub(super) fn new(near: DuplexStream, initial: u32) -> Self {
        let mut peer = Self {
            near,
            unsent: VecDeque::new(),
            written: 0,
            partial: Vec::new(),
            streams: BTreeMap::new(),
            given: WINDOW_INITIAL.into(),
            promised: WINDOW_INITIAL.into(),
            received: 0,
            initial: vec![WINDOW_INITIAL.into()],
            acked: 0,
            initial_promised: initial.into(),
        };
        peer.say(hello(initial), Effect::Initial(initial));
        peer
    }

    /// The number of the stream that the next call opens.
    pub(super) fn next_stream(&self) -> u32 {
        2 * self.streams.len() as u32 + 1
    }

    pub(super) fn call(&mut self, path: &str, shape: &Shape) -> u32 {
        let stream = self.next_stream();
        self.streams.insert(stream, Seen::default());
        let bytes = Block::post(path).in_frames(stream, shape.padding, &shape.cuts);
        self.say(bytes, Effect::Called(stream));
        stream
    }

    /// Sends a WINDOW_UPDATE for a stream, or for the connection as stream 0: no more than a window may have.
    pub(super) fn give(&mut self, stream: u32, bytes: u32) {
        let (window, promised) = match self.streams.get_mut(&stream) {
            Some(seen) => {
                let all = self.initial_promised + seen.promised;
                let window = all.saturating_sub(seen.received.len() as u64);
                (window, &mut seen.promised)
            }
            None => (self.promised - self.received, &mut self.promised),
        };
        let bytes = bytes.min((u64::from(WINDOW_MAX) - window) as u32);
        if bytes > 0 {
            *promised += u64::from(bytes);
            self.say(window_update(stream, bytes), Effect::Give(stream, bytes));
        }
    }

    /// Changes the initial window: to no more than the windows of all streams can take.
    pub(super) fn set_initial(&mut self, bytes: u32) {
        let left = |seen: &Seen| seen.promised.saturating_sub(seen.received.len() as u64);
        let most = self.streams.values().map(left).max().unwrap_or(0);
        let bytes = bytes.min((u64::from(WINDOW_MAX) - most) as u32);
        self.initial_promised = bytes.into();
        self.say(initial_window(bytes), Effect::Initial(bytes));
    }

    /// Resets a stream, and asks whether that was read.
    pub(super) fn reset(&mut self, stream: u32) {
        let seen = self.streams.get_mut(&stream).expect("it was called");
        if !std::mem::replace(&mut seen.reset, true) {
            self.say(reset(stream), Effect::None);
            let payload = u64::from(stream).to_be_bytes();
            self.say(frame(PING, 0, 0, &payload), Effect::None);
        }
    }

    pub(super) fn seen(&self, stream: u32) -> &Seen {
        &self.streams[&stream]
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = (u32, &Seen)> {
        self.streams.iter().map(|(stream, seen)| (*stream, seen))
    }

    /// Writes at most this number of bytes, as far as the pipe takes them; returns how many.
    pub(super) fn write(&mut self, most: usize) -> usize {
        let mut left = most;
        while left > 0
            && let Some((bytes, _)) = self.unsent.front()
        {
            let piece = &bytes[self.written..];
            let piece = &piece[..piece.len().min(left)];
            let Some(count) = self.near.write(piece).now_or_never() else {
                break;
            };
            let count = count.expect("the server has not hung up");
            left -= count;
            self.written += count;
            if self.written == bytes.len()
                && let Some((_, effect)) = self.unsent.pop_front()
            {
                self.written = 0;
                self.take_effect(&effect);
            }
        }
        most - left
    }

    /// Reads at most this number of bytes, as far as there are any; returns how many.
    pub(super) fn read(&mut self, most: usize) -> usize {
        let mut buffer = vec![0; most.min(64 << 10)];
        let mut left = most;
        while left > 0 {
            let piece = buffer.len().min(left);
            let Some(count) = self.near.read(&mut buffer[..piece]).now_or_never() else {
                break;
            };
            let count = count.expect("the server has not hung up");
            assert!(count > 0, "the server has hung up");
            left -= count;
            self.partial.extend_from_slice(&buffer[..count]);
        }
        self.look_at_frames();
        most - left
    }

    fn say(&mut self, bytes: Vec<u8>, effect: Effect) {
        self.unsent.push_back((bytes, effect));
    }

    fn take_effect(&mut self, effect: &Effect) {
        match *effect {
            Effect::None => {}
            Effect::Initial(bytes) => self.initial.push(bytes.into()),
            Effect::Give(0, bytes) => self.given += u64::from(bytes),
            Effect::Give(stream, bytes) => {
                let seen = self.streams.get_mut(&stream).expect("it was called");
                seen.given += u64::from(bytes);
            }
            Effect::Called(stream) => {
                let seen = self.streams.get_mut(&stream).expect("it was called");
                seen.initial_from = self.initial.len() - 1;
            }
        }
    }

    fn look_at_frames(&mut self) {
        let bytes = std::mem::take(&mut self.partial);
        let mut rest = &bytes[..];
        while let [high, middle, low, kind, flags, a, b, c, d, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if after.len() < length {
                break;
            }
            let stream = u32::from_be_bytes([*a, *b, *c, *d]);
            self.look_at(*kind, *flags, stream, &after[..length]);
            rest = &rest[FRAME_HEADER_BYTES + length..];
        }
        self.partial = rest.to_vec();
    }

    fn look_at(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        match kind {
            DATA => self.look_at_data(flags, stream, payload),
            HEADERS => {
                let seen = self.streams.get_mut(&stream).expect("it was called");
                assert!(!seen.has_head, "two heads for stream {stream}");
                assert_ne!(flags & END_HEADERS, 0, "a short head is not parted");
                seen.has_head = true;
                seen.end = (flags & END_STREAM != 0).then_some(End::Ended);
            }
            RST_STREAM => {
                let seen = self.streams.get_mut(&stream).expect("it was called");
                seen.end = Some(End::Reset);
            }
            SETTINGS if flags & ACK != 0 => {
                self.acked += 1;
                assert!(self.acked < self.initial.len(), "an ACK for nothing");
            }
            PING if flags & ACK != 0 => {
                let number = payload.try_into().map(u64::from_be_bytes);
                let stream = number.expect("eight bytes") as u32;
                let seen = self.streams.get_mut(&stream).expect("it was called");
                assert!(seen.reset, "an answer to a PING that was not sent");
                seen.reset_read = true;
            }
            SETTINGS | WINDOW_UPDATE => {}
            GOAWAY => panic!("the server goes away: {payload:?}"),
            CONTINUATION => panic!("a short head is not parted"),
            other => panic!("a frame of kind {other}"),
        }
    }

    fn look_at_data(&mut self, flags: u8, stream: u32, payload: &[u8]) {
        let seen = self.streams.get_mut(&stream).expect("it was called");
        assert!(seen.has_head, "DATA before the head of stream {stream}");
        assert_eq!(seen.end, None, "DATA after the end of stream {stream}");
        assert!(!seen.reset_read, "DATA after the reset of stream {stream}");
        assert_eq!(flags & !END_STREAM, 0, "stream {stream} is not padded");
        if flags & END_STREAM != 0 {
            seen.end = Some(End::Ended);
        }
        seen.received.extend_from_slice(payload);
        self.received += payload.len() as u64;
        if !payload.is_empty() {
            let over = self.received.saturating_sub(self.given);
            assert_eq!(over, 0, "bytes beyond the connection's window");
            let initial = &self.initial[self.acked.max(seen.initial_from)..];
            let window = seen.given + initial.iter().max().expect("the last one counts");
            let over = (seen.received.len() as u64).saturating_sub(window);
            assert_eq!(over, 0, "bytes beyond the window of stream {stream}");
        }
    }
}

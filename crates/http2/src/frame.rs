//! The nine bytes before each frame (RFC 9113, 4.1), and the frames that this end sends.

use crate::error::ErrorCode;
use crate::output::Output;

/// Bytes before a frame's payload.
pub(crate) const HEAD_BYTES: usize = 9;
/// The smallest SETTINGS_MAX_FRAME_SIZE, which holds until SETTINGS says otherwise (6.5.2).
pub(crate) const SIZE_MIN: u32 = 16_384;
/// The largest SETTINGS_MAX_FRAME_SIZE (6.5.2).
pub(crate) const SIZE_MAX: u32 = (1 << 24) - 1;

/// END_STREAM of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 0x01;
/// ACK of SETTINGS and PING.
pub(crate) const ACK: u8 = 0x01;
/// END_HEADERS of HEADERS and CONTINUATION.
pub(crate) const END_HEADERS: u8 = 0x04;
/// PADDED of DATA and HEADERS.
pub(crate) const PADDED: u8 = 0x08;
/// PRIORITY of HEADERS.
pub(crate) const PRIORITY: u8 = 0x20;

/// The type of a frame (6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// DATA (6.1).
    Data,
    /// HEADERS (6.2).
    Headers,
    /// PRIORITY (6.3), deprecated.
    Priority,
    /// RST_STREAM (6.4).
    RstStream,
    /// SETTINGS (6.5).
    Settings,
    /// PUSH_PROMISE (6.6), which no client may send.
    PushPromise,
    /// PING (6.7).
    Ping,
    /// GOAWAY (6.8).
    GoAway,
    /// WINDOW_UPDATE (6.9).
    WindowUpdate,
    /// CONTINUATION (6.10).
    Continuation,
    /// A type that the RFC does not know; such frames are ignored (5.5).
    Unknown,
}

impl FrameType {
    fn of(byte: u8) -> Self {
        match byte {
            0x00 => Self::Data,
            0x01 => Self::Headers,
            0x02 => Self::Priority,
            0x03 => Self::RstStream,
            0x04 => Self::Settings,
            0x05 => Self::PushPromise,
            0x06 => Self::Ping,
            0x07 => Self::GoAway,
            0x08 => Self::WindowUpdate,
            0x09 => Self::Continuation,
            _ => Self::Unknown,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Data => 0x00,
            Self::Headers => 0x01,
            Self::Priority => 0x02,
            Self::RstStream => 0x03,
            Self::Settings => 0x04,
            Self::PushPromise => 0x05,
            Self::Ping => 0x06,
            Self::GoAway => 0x07,
            Self::WindowUpdate => 0x08,
            Self::Continuation => 0x09,
            Self::Unknown => 0xff,
        }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameHead {
    pub(crate) length: u32,
    pub(crate) kind: FrameType,
    pub(crate) flags: u8,
    pub(crate) stream_id: u32,
}

impl FrameHead {
    /// Reads a head. The reserved bit before the stream's id is ignored (4.1).
    pub(crate) fn parse(bytes: [u8; HEAD_BYTES]) -> Self {
        let [_, _, _, kind, flags, stream_id @ ..] = bytes;
        Self {
            length: u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]),
            kind: FrameType::of(kind),
            flags,
            stream_id: u32::from_be_bytes(stream_id) & 0x7fff_ffff,
        }
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The bytes of this head.
    pub(crate) fn bytes(self) -> [u8; HEAD_BYTES] {
        // All but the last octet as one number: each DATA frame has a head.
        let length = u64::from(self.length) << 40;
        let kind = u64::from(self.kind.byte()) << 32 | u64::from(self.flags) << 24;
        let [.., last] = self.stream_id.to_be_bytes();
        let most = length | kind | u64::from(self.stream_id >> 8);
        let mut bytes = [last; HEAD_BYTES];
        bytes[..8].copy_from_slice(&most.to_be_bytes());
        bytes
    }
}

/// Whether the begin of a frame is that of HEADERS, as far as it has come.
pub(crate) fn begins_block(half_frame: &[u8]) -> bool {
    half_frame.get(3) == Some(&FrameType::Headers.byte())
}

/// Writes a control frame whole.
fn control(out: &mut Output, kind: FrameType, flags: u8, stream_id: u32, payload: &[&[u8]]) {
    let length = payload.iter().map(|part| part.len()).sum::<usize>() as u32;
    let head = FrameHead {
        length,
        kind,
        flags,
        stream_id,
    };
    out.control(&head.bytes());
    for part in payload {
        out.control(part);
    }
}

/// RST_STREAM (6.4).
pub(crate) fn rst_stream(out: &mut Output, stream_id: u32, code: ErrorCode) {
    let payload = code.0.to_be_bytes();
    control(out, FrameType::RstStream, 0, stream_id, &[&payload]);
}

/// SETTINGS (6.5).
pub(crate) fn settings(out: &mut Output, settings: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(settings.len() * 6);
    for (id, value) in settings {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    control(out, FrameType::Settings, 0, 0, &[&payload]);
}

/// SETTINGS with ACK (6.5.3).
pub(crate) fn settings_ack(out: &mut Output) {
    control(out, FrameType::Settings, ACK, 0, &[]);
}

/// PING (6.7).
pub(crate) fn ping(out: &mut Output, payload: [u8; 8], ack: bool) {
    let flags = if ack { ACK } else { 0 };
    control(out, FrameType::Ping, flags, 0, &[&payload]);
}

/// GOAWAY (6.8), with a reason for who reads the peer's log.
pub(crate) fn go_away(out: &mut Output, last_stream_id: u32, code: ErrorCode, reason: &str) {
    let (last, code) = (last_stream_id.to_be_bytes(), code.0.to_be_bytes());
    let payload = [&last[..], &code, reason.as_bytes()];
    control(out, FrameType::GoAway, 0, 0, &payload);
}

/// WINDOW_UPDATE (6.9). `stream_id` 0 is the connection's window.
pub(crate) fn window_update(out: &mut Output, stream_id: u32, increment: u32) {
    debug_assert!(
        (1..=0x7fff_ffff).contains(&increment),
        "an increment is 1 to 2^31-1 (6.9)"
    );
    let payload = increment.to_be_bytes();
    control(out, FrameType::WindowUpdate, 0, stream_id, &[&payload]);
}

/// A header block in as many frames as the peer's limit of a frame asks for: HEADERS and CONTINUATION, next to each other
/// (6.2, 6.10). `first` stands before `block` and is empty or one byte.
pub(crate) fn headers(
    out: &mut Output,
    stream_id: u32,
    (first, block): (&[u8], &[u8]),
    end_stream: bool,
    frame_size_max: u32,
) {
    let most = frame_size_max as usize - first.len();
    let (part, mut rest) = block.split_at(block.len().min(most));
    let mut flags = if end_stream { END_STREAM } else { 0 };
    if rest.is_empty() {
        flags |= END_HEADERS;
    }
    control(out, FrameType::Headers, flags, stream_id, &[first, part]);
    while !rest.is_empty() {
        let (part, after) = rest.split_at(rest.len().min(frame_size_max as usize));
        let flags = if after.is_empty() { END_HEADERS } else { 0 };
        control(out, FrameType::Continuation, flags, stream_id, &[part]);
        rest = after;
    }
}

/// One DATA frame (6.1).
#[inline]
pub(crate) fn data(out: &mut Output, stream_id: u32, payload: &[u8], end_stream: bool) {
    out.data(data_head(stream_id, payload.len(), end_stream), payload);
}

/// The head of a DATA frame.
#[inline]
pub(crate) fn data_head(stream_id: u32, length: usize, end_stream: bool) -> [u8; HEAD_BYTES] {
    let head = FrameHead {
        length: length as u32,
        kind: FrameType::Data,
        flags: if end_stream { END_STREAM } else { 0 },
        stream_id,
    };
    head.bytes()
}

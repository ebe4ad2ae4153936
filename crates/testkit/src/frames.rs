//! HTTP/2 frames written by hand, for peers that misbehave.
//!
//! Does not: read, or keep account of windows.

use crate::block::Block;

/// The largest window there is.
pub const WINDOW_MAX: u32 = (1 << 31) - 1;
/// The initial size of every window (RFC 9113, 6.9.2).
pub const WINDOW_INITIAL: u32 = 65_535;

/// The head of every frame.
pub const FRAME_HEADER_BYTES: usize = 9;

/// Type of a DATA frame.
pub const DATA: u8 = 0;
/// Type of a HEADERS frame.
pub const HEADERS: u8 = 1;
/// Type of a RST_STREAM frame.
pub const RST_STREAM: u8 = 3;
/// Type of a SETTINGS frame.
pub const SETTINGS: u8 = 4;
/// Type of a PING frame.
pub const PING: u8 = 6;
/// Type of a GOAWAY frame.
pub const GOAWAY: u8 = 7;
/// Type of a WINDOW_UPDATE frame.
pub const WINDOW_UPDATE: u8 = 8;
/// Type of a CONTINUATION frame.
pub const CONTINUATION: u8 = 9;

/// Flag of SETTINGS and PING.
pub const ACK: u8 = 1;
/// Flag of DATA and HEADERS.
pub const END_STREAM: u8 = 1;
/// Flag of HEADERS and CONTINUATION.
pub const END_HEADERS: u8 = 4;
/// Flag of DATA and HEADERS.
pub const PADDED: u8 = 8;

/// A frame of any kind.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// `POST http://t/`, and nothing more to come.
pub fn call(stream: u32) -> Vec<u8> {
    Block::post("/").headers(stream, END_STREAM)
}

/// WINDOW_UPDATE of a stream, or of the connection (0).
pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// It is not wanted any more.
pub fn reset(stream: u32) -> Vec<u8> {
    let cancel = 8_u32;
    frame(RST_STREAM, 0, stream, &cancel.to_be_bytes())
}

/// SETTINGS that name the window of each new stream.
pub fn initial_window(bytes: u32) -> Vec<u8> {
    let mut parameter = vec![0, 4];
    parameter.extend(bytes.to_be_bytes());
    frame(SETTINGS, 0, 0, &parameter)
}

/// The first bytes of a peer, its acknowledgement of the server's settings included.
pub fn hello(initial: u32) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(initial_window(initial));
    bytes.extend(frame(SETTINGS, ACK, 0, &[]));
    bytes
}

//! As much HTTP/2 as a gRPC load generator needs, by hand.
//!
//! - [`request`]: the sent frames; headers are written without a table, so no state is kept.
//! - [`send_windows`]: how much of it the server's windows allow.
//! - [`reader`]: the received frames, which are walked in place; nothing is buffered.

pub(super) mod reader;
pub(super) mod request;
pub(super) mod send_windows;

/// Length, type, flags, stream.
pub(super) const FRAME_HEADER_BYTES: usize = 9;
/// The largest frame either side may send, since neither of us raises it.
pub(super) const FRAME_BYTES_MAX: usize = 16_384;
/// The window of a connection, and of a stream unless SETTINGS say otherwise.
pub(super) const WINDOW_DEFAULT: u32 = 65_535;
/// Compressed-flag and length before each gRPC message.
pub(super) const GRPC_PREFIX_BYTES: usize = 5;

pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
}

pub(super) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
}

pub(super) mod setting {
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// The stream of the n-th call on a connection: clients use the odd numbers.
pub(super) const fn stream_id(index: u32) -> u32 {
    index * 2 + 1
}

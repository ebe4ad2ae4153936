//! gRPC's frame of a message: one byte for compression, four for the length.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes before each message.
pub const PREFIX_BYTES: usize = 5;

/// The prefix and the message.
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a small message"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// The length of the message that a prefix announces.
pub fn announced(prefix: &[u8]) -> usize {
    let length = prefix[1..PREFIX_BYTES].try_into().expect("four bytes");
    u32::from_be_bytes(length) as usize
}

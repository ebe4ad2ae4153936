//! gRPC's frame of a message: one byte for compression, four for the length.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use prost::Message;

use crate::wait::within;

/// Bytes before each message.
pub(crate) const PREFIX_BYTES: usize = 5;

/// The prefix and the message.
pub fn framed(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).expect("a small message"));
    bytes.put_slice(message);
    bytes.freeze()
}

/// The length of the message that a prefix announces.
pub(crate) fn announced(prefix: &[u8]) -> usize {
    let length = prefix[1..PREFIX_BYTES].try_into().expect("four bytes");
    u32::from_be_bytes(length) as usize
}

/// The messages of a body, as they come; the capacity of read bytes is released.
#[derive(Debug)]
pub struct Messages {
    body: RecvStream,
    buffer: BytesMut,
}

impl Messages {
    /// Of a request, or of an answer.
    pub fn new(body: RecvStream) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
        }
    }

    /// Takes the first message out of a buffer, if it is there in full.
    pub fn take_first(buffer: &mut BytesMut) -> Option<Bytes> {
        let length = (buffer.len() >= PREFIX_BYTES).then(|| announced(buffer))?;
        let whole = buffer.len() >= PREFIX_BYTES + length;
        whole.then(|| {
            buffer.advance(PREFIX_BYTES);
            buffer.split_to(length).freeze()
        })
    }

    /// The next message; `None` when the peer has ended its side or reset the stream.
    pub async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = Self::take_first(&mut self.buffer) {
                return Some(M::decode(message).expect("a message of this kind"));
            }
            let data = within("DATA or the end", self.body.data()).await?.ok()?;
            let credited = self.body.flow_control().release_capacity(data.len());
            credited.expect("it was received");
            self.buffer.extend_from_slice(&data);
        }
    }
}

//! The buffer that the caller lends for frames to the peer.

use crate::frame::HEAD_BYTES;

/// Control bytes that may wait for the socket before nothing more is read: each frame that asks for an answer would add
/// to them. A PING is 17 bytes, so some 960 answers fit.
pub const CONTROL_BYTES_MAX: usize = 16 * 1024;

/// Frames for the peer, whole and in order.
///
/// One buffer serves many connections, one after the other: the caller lends it for a turn, writes it to the socket, and
/// keeps what the socket did not take with the connection.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    /// Bytes of frames other than DATA among `bytes`, at most: a write may have taken either.
    control: usize,
    /// Decoded strings of the header block that is read now.
    pub(crate) scratch: Vec<u8>,
}

impl Output {
    /// A buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(capacity),
            ..Self::default()
        }
    }

    /// The bytes that the socket has not taken.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many bytes the socket has not taken.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the socket has taken everything.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes of control frames among them, at most.
    pub fn control_bytes(&self) -> usize {
        self.control
    }

    /// The socket took the first `n` bytes.
    pub fn written(&mut self, n: usize) {
        self.bytes.drain(..n);
        self.control = self.control.min(self.bytes.len());
    }

    /// Takes what the socket has not taken, at its size, so that the buffer can serve another connection. The number is
    /// [`Output::control_bytes`] of them.
    pub fn take_rest(&mut self) -> (Box<[u8]>, usize) {
        let rest = self.bytes.as_slice().into();
        self.bytes.clear();
        (rest, std::mem::take(&mut self.control))
    }

    /// Begins a turn of a connection with what an earlier one left. The buffer is empty before.
    pub fn put_rest(&mut self, rest: &[u8], control: usize) {
        debug_assert!(self.is_empty(), "frames of one connection at a time");
        self.bytes.extend_from_slice(rest);
        self.control = control;
    }

    /// Adds bytes of DATA frames that [`data_by_reference`](crate::Connection::data_by_reference) made, and that the socket did not take.
    pub fn put_data(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn control(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.control += bytes.len();
    }

    #[inline]
    pub(crate) fn data(&mut self, head: [u8; HEAD_BYTES], payload: &[u8]) {
        self.bytes.reserve(head.len() + payload.len());
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(payload);
    }
}

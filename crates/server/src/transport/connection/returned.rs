//! Window bytes that the peer spent on frames which never reach HTTP/2, until they are returned to it.
//!
//! Padding, and DATA of streams that are over, count against the windows that we gave (RFC 9113, 6.9.1). They are taken
//! out before HTTP/2 sees them, so HTTP/2 does not release their capacity. We do, with WINDOW_UPDATE frames of our own.
//!
//! Holds: as much is returned as was taken out, to the connection for each byte, to a stream as long as it lives.
//! Does not: know which bytes may be taken out; `inbound.rs` does.

use crate::limits;

/// A WINDOW_UPDATE (RFC 9113, 6.9).
pub(super) const FRAME_BYTES: usize = 13;

/// Streams that are owed something at once: as many as may be open, and those that were not taken up yet.
const STREAMS_MAX: usize = 2 * limits::STREAMS_PER_CONNECTION_MAX as usize;

/// The window bytes that are owed to one peer.
#[derive(Debug, Default)]
pub(super) struct Returned {
    connection: u32,
    // By number, rising.
    streams: Vec<(u32, u32)>,
}

impl Returned {
    /// Owes `bytes` of the connection's window.
    pub(super) fn owe_connection(&mut self, bytes: u32) {
        // Flow control lets nobody spend more than a window, which fits.
        self.connection = self.connection.saturating_add(bytes);
    }

    /// Owes `bytes` of the connection's window and of a stream's.
    pub(super) fn owe(&mut self, stream: u32, bytes: u32) {
        self.owe_connection(bytes);
        match self.find(stream) {
            Ok(index) => {
                let (_, owed) = &mut self.streams[index];
                *owed = owed.saturating_add(bytes);
            }
            Err(index) if self.streams.len() < STREAMS_MAX => {
                self.streams.insert(index, (stream, bytes));
            }
            // Only refused streams can exceed this number.
            Err(_) => {}
        }
    }

    /// A stream is over: its window is of no use any more.
    pub(super) fn close(&mut self, stream: u32) {
        if let Ok(index) = self.find(stream) {
            self.streams.remove(index);
        }
    }

    /// Nothing is owed.
    pub(super) fn is_empty(&self) -> bool {
        self.connection == 0
    }

    /// How long the frames are that give everything back.
    pub(super) fn frame_bytes(&self) -> usize {
        FRAME_BYTES * (self.streams.len() + usize::from(!self.is_empty()))
    }

    /// The frames that give everything back, which is then owed no more.
    pub(super) fn take(&mut self, out: &mut impl FnMut([u8; FRAME_BYTES])) {
        for (stream, bytes) in std::mem::take(&mut self.streams) {
            out(window_update(stream, bytes));
        }
        let connection = std::mem::take(&mut self.connection);
        if connection > 0 {
            out(window_update(0, connection));
        }
    }

    fn find(&self, stream: u32) -> Result<usize, usize> {
        self.streams
            .binary_search_by_key(&stream, |(number, _)| *number)
    }
}

fn window_update(stream: u32, bytes: u32) -> [u8; FRAME_BYTES] {
    // Length, type and flags.
    let mut frame = [0, 0, 4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
    frame[9..].copy_from_slice(&bytes.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(returned: &mut Returned) -> Vec<[u8; FRAME_BYTES]> {
        let mut frames = Vec::new();
        let expected = returned.frame_bytes();
        returned.take(&mut |frame| frames.push(frame));
        assert_eq!(frames.len() * FRAME_BYTES, expected);
        frames
    }

    #[test]
    fn everything_is_given_back_once_but_to_streams_that_are_over() {
        let mut returned = Returned::default();
        assert!(taken(&mut returned).is_empty());
        returned.owe(3, 10);
        returned.owe(1, 1);
        returned.owe(3, 5);
        returned.owe_connection(4);
        returned.close(1);
        assert!(!returned.is_empty());
        let expected = [window_update(3, 15), window_update(0, 20)];
        assert_eq!(taken(&mut returned), expected);
        assert!(returned.is_empty());
        assert!(taken(&mut returned).is_empty());
    }

    #[test]
    fn a_peer_that_opens_streams_without_end_makes_no_list_without_end() {
        let mut returned = Returned::default();
        for stream in (1..).step_by(2).take(2 * STREAMS_MAX) {
            returned.owe(stream, 1);
        }
        let frames = taken(&mut returned);
        assert_eq!(frames.len(), STREAMS_MAX + 1);
        assert_eq!(
            frames.last(),
            Some(&window_update(0, 2 * STREAMS_MAX as u32))
        );
    }
}

//! How a publisher says its messages, whatever the protocol.

use std::fmt::Debug;
use std::io;

/// What one leaves out is that of a protocol without windows.
pub(super) trait Voice: Debug {
    /// Takes one message; what may be written at once goes to `out`.
    fn message(&mut self, out: &mut Vec<u8>, topic: &str, sent_ns: u64, payload_bytes: usize);
    /// Moves to `out` what the server's windows have room for by now.
    fn pump(&mut self, _out: &mut Vec<u8>) {}
    /// Whether the windows hold messages back.
    fn is_held(&self) -> bool {
        false
    }
    /// All that was put out is with the socket.
    fn flushed(&mut self) {}
    /// There are no more messages.
    fn finish(&mut self, _out: &mut Vec<u8>) {}
    /// Takes the next bytes of the connection; what has to be answered is appended to `reply`.
    fn read(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> io::Result<()>;
    /// Messages that the server is known to have handled.
    fn acknowledged(&self) -> u64;
    /// What the server said that is the end of publishing, though the connection stands.
    fn trouble(&self) -> Option<&str> {
        None
    }
}

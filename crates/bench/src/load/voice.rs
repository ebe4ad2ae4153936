//! How a publisher sends its messages, in each protocol.

use std::fmt::Debug;
use std::io;

/// A method that one leaves out is that of a protocol without windows.
pub(super) trait Voice: Debug {
    /// Takes one message; the bytes that may be written at once go to `out`.
    fn message(&mut self, out: &mut Vec<u8>, topic: &str, sent_ns: u64, payload_bytes: usize);
    /// Moves the bytes to `out` for which the server's windows have capacity by now.
    fn pump(&mut self, _out: &mut Vec<u8>) {}
    /// Whether the windows hold messages back.
    fn is_held(&self) -> bool {
        false
    }
    /// All that was put out is with the socket.
    fn flushed(&mut self) {}
    /// There are no more messages.
    fn finish(&mut self, _out: &mut Vec<u8>) {}
    /// Takes the next bytes of the connection; answers are appended to `reply`.
    fn read(&mut self, bytes: &[u8], reply: &mut Vec<u8>) -> io::Result<()>;
    /// Messages that the server is known to have handled.
    fn acknowledged(&self) -> u64;
    /// The server's error that ends publishing, though the connection stands.
    fn trouble(&self) -> Option<&str> {
        None
    }
}

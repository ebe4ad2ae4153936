//! How a publisher says its messages, in each protocol.
//!
//! - [`grpc`]: `PublishStream`, within the server's windows.
//! - [`plain`]: Redis, NATS and the bare sender, which have no windows.

mod grpc;
mod plain;

use std::fmt::Debug;
use std::io;

use self::grpc::Grpc;
use self::plain::{Nats, Records, Resp};
use super::control::{Plan, Protocol};

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

/// The plan's, and the bytes that a connection begins with.
pub(super) fn open(plan: &Plan, in_flight_max: u64, out: &mut Vec<u8>) -> Box<dyn Voice> {
    match plan.protocol {
        Protocol::Grpc => Box::new(Grpc::open(plan, out)),
        Protocol::Resp => Box::new(Resp::default()),
        Protocol::Nats => Box::new(Nats::open(in_flight_max, out)),
        Protocol::Records { bytes } => Box::new(Records::open(bytes as usize, out)),
    }
}

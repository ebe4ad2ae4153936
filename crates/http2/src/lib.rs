//! The server's side of an HTTP/2 connection, without input and output: RFC 9113, with the header compression of RFC 7541.
//!
//! [`Connection`] takes the peer's bytes, one frame at a time, and gives [`Event`]s. Frames for the peer go into an [`Output`]
//! that the caller lends. There are no sockets, timers, tasks, locks or wakers here: the caller says what time it is, and asks
//! which streams may send.
//!
//! Responses are pulled: [`Connection::data`] takes what the windows allow and leaves the rest to the caller, who is told by
//! [`Connection::next_writable`] when there is more room. Nothing is queued.
//!
//! # How a message is read
//!
//! A request's head becomes an [`http::Request`] in the crate, since a header block may come in several frames. Its content is
//! handed on as it comes, borrowed from the caller's input. Informational rules of HTTP, such as which statuses have no content,
//! are the caller's.

#![allow(
    clippy::disallowed_types,
    reason = "the caller's clock is used; none is read here"
)]

mod closed;
mod connection;
mod error;
mod event;
mod frame;
pub mod hpack;
mod output;
mod request;
mod settings;
mod slot;
mod streams;

pub use connection::{Connection, GO_AWAY_PING, Held};
pub use error::{ConnectionError, ErrorCode, StreamError};
pub use event::{Event, Opening, Received};
pub use frame::FrameType;
pub use output::{CONTROL_BYTES_MAX, Output};
pub use settings::Config;
pub use slot::Slot;

//! The server's side of an HTTP/2 connection, without input and output: RFC 9113, with the header compression of RFC 7541.
//!
//! Bytes of the peer go in, and frames for the peer come out in a buffer that the caller lends. The crate has no
//! sockets, timers, tasks, locks or wakers. The caller says what time it is.

pub mod hpack;

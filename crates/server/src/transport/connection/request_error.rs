//! Why the rest of a request is not waited for.

use std::time::Duration;

/// Why the rest of a request is not waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It takes too long.
    #[error("a request message was not there in full within the limit request_timeout of {0:?}")]
    TimedOut(Duration),
    /// The node holds too much of its connection's requests.
    #[error(
        "the requests under way on this connection have more than the limit connection_bytes_max of {0} bytes, and this one most of them"
    )]
    ConnectionExhausted(usize),
    /// The node holds too much of all requests.
    #[error(
        "the requests under way to this node have more than the limit held_bytes_max of {0} bytes, and this connection most of them"
    )]
    NodeExhausted(usize),
    /// The client has reset the stream, with this code of RFC 9113, 7.
    #[error("the client reset the stream: {0}")]
    Reset(longlived_http2::ErrorCode),
}

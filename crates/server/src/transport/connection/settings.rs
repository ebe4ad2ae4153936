//! The limits of a connection: its costs, and its longest silence.

use std::time::Duration;

use crate::limits;

/// The limits of every connection; made once and shared.
#[derive(Clone, Debug)]
pub struct ConnectionSettings {
    /// From accept to the end of the HTTP/2 preface.
    pub handshake_timeout: Duration,
    /// Silence after which the peer is asked whether it is there.
    pub keepalive_interval: Duration,
    /// How long it may take to answer.
    pub keepalive_timeout: Duration,
    /// The slowest reading, in bytes a second, of a peer whose answer stands behind sent bytes.
    pub keepalive_slowest_reader: u32,
    /// Streams open at once.
    pub streams_max: u32,
    /// Bytes of request headers.
    pub header_list_bytes_max: u32,
    /// Request bytes on their way, per stream.
    pub stream_window_bytes: u32,
    /// Request bytes on their way, per connection.
    pub connection_window_bytes: u32,
    /// From a call's begin to its first message, and from the begin of any message to its end.
    pub request_timeout: Duration,
    /// How long the answer of a call that is no subscription may wait for its stream's window.
    pub answer_timeout: Duration,
    /// Bytes of requests and answers that are held.
    pub connection_bytes_max: usize,
    /// The age at which it takes no more streams; none without it.
    pub age_max: Option<Duration>,
    /// From the first byte of a request's headers to the last.
    pub header_block_timeout: Duration,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
            keepalive_slowest_reader: limits::KEEPALIVE_SLOWEST_READER,
            streams_max: limits::STREAMS_PER_CONNECTION_MAX,
            header_list_bytes_max: limits::HEADER_LIST_BYTES_MAX,
            stream_window_bytes: limits::STREAM_WINDOW_BYTES,
            connection_window_bytes: limits::CONNECTION_WINDOW_BYTES,
            request_timeout: limits::REQUEST_TIMEOUT,
            answer_timeout: limits::ANSWER_TIMEOUT,
            connection_bytes_max: limits::CONNECTION_BYTES_MAX,
            age_max: None,
            header_block_timeout: limits::HEADER_BLOCK_TIMEOUT,
        }
    }
}

impl ConnectionSettings {
    /// Those that HTTP/2 holds.
    pub(in crate::transport) fn http2(&self) -> longlived_http2::Config {
        longlived_http2::Config {
            streams_max: self.streams_max,
            stream_window: self.stream_window_bytes,
            connection_window: self.connection_window_bytes,
            header_list_bytes_max: self.header_list_bytes_max,
            header_block_timeout: self.header_block_timeout,
            go_away_timeout: limits::GOAWAY_GRACE,
            ..longlived_http2::Config::default()
        }
    }
}

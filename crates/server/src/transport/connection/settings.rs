//! The limits of a connection: its costs, and its longest silence.

use std::time::Duration;

use crate::framing::PREFIX_BYTES;
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
    /// Streams reset because of the peer's errors, over the connection's life.
    pub local_error_resets_max: usize,
    /// Streams reset by the peer before they were looked at.
    pub pending_accept_resets_max: usize,
    /// Streams we reset and still remember.
    pub reset_streams_remembered_max: usize,
    /// Bytes of request headers.
    pub header_list_bytes_max: u32,
    /// Request bytes on their way, per stream.
    pub stream_window_bytes: u32,
    /// Request bytes on their way, per connection.
    pub connection_window_bytes: u32,
    /// From a call's begin to its first message, and from the begin of any message to its end.
    pub request_timeout: Duration,
    /// Bytes of messages that have not come whole.
    pub half_sent_bytes_max: usize,
    /// From the first byte of a request's headers to the last.
    #[cfg(feature = "own-http2")]
    pub header_block_timeout: Duration,
    /// HTTP/2 is ours, and not that of the h2 crate.
    #[cfg(feature = "own-http2")]
    pub own_http2: bool,
}

impl Default for ConnectionSettings {
    fn default() -> Self {
        Self {
            handshake_timeout: limits::HANDSHAKE_TIMEOUT,
            keepalive_interval: limits::KEEPALIVE_INTERVAL,
            keepalive_timeout: limits::KEEPALIVE_TIMEOUT,
            keepalive_slowest_reader: limits::KEEPALIVE_SLOWEST_READER,
            streams_max: limits::STREAMS_PER_CONNECTION_MAX,
            local_error_resets_max: limits::LOCAL_ERROR_RESETS_MAX,
            pending_accept_resets_max: limits::PENDING_ACCEPT_RESETS_MAX,
            reset_streams_remembered_max: limits::RESET_STREAMS_REMEMBERED_MAX,
            header_list_bytes_max: limits::HEADER_LIST_BYTES_MAX,
            stream_window_bytes: limits::STREAM_WINDOW_BYTES,
            connection_window_bytes: limits::CONNECTION_WINDOW_BYTES,
            request_timeout: limits::REQUEST_TIMEOUT,
            half_sent_bytes_max: limits::HALF_SENT_BYTES_MAX,
            #[cfg(feature = "own-http2")]
            header_block_timeout: limits::HEADER_BLOCK_TIMEOUT,
            #[cfg(feature = "own-http2")]
            own_http2: true,
        }
    }
}

impl ConnectionSettings {
    /// The limits of our own HTTP/2.
    #[cfg(feature = "own-http2")]
    pub(in crate::transport) fn own_http2(&self) -> longlived_http2::Config {
        longlived_http2::Config {
            streams_max: self.streams_max,
            stream_window: self.stream_window_bytes,
            connection_window: self.connection_window_bytes,
            untaken_bytes_max: self.half_sent_bytes_max,
            header_list_bytes_max: self.header_list_bytes_max,
            header_block_timeout: self.header_block_timeout,
            go_away_timeout: limits::GOAWAY_GRACE,
            ..longlived_http2::Config::default()
        }
    }

    /// The HTTP/2 side of these limits.
    pub(super) fn http2(&self) -> h2::server::Builder {
        let mut builder = h2::server::Builder::new();
        builder
            .max_concurrent_streams(self.streams_max)
            .max_local_error_reset_streams(Some(self.local_error_resets_max))
            .max_pending_accept_reset_streams(self.pending_accept_resets_max)
            .max_concurrent_reset_streams(self.reset_streams_remembered_max)
            .max_header_list_size(self.header_list_bytes_max)
            .initial_window_size(self.stream_window_bytes)
            .initial_connection_window_size(self.connection_window_bytes)
            .data_frame_budget(small_frames_budget(self.connection_window_bytes));
        builder
    }
}

/// The budget of HTTP/2 for small DATA frames: a connection's window full of the smallest messages. Each comes in two
/// frames, since some clients send the prefix by itself.
fn small_frames_budget(window_bytes: u32) -> usize {
    let messages = window_bytes.div_ceil(limits::SMALLEST_MESSAGE_BYTES) as usize;
    let rest = limits::SMALLEST_MESSAGE_BYTES as usize - PREFIX_BYTES;
    let small = limits::SMALL_FRAME_BYTES;
    messages * ((small - PREFIX_BYTES) + (small - rest))
}

//! SETTINGS (RFC 9113, 6.5): ours, which the caller chooses, and the peer's.

use std::time::Duration;

use crate::error::{ConnectionError, ErrorCode};
use crate::frame;

const HEADER_TABLE_SIZE: u16 = 0x01;
const ENABLE_PUSH: u16 = 0x02;
const MAX_CONCURRENT_STREAMS: u16 = 0x03;
const INITIAL_WINDOW_SIZE: u16 = 0x04;
const MAX_FRAME_SIZE: u16 = 0x05;
const MAX_HEADER_LIST_SIZE: u16 = 0x06;

/// The initial window of streams and of the connection, until SETTINGS or WINDOW_UPDATE move it (6.9.2).
pub(crate) const INITIAL_WINDOW: u32 = 65_535;
/// The largest window (6.9.1).
pub(crate) const WINDOW_MAX: u32 = 0x7fff_ffff;
/// The size of the table of header compression, until our SETTINGS are acknowledged (6.5.2).
pub(crate) const HEADER_TABLE: u32 = 4_096;

/// The limits of this end.
#[derive(Clone, Debug)]
pub struct Config {
    /// Streams of the peer that may be open at once (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub streams_max: u32,
    /// Request bytes of a stream that may be on their way or not yet taken (SETTINGS_INITIAL_WINDOW_SIZE), 1 to 2^31-1.
    pub stream_window: u32,
    /// Request bytes of a connection that may be on their way, 65,535 to 2^31-1: a smaller window cannot be said (6.9.2).
    pub connection_window: u32,
    /// The size of a header list, as 10.5.1 counts it (SETTINGS_MAX_HEADER_LIST_SIZE). A block over four times as many bytes
    /// ends the connection.
    pub header_list_bytes_max: u32,
    /// The size of the peer's table of header compression (SETTINGS_HEADER_TABLE_SIZE), at most 4,096.
    pub header_table_bytes: u32,
    /// How long the peer may take to acknowledge our SETTINGS (6.5.3).
    pub settings_timeout: Duration,
    /// How long a header block may take to come whole.
    pub header_block_timeout: Duration,
    /// How long the answer to the PING after the first GOAWAY is waited for (6.8).
    pub go_away_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            streams_max: 100,
            stream_window: INITIAL_WINDOW,
            connection_window: INITIAL_WINDOW,
            header_list_bytes_max: 16 * 1024,
            header_table_bytes: HEADER_TABLE,
            settings_timeout: Duration::from_secs(10),
            header_block_timeout: Duration::from_secs(10),
            go_away_timeout: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// What differs from the values that hold without SETTINGS.
    pub(crate) fn settings(&self) -> Vec<(u16, u32)> {
        let mut settings = vec![
            (MAX_CONCURRENT_STREAMS, self.streams_max),
            (MAX_HEADER_LIST_SIZE, self.header_list_bytes_max),
        ];
        if self.stream_window != INITIAL_WINDOW {
            settings.push((INITIAL_WINDOW_SIZE, self.stream_window));
        }
        if self.header_table_bytes != HEADER_TABLE {
            settings.push((HEADER_TABLE_SIZE, self.header_table_bytes));
        }
        settings
    }

    /// The bytes of a header block, compressed, over which the connection ends.
    pub(crate) fn header_block_bytes_max(&self) -> usize {
        4 * self.header_list_bytes_max as usize
    }
}

/// What the peer's SETTINGS say, as far as a server asks. The encoder has no dynamic table, a server pushes nothing and
/// opens no streams, and the limit of header lists is advice (10.5.1): these are read and not kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerSettings {
    pub(crate) initial_window: u32,
    pub(crate) frame_size_max: u32,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            initial_window: INITIAL_WINDOW,
            frame_size_max: frame::SIZE_MIN,
        }
    }
}

impl PeerSettings {
    /// Applies one setting. A value that it must not have is an error; a setting that the RFC does not know is ignored.
    pub(crate) fn apply(&mut self, id: u16, value: u32) -> Result<(), ConnectionError> {
        match id {
            ENABLE_PUSH if value > 1 => {
                return Err(ConnectionError::protocol(
                    "SETTINGS_ENABLE_PUSH is neither 0 nor 1",
                ));
            }
            INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "SETTINGS_INITIAL_WINDOW_SIZE is over 2^31-1",
                ));
            }
            INITIAL_WINDOW_SIZE => self.initial_window = value,
            MAX_FRAME_SIZE if !(frame::SIZE_MIN..=frame::SIZE_MAX).contains(&value) => {
                return Err(ConnectionError::protocol(
                    "SETTINGS_MAX_FRAME_SIZE is not within 2^14 to 2^24-1",
                ));
            }
            MAX_FRAME_SIZE => self.frame_size_max = value,
            _ => {}
        }
        Ok(())
    }
}

/// The settings in a payload, in order.
pub(crate) fn parse(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> {
    payload
        .as_chunks::<6>()
        .0
        .iter()
        .map(|&[a, b, c, d, e, f]| (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])))
}

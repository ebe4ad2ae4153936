//! The server's windows: of one stream, and of its connection.
//!
//! Holds: no more DATA is framed than both let out.

use super::{FRAME_BYTES_MAX, WINDOW_DEFAULT, kind, request, setting};

#[derive(Debug)]
pub(crate) struct SendWindows {
    connection: i64,
    stream: i64,
    /// The initial window of each stream, as far as is known.
    stream_window: u32,
}

impl Default for SendWindows {
    fn default() -> Self {
        Self {
            connection: WINDOW_DEFAULT.into(),
            stream: WINDOW_DEFAULT.into(),
            stream_window: WINDOW_DEFAULT,
        }
    }
}

impl SendWindows {
    /// The server has set something, the window of streams perhaps.
    pub(crate) fn set(&mut self, id: u16, value: u32) {
        if id == setting::INITIAL_WINDOW_SIZE {
            self.stream += i64::from(value) - i64::from(self.stream_window);
            self.stream_window = value;
        }
    }

    /// The server has given more, to the connection if to no stream.
    pub(crate) fn give(&mut self, stream: Option<u32>, increment: u32) {
        match stream {
            None => self.connection += i64::from(increment),
            Some(_) => self.stream += i64::from(increment),
        }
    }

    /// Of the connection alone, for streams that each fit into their initial window.
    pub(crate) fn of_connection(&self) -> u64 {
        u64::try_from(self.connection).unwrap_or(0)
    }

    /// Counts bytes framed on such a stream.
    pub(crate) fn spend_of_connection(&mut self, bytes: usize) {
        self.connection -= i64::try_from(bytes).expect("it fits a frame");
    }

    /// Moves as much of the stream's bytes to `out` as the windows allow, in frames.
    pub(crate) fn frame(&mut self, unframed: &mut Vec<u8>, stream: u32, out: &mut Vec<u8>) {
        let mut framed = 0;
        while framed < unframed.len() {
            let length = usize::try_from(self.connection.min(self.stream))
                .unwrap_or(0)
                .min(FRAME_BYTES_MAX)
                .min(unframed.len() - framed);
            if length == 0 {
                break;
            }
            request::frame_header(out, length, kind::DATA, 0, stream);
            out.extend_from_slice(&unframed[framed..framed + length]);
            framed += length;
            let length = i64::try_from(length).expect("at most a frame");
            self.connection -= length;
            self.stream -= length;
        }
        unframed.drain(..framed);
    }
}

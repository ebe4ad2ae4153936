//! Flow control (RFC 9113, 5.2 and 6.9): the windows of both directions.
//!
//! Credit of the connection is given back as bytes come, and credit of a stream as its call takes them. So a call that takes
//! nothing stops its own stream and no other.

use super::Connection;
use crate::error::{ConnectionError, ErrorCode, StreamError};
use crate::frame;
use crate::output::Output;
use crate::settings::WINDOW_MAX;
use crate::slot::Slot;
use crate::streams::{Stream, Waits};

impl<V> Connection<V> {
    /// The window of a stream for the peer's DATA.
    pub(super) fn stream_receive_window(&self, stream: &Stream<V>) -> i64 {
        i64::from(self.receive_initial) + i64::from(stream.receive_offset)
    }

    /// Bytes of DATA that may be sent on this stream now.
    pub fn send_window(&self, slot: Slot) -> usize {
        usable(self.stream_window(slot), self.send_window)
    }

    /// Whether the stream's own window is used up, whatever the connection's is.
    pub fn is_stream_window_used_up(&self, slot: Slot) -> bool {
        self.stream_window(slot) <= 0
    }

    fn stream_window(&self, slot: Slot) -> i64 {
        stream_window(self.peer.initial_window, self.streams.get(slot))
    }

    /// Bytes of DATA that may be sent on this connection now.
    pub fn connection_send_window(&self) -> u32 {
        self.send_window
    }

    /// Whether [`next_writable`](Self::next_writable) may name a stream.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.look_again
            || (self.streams.first(Waits::Nothing)).is_some()
            || (self.streams.first(Waits::Connection)).is_some()
    }

    /// A stream that waits for a window and now may send, or `None` when there is no more. Those that wait longest come first.
    pub fn next_writable(&mut self) -> Option<Slot> {
        if let Some(slot) = self.streams.first(Waits::Nothing) {
            self.streams.stop_waiting(slot);
            return Some(slot);
        }
        while self.send_window > 0
            && let Some(slot) = self.streams.first(Waits::Connection)
        {
            if self.stream_window(slot) > 0 {
                self.streams.stop_waiting(slot);
                return Some(slot);
            }
            self.streams.wait(slot, Waits::Stream);
        }
        if std::mem::take(&mut self.look_again) {
            self.look_at_stream_waiters();
            return self.next_writable();
        }
        None
    }

    /// One look for any number of SETTINGS since the last.
    fn look_at_stream_waiters(&mut self) {
        let mut next = self.streams.first(Waits::Stream);
        while let Some(slot) = next {
            next = self.streams.after(slot);
            if self.stream_window(slot) > 0 {
                self.streams.wait(slot, Waits::Connection);
            }
        }
    }

    /// The stream has more to send than its windows allow: [`next_writable`](Self::next_writable) names it when it may go on.
    /// [`data`](Self::data) does this by itself for bytes that it does not take.
    pub fn wait_for_window(&mut self, slot: Slot) {
        let what = if self.stream_window(slot) <= 0 {
            Waits::Stream
        } else {
            Waits::Connection
        };
        self.streams.wait(slot, what);
    }

    /// SETTINGS_INITIAL_WINDOW_SIZE has moved all windows of streams; none may pass 2^31-1 (6.9.2).
    pub(super) fn initial_window_moved(&mut self, before: u32) -> Result<(), ConnectionError> {
        let initial = self.peer.initial_window;
        if initial <= before {
            return Ok(());
        }
        self.look_again = true;
        let most = i64::from(WINDOW_MAX) - i64::from(initial);
        if i64::from(self.highest_offset) > most {
            let offsets = self.streams.iter().map(|stream| stream.send_offset);
            self.highest_offset = offsets.max().unwrap_or(0);
            if i64::from(self.highest_offset) > most {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "SETTINGS_INITIAL_WINDOW_SIZE moves a window over 2^31-1 (6.9.2)",
                ));
            }
        }
        Ok(())
    }

    /// WINDOW_UPDATE for the connection.
    pub(super) fn widen_connection(&mut self, increment: u32) -> Result<(), ConnectionError> {
        if increment == 0 {
            return Err(ConnectionError::protocol("WINDOW_UPDATE by 0 (6.9)"));
        }
        match self.send_window.checked_add(increment) {
            Some(window) if window <= WINDOW_MAX => self.send_window = window,
            _ => {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "WINDOW_UPDATE widens the connection's window over 2^31-1 (6.9.1)",
                ));
            }
        }
        Ok(())
    }

    /// WINDOW_UPDATE for a stream.
    pub(super) fn widen_stream(&mut self, slot: Slot, increment: u32) -> Result<(), StreamError> {
        if increment == 0 {
            return Err(StreamError::malformed("WINDOW_UPDATE by 0 (6.9)"));
        }
        let window = self.stream_window(slot) + i64::from(increment);
        if window > i64::from(WINDOW_MAX) {
            return Err(StreamError::new(
                ErrorCode::FLOW_CONTROL_ERROR,
                "WINDOW_UPDATE widens a stream's window over 2^31-1 (6.9.1)",
            ));
        }
        let stream = self.streams.get_mut(slot);
        // The window is within 2^31-1, and the initial window is not negative: so is the offset.
        stream.send_offset += increment.cast_signed();
        self.highest_offset = self.highest_offset.max(stream.send_offset);
        if window > 0 && self.streams.waits(slot) == Some(Waits::Stream) {
            let connection = self.send_window > 0;
            let what = if connection {
                Waits::Nothing
            } else {
                Waits::Connection
            };
            self.streams.wait(slot, what);
        }
        Ok(())
    }

    /// The frame's length, padding included, uses up the connection's window as soon as its head has come.
    pub(super) fn use_receive_window(&mut self, length: u32) -> Result<(), ConnectionError> {
        match self.receive_window.checked_sub(length) {
            Some(window) => self.receive_window = window,
            None => {
                return Err(ConnectionError::new(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "DATA over the connection's window (6.9.1)",
                ));
            }
        }
        Ok(())
    }

    /// Bytes of DATA have come: the connection's window gets them back at half of it, in one frame.
    pub(super) fn return_connection_credit(&mut self, came: u32, out: &mut Output) {
        self.unreturned += came;
        let half = self.config.connection_window / 2;
        if !self.credit_held
            && self.unreturned > 0
            && (self.unreturned >= half || self.receive_window == 0)
        {
            frame::window_update(out, 0, self.unreturned);
            self.receive_window += std::mem::take(&mut self.unreturned);
        }
    }

    /// Bytes of DATA that the peer may send on this connection now.
    pub fn connection_receive_window(&self) -> u32 {
        self.receive_window
    }

    /// Whether nothing is given back to the connection's window now.
    pub fn holds_connection_credit(&self) -> bool {
        self.credit_held
    }

    /// While credit is held, nothing is given back to the connection's window: the peer stops when it is used up.
    pub fn hold_connection_credit(&mut self, held: bool, out: &mut Output) {
        self.credit_held = held;
        self.return_connection_credit(0, out);
    }

    /// The caller no longer holds `bytes` of the stream's request.
    pub fn taken(&mut self, slot: Slot, bytes: usize, out: &mut Output) {
        let stream = self.streams.get_mut(slot);
        debug_assert!(bytes <= stream.untaken as usize, "bytes that have come");
        stream.untaken -= bytes as u32;
        self.return_stream_credit(slot, out);
    }

    /// The stream's window gets back what nobody holds: at half of it, and never later than at 0. A request of which the last frame
    /// has begun needs none.
    pub(super) fn return_stream_credit(&mut self, slot: Slot, out: &mut Output) {
        let stream = self.streams.get_mut(slot);
        if stream.end_seen {
            return;
        }
        // The window for the peer's DATA once the peer knows our SETTINGS. A peer that has used a wider window before has a negative one
        // then (6.9.2), and waits for all of it.
        let whole = i64::from(self.config.stream_window);
        let window = whole + i64::from(stream.receive_offset);
        let credit = whole - i64::from(stream.untaken) - window;
        if (credit >= whole / 2 || window <= 0)
            && let Ok(credit @ 1..) = u32::try_from(credit)
        {
            // The window after it is below 2^31, and the initial window is not negative: so is the offset.
            stream.receive_offset += credit.cast_signed();
            frame::window_update(out, stream.id, credit);
        }
    }
}

/// The window of a stream for DATA to the peer. It may be negative (6.9.2).
pub(super) fn stream_window<V>(initial: u32, stream: &Stream<V>) -> i64 {
    i64::from(initial) + i64::from(stream.send_offset)
}

/// The bytes that two windows allow: a negative one allows nothing.
pub(super) fn usable(stream: i64, connection: u32) -> usize {
    let stream = u32::try_from(stream).unwrap_or(0);
    stream.min(connection) as usize
}

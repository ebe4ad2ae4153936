//! The end of a connection: GOAWAY (RFC 9113, 6.8).

use std::time::Instant;

use super::Connection;
use super::receive::Reading;
use crate::closed::Closed;
use crate::error::{ConnectionError, ErrorCode};
use crate::frame;
use crate::output::Output;
use crate::settings::WINDOW_MAX;

/// The payload of the PING that follows the first GOAWAY. The caller's own pings have others.
pub const GO_AWAY_PING: [u8; 8] = *b"go away?";

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Closing {
    /// Streams are taken.
    Open,
    /// A first GOAWAY says that no more should come; the PING was sent then. What was sent before the peer knew is taken.
    Announced(Instant),
    /// The last GOAWAY was sent: streams above this one are ignored.
    After(u32),
}

impl Closing {
    pub(super) fn ping_sent(self) -> Option<Instant> {
        match self {
            Self::Announced(at) => Some(at),
            Self::Open | Self::After(_) => None,
        }
    }
}

impl<V> Connection<V> {
    /// Tells the peer to open no more streams: a GOAWAY that still takes all, and a PING. At its answer, or after
    /// [`go_away_timeout`](crate::Config::go_away_timeout), a GOAWAY with the last stream that was opened.
    pub fn go_away(&mut self, now: Instant, out: &mut Output) {
        if !matches!(self.closing, Closing::Open) {
            return;
        }
        if self.is_before_preface() {
            // Nothing was opened, and nothing may be sent before our SETTINGS (3.4).
            self.closing = Closing::After(0);
            return;
        }
        self.closing = Closing::Announced(now);
        frame::go_away(out, WINDOW_MAX, ErrorCode::NO_ERROR, "");
        frame::ping(out, GO_AWAY_PING, false);
    }

    /// The last GOAWAY of an orderly end.
    pub(super) fn go_away_now(&mut self, out: &mut Output) {
        self.closing = Closing::After(self.highest_opened);
        // The peer sends a request that is not whole again elsewhere (8.7).
        if let Some(block) = &mut self.block
            && block.is_request()
        {
            block.forget(block.id);
            self.closed.insert(block.id, Closed::ByUs);
        }
        frame::go_away(out, self.highest_opened, ErrorCode::NO_ERROR, "");
    }

    /// Whether the peer was told which stream is the last.
    pub fn is_last_stream_said(&self) -> bool {
        matches!(self.closing, Closing::After(_))
    }

    /// Ends the connection because of an error: GOAWAY with its code. What the peer still sends is taken and dropped, so that the
    /// socket can be closed without losing the GOAWAY. The last stream never rises (6.8). A stranger, whose preface did not come, is
    /// sent nothing (3.4).
    pub fn fail(&mut self, error: &ConnectionError, out: &mut Output) {
        let is_stranger = self.is_before_preface();
        let last = match self.closing {
            Closing::After(last) => last,
            Closing::Open | Closing::Announced(_) => self.highest_opened,
        };
        self.closing = Closing::After(last);
        self.reading = Reading::Over;
        self.half_frame = Vec::new();
        self.block = None;
        self.half_since = None;
        self.settings_sent = None;
        if !is_stranger {
            frame::go_away(out, last, error.code, error.reason);
        }
    }

    pub(super) fn is_before_preface(&self) -> bool {
        matches!(self.reading, Reading::Preface(_))
    }
}

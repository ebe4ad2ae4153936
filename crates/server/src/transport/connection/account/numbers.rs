//! The numbers of an account, for those who watch.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::Account;
use crate::transport::connection::ConnectionContext;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Frames and header blocks that have not come whole, and bytes that were read and not looked at.
    Frames,
    /// Header fields that the request of a call has.
    Fields,
    /// Trailers that their call has not taken.
    Trailers,
    /// Content that its call has not taken, or has and asks for no more yet.
    Content,
    /// Messages that have not come whole, as far as their call has taken them.
    Messages,
    /// What calls hold that were told to end.
    Ended,
    /// Pieces of answers that wait for a window, each counted once for all who wait with it.
    Answers,
    /// Frames that the socket has not taken.
    Unsent,
    /// Tables of header compression and of streams.
    Tables,
}

impl Kind {
    /// All kinds, in their order.
    pub const ALL: [Self; 9] = [
        Self::Frames,
        Self::Fields,
        Self::Trailers,
        Self::Content,
        Self::Messages,
        Self::Ended,
        Self::Answers,
        Self::Unsent,
        Self::Tables,
    ];
    fn as_str(self) -> &'static str {
        match self {
            Self::Frames => "frames",
            Self::Fields => "fields",
            Self::Trailers => "trailers",
            Self::Content => "content",
            Self::Messages => "messages",
            Self::Ended => "ended",
            Self::Answers => "answers",
            Self::Unsent => "unsent",
            Self::Tables => "tables",
        }
    }

    /// Those that count against the caps.
    pub(super) const CAPPED: [Self; 6] = [
        Self::Frames,
        Self::Fields,
        Self::Trailers,
        Self::Content,
        Self::Messages,
        Self::Answers,
    ];
}

/// What one connection makes the node hold.
#[derive(Clone, Debug)]
pub struct ConnectionHeld {
    /// The connection.
    pub connection: Arc<ConnectionContext>,
    /// Bytes, in the order of [`Kind`].
    pub bytes: [usize; Kind::ALL.len()],
    /// Bytes of requests that the peer may send now.
    pub receive_window: u32,
    /// Bytes of answers that the peer lets us send now.
    pub send_window: u32,
    /// For how long the socket has taken nothing.
    pub blocked_for: Option<Duration>,
}

impl ConnectionHeld {
    /// Bytes of one kind.
    pub fn of(&self, kind: Kind) -> usize {
        self.bytes[kind as usize]
    }
}

/// For a line of the log.
impl fmt::Display for ConnectionHeld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for kind in Kind::ALL {
            write!(f, "{} {}, ", kind.as_str(), self.of(kind))?;
        }
        let (receive, send) = (self.receive_window, self.send_window);
        write!(f, "receive window {receive}, send window {send}")?;
        match self.blocked_for {
            Some(time) => write!(f, ", socket full for {time:?}"),
            None => Ok(()),
        }
    }
}

impl Account {
    /// The numbers of now.
    pub(super) fn numbers(&self) -> ConnectionHeld {
        let since = self.blocked_since.load(SeqCst).checked_sub(1);
        let now = self.of.0.began.elapsed();
        ConnectionHeld {
            connection: Arc::clone(&self.connection),
            bytes: Kind::ALL.map(|kind| self.of(kind)),
            receive_window: self.receive_window.load(SeqCst),
            send_window: self.send_window.load(SeqCst),
            blocked_for: since.map(|since| now.saturating_sub(Duration::from_millis(since))),
        }
    }
}

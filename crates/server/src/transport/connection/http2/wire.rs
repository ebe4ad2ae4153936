//! What the streams of a connection share: its HTTP/2, its socket, and the groups that send the same.

use longlived_http2::{Connection, DATA_BYTES_MAX, ErrorCode, Slot};
use tokio::io::AsyncWrite;

use super::io::Io;
use super::policy::Policy;
use crate::limits;
use crate::transport::connection::followers::Followers;
use crate::transport::connection::heartbeats::Heartbeats;
use crate::transport::connection::outlet::{Outlet, Sent};
use crate::transport::connection::unread::{Share, Unread};

/// Bytes that one call hands to HTTP/2: after them the socket is asked whether it takes more.
const BYTES_AT_ONCE: usize = limits::STAGED_BYTES_MAX;

/// The state that the streams of a connection share.
pub(super) struct Wire<T, R> {
    pub(super) frames: Frames<T>,
    pub(super) followers: Followers<R, Slot>,
    pub(super) heartbeats: Heartbeats,
    /// A stream wants to be asked earlier than all others.
    pub(super) heartbeat_moved: bool,
}

/// The frames that go out.
pub(super) struct Frames<T> {
    pub(super) io: Io<T>,
    pub(super) http2: Connection<Sending>,
    pub(super) unread: Unread,
    pub(super) policy: Policy,
    /// The block of a head or of trailers, while it is made.
    pub(super) block: Vec<u8>,
    /// Groups that found the connection's window used up.
    waiting_groups: Vec<u32>,
}

/// A stream, as HTTP/2 keeps it for us.
#[derive(Debug)]
pub(super) struct Sending {
    /// Its place among the streams of the connection.
    pub(super) key: u32,
    /// When its call came, of [`Policy::clock`].
    pub(super) called_at: u32,
    /// Bytes that were sent and for which no WINDOW_UPDATE has come.
    outstanding: i64,
    unread: Share,
}

impl Sending {
    pub(super) fn new(key: u32, called_at: u32) -> Self {
        Self {
            key,
            called_at,
            outstanding: 0,
            unread: Share::default(),
        }
    }
}

impl<T> Frames<T> {
    pub(super) fn new(io: Io<T>, http2: Connection<Sending>, policy: Policy) -> Self {
        Self {
            policy,
            unread: Unread::new(http2.connection_send_window().into()),
            io,
            http2,
            block: Vec::new(),
            waiting_groups: Vec::new(),
        }
    }

    /// The peer has read: it widens a window.
    pub(super) fn widened(&mut self, slot: Option<Slot>, increment: u32) {
        let Some(slot) = slot else {
            let window = self.http2.connection_send_window();
            self.unread.connection_window(window.into());
            return;
        };
        let Sending {
            outstanding,
            unread,
            ..
        } = self.http2.value_mut(slot);
        let before = *outstanding;
        *outstanding -= i64::from(increment);
        self.unread.given_back(unread, before, *outstanding);
    }

    /// A stream is over.
    pub(super) fn forget(&mut self, sending: &Sending) {
        self.unread.closed(sending.unread);
    }

    /// Closes a stream whose response has ended.
    pub(super) fn close(&mut self, slot: Slot) {
        if !self.http2.is_request_ended(slot) {
            self.policy.closed_early();
        }
        let sending = self.http2.close(slot, &mut self.io.out);
        self.forget(&sending);
    }

    /// Resets a stream.
    pub(super) fn reset(&mut self, slot: Slot, code: ErrorCode) {
        if !self.http2.is_request_ended(slot) {
            self.policy.closed_early();
        }
        let sending = self.http2.reset(slot, code, &mut self.io.out);
        self.forget(&sending);
    }

    /// Groups that may go on, now that the connection's window has capacity.
    pub(super) fn take_waiting_groups(&mut self) -> Vec<u32> {
        if self.http2.connection_send_window() == 0 {
            return Vec::new();
        }
        std::mem::take(&mut self.waiting_groups)
    }
}

impl<T: AsyncWrite + Unpin> Outlet for Frames<T> {
    type Member = Slot;

    fn send(&mut self, slot: &mut Slot, bytes: &[u8]) -> Sent {
        let mut done = 0;
        while done < bytes.len() {
            if !self.io.make_room() {
                return Sent::Blocked(done);
            }
            let part = &bytes[done..];
            let part = &part[..part.len().min(BYTES_AT_ONCE)];
            let sent = self.http2.data(*slot, part, false, &mut self.io.out);
            let sending = self.http2.value_mut(*slot);
            sending.outstanding += i64::from(sent as u32);
            for frame in part[..sent].chunks(DATA_BYTES_MAX) {
                self.unread.sent(&mut sending.unread, frame.len());
                self.policy.sent_data(frame.len());
            }
            done += sent;
            if sent < part.len() {
                return Sent::Part(done);
            }
        }
        Sent::All
    }

    fn is_blocked(&self) -> bool {
        self.io.is_blocked()
    }

    fn has_too_much_unread(&mut self, _slot: &mut Slot) -> bool {
        self.unread.is_too_much()
    }

    fn is_used_up(&self) -> bool {
        self.http2.connection_send_window() == 0
    }

    fn wait_as_group(&mut self, group: u32) {
        self.waiting_groups.push(group);
    }

    fn forget_group(&mut self, group: u32) {
        self.waiting_groups.retain(|one| *one != group);
    }
}

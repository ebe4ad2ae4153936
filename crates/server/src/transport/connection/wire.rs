//! What the streams of a connection share: its HTTP/2, its socket, and the groups that send the same.

use longlived_http2::{Connection, DATA_BYTES_MAX, ErrorCode, HEADS_MAX, Heads, Slot};
use tokio::io::AsyncWrite;

use super::followers::Followers;
use super::heartbeats::Heartbeats;
use super::io::Io;
use super::policy::Policy;
use super::unread::{Share, Unread};
use crate::limits;

/// Bytes that one call hands to HTTP/2: after them the socket is asked whether it takes more.
const BYTES_AT_ONCE: usize = limits::STAGED_BYTES_MAX;
const _: () = assert!(BYTES_AT_ONCE <= HEADS_MAX * DATA_BYTES_MAX);

/// The state that the streams of a connection share.
pub(super) struct Wire<T, R> {
    pub(super) frames: Frames<T>,
    pub(super) followers: Followers<R>,
    pub(super) heartbeats: Heartbeats,
}

/// The frames that go out.
pub(super) struct Frames<T> {
    pub(super) io: Io<T>,
    pub(super) http2: Connection<Sending>,
    pub(super) unread: Unread,
    pub(super) policy: Policy,
    /// In a box, which most connections have none of.
    queues: Option<Box<Queues>>,
    /// What a piece of a stream holds at most.
    piece_bytes: u32,
}

#[derive(Debug, Default)]
struct Queues {
    /// Groups that found the connection's window used up.
    groups: Vec<u32>,
    /// Streams that keep a piece which nobody has counted yet.
    uncounted: Vec<u32>,
}

/// A stream, as HTTP/2 keeps it for us.
#[derive(Debug)]
pub(super) struct Sending {
    /// Its place among the streams of the connection.
    pub(super) key: u32,
    /// When its call came, of [`Policy::clock`].
    pub(super) called_at: u32,
    unread: Share,
}

impl Sending {
    pub(super) fn new(key: u32, called_at: u32) -> Self {
        Self {
            key,
            called_at,
            unread: Share::default(),
        }
    }
}

impl<T> Frames<T> {
    pub(super) fn new(io: Io<T>, http2: Connection<Sending>, policy: Policy) -> Self {
        Self {
            policy,
            unread: Unread::new(http2.connection_send_window()),
            io,
            http2,
            queues: None,
            piece_bytes: limits::PIECE_BYTES as u32,
        }
    }

    /// The peer has read: it widens a window.
    pub(super) fn widened(&mut self, slot: Option<Slot>, increment: u32) {
        let Some(slot) = slot else {
            let window = self.http2.connection_send_window();
            self.unread.connection_window(window);
            return;
        };
        let sending = self.http2.value_mut(slot);
        self.unread.stream_window(&mut sending.unread, increment);
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
        let sending = self.http2.close(slot, self.io.out());
        self.forget(&sending);
    }

    /// Resets a stream.
    pub(super) fn reset(&mut self, slot: Slot, code: ErrorCode) {
        if !self.http2.is_request_ended(slot) {
            self.policy.closed_early();
        }
        let sending = self.http2.reset(slot, code, self.io.out());
        self.forget(&sending);
    }

    /// Streams have come or gone: the pieces of all of them hold at most so much together, if each waits with one.
    pub(super) fn share_among_streams(&mut self, bytes: usize) {
        let part = bytes / self.http2.open_streams().max(1);
        self.piece_bytes = part.clamp(limits::PIECE_BYTES_LEAST, limits::PIECE_BYTES) as u32;
    }

    /// What a piece of a stream holds at most, or one event that is larger.
    pub(super) fn piece_bytes(&self) -> usize {
        self.piece_bytes as usize
    }

    /// Whether groups may wait for the connection's window, or streams keep pieces that nobody has counted.
    pub(super) fn has_queues(&self) -> bool {
        self.queues.is_some()
    }

    /// Groups that may go on, now that the connection's window has capacity.
    pub(super) fn take_waiting_groups(&mut self) -> Vec<u32> {
        if self.http2.connection_send_window() == 0 {
            return Vec::new();
        }
        self.take_queue(|queues| &mut queues.groups)
    }

    /// A stream keeps a piece that is to be counted.
    pub(super) fn keeps_piece(&mut self, stream: u32) {
        let queues = self.queues.get_or_insert_default();
        queues.uncounted.push(stream);
    }

    /// Streams that keep pieces which nobody has counted yet.
    pub(super) fn take_uncounted(&mut self) -> Vec<u32> {
        self.take_queue(|queues| &mut queues.uncounted)
    }

    fn take_queue(&mut self, queue: impl FnOnce(&mut Queues) -> &mut Vec<u32>) -> Vec<u32> {
        let Some(queues) = &mut self.queues else {
            return Vec::new();
        };
        let taken = std::mem::take(queue(queues));
        if queues.groups.is_empty() && queues.uncounted.is_empty() {
            self.queues = None;
        }
        taken
    }

    /// Whether the last written bytes still wait for the socket, so that more would only wait behind them.
    pub(super) fn is_blocked(&self) -> bool {
        self.io.is_blocked()
    }

    /// Whether the peer may have too many small frames unread for another one.
    pub(super) fn has_too_much_unread(&self) -> bool {
        self.unread.is_too_much()
    }

    /// Whether the connection's window is used up.
    pub(super) fn is_used_up(&self) -> bool {
        self.http2.connection_send_window() == 0
    }

    /// A group found the connection's window used up. It does not wait already.
    pub(super) fn wait_as_group(&mut self, group: u32) {
        self.queues.get_or_insert_default().groups.push(group);
    }

    /// A group waits no longer.
    pub(super) fn forget_group(&mut self, group: u32) {
        if let Some(queues) = &mut self.queues {
            queues.groups.retain(|one| *one != group);
        }
    }
}

impl<T: AsyncWrite + Unpin> Frames<T> {
    /// Sends as much of a stream's bytes as may go now.
    pub(super) fn send(&mut self, slot: Slot, bytes: &[u8]) -> Sent {
        if bytes.len() >= limits::STAGED_WRITE_BYTES_MAX || !self.io.has_room() {
            return self.send_in_parts(slot, bytes);
        }
        let (sent, stream) = (self.http2).data_and_value(slot, bytes, false, self.io.out());
        if sent > 0 {
            self.unread.sent(&mut stream.unread, sent);
            self.policy.sent_data(sent);
        }
        if sent == bytes.len() {
            Sent::All
        } else {
            Sent::Part(sent)
        }
    }

    #[inline(never)]
    fn send_in_parts(&mut self, slot: Slot, bytes: &[u8]) -> Sent {
        let mut done = 0;
        while done < bytes.len() {
            if !self.io.has_room() && !self.io.make_room() {
                return Sent::Blocked(done);
            }
            let part = &bytes[done..];
            let part = &part[..part.len().min(BYTES_AT_ONCE)];
            let large = part.len() >= limits::STAGED_WRITE_BYTES_MAX;
            let (sent, stream) = if large && self.io.takes_pieces() {
                let mut heads = Heads::default();
                let (sent, stream) = self.http2.data_by_reference(slot, part, &mut heads);
                if sent > 0 {
                    self.io.write_frames(&heads, &part[..sent]);
                }
                (sent, stream)
            } else {
                (self.http2).data_and_value(slot, part, false, self.io.out())
            };
            for frame in part[..sent].chunks(DATA_BYTES_MAX) {
                self.unread.sent(&mut stream.unread, frame.len());
                self.policy.sent_data(frame.len());
            }
            done += sent;
            if sent < part.len() {
                return Sent::Part(done);
            }
        }
        Sent::All
    }
}

/// The outcome for bytes that were to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All of it is on its way.
    All,
    /// This part of it; for the rest the stream waits for capacity in a window.
    Part(usize),
    /// This part of it; for the rest the socket is full.
    Blocked(usize),
}

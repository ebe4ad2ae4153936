//! Where the bytes of streams go out: the frames of a connection, within its windows.

/// Sends bytes of streams. Both ways to speak HTTP/2 are outlets.
pub(super) trait Outlet {
    /// A stream, as the outlet knows it.
    type Member: Copy;

    /// Sends as much as may go now.
    fn send(&mut self, member: &mut Self::Member, bytes: &[u8]) -> Sent;

    /// Whether the last written bytes still wait for the socket, so that more would only wait behind them.
    fn is_blocked(&self) -> bool;

    /// Whether the peer may have too many small frames unread for another one of this stream.
    fn has_too_much_unread(&mut self, member: &mut Self::Member) -> bool;

    /// Whether the connection's window is used up.
    fn is_used_up(&self) -> bool;

    /// A group found the connection's window used up. It does not wait already.
    fn wait_as_group(&mut self, group: u32);

    /// A group waits no longer.
    fn forget_group(&mut self, group: u32);
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
    /// So much of it; the stream is to end, since its peer breaks the rules.
    Overflown(usize),
}

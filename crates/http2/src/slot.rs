//! The place of an open stream in its connection.

/// The place of an open stream. It is valid until the stream is closed: by [`close`](crate::Connection::close),
/// [`reset`](crate::Connection::reset), or an event that gives the stream's value back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub(crate) u32);

impl Slot {
    /// A number below the most streams that were ever open at once, for tables beside the connection.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

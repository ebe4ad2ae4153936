//! What one request of an account holds. Dropping the count gives it back.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::{Account, Kind};

/// The header fields, the content and the trailers of one request.
#[derive(Debug)]
pub(in super::super) struct Held {
    of: Arc<Account>,
    fields: usize,
    content: usize,
    message: usize,
    trailers: usize,
    /// Written off: the call was told to end.
    ended: usize,
    /// Among the senders of the account.
    sends: bool,
}

impl Held {
    /// Nothing is held yet.
    pub(in super::super) fn nothing(of: Arc<Account>) -> Self {
        Self {
            of,
            fields: 0,
            content: 0,
            message: 0,
            trailers: 0,
            ended: 0,
            sends: false,
        }
    }

    /// The bytes that are held of content, and of a message that the call has taken and that is not whole.
    pub(in super::super) fn set(&mut self, content: usize, message: usize) {
        let sends = content + message > 0;
        // A sender is counted before its bytes, and as long as they are.
        if sends && !self.sends {
            self.of.senders.fetch_add(1, SeqCst);
        }
        let gone = self.sends && !sends;
        self.sends = sends;
        if gone {
            self.of.senders.fetch_sub(1, SeqCst);
        }
        self.of.change([
            (Kind::Content, self.content, content),
            (Kind::Messages, self.message, message),
        ]);
        (self.content, self.message) = (content, message);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
        self.set_fields(0);
    }
}

impl Held {
    /// The bytes that are held of content; of the message that is not whole as many as before.
    pub(in super::super) fn set_content(&mut self, bytes: usize) {
        self.set(bytes, self.message);
    }

    /// The bytes that header fields hold.
    pub(in super::super) fn set_fields(&mut self, bytes: usize) {
        self.of.change([(Kind::Fields, self.fields, bytes)]);
        self.fields = bytes;
    }

    /// The bytes that trailers hold.
    pub(in super::super) fn set_trailers(&mut self, bytes: usize) {
        self.of.change([(Kind::Trailers, self.trailers, bytes)]);
        self.trailers = bytes;
    }

    /// Nothing is held any more, but for header fields.
    pub(in super::super) fn clear(&mut self) {
        self.set(0, 0);
        self.set_trailers(0);
        self.of.change([(Kind::Ended, self.ended, 0)]);
        self.ended = 0;
    }

    /// All that is held.
    pub(in super::super) fn bytes(&self) -> HeldBytes {
        HeldBytes {
            sent: self.content + self.message,
            others: self.fields + self.trailers,
        }
    }

    /// The call was told to end. What it was `given` and has not passed on, and its message that is not whole, count against no cap until
    /// it lets go of them.
    pub(in super::super) fn write_off(&mut self, given: usize) {
        let left = given + self.message + self.fields;
        self.set(0, 0);
        self.set_fields(0);
        self.of.change([(Kind::Ended, self.ended, left)]);
        self.ended = left;
    }
}

impl HeldBytes {
    /// All of it.
    pub(in super::super) fn total(self) -> usize {
        self.sent + self.others
    }
}

/// What one request holds.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct HeldBytes {
    /// Content, and the message that is not whole.
    pub(in super::super) sent: usize,
    /// Header fields and trailers.
    pub(in super::super) others: usize,
}

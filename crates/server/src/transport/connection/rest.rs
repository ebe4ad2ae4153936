//! The rest of a piece of an answer, which waits for a window or the socket.
//!
//! Does not: send it; [`Outgoing`](super::outgoing::Outgoing) does.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::account::{Account, Waiting};

/// Bytes that wait, or none. In a box: most streams have none for hours, and a node has a million of them.
#[derive(Default)]
pub(super) struct Rest(Option<Box<Kept>>);

struct Kept {
    /// Given back before the bytes are: others may get their memory then.
    counted: Option<Waiting>,
    bytes: Bytes,
    /// Of the piece that it is the rest of: they stay in memory with it.
    whole: usize,
    /// When the peer took something of the answer last.
    since: Instant,
}

/// What is known of a piece of which a rest was kept.
#[derive(Default)]
pub(super) struct Before {
    counted: Option<Waiting>,
    whole: usize,
    /// When the peer took something of the answer last; `None` is now.
    pub(super) since: Option<Instant>,
}

impl Before {
    /// Nothing was kept of a piece of this size.
    pub(super) fn none(whole: usize) -> Self {
        Self {
            whole,
            ..Self::default()
        }
    }
}

impl Rest {
    /// The rest of a piece that has `whole` bytes, kept from now on.
    pub(super) fn new(bytes: Bytes, whole: usize) -> Self {
        Self::again(bytes, Before::none(whole))
    }

    /// The rest of a piece of which some was kept before, perhaps.
    pub(super) fn again(bytes: Bytes, before: Before) -> Self {
        let kept = |bytes| {
            Box::new(Kept {
                counted: before.counted,
                bytes,
                whole: before.whole,
                since: before.since.unwrap_or_else(Instant::now),
            })
        };
        Self((!bytes.is_empty()).then_some(bytes).map(kept))
    }

    pub(super) fn take(&mut self) -> (Bytes, Before) {
        let Some(kept) = self.0.take() else {
            return (Bytes::new(), Before::default());
        };
        let before = Before {
            counted: kept.counted,
            whole: kept.whole,
            since: Some(kept.since),
        };
        (kept.bytes, before)
    }

    /// Since when the peer has taken nothing of an answer that waits.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.0.as_ref().map(|kept| kept.since)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether nobody has counted it.
    pub(super) fn is_uncounted(&self) -> bool {
        (self.0.as_ref()).is_some_and(|kept| kept.counted.is_none())
    }

    /// Counts it, if nobody has.
    pub(super) fn count(&mut self, account: &Arc<Account>) {
        if let Some(kept) = &mut self.0 {
            (kept.counted).get_or_insert_with(|| Waiting::with(&kept.bytes, kept.whole, account));
        }
    }

    /// Its part of what is counted for it, in bytes.
    pub(super) fn counted_bytes(&self) -> usize {
        let counted = self.0.as_ref().and_then(|kept| kept.counted.as_ref());
        counted.map_or(0, Waiting::part)
    }
}

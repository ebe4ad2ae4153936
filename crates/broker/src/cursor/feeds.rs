//! The filters of a cursor, each with the channel that it reads, and how they change while it is being read.
//!
//! Does not: read the channels.

use std::sync::Arc;

use smallvec::SmallVec;

use super::Cursor;
use crate::{
    channel::{Attachment, Channel},
    log::{AttachError, Log},
    position::{Position, Sequence},
    signal::Signal,
    topic::TopicFilter,
};

/// One filter of a cursor.
pub(super) struct Feed {
    pub(super) attachment: Attachment,
    // Only events after this are wanted of it.
    pub(super) after: Sequence,
}

impl Feed {
    pub(super) fn filter(&self) -> &TopicFilter {
        self.attachment.channel().filter()
    }
}

impl Cursor {
    /// The filters, in the order they were added.
    pub fn filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.feeds.iter().map(Feed::filter)
    }

    /// The tails it reads, for whoever watches it from outside.
    pub fn tails(&self) -> Tails {
        let tail = |feed: &Feed| (feed.attachment.channel().clone(), feed.after);
        Tails(self.feeds.iter().map(tail).collect())
    }

    /// What is needed to wait for a channel without borrowing the cursor.
    pub fn attacher(&self) -> Attacher {
        Attacher {
            log: self.log.clone(),
            signal: self.signal.clone(),
        }
    }

    /// Adds a filter whose channel was attached; it holds for events after the position returned.
    pub fn add(&mut self, attached: Attached) -> Position {
        // What is visible now has passed; the channel has everything that comes after.
        let channel = attached.0.channel();
        let after = self.log.visible().max(channel.complete_after());
        self.feeds.push(Feed {
            attachment: attached.0,
            after,
        });
        Position {
            epoch: self.log.epoch().get(),
            sequence: after,
        }
    }

    /// Removes a filter; it holds for events after the position returned. `None` when it has none such.
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<Position> {
        let index = self.feeds.iter().position(|feed| feed.filter() == filter)?;
        // Read with the filter, not yet handed out: read again without it.
        self.page = None;
        self.reading = None;
        self.feeds.remove(index);
        Some(self.position())
    }

    /// Whether a filter is one of the cursor's.
    pub fn follows(&self, filter: &TopicFilter) -> bool {
        self.filters().any(|own| own == filter)
    }
}

/// The live tails of a cursor's filters.
pub struct Tails(SmallVec<[(Arc<Channel>, Sequence); 1]>);

impl Tails {
    /// Whether they have everything that is due after a position.
    pub fn reach(&self, position: Sequence) -> bool {
        let reaches = |(tail, after): &(Arc<Channel>, Sequence)| tail.reaches(position.max(*after));
        self.0.iter().all(reaches)
    }
}

/// Attaches channels for a cursor that is being polled elsewhere.
pub struct Attacher {
    log: Log,
    signal: Arc<Signal>,
}

/// A channel that a cursor may add.
pub struct Attached(Attachment);

impl Attacher {
    /// Waits for the channel of a filter.
    pub async fn attach(self, filter: TopicFilter) -> Result<Attached, AttachError> {
        self.log.attach(&filter, &self.signal).await.map(Attached)
    }
}

//! The filters of a cursor, each with the live tail that it reads, and how they change while it is being read.
//!
//! Does not: read the live tails.

use std::sync::Arc;

use longlived_topic::TopicFilter;
use smallvec::SmallVec;

use super::Cursor;
use crate::{
    faults::{Fault, planted},
    live_tail::{Attachment, LiveTail},
    log::AttachError,
    position::{Position, Sequence},
};

/// One filter of a cursor.
pub(super) struct Feed {
    pub(super) attachment: Attachment,
}

impl Feed {
    pub(super) fn filter(&self) -> &TopicFilter {
        self.attachment.tail().filter()
    }
}

impl Cursor {
    /// The filters, in the order they were added.
    pub fn filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.feeds.iter().map(Feed::filter)
    }

    /// The tails that the cursor reads, for code that watches it from outside.
    pub fn tails(&self) -> Tails {
        let tail = |feed: &Feed| feed.attachment.tail().clone();
        Tails(self.feeds.iter().map(tail).collect())
    }

    /// Waits for the live tail of a filter, without borrowing the cursor.
    pub fn attach(
        &self,
        filter: TopicFilter,
    ) -> impl Future<Output = Result<Attached, AttachError>> + Send + use<> {
        let (log, signal) = (self.log.clone(), self.signal.clone());
        async move { log.attach(&filter, &signal).await.map(Attached) }
    }

    /// Adds a filter whose live tail was attached. It holds from the position of the cursor, as all its filters do. A
    /// subscriber that resumes after the returned position, with all of them, receives the same events.
    pub fn add(&mut self, attached: Attached) -> Position {
        // If the other filters have nothing to read, the new one begins with the next event.
        self.settle();
        self.read_again();
        if planted(Fault::AddedAheadOfTheStream) {
            self.position = self.position.max(self.log.visible());
        }
        if !attached.0.tail().reaches(self.position) {
            // Its history is read, as after a return: that is no sign of a slow reader.
            self.set_catching_up(true);
            self.caught_up_at = 0;
        }
        self.feeds.push(Feed {
            attachment: attached.0,
        });
        self.position()
    }

    /// Removes a filter; it holds for events after the position returned. `None` when it has none such.
    pub fn remove(&mut self, filter: &TopicFilter) -> Option<Position> {
        let index = self.feeds.iter().position(|feed| feed.filter() == filter)?;
        self.read_again();
        self.feeds.remove(index);
        Some(self.position())
    }

    /// A page that was read for the former filters, and not handed out yet, is read again for the present ones.
    fn read_again(&mut self) {
        self.history = None;
    }

    /// Whether a filter is one of the cursor's.
    pub fn follows(&self, filter: &TopicFilter) -> bool {
        self.filters().any(|own| own == filter)
    }
}

/// The live tails of a cursor's filters.
#[derive(Clone, Default)]
pub struct Tails(SmallVec<[Arc<LiveTail>; 1]>);

impl Tails {
    /// Whether the tails hold every event after a position.
    pub fn reach(&self, position: Sequence) -> bool {
        self.0.iter().all(|tail| tail.reaches(position))
    }
}

/// A live tail that a cursor may add.
pub struct Attached(Attachment);

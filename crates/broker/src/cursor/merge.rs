//! Reading the live tails of several filters as one: in log order, each event once.

use std::collections::VecDeque;

use super::{Cursor, Delivery, Feed, taken::Taken};
use crate::{
    faults::{Fault, planted},
    frame::Slice,
    live_tail::BehindTail,
    position::Sequence,
    store::{Page, merge},
};

/// The result of a look at the tails.
pub(super) enum Live {
    Nothing,
    /// All of it at once, through this sequence.
    Delivery(Delivery, Sequence),
    /// To be handed out in parts.
    Page(Page),
}

impl Cursor {
    /// The events of the live tails after the position, up to `visible`; an error when some tail no longer reaches
    /// back.
    pub(super) fn collect_live(&self, visible: Sequence) -> Result<Live, BehindTail> {
        if let [feed] = self.feeds.as_slice() {
            self.collect_one(feed, visible)
        } else {
            self.collect_many(visible)
        }
    }

    /// One filter is the usual case: its live tail's events go out as they are, without a page in between.
    fn collect_one(&self, feed: &Feed, visible: Sequence) -> Result<Live, BehindTail> {
        let after = self.position;
        let mut taken = Taken::default();
        let bytes_max = self.delivery_bytes();
        if !taken.take(feed.attachment.tail(), after, visible, bytes_max)? {
            return Ok(Live::Nothing);
        }
        if taken.is_plain(self.options.message_bytes_max, self.options.encoding) {
            let delivery = Delivery::Events {
                bytes: self.join(&taken.run),
                count: taken.count(),
            };
            return Ok(Live::Delivery(delivery, taken.through));
        }
        Ok(Live::Page(Page {
            slices: taken.run.into_iter().collect(),
            through: taken.through,
            ..Page::default()
        }))
    }

    fn collect_many(&self, visible: Sequence) -> Result<Live, BehindTail> {
        let whole = self.delivery_bytes();
        let bytes_max = whole / self.feeds.len().max(1);
        let mut sources: Vec<VecDeque<Slice>> = Vec::new();
        let mut through = visible;
        for feed in &self.feeds {
            let after = self.position;
            let mut taken = Taken::default();
            if taken.take_chunks(feed.attachment.tail(), after, visible, bytes_max)? {
                taken.cut(whole);
                if !planted(Fault::MergePassesWhatIsLeft) {
                    through = through.min(taken.through);
                }
                sources.push(taken.run.into_iter().collect());
            }
        }
        let slices = match sources.len() {
            0 => return Ok(Live::Nothing),
            1 => sources.pop().unwrap_or_default(),
            _ => merge(sources, through),
        };
        Ok(Live::Page(Page {
            slices,
            through,
            ..Page::default()
        }))
    }
}

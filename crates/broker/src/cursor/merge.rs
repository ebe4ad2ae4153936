//! Reading the tails of several channels as one: in log order, each event once.

use std::collections::VecDeque;

use super::{Cursor, DELIVERY_BYTES, Delivery, Feed};
use crate::{
    channel::{BehindTail, Run},
    faults::{Fault, planted},
    frame::Slice,
    position::Sequence,
    store::{Page, merge},
};

/// What the tails hold.
pub(super) enum Live {
    Nothing,
    /// All of it at once, through this sequence.
    Delivery(Delivery, Sequence),
    /// To be handed out in parts.
    Page(Page),
}

impl Cursor {
    /// What the channels' tails hold after the position, up to `visible`; an error when some tail no longer
    /// reaches back.
    pub(super) fn collect_live(&self, visible: Sequence) -> Result<Live, BehindTail> {
        if let [feed] = self.feeds.as_slice() {
            self.collect_one(feed, visible)
        } else {
            self.collect_many(visible)
        }
    }

    /// One filter is the usual case: what its channel has goes out as it is, without a page in between.
    fn collect_one(&self, feed: &Feed, visible: Sequence) -> Result<Live, BehindTail> {
        let channel = feed.attachment.channel();
        let after = self.position.max(feed.after);
        if !channel.is_due(after) {
            return Ok(Live::Nothing);
        }
        let mut run = Run::new();
        let all = channel.collect(after, visible, DELIVERY_BYTES, &mut run)?;
        let Some(last) = run.last().map(Slice::last) else {
            return Ok(Live::Nothing);
        };
        let through = if all { visible } else { last };
        let limit = self.options.event_bytes_max;
        let bytes: usize = run.iter().map(Slice::len_bytes).sum();
        let plain = bytes <= DELIVERY_BYTES && run.iter().all(|s| s.largest_frame() <= limit);
        if plain {
            let delivery = Delivery::Events {
                bytes: self.join(&run),
                count: run.iter().map(Slice::count).sum(),
            };
            return Ok(Live::Delivery(delivery, through));
        }
        Ok(Live::Page(Page {
            slices: run.into_iter().collect(),
            through,
            ..Page::default()
        }))
    }

    fn collect_many(&self, visible: Sequence) -> Result<Live, BehindTail> {
        let bytes_max = DELIVERY_BYTES / self.feeds.len().max(1);
        let mut sources: Vec<VecDeque<Slice>> = Vec::new();
        let mut through = visible;
        for feed in &self.feeds {
            let channel = feed.attachment.channel();
            let after = self.position.max(feed.after);
            if !channel.is_due(after) {
                // The tail may have let go of what this reader has not seen, but then it is due.
                continue;
            }
            let mut due = Run::new();
            let all = channel.collect(after, visible, bytes_max, &mut due)?;
            if let Some(last) = due.last() {
                if !all && !planted(Fault::MergePassesWhatIsLeft) {
                    through = through.min(last.last());
                }
                sources.push(due.into_iter().collect());
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

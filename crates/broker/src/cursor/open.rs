//! Where a subscription begins, and what can be said about it before its first event.

use std::sync::Arc;

use futures_util::future::try_join_all;
use smallvec::SmallVec;

use super::{Cursor, CursorError, Feed, Gap, GapPolicy, GapReason, ReadOptions, Waiting};
use crate::{
    channel::{Attachment, Channel},
    faults::{Fault, planted},
    log::Log,
    position::{Position, Sequence},
    signal::Signal,
    store::{FilterFrom, Page, Query},
    topic::TopicFilter,
};

/// Where a cursor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the next event.
    Next,
    /// With everything that is kept.
    Earliest,
    /// With the first event published at or after a time, in nanoseconds since 1970.
    Time(i64),
    /// After a position.
    After(Position),
}

/// How a cursor began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing was to be resumed.
    New,
    /// Nothing was missed as far as can be said now.
    Resumed,
    /// Something was missed; a gap follows at once.
    Reset,
}

/// A cursor and what its subscriber is told first.
pub struct Opened {
    /// Ready to be polled.
    pub cursor: Cursor,
    /// How it began.
    pub outcome: Outcome,
    /// Everything after this that matches will follow; before any gap.
    pub position: Position,
    /// Retention has removed matching events after the position asked for, the last of them here; 0 = none that
    /// is known of.
    pub gone_through: Sequence,
}

impl Cursor {
    /// Attaches to the channels of all filters (at least one), then finds the place to begin: whatever is
    /// published from here on is seen, so history read afterwards leaves no hole.
    pub async fn open(
        log: &Log,
        filters: &[TopicFilter],
        begin: Begin,
        options: ReadOptions,
        signal: Arc<Signal>,
    ) -> Result<Opened, CursorError> {
        let attachments = match filters {
            [filter] => vec![log.attach(filter, &signal).await?],
            // All at once: each channel that is new waits for its turn with the sequencer.
            filters => {
                let attachments = filters.iter().map(|filter| log.attach(filter, &signal));
                try_join_all(attachments).await?
            }
        };
        Self::begin(log, filters, attachments, begin, options, signal).await
    }

    /// Reads history alone: no channel is linked, no reader counted and the sequencer not asked. It ends with
    /// [`Delivery::Current`](super::Delivery::Current), after which nothing wakes it.
    pub async fn open_history(
        log: &Log,
        filters: &[TopicFilter],
        begin: Begin,
        options: ReadOptions,
    ) -> Result<Opened, CursorError> {
        let signal = Arc::new(Signal::default());
        let attach = |filter: &TopicFilter| Channel::unlinked(filter.clone()).attach(&signal);
        let attachments = filters.iter().filter_map(attach).collect();
        Self::begin(log, filters, attachments, begin, options, signal).await
    }

    async fn begin(
        log: &Log,
        filters: &[TopicFilter],
        attachments: Vec<Attachment>,
        begin: Begin,
        options: ReadOptions,
        signal: Arc<Signal>,
    ) -> Result<Opened, CursorError> {
        let feeds: SmallVec<[Feed; 1]> = attachments
            .into_iter()
            .map(|attachment| Feed {
                attachment,
                after: 0,
            })
            .collect();
        let mut opening = Opening {
            log,
            filters,
            feeds: &feeds,
            visible: log.visible(),
            options,
            gap: None,
            gone_before: 0,
            not_before: None,
            gone_through: 0,
        };
        // In a box of its own: most begin with the next event and look at no history, and many begin together.
        let (outcome, position) = match begin {
            Begin::Next => (Outcome::New, opening.visible),
            begin => Box::pin(opening.place(begin)).await?,
        };
        let Opening {
            gap,
            gone_before,
            not_before,
            gone_through,
            ..
        } = opening;
        signal.set_sequence(position);
        let cursor = Self {
            log: log.clone(),
            signal,
            feeds,
            options,
            position,
            gone_before,
            catching_up: begin != Begin::Next,
            caught_up_at: 0,
            page: None,
            reading: None,
            first_gap: gap.map(Box::new),
            waiting: not_before.map(Waiting::until).map(Box::new),
        };
        Ok(Opened {
            position: cursor.position(),
            cursor,
            outcome,
            gone_through,
        })
    }
}

/// The most pages that are read ahead to find the first event that is kept.
const PAGES_MAX: usize = 64;

struct Opening<'a> {
    log: &'a Log,
    filters: &'a [TopicFilter],
    feeds: &'a [Feed],
    visible: Sequence,
    options: ReadOptions,
    gap: Option<Gap>,
    gone_before: Sequence,
    not_before: Option<i64>,
    gone_through: Sequence,
}

impl Opening<'_> {
    async fn place(&mut self, begin: Begin) -> Result<(Outcome, Sequence), CursorError> {
        match begin {
            Begin::Next => Ok((Outcome::New, self.visible)),
            Begin::Earliest => {
                let page = self.first_after(0).await?;
                self.gone_before = page.trimmed_through;
                Ok((Outcome::New, lost_before(&page)))
            }
            Begin::Time(nanos) => {
                let before = self.log.store().before_time(nanos).await?;
                // What is gone of the time asked for is announced, whatever the policy for resuming.
                self.gone_before = self.first_after(before).await?.trimmed_through;
                if before >= self.visible {
                    // The time may lie ahead: what is published until then is not wanted either.
                    self.not_before = Some(nanos);
                }
                Ok((Outcome::New, before.min(self.visible)))
            }
            Begin::After(asked)
                if asked.epoch != self.log.epoch().get() && !planted(Fault::EpochIgnored) =>
            {
                let page = self.first_after(0).await?;
                self.reset(asked, GapReason::EpochChanged, lost_before(&page), &page)?;
                Ok((Outcome::Reset, 0))
            }
            Begin::After(asked)
                if asked.sequence > self.visible
                    && self.log.store().has_reached(asked.sequence).await? =>
            {
                // Another node was ahead of this one: what the subscriber has seen there comes here soon, and passes.
                Ok((Outcome::Resumed, asked.sequence))
            }
            Begin::After(asked) if asked.sequence > self.visible => {
                let page = Page {
                    through: self.visible,
                    ..Page::default()
                };
                self.reset(asked, GapReason::Future, self.visible, &page)?;
                Ok((Outcome::Reset, self.visible))
            }
            Begin::After(mut asked) => {
                if planted(Fault::ResumeOffByOne) {
                    asked.sequence += 1;
                } else if planted(Fault::ResumeRepeats) {
                    asked.sequence = asked.sequence.saturating_sub(1);
                }
                let reaches = |feed: &Feed| feed.attachment.channel().reaches(asked.sequence);
                if self.feeds.iter().all(reaches) {
                    // The tails have what history may have let go already.
                    return Ok((Outcome::Resumed, asked.sequence));
                }
                let mut page = self.first_after(asked.sequence).await?;
                let damaged = page.next_damaged(asked.sequence).is_some();
                self.gone_through = page.trimmed_through;
                if page.trimmed_through <= asked.sequence && !damaged {
                    return Ok((Outcome::Resumed, asked.sequence));
                }
                match self.options.gap_policy {
                    GapPolicy::Fail => Err(self.out_of_range(asked, &page)),
                    // The next matching event is kept and a later one is not: the gap comes in its place, and not
                    // at once as a reset says.
                    GapPolicy::Earliest if lost_before(&page) <= asked.sequence && !damaged => {
                        Ok((Outcome::Resumed, asked.sequence))
                    }
                    // The cursor finds the same when it reads on, and says it first.
                    GapPolicy::Earliest | GapPolicy::Latest => Ok((Outcome::Reset, asked.sequence)),
                }
            }
        }
    }

    fn reset(
        &mut self,
        asked: Position,
        reason: GapReason,
        earliest: Sequence,
        page: &Page,
    ) -> Result<(), CursorError> {
        let through = match self.options.gap_policy {
            GapPolicy::Earliest => earliest,
            GapPolicy::Latest => self.visible,
            GapPolicy::Fail => return Err(self.out_of_range(asked, page)),
        };
        let epoch = self.log.epoch().get();
        self.gap = Some(Gap {
            reason,
            after: asked.sequence,
            through,
            events: 0,
            through_epoch: (epoch != asked.epoch).then_some(epoch),
        });
        Ok(())
    }

    fn out_of_range(&self, requested: Position, page: &Page) -> CursorError {
        let first = page.slices.front().map(crate::frame::Slice::first);
        CursorError::OutOfRange {
            requested,
            epoch: self.log.epoch().get(),
            first,
            last: self.visible,
        }
    }

    /// What is gone of the matching events after a position, and the first that is kept, if it is not too far.
    async fn first_after(&self, after: Sequence) -> Result<Page, CursorError> {
        let filters = self.filters.iter().map(|filter| FilterFrom {
            filter: filter.clone(),
            after,
        });
        let mut query = Query {
            filters: filters.collect(),
            after,
            through: self.visible,
            bytes_max: 1,
        };
        let mut page = self.log.store().read(query.clone()).await?;
        // A page may end before it finds anything: what is gone reaches further then, and may be all there was.
        for _ in 0..PAGES_MAX {
            let found = !page.slices.is_empty() || !page.damaged.is_empty();
            if found || page.through >= self.visible {
                break;
            }
            query.after = page.through;
            let next = self.log.store().read(query.clone()).await?;
            page = Page {
                trimmed_through: page.trimmed_through,
                ..next
            };
        }
        Ok(page)
    }
}

/// The place before everything that is kept of what a page asked for, past as much as possible of what is
/// gone.
fn lost_before(page: &Page) -> Sequence {
    let first = page.slices.front().map(crate::frame::Slice::first);
    // The page knows what is kept up to its own end, and no further.
    let known = first.map_or(page.through, |first| first - 1);
    page.trimmed_through.min(known)
}

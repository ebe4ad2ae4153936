//! The beginning of a subscription: its position, and the losses that are known before its first event.

use std::sync::Arc;

use futures_util::future::try_join_all;
use longlived_topic::TopicFilter;
use smallvec::SmallVec;

use super::{
    Cursor, CursorError, DELIVERY_BYTES, Feed, Gap, GapPolicy, GapReason, Missing, ReadOptions,
    ResetGap, Waiting,
};
use crate::{
    faults::{Fault, planted},
    live_tail::{Attachment, LiveTail},
    log::Log,
    position::{Position, Sequence},
    signal::Signal,
    store::{FilterFrom, Page, Query},
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
    /// Nothing is missing before the next event. A later loss is a gap in its place.
    Resumed,
    /// Something was missed; a gap comes before anything else.
    Reset,
}

/// A cursor and the first news for its subscriber.
pub struct Opened {
    /// Ready to be polled.
    pub cursor: Cursor,
    /// How it began.
    pub outcome: Outcome,
    /// Everything after this that matches will follow, or is announced: it lies before any gap, but for that of a
    /// position that was never written.
    pub position: Position,
    /// Retention has removed matching events after the position asked for, the last of them here; 0 = none that
    /// is known of.
    pub gone_through: Sequence,
}

impl Cursor {
    /// Attaches to the live tails of all filters (at least one), then finds the place to begin. All events published from
    /// here on are seen, so history read afterwards leaves no hole.
    pub async fn open(
        log: &Log,
        filters: &[TopicFilter],
        begin: Begin,
        options: ReadOptions,
        signal: Arc<Signal>,
    ) -> Result<Opened, CursorError> {
        let attachments = match filters {
            [filter] => vec![log.attach(filter, &signal).await?],
            // All at once: each live tail that is new waits for its turn with the sequencer.
            filters => {
                let attachments = filters.iter().map(|filter| log.attach(filter, &signal));
                try_join_all(attachments).await?
            }
        };
        Self::begin(log, filters, attachments, begin, options, signal).await
    }

    /// Reads history alone: no live tail is linked, no reader counted and the sequencer not asked. It ends with
    /// [`Delivery::Current`](super::Delivery::Current), after which nothing wakes it.
    pub async fn open_history(
        log: &Log,
        filters: &[TopicFilter],
        begin: Begin,
        options: ReadOptions,
    ) -> Result<Opened, CursorError> {
        let signal = Arc::new(Signal::default());
        let attach = |filter: &TopicFilter| LiveTail::unlinked(filter.clone()).attach(&signal);
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
            .map(|attachment| Feed { attachment })
            .collect();
        let placement = StartPlacement {
            log,
            filters,
            feeds: &feeds,
            visible: log.visible(),
            options,
        };
        // In a box of its own: most begin with the next event and look at no history, and many begin together.
        let mut place = match begin {
            Begin::Next => Place::new(placement.visible),
            begin => Box::pin(placement.place(begin)).await?,
        };
        let position = place.position;
        let catching_up = begin != Begin::Next;
        signal.set_sequence(position);
        signal.set_catching_up(catching_up);
        let mut cursor = Self {
            log: log.clone(),
            signal,
            feeds,
            options,
            position,
            gone_before: place.gone_before,
            catching_up,
            delivery_bytes: DELIVERY_BYTES as u32,
            caught_up_at: 0,
            history: None,
            reset_gap: place.reset_gap.map(Box::new),
            waiting: place.not_before.map(Waiting::until).map(Box::new),
        };
        let mut gone_through = 0;
        if let Some(mut page) = place.ahead.take() {
            gone_through = page.trimmed_through;
            // Missing events before the next one are found now, and kept when the filters change.
            if let Some(gap) = cursor.loss_ahead(&mut page)? {
                place.outcome = Outcome::Reset;
                let before = cursor.position();
                cursor.reset_gap = Some(Box::new(ResetGap { gap, before }));
            }
        }
        Ok(Opened {
            position: cursor.position(),
            cursor,
            outcome: place.outcome,
            gone_through,
        })
    }
}

/// The most pages that are read ahead to find the first event that is kept.
const PAGES_MAX: usize = 64;

struct StartPlacement<'a> {
    log: &'a Log,
    filters: &'a [TopicFilter],
    feeds: &'a [Feed],
    visible: Sequence,
    options: ReadOptions,
}

/// Where a cursor begins.
struct Place {
    outcome: Outcome,
    position: Sequence,
    reset_gap: Option<ResetGap>,
    // The next event in history, where events may be missing before it.
    ahead: Option<Page>,
    gone_before: Sequence,
    not_before: Option<i64>,
}

impl Place {
    fn new(position: Sequence) -> Self {
        Self {
            outcome: Outcome::New,
            position,
            reset_gap: None,
            ahead: None,
            gone_before: 0,
            not_before: None,
        }
    }

    fn resumed(position: Sequence) -> Self {
        Self {
            outcome: Outcome::Resumed,
            ..Self::new(position)
        }
    }

    fn reset(position: Sequence, reset_gap: ResetGap) -> Self {
        Self {
            outcome: Outcome::Reset,
            reset_gap: Some(reset_gap),
            ..Self::new(position)
        }
    }
}

impl StartPlacement<'_> {
    async fn place(&self, begin: Begin) -> Result<Place, CursorError> {
        match begin {
            Begin::Next => Ok(Place::new(self.visible)),
            Begin::Earliest => {
                let page = self.first_after(0).await?;
                Ok(Place {
                    gone_before: page.trimmed_through,
                    ..Place::new(lost_before(&page))
                })
            }
            Begin::Time(nanos) => {
                let before = self.log.store().before_time(nanos).await?;
                Ok(Place {
                    // Lost events of the requested time are announced under every policy for resuming.
                    gone_before: self.first_after(before).await?.trimmed_through,
                    // The time may lie ahead: events published until then are not wanted either.
                    not_before: (before >= self.visible).then_some(nanos),
                    ..Place::new(before.min(self.visible))
                })
            }
            Begin::After(asked)
                if asked.epoch != self.log.epoch() && !planted(Fault::EpochIgnored) =>
            {
                let page = self.first_after(0).await?;
                let earliest = lost_before(&page);
                let reset_gap = self.reset_gap(asked, GapReason::EpochChanged, earliest, &page)?;
                Ok(Place::reset(0, reset_gap))
            }
            Begin::After(asked)
                if asked.sequence > self.visible
                    && self.log.store().has_reached(asked.sequence).await? =>
            {
                // Another node was ahead of this one: the events that the subscriber has seen there come here soon, and
                // are passed over.
                Ok(Place::resumed(asked.sequence))
            }
            Begin::After(asked) if asked.sequence > self.visible => {
                // No kept event follows, but a refusal names the kept range.
                let page = match self.options.gap_policy {
                    GapPolicy::Fail => self.first_after(0).await?,
                    GapPolicy::Earliest | GapPolicy::Latest => Page::default(),
                };
                let reset_gap = self.reset_gap(asked, GapReason::Future, self.visible, &page)?;
                Ok(Place::reset(self.visible, reset_gap))
            }
            Begin::After(mut asked) => {
                if planted(Fault::ResumeOffByOne) {
                    asked.sequence += 1;
                } else if planted(Fault::ResumeRepeats) {
                    asked.sequence = asked.sequence.saturating_sub(1);
                }
                let resumed = Place::resumed(asked.sequence);
                let reaches = |feed: &Feed| feed.attachment.tail().reaches(asked.sequence);
                if self.feeds.iter().all(reaches) {
                    // The tails have events that history may have let go already.
                    return Ok(resumed);
                }
                Ok(Place {
                    ahead: Some(self.first_after(asked.sequence).await?),
                    ..resumed
                })
            }
        }
    }

    fn reset_gap(
        &self,
        asked: Position,
        reason: GapReason,
        earliest: Sequence,
        page: &Page,
    ) -> Result<ResetGap, CursorError> {
        let epoch = self.log.epoch();
        let other = epoch != asked.epoch;
        let through = match self.options.gap_policy {
            GapPolicy::Earliest => earliest,
            GapPolicy::Latest => self.visible,
            GapPolicy::Fail => {
                let missing = if other {
                    Missing::EpochChanged
                } else {
                    Missing::Future
                };
                return Err(CursorError::out_of_range(self.log, asked, missing, page));
            }
        };
        let gap = Gap {
            reason,
            after: asked.sequence,
            through,
            events: 0,
            through_epoch: other.then_some(epoch),
        };
        Ok(ResetGap {
            gap,
            before: if other && !planted(Fault::WelcomeInTheNewEpoch) {
                asked
            } else if other {
                self.log.position_at(0)
            } else {
                self.log.position_at(through)
            },
        })
    }

    /// The lost matching events after a position, and the first kept one, if it is not too far.
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
        // A page may end before it finds an event. Then the loss reaches further, and may be all there was.
        for _ in 0..PAGES_MAX {
            let found = !page.slices.is_empty() || !page.damaged.is_empty();
            if found || page.through >= self.visible {
                break;
            }
            query.after = page.through;
            page = page.join(self.log.store().read(query.clone()).await?);
        }
        Ok(page)
    }
}

/// The position before all kept events of a page, past as many lost ones as possible.
fn lost_before(page: &Page) -> Sequence {
    let first = page.slices.front().map(crate::frame::Slice::first);
    // The page knows the kept events up to its own end, and no further.
    let known = first.map_or(page.through, |first| first - 1);
    page.trimmed_through.min(known)
}

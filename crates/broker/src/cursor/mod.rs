//! A subscriber's place in the log: one position, and the channels of its filters.
//!
//! Everything follows from the position. Where every channel's tail reaches back to it, the cursor reads the
//! tails and merges them; otherwise it reads the store, all filters at once, up to what is visible, and looks
//! again. A position never moves past a matching event that was neither handed out nor announced as a gap,
//! so the seam between history and live has no hole and no repeat.
//!
//! Holds: nothing beyond `visible` is read; sequences handed out rise; a cursor that is not polled costs its
//! position and whatever page it had begun.
//! Does not: know who it serves, or how bytes leave the machine.

mod merge;
mod open;
mod shared;

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use smallvec::SmallVec;

use merge::Live;
pub use open::{Begin, Opened, Outcome};
pub use shared::{Parted, Shared, Tail, TailReader};

use crate::{
    channel::{Attachment, Channel},
    faults::{Fault, planted},
    frame::{Compression, Encoding, Slice},
    log::{AttachError, Log},
    position::{Position, Sequence},
    signal::Signal,
    store::{Damaged, FilterFrom, Page, Query, ReadError},
    topic::TopicFilter,
};

/// About how many bytes one delivery holds: a few HTTP/2 frames, and what a stalled reader can pin.
const DELIVERY_BYTES: usize = 64 << 10;

/// What a page that is not all handed out may keep in memory: the batches that its events are a part of.
const PAGE_HELD_BYTES_MAX: usize = 4 * DELIVERY_BYTES;

/// What to do when events after the position cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapPolicy {
    /// A gap, then everything that is still kept.
    Earliest,
    /// A gap, then live.
    Latest,
    /// An error that names what is kept.
    Fail,
}

/// What to do with a reader that was current and fell behind its channels' tails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlowPolicy {
    /// It catches up from history.
    Park,
    /// An error.
    Disconnect,
}

/// How a cursor reads.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// Holds for the life of the cursor.
    pub gap_policy: GapPolicy,
    /// Holds for the life of the cursor.
    pub slow_policy: SlowPolicy,
    /// The largest encoded event to hand out; a larger one becomes a gap.
    pub event_bytes_max: usize,
    /// Which contract's messages to hand out.
    pub encoding: Encoding,
    /// How large ones among them are compressed.
    pub compression: Compression,
}

/// Why events are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// Retention removed them.
    Trimmed,
    /// The store was damaged and cannot give them back.
    Damaged,
    /// Their history is gone.
    EpochChanged,
    /// The position asked for was never written.
    Future,
    /// One event above the reader's limit.
    TooLarge,
}

/// Matching events that are not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub reason: GapReason,
    /// Exclusive, in the epoch asked for.
    pub after: Sequence,
    /// Inclusive; reading continues after it.
    pub through: Sequence,
    /// How many events; 0 = unknown.
    pub events: u64,
    /// Epoch of `through` when it is another than that of `after`.
    pub through_epoch: Option<u64>,
}

/// What a cursor hands out.
#[derive(Debug)]
pub enum Delivery {
    /// Complete frames, ready to be written.
    Events {
        /// The frames, one after the other.
        bytes: Bytes,
        /// How many.
        count: usize,
    },
    /// Something is missing here.
    Gap(Gap),
    /// A long catch-up has come so far without a matching event.
    Scanned,
    /// A cursor that had to catch up has reached what is visible.
    Current,
}

/// Why a cursor ends.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CursorError {
    /// Events after the position cannot be had, and the policy is [`GapPolicy::Fail`].
    #[error(
        "events after {requested} cannot be had; {} of epoch {epoch}", kept(*first, *last)
    )]
    OutOfRange {
        /// The position asked for.
        requested: Position,
        /// Epoch of what is kept.
        epoch: u64,
        /// The first matching event that is kept, if there is one.
        first: Option<Sequence>,
        /// The last visible event.
        last: Sequence,
    },
    /// The reader was current and fell behind the tails of its channels.
    #[error("the subscriber was too slow: its position {position} has left the memory tail")]
    Slow {
        /// Where it stands.
        position: Position,
    },
    /// History could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log takes no more readers.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

fn kept(first: Option<Sequence>, last: Sequence) -> String {
    first.map_or_else(
        || format!("nothing that matches is kept up to {last}"),
        |first| format!("kept are {first} to {last}"),
    )
}

/// One filter of a cursor.
struct Feed {
    attachment: Attachment,
    // Only events after this are wanted of it.
    after: Sequence,
}

impl Feed {
    fn filter(&self) -> &TopicFilter {
        self.attachment.channel().filter()
    }
}

/// A subscriber's reading place.
pub struct Cursor {
    log: Log,
    signal: Arc<Signal>,
    feeds: SmallVec<[Feed; 1]>,
    options: ReadOptions,
    position: Sequence,
    // What was gone up to here is no loss to a reader that asked for whatever is kept.
    gone_before: Sequence,
    catching_up: bool,
    // What was visible when a catch-up came to the tails: there it is over, however busy the log is. 0 before.
    caught_up_at: Sequence,
    // Read but not yet handed out. Reading live leaves nothing here.
    page: Option<Box<Page>>,
    reading: Option<BoxFuture<'static, Result<Page, ReadError>>>,
    first_gap: Option<Box<Gap>>,
    waiting: Option<Box<Waiting>>,
}

/// For a start time that may lie ahead.
struct Waiting {
    not_before: i64,
    asking: Option<BoxFuture<'static, Result<Sequence, ReadError>>>,
}

impl Waiting {
    fn until(not_before: i64) -> Self {
        Self {
            not_before,
            asking: None,
        }
    }
}

impl Cursor {
    /// The last position handed out or passed.
    pub fn position(&self) -> Position {
        Position {
            epoch: self.log.epoch().get(),
            sequence: self.position,
        }
    }

    /// What wakes whoever polls it.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// The filters, in the order they were added.
    pub fn filters(&self) -> impl Iterator<Item = &TopicFilter> {
        self.feeds.iter().map(Feed::filter)
    }

    /// Whether it has reached what was visible and has not fallen behind its channels since.
    pub fn is_current(&self) -> bool {
        !self.catching_up
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

    /// What is due next. Pending means that nothing is, and that the signal wakes the caller when that changes.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, CursorError>> {
        let delivery = self.poll_delivery(cx);
        self.signal.set_sequence(self.position);
        delivery
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, CursorError>> {
        self.signal.register(cx.waker());
        if let Some(gap) = self.first_gap.take() {
            self.position = gap.through;
            return Poll::Ready(Ok(Delivery::Gap(*gap)));
        }
        loop {
            if let Some(mut page) = self.page.take() {
                if let Some(delivery) = self.hand_out(&mut page)? {
                    // What is left is kept for the next call, unless a reader that makes none would hold much by it:
                    // then it is found again.
                    if page.through > self.position && page.held_bytes() <= PAGE_HELD_BYTES_MAX {
                        self.page = Some(page);
                    }
                    return Poll::Ready(Ok(delivery));
                }
                continue;
            }
            if self.reading.is_some() {
                let page = ready!(self.poll_history(cx))?;
                // A scan that found nothing is still news for a client that waits.
                let scanned = page.slices.is_empty()
                    && page.damaged.is_empty()
                    && page.trimmed_through <= self.position;
                let behind = page.through < self.log.visible();
                self.page = Some(Box::new(page));
                if scanned && behind {
                    self.position = self.page.take().map_or(self.position, |page| page.through);
                    return Poll::Ready(Ok(Delivery::Scanned));
                }
                continue;
            }
            if self.catching_up && (1..=self.position).contains(&self.caught_up_at) {
                return self.at_head();
            }
            if self.signal.take_data() && !planted(Fault::LeftOutForGood) {
                self.feeds.iter().for_each(|feed| feed.attachment.rejoin());
            }
            let visible = self.log.visible();
            if visible <= self.position {
                return self.at_head();
            }
            if self.waiting.is_some() && !ready!(self.poll_begins(cx, visible))? {
                return self.at_head();
            }
            let Ok(live) = self.collect_live(visible) else {
                self.caught_up_at = 0;
                self.read_history(visible)?;
                continue;
            };
            if self.catching_up && self.caught_up_at == 0 {
                self.caught_up_at = visible;
            }
            match live {
                Live::Delivery(delivery, through) => {
                    self.position = through;
                    return Poll::Ready(Ok(delivery));
                }
                Live::Page(page) => self.page = Some(Box::new(page)),
                Live::Nothing => {
                    self.position = visible;
                    return self.at_head();
                }
            }
        }
    }

    /// Whether something visible was published at or after the time this cursor waits for. Moves the position past
    /// what was published before.
    fn poll_begins(
        &mut self,
        cx: &mut Context<'_>,
        visible: Sequence,
    ) -> Poll<Result<bool, ReadError>> {
        let Some(waiting) = &mut self.waiting else {
            return Poll::Ready(Ok(true));
        };
        let asking = waiting
            .asking
            .get_or_insert_with(|| self.log.store().before_time(waiting.not_before));
        let before = ready!(asking.as_mut().poll(cx));
        waiting.asking = None;
        let before = before?;
        self.position = self.position.max(before.min(visible));
        let begins = before < visible;
        if begins {
            self.waiting = None;
        }
        Poll::Ready(Ok(begins))
    }

    /// Nothing is due: says so once after a catch-up, and waits otherwise.
    fn at_head(&mut self) -> Poll<Result<Delivery, CursorError>> {
        if self.catching_up {
            self.catching_up = false;
            self.caught_up_at = 0;
            Poll::Ready(Ok(Delivery::Current))
        } else {
            Poll::Pending
        }
    }

    /// Whether nothing more is due now, as far as is visible.
    pub fn nothing_due(&self) -> bool {
        let after = |feed: &Feed| self.position.max(feed.after);
        let due = |feed: &Feed| feed.attachment.channel().is_due(after(feed));
        self.page.is_none()
            && self.reading.is_none()
            && !self.catching_up
            && !self.feeds.iter().any(due)
    }

    /// A cursor at rest with nothing due has passed everything visible: moves the position there, so that a
    /// quiet subscriber's position does not age. The position and whether it is at the head.
    pub fn settle(&mut self) -> (Position, bool) {
        // Read before asking the channels: what is visible has been appended to them.
        let visible = self.log.visible();
        let current = self.nothing_due();
        if current || planted(Fault::SettlePassesWhatIsDue) {
            self.position = self.position.max(visible);
            self.signal.set_sequence(self.position);
        }
        (self.position(), current)
    }

    fn read_history(&mut self, visible: Sequence) -> Result<(), CursorError> {
        if !self.catching_up {
            if self.options.slow_policy == SlowPolicy::Disconnect {
                return Err(CursorError::Slow {
                    position: self.position(),
                });
            }
            self.catching_up = true;
        }
        let query = Query {
            filters: self.wanted(),
            after: self.position,
            through: visible,
            bytes_max: DELIVERY_BYTES,
        };
        self.reading = Some(self.log.store().read(query));
        Ok(())
    }

    /// The bytes of a delivery.
    fn join(&self, slices: &[Slice]) -> Bytes {
        let ReadOptions {
            encoding,
            compression,
            ..
        } = self.options;
        self.log.compressor().join(slices, encoding, compression)
    }

    fn wanted(&self) -> Vec<FilterFrom> {
        let wanted = |feed: &Feed| FilterFrom {
            filter: feed.filter().clone(),
            after: feed.after.max(self.position),
        };
        self.feeds.iter().map(wanted).collect()
    }

    fn poll_history(&mut self, cx: &mut Context<'_>) -> Poll<Result<Page, ReadError>> {
        let Some(reading) = &mut self.reading else {
            return Poll::Ready(Ok(Page::default()));
        };
        let page = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(page)
    }

    /// Hands out the next part of a page: a gap, or the events up to the next one. `None` when the page holds
    /// nothing more; the position is then at its end.
    fn hand_out(&mut self, page: &mut Page) -> Result<Option<Delivery>, CursorError> {
        if page.trimmed_through > self.position
            && let Some(gap) = self.trimmed_gap(page)?
        {
            self.position = gap.through;
            return Ok(Some(Delivery::Gap(gap)));
        }
        if let Some(damaged) = page.next_damaged(self.position) {
            let gap = self.damaged_gap(page, damaged)?;
            self.position = gap.through;
            return Ok(Some(Delivery::Gap(gap)));
        }
        let mut slices: SmallVec<[Slice; 4]> = SmallVec::new();
        let mut bytes = 0;
        while bytes < DELIVERY_BYTES
            && let Some(mut slice) = page.slices.pop_front()
        {
            let said = slices.last().map_or(self.position, Slice::last);
            let whole = page.damaged.front().map_or(slice.count(), |damaged| {
                slice
                    .entries()
                    .partition_point(|e| e.sequence <= damaged.after)
            });
            let fitting = self
                .fitting(&slice, page.trimmed_through, said)
                .min(slice.count_within(DELIVERY_BYTES - bytes))
                .min(whole);
            if fitting == 0 {
                page.slices.push_front(slice);
                break;
            }
            let rest = slice.split_off(fitting);
            bytes += slice.len_bytes();
            slices.push(slice);
            if rest.is_some() {
                put_back(&mut page.slices, rest);
                break;
            }
        }
        let Some(last) = slices.last() else {
            if let Some(slice) = page.slices.pop_front() {
                return Ok(Some(Delivery::Gap(self.pass_too_large(slice, page))));
            }
            self.position = self.position.max(page.through);
            return Ok(None);
        };
        let silent = page.damaged.is_empty() && page.trimmed_through <= last.last();
        self.position = if page.slices.is_empty() && silent {
            page.through
        } else {
            last.last()
        };
        Ok(Some(Delivery::Events {
            bytes: self.join(&slices),
            count: slices.iter().map(Slice::count).sum(),
        }))
    }

    /// How many of a slice's events can be handed out before something must be announced. `said` is the last
    /// sequence about which the reader knows everything.
    fn fitting(&self, slice: &Slice, trimmed_through: Sequence, said: Sequence) -> usize {
        let limit = self.options.event_bytes_max;
        let mut fitting = slice.count();
        if slice.largest_frame() > limit {
            let entries = slice.entries();
            let too_large = entries.iter().position(|entry| entry.event_bytes() > limit);
            fitting = too_large.unwrap_or(fitting);
        }
        if said < trimmed_through {
            // Between kept events others are gone: only an unbroken run can follow without a word.
            let mut before = said;
            let unbroken = slice.entries().iter().take_while(|entry| {
                let follows = before >= trimmed_through || entry.sequence == before + 1;
                before = entry.sequence;
                follows
            });
            fitting = fitting.min(unbroken.count());
        }
        fitting
    }

    /// What to announce before the first kept event of a page that has lost some; `None` when that event
    /// follows directly.
    fn trimmed_gap(&self, page: &mut Page) -> Result<Option<Gap>, CursorError> {
        let gap = |through| Gap {
            reason: GapReason::Trimmed,
            after: self.position,
            through,
            events: 0,
            through_epoch: None,
        };
        let first = page.slices.front().map(Slice::first);
        let policy = if page.trimmed_through <= self.gone_before {
            GapPolicy::Earliest
        } else {
            self.options.gap_policy
        };
        match policy {
            GapPolicy::Fail => Err(CursorError::OutOfRange {
                requested: self.position(),
                epoch: self.log.epoch().get(),
                first,
                last: self.log.visible(),
            }),
            GapPolicy::Latest => {
                let visible = self.log.visible();
                *page = Page {
                    through: visible,
                    ..Page::default()
                };
                Ok(Some(gap(visible)))
            }
            GapPolicy::Earliest => {
                // The page knows what is kept up to its own end, and no further.
                let known = first.map_or(page.through, |first| first - 1);
                let mut through = page.trimmed_through.min(known);
                if planted(Fault::GapBoundsOffByOne) {
                    through += 1;
                }
                Ok((through > self.position).then(|| gap(through)))
            }
        }
    }

    /// What to announce where the store has lost events.
    fn damaged_gap(&self, page: &mut Page, damaged: Damaged) -> Result<Gap, CursorError> {
        let gap = |through, events| Gap {
            reason: GapReason::Damaged,
            after: self.position.max(damaged.after),
            through,
            events,
            through_epoch: None,
        };
        match self.options.gap_policy {
            GapPolicy::Fail => Err(CursorError::OutOfRange {
                requested: self.position(),
                epoch: self.log.epoch().get(),
                first: page.slices.front().map(Slice::first),
                last: self.log.visible(),
            }),
            GapPolicy::Latest => {
                let visible = self.log.visible();
                *page = Page {
                    through: visible,
                    ..Page::default()
                };
                Ok(gap(visible, 0))
            }
            GapPolicy::Earliest => {
                page.damaged.pop_front();
                // A part of the range lies behind the reader: how many are left is not known.
                let whole = damaged.after >= self.position;
                Ok(gap(damaged.through, if whole { damaged.events } else { 0 }))
            }
        }
    }

    fn pass_too_large(&mut self, mut slice: Slice, page: &mut Page) -> Gap {
        put_back(&mut page.slices, slice.split_off(1));
        let sequence = slice.first();
        self.position = sequence;
        Gap {
            reason: GapReason::TooLarge,
            after: sequence - 1,
            through: sequence,
            events: 1,
            through_epoch: None,
        }
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

/// Puts what was cut off back in its place.
fn put_back(slices: &mut VecDeque<Slice>, piece: Option<Slice>) {
    if let Some(piece) = piece {
        slices.push_front(piece);
    }
}

#[cfg(test)]
mod tests;

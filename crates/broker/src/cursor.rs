//! A subscriber's place in the log: one position, and the live tails of its filters.
//!
//! Everything follows from the position. Where every live tail reaches back to it, the cursor reads the
//! tails and merges them; otherwise it reads the store, all filters at once, up to `visible`, and looks again. A
//! position never moves past a matching event that was neither handed out nor announced as a gap, so the seam between
//! history and live has no hole and no repeat.
//!
//! Holds: nothing beyond `visible` is read; sequences handed out rise; a cursor that is not polled costs its position
//! and the page that it had begun.
//! Does not: know its subscriber, or how bytes leave the machine.

mod delivery;
mod feeds;
mod merge;
mod open;
mod options;
mod page;
mod shared;
mod taken;

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use smallvec::SmallVec;

pub use delivery::{CursorError, Delivery, Gap, GapReason, Missing};
use feeds::Feed;
pub use feeds::{Attached, Tails};
use merge::Live;
pub use open::{Begin, Opened, Outcome};
pub use options::{GapPolicy, ReadOptions, SlowPolicy};
pub use shared::{SharedDelivery, TailReader, TailSource};

use crate::{
    faults::{Fault, planted},
    frame::Slice,
    log::Log,
    position::{Position, Sequence},
    signal::Signal,
    store::{FilterFrom, Page, Query, ReadError, Store},
};

/// About how many bytes one delivery holds at most: a few HTTP/2 frames.
const DELIVERY_BYTES: usize = 64 << 10;

/// A reader that takes less at a time gets about this much all the same: to find an event costs more than these bytes.
const DELIVERY_BYTES_LEAST: usize = 1 << 10;

/// The bytes that a page which is not all handed out may keep in memory: the batches of its events.
const PAGE_HELD_BYTES_MAX: usize = 4 * DELIVERY_BYTES;

/// A subscriber's reading place.
pub struct Cursor {
    log: Log,
    signal: Arc<Signal>,
    feeds: SmallVec<[Feed; 1]>,
    options: ReadOptions,
    position: Sequence,
    // Events removed up to here are no loss to a reader that asked for the kept ones.
    gone_before: Sequence,
    catching_up: bool,
    // What a delivery holds, or one event that is larger.
    delivery_bytes: u32,
    // The visible sequence when a catch-up came to the tails. The catch-up is over there, even if the log is busy. 0
    // before.
    caught_up_at: Sequence,
    // Reading live leaves nothing here.
    history: Option<Box<History>>,
    reset_gap: Option<Box<ResetGap>>,
    waiting: Option<Box<Waiting>>,
}

/// A part of the history.
enum History {
    /// It is being read.
    Reading(BoxFuture<'static, Result<Page, ReadError>>),
    /// It was read, and is not all handed out.
    Read(Page),
}

impl History {
    fn is_read(&mut self) -> bool {
        matches!(self, Self::Read(_))
    }
}

/// The gap that a reset has announced: it is handed out before anything else.
struct ResetGap {
    gap: Gap,
    // The position of the reader until it has the gap. A subscriber that resumes after it is told of the gap again. For
    // a position that was never written it is where reading goes on, because the log may have written that position by
    // the time the subscriber returns.
    before: Position,
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
    /// The last position handed out or passed. A subscriber that resumes after it misses nothing. It is of the
    /// requested epoch until the gap that tells of another epoch is handed out.
    pub fn position(&self) -> Position {
        match &self.reset_gap {
            Some(reset_gap) => reset_gap.before,
            None => self.own_position(),
        }
    }

    fn own_position(&self) -> Position {
        self.log.position_at(self.position)
    }

    /// Whether a gap was announced that comes before anything else.
    pub fn gap_comes_first(&self) -> bool {
        self.reset_gap.is_some()
    }

    /// The signal that wakes the task that polls this cursor.
    pub fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Whether it has reached the visible end and has not fallen behind its live tails since.
    pub fn is_current(&self) -> bool {
        !self.catching_up
    }

    /// The next delivery. Pending means that there is none, and that the signal wakes the caller when there is.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, CursorError>> {
        let delivery = self.poll_delivery(cx);
        self.signal.set_sequence(self.position);
        delivery
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery, CursorError>> {
        self.signal.register(cx.waker());
        if let Some(reset_gap) = self.reset_gap.take() {
            self.position = reset_gap.gap.through;
            return Poll::Ready(Ok(Delivery::Gap(reset_gap.gap)));
        }
        loop {
            if let Some(mut history) = self.history.take_if(|history| history.is_read())
                && let History::Read(page) = &mut *history
            {
                if let Some(delivery) = self.hand_out(page)? {
                    // The rest of the page is kept for the next call, unless a reader that never calls would hold much
                    // memory by it. Then it is found again.
                    if page.through > self.position && page.held_bytes() <= PAGE_HELD_BYTES_MAX {
                        self.history = Some(history);
                    }
                    return Poll::Ready(Ok(delivery));
                }
                continue;
            }
            if let Some(History::Reading(reading)) = self.history.as_deref_mut() {
                let page = ready!(reading.as_mut().poll(cx));
                self.history = None;
                let page = page?;
                // A scan that found nothing is still news for a client that waits.
                if page.says_nothing(self.position) && page.through < self.log.visible() {
                    self.position = page.through;
                    return Poll::Ready(Ok(Delivery::Scanned));
                }
                self.history = Some(Box::new(History::Read(page)));
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
                Live::Page(page) => self.history = Some(Box::new(History::Read(page))),
                Live::Nothing => {
                    self.position = visible;
                    return self.at_head();
                }
            }
        }
    }

    /// Whether something visible was published at or after the time this cursor waits for. Moves the position past
    /// earlier events.
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

    /// There is nothing to read: says so once after a catch-up, and waits otherwise.
    fn at_head(&mut self) -> Poll<Result<Delivery, CursorError>> {
        if self.catching_up {
            self.set_catching_up(false);
            self.caught_up_at = 0;
            Poll::Ready(Ok(Delivery::Current))
        } else {
            Poll::Pending
        }
    }

    fn set_catching_up(&mut self, catching_up: bool) {
        self.catching_up = catching_up;
        self.signal.set_catching_up(catching_up);
    }

    /// Flow control holds the last read events, if `sending`, or else the pending ones. The signal says so until the
    /// cursor is asked again.
    pub fn hold(&self, sending: bool) {
        if sending || !self.has_nothing_pending() {
            self.signal.hold(self.log.age());
        }
    }

    /// The reader takes this number of bytes now. The next deliveries hold about as many, so that little is left of them when it takes no
    /// more. One event is delivered whole, whatever its size.
    pub fn set_capacity(&mut self, bytes: usize) {
        self.delivery_bytes = bytes.clamp(DELIVERY_BYTES_LEAST, DELIVERY_BYTES) as u32;
    }

    fn delivery_bytes(&self) -> usize {
        self.delivery_bytes as usize
    }

    /// Lets go of the history that was read for it and not delivered, or is being read: it is read again when the cursor is next asked.
    pub fn drop_page(&mut self) {
        self.history = None;
    }

    /// Whether there is nothing more to read now, up to the visible sequence.
    pub fn has_nothing_pending(&self) -> bool {
        let has_more = |feed: &Feed| feed.attachment.tail().has_after(self.position);
        self.history.is_none()
            && !self.catching_up
            && self.reset_gap.is_none()
            && !self.feeds.iter().any(has_more)
    }

    /// A cursor at rest with nothing pending has passed everything visible: moves the position there, so that a
    /// quiet subscriber's position does not age. The position and whether it is current.
    pub fn settle(&mut self) -> (Position, bool) {
        // Read before asking the live tails: visible events have been appended to them.
        let visible = self.log.visible();
        let current = self.has_nothing_pending();
        if current || planted(Fault::SettlePassesPending) {
            self.position = self.position.max(visible);
            self.signal.pass(self.position);
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
            self.set_catching_up(true);
        }
        let query = Query {
            filters: self.wanted(),
            after: self.position,
            through: visible,
            bytes_max: self.delivery_bytes(),
        };
        let reading = read_joined(self.log.store().clone(), query).boxed();
        self.history = Some(Box::new(History::Reading(reading)));
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
            after: self.position,
        };
        self.feeds.iter().map(wanted).collect()
    }
}

/// The most pages that one announcement is looked for in: each is about a millisecond's work.
const JOINED_MAX: usize = 8;

/// One page, or several where a loss goes on behind the first without a kept event: it is announced as one.
async fn read_joined(store: Arc<dyn Store>, mut query: Query) -> Result<Page, ReadError> {
    let position = query.after;
    let mut page = store.read(query.clone()).await?;
    for _ in 0..JOINED_MAX {
        if page.through >= query.through || !page.ends_in_a_loss(position) {
            break;
        }
        query.after = page.through;
        page = page.join(store.read(query.clone()).await?);
    }
    Ok(page)
}

#[cfg(test)]
mod tests;

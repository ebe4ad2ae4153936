//! A page handed out part by part, with the gaps between its events.
//!
//! Holds: no part passes an event that the page has lost, by retention or to damage, or that is too large for the
//! reader, without a gap that says so.
//! Does not: find pages, in the store or in the tails.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::{Cursor, CursorError, Delivery, Gap, GapPolicy, GapReason, Missing};
use crate::{
    frame::Slice,
    position::Sequence,
    store::{Damaged, Page},
};

impl Cursor {
    /// Hands out the next part of a page: a gap, or the events up to the next one. `None` when the page holds
    /// nothing more; the position is then at its end.
    pub(super) fn hand_out(&mut self, page: &mut Page) -> Result<Option<Delivery>, CursorError> {
        if let Some(gap) = self.loss_ahead(page)? {
            self.position = gap.through;
            return Ok(Some(Delivery::Gap(gap)));
        }
        let mut slices: SmallVec<[Slice; 4]> = SmallVec::new();
        let (mut bytes, bytes_max) = (0, self.delivery_bytes());
        while bytes < bytes_max
            && let Some(mut slice) = page.slices.pop_front()
        {
            let said = slices.last().map_or(self.position, Slice::last);
            let whole = page.damaged.front().map_or(slice.count(), |damaged| {
                slice
                    .entries()
                    .partition_point(|e| e.sequence <= damaged.after)
            });
            let fitting = self
                .fitting(&slice, page, said)
                .min(slice.count_within(bytes_max - bytes))
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

    /// The gap before the first kept event of a page, if an event is lost there.
    pub(super) fn loss_ahead(&self, page: &mut Page) -> Result<Option<Gap>, CursorError> {
        if page.trimmed_through > self.position
            && let Some(gap) = self.trimmed_gap(page)?
        {
            return Ok(Some(gap));
        }
        let damaged = page.next_damaged(self.position);
        damaged
            .map(|damaged| self.damaged_gap(page, damaged))
            .transpose()
    }

    /// How many of a slice's events can be handed out before something must be announced. `said` is the last
    /// sequence about which the reader knows everything.
    fn fitting(&self, slice: &Slice, page: &Page, said: Sequence) -> usize {
        let (limit, encoding) = (self.options.message_bytes_max, self.options.encoding);
        let mut fitting = slice.count();
        if !slice.all_within(limit, encoding) {
            fitting = slice.first_above(limit, encoding).unwrap_or(fitting);
        }
        if said < page.trimmed_through {
            // Between kept events others are gone: only events with no loss in between can follow without a gap.
            let mut before = said;
            let unbroken = slice.entries().iter().take_while(|entry| {
                let removed = || page.removed.within(before, entry.sequence - 1);
                let follows = before >= page.trimmed_through
                    || entry.sequence == before + 1
                    || removed().is_some_and(|(count, _)| count == 0);
                before = entry.sequence;
                follows
            });
            fitting = fitting.min(unbroken.count());
        }
        fitting
    }

    /// The gap before the first kept event of a page that has lost some; `None` when no event is lost before it.
    fn trimmed_gap(&self, page: &mut Page) -> Result<Option<Gap>, CursorError> {
        let gap = |through, events| Gap {
            reason: GapReason::Trimmed,
            after: self.position,
            through,
            events,
            through_epoch: None,
        };
        let first = page.slices.front().map(Slice::first);
        let policy = if page.trimmed_through <= self.gone_before {
            GapPolicy::Earliest
        } else {
            self.options.gap_policy
        };
        match policy {
            GapPolicy::Fail => {
                let through = page.trimmed_through;
                Err(self.out_of_range(Missing::Trimmed { through }, page))
            }
            GapPolicy::Latest => {
                let visible = self.log.visible();
                *page = Page {
                    through: visible,
                    ..Page::default()
                };
                Ok(Some(gap(visible, 0)))
            }
            GapPolicy::Earliest => {
                // The page knows the kept events up to its own end, and no further.
                let end = first.map_or(page.through, |first| first - 1);
                let (events, through) = match page.removed.within(self.position, end) {
                    Some((0, _)) => return Ok(None),
                    Some(known) => known,
                    None => (0, page.trimmed_through.min(end)),
                };
                // Damaged events in between are missing too, and not among the counted ones.
                let damaged = page.damaged.front().is_some_and(|it| it.after < through);
                let events = if damaged { 0 } else { events };
                Ok((through > self.position).then(|| gap(through, events)))
            }
        }
    }

    /// The gap where the store has lost events.
    fn damaged_gap(&self, page: &mut Page, damaged: Damaged) -> Result<Gap, CursorError> {
        let gap = |through, events| Gap {
            reason: GapReason::Damaged,
            after: self.position.max(damaged.after),
            through,
            events,
            through_epoch: None,
        };
        match self.options.gap_policy {
            GapPolicy::Fail => {
                let through = damaged.through;
                Err(self.out_of_range(Missing::Damaged { through }, page))
            }
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

    fn out_of_range(&self, missing: Missing, page: &Page) -> CursorError {
        CursorError::out_of_range(&self.log, self.position(), missing, page)
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

/// Puts the part that was cut off back in its place.
fn put_back(slices: &mut VecDeque<Slice>, piece: Option<Slice>) {
    if let Some(piece) = piece {
        slices.push_front(piece);
    }
}

//! A DAMAGED gap lies over lost events.
//!
//! Sees: that there was an event to lose.
//! - A gap of a known number: no more matching events are known in its range than it says.
//! - A gap of unknown number: any event was in its range, matching or not, since a store that cannot read events does
//!   not know which would have matched.
//! - Or else the gap goes on from a damage of which the subscriber had read the events before. Then the end of a log
//!   was lost, nobody knows how many numbers had been given out, and the store leaves some out.
//!
//! In the last case the last event at or below the gap is one of the lost events. The gap is false if there is no such
//! event. It is false as well if the event came on this stream, or on one that was opened when this one had been
//! welcomed: the server that tells of the gap was running then, and events lost by its start never come back. The gap
//! is not false when a message in flight is stored above it, since the message may have been stored in the gap before;
//! unless a later stream goes past the gap and is told of none.
//!
//! Cannot see: whether that event is lost when nobody reads it again, nor how many numbers had to be left out.

use std::cell::RefCell;

use rustc_hash::FxHashMap;

use super::{Judge, Wrong};
use crate::{
    facts::{Facts, Leg, Stretch},
    history::{Answer, Said, Step, StepGap, Stream},
};

impl Judge<'_, '_> {
    pub(super) fn wrong_damaged(&self, gap: &StepGap, step: &Step) -> Option<Wrong> {
        if gap.events > 0 {
            let known = self.inside(gap).len() as u64;
            return (known > gap.events).then(|| {
                Wrong::here(format!(
                    "of {} events, but {known} matched there",
                    gap.events
                ))
            });
        }
        let inside = Stretch {
            after: gap.after,
            through: gap.through,
        };
        let through = self
            .epoch
            .known
            .partition_point(|known| known.sequence <= gap.through);
        let last = self.epoch.known[..through].last();
        let over_something = last.is_some_and(|last| inside.contains(last.sequence));
        if over_something
            || self.possible(gap, step, true) != Some(0)
            || (self.may_have_lost_an_attempt(gap) && !self.passed_in_silence(gap))
        {
            return None;
        }
        let nothing = "where nothing was published";
        let Some(last) = last else {
            return Some(Wrong::here(nothing.to_owned()));
        };
        let (carrier, line) = self.brought_again(last.sequence)?;
        let text = format!(
            "{nothing}, and {} before it is not lost: {} got it",
            last.sequence,
            self.facts.who(carrier)
        );
        Some(Wrong::at(line, text))
    }

    /// Whether a message may have been there that was stored again above. It was in flight when streams were lost with
    /// the server, before this one was welcomed and when nothing above the gap was known. Its publisher had no answer
    /// and went on trying.
    fn may_have_lost_an_attempt(&self, gap: &StepGap) -> bool {
        let history = self.facts.history;
        let Some(welcome) = self.leg.steps(history).first() else {
            return false;
        };
        // The last that were begun are the first to be looked at: messages in flight are among them.
        history.publishes.iter().rev().any(|publish| {
            let Answer::Acknowledged { position, .. } = publish.answer else {
                return false;
            };
            let above = position.epoch == self.leg.epoch && position.sequence > gap.through;
            let lost_at = self.carriers.first_lost_after(publish.begun_at);
            above
                && lost_at.is_some_and(|lost_at| {
                    let highest = self.epoch.clock.highest_before(lost_at);
                    lost_at < publish.ended_at.min(welcome.at)
                        && highest.is_none_or(|(highest, _)| highest <= gap.through)
                })
        })
    }

    /// Whether a stream that was opened when this one had been welcomed went past the gap and was told of none: damage is
    /// known from a server's start on, and never forgotten.
    fn passed_in_silence(&self, gap: &StepGap) -> bool {
        let history = self.facts.history;
        let Some(welcome) = self.leg.steps(history).first() else {
            return false;
        };
        self.facts.legs.iter().any(|leg| {
            leg.epoch == self.leg.epoch
                && history.streams[leg.stream].opened_at > welcome.at
                && leg.base <= gap.after
                && leg.reached.0 >= gap.through
                && !leg.is_announced(gap.through)
        })
    }

    /// The proof that the server of this stream still had an event: a stream that brought it, and the line.
    fn brought_again(&self, sequence: u64) -> Option<(&Leg, u64)> {
        let history = self.facts.history;
        let welcomed_at = self.leg.steps(history).first()?.at;
        let later = |leg: &&Leg| history.streams[leg.stream].opened_at > welcomed_at;
        let carrier = Some(self.leg)
            .filter(|leg| leg.has(sequence))
            .or_else(|| self.carriers.newest(self.leg.epoch, sequence).filter(later))?;
        let mut steps = carrier.steps(history).iter();
        let event = |said: &Said| matches!(said, Said::Event(told) if told.sequence == sequence);
        let line = steps.find(|step| event(&step.said))?.line;
        Some((carrier, line))
    }
}

/// The stream that brought an event last. Looked for once, since every subscriber can be told of one damage.
pub(super) struct Carriers<'f> {
    legs: &'f [Leg],
    opened_at: Vec<u64>,
    /// When streams ended whose subscribers mean to come back, rising.
    lost_at: Vec<u64>,
    /// By epoch and sequence: the leg of the stream that was opened last.
    newest: RefCell<FxHashMap<(u64, u64), Option<&'f Leg>>>,
}

impl<'f> Carriers<'f> {
    pub(super) fn of(facts: &'f Facts<'_>) -> Self {
        let streams = &facts.history.streams;
        let lost = |stream: &Stream| {
            stream
                .ended
                .and_then(|(at, _, returns)| returns.then_some(at))
        };
        let mut lost_at: Vec<_> = streams.iter().filter_map(lost).collect();
        lost_at.sort_unstable();
        Self {
            legs: &facts.legs,
            opened_at: streams.iter().map(|stream| stream.opened_at).collect(),
            lost_at,
            newest: RefCell::default(),
        }
    }

    fn first_lost_after(&self, at: u64) -> Option<u64> {
        let next = self.lost_at.partition_point(|&lost_at| lost_at <= at);
        self.lost_at.get(next).copied()
    }

    fn newest(&self, epoch: u64, sequence: u64) -> Option<&'f Leg> {
        let find = || {
            let legs = self.legs.iter();
            legs.filter(|leg| leg.epoch == epoch && leg.has(sequence))
                .max_by_key(|leg| self.opened_at[leg.stream])
        };
        *self
            .newest
            .borrow_mut()
            .entry((epoch, sequence))
            .or_insert_with(find)
    }
}

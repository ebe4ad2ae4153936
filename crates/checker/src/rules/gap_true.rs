//! Every gap is true and exact.
//!
//! Sees, of each gap: it begins at or above the stream's position and ends above its beginning; nothing up to its end
//! comes afterwards; its end was visible. A reset without a gap as its next response is seen as well. By reason:
//! - TRIMMED: a matching event was there to lose, and `events` is the number of lost ones. Where the history has the
//!   server's word on retention at the end, a stream that wanted the earliest was told of no gap over events that are
//!   still kept. Where only some of the matching events are gone, the server announces each stretch between two kept
//!   ones, up to the last lost one; of such a run it is seen that it leads to a lost event.
//! - TOO_LARGE: it is one event, and above the limit.
//! - EPOCH_CHANGED: the epoch did change, after the position asked for. Until then no position was told but the
//!   requested one, because a subscriber that resumes after another is not told of the gap.
//! - FUTURE: the position was not known.
//! - DAMAGED: see `damaged`.
//!
//! Cannot see: whether retention had a reason to remove events. A gap over events of publishes of unknown outcome is
//! taken as true, as is one of a stream that receives foreign topics. A server that forgot topics (`--topics-max`) may
//! announce a gap over nothing; here that is a violation.

mod damaged;

use crate::{
    facts::{Begin, Epoch, Facts, Known, Leg, Stretch},
    history::{
        ENCODING_BYTES_MAX, GapPolicy, GapReason, Position, Said, Step, StepGap, WelcomeOutcome,
    },
    report::{Findings, Rule},
};
use damaged::Carriers;

const RULE: Rule = Rule::GapTrue;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let none = Epoch::default();
    let carriers = Carriers::of(facts);
    for leg in &facts.legs {
        let judge = Judge {
            facts,
            leg,
            epoch: facts.epochs.get(&leg.epoch).unwrap_or(&none),
            carriers: &carriers,
        };
        judge.walk(findings);
    }
}

struct Judge<'f, 'h> {
    facts: &'f Facts<'h>,
    leg: &'f Leg,
    epoch: &'f Epoch,
    carriers: &'f Carriers<'f>,
}

/// How far a stream has come.
#[derive(Clone, Copy)]
struct Place {
    last_event: u64,
    gap_end: (u64, u64),
    position: u64,
    /// A gap has to come first, since this line.
    expected: Option<u64>,
}

impl Judge<'_, '_> {
    fn walk(&self, findings: &mut Findings) {
        let leg = self.leg;
        let mut place = Place {
            last_event: leg.base,
            gap_end: (0, 0),
            position: leg.base,
            expected: None,
        };
        for step in leg.steps(self.facts.history) {
            match &step.said {
                Said::Welcome {
                    outcome, position, ..
                } => {
                    let reset = *outcome == WelcomeOutcome::Reset;
                    let missed = reset || leg.begin == Begin::OtherEpoch;
                    place.expected = missed.then_some(step.line);
                    self.hides_its_gap(*position, step, findings);
                }
                Said::Event(told) => {
                    self.no_gap(&mut place, step, findings);
                    let sequence = told.sequence;
                    if sequence <= place.gap_end.0 && sequence > place.last_event {
                        findings.add(RULE, [place.gap_end.1, step.line], || {
                            format!(
                                "{} got {}/{sequence} after a gap through {}",
                                self.who(),
                                leg.epoch,
                                place.gap_end.0
                            )
                        });
                    }
                    place.last_event = place.last_event.max(sequence);
                    place.position = place.position.max(sequence);
                }
                Said::Progress { position, .. } => {
                    self.no_gap(&mut place, step, findings);
                    if position.epoch == leg.epoch {
                        place.position = place.position.max(position.sequence);
                    }
                }
                Said::FilterAdded { .. } | Said::FilterRemoved { .. } | Said::GoAway { .. } => {
                    self.no_gap(&mut place, step, findings);
                }
                Said::Gap(gap) => {
                    place.expected = None;
                    if let Some(wrong) = self.wrong(gap, step, place) {
                        findings.add(RULE, [step.line, wrong.line], || {
                            format!(
                                "{} was told of a gap ({}) in {} after {} through {}, {}",
                                self.who(),
                                gap.reason.name(),
                                leg.epoch,
                                gap.after,
                                gap.through,
                                wrong.text
                            )
                        });
                    }
                    place.gap_end = place.gap_end.max((gap.through, step.line));
                    place.position = place.position.max(gap.through);
                }
            }
        }
    }

    /// A Welcome into another epoch that names any other position than the one asked for.
    fn hides_its_gap(&self, told: Position, step: &Step, findings: &mut Findings) {
        let stream = &self.facts.history.streams[self.leg.stream];
        let asked = stream
            .resume_after
            .filter(|_| self.leg.begin == Begin::OtherEpoch);
        if let Some(asked) = asked.filter(|asked| *asked != told) {
            findings.add(RULE, [stream.opened_line, step.line], || {
                format!(
                    "{} asked for what is after {}/{} and was welcomed in epoch {} at {}/{}: who comes back to that is told of \
                     no gap",
                    self.who(),
                    asked.epoch,
                    asked.sequence,
                    self.leg.epoch,
                    told.epoch,
                    told.sequence
                )
            });
        }
    }

    fn no_gap(&self, place: &mut Place, step: &Step, findings: &mut Findings) {
        if let Some(line) = place.expected.take() {
            findings.add(RULE, [line, step.line], || {
                format!("{} was reset, and the next response is no gap", self.who())
            });
        }
    }

    fn who(&self) -> String {
        self.facts.who(self.leg)
    }

    fn wrong(&self, gap: &StepGap, step: &Step, place: Place) -> Option<Wrong> {
        if let Some((lowest, line)) = self.epoch.clock.lowest_after(step.at)
            && lowest <= gap.through
        {
            return Some(Wrong::at(
                line,
                format!("but {lowest} was published only later"),
            ));
        }
        match gap.reason {
            GapReason::EpochChanged => self.wrong_epoch_change(gap),
            GapReason::Future => self.wrong_future(gap),
            _ if gap.after < place.position => {
                let text = format!("but the stream was at {} already", place.position);
                Some(Wrong::here(text))
            }
            _ if gap.through <= gap.after => Some(Wrong::here("which is nothing".to_owned())),
            GapReason::TooLarge => self.wrong_too_large(gap, step),
            GapReason::Trimmed => self.still_kept(gap).or_else(|| self.wrong_count(gap, step)),
            GapReason::Damaged => self.wrong_damaged(gap, step),
        }
    }

    fn wrong_epoch_change(&self, gap: &StepGap) -> Option<Wrong> {
        let stream = &self.facts.history.streams[self.leg.stream];
        let begins = self
            .leg
            .steps(self.facts.history)
            .iter()
            .find_map(|step| match step.said {
                Said::Welcome { .. } => Some(true),
                Said::Gap(_) => Some(false),
                _ => None,
            });
        let asked = stream.resume_after.filter(|_| begins == Some(true));
        if self.leg.begin != Begin::OtherEpoch {
            return Some(Wrong::here("but the epoch is the one asked for".to_owned()));
        }
        if let Some(asked) = asked
            && asked.sequence != gap.after
        {
            let text = format!("but it had asked for the events after {}", asked.sequence);
            return Some(Wrong::here(text));
        }
        self.still_kept(gap)
    }

    fn wrong_future(&self, gap: &StepGap) -> Option<Wrong> {
        let stream = &self.facts.history.streams[self.leg.stream];
        let asked = stream
            .resume_after
            .filter(|asked| asked.epoch == self.leg.epoch);
        if asked.is_none_or(|asked| asked.sequence != gap.after) {
            return Some(Wrong::here("but it had not asked for that".to_owned()));
        }
        if gap.through >= gap.after {
            return Some(Wrong::here("so the position was written".to_owned()));
        }
        let known = self.epoch.known.iter().rev();
        let mut known = known.take_while(|known| known.sequence >= gap.after);
        let known = known.find(|known| known.vouched && known.seen_at < stream.opened_at)?;
        let text = format!("but {} was known before", known.sequence);
        Some(Wrong::at(known.line, text))
    }

    /// The events the gap speaks of, as far as they are known, rising.
    fn inside(&self, gap: &StepGap) -> Vec<&Known> {
        let mut inside = Vec::new();
        let after = if gap.reason == GapReason::EpochChanged {
            0
        } else {
            gap.after
        };
        for topic in self.facts.topics_of(self.leg) {
            for Stretch {
                after: from,
                through: to,
            } in self.facts.stretches(self.leg, topic)
            {
                let known = self
                    .epoch
                    .of_topic(topic, after.max(from), gap.through.min(to));
                inside.extend(known.filter(|known| known.vouched));
            }
        }
        inside.sort_unstable_by_key(|known| known.sequence);
        inside
    }

    /// How many events may stand there that nobody knows of; `None` = any number.
    fn possible(&self, gap: &StepGap, step: &Step, any_topic: bool) -> Option<u64> {
        let foreign = self
            .facts
            .history
            .header
            .as_ref()
            .is_some_and(|it| !it.foreign.is_empty());
        if if any_topic {
            foreign
        } else {
            self.facts.receives_foreign(self.leg)
        } {
            return None;
        }
        let unknown = self
            .facts
            .unknown
            .iter()
            .map(|&index| &self.facts.history.publishes[index as usize]);
        let possible = unknown
            .take_while(|publish| publish.begun_at < step.at)
            .filter(|publish| {
                let highest = self.epoch.clock.highest_before(publish.begun_at);
                let matching =
                    any_topic || !self.facts.stretches(self.leg, publish.topic).is_empty();
                matching && highest.is_none_or(|(highest, _)| highest < gap.through)
            });
        Some(possible.count() as u64)
    }

    fn wrong_count(&self, gap: &StepGap, step: &Step) -> Option<Wrong> {
        if gap.events == 0 {
            let nothing = self.loses_nothing(gap, step);
            return nothing
                .then(|| Wrong::here("where nothing that matches was published".to_owned()));
        }
        let possible = self.possible(gap, step, false)?;
        let inside = self.inside(gap);
        let known = inside.len() as u64;
        // Before the time it waits for, a stream misses nothing.
        let missed = inside
            .iter()
            .filter(|known| known.sequence > self.leg.expected_after);
        if !(missed.count() as u64..=known + possible).contains(&gap.events) {
            let text = format!("of {} events, but {known} matched there", gap.events);
            return Some(Wrong::here(text));
        }
        None
    }

    /// Whether the gap neither holds a lost event nor leads to one. Where only some of the matching events are gone,
    /// each stretch between two kept ones is a gap, up to the last lost one.
    fn loses_nothing(&self, gap: &StepGap, step: &Step) -> bool {
        let stream = &self.facts.history.streams[self.leg.stream];
        let alone = stream.gap_policy == GapPolicy::Latest && self.leg.begin != Begin::New;
        let onward = StepGap {
            through: if alone { gap.through } else { u64::MAX },
            ..*gap
        };
        if self.possible(&onward, step, false) != Some(0) {
            return false;
        }
        let begun = |known: &Known| {
            let publish = known
                .publish
                .map(|index| &self.facts.history.publishes[index as usize]);
            publish.is_none_or(|publish| publish.begun_at < step.at)
        };
        let leads_to = self.inside(&onward).into_iter().any(|known| {
            let announced = self.leg.is_announced(known.sequence);
            begun(known) && (announced || known.sequence > self.leg.reached.0)
        });
        !leads_to && !self.led_to_what_was_removed(&onward)
    }

    /// Whether the run of gaps was on its way to an event of a filter that was removed before it came there.
    fn led_to_what_was_removed(&self, onward: &StepGap) -> bool {
        let removed = self
            .leg
            .follows
            .iter()
            .filter(|it| it.stretch.through != u64::MAX);
        removed.into_iter().any(|follow| {
            let mut topics = self.facts.meant[follow.filter as usize].topics();
            topics.any(|topic| {
                let after = follow.stretch.through.max(onward.after);
                self.epoch
                    .of_topic(topic, after, onward.through)
                    .next()
                    .is_some()
            })
        })
    }

    /// A stream that wants the earliest is told of the removed events, and gets all that are kept.
    fn still_kept(&self, gap: &StepGap) -> Option<Wrong> {
        let stream = &self.facts.history.streams[self.leg.stream];
        if stream.gap_policy != GapPolicy::Earliest || self.facts.history.trimmed.is_empty() {
            return None;
        }
        let trimmed = |known: &Known| {
            self.facts
                .history
                .trimmed
                .get(&(self.leg.epoch, known.topic))
        };
        let kept = self.inside(gap).into_iter().find(|known| {
            known.sequence > self.leg.expected_after
                && trimmed(known).is_some_and(|&through| known.sequence > through)
        })?;
        let text = format!("but {} is still kept at the end", kept.sequence);
        Some(Wrong::at(kept.line, text))
    }

    fn wrong_too_large(&self, gap: &StepGap, step: &Step) -> Option<Wrong> {
        if gap.events > 1 {
            return Some(Wrong::here(format!("of {} events and not one", gap.events)));
        }
        let inside = self.inside(gap);
        if let Some(other) = inside.iter().find(|known| known.sequence != gap.through) {
            return Some(Wrong::at(
                other.line,
                format!("but {} is there too", other.sequence),
            ));
        }
        let Some(known) = inside.first() else {
            let nothing = self.possible(gap, step, false) == Some(0);
            return nothing
                .then(|| Wrong::here("where nothing that matches was published".to_owned()));
        };
        let limit = self.facts.history.streams[self.leg.stream].max_event_bytes;
        let publish = &self.facts.history.publishes[known.publish? as usize];
        (publish.bytes + ENCODING_BYTES_MAX <= limit).then(|| {
            let text = format!(
                "but the event has {} bytes where {limit} are taken",
                publish.bytes
            );
            Wrong::at(publish.begun_line, text)
        })
    }
}

struct Wrong {
    line: u64,
    text: String,
}

impl Wrong {
    fn here(text: String) -> Self {
        Self { line: 0, text }
    }

    fn at(line: u64, text: String) -> Self {
        Self { line, text }
    }
}

//! `previous_sequence` is the event before this one on the topic, and by it nothing is missing: it is not above
//! the base of the topic. The base is the last sequence seen on the topic, or, where that is higher, the
//! position the stream began after, the end of a gap, or the `after` of the filter that brought the topic in.
//! A new epoch clears all bases.
//!
//! Sees: a previous sequence above the base, of another topic, not below its own event, or with a known event of the
//! topic between the two.
//! Cannot see: one that is too low where the event between is not known; and 0 says nothing.

use rustc_hash::FxHashMap;

use crate::{
    facts::{Epoch, Facts, Leg, Stretch},
    history::{Said, Step, Told, Topic},
    report::{Findings, Rule},
};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for leg in &facts.legs {
        let mut bases = Bases::new(leg);
        for step in leg.steps(facts.history) {
            match &step.said {
                Said::Gap(gap) => bases.floor = bases.floor.max(gap.through),
                Said::Event(told) => {
                    let base = bases.of(facts, leg, told);
                    bases.seen.insert(told.topic, told.sequence);
                    if told.previous > base {
                        broken(facts, leg, step, told, findings, || {
                            format!("but only {base} and before were told")
                        });
                    } else if let Some(epoch) = facts.epochs.get(&leg.epoch) {
                        in_the_log(facts, leg, epoch, step, told, findings);
                    }
                }
                _ => {}
            }
        }
    }
}

struct Bases {
    floor: u64,
    seen: FxHashMap<Topic, u64>,
    stretches: FxHashMap<Topic, Vec<Stretch>>,
}

impl Bases {
    fn new(leg: &Leg) -> Self {
        Self {
            // Not where a stream that waits for a time has no event; then there is none to judge.
            floor: leg.expected_after,
            seen: FxHashMap::default(),
            stretches: FxHashMap::default(),
        }
    }

    fn of(&mut self, facts: &Facts<'_>, leg: &Leg, told: &Told) -> u64 {
        let stretches = self
            .stretches
            .entry(told.topic)
            .or_insert_with(|| facts.stretches(leg, told.topic));
        let within = stretches
            .iter()
            .find(|stretch| stretch.contains(told.sequence));
        // Without a stretch the event was not asked for; `only_matching` tells that.
        let brought_in = within.map_or(u64::MAX, |stretch| stretch.after);
        let seen = self.seen.get(&told.topic).copied().unwrap_or(0);
        self.floor.max(brought_in).max(seen)
    }
}

fn in_the_log(
    facts: &Facts<'_>,
    leg: &Leg,
    epoch: &Epoch,
    step: &Step,
    told: &Told,
    findings: &mut Findings,
) {
    if told.previous == 0 {
        return;
    }
    let other = epoch
        .at(told.previous)
        .filter(|known| known.topic != told.topic);
    let mut between = epoch.of_topic(told.topic, told.previous, told.sequence.saturating_sub(1));
    if told.previous >= told.sequence {
        broken(facts, leg, step, told, findings, || {
            "which is not before it".to_owned()
        });
    } else if let Some(other) = other {
        let topic = facts.topic(other.topic);
        broken(facts, leg, step, told, findings, || {
            format!("which is an event of {topic}")
        });
    } else if let Some(known) = between.next_back().filter(|known| known.vouched) {
        broken(facts, leg, step, told, findings, || {
            format!("but {} is between", known.sequence)
        });
    }
}

fn broken(
    facts: &Facts<'_>,
    leg: &Leg,
    step: &Step,
    told: &Told,
    findings: &mut Findings,
    why: impl FnOnce() -> String,
) {
    findings.add(Rule::PreviousSequence, [step.line], || {
        format!(
            "{} got {}/{} on {}, which says to follow {}, {}",
            facts.who(leg),
            leg.epoch,
            told.sequence,
            facts.topic(told.topic),
            told.previous,
            why()
        )
    });
}

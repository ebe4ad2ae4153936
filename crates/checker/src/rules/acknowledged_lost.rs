//! No event that was acknowledged, or seen by any subscriber, is lost outside an announced gap.
//!
//! Sees: a matching event that a stream passed over while it carried something above it; an event between the last
//! position of a subscriber's stream and the start of its next stream; an event that came but was not handed to the
//! application while a later one was; a Welcome or an added filter that begins above the last published event.
//! Cannot see: events that nobody acknowledged and nobody saw, and events above the last position that a stream was
//! told. Events of a former epoch count up to the last position of the streams that read it. The gap between epochs
//! covers the events above.

use rustc_hash::FxHashSet;

use crate::{
    facts::{Begin, Facts, Leg, Skip, Why},
    history::Said,
    report::{Findings, Rule},
};

const RULE: Rule = Rule::AcknowledgedLost;

pub(super) fn check(facts: &Facts<'_>, skips: &[Skip<'_>], findings: &mut Findings) {
    for skip in skips.iter().filter(|skip| skip.why == Why::Carried) {
        let (leg, known) = (skip.leg, skip.known);
        let by = leg
            .delivered
            .partition_point(|&sequence| sequence < known.sequence);
        let later = leg.delivered.get(by).copied().unwrap_or(leg.carried);
        findings.add(RULE, [known.line, leg.reached.1], || {
            format!(
                "{} did not carry {}/{} on {}, but went on to {later}",
                facts.who(leg),
                leg.epoch,
                known.sequence,
                facts.topic(known.topic)
            )
        });
    }
    for leg in &facts.legs {
        begins_too_high(facts, leg, findings);
    }
    between_streams(facts, findings);
    not_handed_out(facts, findings);
}

/// A start that was not visible yet hides the events in between.
fn begins_too_high(facts: &Facts<'_>, leg: &Leg, findings: &mut Findings) {
    let Some(epoch) = facts.epochs.get(&leg.epoch) else {
        return;
    };
    for step in leg.steps(facts.history) {
        let (what, from) = match &step.said {
            Said::Welcome { position, .. } if position.epoch == leg.epoch => {
                ("was welcomed", position.sequence)
            }
            Said::FilterAdded { after, .. } => ("got a filter", *after),
            _ => continue,
        };
        if let Some((lowest, line)) = epoch.clock.lowest_after(step.at)
            && lowest <= from
        {
            findings.add(RULE, [step.line, line], || {
                format!(
                    "{} {what} after {}/{from}, but {lowest} was published only later",
                    facts.who(leg),
                    leg.epoch
                )
            });
        }
    }
}

/// The events between the last position of a subscriber's streams and the start of the next one.
fn between_streams(facts: &Facts<'_>, findings: &mut Findings) {
    let mut by_subscriber: Vec<&Leg> = facts.legs.iter().collect();
    let subscriber = |leg: &Leg| facts.history.streams[leg.stream].subscriber;
    by_subscriber.sort_by_key(|leg| (subscriber(leg), leg.epoch, leg.stream));
    for legs in by_subscriber.chunk_by(|a, b| (subscriber(a), a.epoch) == (subscriber(b), b.epoch))
    {
        let mut farthest = legs[0];
        for &leg in &legs[1..] {
            if leg.base > farthest.reached.0
                && leg.begin != Begin::OtherEpoch
                && !is_future(facts, leg)
            {
                hole(facts, farthest, leg, findings);
            }
            if leg.reached.0 >= farthest.reached.0 {
                farthest = leg;
            }
        }
    }
}

/// Whether the requested position was never written: then no subscriber had reached it.
fn is_future(facts: &Facts<'_>, leg: &Leg) -> bool {
    let asked = facts.history.streams[leg.stream].resume_after;
    asked.is_some_and(|asked| asked.sequence > leg.base)
}

fn hole(facts: &Facts<'_>, before: &Leg, leg: &Leg, findings: &mut Findings) {
    let Some(epoch) = facts.epochs.get(&leg.epoch) else {
        return;
    };
    let first = &facts.history.streams[leg.stream].filters;
    for topic in facts.topics_of(before) {
        let asked = first
            .iter()
            .any(|&filter| facts.meant[filter as usize].contains(topic));
        let followed = facts
            .stretches(before, topic)
            .last()
            .is_some_and(|last| last.through == u64::MAX);
        if !asked || !followed {
            continue;
        }
        for known in epoch
            .of_topic(topic, before.reached.0, leg.base)
            .filter(|it| it.vouched)
        {
            let opened = facts.history.streams[leg.stream].opened_line;
            findings.add(RULE, [known.line, before.reached.1, opened], || {
                format!(
                    "{} began after {}/{}, where {} had come to {} only: {} on {} is in neither",
                    facts.who(leg),
                    leg.epoch,
                    leg.base,
                    facts.who(before),
                    before.reached.0,
                    known.sequence,
                    facts.topic(topic)
                )
            });
        }
    }
}

/// Came, and was kept from the application, which got a later one.
fn not_handed_out(facts: &Facts<'_>, findings: &mut Findings) {
    let subscriber = |leg: &Leg| facts.history.streams[leg.stream].subscriber;
    let mut withheld = Vec::new();
    let mut wanted = FxHashSet::default();
    for (index, leg) in facts.legs.iter().enumerate() {
        let steps = leg.steps(facts.history).iter();
        let events = steps.filter_map(|step| match &step.said {
            Said::Event(told) => Some((step, told)),
            _ => None,
        });
        let last_applied = events
            .clone()
            .filter(|(_, told)| told.applied)
            .map(|(_, told)| told.sequence)
            .max();
        for (step, told) in events.filter(|(_, told)| !told.applied) {
            if last_applied.is_some_and(|last| told.sequence < last) {
                withheld.push((index, step.line, told.sequence));
                wanted.insert((subscriber(leg), leg.epoch, told.sequence));
            }
        }
    }
    if withheld.is_empty() {
        return;
    }
    let mut applied = FxHashSet::default();
    for leg in &facts.legs {
        for step in leg.steps(facts.history) {
            if let Said::Event(told) = &step.said
                && told.applied
                && wanted.contains(&(subscriber(leg), leg.epoch, told.sequence))
            {
                applied.insert((subscriber(leg), leg.epoch, told.sequence));
            }
        }
    }
    for (index, line, sequence) in withheld {
        let leg = &facts.legs[index];
        if !applied.contains(&(subscriber(leg), leg.epoch, sequence)) {
            findings.add(RULE, [line], || {
                format!(
                    "{} never handed {}/{sequence} to the application, but later ones",
                    facts.who(leg),
                    leg.epoch
                )
            });
        }
    }
}

//! Progress tells the truth: all matching events up to its position were sent before it, and `current` says that no
//! later one was ready.
//!
//! Sees: an event at or below the position that comes afterwards; a known one that never comes; a position that was not
//! visible yet, because a publish begun later got a lower sequence; another epoch than the stream's; `current` below a
//! matching event that was known before the stream was opened.
//! Cannot see: a `current` that is wrong about events that came while the stream stood. The history has the time at
//! which a Progress was received, and not when it was sent.
//!
//! The position of a GoAway, and that of a change of filters, count as that of a Progress.

use crate::{
    facts::{Facts, Leg, Skip, Why},
    history::{Said, Step},
    report::{Findings, Rule},
};

const RULE: Rule = Rule::ProgressTrue;

pub(super) fn check(facts: &Facts<'_>, skips: &[Skip<'_>], findings: &mut Findings) {
    for skip in skips.iter().filter(|skip| skip.why == Why::Said) {
        let (leg, known) = (skip.leg, skip.known);
        findings.add(RULE, [known.line, leg.reached.1], || {
            format!(
                "{} was told to be at {}/{}, but {} on {} was never sent",
                facts.who(leg),
                leg.epoch,
                leg.reached.0,
                known.sequence,
                facts.topic(known.topic)
            )
        });
    }
    for leg in &facts.legs {
        late_events(facts, leg, findings);
        positions(facts, leg, findings);
    }
}

fn late_events(facts: &Facts<'_>, leg: &Leg, findings: &mut Findings) {
    let (mut last, mut gap) = (leg.base, 0);
    let mut told = (0, 0);
    for step in leg.steps(facts.history) {
        match &step.said {
            Said::Progress { position, .. } if position.epoch == leg.epoch => {
                told = told.max((position.sequence, step.line));
            }
            Said::FilterAdded { after, .. } | Said::FilterRemoved { after, .. } => {
                told = told.max((*after, step.line));
            }
            Said::Gap(it) => gap = gap.max(it.through),
            Said::Event(event) => {
                if event.sequence <= told.0 && event.sequence > last.max(gap) {
                    findings.add(RULE, [told.1, step.line], || {
                        format!(
                            "{} got {}/{} after a Progress at {}",
                            facts.who(leg),
                            leg.epoch,
                            event.sequence,
                            told.0
                        )
                    });
                }
                last = last.max(event.sequence);
            }
            _ => {}
        }
    }
}

fn positions(facts: &Facts<'_>, leg: &Leg, findings: &mut Findings) {
    let mut expected = None;
    for step in leg.steps(facts.history) {
        let (position, current) = match &step.said {
            Said::Progress { position, current } => (*position, *current),
            Said::GoAway {
                position: Some(position),
            } => (*position, false),
            _ => continue,
        };
        if position.epoch != leg.epoch {
            findings.add(RULE, [step.line], || {
                format!(
                    "{} reads epoch {} and was told a position of epoch {}",
                    facts.who(leg),
                    leg.epoch,
                    position.epoch
                )
            });
            continue;
        }
        not_visible(facts, leg, step, position.sequence, findings);
        if current {
            let (expected, line) = *expected.get_or_insert_with(|| expected_at_opening(facts, leg));
            if position.sequence < expected {
                findings.add(RULE, [line, step.line], || {
                    format!(
                        "{} was told to be current at {}/{}, but {expected} was known before it was opened",
                        facts.who(leg),
                        leg.epoch,
                        position.sequence
                    )
                });
            }
        }
    }
}

fn not_visible(facts: &Facts<'_>, leg: &Leg, step: &Step, position: u64, findings: &mut Findings) {
    let epoch = facts.epochs.get(&leg.epoch);
    let Some((lowest, line)) = epoch.and_then(|epoch| epoch.clock.lowest_after(step.at)) else {
        return;
    };
    if lowest <= position {
        findings.add(RULE, [step.line, line], || {
            format!(
                "{} was told to be at {}/{position}, but {lowest} was published only later",
                facts.who(leg),
                leg.epoch
            )
        });
    }
}

/// The highest matching event that was known before the stream was opened, and its line.
fn expected_at_opening(facts: &Facts<'_>, leg: &Leg) -> (u64, u64) {
    let opened = facts.history.streams[leg.stream].opened_at;
    let Some(epoch) = facts.epochs.get(&leg.epoch) else {
        return (0, 0);
    };
    let mut expected = (0, 0);
    for topic in facts.topics_of(leg) {
        for stretch in facts.stretches(leg, topic) {
            let after = stretch.after.max(leg.expected_after).max(expected.0);
            let known = epoch.of_topic(topic, after, stretch.through);
            let mut known = known.filter(|known| known.vouched && known.seen_at < opened);
            if let Some(last) = known.next_back() {
                expected = expected.max((last.sequence, last.line));
            }
        }
    }
    expected
}

//! No event reaches the application of a subscriber twice, over all its streams.
//!
//! Sees: every repetition among the events marked as handed to the application.
//! Cannot see: a repetition on the wire that was dropped. On one stream `rising` tells it. On the next stream it is
//! lawful directly after the resume, and there alone: an event before it would have been skipped first, which
//! `acknowledged_lost` tells.

use crate::{
    facts::{Facts, Leg},
    history::Said,
    report::{Findings, Rule},
};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let subscriber = |leg: &Leg| facts.history.streams[leg.stream].subscriber;
    let mut legs: Vec<&Leg> = facts.legs.iter().collect();
    legs.sort_by_key(|leg| (subscriber(leg), leg.stream));
    for legs in legs.chunk_by(|a, b| subscriber(a) == subscriber(b)) {
        let mut applied = Vec::new();
        for leg in legs {
            for step in leg.steps(facts.history) {
                if let Said::Event(told) = &step.said
                    && told.applied
                {
                    applied.push((leg.epoch, told.sequence, step.line));
                }
            }
        }
        applied.sort_unstable();
        for pair in applied.windows(2) {
            let ((epoch, sequence, first), (next_epoch, next, second)) = (pair[0], pair[1]);
            if (epoch, sequence) == (next_epoch, next) {
                findings.add(Rule::NoRepeat, [first, second], || {
                    let subscriber = facts.history.subscribers.text(subscriber(legs[0]));
                    format!(
                        "subscriber {subscriber} handed {epoch}/{sequence} to its application twice"
                    )
                });
            }
        }
    }
}

//! Only matching events arrive: an event's topic is one that the stream follows at that sequence.
//!
//! Sees: all of it, on each stream by itself.
//! Cannot see: nothing of it is hidden.

use rustc_hash::FxHashMap;

use crate::{
    facts::Facts,
    history::Said,
    report::{Findings, Rule},
};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for leg in &facts.legs {
        let mut stretches = FxHashMap::default();
        for step in leg.steps(facts.history) {
            let Said::Event(told) = &step.said else {
                continue;
            };
            let stretches = stretches
                .entry(told.topic)
                .or_insert_with(|| facts.stretches(leg, told.topic));
            // An event that is not above the start of the stream is told by `rising`.
            let asked = stretches
                .iter()
                .any(|stretch| stretch.contains(told.sequence));
            if !asked && told.sequence > leg.base {
                findings.add(Rule::OnlyMatching, [step.line], || {
                    format!(
                        "{} got {}/{} on {}, which none of its filters means there",
                        facts.who(leg),
                        leg.epoch,
                        told.sequence,
                        facts.topic(told.topic)
                    )
                });
            }
        }
    }
}

//! Nothing is delivered that was not published.
//!
//! Sees: an event whose topic and content no publish had that was begun before the event came and was not
//! refused; a content that stands at more positions of one epoch than it has publishes.
//! Cannot see: anything on foreign topics; which of several publishes with one content was delivered.

use rustc_hash::FxHashMap;

use crate::{
    facts::Facts,
    history::Said,
    report::{Findings, Rule},
};

const RULE: Rule = Rule::DeliveredUnpublished;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for leg in &facts.legs {
        for step in leg.steps(facts.history) {
            let Said::Event(told) = &step.said else {
                continue;
            };
            if facts.foreign.contains(told.topic) {
                continue;
            }
            let content = facts.contents.get(&(told.topic, told.digest));
            let (why, line) = match content {
                None => ("nobody published", 0),
                Some(content) if content.begun_at > step.at => {
                    ("was published only later", content.line)
                }
                Some(_) => continue,
            };
            findings.add(RULE, [step.line, line], || {
                format!(
                    "{} got {}/{} on {} with {}, which {why}",
                    facts.who(leg),
                    leg.epoch,
                    told.sequence,
                    facts.topic(told.topic),
                    told.digest
                )
            });
        }
    }
    more_than_published(facts, findings);
}

fn more_than_published(facts: &Facts<'_>, findings: &mut Findings) {
    for (number, epoch) in &facts.epochs {
        let mut places: FxHashMap<_, u64> = FxHashMap::default();
        for known in &epoch.known {
            let Some(digest) = known.digest else { continue };
            let content = (known.topic, digest);
            let Some(published) = facts.contents.get(&content) else {
                continue;
            };
            let count = places.entry(content).or_default();
            *count += 1;
            if *count > published.publishes && !facts.foreign.contains(known.topic) {
                findings.add(RULE, [known.line, published.line], || {
                    format!(
                        "{number}/{} on {} has the content {digest} for the {count}. time; it was published {} \
                         times",
                        known.sequence,
                        facts.topic(known.topic),
                        published.publishes
                    )
                });
            }
        }
    }
}

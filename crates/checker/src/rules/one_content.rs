//! One position has one content for all: topic, content, and previous sequence where it is known; and it is the
//! content of the publish that was acknowledged there.
//!
//! Sees: two subscribers, or a subscriber and a publisher, that disagree; two publishes acknowledged at one position; a
//! duplicate's answer that names a position of another topic.
//! Cannot see: a wrong content on which all agree; that is `delivered_unpublished`.

use crate::{
    facts::Facts,
    history::{Answer, Said},
    report::{Findings, Rule},
};

const RULE: Rule = Rule::OneContent;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    publishers(facts, findings);
    for leg in &facts.legs {
        let Some(epoch) = facts.epochs.get(&leg.epoch) else {
            continue;
        };
        for step in leg.steps(facts.history) {
            let Said::Event(told) = &step.said else {
                continue;
            };
            let Some(known) = epoch.at(told.sequence) else {
                continue;
            };
            let what = if told.topic != known.topic {
                "topic"
            } else if known.digest.is_some_and(|digest| digest != told.digest) {
                "content"
            } else if told.previous != 0 && told.previous != known.previous {
                "previous sequence"
            } else {
                continue;
            };
            findings.add(RULE, [step.line, known.line], || {
                format!(
                    "{} got {}/{} on {} with {} after {}; elsewhere its {what} is another: on {} with {} \
                     after {}",
                    facts.who(leg),
                    leg.epoch,
                    told.sequence,
                    facts.topic(told.topic),
                    told.digest,
                    told.previous,
                    facts.topic(known.topic),
                    known.digest.unwrap_or(told.digest),
                    known.previous
                )
            });
        }
    }
}

fn publishers(facts: &Facts<'_>, findings: &mut Findings) {
    for (index, publish) in (0..).zip(&facts.history.publishes) {
        let Answer::Acknowledged {
            position,
            duplicate,
            ..
        } = publish.answer
        else {
            continue;
        };
        let epoch = facts.epochs.get(&position.epoch);
        let Some(known) = epoch.and_then(|epoch| epoch.at(position.sequence)) else {
            continue;
        };
        let wrong = if duplicate {
            known.topic != publish.topic
        } else {
            known.publish != Some(index)
        };
        if wrong {
            findings.add(RULE, [known.line, publish.ended_line], || {
                format!(
                    "{} on {} was acknowledged at {}/{}, where {} is",
                    facts.whose(publish),
                    facts.topic(publish.topic),
                    position.epoch,
                    position.sequence,
                    known.publish.map_or_else(
                        || format!("an event of {}", facts.topic(known.topic)),
                        |other| facts.whose(&facts.history.publishes[other as usize])
                    )
                )
            });
        }
    }
}

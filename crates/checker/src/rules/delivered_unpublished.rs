//! Nothing is delivered that was not published.
//!
//! Sees: an event whose topic and content belong to no publish that was begun before the event came and was not
//! refused; a content that stands at more positions of one epoch than it has publishes. A position that a DAMAGED gap
//! reports as lost does not count: its message may have been in flight still, and been stored again.
//! Cannot see: anything on foreign topics; which of several publishes with one content was delivered.

use rustc_hash::FxHashMap;

use crate::{
    facts::{Facts, Known, Leg},
    history::{GapReason, Said},
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
            if *count <= published.publishes || facts.foreign.contains(known.topic) {
                continue;
            }
            let same = epoch.known.iter().filter(|other| {
                (other.topic, other.digest) == (known.topic, known.digest)
                    && other.sequence <= known.sequence
            });
            let stored = same.filter(|other| !may_be_lost(facts, *number, other));
            if stored.count() as u64 > published.publishes {
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

/// Whether the disk may have lost an event after it was delivered, and nobody received it later. Then a DAMAGED gap
/// covers it, or a stream that came back behind it was told of damage at once, which may have begun before.
fn may_be_lost(facts: &Facts<'_>, epoch: u64, known: &Known) -> bool {
    let legs = || facts.legs.iter().filter(|leg| leg.epoch == epoch);
    let told = |leg: &Leg| {
        let steps = leg.steps(facts.history);
        let mut steps = steps.iter().enumerate();
        steps.find_map(|(at, step)| match &step.said {
            Said::Gap(gap)
                if gap.reason == GapReason::Damaged
                    && known.sequence <= gap.through
                    && (known.sequence > gap.after || at <= 1) =>
            {
                Some(step.at)
            }
            _ => None,
        })
    };
    let Some(told) = legs().filter_map(told).min() else {
        return false;
    };
    let given_later = |leg: &Leg| {
        leg.steps(facts.history).iter().any(|step| {
            step.at > told
                && matches!(&step.said, Said::Event(event) if event.sequence == known.sequence)
        })
    };
    !legs().any(given_later)
}

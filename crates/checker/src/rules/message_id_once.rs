//! One message id of a principal on a topic has one sequence in an epoch.
//!
//! Sees: two answers for one id that name different positions; a duplicate's answer that names a position whose content
//! is none of the id's; the content of one id, and of no other publish, at two positions.
//! Cannot see: ids that the server may have forgotten, by age or number ([`super::Limits`]). A second position is
//! lawful for them.

use rustc_hash::FxHashMap;

use super::Limits;
use crate::{
    facts::{Facts, Known},
    history::{Answer, Position, Publish, Topic},
    report::{Findings, Rule},
};

const RULE: Rule = Rule::MessageIdOnce;

/// Principal, topic and id.
type Id = (u32, Topic, u32);

pub(super) fn check(facts: &Facts<'_>, limits: &Limits, findings: &mut Findings) {
    let window = Window::of(facts, limits);
    let mut by_id: FxHashMap<Id, Vec<&Publish>> = FxHashMap::default();
    for publish in &facts.history.publishes {
        if let Some(id) = publish.message_id
            && publish.answer != Answer::Refused
        {
            let key = (publish.principal, publish.topic, id);
            by_id.entry(key).or_default().push(publish);
        }
    }
    for publishes in by_id.values() {
        answers(facts, &window, publishes, findings);
        duplicates(facts, publishes, findings);
    }
    contents(facts, &window, findings);
}

/// The ids that the server remembers.
struct Window {
    nanos: u64,
    ids: u64,
    begun: Vec<u64>,
    ended: Vec<u64>,
}

impl Window {
    fn of(facts: &Facts<'_>, limits: &Limits) -> Self {
        let with_id = facts
            .history
            .publishes
            .iter()
            .filter(|it| it.message_id.is_some());
        let (mut begun, mut ended): (Vec<_>, Vec<_>) =
            with_id.map(|it| (it.begun_at, it.ended_at)).unzip();
        begun.sort_unstable();
        ended.sort_unstable();
        Self {
            nanos: u64::try_from(limits.message_id_window.as_nanos()).unwrap_or(u64::MAX),
            ids: limits.message_ids,
            begun,
            ended,
        }
    }

    /// Whether an id stored after `from` is remembered for certain until `to`.
    fn remembers(&self, from: u64, to: u64) -> bool {
        let begun = self.begun.partition_point(|&at| at <= to);
        let ended = self.ended.partition_point(|&at| at < from);
        to.saturating_sub(from) < self.nanos && (begun.saturating_sub(ended) as u64) < self.ids
    }
}

fn place(publish: &Publish) -> Option<Position> {
    match publish.answer {
        Answer::Acknowledged { position, .. } => Some(position),
        Answer::Refused | Answer::Unknown => None,
    }
}

fn answers(facts: &Facts<'_>, window: &Window, publishes: &[&Publish], findings: &mut Findings) {
    let placed = publishes
        .iter()
        .filter_map(|publish| Some((place(publish)?, *publish)));
    let mut placed: Vec<_> = placed.collect();
    placed.sort_by_key(|(position, publish)| (*position, publish.begun_at));
    for pair in placed.windows(2) {
        let ((first, one), (second, other)) = (pair[0], pair[1]);
        let (from, to) = (
            one.begun_at.min(other.begun_at),
            one.ended_at.max(other.ended_at),
        );
        if first.epoch == second.epoch && first != second && window.remembers(from, to) {
            findings.add(RULE, [one.ended_line, other.ended_line], || {
                format!(
                    "message id {} is at {}/{} ({}) and at {} ({})",
                    facts
                        .history
                        .message_ids
                        .text(one.message_id.unwrap_or_default()),
                    first.epoch,
                    first.sequence,
                    facts.whose(one),
                    second.sequence,
                    facts.whose(other)
                )
            });
        }
    }
}

fn duplicates(facts: &Facts<'_>, publishes: &[&Publish], findings: &mut Findings) {
    for publish in publishes {
        let Answer::Acknowledged {
            position,
            duplicate: true,
            ..
        } = publish.answer
        else {
            continue;
        };
        let epoch = facts.epochs.get(&position.epoch);
        let known = epoch.and_then(|epoch| epoch.at(position.sequence));
        // Of another topic is told by `one_content`.
        if let Some(known) = known.filter(|known| known.topic == publish.topic)
            && let Some(digest) = known.digest
            && !publishes.iter().any(|other| other.digest == digest)
        {
            findings.add(RULE, [known.line, publish.ended_line], || {
                format!(
                    "{} was answered as a duplicate of {}/{}, which is no message of its id",
                    facts.whose(publish),
                    position.epoch,
                    position.sequence
                )
            });
        }
    }
}

/// The content of one id at two positions, where no answer says so.
fn contents(facts: &Facts<'_>, window: &Window, findings: &mut Findings) {
    for (number, epoch) in &facts.epochs {
        let mut first: FxHashMap<_, (&Known, u64)> = FxHashMap::default();
        for known in &epoch.known {
            let Some(digest) = known.digest else { continue };
            let Some(content) = facts.contents.get(&(known.topic, digest)) else {
                continue;
            };
            if content.message_id.is_none() || facts.foreign.contains(known.topic) {
                continue;
            }
            let (before, count) = first.entry((known.topic, digest)).or_insert((known, 0));
            *count += 1;
            // More than were published is told by `delivered_unpublished`, two answers are told above.
            let answered = before.publish.is_some() && known.publish.is_some();
            let to = before.seen_at.max(known.seen_at);
            if *count > 1
                && *count <= content.publishes
                && !answered
                && window.remembers(content.begun_at, to)
            {
                findings.add(RULE, [before.line, known.line], || {
                    format!(
                        "the content of one message id is at {number}/{} and at {} on {}",
                        before.sequence,
                        known.sequence,
                        facts.topic(known.topic)
                    )
                });
            }
        }
    }
}

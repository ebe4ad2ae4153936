//! Known events that a stream passed over without a word, each told by one rule.
//!
//! Holds: a stream that says a position, or carries an event or the end of a gap, has told everything that
//! matches up to there, because the log becomes visible in order. So it does not matter when the skipped
//! event was acknowledged or seen by others, only that it exists.

use super::{Facts, Known, Leg, legs::Begin};

/// The record that shows that an event was skipped. It decides which rule reports the skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// It lies between the position resumed after and the first event.
    BeforeFirst,
    /// Something above it was carried.
    Carried,
    /// Only a position says that it was told.
    Said,
}

/// One event that one stream did not carry.
pub(crate) struct Skip<'f> {
    pub(crate) leg: &'f Leg,
    pub(crate) known: &'f Known,
    pub(crate) why: Why,
}

/// Everything that was skipped.
pub(crate) fn skips<'f>(facts: &'f Facts<'_>) -> Vec<Skip<'f>> {
    let mut skips = Vec::new();
    for leg in &facts.legs {
        let Some(epoch) = facts.epochs.get(&leg.epoch) else {
            continue;
        };
        let begin = skips.len();
        for topic in facts.topics_of(leg) {
            for stretch in facts.stretches(leg, topic) {
                let after = stretch.after.max(leg.expected_after);
                let through = stretch.through.min(leg.reached.0);
                for known in epoch.of_topic(topic, after, through) {
                    if known.vouched
                        && !leg.has(known.sequence)
                        && !leg.is_announced(known.sequence)
                    {
                        let why = why(leg, known.sequence);
                        skips.push(Skip { leg, known, why });
                    }
                }
            }
        }
        skips[begin..].sort_by_key(|skip| skip.known.sequence);
    }
    skips
}

fn why(leg: &Leg, sequence: u64) -> Why {
    let before_first = leg.first.is_some_and(|first| sequence < first);
    if leg.begin == Begin::Resumed && before_first {
        Why::BeforeFirst
    } else if sequence < leg.carried {
        Why::Carried
    } else {
        Why::Said
    }
}

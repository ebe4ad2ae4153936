//! An event that was acknowledged or seen before another publish was begun has the lower sequence, in the same epoch.
//!
//! Sees: every pair that the recorder's clock tells apart. Duplicates are exempt as the later one: their position is
//! that of the first.
//! Cannot see: the order of publishes that were in flight at the same time.

use crate::{
    facts::Facts,
    history::Answer,
    report::{Findings, Rule},
};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for (number, epoch) in &facts.epochs {
        let known = epoch.known.iter().filter(|known| known.vouched);
        let mut seen: Vec<_> = known.map(|it| (it.seen_at, it.sequence, it.line)).collect();
        seen.sort_unstable();
        let stored = facts
            .history
            .publishes
            .iter()
            .filter_map(|publish| match publish.answer {
                Answer::Acknowledged {
                    position,
                    duplicate: false,
                    ..
                } if position.epoch == *number => {
                    Some((publish.begun_at, position.sequence, publish))
                }
                _ => None,
            });
        let mut stored: Vec<_> = stored.collect();
        stored.sort_by_key(|&(begun_at, sequence, _)| (begun_at, sequence));
        let mut seen = seen.into_iter().peekable();
        let mut highest = (0, 0);
        for (begun_at, sequence, publish) in stored {
            while let Some((_, before, line)) = seen.next_if(|&(seen_at, _, _)| seen_at < begun_at)
            {
                highest = highest.max((before, line));
            }
            if highest.0 > sequence {
                findings.add(Rule::RealTime, [highest.1, publish.begun_line], || {
                    format!(
                        "{} was begun after {number}/{} was known and is stored at {sequence}",
                        facts.whose(publish),
                        highest.0
                    )
                });
            }
        }
    }
}

//! The first event after a resume is the first one missed: no matching event lies between the position resumed after
//! and the first event, except in an announced gap.
//!
//! Sees: every event there that was acknowledged or seen by anybody, at any time.
//! Cannot see: an event that no record names. An event that a stream skips before it carried anything at all is told by
//! `progress_true`.

use crate::{
    facts::{Facts, Skip, Why},
    report::{Findings, Rule},
};

pub(super) fn check(facts: &Facts<'_>, skips: &[Skip<'_>], findings: &mut Findings) {
    for skip in skips.iter().filter(|skip| skip.why == Why::BeforeFirst) {
        let (leg, known) = (skip.leg, skip.known);
        let opened = facts.history.streams[leg.stream].opened_line;
        findings.add(Rule::ResumeFirst, [opened, known.line], || {
            format!(
                "{} resumed after {}/{} and got {} first; {} on {} was passed over",
                facts.who(leg),
                leg.epoch,
                leg.base,
                leg.first.unwrap_or_default(),
                known.sequence,
                facts.topic(known.topic)
            )
        });
    }
}

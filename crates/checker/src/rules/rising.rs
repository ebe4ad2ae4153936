//! Order rises on each stream: each event lies above the events before it and above the start of the stream. The
//! positions of Progress never fall, and never below the last event.
//!
//! Sees: all of it, on each stream by itself. Also an event before the Welcome.
//! Cannot see: nothing of it is hidden. An event that crosses a gap or a Progress is told by `gap_true` and
//! `progress_true`.

use crate::{
    facts::Facts,
    history::Said,
    report::{Findings, Rule},
};

const RULE: Rule = Rule::Rising;

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for leg in &facts.legs {
        let mut last = (leg.base, facts.history.streams[leg.stream].opened_line);
        let mut told = last;
        for step in leg.steps(facts.history) {
            match &step.said {
                Said::Event(event) => {
                    if event.sequence <= last.0 {
                        findings.add(RULE, [last.1, step.line], || {
                            format!(
                                "{} got {}/{} after {}",
                                facts.who(leg),
                                leg.epoch,
                                event.sequence,
                                last.0
                            )
                        });
                    } else {
                        last = (event.sequence, step.line);
                        told = told.max(last);
                    }
                }
                Said::Gap(gap) => told = told.max((gap.through, step.line)),
                Said::Progress { position, .. } if position.epoch == leg.epoch => {
                    if position.sequence < told.0 {
                        findings.add(RULE, [told.1, step.line], || {
                            format!(
                                "{} got a Progress at {}/{} after {}",
                                facts.who(leg),
                                leg.epoch,
                                position.sequence,
                                told.0
                            )
                        });
                    } else {
                        told = (position.sequence, step.line);
                    }
                }
                _ => {}
            }
        }
    }
    before_welcome(facts, findings);
}

fn before_welcome(facts: &Facts<'_>, findings: &mut Findings) {
    for stream in &facts.history.streams {
        if let Some(first) = stream.steps.first()
            && !matches!(first.said, Said::Welcome { .. })
        {
            findings.add(RULE, [stream.opened_line, first.line], || {
                format!("stream {} did not begin with a Welcome", stream.number)
            });
        }
    }
}

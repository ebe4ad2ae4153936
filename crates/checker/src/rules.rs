//! The rules, one module each: its promise, the breaches that it can see, and those that it cannot.
//!
//! A mistake is told by one rule where that can be helped. There are two kinds:
//! - An event that a stream passed over is told by `resume_first` before the first event after a resume, by
//!   `progress_true` when only a Progress claims it, and by `acknowledged_lost` otherwise.
//! - An event that comes too late is told by `rising` when it is not above the events before it, by `gap_true` when a
//!   gap had announced it, else by `progress_true`.

mod acknowledged_lost;
mod at_head;
mod delivered_unpublished;
mod gap_true;
mod message_id_once;
mod no_repeat;
mod one_content;
mod only_matching;
mod previous_sequence;
mod progress_true;
mod real_time;
mod resume_first;
mod rising;

use std::time::Duration;

use crate::{
    facts::{Facts, skips},
    history::History,
    report::{Findings, Report},
    summary::Summary,
};

/// The limits of the server that the rules have to know, and how much is shown.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How soon after the last fault every subscriber must be at the head.
    pub head_within: Duration,
    /// How long the server remembers a message id, and
    pub message_id_window: Duration,
    /// how many of them: beyond either a repetition is lawful.
    pub message_ids: u64,
    /// How many violations of each rule are shown.
    pub shown: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_within: Duration::from_secs(10),
            message_id_window: Duration::from_secs(120),
            message_ids: 100_000,
            shown: 10,
        }
    }
}

/// Holds a history against every rule.
pub fn check(history: &History, limits: &Limits) -> Report {
    let facts = Facts::of(history);
    let skipped = skips(&facts);
    let mut findings = Findings::new(limits.shown);
    let all = &mut findings;
    acknowledged_lost::check(&facts, &skipped, all);
    delivered_unpublished::check(&facts, all);
    one_content::check(&facts, all);
    rising::check(&facts, all);
    no_repeat::check(&facts, all);
    previous_sequence::check(&facts, all);
    gap_true::check(&facts, all);
    real_time::check(&facts, all);
    message_id_once::check(&facts, limits, all);
    resume_first::check(&facts, &skipped, all);
    progress_true::check(&facts, &skipped, all);
    let at_head = at_head::check(&facts, limits, all);
    only_matching::check(&facts, all);
    let summary = Summary::of(history, &facts, at_head);
    findings.report(summary)
}

//! The numbers of a history.

use std::{collections::BTreeMap, fmt};

use crate::{
    facts::Facts,
    history::{Answer, GapReason, History, Said},
};

/// The numbers of a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Whole lines.
    pub lines: u64,
    /// The line that was cut off.
    pub truncated: Option<u64>,
    /// How many published.
    pub publishers: u64,
    /// Publishes that were acknowledged,
    pub acknowledged: u64,
    /// of these as duplicates,
    pub duplicates: u64,
    /// refused,
    pub refused: u64,
    /// and of unknown outcome.
    pub unknown: u64,
    /// How many received.
    pub subscribers: u64,
    /// On how many streams.
    pub streams: u64,
    /// Events that came, on all streams.
    pub delivered: u64,
    /// Of these not handed to the application.
    pub dropped: u64,
    /// Gaps by reason.
    pub gaps: BTreeMap<GapReason, u64>,
    /// Epochs that streams read or answers named.
    pub epochs: u64,
    /// Faults by their names.
    pub faults: BTreeMap<String, u64>,
    /// Subscribers that cannot be judged: it is not known whether they were at the head in time.
    pub at_head_not_judged: u64,
}

impl Summary {
    pub(crate) fn of(history: &History, facts: &Facts<'_>, at_head_not_judged: u64) -> Self {
        let mut summary = Self {
            lines: history.lines,
            truncated: history.truncated,
            publishers: history.publishers.len() as u64,
            subscribers: history.subscribers.len() as u64,
            streams: history.streams.len() as u64,
            at_head_not_judged,
            ..Self::default()
        };
        for publish in &history.publishes {
            match publish.answer {
                Answer::Acknowledged { duplicate, .. } => {
                    summary.acknowledged += 1;
                    summary.duplicates += u64::from(duplicate);
                }
                Answer::Refused => summary.refused += 1,
                Answer::Unknown => summary.unknown += 1,
            }
        }
        for step in history.streams.iter().flat_map(|stream| &stream.steps) {
            match &step.said {
                Said::Event(told) => {
                    summary.delivered += 1;
                    summary.dropped += u64::from(!told.applied);
                }
                Said::Gap(gap) => *summary.gaps.entry(gap.reason).or_default() += 1,
                _ => {}
            }
        }
        let mut epochs: Vec<u64> = facts.epochs.keys().copied().collect();
        epochs.extend(facts.legs.iter().map(|leg| leg.epoch));
        epochs.sort_unstable();
        epochs.dedup();
        summary.epochs = epochs.len() as u64;
        for fault in &history.faults {
            *summary.faults.entry(fault.clone()).or_default() += 1;
        }
        summary
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} lines", self.lines)?;
        if let Some(line) = self.truncated {
            write!(f, ", line {line} is cut off")?;
        }
        write!(
            f,
            "\npublishers   {}: {} acknowledged ({} duplicates), {} refused, {} unknown",
            self.publishers, self.acknowledged, self.duplicates, self.refused, self.unknown
        )?;
        write!(
            f,
            "\nsubscribers  {} on {} streams: {} events, {} of them dropped",
            self.subscribers, self.streams, self.delivered, self.dropped
        )?;
        let gaps = self
            .gaps
            .iter()
            .map(|(reason, count)| (reason.name(), *count));
        write!(f, "\ngaps         {}", counted(gaps))?;
        write!(f, "\nepochs       {}", self.epochs)?;
        let faults = self
            .faults
            .iter()
            .map(|(what, count)| (what.as_str(), *count));
        write!(f, "\nfaults       {}", counted(faults))?;
        if self.at_head_not_judged > 0 {
            let count = self.at_head_not_judged;
            write!(
                f,
                "\nat_head      {count} not judged: the recording ends before the limit"
            )?;
        }
        Ok(())
    }
}

fn counted<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    let (mut total, mut parts) = (0, Vec::new());
    for (name, count) in counts {
        total += count;
        parts.push(format!("{count} {name}"));
    }
    if parts.is_empty() {
        return "0".to_owned();
    }
    format!("{total}: {}", parts.join(", "))
}

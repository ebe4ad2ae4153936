//! Every subscriber is current soon after the last fault. Each live one has been told, within the limit, of a position
//! at or above the last matching event that was acknowledged before the fault ended.
//!
//! Sees: subscribers whose last stream has not ended, or has ended and they mean to come back. It judges the last epoch
//! of the run, if the history has the end of the last fault and goes on until the limit.
//! Cannot see: a subscriber that lags behind no acknowledged matching event. Where the recording ends before the limit,
//! a subscriber that is not current yet is counted as not judged.

use rustc_hash::FxHashMap;

use super::Limits;
use crate::{
    facts::{Facts, Leg},
    history::{Answer, Said, Stream},
    report::{Findings, Rule},
};

/// Returns how many subscribers were not judged.
pub(super) fn check(facts: &Facts<'_>, limits: &Limits, findings: &mut Findings) -> u64 {
    let history = facts.history;
    let (Some((over, over_line)), None) = (history.faults_over, history.truncated) else {
        return 0;
    };
    let Some(epoch) = last_epoch(facts) else {
        return 0;
    };
    let within = u64::try_from(limits.head_within.as_nanos()).unwrap_or(u64::MAX);
    let deadline = over.saturating_add(within);
    let mut legs: FxHashMap<u32, Vec<&Leg>> = FxHashMap::default();
    for leg in facts.legs.iter().filter(|leg| leg.epoch == epoch) {
        let subscriber = history.streams[leg.stream].subscriber;
        legs.entry(subscriber).or_default().push(leg);
    }
    // Only those that were there when the last fault had ended; they may have come back later.
    let mut last: FxHashMap<u32, &Stream> = FxHashMap::default();
    for stream in &history.streams {
        if stream.opened_at <= over || last.contains_key(&stream.subscriber) {
            last.insert(stream.subscriber, stream);
        }
    }
    let acknowledged = Acknowledged::of(facts, epoch, over);
    let mut not_judged = 0;
    let mut open: Vec<_> = last.into_values().collect();
    open.sort_by_key(|stream| stream.opened_line);
    for stream in open.into_iter().filter(|stream| stays(stream)) {
        let legs = legs.get(&stream.subscriber).map_or(&[][..], Vec::as_slice);
        let Some((expected, line)) = acknowledged.expected(facts, stream, legs) else {
            continue;
        };
        let told = legs.iter().map(|leg| told_by(facts, leg, deadline)).max();
        let told = told.unwrap_or(0);
        if told >= expected {
            continue;
        }
        if history.last_at < deadline {
            not_judged += 1;
            continue;
        }
        findings.add(Rule::AtHead, [over_line, line, stream.opened_line], || {
            format!(
                "subscriber {} was at {epoch}/{told} and not at {expected} {} s after the last fault had ended",
                history.subscribers.text(stream.subscriber),
                limits.head_within.as_secs_f64()
            )
        });
    }
    not_judged
}

/// Whether the subscriber of a last stream is still there.
fn stays(stream: &Stream) -> bool {
    stream.ended.is_none_or(|(_, _, returns)| returns)
}

/// The epoch that was heard of last.
fn last_epoch(facts: &Facts<'_>) -> Option<u64> {
    let history = facts.history;
    let answers = history
        .publishes
        .iter()
        .filter_map(|publish| match publish.answer {
            Answer::Acknowledged { position, .. } => Some((publish.ended_at, position.epoch)),
            Answer::Refused | Answer::Unknown => None,
        });
    let legs = facts.legs.iter().filter_map(|leg| {
        let first = leg.steps(history).first()?;
        Some((first.at, leg.epoch))
    });
    let heard = answers.chain(legs).max();
    let said = history.heads.last().map(|(position, _)| position.epoch);
    said.or(heard.map(|(_, epoch)| epoch))
}

/// By topic the last event of an epoch that was acknowledged before a time.
struct Acknowledged(FxHashMap<u32, (u64, u64)>);

impl Acknowledged {
    fn of(facts: &Facts<'_>, epoch: u64, before: u64) -> Self {
        let mut last: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
        for publish in &facts.history.publishes {
            if let Answer::Acknowledged { position, .. } = publish.answer
                && position.epoch == epoch
                && publish.ended_at < before
            {
                let last = last.entry(publish.topic).or_default();
                *last = (*last).max((position.sequence, publish.ended_line));
            }
        }
        Self(last)
    }

    /// The last matching event of a subscriber, and its line. Events that its streams were not to carry do not count.
    fn expected(&self, facts: &Facts<'_>, stream: &Stream, legs: &[&Leg]) -> Option<(u64, u64)> {
        let asked = |topic| {
            let mut filters = stream.filters.iter();
            filters.any(|&filter| facts.meant[filter as usize].contains(topic))
        };
        let last = self
            .0
            .iter()
            .filter(|(topic, (sequence, _))| match legs.last() {
                // It has heard of nothing in this epoch: every event that it asks for has to be delivered, unless it
                // began with nothing.
                None => stream.resume_after.is_some() && asked(**topic),
                Some(leg) => {
                    let stretches = facts.stretches(leg, **topic);
                    let expected = |sequence: u64| sequence > leg.expected_after;
                    expected(*sequence) && stretches.iter().any(|it| it.contains(*sequence))
                }
            });
        last.map(|(_, expected)| *expected).max()
    }
}

/// How far a stream had been told of by a time.
fn told_by(facts: &Facts<'_>, leg: &Leg, deadline: u64) -> u64 {
    let steps = leg.steps(facts.history).iter();
    let told = steps
        .take_while(|step| step.at <= deadline)
        .map(|step| match &step.said {
            Said::Event(told) => told.sequence,
            Said::Gap(gap) => gap.through,
            Said::Progress { position, .. } if position.epoch == leg.epoch => position.sequence,
            _ => 0,
        });
    told.max().unwrap_or(0).max(leg.base)
}

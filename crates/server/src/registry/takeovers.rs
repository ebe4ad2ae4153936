//! The recent takeovers of one id, so that programs that fight over it are slowed down.
//!
//! Holds: a takeover among few is let through at once. Beyond the limit of a minute the next is refused, with a wait
//! that doubles with each refusal. The stream that has the id keeps it meanwhile.
//! Does not: decide what is a takeover, or log.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    contract::{Contract, TakeoverLimits},
    limits,
};

/// The takeovers of one id.
#[derive(Default)]
pub(super) struct Takeovers {
    // Each that was let through within the window.
    lately: Vec<(Instant, Contract)>,
    // Refusals since the window was last empty.
    refused: u32,
    // Since the last word about the fight, and when that was.
    refused_untold: u32,
    told_at: Option<Instant>,
}

/// The log line about a fight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fight {
    /// Takeovers within the window.
    pub(super) takeovers: usize,
    /// Refusals since the last word.
    pub(super) refused: u32,
}

impl Takeovers {
    /// The wait of one that is refused now.
    pub(super) fn refuse(&mut self, contract: Contract, now: Instant) -> Option<Duration> {
        self.forget(now);
        let TakeoverLimits { max, wait_min } = contract.dialect().takeovers();
        let of_contract = |one: &&(Instant, Contract)| one.1 == contract;
        if self.lately.iter().filter(of_contract).count() < max {
            return None;
        }
        let doubled = 1 << self.refused.min(16);
        self.refused = self.refused.saturating_add(1);
        self.refused_untold = self.refused_untold.saturating_add(1);
        Some(
            wait_min
                .saturating_mul(doubled)
                .min(limits::TAKEOVER_WAIT_MAX),
        )
    }

    /// One was let through.
    pub(super) fn note(&mut self, contract: Contract, now: Instant) {
        self.lately.push((now, contract));
    }

    /// Forgets those that were before the window.
    pub(super) fn forget(&mut self, now: Instant) {
        let recent =
            |(at, _): &(Instant, Contract)| now.duration_since(*at) < limits::TAKEOVER_WINDOW;
        self.lately.retain(recent);
        if self.lately.is_empty() {
            *self = Self::default();
        }
    }

    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.lately.is_empty()
    }

    /// Whether there were more than happen by the way, as when a program is started again.
    pub(super) fn is_fight(&self) -> bool {
        self.lately.len() > limits::TAKEOVERS_USUAL
    }

    /// The log line of now: at most one a second.
    pub(super) fn tell(&mut self, now: Instant) -> Option<Fight> {
        let told_lately = self
            .told_at
            .is_some_and(|at| now.duration_since(at) < limits::FIGHT_LOG_INTERVAL);
        if told_lately || !(self.is_fight() || self.refused_untold > 0) {
            return None;
        }
        self.told_at = Some(now);
        Some(Fight {
            takeovers: self.lately.len(),
            refused: std::mem::take(&mut self.refused_untold),
        })
    }

    /// The log line that is left when no takeover comes any more.
    pub(super) fn tell_refused(&mut self, now: Instant) -> Option<Fight> {
        if self.refused_untold == 0 {
            return None;
        }
        self.tell(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fight without a pause: takeovers, waits, and words about it.
    fn fight(contract: Contract, lasting: Duration) -> (usize, Vec<Duration>, usize) {
        let begin = Instant::now();
        let mut takeovers = Takeovers::default();
        let (mut through, mut waits, mut words) = (0, Vec::new(), 0);
        let mut at = Duration::ZERO;
        while at < lasting {
            let now = begin + at;
            if let Some(wait) = takeovers.refuse(contract, now) {
                waits.push(wait);
            } else {
                takeovers.note(contract, now);
                through += 1;
            }
            words += usize::from(takeovers.tell(now).is_some());
            at += Duration::from_millis(1);
        }
        (through, waits, words)
    }

    #[test]
    fn a_fight_is_slowed_down_with_waits_that_grow_and_one_word_a_second() {
        for (contract, max) in [
            (Contract::V1, limits::TAKEOVERS_MAX),
            (Contract::Legacy, limits::LEGACY_TAKEOVERS_MAX),
        ] {
            let seconds = 50;
            let (through, waits, words) = fight(contract, Duration::from_secs(seconds));
            assert_eq!(through, max, "{contract:?}");
            assert!(waits.is_sorted(), "{contract:?}");
            assert_eq!(waits[1], waits[0] * 2);
            assert_eq!(waits.last(), Some(&limits::TAKEOVER_WAIT_MAX));
            assert!(words <= usize::try_from(seconds).unwrap(), "{words} words");
        }
    }

    #[test]
    fn refusals_after_the_last_word_are_told_once_nobody_comes_any_more() {
        let begin = Instant::now();
        let mut takeovers = Takeovers::default();
        for _ in 0..limits::TAKEOVERS_MAX {
            takeovers.note(Contract::V1, begin);
        }
        assert!(takeovers.tell(begin).is_some());
        for _ in 0..3 {
            assert!(takeovers.refuse(Contract::V1, begin).is_some());
            assert!(takeovers.tell(begin).is_none(), "a second has not passed");
        }
        let later = begin + limits::FIGHT_LOG_INTERVAL;
        let refused = |takeovers: &mut Takeovers| {
            let fight = takeovers.tell_refused(later);
            fight.map(|fight| fight.refused)
        };
        assert_eq!(refused(&mut takeovers), Some(3));
        assert_eq!(refused(&mut takeovers), None);
    }

    #[test]
    fn after_a_quiet_minute_nothing_is_remembered() {
        let begin = Instant::now();
        let mut takeovers = Takeovers::default();
        for _ in 0..limits::TAKEOVERS_MAX {
            assert_eq!(takeovers.refuse(Contract::V1, begin), None);
            takeovers.note(Contract::V1, begin);
        }
        let first = takeovers.refuse(Contract::V1, begin).unwrap();
        assert!(takeovers.refuse(Contract::V1, begin).unwrap() > first);
        assert_eq!(takeovers.refuse(Contract::Legacy, begin), None);
        let later = begin + limits::TAKEOVER_WINDOW;
        assert_eq!(takeovers.refuse(Contract::V1, later), None);
        assert!(takeovers.is_empty() && takeovers.tell(later).is_none());
    }
}

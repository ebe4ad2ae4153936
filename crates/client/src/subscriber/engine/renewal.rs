//! Renewal of the credential: a second stream of the same instance, opened with a fresh credential before the one of the
//! first ends.
//!
//! Holds: the current stream goes on until the other is current, and when that cannot be opened; no refusal of the other
//! ends the subscription, since the credential that the current one was let in with still holds.
//! Does not: know which credential is fresh (`credential.rs`), or take events from two streams (`responses.rs`).

use std::time::{Duration, SystemTime};

use longlived_api::v1;
use rand::RngExt as _;
use tokio::time::Instant;

use super::super::ending::{End, Refusal};
use super::super::notice::{GoAwayReason, Notice};
use super::super::stream::Renewal;
use super::streams::{Asked, Successor, Which};
use super::{Engine, far_away};
use crate::credential::Remedy;
use crate::record::StreamRecord;
use crate::wire::{self, Pushback};

/// Looks for a fresh credential in the time that is left, when there is none before.
const LOOKS: u32 = 8;

/// A fresh credential is found at the latest so long after it is there, however much time is left.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(30);

impl Engine {
    /// The server says when the credential of a stream ends.
    pub(super) fn credential_notice(&mut self, notice: &v1::CredentialNotice, which: Which) {
        let expires = notice.expires.and_then(|at| SystemTime::try_from(at).ok());
        if let Some(at) = expires {
            self.say(Notice::CredentialExpires { at });
        }
        let can_renew = self.ask.client.shared.credentials.remedy() != Remedy::Nothing;
        let now = Instant::now();
        let age = now.saturating_duration_since(self.live(which).opened);
        let ends = expires
            .filter(|_| can_renew)
            .map(|expires| now + left(expires, SystemTime::now(), age));
        let renewal = ends.map(|ends| {
            // Subscribers of one client are told at much the same time.
            let first = self.look_interval(ends).mul_f64(self.rng.random::<f64>());
            Renewal {
                ends,
                turn: now + first,
            }
        });
        self.live(which).renewal = renewal;
    }

    /// The turn has come to look for a fresh credential.
    pub(super) fn look_for_fresh(&mut self) {
        if self.standing.leaving.is_cancelled() {
            // The subscriber does not come back; the stream is read to its end.
            self.streams_mut().current.renewal = None;
            return;
        }
        let credentials = self.ask.client.shared.credentials.clone();
        let streams = self.streams_mut();
        let held = streams.current.credential.clone();
        streams.successor = Successor::Asking(Box::pin(async move {
            credentials.fresher_than(held.as_ref()).await
        }));
    }

    /// A fresh credential was looked for.
    pub(super) fn looked(&mut self, asked: Asked) {
        self.streams_mut().successor = Successor::None;
        match asked {
            Ok(Some(_fresh)) => {
                self.say(Notice::HandingOver {
                    reason: GoAwayReason::CredentialExpired,
                    after: Duration::ZERO,
                });
                let opening = self.open();
                self.streams_mut().successor = Successor::Opening(opening);
            }
            Ok(None) => self.look_again(Duration::ZERO),
            Err(error) => {
                tracing::warn!(subscriber = %self.standing.id, "no fresh credential: {error}");
                self.look_again(Duration::ZERO);
            }
        }
    }

    /// The stream with the fresh credential did not come about, or broke before it was current.
    pub(super) fn renewal_failed(&mut self, end: End, record: Option<StreamRecord>) {
        if let Some(record) = record {
            record.ended(end.recorded(), true);
        }
        let subscriber = &self.standing.id;
        let least = match end {
            End::Sent(status) => {
                let refusal = Refusal::from(&status);
                tracing::warn!(%subscriber, "refused with a fresh credential, the old one holds on: {refusal}");
                match wire::pushback(&status) {
                    Some(Pushback::After(wait)) => wait,
                    Some(Pushback::Never) => Duration::MAX,
                    None => Duration::ZERO,
                }
            }
            End::Lost(lost) => {
                tracing::debug!(%subscriber, "no stream with a fresh credential: {lost}");
                Duration::ZERO
            }
            End::Credential(error) => {
                tracing::warn!(%subscriber, "no fresh credential: {error}");
                Duration::ZERO
            }
            End::Ok => Duration::ZERO,
        };
        self.look_again(least);
    }

    /// Looks again later, and not before this time is over.
    fn look_again(&mut self, least: Duration) {
        let Some(Renewal { ends, .. }) = self.streams_mut().current.renewal else {
            return;
        };
        let wait = self
            .look_interval(ends)
            .mul_f64(self.rng.random_range(0.5..=1.0))
            .max(least);
        let turn = Instant::now().checked_add(wait).unwrap_or_else(far_away);
        self.streams_mut().current.renewal = Some(Renewal { ends, turn });
    }

    /// The longest time between two looks. It goes on at the shortest when the time is over: the end by the clock of
    /// the server may be later.
    fn look_interval(&self, ends: Instant) -> Duration {
        let left = ends.saturating_duration_since(Instant::now());
        let shortest = self.ask.client.shared.backoff.initial;
        (left / LOOKS).max(shortest).min(LOOK_INTERVAL_MAX)
    }
}

/// How much time is left by the clock of this machine. That may be ahead of the server's, which tells a stream of the end
/// when at most 85 % of its time are over.
fn left(expires: SystemTime, now: SystemTime, age: Duration) -> Duration {
    let by_clock = expires.duration_since(now).unwrap_or_default();
    by_clock.max(age * 15 / 85)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_leaves_the_time_that_the_server_leaves() {
        let second = Duration::from_secs(1);
        let now = SystemTime::UNIX_EPOCH + 1_000 * second;
        assert_eq!(left(now + 600 * second, now, 2_400 * second), 600 * second);
        assert_eq!(left(now - 600 * second, now, 3_060 * second), 540 * second);
    }
}

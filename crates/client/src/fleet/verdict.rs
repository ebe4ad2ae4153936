//! The verdict on a fleet: its numbers at the end, and when they are good enough.

use std::time::Duration;

use super::ledger::Ledger;

/// The numbers of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientVerdict {
    /// The number of the client, from 1.
    pub client: u32,
    /// Events delivered.
    pub delivered: u64,
    /// Of them before its first stream was lost.
    pub delivered_before: u64,
    /// Of them since it last came back; 0 when it never had to.
    pub delivered_after: u64,
    /// Gaps announced to it.
    pub gaps: u64,
    /// Streams it opened after it had lost one.
    pub reconnects: u64,
    /// Streams it opened beside one that went on: planned moves, and renewals of its credential.
    pub handovers: u64,
    /// From losing a stream to the first event or the first word that it is current: the longest. With the
    /// frozen contract, to the next open stream.
    pub recover_max: Option<Duration>,
    /// Missing and not announced, by `previous_sequence` or by the ledger; `None` when it cannot be known.
    pub lost: Option<u64>,
    /// Came again; `None` when it cannot be known.
    pub repeated: Option<u64>,
    /// Unsubscribe was answered and its stream ended with OK.
    pub unsubscribed_ok: bool,
    /// It had everything there was at least once, by the server's word. With the frozen contract, which has no
    /// word for that: it had a stream.
    pub was_current: bool,
    /// Why it ended before it was told to.
    pub failed: Option<String>,
}

/// The numbers of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many clients ran.
    pub clients: u32,
    /// Events delivered, over all clients.
    pub delivered: u64,
    /// Missing and not announced; `None` when the contract does not let anybody know.
    pub lost: Option<u64>,
    /// Came again; `None` when the contract does not let anybody know.
    pub repeated: Option<u64>,
    /// Gaps announced.
    pub gaps: u64,
    /// Streams opened after one was lost.
    pub reconnects: u64,
    /// Streams opened beside one that went on: planned moves, and renewals of credentials.
    pub handovers: u64,
    /// Half of all recoveries took no longer.
    pub recover_p50: Option<Duration>,
    /// The longest recovery.
    pub recover_max: Option<Duration>,
    /// Clients whose stream ended with OK after Unsubscribe.
    pub unsubscribed_ok: u32,
    /// Clients to which nothing was ever delivered.
    pub never_delivered: u32,
    /// Clients that never came so far as to have everything there was: not started before the end, without a
    /// stream, or still behind.
    pub never_current: u32,
    /// Clients that ended before they were told to.
    pub failed: u32,
    /// Messages registered as acknowledged.
    pub acknowledged: u64,
    /// Deliveries that an acknowledgement promised and did not fit into the ledger: whether they came is shown
    /// by `previous_sequence` alone.
    pub not_followed: u64,
    /// The numbers of each client, by its number.
    pub per_client: Vec<ClientVerdict>,
}

impl Verdict {
    /// The sums over all clients. The recoveries are counted by the fleet as they happen.
    pub(super) fn of(
        mut per_client: Vec<ClientVerdict>,
        ledger: &Ledger,
        recover_p50: Option<Duration>,
    ) -> Self {
        for client in &mut per_client {
            let owed = ledger.owed_to_client(client.client);
            // The ledger and the proof by previous_sequence may have found the same loss.
            client.lost = client.lost.map(|lost| lost.max(owed));
        }
        per_client.sort_by_key(|client| client.client);
        let count = |is: fn(&ClientVerdict) -> bool| {
            per_client.iter().filter(|client| is(client)).count() as u32
        };
        let sum = |of: fn(&ClientVerdict) -> u64| per_client.iter().map(of).sum::<u64>();
        let recover_max = per_client
            .iter()
            .filter_map(|client| client.recover_max)
            .max();
        Self {
            clients: per_client.len() as u32,
            delivered: sum(|client| client.delivered),
            // One client of which it cannot be known is enough.
            lost: per_client.iter().map(|client| client.lost).sum(),
            repeated: per_client.iter().map(|client| client.repeated).sum(),
            gaps: sum(|client| client.gaps),
            reconnects: sum(|client| client.reconnects),
            handovers: sum(|client| client.handovers),
            // The histogram answers with the upper end of a bucket, which may lie above the longest of all.
            recover_p50: recover_p50.min(recover_max),
            recover_max,
            unsubscribed_ok: count(|client| client.unsubscribed_ok),
            never_delivered: count(|client| client.delivered == 0),
            never_current: count(|client| !client.was_current),
            failed: count(|client| client.failed.is_some()),
            acknowledged: ledger.acknowledged(),
            not_followed: ledger.not_followed(),
            per_client,
        }
    }

    /// Something was delivered, every client was current at least once and stayed until it was told to leave,
    /// and nothing is known to be lost or repeated.
    pub fn is_clean(&self) -> bool {
        self.delivered > 0
            && self.never_current == 0
            && self.failed == 0
            && self.lost.unwrap_or(0) == 0
            && self.repeated.unwrap_or(0) == 0
    }

    /// It is clean, and every client came back at least once and was delivered something before and after.
    pub fn survived(&self) -> bool {
        self.is_clean()
            && self.per_client.iter().all(|client| {
                client.reconnects > 0 && client.delivered_before > 0 && client.delivered_after > 0
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    fn survivor(client: u32) -> ClientVerdict {
        ClientVerdict {
            client,
            delivered: 3,
            delivered_before: 1,
            delivered_after: 2,
            reconnects: 1,
            lost: Some(0),
            repeated: Some(0),
            was_current: true,
            ..ClientVerdict::default()
        }
    }

    fn verdict(second: ClientVerdict) -> Verdict {
        Verdict::of(vec![second, survivor(1)], &Ledger::new(0), None)
    }

    #[test]
    fn every_client_must_have_survived() {
        assert!(verdict(survivor(2)).survived());
        for broken in [
            ClientVerdict {
                lost: Some(1),
                ..survivor(2)
            },
            ClientVerdict {
                repeated: Some(1),
                ..survivor(2)
            },
            ClientVerdict {
                delivered_before: 0,
                ..survivor(2)
            },
            ClientVerdict {
                delivered_after: 0,
                ..survivor(2)
            },
            ClientVerdict {
                reconnects: 0,
                ..survivor(2)
            },
            ClientVerdict {
                was_current: false,
                ..survivor(2)
            },
            ClientVerdict {
                failed: Some("taken over".to_owned()),
                ..survivor(2)
            },
        ] {
            assert!(!verdict(broken.clone()).survived(), "{broken:?}");
        }
    }

    #[test]
    fn a_number_unknown_of_one_client_is_unknown_of_all() {
        let verdict = verdict(ClientVerdict {
            lost: None,
            repeated: None,
            ..survivor(2)
        });
        assert_eq!((verdict.lost, verdict.repeated), (None, None));
        assert!(verdict.is_clean());
    }

    #[test]
    fn no_recovery_takes_half_of_all_longer_than_the_longest() {
        let longest = Duration::from_nanos(5_000_100);
        let client = ClientVerdict {
            recover_max: Some(longest),
            ..survivor(1)
        };
        let bucket = Some(Duration::from_micros(5_003));
        let verdict = Verdict::of(vec![client], &Ledger::new(0), bucket);
        assert_eq!(verdict.recover_p50, Some(longest));
    }

    #[test]
    fn nothing_delivered_is_not_clean() {
        let nothing = Verdict::of(
            vec![ClientVerdict {
                lost: Some(0),
                ..ClientVerdict::default()
            }],
            &Ledger::new(0),
            None,
        );
        assert!(!nothing.is_clean());
        assert_eq!(nothing.never_delivered, 1);
    }

    #[test]
    fn messages_owed_at_the_end_are_lost_and_those_not_followed_are_counted() {
        let mut ledger = Ledger::new(2);
        ledger.begin(1, Position::new(9, 0));
        for sequence in 1..=5 {
            ledger.acknowledge(Position::new(9, sequence), [1]);
        }
        ledger.deliver(1, Position::new(9, 2));
        let verdict = Verdict::of(vec![survivor(1), survivor(2)], &ledger, None);
        assert_eq!((verdict.lost, verdict.not_followed), (Some(1), 3));
        ledger.deliver(1, Position::new(9, 1));
        let verdict = Verdict::of(vec![survivor(1), survivor(2)], &ledger, None);
        assert_eq!((verdict.lost, verdict.not_followed), (Some(0), 3));
        assert!(verdict.is_clean());
    }
}

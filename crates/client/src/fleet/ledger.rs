//! The messages that each client must still receive: acknowledged to the publisher, not delivered, and not inside an
//! announced gap.
//!
//! Holds: acknowledgement and delivery may be entered in either order, since the answer to a publisher and the event to
//! a subscriber race each other. A ledger that is full takes no new promise and goes on settling the ones it has, so
//! every message that it reports is truly missing.
//! Does not: know topics or connections; the fleet says which clients an acknowledgement concerns.

use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::event::Gap;
use crate::position::Position;

/// An acknowledged message that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// The client that misses it.
    pub client: u32,
    /// Its place in the log.
    pub position: Position,
}

/// The messages owed to each client, and those it got.
///
/// ```
/// use longlived_client::Position;
/// use longlived_client::fleet::Ledger;
///
/// let mut ledger = Ledger::new(1_000);
/// ledger.begin(1, Position::new(7, 0));
/// ledger.acknowledge(Position::new(7, 1), [1]);
/// ledger.acknowledge(Position::new(7, 2), [1]);
/// ledger.deliver(1, Position::new(7, 1));
/// assert_eq!(ledger.owed().len(), 1);
/// ```
#[derive(Debug)]
pub struct Ledger {
    accounts: BTreeMap<u32, Account>,
    /// In the order in which they were first seen: sequences of two epochs cannot be compared, epochs can.
    epochs: FxHashMap<u64, usize>,
    acknowledged: u64,
    /// Entries that may still be made. None is ever taken back, so at 0 no promise is entered any more.
    free: usize,
    not_followed: u64,
}

/// One client's side.
#[derive(Debug, Default)]
struct Account {
    /// Everything after this concerns it. `None` until its first stream is open.
    began: Option<Position>,
    /// Acknowledged and not delivered. A delivered one moves from here to `delivered` and takes no further entry.
    promised: FxHashSet<Position>,
    delivered: FxHashSet<Position>,
    gaps: Vec<(Position, Position)>,
    /// How far it is known to have come.
    reached: Option<Position>,
    /// It ended early: nothing after `reached` concerns it any more.
    ended: bool,
}

impl Ledger {
    /// A ledger of at most `entries_max` entries: a message to a client is one, a gap another. When it is full it
    /// follows no further message, and counts them.
    pub fn new(entries_max: usize) -> Self {
        Self {
            accounts: BTreeMap::new(),
            epochs: FxHashMap::default(),
            acknowledged: 0,
            free: entries_max,
            not_followed: 0,
        }
    }

    /// The client's first stream begins after this position: nothing before it is owed.
    pub fn begin(&mut self, client: u32, after: Position) {
        self.note_epoch(after.epoch);
        self.accounts
            .entry(client)
            .or_default()
            .began
            .get_or_insert(after);
    }

    /// The server acknowledged a message that concerns these clients.
    pub fn acknowledge(&mut self, position: Position, clients: impl IntoIterator<Item = u32>) {
        self.note_epoch(position.epoch);
        self.acknowledged += 1;
        for client in clients {
            let account = self.accounts.entry(client).or_default();
            if account.delivered.contains(&position) || account.promised.contains(&position) {
                continue;
            }
            if take(&mut self.free) {
                account.promised.insert(position);
            } else {
                self.not_followed += 1;
            }
        }
    }

    /// The client got it. False when it is known that it had got it before.
    pub fn deliver(&mut self, client: u32, position: Position) -> bool {
        self.note_epoch(position.epoch);
        let account = self.accounts.entry(client).or_default();
        if account.delivered.contains(&position) {
            return false;
        }
        account.reached = Some(position);
        // Without a free entry its acknowledgement, should it come later, finds none either.
        if account.promised.remove(&position) || take(&mut self.free) {
            account.delivered.insert(position);
        }
        true
    }

    /// The client was told of a gap.
    pub fn gap(&mut self, client: u32, gap: &Gap) {
        self.note_epoch(gap.through.epoch);
        let after = gap.after.unwrap_or(Position::new(gap.through.epoch, 0));
        let account = self.accounts.entry(client).or_default();
        account.reached = Some(gap.through);
        if take(&mut self.free) {
            account.gaps.push((after, gap.through));
            return;
        }
        // No promise comes any more that would have to be held against it later.
        let mut promised = std::mem::take(&mut account.promised);
        promised.retain(|position| !self.is_between(*position, after, gap.through));
        self.accounts.entry(client).or_default().promised = promised;
    }

    /// The client has everything up to here, by the server's word.
    pub fn reach(&mut self, client: u32, position: Position) {
        self.note_epoch(position.epoch);
        self.accounts.entry(client).or_default().reached = Some(position);
    }

    /// The client ended before it was told to: messages after its last one are not owed to it.
    pub fn end(&mut self, client: u32) {
        self.accounts.entry(client).or_default().ended = true;
    }

    /// How many messages were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// How many deliveries were promised that found the ledger full: of them it is not known whether they came.
    pub fn not_followed(&self) -> u64 {
        self.not_followed
    }

    /// The messages owed now, by client and position.
    pub fn owed(&self) -> Vec<Owed> {
        let mut owed: Vec<Owed> = self
            .accounts
            .iter()
            .flat_map(|(client, account)| {
                self.owed_to(account).map(|position| Owed {
                    client: *client,
                    position,
                })
            })
            .collect();
        owed.sort_by_key(|owed| (owed.client, self.order(owed.position)));
        owed
    }

    /// How much is owed now, over all clients.
    pub fn outstanding(&self) -> u64 {
        let owed = |account| self.owed_to(account).count() as u64;
        self.accounts.values().map(owed).sum()
    }

    /// How much is owed to one client.
    pub fn owed_to_client(&self, client: u32) -> u64 {
        self.accounts
            .get(&client)
            .map_or(0, |account| self.owed_to(account).count() as u64)
    }

    fn owed_to<'a>(&'a self, account: &'a Account) -> impl Iterator<Item = Position> + 'a {
        let reached = account.reached.or(account.began);
        account.promised.iter().copied().filter(move |position| {
            let was_there = !account.ended
                || reached.is_some_and(|reached| self.order(*position) <= self.order(reached));
            was_there
                && account
                    .began
                    .is_some_and(|began| self.order(*position) > self.order(began))
                && !account
                    .gaps
                    .iter()
                    .any(|(after, through)| self.is_between(*position, *after, *through))
        })
    }

    /// Inside a gap from `after`, exclusive, through `through`, inclusive. A gap that ends in another epoch
    /// covers the rest of the first, the beginning of the last, and every history between them.
    fn is_between(&self, position: Position, after: Position, through: Position) -> bool {
        let position = self.order(position);
        self.order(after) < position && position <= self.order(through)
    }

    fn order(&self, position: Position) -> (usize, u64) {
        let epoch = self.epochs.get(&position.epoch).copied();
        (epoch.unwrap_or(usize::MAX), position.sequence)
    }

    fn note_epoch(&mut self, epoch: u64) {
        let next = self.epochs.len();
        self.epochs.entry(epoch).or_insert(next);
    }
}

/// Takes a free entry, if there is one.
fn take(free: &mut usize) -> bool {
    let left = free.checked_sub(1);
    *free = left.unwrap_or_default();
    left.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::GapReason;

    fn at(epoch: u64, sequence: u64) -> Position {
        Position::new(epoch, sequence)
    }

    fn gap(after: Position, through: Position) -> Gap {
        Gap {
            reason: GapReason::EpochChanged,
            after: Some(after),
            through,
            events: None,
        }
    }

    /// A ledger of one client that began at 9/10.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::new(100);
        ledger.begin(1, at(9, 10));
        ledger
    }

    fn owed(ledger: &Ledger) -> Vec<Position> {
        ledger
            .owed()
            .into_iter()
            .map(|owed| owed.position)
            .collect()
    }

    #[test]
    fn an_acknowledged_message_that_did_not_come_is_owed() {
        let mut ledger = ledger();
        for sequence in 11..=13 {
            ledger.acknowledge(at(9, sequence), [1]);
        }
        assert!(ledger.deliver(1, at(9, 11)));
        assert!(ledger.deliver(1, at(9, 13)));
        assert_eq!(owed(&ledger), [at(9, 12)]);
        assert_eq!(ledger.acknowledged(), 3);
    }

    #[test]
    fn messages_after_a_client_that_ended_early_are_not_owed_to_it() {
        let mut ledger = ledger();
        for sequence in 11..=14 {
            ledger.acknowledge(at(9, sequence), [1]);
        }
        ledger.deliver(1, at(9, 12));
        ledger.end(1);
        ledger.acknowledge(at(9, 15), [1]);
        assert_eq!(owed(&ledger), [at(9, 11)], "it was there for this one");
        ledger.reach(1, at(9, 13));
        assert_eq!(owed(&ledger), [at(9, 11), at(9, 13)]);
    }

    #[test]
    fn a_delivery_may_overtake_its_acknowledgement() {
        let mut ledger = ledger();
        ledger.deliver(1, at(9, 11));
        ledger.acknowledge(at(9, 11), [1]);
        assert!(owed(&ledger).is_empty());
    }

    #[test]
    fn a_second_delivery_is_told() {
        let mut ledger = ledger();
        assert!(ledger.deliver(1, at(9, 11)));
        assert!(!ledger.deliver(1, at(9, 11)));
        assert!(
            ledger.deliver(1, at(8, 11)),
            "the same number in another history is another event"
        );
    }

    #[test]
    fn messages_before_the_client_are_not_owed_to_it() {
        let mut ledger = Ledger::new(100);
        ledger.acknowledge(at(9, 10), [1]);
        assert!(owed(&ledger).is_empty(), "it has not begun");
        ledger.begin(1, at(9, 10));
        assert!(owed(&ledger).is_empty());
        // A later stream does not move the beginning.
        ledger.begin(1, at(9, 50));
        ledger.acknowledge(at(9, 11), [1]);
        assert_eq!(owed(&ledger), [at(9, 11)]);
    }

    #[test]
    fn a_gap_in_one_history_covers_exactly_its_range() {
        let mut ledger = ledger();
        for sequence in 11..=14 {
            ledger.acknowledge(at(9, sequence), [1]);
        }
        ledger.gap(1, &gap(at(9, 11), at(9, 13)));
        assert_eq!(owed(&ledger), [at(9, 11), at(9, 14)]);
    }

    #[test]
    fn a_gap_into_a_new_history_covers_the_end_of_one_and_the_beginning_of_the_other() {
        let mut ledger = ledger();
        // Numbers of epochs say nothing about their order.
        for position in [at(9, 11), at(9, 12), at(3, 1), at(3, 2)] {
            ledger.acknowledge(position, [1]);
        }
        ledger.gap(1, &gap(at(9, 11), at(3, 1)));
        assert_eq!(owed(&ledger), [at(9, 11), at(3, 2)]);
    }

    #[test]
    fn a_history_that_came_and_went_while_a_client_was_away_lies_in_its_gap() {
        let mut ledger = ledger();
        for position in [at(9, 11), at(5, 1), at(5, 2), at(2, 1)] {
            ledger.acknowledge(position, [1]);
        }
        ledger.gap(1, &gap(at(9, 11), at(2, 0)));
        ledger.deliver(1, at(9, 11));
        assert_eq!(owed(&ledger), [at(2, 1)]);
    }

    #[test]
    fn without_a_gap_the_lost_history_is_owed() {
        let mut ledger = ledger();
        ledger.acknowledge(at(9, 11), [1]);
        ledger.acknowledge(at(3, 1), [1]);
        ledger.deliver(1, at(3, 1));
        assert_eq!(owed(&ledger), [at(9, 11)]);
    }

    #[test]
    fn each_client_has_an_account_of_its_own() {
        let mut ledger = ledger();
        ledger.begin(2, at(9, 10));
        ledger.acknowledge(at(9, 11), [1, 2]);
        ledger.gap(1, &gap(at(9, 10), at(9, 11)));
        assert_eq!(
            ledger.owed(),
            [Owed {
                client: 2,
                position: at(9, 11)
            }]
        );
        assert_eq!((ledger.owed_to_client(1), ledger.owed_to_client(2)), (0, 1));
    }

    #[test]
    fn a_full_ledger_says_how_much_it_does_not_follow() {
        let mut ledger = Ledger::new(3);
        ledger.begin(1, at(9, 0));
        ledger.begin(2, at(9, 0));
        ledger.acknowledge(at(9, 1), [1, 2]);
        assert_eq!(ledger.not_followed(), 0);
        ledger.acknowledge(at(9, 2), [1, 2]);
        assert_eq!((ledger.not_followed(), ledger.outstanding()), (1, 3));
        ledger.acknowledge(at(9, 3), [1, 2]);
        assert_eq!((ledger.not_followed(), ledger.outstanding()), (3, 3));
        assert_eq!(ledger.acknowledged(), 3);
    }

    #[test]
    fn a_full_ledger_goes_on_settling_the_messages_owed_before() {
        let mut ledger = Ledger::new(3);
        ledger.begin(1, at(9, 0));
        for sequence in 1..=6 {
            ledger.acknowledge(at(9, sequence), [1]);
        }
        assert!(ledger.deliver(1, at(9, 1)));
        assert!(!ledger.deliver(1, at(9, 1)), "it goes on knowing");
        assert_eq!(owed(&ledger), [at(9, 2), at(9, 3)]);
        ledger.gap(1, &gap(at(9, 1), at(9, 2)));
        assert_eq!(owed(&ledger), [at(9, 3)], "a gap settles as well");
        for sequence in 3..=6 {
            assert!(ledger.deliver(1, at(9, sequence)));
        }
        assert_eq!((ledger.outstanding(), ledger.not_followed()), (0, 3));
    }

    #[test]
    fn a_delivery_that_finds_the_ledger_full_is_not_owed_when_its_acknowledgement_comes() {
        let mut ledger = Ledger::new(1);
        ledger.begin(1, at(9, 0));
        ledger.acknowledge(at(9, 1), [1]);
        ledger.deliver(1, at(9, 2));
        ledger.acknowledge(at(9, 2), [1]);
        ledger.deliver(1, at(9, 1));
        assert_eq!((ledger.outstanding(), ledger.not_followed()), (0, 1));
    }

    #[test]
    fn a_delivered_message_takes_the_entry_of_the_owed_one() {
        let mut ledger = Ledger::new(2);
        ledger.begin(1, at(9, 0));
        for sequence in 1..=2 {
            ledger.acknowledge(at(9, sequence), [1]);
            ledger.deliver(1, at(9, sequence));
        }
        assert_eq!(ledger.not_followed(), 0);
    }
}

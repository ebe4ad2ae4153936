//! The state of each client and each line: the facts on which the demo goes on.
//!
//! Does not: judge. The fleet's verdict comes from the sequences of all events; this only knows the lines.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use longlived_client::fleet::What;
use longlived_client::{Durability, Event, GoAwayReason, Position};

/// One client.
#[derive(Debug, Default)]
struct Seat {
    connected: bool,
    streams_lost: u32,
    /// Attempts to come back that failed.
    failed: u32,
    before: u64,
    /// Since it last came back.
    after: u64,
    lines: HashSet<u32>,
    /// A second stream is opened, with a fresh token.
    renewing: bool,
    renewals: u32,
}

/// One published line at one place of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number in the text, from 1.
    pub(super) number: u32,
    /// Empty until a client has it.
    pub(super) text: Bytes,
    /// Clients that got it.
    pub(super) delivered: u32,
    pub(super) acknowledged: bool,
}

#[derive(Debug)]
pub(super) struct Board {
    topic: &'static str,
    total: usize,
    seats: BTreeMap<u32, Seat>,
    lines: HashMap<Position, Line>,
    acknowledged: usize,
    /// Of them synced to the server's disk, as it said.
    on_disk: usize,
    /// Of all positions that were told.
    epochs: BTreeSet<u64>,
    /// Lines that reached a client at a second place.
    sent_again: HashSet<u32>,
}

impl Board {
    pub(super) fn new(topic: &'static str, total: usize, clients: u32) -> Self {
        Self {
            topic,
            total,
            seats: (1..=clients)
                .map(|client| (client, Seat::default()))
                .collect(),
            lines: HashMap::new(),
            acknowledged: 0,
            on_disk: 0,
            epochs: BTreeSet::new(),
            sent_again: HashSet::new(),
        }
    }

    /// Enters a happening of a client. Returns a line that every client has now.
    pub(super) fn happened(&mut self, client: u32, what: &What) -> Option<Line> {
        let seat = self.seats.get_mut(&client)?;
        match what {
            What::Subscribed => seat.connected = true,
            What::Resubscribed { .. } if seat.renewing => {
                seat.renewing = false;
                seat.renewals += 1;
            }
            What::Resubscribed { .. } => {
                seat.connected = true;
                seat.after = 0;
            }
            What::BackingOff { had_stream, .. } => {
                seat.connected = false;
                // The second stream went with the first.
                seat.renewing = false;
                if *had_stream {
                    seat.streams_lost += 1;
                } else {
                    seat.failed += 1;
                }
            }
            What::HandingOver { cause, .. } => {
                seat.renewing = *cause == GoAwayReason::CredentialExpired;
            }
            What::Unsubscribed { .. } | What::Failed { .. } => seat.connected = false,
            What::Event(event) => {
                if seat.streams_lost > 0 {
                    seat.after += 1;
                } else {
                    seat.before += 1;
                }
                self.epochs.insert(event.position.epoch);
                if event.topic == self.topic {
                    return self.delivered(client, event);
                }
            }
            What::Data(_) | What::Gap(_) | What::Violation(_) | What::Current(_) => {}
        }
        None
    }

    fn delivered(&mut self, client: u32, event: &Event) -> Option<Line> {
        let clients = self.seats.len() as u32;
        let number: u32 = event.key.parse().ok()?;
        let line = self.lines.entry(event.position).or_default();
        line.number = number;
        line.text = event.payload.clone();
        line.delivered += 1;
        let complete = (line.delivered == clients).then(|| line.clone());
        if !self.seats.get_mut(&client)?.lines.insert(number) {
            self.sent_again.insert(number);
        }
        complete
    }

    /// The server acknowledged the next line.
    pub(super) fn acknowledged(&mut self, position: Position, durability: Durability) {
        self.acknowledged += 1;
        self.on_disk += usize::from(durability == Durability::Disk);
        self.epochs.insert(position.epoch);
        let line = self.lines.entry(position).or_default();
        // Answers come in the order of the lines, and this one may come before any client has the line.
        line.number = self.acknowledged as u32;
        line.acknowledged = true;
    }

    pub(super) fn everybody_is_connected(&self) -> bool {
        self.seats.values().all(|seat| seat.connected)
    }

    /// Attempts to come back that failed, of one client.
    pub(super) fn failed_attempts_of(&self, client: u32) -> u32 {
        self.seats.get(&client).map_or(0, |seat| seat.failed)
    }

    /// The same of all clients.
    pub(super) fn failed_attempts(&self) -> u32 {
        self.seats.values().map(|seat| seat.failed).sum()
    }

    /// Second streams with a fresh token, of one client.
    pub(super) fn renewals_of(&self, client: u32) -> u32 {
        self.seats.get(&client).map_or(0, |seat| seat.renewals)
    }

    /// The same of all clients.
    pub(super) fn renewals(&self) -> u32 {
        self.seats.values().map(|seat| seat.renewals).sum()
    }

    /// The clients that have not renewed their token.
    pub(super) fn without_renewal(&self) -> Vec<u32> {
        let seats = self.seats.iter();
        let without = seats.filter(|(_, seat)| seat.renewals == 0);
        without.map(|(client, _)| *client).collect()
    }

    pub(super) fn everybody_renewed(&self) -> bool {
        self.without_renewal().is_empty()
    }

    pub(super) fn everybody_lost_a_stream(&self) -> bool {
        self.seats.values().all(|seat| seat.streams_lost > 0)
    }

    /// Half of the text is acknowledged, and every client has received something.
    pub(super) fn is_half(&self) -> bool {
        self.acknowledged * 2 >= self.total && self.seats.values().all(|seat| seat.before > 0)
    }

    /// All of the text is acknowledged, and every client received something after coming back.
    pub(super) fn is_told(&self) -> bool {
        self.all_acknowledged() && self.seats.values().all(|seat| seat.after > 0)
    }

    pub(super) fn all_acknowledged(&self) -> bool {
        self.acknowledged >= self.total
    }

    pub(super) fn acknowledged_lines(&self) -> usize {
        self.acknowledged
    }

    /// Acknowledged lines that were said to be synced to the server's disk.
    pub(super) fn on_disk(&self) -> usize {
        self.on_disk
    }

    /// How many epochs positions had.
    pub(super) fn epochs(&self) -> usize {
        self.epochs.len()
    }

    /// Lines that went out and that some client does not have, by number.
    pub(super) fn incomplete(&self) -> Vec<Line> {
        let clients = self.seats.len() as u32;
        let mut lines: Vec<Line> = self
            .lines
            .values()
            .filter(|line| line.delivered < clients)
            .cloned()
            .collect();
        lines.sort_by_key(|line| line.number);
        lines
    }

    /// The deliveries of acknowledged lines that were made.
    pub(super) fn deliveries_made(&self) -> u64 {
        let lines = self.lines.values().filter(|line| line.acknowledged);
        lines.map(|line| u64::from(line.delivered)).sum()
    }

    pub(super) fn sent_again(&self) -> usize {
        self.sent_again.len()
    }

    /// The clients for which the demo waits, in words.
    pub(super) fn laggards(&self) -> String {
        let away: Vec<String> = self
            .seats
            .iter()
            .filter(|(_, seat)| !seat.connected)
            .map(|(client, _)| client.to_string())
            .collect();
        let streams = match away.len() {
            0 => "every client has a stream".to_owned(),
            1 => format!("client {} has no stream", away[0]),
            _ => format!("clients {} have no stream", away.join(", ")),
        };
        let (acknowledged, total) = (self.acknowledged, self.total);
        format!("{streams}; {acknowledged} of {total} lines are acknowledged")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    impl Board {
        /// A client got a line, or something else where the topic is another.
        pub(in crate::demo) fn got(
            &mut self,
            client: u32,
            topic: &str,
            position: Position,
            number: u32,
        ) -> Option<Line> {
            let event = What::Event(Event {
                position,
                topic: topic.to_owned(),
                payload: "text".into(),
                key: number.to_string(),
                headers: BTreeMap::new(),
                publish_time: None,
                deleted: false,
                previous_sequence: 0,
            });
            self.happened(client, &event)
        }
    }

    const TOPIC: &str = "demo.lines";

    fn lost() -> What {
        What::BackingOff {
            reason: String::new(),
            retry_in: Duration::ZERO,
            had_stream: true,
        }
    }

    fn handing_over() -> What {
        What::HandingOver {
            cause: GoAwayReason::CredentialExpired,
            reason: String::new(),
        }
    }

    fn back() -> What {
        What::Resubscribed {
            outcome: None,
            after: Duration::ZERO,
        }
    }

    #[test]
    fn the_story_goes_on_when_everybody_is_so_far() {
        let mut board = Board::new(TOPIC, 2, 2);
        board.happened(1, &What::Subscribed);
        assert!(!board.everybody_is_connected());
        assert!(board.laggards().contains("client 2 has no stream"));
        board.happened(2, &What::Subscribed);
        assert!(board.everybody_is_connected());

        let first = Position::new(7, 1);
        board.acknowledged(first, Durability::Memory);
        assert_eq!(
            board.incomplete()[0].number,
            1,
            "known before it is delivered"
        );
        assert_eq!(board.got(1, TOPIC, first, 1), None);
        assert!(!board.is_half(), "client 2 has nothing yet");
        board.got(2, "inbox.2", Position::new(7, 2), 0);
        assert!(board.is_half());
        assert_eq!(board.incomplete().len(), 1);

        for client in [1, 2] {
            board.happened(client, &lost());
        }
        assert!(board.everybody_lost_a_stream());
        for client in [1, 2] {
            board.happened(client, &back());
        }
        let second = Position::new(9, 1);
        board.acknowledged(second, Durability::Disk);
        board.got(1, TOPIC, second, 2);
        assert!(!board.is_told());
        let complete = board.got(2, TOPIC, second, 2).unwrap();
        assert_eq!((complete.number, complete.delivered), (2, 2));
        assert!(board.is_told());
        assert_eq!(board.deliveries_made(), 3);
        assert_eq!((board.on_disk(), board.epochs()), (1, 2));
    }

    #[test]
    fn a_second_stream_is_a_renewal_only_beside_the_first() {
        let mut board = Board::new(TOPIC, 1, 2);
        for client in [1, 2] {
            board.happened(client, &What::Subscribed);
            board.happened(client, &handing_over());
        }
        board.happened(1, &back());
        assert_eq!(
            (board.renewals_of(1), board.without_renewal()),
            (1, vec![2])
        );
        board.got(1, "inbox.1", Position::new(7, 1), 0);
        board.happened(2, &lost());
        board.happened(2, &back());
        assert_eq!(board.renewals_of(2), 0, "the first stream was lost before");
        assert!(!board.everybody_renewed());
        board.happened(2, &handing_over());
        board.happened(2, &back());
        assert!(board.everybody_renewed());
        assert_eq!(board.renewals(), 2);
    }

    #[test]
    fn a_line_at_a_second_place_was_sent_again() {
        let mut board = Board::new(TOPIC, 1, 1);
        board.got(1, TOPIC, Position::new(7, 1), 1);
        assert_eq!(board.sent_again(), 0);
        board.got(1, TOPIC, Position::new(9, 1), 1);
        assert_eq!(board.sent_again(), 1);
        board.acknowledged(Position::new(9, 1), Durability::Memory);
        assert_eq!(board.deliveries_made(), 1, "the first was never promised");
    }
}

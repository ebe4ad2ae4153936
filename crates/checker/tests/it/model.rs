//! A small model of a lawful server with its publishers and subscribers, driven by dice. It records a lawful history.
//!
//! Holds: messages are stored one by one, visible at once, and told to each stream in order; events that a stream does
//! not get are announced. Answers and responses are on their way for as long as the dice say, and are lost with a
//! connection. In some runs each publish is answered and nobody else publishes, so that a history of them leaves
//! nothing open.

mod client;
mod server;

use longlived_checker::history::{
    Digest, FaultRecord, FaultsOver, Head, Header, PublishBegun, PublishEnded, PublishOutcome,
    Record, Trimmed, digest,
};

use client::Client;
use server::{Kept, Server};

pub(crate) const TOPICS: [&str; 6] = ["a.x", "a.y", "b.x", "b.y.z", "c", "inbox.1"];
pub(crate) const FILTERS: [&str; 9] = [
    "a.x", "a.*", "*.x", "b.>", ">", "c", "inbox.1", "b.x", "inbox.*",
];
const SECOND: u64 = 1_000_000_000;

/// A small generator of numbers.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The records so far and the clock.
#[derive(Default)]
pub(crate) struct Tape {
    pub(crate) records: Vec<Record>,
    pub(crate) now: u64,
}

/// A publish on its way.
#[derive(Clone)]
struct Sent {
    publisher: u64,
    publish: u64,
    topic: usize,
    digest: Digest,
    bytes: u64,
    message_id: Option<u64>,
    stored: Option<(u64, u64, bool)>,
    ended: bool,
}

/// A run, and its recording.
pub(crate) struct Run {
    pub(crate) dice: Dice,
    pub(crate) tape: Tape,
    server: Server,
    sent: Vec<Sent>,
    clients: Vec<Client>,
    published: u64,
    streams: u64,
    foreign: u64,
    /// Each publish is answered, and nobody else publishes.
    certain: bool,
}

/// A lawful history of about `steps` steps.
pub(crate) fn lawful(seed: u64, steps: u64) -> (Header, Vec<Record>) {
    let mut run = Run::new(seed);
    for _ in 0..steps {
        run.tape.now += 1 + run.dice.below(1000);
        run.step();
    }
    run.finish();
    let foreign = (!run.certain).then_some("inbox.>");
    (Header::new(foreign), run.tape.records)
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let keeps = [dice.below(8) + 1, dice.below(16) + 1];
        let clients = 1 + dice.below(3);
        let certain = dice.one_in(3);
        let mut run = Self {
            server: Server::new(1 + dice.below(1 << 40), keeps),
            dice,
            tape: Tape::default(),
            sent: Vec::new(),
            clients: Vec::new(),
            published: 0,
            streams: 0,
            foreign: 0,
            certain,
        };
        run.clients = (0..clients)
            .map(|number| Client::new(number, &mut run.dice))
            .collect();
        run
    }

    fn step(&mut self) {
        match self.dice.below(44) {
            0..=5 => self.begin_publish(),
            6..=11 => self.store_one(),
            12..=18 => drop(self.end_one()),
            19..=26 => self.serve(),
            27..=35 => self.receive(),
            36 | 40..=42 => self.server.trim(),
            37 => self.change_streams(),
            38 => self.lose_one(),
            _ => self.fault(),
        }
    }

    fn client(&mut self) -> (usize, &mut Dice) {
        let index = self.dice.below(self.clients.len() as u64) as usize;
        (index, &mut self.dice)
    }

    fn begin_publish(&mut self) {
        let again = self
            .sent
            .iter()
            .rposition(|sent| sent.ended && sent.message_id.is_some());
        let publisher = self.dice.below(2);
        self.published += 1;
        let sent = if let Some(again) = again.filter(|_| self.dice.one_in(4)) {
            Sent {
                publisher,
                publish: self.published,
                stored: None,
                ended: false,
                ..self.sent[again].clone()
            }
        } else {
            let size = if self.dice.one_in(8) {
                500
            } else {
                self.dice.below(60)
            };
            // Now and then the same content again.
            let content = if self.dice.one_in(10) {
                0
            } else {
                self.published
            };
            let topic = self.dice.below(5) as usize;
            Sent {
                publisher,
                publish: self.published,
                topic,
                digest: digest(&content.to_le_bytes(), "", [], false),
                bytes: TOPICS[topic].len() as u64 + size + 4,
                message_id: self.dice.one_in(3).then_some(self.published),
                stored: None,
                ended: false,
            }
        };
        self.tape.records.push(Record::PublishBegun(PublishBegun {
            at: self.tape.now,
            publisher: format!("p{publisher}"),
            publish: sent.publish,
            principal: "me".to_owned(),
            topic: TOPICS[sent.topic].to_owned(),
            digest: sent.digest,
            bytes: sent.bytes,
            message_id: sent.message_id.map(|id| format!("id-{id}")),
        }));
        self.sent.push(sent);
    }

    fn store_one(&mut self) {
        if !self.certain && self.dice.one_in(12) {
            // The server's own generator.
            self.foreign += 1;
            let digest = Digest(self.foreign);
            self.server
                .store(&mut self.dice, self.tape.now, 5, digest, 20);
            return;
        }
        let open: Vec<usize> = (0..self.sent.len())
            .filter(|&i| self.sent[i].stored.is_none())
            .collect();
        if open.is_empty() {
            return;
        }
        let index = *self.dice.pick(&open);
        let sent = self.sent[index].clone();
        let key = sent.message_id.map(|id| (sent.topic, id));
        let known = key.and_then(|key| self.server.ids.get(&key).copied());
        let stored = if let Some(sequence) = known {
            (self.server.epoch, sequence, true)
        } else {
            let (digest, bytes) = (sent.digest, sent.bytes);
            let sequence =
                self.server
                    .store(&mut self.dice, self.tape.now, sent.topic, digest, bytes);
            if let Some(key) = key {
                self.server.ids.insert(key, sequence);
            }
            (self.server.epoch, sequence, false)
        };
        self.sent[index].stored = Some(stored);
    }

    /// Whether there was one.
    fn end_one(&mut self) -> bool {
        let open: Vec<usize> = (0..self.sent.len())
            .filter(|&i| !self.sent[i].ended)
            .collect();
        if open.is_empty() {
            return false;
        }
        let stored: Vec<usize> = open
            .iter()
            .copied()
            .filter(|&i| self.sent[i].stored.is_some())
            .collect();
        let of = if stored.is_empty() || self.dice.one_in(10) {
            &open
        } else {
            &stored
        };
        let index = *self.dice.pick(of);
        let unknown = !self.certain && self.dice.one_in(6);
        let sent = &mut self.sent[index];
        let outcome = match sent.stored {
            _ if unknown => PublishOutcome::Unknown,
            Some((epoch, sequence, duplicate)) => PublishOutcome::Acknowledged {
                epoch,
                sequence,
                durability: longlived_checker::history::Durability::Memory,
                duplicate,
            },
            None => {
                // Refused for certain: it is never stored.
                sent.stored = Some((0, 0, false));
                PublishOutcome::Refused {
                    code: "RESOURCE_EXHAUSTED".to_owned(),
                }
            }
        };
        sent.ended = true;
        if !matches!(outcome, PublishOutcome::Unknown) || self.dice.one_in(2) {
            self.tape.records.push(Record::PublishEnded(PublishEnded {
                at: self.tape.now,
                publisher: format!("p{}", sent.publisher),
                publish: sent.publish,
                outcome,
            }));
        }
        if matches!(self.sent[index].stored, Some((0, ..))) {
            // Not to be sent again as if it were unknown.
            self.sent.remove(index);
        }
        true
    }

    fn serve(&mut self) {
        let (index, dice) = self.client();
        let times = 1 + dice.below(4);
        if !self.clients[index].is_live() {
            let client = &mut self.clients[index];
            client.open(
                &mut self.tape,
                &mut self.dice,
                &mut self.streams,
                &self.server,
            );
            return;
        }
        for _ in 0..times {
            self.clients[index].serve(&mut self.server, &mut self.dice, self.tape.now);
        }
    }

    fn receive(&mut self) {
        let (index, dice) = self.client();
        let times = 1 + dice.below(5);
        for _ in 0..times {
            self.clients[index].receive(&mut self.tape, &mut self.dice);
        }
    }

    fn change_streams(&mut self) {
        let (index, dice) = self.client();
        if dice.one_in(3) {
            let client = &mut self.clients[index];
            client.open(
                &mut self.tape,
                &mut self.dice,
                &mut self.streams,
                &self.server,
            );
        } else {
            self.clients[index].change_filter(&self.server, &mut self.dice);
        }
    }

    fn lose_one(&mut self) {
        let (index, _) = self.client();
        self.clients[index].lose(&mut self.tape);
    }

    fn fault(&mut self) {
        if !self.dice.one_in(3) {
            return;
        }
        let memory = self.dice.one_in(3);
        let what = if memory { "kill" } else { "restart" };
        self.tape.records.push(Record::Fault(FaultRecord {
            at: self.tape.now,
            what: what.to_owned(),
        }));
        for client in &mut self.clients {
            client.lose(&mut self.tape);
        }
        if memory {
            self.server.begin_anew(&mut self.dice);
        } else if self.dice.one_in(2) {
            self.server.damage(&mut self.dice);
        }
    }

    /// Everybody comes to the head, and stays for longer than the rule asks.
    fn finish(&mut self) {
        let mut left = 3;
        while left > 0 && self.end_one() {
            self.tape.now += 1;
            left -= u64::from(!self.certain);
        }
        self.tape.now += 10;
        self.tape
            .records
            .push(Record::FaultsOver(FaultsOver { at: self.tape.now }));
        for client in &mut self.clients {
            self.tape.now += 10;
            client.open(
                &mut self.tape,
                &mut self.dice,
                &mut self.streams,
                &self.server,
            );
            client.drain(&mut self.server, &mut self.tape, &mut self.dice);
        }
        self.tape.now += 11 * SECOND;
        self.tape.records.push(Record::Head(Head {
            at: self.tape.now,
            epoch: self.server.epoch,
            sequence: self.server.visible(),
        }));
        for (topic, name) in TOPICS.iter().enumerate() {
            let gone = |event: &&Kept| event.topic == topic && event.gone;
            let through = self
                .server
                .log
                .iter()
                .filter(gone)
                .map(|event| event.sequence)
                .max();
            self.tape.records.push(Record::Trimmed(Trimmed {
                epoch: self.server.epoch,
                topic: (*name).to_owned(),
                through: through.unwrap_or(0),
            }));
        }
    }
}

//! A subscriber of the model: its streams, the responses on their way to it, and the events that it has applied.

use std::collections::{HashSet, VecDeque};

use longlived_checker::history::{
    Event, FilterChange, Gap, GapPolicy, GapReason, GoAway, Position, Progress, Record, Start,
    StreamEnded, StreamOpened, Welcome, WelcomeOutcome,
};

use super::{
    Dice, FILTERS, TOPICS, Tape,
    server::{Cursor, Next, Server},
};

pub(super) struct Client {
    name: String,
    filters: Vec<&'static str>,
    policy: GapPolicy,
    limit: Option<u64>,
    start: Option<Start>,
    /// Where the application stands.
    position: Option<(u64, u64)>,
    /// Where it stood before, in the same epoch, and its filters with it.
    saved: Option<(u64, u64, Vec<&'static str>)>,
    /// Asks for a position that was never written, once.
    asks_too_much: bool,
    applied: HashSet<(u64, u64)>,
    /// The newest last; the one before it may still be there.
    live: Vec<Live>,
}

struct Live {
    number: u64,
    opened: StreamOpened,
    cursor: Option<Cursor>,
    epoch: u64,
    on_its_way: VecDeque<Record>,
    quiet: bool,
    // A stream that was replaced: its filters are no longer changed.
    replaced: bool,
}

impl Client {
    pub(super) fn new(number: u64, dice: &mut Dice) -> Self {
        let mut filters: Vec<_> = (0..=dice.below(3)).map(|_| *dice.pick(&FILTERS)).collect();
        filters.sort_unstable();
        filters.dedup();
        Self {
            name: format!("s{number}"),
            filters,
            policy: if dice.one_in(4) {
                GapPolicy::Latest
            } else {
                GapPolicy::Earliest
            },
            limit: dice.one_in(3).then_some(300),
            start: match dice.below(5) {
                0 => Some(Start::Earliest),
                1 => Some(Start::TimeNanos(dice.below(60_000).cast_signed())),
                _ => None,
            },
            position: None,
            saved: None,
            asks_too_much: dice.one_in(12),
            applied: HashSet::new(),
            live: Vec::new(),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        !self.live.is_empty()
    }

    /// A new stream; the old one stands for as long as the dice say.
    pub(super) fn open(
        &mut self,
        tape: &mut Tape,
        dice: &mut Dice,
        streams: &mut u64,
        server: &Server,
    ) {
        while self.live.len() > 1 {
            self.end(tape, 0);
        }
        if let Some(old) = self.live.last_mut() {
            // One that never said where it stands cannot be resumed.
            if dice.one_in(2) || self.position.is_none() {
                self.end(tape, 0);
            } else {
                old.replaced = true;
            }
        }
        if self.position.is_none() && std::mem::take(&mut self.asks_too_much) {
            self.position = Some((server.epoch, server.visible() + 1_000));
        }
        *streams += 1;
        let resume = self
            .position
            .map(|(epoch, sequence)| Position { epoch, sequence });
        let opened = StreamOpened {
            at: tape.now,
            subscriber: self.name.clone(),
            stream: *streams,
            filters: self
                .filters
                .iter()
                .map(|&filter| filter.to_owned())
                .collect(),
            resume_after: resume,
            start: self.start,
            gap_policy: self.policy,
            max_event_bytes: self.limit,
        };
        tape.records.push(Record::StreamOpened(opened.clone()));
        self.live.push(Live {
            number: *streams,
            opened,
            cursor: None,
            epoch: 0,
            on_its_way: VecDeque::new(),
            quiet: false,
            replaced: false,
        });
    }

    /// The server says the next thing on one of the streams.
    pub(super) fn serve(&mut self, server: &mut Server, dice: &mut Dice, now: u64) {
        if self.live.is_empty() {
            return;
        }
        let index = dice.below(self.live.len() as u64) as usize;
        self.live[index].serve(server, dice, now);
    }

    /// The next thing arrives on one of the streams.
    pub(super) fn receive(&mut self, tape: &mut Tape, dice: &mut Dice) {
        if self.live.is_empty() {
            return;
        }
        let index = dice.below(self.live.len() as u64) as usize;
        self.receive_on(index, tape);
        if dice.one_in(6) {
            let at = self.position;
            self.saved = at.map(|(epoch, sequence)| (epoch, sequence, self.filters.clone()));
        }
    }

    fn receive_on(&mut self, index: usize, tape: &mut Tape) -> bool {
        let live = &mut self.live[index];
        let Some(mut record) = live.on_its_way.pop_front() else {
            return false;
        };
        tape.now += 1;
        let epoch = live.epoch;
        let told;
        match &mut record {
            Record::Welcome(it) => {
                it.at = tape.now;
                // It stores every position that it is told.
                told = Some((it.position_epoch.unwrap_or(epoch), it.sequence));
            }
            Record::Event(it) => {
                it.at = tape.now;
                it.applied = self.applied.insert((epoch, it.sequence));
                told = Some((epoch, it.sequence));
            }
            Record::Gap(it) => {
                it.at = tape.now;
                told = Some((epoch, it.through_sequence));
                if matches!(it.reason, GapReason::Future | GapReason::EpochChanged) {
                    self.position = None;
                }
            }
            Record::Progress(it) => {
                it.at = tape.now;
                told = Some((epoch, it.sequence));
            }
            Record::FilterAdded(it) => {
                it.at = tape.now;
                told = Some((epoch, it.after));
                let filter = FILTERS.iter().find(|filter| **filter == it.filter).unwrap();
                if !self.filters.contains(filter) {
                    self.filters.push(filter);
                }
            }
            Record::FilterRemoved(it) => {
                it.at = tape.now;
                told = Some((epoch, it.after));
                self.filters.retain(|filter| *filter != it.filter);
            }
            Record::GoAway(it) => {
                it.at = tape.now;
                told = it.position.map(|at| (at.epoch, at.sequence));
            }
            other => unreachable!("{other:?}"),
        }
        if let Some((epoch, sequence)) = told {
            // An old stream does not take the newer one back.
            let same = self.position.is_some_and(|(known, _)| known == epoch);
            if !same && (!live.replaced || self.position.is_none()) {
                self.position = Some((epoch, sequence));
            } else if let Some((_, position)) = self.position.as_mut().filter(|_| same) {
                *position = sequence.max(*position);
            }
        }
        tape.records.push(record);
        true
    }

    pub(super) fn change_filter(&mut self, server: &Server, dice: &mut Dice) {
        let Some(live) = self.live.last_mut() else {
            return;
        };
        let Some(cursor) = &mut live.cursor else {
            return;
        };
        let filter = *dice.pick(&FILTERS);
        let followed = cursor.filters.iter().position(|it| *it == filter);
        let change = |after| FilterChange {
            at: 0,
            stream: live.number,
            filter: filter.to_owned(),
            after,
        };
        let record = match followed {
            None => {
                if let Next::Nothing = server.next(&mut cursor.clone()) {
                    cursor.position = cursor.position.max(server.visible());
                }
                cursor.filters.push(filter);
                Record::FilterAdded(change(cursor.position))
            }
            Some(index) if cursor.filters.len() > 1 => {
                cursor.filters.remove(index);
                Record::FilterRemoved(change(cursor.position))
            }
            Some(_) => return,
        };
        live.on_its_way.push_back(record);
    }

    /// All connections break; responses on their way are lost.
    pub(super) fn lose(&mut self, tape: &mut Tape) {
        while !self.live.is_empty() {
            self.end(tape, 0);
        }
    }

    fn end(&mut self, tape: &mut Tape, index: usize) {
        let live = self.live.remove(index);
        tape.now += 1;
        tape.records.push(Record::StreamEnded(StreamEnded {
            at: tape.now,
            stream: live.number,
            how: "lost".to_owned(),
            returns: true,
        }));
    }

    /// All responses are sent and arrive.
    pub(super) fn drain(&mut self, server: &mut Server, tape: &mut Tape, dice: &mut Dice) {
        while self.live.len() > 1 {
            self.end(tape, 0);
        }
        for _ in 0..100_000 {
            self.live[0].serve(server, dice, tape.now);
            while self.receive_on(0, tape) {}
            if self.live[0].quiet {
                return;
            }
        }
        panic!("it does not come to an end");
    }
}

impl Live {
    fn serve(&mut self, server: &Server, dice: &mut Dice, now: u64) {
        let Some(cursor) = &mut self.cursor else {
            self.begin(server, now);
            return;
        };
        let record = match server.next(cursor) {
            Next::Event(event) => Record::Event(Event {
                at: 0,
                stream: self.number,
                topic: TOPICS[event.topic].to_owned(),
                sequence: event.sequence,
                previous_sequence: event.previous,
                digest: event.digest,
                applied: false,
            }),
            Next::Gap(reason, after, through, events) => {
                self.gap(reason, after, through, events, None);
                return;
            }
            Next::Nothing => {
                self.quiet = true;
                cursor.position = cursor.position.max(server.visible());
                let position = Position {
                    epoch: self.epoch,
                    sequence: cursor.position,
                };
                if dice.one_in(5) {
                    Record::GoAway(GoAway {
                        at: 0,
                        stream: self.number,
                        reason: "STREAM_AGE".to_owned(),
                        position: Some(position),
                        reconnect: true,
                    })
                } else {
                    self.progress(position, true)
                }
            }
        };
        let event = matches!(record, Record::Event(_));
        self.on_its_way.push_back(record);
        // Now and then a position while more events are ready.
        if event && dice.one_in(8) {
            let sequence = self.cursor.as_ref().unwrap().position;
            let record = self.progress(
                Position {
                    epoch: self.epoch,
                    sequence,
                },
                false,
            );
            self.on_its_way.push_back(record);
        }
    }

    fn progress(&self, position: Position, current: bool) -> Record {
        Record::Progress(Progress {
            at: 0,
            stream: self.number,
            epoch: position.epoch,
            sequence: position.sequence,
            current,
        })
    }

    fn gap(
        &mut self,
        reason: GapReason,
        after: u64,
        through: u64,
        events: u64,
        epoch: Option<u64>,
    ) {
        self.on_its_way.push_back(Record::Gap(Gap {
            at: 0,
            stream: self.number,
            reason,
            after_sequence: after,
            through_sequence: through,
            events,
            through_epoch: epoch,
        }));
    }

    fn begin(&mut self, server: &Server, now: u64) {
        let opened = &self.opened;
        let filters = opened.filters.iter();
        let filters = filters.map(|filter| *FILTERS.iter().find(|known| *known == filter).unwrap());
        let mut cursor = Cursor {
            filters: filters.collect(),
            position: 0,
            policy: opened.gap_policy,
            limit: opened.max_event_bytes.unwrap_or(1 << 20),
            not_before: 0,
        };
        self.epoch = server.epoch;
        let mut gap = None;
        let visible = server.visible();
        let (outcome, position) = match (opened.resume_after, opened.start) {
            (Some(asked), _) if asked.epoch != server.epoch => {
                let through = match opened.gap_policy {
                    GapPolicy::Latest => visible,
                    _ => server.lost_before(&cursor),
                };
                gap = Some((
                    GapReason::EpochChanged,
                    asked.sequence,
                    through,
                    0,
                    Some(server.epoch),
                ));
                (WelcomeOutcome::Reset, asked.sequence)
            }
            (Some(asked), _) if asked.sequence > visible => {
                gap = Some((GapReason::Future, asked.sequence, visible, 0, None));
                (WelcomeOutcome::Reset, visible)
            }
            (Some(asked), _) => {
                cursor.position = asked.sequence;
                let outcome = match server.next(&mut cursor.clone()) {
                    Next::Gap(reason, after, through, events) if reason != GapReason::TooLarge => {
                        gap = Some((reason, after, through, events, None));
                        WelcomeOutcome::Reset
                    }
                    _ => WelcomeOutcome::Resumed,
                };
                (outcome, asked.sequence)
            }
            (None, Some(Start::Earliest)) => (WelcomeOutcome::New, server.lost_before(&cursor)),
            (None, Some(Start::TimeNanos(time))) => {
                cursor.not_before = time.cast_unsigned();
                let before = server.before_time(time.cast_unsigned());
                (WelcomeOutcome::New, before.min(visible))
            }
            (None, None) => (WelcomeOutcome::New, visible),
        };
        cursor.position = gap.map_or(position, |(_, _, through, ..)| through);
        self.cursor = Some(cursor);
        let _ = now;
        self.on_its_way.push_back(Record::Welcome(Welcome {
            at: 0,
            stream: self.number,
            outcome,
            epoch: server.epoch,
            sequence: position,
            position_epoch: (opened.resume_after)
                .and_then(|asked| (asked.epoch != server.epoch).then_some(asked.epoch)),
        }));
        if let Some((reason, after, through, events, epoch)) = gap {
            self.gap(reason, after, through, events, epoch);
        }
    }
}

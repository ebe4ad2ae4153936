//! The checker against a naive model: a log that is written, trimmed and lost, and servers that are honest
//! about it, or leave something out.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const EPOCH: u64 = 11;

fn fresh(from: u64) -> Continuity {
    Continuity::begin(None, Position::new(EPOCH, from), EPOCH, Outcome::New)
}

fn gap(reason: v1::gap::Reason, after: u64, through: u64, through_epoch: u64) -> v1::Gap {
    v1::Gap {
        reason: reason.into(),
        after_sequence: after,
        through_sequence: through,
        events: 0,
        through_epoch,
    }
}

#[test]
fn an_event_left_out_shows_with_the_next_of_its_topic() {
    let mut checker = fresh(0);
    assert_eq!(checker.event("a", 1, 0), Checked::Good);
    assert_eq!(checker.event("b", 2, 0), Checked::Good);
    // 3 on "a" was left out.
    assert_eq!(checker.event("b", 4, 2), Checked::Good);
    assert!(matches!(
        checker.event("a", 5, 3),
        Checked::GoodAfter(Violation::Missing {
            base: 1,
            previous: 3,
            ..
        })
    ));
    // It was said once.
    assert_eq!(checker.event("a", 6, 5), Checked::Good);
}

#[test]
fn events_before_the_position_of_the_stream_are_not_missing() {
    let mut checker = fresh(100);
    assert_eq!(checker.event("a", 101, 100), Checked::Good);
    assert_eq!(checker.event("b", 102, 7), Checked::Good);
}

#[test]
fn a_repeated_event_is_dropped_and_said() {
    let mut checker = fresh(0);
    assert_eq!(checker.event("a", 5, 0), Checked::Good);
    for sequence in [5, 4] {
        assert!(matches!(
            checker.event("a", sequence, 0),
            Checked::Drop(Violation::NotRising { last: 5, .. })
        ));
    }
}

#[test]
fn a_gap_excuses_the_events_in_its_range_and_no_others() {
    let mut checker = fresh(0);
    checker.gap(&gap(v1::gap::Reason::Trimmed, 0, 10, 0));
    assert_eq!(checker.event("a", 12, 10), Checked::Good);
    assert!(matches!(checker.event("b", 13, 11), Checked::GoodAfter(_)));
}

#[test]
fn progress_excuses_nothing() {
    let mut checker = fresh(0);
    assert_eq!(checker.progress(Position::new(EPOCH, 10)), None);
    assert_eq!(checker.position(), Some(Position::new(EPOCH, 10)));
    assert!(matches!(checker.event("a", 11, 5), Checked::GoodAfter(_)));
}

#[test]
fn a_new_epoch_clears_all_bases_and_its_gap_must_come() {
    let asked = Position::new(EPOCH, 500);
    let mut checker = Continuity::begin(Some(asked), asked, 22, Outcome::Reset);
    assert_eq!(checker.position(), None);
    let announced = checker.gap(&gap(v1::gap::Reason::EpochChanged, 500, 3, 22));
    assert_eq!(announced.after, Some(asked));
    assert_eq!(announced.through, Position::new(22, 3));
    assert_eq!(checker.position(), Some(Position::new(22, 3)));
    assert_eq!(checker.event("a", 4, 3), Checked::Good);
}

#[test]
fn a_reset_without_its_gap_is_said_once() {
    let asked = Position::new(EPOCH, 500);
    let mut checker = Continuity::begin(Some(asked), asked, 22, Outcome::Reset);
    assert!(matches!(
        checker.event("a", 1, 0),
        Checked::GoodAfter(Violation::ResetWithoutGap { .. })
    ));
    assert_eq!(checker.event("a", 2, 1), Checked::Good);
    // A server that forgot to say that its history is another one.
    let mut checker = Continuity::begin(Some(asked), asked, 22, Outcome::Resumed);
    assert!(checker.progress(Position::new(22, 1)).is_some());
}

#[test]
fn a_position_never_written_moves_back_to_the_last_one_written() {
    let asked = Position::new(EPOCH, 500);
    let mut checker = Continuity::begin(
        Some(asked),
        Position::new(EPOCH, 100),
        EPOCH,
        Outcome::Reset,
    );
    checker.gap(&gap(v1::gap::Reason::Future, 500, 100, 0));
    assert_eq!(checker.position(), Some(Position::new(EPOCH, 100)));
    assert_eq!(checker.event("a", 101, 99), Checked::Good);
}

#[test]
fn a_resumed_stream_that_skips_is_caught() {
    let asked = Position::new(EPOCH, 10);
    let mut checker = Continuity::begin(
        Some(asked),
        Position::new(EPOCH, 15),
        EPOCH,
        Outcome::Resumed,
    );
    assert!(matches!(
        checker.event("a", 16, 12),
        Checked::GoodAfter(Violation::Missing { base: 10, .. })
    ));
}

#[test]
fn an_epoch_that_changes_under_a_running_stream_is_followed() {
    let mut checker = fresh(40);
    let announced = checker.gap(&gap(v1::gap::Reason::EpochChanged, 40, 2, 33));
    assert_eq!(announced.after, Some(Position::new(EPOCH, 40)));
    assert_eq!(checker.epoch(), 33);
    assert_eq!(checker.event("a", 3, 2), Checked::Good);
}

/// One step of a server's life.
#[derive(Clone, Debug)]
enum Step {
    /// An event on one of a few topics; `kept` false: the server forgets to send it.
    Publish {
        topic: u8,
        kept: bool,
    },
    /// The stream is lost. These events are published before the next, and the oldest of them are trimmed.
    Reconnect {
        missed: Vec<u8>,
        trimmed: usize,
    },
    /// The server starts with an empty history. These events are published before the next stream.
    Restart {
        missed: Vec<u8>,
    },
    Progress,
}

fn steps(honest: bool) -> impl Strategy<Value = Vec<Step>> {
    let topic = 0u8..5;
    let missed = || prop::collection::vec(0u8..5, 0..8);
    let kept = if honest {
        Just(true).boxed()
    } else {
        prop::bool::weighted(0.9).boxed()
    };
    prop::collection::vec(
        prop_oneof![
            12 => (topic, kept).prop_map(|(topic, kept)| Step::Publish { topic, kept }),
            2 => (missed(), 0usize..8).prop_map(|(missed, trimmed)| Step::Reconnect { missed, trimmed }),
            1 => missed().prop_map(|missed| Step::Restart { missed }),
            2 => Just(Step::Progress),
        ],
        1..80,
    )
}

/// A server that keeps everything it ever published in one place, and the client's side of the wire.
struct Model {
    epoch: u64,
    /// All events of this epoch: (topic, previous).
    log: Vec<(u8, u64)>,
    checker: Continuity,
    violations: Vec<Violation>,
    delivered: Vec<Position>,
    /// By topic, the last that was delivered or excused.
    seen: BTreeMap<u8, u64>,
    excused: u64,
    /// Events that a perfect observer calls missing: their successor on the topic was delivered.
    missing: usize,
}

impl Model {
    fn new(topics_max: usize) -> Self {
        let mut model = Self {
            epoch: 1,
            log: Vec::new(),
            checker: Continuity::begin(None, Position::new(1, 0), 1, Outcome::New),
            violations: Vec::new(),
            delivered: Vec::new(),
            seen: BTreeMap::new(),
            excused: 0,
            missing: 0,
        };
        model.checker.topics_max = topics_max;
        model
    }

    fn append(&mut self, topic: u8) -> u64 {
        let previous = self
            .log
            .iter()
            .rposition(|(other, _)| *other == topic)
            .map_or(0, |index| index as u64 + 1);
        self.log.push((topic, previous));
        self.log.len() as u64
    }

    fn send(&mut self, sequence: u64) {
        let (topic, previous) = self.log[sequence as usize - 1];
        let base = self
            .seen
            .get(&topic)
            .copied()
            .unwrap_or(0)
            .max(self.excused);
        if previous > base {
            self.missing += 1;
        }
        self.seen.insert(topic, sequence);
        match self.checker.event(&format!("t{topic}"), sequence, previous) {
            Checked::Good => {}
            Checked::GoodAfter(violation) => self.violations.push(violation),
            Checked::Drop(violation) => {
                self.violations.push(violation);
                return;
            }
        }
        self.delivered.push(Position::new(self.epoch, sequence));
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Publish { topic, kept } => {
                let sequence = self.append(*topic);
                if *kept {
                    self.send(sequence);
                }
            }
            Step::Progress => {
                let position = Position::new(self.epoch, self.log.len() as u64);
                self.violations.extend(self.checker.progress(position));
            }
            Step::Reconnect { missed, trimmed } => {
                let asked = self.checker.position().unwrap();
                for topic in missed {
                    self.append(*topic);
                }
                let topics_max = self.checker.topics_max;
                let through = (asked.sequence + *trimmed as u64).min(self.log.len() as u64);
                let outcome = if through > asked.sequence {
                    Outcome::Reset
                } else {
                    Outcome::Resumed
                };
                self.checker = Continuity::begin(Some(asked), asked, self.epoch, outcome);
                self.checker.topics_max = topics_max;
                self.excused = self.excused.max(asked.sequence);
                if outcome == Outcome::Reset {
                    let announced = self.checker.gap(&gap(
                        v1::gap::Reason::Trimmed,
                        asked.sequence,
                        through,
                        0,
                    ));
                    assert_eq!(announced.through, Position::new(self.epoch, through));
                    self.excused = self.excused.max(through);
                }
                for sequence in through + 1..=self.log.len() as u64 {
                    self.send(sequence);
                }
            }
            Step::Restart { missed } => {
                let asked = self.checker.position().unwrap();
                let topics_max = self.checker.topics_max;
                self.epoch += 1;
                self.log.clear();
                self.seen.clear();
                self.excused = 0;
                for topic in missed {
                    self.append(*topic);
                }
                self.checker = Continuity::begin(Some(asked), asked, self.epoch, Outcome::Reset);
                self.checker.topics_max = topics_max;
                self.checker.gap(&gap(
                    v1::gap::Reason::EpochChanged,
                    asked.sequence,
                    0,
                    self.epoch,
                ));
                for sequence in 1..=self.log.len() as u64 {
                    self.send(sequence);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn an_honest_server_is_never_accused(steps in steps(true), topics_max in 1usize..8) {
        let mut model = Model::new(topics_max);
        for step in &steps {
            model.play(step);
        }
        prop_assert!(model.violations.is_empty(), "{:?}", model.violations);
        for pair in model.delivered.windows(2) {
            prop_assert!(pair[0].epoch < pair[1].epoch || pair[0].sequence < pair[1].sequence);
        }
    }

    #[test]
    fn everything_left_out_is_found_as_by_a_perfect_observer(steps in steps(false)) {
        let mut model = Model::new(TOPICS_MAX);
        for step in &steps {
            model.play(step);
        }
        prop_assert_eq!(model.violations.len(), model.missing);
    }
}

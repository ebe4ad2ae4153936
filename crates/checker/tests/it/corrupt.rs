//! Single corruptions of a recorded run: each takes a place at random and breaks one promise there.

use std::collections::HashSet;

use longlived_checker::Rule;
use longlived_checker::history::{
    Digest, FilterChange, GapReason, GoAway, Position, Progress, PublishOutcome, Record, Welcome,
    WelcomeOutcome,
};

use super::{damage, model::Dice};

/// A class of corruptions.
pub(crate) struct Corruption {
    pub(crate) name: &'static str,
    /// It is found in at least this number of a hundred histories.
    pub(crate) found: u64,
    /// The rules that tell it, one of them each time.
    pub(crate) rules: &'static [Rule],
    /// False when the history has no place for it.
    pub(crate) apply: fn(&mut Vec<Record>, &mut Dice) -> bool,
}

use Rule::{
    AcknowledgedLost, AtHead, DeliveredUnpublished, GapTrue, MessageIdOnce, NoRepeat, OneContent,
    OnlyMatching, PreviousSequence, ProgressTrue, RealTime, ResumeFirst, Rising,
};

pub(crate) const ALL: &[Corruption] = &[
    Corruption {
        name: "an event is not delivered",
        found: 90,
        rules: &[
            AcknowledgedLost,
            ResumeFirst,
            ProgressTrue,
            PreviousSequence,
            AtHead,
            GapTrue,
        ],
        apply: drop_event,
    },
    Corruption {
        name: "the content of an event is another",
        found: 100,
        rules: &[OneContent, DeliveredUnpublished],
        apply: |records, dice| {
            with_event(records, dice, |event| {
                event.digest = Digest(!event.digest.0);
            })
        },
    },
    Corruption {
        name: "an event comes on another topic",
        found: 100,
        rules: &[OneContent, DeliveredUnpublished, OnlyMatching],
        apply: |records, dice| {
            with_event(records, dice, |event| {
                "elsewhere".clone_into(&mut event.topic);
            })
        },
    },
    Corruption {
        name: "two events of a stream are swapped",
        found: 100,
        rules: &[Rising],
        apply: |records, dice| swap_events(records, dice),
    },
    Corruption {
        name: "an applied event comes once more",
        found: 100,
        rules: &[NoRepeat, Rising],
        apply: repeat_event,
    },
    Corruption {
        name: "an event says to follow one that is not there",
        found: 85,
        rules: &[PreviousSequence, OneContent],
        apply: |records, dice| {
            with_event(records, dice, |event| {
                event.previous_sequence = event.sequence - 1;
            }) && records
                .iter()
                .any(|record| matches!(record, Record::Event(_)))
        },
    },
    Corruption {
        name: "a gap begins below the position",
        found: 85,
        rules: &[GapTrue],
        apply: |records, dice| {
            with_gap(records, dice, |gap| {
                gap.after_sequence = gap.after_sequence.wrapping_sub(1);
            })
        },
    },
    Corruption {
        name: "a gap ends far above the head",
        found: 70,
        rules: &[GapTrue, Rising],
        apply: |records, dice| with_gap(records, dice, |gap| gap.through_sequence += 100),
    },
    Corruption {
        name: "a gap is not told",
        found: 60,
        rules: &[
            GapTrue,
            AcknowledgedLost,
            ResumeFirst,
            ProgressTrue,
            PreviousSequence,
            AtHead,
        ],
        apply: drop_gap,
    },
    Corruption {
        name: "something else is said between a reset and its gap",
        found: 100,
        rules: &[GapTrue],
        apply: delay_first_gap,
    },
    Corruption {
        name: "a Welcome into another epoch names a position of that epoch",
        found: 100,
        rules: &[GapTrue],
        apply: |records, dice| welcome_in_the_new_epoch(records, dice),
    },
    Corruption {
        name: "a gap tells of too many events",
        found: 60,
        rules: &[GapTrue],
        apply: |records, dice| {
            with_gap(records, dice, |gap| {
                // The server alone can count the events of a lost epoch, or of a damage.
                let counted = !matches!(gap.reason, GapReason::EpochChanged | GapReason::Damaged);
                if counted {
                    gap.events = 1_000;
                }
            }) && records
                .iter()
                .any(|it| matches!(it, Record::Gap(gap) if gap.events == 1_000))
        },
    },
    Corruption {
        name: "a damage over nothing is told of after an event",
        found: 85,
        rules: &[GapTrue, Rising],
        apply: damage::after_an_event,
    },
    Corruption {
        name: "a damage over nothing is told of after a resumption",
        found: 80,
        rules: &[GapTrue, Rising],
        apply: damage::at_a_resumption,
    },
    Corruption {
        name: "a Progress is ahead of everything",
        found: 40,
        rules: &[ProgressTrue, Rising],
        apply: |records, dice| advance_progress(records, dice),
    },
    Corruption {
        name: "a Progress falls",
        found: 95,
        rules: &[Rising, ProgressTrue],
        apply: |records, dice| fall_progress(records, dice),
    },
    Corruption {
        name: "a filter is added ahead of the stream",
        found: 80,
        rules: &[ProgressTrue, ResumeFirst, Rising, AcknowledgedLost],
        apply: |records, dice| add_ahead(records, dice),
    },
    Corruption {
        name: "an acknowledgement names another position",
        found: 85,
        rules: &[
            OneContent,
            RealTime,
            AcknowledgedLost,
            MessageIdOnce,
            ProgressTrue,
            GapTrue,
            ResumeFirst,
            AtHead,
            DeliveredUnpublished,
            PreviousSequence,
        ],
        apply: |records, dice| move_acknowledgement(records, dice),
    },
    Corruption {
        name: "a stream resumes above what its subscriber had",
        found: 50,
        rules: &[AcknowledgedLost],
        apply: skip_on_resume,
    },
];

fn places(records: &[Record], wanted: impl Fn(&Record) -> bool) -> Vec<usize> {
    (0..records.len())
        .filter(|&at| wanted(&records[at]))
        .collect()
}

pub(crate) fn pick(
    records: &[Record],
    dice: &mut Dice,
    wanted: impl Fn(&Record) -> bool,
) -> Option<usize> {
    let places = places(records, wanted);
    (!places.is_empty()).then(|| *dice.pick(&places))
}

/// Not of foreign topics: nobody knows their publishes.
fn is_own_event(record: &Record) -> bool {
    matches!(record, Record::Event(event) if !event.topic.starts_with("inbox"))
}

fn with_event(
    records: &mut [Record],
    dice: &mut Dice,
    change: impl Fn(&mut longlived_checker::history::Event),
) -> bool {
    let wanted = |record: &Record| {
        is_own_event(record)
            && matches!(record, Record::Event(event) if event.sequence != event.previous_sequence + 1)
    };
    let Some(at) = pick(records, dice, wanted) else {
        return false;
    };
    if let Record::Event(event) = &mut records[at] {
        change(event);
    }
    true
}

fn with_gap(
    records: &mut [Record],
    dice: &mut Dice,
    change: impl Fn(&mut longlived_checker::history::Gap),
) -> bool {
    let Some(at) = pick(records, dice, |record| {
        matches!(record, Record::Gap(gap) if gap.reason != GapReason::Future
            && (gap.reason != GapReason::EpochChanged || gap.after_sequence > 0))
    }) else {
        return false;
    };
    if let Record::Gap(gap) = &mut records[at] {
        change(gap);
    }
    true
}

fn stream_of(record: &Record) -> Option<u64> {
    match record {
        Record::Event(it) => Some(it.stream),
        Record::Gap(it) => Some(it.stream),
        Record::Progress(it) => Some(it.stream),
        Record::GoAway(it) => Some(it.stream),
        _ => None,
    }
}

/// The contents that were acknowledged as stored.
fn acknowledged(records: &[Record]) -> HashSet<Digest> {
    let ended = records.iter().filter_map(|record| match record {
        Record::PublishEnded(it) => match it.outcome {
            PublishOutcome::Acknowledged {
                duplicate: false, ..
            } => Some(it.publish),
            _ => None,
        },
        _ => None,
    });
    let ended: HashSet<u64> = ended.collect();
    let digests = records.iter().filter_map(|record| match record {
        Record::PublishBegun(it) if ended.contains(&it.publish) => Some(it.digest),
        _ => None,
    });
    digests.collect()
}

/// An acknowledged event that is followed by something that proves it is missing.
fn drop_event(records: &mut Vec<Record>, dice: &mut Dice) -> bool {
    let followed = |at: usize| {
        let stream = stream_of(&records[at]);
        let mut after = records[at + 1..].iter();
        after.any(|record| stream_of(record) == stream && !matches!(record, Record::GoAway(_)))
    };
    let acknowledged = acknowledged(records);
    let wanted = |record: &Record| matches!(record, Record::Event(event) if acknowledged.contains(&event.digest));
    let places = places(records, wanted);
    let places: Vec<_> = places.into_iter().filter(|&at| followed(at)).collect();
    if places.is_empty() {
        return false;
    }
    records.remove(*dice.pick(&places));
    true
}

fn swap_events(records: &mut [Record], dice: &mut Dice) -> bool {
    let event = |at: usize| match &records[at] {
        Record::Event(event) => Some((event.stream, event.at)),
        _ => None,
    };
    let pairs = (1..records.len()).filter(|&at| {
        event(at)
            .zip(event(at - 1))
            .is_some_and(|((one, _), (other, _))| one == other)
    });
    let pairs: Vec<_> = pairs.collect();
    if pairs.is_empty() {
        return false;
    }
    let at = *dice.pick(&pairs);
    records.swap(at - 1, at);
    true
}

fn repeat_event(records: &mut Vec<Record>, dice: &mut Dice) -> bool {
    let applied = |record: &Record| matches!(record, Record::Event(event) if event.applied);
    let Some(at) = pick(records, dice, applied) else {
        return false;
    };
    records.insert(at + 1, records[at].clone());
    true
}

/// One that is no stretch between two others: those may be over nothing.
fn drop_gap(records: &mut Vec<Record>, dice: &mut Dice) -> bool {
    let Some(at) = pick(records, dice, |record| matches!(record, Record::Gap(_))) else {
        return false;
    };
    records.remove(at);
    true
}

/// A word that is true at any other time.
fn delay_first_gap(records: &mut Vec<Record>, dice: &mut Dice) -> bool {
    let resets = places(records, |record| {
        matches!(record, Record::Welcome(it) if it.outcome == WelcomeOutcome::Reset
            && it.position_epoch.is_none())
    });
    let gap_of = |at: usize| {
        let Record::Welcome(welcome) = &records[at] else {
            return None;
        };
        let later =
            (at + 1..records.len()).find(|&it| stream_of(&records[it]) == Some(welcome.stream))?;
        matches!(records[later], Record::Gap(_)).then_some((later, welcome.clone()))
    };
    let places: Vec<_> = resets.into_iter().filter_map(gap_of).collect();
    if places.is_empty() {
        return false;
    }
    let (gap, welcome) = dice.pick(&places).clone();
    let Welcome {
        at,
        stream,
        epoch,
        sequence,
        ..
    } = welcome;
    let word = match dice.below(3) {
        0 => Record::GoAway(GoAway {
            at,
            stream,
            reason: "DRAINING".to_owned(),
            position: Some(Position { epoch, sequence }),
            reconnect: true,
        }),
        1 => Record::FilterAdded(FilterChange {
            at,
            stream,
            filter: "never.published".to_owned(),
            after: sequence,
        }),
        _ => Record::Progress(Progress {
            at,
            stream,
            epoch,
            sequence,
            current: false,
        }),
    };
    records.insert(gap, word);
    true
}

fn welcome_in_the_new_epoch(records: &mut [Record], dice: &mut Dice) -> bool {
    let Some(at) = pick(
        records,
        dice,
        |record| matches!(record, Record::Welcome(it) if it.position_epoch.is_some()),
    ) else {
        return false;
    };
    if let Record::Welcome(welcome) = &mut records[at] {
        welcome.position_epoch = None;
        welcome.sequence = 0;
    }
    true
}

fn advance_progress(records: &mut [Record], dice: &mut Dice) -> bool {
    let Some(at) = pick(records, dice, |record| {
        matches!(record, Record::Progress(_))
    }) else {
        return false;
    };
    if let Record::Progress(progress) = &mut records[at] {
        progress.sequence += 50;
    }
    true
}

/// The change names the position of an event that comes after it.
fn add_ahead(records: &mut [Record], dice: &mut Dice) -> bool {
    let places = places(records, |record| matches!(record, Record::FilterAdded(_)));
    let ahead = |at: usize| {
        let Record::FilterAdded(added) = &records[at] else {
            return None;
        };
        let later = records[at + 1..].iter();
        let of_stream = later.filter(|record| stream_of(record) == Some(added.stream));
        let mut events = of_stream.map_while(|record| match record {
            Record::Event(event) => Some(event.sequence),
            _ => None,
        });
        events.next().map(|sequence| (at, sequence))
    };
    let places: Vec<_> = places.into_iter().filter_map(ahead).collect();
    if places.is_empty() {
        return false;
    }
    let (at, sequence) = *dice.pick(&places);
    if let Record::FilterAdded(added) = &mut records[at] {
        added.after = sequence;
    }
    true
}

fn fall_progress(records: &mut [Record], dice: &mut Dice) -> bool {
    let wanted = |record: &Record| matches!(record, Record::Progress(it) if it.sequence > 0);
    let places = places(records, wanted);
    // Directly after an event: then it is known to fall.
    let after_event = places.into_iter().filter(|&at| {
        matches!(&records[at - 1], Record::Event(_))
            && stream_of(&records[at]) == stream_of(&records[at - 1])
    });
    let places: Vec<_> = after_event.collect();
    if places.is_empty() {
        return false;
    }
    let before = *dice.pick(&places);
    if let Record::Progress(progress) = &mut records[before] {
        progress.sequence = 0;
    }
    true
}

fn move_acknowledgement(records: &mut [Record], dice: &mut Dice) -> bool {
    let acknowledged = |record: &Record| matches!(record, Record::PublishEnded(it) if matches!(it.outcome, PublishOutcome::Acknowledged { .. }));
    let (Some(at), Some(other)) = (
        pick(records, dice, acknowledged),
        pick(records, dice, acknowledged),
    ) else {
        return false;
    };
    let (Record::PublishEnded(one), Record::PublishEnded(two)) = (&records[at], &records[other])
    else {
        return false;
    };
    let (
        PublishOutcome::Acknowledged {
            sequence,
            epoch,
            duplicate: false,
            durability,
        },
        PublishOutcome::Acknowledged {
            sequence: wrong,
            epoch: same,
            duplicate: false,
            ..
        },
    ) = (&one.outcome, &two.outcome)
    else {
        return false;
    };
    if sequence == wrong || epoch != same {
        return false;
    }
    let outcome = PublishOutcome::Acknowledged {
        epoch: *epoch,
        sequence: *wrong,
        durability: *durability,
        duplicate: false,
    };
    if let Record::PublishEnded(ended) = &mut records[at] {
        ended.outcome = outcome;
    }
    true
}

/// The stream claims to have asked for more than its subscriber had, and gets nothing before that.
fn skip_on_resume(records: &mut Vec<Record>, dice: &mut Dice) -> bool {
    let welcomed = places(records, |record| matches!(record, Record::Welcome(_)));
    let resumed = |at: &usize| {
        let (Record::Welcome(welcome), Record::Event(first)) =
            (&records[*at], records.get(at + 1)?)
        else {
            return None;
        };
        let mut opened = records.iter().filter_map(|record| match record {
            Record::StreamOpened(it) if it.stream == welcome.stream => it.resume_after,
            _ => None,
        });
        let asked = opened.next()?;
        let fits = first.stream == welcome.stream && first.applied && asked.epoch == welcome.epoch;
        fits.then_some((*at, welcome.stream, first.sequence))
    };
    let places: Vec<_> = welcomed.iter().filter_map(resumed).collect();
    if places.is_empty() {
        return false;
    }
    let (at, stream, sequence) = *dice.pick(&places);
    records.remove(at + 1);
    for record in records.iter_mut() {
        match record {
            Record::StreamOpened(it) if it.stream == stream => {
                it.resume_after.as_mut().unwrap().sequence = sequence;
            }
            Record::Welcome(it) if it.stream == stream => it.sequence = sequence,
            _ => {}
        }
    }
    true
}

//! DAMAGED gaps over events that nobody published. Lawful ones go on from damage that was partly read; the others are
//! false.

use std::collections::{BTreeSet, HashMap};

use longlived_checker::history::{Gap, GapReason, Header, PublishOutcome, Record, WelcomeOutcome};

use super::model::Dice;

/// How many there are of unknown number, where a history leaves nothing open.
pub(crate) fn over_nothing(header: &Header, records: &[Record]) -> usize {
    if !header.foreign.is_empty() || !is_answered(records) {
        return 0;
    }
    let known = known(records);
    let over_nothing = |record: &&Record| match record {
        Record::Gap(gap) if gap.reason == GapReason::Damaged && gap.events == 0 => {
            let inside = gap.after_sequence + 1..=gap.through_sequence;
            known.range(inside).next().is_none()
        }
        _ => false,
    };
    records.iter().filter(over_nothing).count()
}

/// Tells of one after an event, where no message was on its way.
pub(crate) fn after_an_event(records: &mut Vec<Record>, dice: &mut Dice) -> bool {
    let place = |_: usize, record: &Record| match record {
        Record::Event(it) if !was_on_its_way(records, it.sequence) => {
            Some((it.stream, it.at, it.sequence))
        }
        _ => None,
    };
    let places = over_free_numbers(records, place);
    tell_of_one(records, dice, &places)
}

/// Tells a subscriber of one that resumes after an event, which another subscriber receives later.
pub(crate) fn at_a_resumption(records: &mut Vec<Record>, dice: &mut Dice) -> bool {
    let mut opened = HashMap::new();
    let mut epochs = HashMap::new();
    // By epoch and sequence: where the stream was opened that brought the event last.
    let mut newest: HashMap<(u64, u64), usize> = HashMap::new();
    for (at, record) in records.iter().enumerate() {
        match record {
            Record::StreamOpened(it) => drop(opened.insert(it.stream, at)),
            Record::Welcome(it) => drop(epochs.insert(it.stream, it.epoch)),
            Record::Event(it) => {
                let place = newest.entry((epochs[&it.stream], it.sequence)).or_default();
                *place = opened[&it.stream].max(*place);
            }
            _ => {}
        }
    }
    let place = |at: usize, record: &Record| match record {
        Record::Welcome(it) if it.outcome == WelcomeOutcome::Resumed => {
            let comes_again = newest.get(&(it.epoch, it.sequence))? > &at;
            comes_again.then_some((it.stream, it.at, it.sequence))
        }
        _ => None,
    };
    let places = over_free_numbers(records, place);
    tell_of_one(records, dice, &places)
}

/// Where in the records, and there the stream, the time and the sequence after which a gap is told of.
type Place = (usize, (u64, u64, u64));

/// The places where the next number stands for nothing, and where nobody can say that something unknown was there.
fn over_free_numbers(
    records: &[Record],
    place: impl Fn(usize, &Record) -> Option<(u64, u64, u64)>,
) -> Vec<Place> {
    if !is_answered(records) {
        return Vec::new();
    }
    let known = known(records);
    // Between two known ones, where no other rule would see it.
    let is_free = |sequence: u64| {
        let next = known.range(sequence + 1..).next();
        sequence > 0 && next.is_some_and(|&next| next > sequence + 1)
    };
    let places = records.iter().enumerate();
    let places = places.filter_map(|(at, record)| Some((at, place(at, record)?)));
    places
        .filter(|&(_, (_, _, sequence))| is_free(sequence))
        .collect()
}

/// Tells of a gap over the number after one of the places.
fn tell_of_one(records: &mut Vec<Record>, dice: &mut Dice, places: &[Place]) -> bool {
    if places.is_empty() {
        return false;
    }
    let &(at, (stream, told_at, sequence)) = dice.pick(places);
    let gap = Record::Gap(Gap {
        at: told_at,
        stream,
        reason: GapReason::Damaged,
        after_sequence: sequence,
        through_sequence: sequence + 1,
        events: 0,
        through_epoch: None,
    });
    records.insert(at + 1, gap);
    true
}

/// Whether a message may have been lost after a sequence and stored again above. It was begun when nothing beyond the
/// next number was known, and streams were lost before its answer came.
fn was_on_its_way(records: &[Record], sequence: u64) -> bool {
    let mut highest = 0;
    // Streams lost so far, and how many there were when a publish was begun.
    let mut lost = 0;
    let mut begun = HashMap::new();
    for record in records {
        match record {
            Record::StreamEnded(it) if it.returns => lost += 1,
            Record::PublishBegun(it) if highest <= sequence + 1 => {
                begun.insert((&it.publisher, it.publish), lost);
            }
            Record::Event(it) => highest = highest.max(it.sequence),
            Record::PublishEnded(it) => {
                if let PublishOutcome::Acknowledged { sequence: at, .. } = it.outcome {
                    highest = highest.max(at);
                    let lost_before = begun.get(&(&it.publisher, it.publish));
                    if at > sequence + 1 && lost_before.is_some_and(|&before| before < lost) {
                        return true;
                    }
                }
            }
            _ => {}
        }
    }
    false
}

/// Whether the outcome of each publish is known.
fn is_answered(records: &[Record]) -> bool {
    let count = |wanted: fn(&Record) -> bool| records.iter().filter(|it| wanted(it)).count();
    let begun = count(|it| matches!(it, Record::PublishBegun(_)));
    let answered =
        count(|it| matches!(it, Record::PublishEnded(it) if it.outcome != PublishOutcome::Unknown));
    begun == answered
}

/// The sequences at which something is known to have been, of any epoch.
fn known(records: &[Record]) -> BTreeSet<u64> {
    let known = records.iter().filter_map(|record| match record {
        Record::Event(event) => Some(event.sequence),
        Record::PublishEnded(ended) => match ended.outcome {
            PublishOutcome::Acknowledged { sequence, .. } => Some(sequence),
            _ => None,
        },
        _ => None,
    });
    known.collect()
}

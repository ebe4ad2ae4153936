//! DAMAGED gaps over what nobody published: those of a lawful history, which go on from damage that was partly read,
//! and false ones.

use std::collections::{BTreeSet, HashMap};

use longlived_checker::Header;
use longlived_checker::history::{Gap, GapReason, PublishOutcome, Record, WelcomeOutcome};

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

/// Tells of one after an event.
pub(crate) fn after_an_event(records: &mut Vec<Record>, dice: &mut Dice) -> bool {
    let place = |_: usize, record: &Record| match record {
        Record::Event(it) => Some((it.stream, it.at, it.sequence)),
        _ => None,
    };
    over_a_free_number(records, dice, place)
}

/// Tells of one to who resumes after an event that comes again to somebody later.
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
    over_a_free_number(records, dice, place)
}

/// Tells of one in some place (stream, time, sequence), over the next number, which stands for nothing, where nobody
/// can say that something unknown was there.
fn over_a_free_number(
    records: &mut Vec<Record>,
    dice: &mut Dice,
    place: impl Fn(usize, &Record) -> Option<(u64, u64, u64)>,
) -> bool {
    if !is_answered(records) {
        return false;
    }
    let known = known(records);
    // Between two known ones, where no other rule would see it.
    let is_free = |sequence: u64| {
        let next = known.range(sequence + 1..).next();
        sequence > 0 && next.is_some_and(|&next| next > sequence + 1)
    };
    let places: Vec<_> = records
        .iter()
        .enumerate()
        .filter_map(|(at, record)| Some((at, place(at, record)?)))
        .filter(|&(_, (_, _, sequence))| is_free(sequence))
        .collect();
    if places.is_empty() {
        return false;
    }
    let &(at, (stream, told_at, sequence)) = dice.pick(&places);
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

/// Whether of each publish it is known what became of it.
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

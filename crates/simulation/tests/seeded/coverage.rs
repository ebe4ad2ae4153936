//! The faults that many runs together have met. Faults that never bite would make every run lawful.

use std::collections::BTreeMap;
use std::fmt;

use longlived_client::{GapReason, Item, Lost, Notice};

use crate::storage::{DAMAGE, DAMAGED_END};
use crate::trace::{Answer, End, Record};

/// The cases that enough runs must meet at least once.
const MUST_MEET: [&str; 26] = [
    "event",
    "gap: trimmed",
    "gap: epoch",
    "gap: too large",
    "gap: damaged",
    "resumed",
    "current",
    "lost: refused dial",
    "lost: dead connection",
    "lost: silence",
    "lost: draining",
    "lost: slow",
    "end: taken over",
    "end: out of range",
    "end: left",
    "answer: stored",
    "answer: duplicate",
    "answer: not stored",
    "answer: unknown",
    "answer: stored in bulk",
    "stored again by a later life",
    "append failed",
    "damaged byte",
    "damaged end of the log",
    "full disk",
    "failed sync",
];

/// How often each was met.
#[derive(Default)]
pub(crate) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    /// Adds a run.
    pub(crate) fn add<'a>(&mut self, records: impl IntoIterator<Item = &'a Record>) {
        let mut lives: BTreeMap<&str, u32> = BTreeMap::new();
        for record in records {
            if let Record::Stored { message, life, .. } = record
                && lives
                    .insert(message, *life)
                    .is_some_and(|before| before != *life)
            {
                self.met("stored again by a later life");
            }
            if let Some(what) = what(record) {
                self.met(what);
            }
        }
    }

    fn met(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// The cases that were not met.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let met = |what: &&str| self.0.contains_key(what);
        MUST_MEET.into_iter().filter(|what| !met(what)).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.0 {
            writeln!(f, "{count:>8} {what}")?;
        }
        Ok(())
    }
}

fn what(record: &Record) -> Option<&'static str> {
    Some(match record {
        Record::Got { item, .. } => match item {
            Item::Event(_) => "event",
            Item::Gap(gap) => match gap.reason {
                GapReason::Trimmed => "gap: trimmed",
                GapReason::EpochChanged => "gap: epoch",
                GapReason::TooLarge => "gap: too large",
                GapReason::Damaged => "gap: damaged",
                GapReason::Future | GapReason::Other(_) => "gap: other",
            },
            Item::Violation(_) => "violation",
            Item::Notice(notice) => return noticed(notice),
        },
        Record::Ended { how, .. } => match how {
            End::TakenOver => "end: taken over",
            End::OutOfRange => "end: out of range",
            End::Left => "end: left",
            End::Stopped | End::Failed(_) => return None,
        },
        Record::Answered { answer, .. } => match answer {
            Answer::Stored {
                duplicate: true, ..
            } => "answer: duplicate",
            Answer::Stored { .. } => "answer: stored",
            Answer::StoredInBulk => "answer: stored in bulk",
            Answer::NotStored(_) => "answer: not stored",
            Answer::Unknown(_) => "answer: unknown",
        },
        Record::Fault(what) if what.starts_with("append") => "append failed",
        Record::Fault(what) if what.starts_with(DAMAGED_END) => "damaged end of the log",
        Record::Fault(what) if what.starts_with(DAMAGE) => "damaged byte",
        Record::Fault(what) if what.starts_with("disk: ") && what.contains("broken") => {
            "failed sync"
        }
        Record::Fault(what) if what.starts_with("disk: ") => "full disk",
        _ => return None,
    })
}

fn noticed(notice: &Notice) -> Option<&'static str> {
    Some(match notice {
        Notice::Connected { streams, .. } if *streams > 1 => "resumed",
        Notice::Current { .. } => "current",
        Notice::Disconnected { reason, .. } => match reason {
            Lost::Connect(_) => "lost: refused dial",
            Lost::Transport(_) => "lost: dead connection",
            Lost::Silent(_) => "lost: silence",
            Lost::GoAway(_) => "lost: draining",
            Lost::Status(refusal) if refusal.code as i32 == RESOURCE_EXHAUSTED => "lost: slow",
            Lost::Status(_) => "lost: status",
            Lost::Ended
            | Lost::Http(_)
            | Lost::NotHttp2(_)
            | Lost::NoWelcome(_)
            | Lost::Protocol(_) => "lost: other",
        },
        _ => return None,
    })
}

/// How a server ends a reader that is slow.
const RESOURCE_EXHAUSTED: i32 = 8;

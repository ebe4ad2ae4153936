//! The log of the model: the stored, removed and damaged events, and the next response of a stream.

use std::collections::HashMap;

use longlived_checker::history::{Digest, GapPolicy, GapReason};

use super::{Dice, TOPICS};

/// This number of the newest events can be had although retention took them.
const TAIL: usize = 4;

/// An event of the log.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) sequence: u64,
    pub(super) previous: u64,
    pub(super) topic: usize,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) stored_at: u64,
    pub(super) gone: bool,
    /// It is inside a damage.
    lost: bool,
}

/// A part of the log that cannot be read back.
#[derive(Clone, Copy, Debug)]
struct Damage {
    after: u64,
    through: u64,
    /// The lost events are still known, so that it concerns only subscribers that want one of them.
    counted: bool,
}

pub(super) struct Server {
    pub(super) epoch: u64,
    pub(super) log: Vec<Kept>,
    pub(super) ids: HashMap<(usize, u64), u64>,
    keeps: [u64; 2],
    /// Rising, without overlap.
    damages: Vec<Damage>,
}

/// A stream's place in the log.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    pub(super) filters: Vec<&'static str>,
    pub(super) position: u64,
    pub(super) policy: GapPolicy,
    pub(super) limit: u64,
    pub(super) not_before: u64,
}

/// The next response of a stream.
pub(super) enum Next {
    Event(Kept),
    Gap(GapReason, u64, u64, u64),
    Nothing,
}

impl Server {
    pub(super) fn new(epoch: u64, keeps: [u64; 2]) -> Self {
        Self {
            epoch,
            log: Vec::new(),
            ids: HashMap::new(),
            keeps,
            damages: Vec::new(),
        }
    }

    /// History in memory is gone.
    pub(super) fn begin_anew(&mut self, dice: &mut Dice) {
        *self = Self::new(self.epoch + 1 + dice.below(1 << 20), self.keeps);
    }

    pub(super) fn visible(&self) -> u64 {
        let stored = self.log.last().map_or(0, |event| event.sequence);
        // Numbers that may have been given out are not given out again.
        let damaged = self.damages.last().map_or(0, |damage| damage.through);
        stored.max(damaged)
    }

    /// Some events that follow each other cannot be read any more. Where they are the last ones, the log may not know
    /// how many there were. Then it leaves out numbers, and every subscriber is told of these, also one that had read
    /// the events.
    pub(super) fn damage(&mut self, dice: &mut Dice) {
        if self.log.is_empty() {
            return;
        }
        let among = if dice.one_in(2) { 2 } else { self.log.len() };
        let newest = dice.below(among.min(self.log.len()) as u64) as usize;
        let first = self.log.len() - 1 - newest;
        let last = (first + dice.below(3) as usize).min(self.log.len() - 1);
        if self.log[first..=last].iter().any(|event| event.lost) {
            return;
        }
        let counted = dice.one_in(2);
        let skipped = if last + 1 == self.log.len() && !counted {
            dice.below(100)
        } else {
            0
        };
        let before = first.checked_sub(1).map(|index| self.log[index].sequence);
        let damage = Damage {
            after: before
                .unwrap_or(0)
                .max(self.damaged_before(self.log[first].sequence)),
            through: self.log[last].sequence + skipped,
            counted,
        };
        for event in &mut self.log[first..=last] {
            event.lost = true;
        }
        self.damages.push(damage);
        self.damages.sort_unstable_by_key(|damage| damage.after);
    }

    /// The end of the last damage below a sequence.
    fn damaged_before(&self, sequence: u64) -> u64 {
        let ends = self.damages.iter().map(|damage| damage.through);
        ends.filter(|&through| through < sequence)
            .max()
            .unwrap_or(0)
    }

    /// The next damage that a stream has to be told of, and how many events it misses by it.
    fn next_damage(&self, cursor: &Cursor) -> Option<(Damage, u64)> {
        let mut damages = self.damages.iter();
        damages.find_map(|&damage| {
            let inside =
                |event: &Kept| damage.after < event.sequence && event.sequence <= damage.through;
            let lost = || {
                self.log
                    .iter()
                    .enumerate()
                    .filter(|(_, event)| inside(event))
            };
            let wanted = lost().filter(|(_, event)| cursor.wants(event)).count();
            // Events that retention took as well are no news, except beside events that it did not take.
            let mut news = lost().filter(|(index, _)| !self.is_gone(*index));
            let concerned = news.any(|(_, event)| !damage.counted || cursor.wants(event));
            let ahead = damage.through > cursor.position;
            // Of a part, or where nobody knows, no number is told.
            let whole = damage.counted && damage.after >= cursor.position;
            let told = if whole { wanted as u64 } else { 0 };
            (ahead && concerned).then_some((damage, told))
        })
    }

    pub(super) fn store(
        &mut self,
        dice: &mut Dice,
        now: u64,
        topic: usize,
        digest: Digest,
        bytes: u64,
    ) -> u64 {
        let sequence = self.visible() + 1 + u64::from(dice.one_in(9));
        let before = self.log.iter().rev().find(|event| event.topic == topic);
        let previous = before.map_or(0, |event| event.sequence);
        self.log.push(Kept {
            sequence,
            previous: if dice.one_in(20) { 0 } else { previous },
            topic,
            digest,
            bytes,
            stored_at: now,
            gone: false,
            lost: false,
        });
        sequence
    }

    /// Two classes, each keeps its newest.
    pub(super) fn trim(&mut self) {
        for (class, keep) in self.keeps.into_iter().enumerate() {
            let mine =
                |event: &&mut Kept| usize::from(TOPICS[event.topic].starts_with("a.")) == class;
            let newest_first = self.log.iter_mut().rev().filter(mine);
            newest_first
                .skip(keep as usize)
                .for_each(|event| event.gone = true);
        }
    }

    fn is_gone(&self, index: usize) -> bool {
        self.log[index].gone && index + TAIL < self.log.len()
    }

    /// The last sequence before a time.
    pub(super) fn before_time(&self, time: u64) -> u64 {
        let before = self.log.iter().take_while(|event| event.stored_at < time);
        before.last().map_or(0, |event| event.sequence)
    }

    /// The position before all kept events, past as many removed ones as possible.
    pub(super) fn lost_before(&self, cursor: &Cursor) -> u64 {
        let mut lost = cursor.position;
        for (index, event) in self.log.iter().enumerate() {
            if cursor.wants(event) {
                if !self.is_gone(index) {
                    break;
                }
                lost = event.sequence;
            }
        }
        lost
    }

    /// Returns the next response, and moves the cursor past it.
    pub(super) fn next(&self, cursor: &mut Cursor) -> Next {
        let last_lost = |(index, event): (usize, &Kept)| {
            (cursor.wants(event) && self.is_gone(index)).then_some(event.sequence)
        };
        let trimmed = self
            .log
            .iter()
            .enumerate()
            .filter_map(last_lost)
            .max()
            .unwrap_or(0);
        let kept = self.log.iter().enumerate();
        let mut kept = kept
            .filter(|(index, event)| cursor.wants(event) && !event.lost && !self.is_gone(*index));
        let first = kept.next().map(|(_, event)| event.clone());
        let damage = self.next_damage(cursor);
        if trimmed > cursor.position {
            let through = match cursor.policy {
                GapPolicy::Latest => self.visible(),
                _ => first
                    .as_ref()
                    .map_or(trimmed, |first| trimmed.min(first.sequence - 1))
                    .min(damage.map_or(u64::MAX, |(damage, _)| damage.after)),
            };
            if through > cursor.position {
                let after = std::mem::replace(&mut cursor.position, through);
                return Next::Gap(GapReason::Trimmed, after, through, 0);
            }
        }
        let before = |damage: &Damage| {
            first
                .as_ref()
                .is_none_or(|first| damage.after < first.sequence)
        };
        if let Some((damage, events)) = damage.filter(|(damage, _)| before(damage)) {
            let after = cursor.position.max(damage.after);
            let (through, events) = match cursor.policy {
                GapPolicy::Latest => (self.visible(), 0),
                _ => (damage.through, events),
            };
            cursor.position = through;
            return Next::Gap(GapReason::Damaged, after, through, events);
        }
        let Some(first) = first else {
            return Next::Nothing;
        };
        cursor.position = first.sequence;
        if first.bytes > cursor.limit {
            return Next::Gap(GapReason::TooLarge, first.sequence - 1, first.sequence, 1);
        }
        Next::Event(first)
    }
}

impl Cursor {
    fn wants(&self, event: &Kept) -> bool {
        event.sequence > self.position
            && event.stored_at >= self.not_before
            && (self.filters.iter()).any(|filter| matches(filter, TOPICS[event.topic]))
    }
}

/// Whether a filter means a topic, written once more so that it can be held against the checker's.
fn matches(filter: &str, topic: &str) -> bool {
    let reserved = topic.starts_with("inbox") && filter.starts_with(['*', '>']);
    let (filter, topic): (Vec<_>, Vec<_>) =
        (filter.split('.').collect(), topic.split('.').collect());
    let open = filter.last() == Some(&">");
    let fixed = filter.len() - usize::from(open);
    let long_enough = if open {
        topic.len() > fixed
    } else {
        topic.len() == fixed
    };
    let mut tokens = filter[..fixed].iter().zip(&topic);
    !reserved && long_enough && tokens.all(|(wanted, token)| *wanted == "*" || wanted == token)
}

//! The facts that a history proves about the log itself: the positions, the event at each, and when that was known.
//!
//! Holds: every position in [`Facts`] was acknowledged to a publisher or delivered to a subscriber. So it was stored
//! and visible at the latest when that was recorded.
//! Does not: judge; where records contradict each other the first one stands, and the rules compare.

mod clock;
mod legs;
mod skips;

use rustc_hash::FxHashMap;

use crate::{
    history::{Answer, Digest, History, Publish, Said, Topic, TopicSet},
    topics::{self, Meant},
};

pub(crate) use clock::Clock;
pub(crate) use legs::{Begin, Leg, Stretch};
pub(crate) use skips::{Skip, Why, skips};

/// A position that exists.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) sequence: u64,
    pub(crate) topic: Topic,
    /// `None` when only a duplicate's answer named it.
    pub(crate) digest: Option<Digest>,
    /// 0 = none or unknown.
    pub(crate) previous: u64,
    /// The publish that was acknowledged there, not as a duplicate.
    pub(crate) publish: Option<u32>,
    /// It was visible at the latest then.
    pub(crate) seen_at: u64,
    /// The line that gave the content.
    pub(crate) line: u64,
    /// Somebody published it, as far as the history can say.
    pub(crate) vouched: bool,
}

/// One epoch.
#[derive(Default)]
pub(crate) struct Epoch {
    /// By sequence.
    pub(crate) known: Vec<Known>,
    pub(crate) clock: Clock,
    by_topic: FxHashMap<Topic, Vec<u32>>,
}

impl Epoch {
    pub(crate) fn at(&self, sequence: u64) -> Option<&Known> {
        let found = self
            .known
            .binary_search_by_key(&sequence, |known| known.sequence);
        found.ok().map(|index| &self.known[index])
    }

    /// The known events of a topic above `after`, up to `through`, rising.
    pub(crate) fn of_topic(
        &self,
        topic: Topic,
        after: u64,
        through: u64,
    ) -> impl DoubleEndedIterator<Item = &Known> {
        let indexes = self.by_topic.get(&topic).map_or(&[][..], Vec::as_slice);
        let sequence = |index: &u32| self.known[*index as usize].sequence;
        let from = indexes.partition_point(|index| sequence(index) <= after);
        let to = indexes.partition_point(|index| sequence(index) <= through);
        let inside = &indexes[from..to.max(from)];
        inside.iter().map(|index| &self.known[*index as usize])
    }
}

/// Publishes with the same content.
#[derive(Debug)]
pub(crate) struct Content {
    /// When the first of them was begun.
    pub(crate) begun_at: u64,
    /// How many of them may be stored.
    pub(crate) publishes: u64,
    /// Principal and message id, if it is the same for all.
    pub(crate) message_id: Option<(u32, u32)>,
    pub(crate) line: u64,
}

/// The facts that a history proves.
pub(crate) struct Facts<'h> {
    pub(crate) history: &'h History,
    /// By filter number.
    pub(crate) meant: Vec<Meant>,
    pub(crate) foreign: TopicSet,
    pub(crate) epochs: FxHashMap<u64, Epoch>,
    /// Not those that were refused.
    pub(crate) contents: FxHashMap<(Topic, Digest), Content>,
    /// By stream, and in order.
    pub(crate) legs: Vec<Leg>,
    /// Publishes of unknown outcome, by the time they were begun.
    pub(crate) unknown: Vec<u32>,
}

impl<'h> Facts<'h> {
    pub(crate) fn of(history: &'h History) -> Self {
        let filters = history.filters.iter();
        let foreign = history
            .header
            .as_ref()
            .map_or(&[][..], |header| &header.foreign);
        let mut facts = Self {
            history,
            meant: filters
                .map(|(_, text)| Meant::of(text, &history.topics))
                .collect(),
            foreign: TopicSet::of(&history.topics, |topic| {
                foreign.iter().any(|filter| topics::matches(filter, topic))
            }),
            epochs: FxHashMap::default(),
            contents: contents(history),
            legs: legs::of(history),
            unknown: unknown(history),
        };
        facts.learn();
        facts
    }

    fn learn(&mut self) {
        let mut places = Places::default();
        for (index, publish) in (0..).zip(&self.history.publishes) {
            places.acknowledged(index, publish);
        }
        // The answer to a duplicate names only its topic; the publisher or subscriber that stored or saw the event says
        // more.
        for publish in &self.history.publishes {
            places.duplicate(publish);
        }
        for leg in &self.legs {
            for step in leg.steps(self.history) {
                if let Said::Event(told) = &step.said {
                    let known = Known {
                        sequence: told.sequence,
                        topic: told.topic,
                        digest: Some(told.digest),
                        previous: told.previous,
                        publish: None,
                        seen_at: step.at,
                        line: step.line,
                        vouched: false,
                    };
                    places.take(leg.epoch, known);
                }
            }
        }
        self.epochs = places.epochs;
        for epoch in self.epochs.values_mut() {
            epoch.known.sort_unstable_by_key(|known| known.sequence);
            for (index, known) in (0..).zip(&mut epoch.known) {
                let content = known.digest.map(|digest| (known.topic, digest));
                known.vouched = known.publish.is_some()
                    || self.foreign.contains(known.topic)
                    || content.is_none_or(|content| self.contents.contains_key(&content));
                epoch.by_topic.entry(known.topic).or_default().push(index);
            }
        }
        for publish in &self.history.publishes {
            if let Answer::Acknowledged {
                position,
                duplicate,
                ..
            } = publish.answer
            {
                let epoch = self.epochs.entry(position.epoch).or_default();
                epoch.clock.take(publish, position.sequence, duplicate);
            }
        }
        self.epochs
            .values_mut()
            .for_each(|epoch| epoch.clock.finish());
    }

    pub(crate) fn topic(&self, topic: Topic) -> &str {
        self.history.topics.text(topic)
    }

    /// "subscriber s, stream 7".
    pub(crate) fn who(&self, leg: &Leg) -> String {
        let stream = &self.history.streams[leg.stream];
        let subscriber = self.history.subscribers.text(stream.subscriber);
        format!("subscriber {subscriber}, stream {}", stream.number)
    }

    /// "publish 3 of p".
    pub(crate) fn whose(&self, publish: &Publish) -> String {
        let publisher = self.history.publishers.text(publish.publisher);
        format!("publish {} of {publisher}", publish.number)
    }

    /// Whether a stream may receive events whose publisher the history does not know.
    pub(crate) fn receives_foreign(&self, leg: &Leg) -> bool {
        let foreign = self
            .history
            .header
            .iter()
            .flat_map(|header| &header.foreign);
        foreign.into_iter().any(|foreign| {
            let mut filters = leg
                .follows
                .iter()
                .map(|follow| self.history.filters.text(follow.filter));
            filters.any(|filter| topics::overlap(filter, foreign))
        })
    }

    /// The stretches of the log from which a stream was to get the events of a topic. They do not touch.
    pub(crate) fn stretches(&self, leg: &Leg, topic: Topic) -> Vec<Stretch> {
        leg.stretches(|filter| self.meant[filter as usize].contains(topic))
    }

    /// The topics a stream follows at any time.
    pub(crate) fn topics_of(&self, leg: &Leg) -> Vec<Topic> {
        let meant = leg
            .follows
            .iter()
            .map(|follow| &self.meant[follow.filter as usize]);
        let mut topics: Vec<_> = meant.flat_map(Meant::topics).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }
}

#[derive(Default)]
struct Places {
    epochs: FxHashMap<u64, Epoch>,
    indexes: FxHashMap<(u64, u64), u32>,
}

impl Places {
    fn acknowledged(&mut self, index: u32, publish: &Publish) {
        if let Answer::Acknowledged {
            position,
            duplicate: false,
            ..
        } = publish.answer
        {
            let known = Known {
                sequence: position.sequence,
                topic: publish.topic,
                digest: Some(publish.digest),
                previous: 0,
                publish: Some(index),
                seen_at: publish.ended_at,
                line: publish.begun_line,
                vouched: true,
            };
            self.take(position.epoch, known);
        }
    }

    fn duplicate(&mut self, publish: &Publish) {
        if let Answer::Acknowledged {
            position,
            duplicate: true,
            ..
        } = publish.answer
        {
            let known = Known {
                sequence: position.sequence,
                topic: publish.topic,
                digest: None,
                previous: 0,
                publish: None,
                seen_at: publish.ended_at,
                line: publish.ended_line,
                vouched: true,
            };
            self.take(position.epoch, known);
        }
    }

    fn take(&mut self, epoch: u64, new: Known) {
        let known = &mut self.epochs.entry(epoch).or_default().known;
        let next = u32::try_from(known.len()).expect("fewer positions than lines of a history");
        let index = *self.indexes.entry((epoch, new.sequence)).or_insert(next);
        if index == next {
            known.push(new);
            return;
        }
        let old = &mut known[index as usize];
        old.seen_at = old.seen_at.min(new.seen_at);
        if old.digest.is_none() && new.digest.is_some() {
            (old.digest, old.line) = (new.digest, new.line);
        }
        if old.previous == 0 {
            old.previous = new.previous;
        }
    }
}

fn contents(history: &History) -> FxHashMap<(Topic, Digest), Content> {
    let mut contents: FxHashMap<_, Content> = FxHashMap::default();
    for publish in &history.publishes {
        if publish.answer == Answer::Refused {
            continue;
        }
        let message_id = publish.message_id.map(|id| (publish.principal, id));
        let content = contents
            .entry((publish.topic, publish.digest))
            .or_insert(Content {
                begun_at: publish.begun_at,
                publishes: 0,
                message_id,
                line: publish.begun_line,
            });
        content.begun_at = content.begun_at.min(publish.begun_at);
        content.publishes += 1;
        if content.message_id != message_id {
            content.message_id = None;
        }
    }
    contents
}

fn unknown(history: &History) -> Vec<u32> {
    let publishes = (0..).zip(&history.publishes);
    let unknown = publishes.filter(|(_, publish)| publish.answer == Answer::Unknown);
    let mut unknown: Vec<u32> = unknown.map(|(index, _)| index).collect();
    unknown.sort_by_key(|&index| history.publishes[index as usize].begun_at);
    unknown
}

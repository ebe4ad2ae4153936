//! How long history is kept: classes of topics, each with limits of its own, so that one kind of traffic
//! never pushes out another.

use std::time::Duration;

use longlived_topic::{INBOX, TopicFilter, TopicName};

use super::clock::Ages;

/// The name of the class of all inboxes across restarts.
const INBOXES: &str = "$inboxes";
/// The name of the class of all other topics across restarts.
pub(crate) const OTHERS: &str = "$others";

/// The limits of one class; the one that is reached first trims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many of the newest events are kept.
    pub events: u64,
    /// How many bytes of encoded events are kept.
    pub bytes: u64,
    /// Events not older than this; `None` = any age.
    pub age: Option<Duration>,
}

impl Limits {
    /// The limits of a topic that no configured class matches.
    pub const DEFAULT: Self = Self {
        events: 1_000_000,
        bytes: 256 << 20,
        age: Some(Duration::from_secs(3600)),
    };

    /// Whichever of the two keeps more, limit by limit.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            events: self.events.max(other.events),
            bytes: self.bytes.max(other.bytes),
            age: self.age.zip(other.age).map(|(one, other)| one.max(other)),
        }
    }

    /// Whether an event that was taken then is older than the age allows.
    pub(crate) fn outlived(&self, taken: i64, ages: &Ages) -> bool {
        self.age.is_some_and(|limit| ages.of(taken) > limit)
    }

    /// The limits of all inboxes together: enough to resume after a restart of a subscriber, small enough that a
    /// generator's ticks stay cheap.
    pub const INBOX: Self = Self {
        events: 200_000,
        bytes: 32 << 20,
        age: Some(Duration::from_secs(600)),
    };
}

/// A class: a filter and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryClass {
    /// Which topics.
    pub filter: TopicFilter,
    /// The limits of all of them together.
    pub limits: Limits,
}

/// All classes; the first that matches a topic holds.
#[derive(Clone, Debug)]
pub struct RetentionConfig {
    configured: Vec<HistoryClass>,
}

impl RetentionConfig {
    /// The configured classes, then one for inboxes and one for everything else.
    pub fn new(configured: Vec<HistoryClass>) -> Self {
        Self { configured }
    }

    /// Limits of each class, by its index.
    pub(crate) fn limits(&self) -> impl Iterator<Item = Limits> + '_ {
        self.configured
            .iter()
            .map(|class| class.limits)
            .chain([Limits::INBOX, Limits::DEFAULT])
    }

    /// The name of each class across restarts, by its index.
    pub(crate) fn identities(&self) -> impl Iterator<Item = String> + '_ {
        self.configured
            .iter()
            .map(|class| class.filter.as_str().to_owned())
            // No filter begins like this.
            .chain([INBOXES.to_owned(), OTHERS.to_owned()])
    }

    /// The classes whose topics a filter may match.
    pub(crate) fn classes_for(&self, filter: &TopicFilter) -> impl Iterator<Item = usize> {
        let of_inboxes = filter.is_inbox();
        let configured =
            (self.configured.iter()).map(move |class| of_inboxes || !class.filter.is_inbox());
        configured
            .chain([of_inboxes, !of_inboxes])
            .enumerate()
            .filter_map(|(index, may)| may.then_some(index))
    }

    /// Index of the class a topic belongs to.
    pub(crate) fn class_of(&self, topic: &TopicName) -> usize {
        let configured = self
            .configured
            .iter()
            .position(|class| class.filter.matches(topic.as_str()));
        configured.unwrap_or_else(|| {
            let inbox = topic.as_str().split('.').next() == Some(INBOX);
            self.configured.len() + usize::from(!inbox)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(filter: &str, events: u64) -> HistoryClass {
        HistoryClass {
            filter: TopicFilter::parse(filter).unwrap(),
            limits: Limits {
                events,
                ..Limits::DEFAULT
            },
        }
    }

    #[test]
    fn the_first_class_that_matches_holds_and_inboxes_have_their_own() {
        let config = RetentionConfig::new(vec![class("orders.eu", 1), class("orders.>", 2)]);
        let index = |topic| config.class_of(&TopicName::parse(topic).unwrap());
        assert_eq!(index("orders.eu"), 0);
        assert_eq!(index("orders.us"), 1);
        assert_eq!(index("inbox.7"), 2);
        assert_eq!(index("other"), 3);
        assert_eq!(config.limits().count(), 4);
    }
}

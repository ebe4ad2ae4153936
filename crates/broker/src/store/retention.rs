//! How long history is kept: classes of topics, each with limits of its own, so that one kind of traffic
//! never pushes out another.

use std::time::Duration;

use longlived_topic::{INBOX, TopicFilter, TopicName};

use super::clock::Ages;

/// What the class of all inboxes is known by across restarts.
const INBOXES: &str = "$inboxes";
/// What the class of everything that no other class matches is known by.
pub(crate) const OTHERS: &str = "$others";

/// What one class keeps; whichever limit is reached first trims.
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
    /// What a topic that no configured class matches keeps.
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

    /// What all inboxes together keep: enough to resume after a restart of a subscriber, small enough that
    /// a generator's ticks stay cheap.
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
    /// What is kept of them together.
    pub limits: Limits,
}

/// Why a class could not be read from text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// Not of the form `FILTER=limits`.
    #[error("`{0}` is not FILTER=bytes:256MiB,events:1000000,age:1h")]
    Form(String),
    /// The filter is malformed.
    #[error("the filter `{filter}` {source}")]
    Filter {
        /// The filter as given.
        filter: String,
        /// What is wrong with it.
        source: longlived_topic::TopicError,
    },
    /// A limit is unknown or malformed.
    #[error("`{0}` is none of bytes:256MiB, events:1000000, age:1h")]
    Limit(String),
    /// A limit that would keep nothing.
    #[error("`{0}` keeps nothing: a limit must be more than 0")]
    Zero(String),
    /// A limit is given twice in one class.
    #[error("`{0}` is a second limit of this kind")]
    Twice(String),
}

impl HistoryClass {
    /// Reads `FILTER=bytes:256MiB,events:1000000,age:1h`, each limit at most once; events and bytes that are not given
    /// have their defaults, and a class without an age keeps events of any age. `parse_age` reads a duration.
    pub fn parse(
        text: &str,
        parse_age: impl Fn(&str) -> Option<Duration>,
    ) -> Result<Self, RetentionError> {
        let form = || RetentionError::Form(text.to_owned());
        let (filter, limits) = text.split_once('=').ok_or_else(form)?;
        let parsed = TopicFilter::parse(filter).map_err(|source| RetentionError::Filter {
            filter: filter.to_owned(),
            source,
        })?;
        let mut class = Self {
            filter: parsed,
            limits: Limits {
                age: None,
                ..Limits::DEFAULT
            },
        };
        let mut given: Vec<&str> = Vec::new();
        for limit in limits.split(',') {
            let bad = || RetentionError::Limit(limit.to_owned());
            let (name, value) = limit.split_once(':').ok_or_else(bad)?;
            if given.contains(&name) {
                return Err(RetentionError::Twice(limit.to_owned()));
            }
            given.push(name);
            match name {
                "events" => class.limits.events = value.parse().map_err(|_| bad())?,
                "bytes" => class.limits.bytes = parse_bytes(value).ok_or_else(bad)?,
                "age" => class.limits.age = Some(parse_age(value).ok_or_else(bad)?),
                _ => return Err(bad()),
            }
            let Limits { events, bytes, age } = class.limits;
            if events == 0 || bytes == 0 || age == Some(Duration::ZERO) {
                return Err(RetentionError::Zero(limit.to_owned()));
            }
        }
        Ok(class)
    }
}

/// Reads `1024`, `64KiB`, `256MiB`, `2GiB` (and `kB`, `MB`, `GB` as powers of ten).
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "PiB" => 1 << 50,
        "kB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "PB" => 1_000_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
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
    pub fn limits(&self) -> impl Iterator<Item = Limits> + '_ {
        self.configured
            .iter()
            .map(|class| class.limits)
            .chain([Limits::INBOX, Limits::DEFAULT])
    }

    /// What each class is known by across restarts, by its index.
    pub(crate) fn identities(&self) -> impl Iterator<Item = String> + '_ {
        self.configured
            .iter()
            .map(|class| class.filter.as_str().to_owned())
            // No filter begins like this.
            .chain([INBOXES.to_owned(), OTHERS.to_owned()])
    }

    /// The classes whose topics a filter may match.
    pub fn classes_for(&self, filter: &TopicFilter) -> impl Iterator<Item = usize> {
        let of_inboxes = filter.is_inbox();
        let configured =
            (self.configured.iter()).map(move |class| of_inboxes || !class.filter.is_inbox());
        configured
            .chain([of_inboxes, !of_inboxes])
            .enumerate()
            .filter_map(|(index, may)| may.then_some(index))
    }

    /// Index of the class a topic belongs to.
    pub fn class_of(&self, topic: &TopicName) -> usize {
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

    fn parse(text: &str) -> Result<HistoryClass, RetentionError> {
        HistoryClass::parse(text, |age| (age == "1h").then(|| Duration::from_secs(3600)))
    }

    #[test]
    fn a_class_is_read_with_every_limit() {
        let class = parse("orders.>=bytes:256MiB,events:10,age:1h").unwrap();
        assert_eq!(class.filter.as_str(), "orders.>");
        let limits = Limits {
            events: 10,
            bytes: 256 << 20,
            age: Some(Duration::from_secs(3600)),
        };
        assert_eq!(class.limits, limits);
    }

    #[test]
    fn what_is_malformed_is_named() {
        assert!(matches!(parse("orders"), Err(RetentionError::Form(_))));
        assert!(matches!(
            parse("a..b=events:1"),
            Err(RetentionError::Filter { .. })
        ));
        for limit in ["events:-1", "bytes:1XB", "age:soon", "events", "size:1"] {
            assert_eq!(
                parse(&format!("a={limit}")),
                Err(RetentionError::Limit(limit.to_owned()))
            );
        }
    }

    #[test]
    fn a_limit_that_keeps_nothing_or_comes_twice_is_named() {
        let zero = |limit: &str| Err(RetentionError::Zero(limit.to_owned()));
        assert_eq!(parse("a=events:0"), zero("events:0"));
        assert_eq!(parse("a=events:1,bytes:0MiB"), zero("bytes:0MiB"));
        let parse_age = |_: &str| Some(Duration::ZERO);
        assert_eq!(HistoryClass::parse("a=age:0s", parse_age), zero("age:0s"));
        assert_eq!(
            parse("a=events:1,bytes:1,events:2"),
            Err(RetentionError::Twice("events:2".to_owned()))
        );
    }

    #[test]
    fn the_first_class_that_matches_holds_and_inboxes_have_their_own() {
        let config = RetentionConfig::new(vec![
            parse("orders.eu=events:1").unwrap(),
            parse("orders.>=events:2").unwrap(),
        ]);
        let class = |topic| config.class_of(&TopicName::parse(topic).unwrap());
        assert_eq!(class("orders.eu"), 0);
        assert_eq!(class("orders.us"), 1);
        assert_eq!(class("inbox.7"), 2);
        assert_eq!(class("other"), 3);
        assert_eq!(config.limits().count(), 4);
    }
}

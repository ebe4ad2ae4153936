//! The grants of a caller, and what can be asked of them.

use std::{fmt, sync::Arc};

use longlived_topic::{TopicFilter, TopicName};

/// What a caller wants to do with topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To publish to them.
    Publish,
    /// To follow them, and to read their history.
    Subscribe,
    /// To see and end the subscriptions of others.
    Admin,
}

impl Action {
    /// All of them, in the order of the auth file.
    pub const ALL: [Self; 3] = [Self::Publish, Self::Subscribe, Self::Admin];

    /// The word of the auth file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rules for one action. Without a filter in `allow` nothing is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What is granted must lie inside one of these.
    pub allow: Box<[TopicFilter]>,
    /// What is granted has no topic in common with any of these.
    pub deny: Box<[TopicFilter]>,
}

/// The rules for each action.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// For publishing.
    pub publish: Rules,
    /// For following and reading.
    pub subscribe: Rules,
    /// For administering.
    pub admin: Rules,
}

impl RuleSet {
    /// The rules for `action`.
    pub fn of(&self, action: Action) -> &Rules {
        match action {
            Action::Publish => &self.publish,
            Action::Subscribe => &self.subscribe,
            Action::Admin => &self.admin,
        }
    }

    /// The same, to change them.
    pub fn of_mut(&mut self, action: Action) -> &mut Rules {
        match action {
            Action::Publish => &mut self.publish,
            Action::Subscribe => &mut self.subscribe,
            Action::Admin => &mut self.admin,
        }
    }
}

/// What a caller may do. Many calls share one, behind an `Arc`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// What its credential says.
    pub own: RuleSet,
    /// The most that the issuer of the credential may give. Both must grant.
    pub most: Option<Arc<RuleSet>>,
}

/// What is to be granted.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// All topics of a filter.
    Filter(&'a TopicFilter),
    /// One topic.
    Topic(&'a TopicName),
}

impl<'a> From<&'a TopicFilter> for Subject<'a> {
    fn from(filter: &'a TopicFilter) -> Self {
        Self::Filter(filter)
    }
}

impl<'a> From<&'a TopicName> for Subject<'a> {
    fn from(topic: &'a TopicName) -> Self {
        Self::Topic(topic)
    }
}

/// A [`Subject`] that a refusal keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedSubject {
    /// All topics of a filter.
    Filter(TopicFilter),
    /// One topic.
    Topic(TopicName),
}

impl From<Subject<'_>> for AskedSubject {
    fn from(subject: Subject<'_>) -> Self {
        match subject {
            Subject::Filter(filter) => Self::Filter(filter.clone()),
            Subject::Topic(topic) => Self::Topic(topic.clone()),
        }
    }
}

impl fmt::Display for AskedSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filter(filter) => filter.fmt(f),
            Self::Topic(topic) => topic.fmt(f),
        }
    }
}

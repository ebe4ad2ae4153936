//! The request of a subscription, before it is opened.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use longlived_api::v1;

use super::Subscriber;
use crate::client::Client;
use crate::position::Position;

/// The policy for events after the position that cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GapPolicy {
    /// Announce a gap, then everything that is still kept.
    #[default]
    Earliest,
    /// Announce a gap, then deliver only new events.
    Latest,
    /// End with [`SubscribeError::OutOfRange`](super::SubscribeError::OutOfRange).
    Fail,
}

/// The server's policy when this subscriber does not keep up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SlowPolicy {
    /// Keep its position; it catches up from history.
    #[default]
    Park,
    /// End its stream; it comes back and resumes.
    Disconnect,
}

/// Where a new subscription begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    Next,
    Earliest,
    Time(SystemTime),
    After(Position),
}

/// The subscription cannot be asked for as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Without a filter nothing would ever arrive.
    #[error("a subscription needs at least one topic filter")]
    NoFilter,
    /// No server gave this position, and every server refuses it.
    #[error(
        "no server gave the position {0} to resume after: its epoch is 1 to {max} and its sequence 0 to {max}",
        max = Position::MAX
    )]
    Position(Position),
}

/// A subscription to be opened; see [`Client::subscriber`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SubscriberBuilder {
    pub(crate) client: Client,
    pub(crate) id: String,
    pub(crate) filters: Vec<String>,
    pub(crate) start: Start,
    pub(crate) gap_policy: GapPolicy,
    pub(crate) slow_policy: SlowPolicy,
    pub(crate) max_silence: Option<Duration>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) max_event_bytes: u32,
}

/// Stands in the contract as the meaning of an absent `max_event_bytes`.
const MAX_EVENT_BYTES: u32 = 4 << 20;

impl SubscriberBuilder {
    pub(crate) fn new(client: Client, id: String) -> Self {
        Self {
            client,
            id,
            filters: Vec::new(),
            start: Start::Next,
            gap_policy: GapPolicy::default(),
            slow_policy: SlowPolicy::default(),
            max_silence: None,
            labels: BTreeMap::new(),
            max_event_bytes: MAX_EVENT_BYTES,
        }
    }

    /// Adds a topic filter: `orders.eu`, `orders.*.created`, `orders.>`. Up to 64.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.filters.push(filter.into());
        self
    }

    /// Adds several topic filters.
    pub fn filters<I>(mut self, filters: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        self.filters.extend(filters.into_iter().map(Into::into));
        self
    }

    /// Begins with everything that is kept. Without this or one of its neighbours a subscription begins with
    /// the next event.
    pub fn earliest(mut self) -> Self {
        self.start = Start::Earliest;
        self
    }

    /// Begins with the first event published at or after `time`.
    pub fn since(mut self, time: SystemTime) -> Self {
        self.start = Start::Time(time);
        self
    }

    /// Continues after a position saved by an earlier run.
    pub fn resume_after(mut self, position: Position) -> Self {
        self.start = Start::After(position);
        self
    }

    /// The policy for events after the position that cannot be had.
    pub fn gap_policy(mut self, policy: GapPolicy) -> Self {
        self.gap_policy = policy;
        self
    }

    /// The server's policy when this subscriber does not keep up.
    pub fn slow_policy(mut self, policy: SlowPolicy) -> Self {
        self.slow_policy = policy;
        self
    }

    /// The longest quiet to ask for; the server may promise another within its bounds.
    pub fn max_silence(mut self, silence: Duration) -> Self {
        self.max_silence = Some(silence);
        self
    }

    /// Shown to operators. Up to 16.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// The largest response to accept, 4 MiB unless told; an event in a larger one becomes a gap.
    pub fn max_event_bytes(mut self, bytes: u32) -> Self {
        self.max_event_bytes = bytes;
        self
    }

    /// The subscriber. It opens its stream when it is first read, and keeps trying while there is no server.
    pub fn build(self) -> Result<Subscriber, BuildError> {
        if self.filters.is_empty() {
            return Err(BuildError::NoFilter);
        }
        if let Start::After(position) = self.start
            && !position.may_be_given()
        {
            return Err(BuildError::Position(position));
        }
        Ok(super::engine::subscriber(self))
    }

    pub(crate) fn request(&self, position: Option<Position>, attempt: u64) -> v1::SubscribeRequest {
        use v1::start::At;
        let start = match self.start {
            // A position, once there is one, says where to go on.
            _ if position.is_some() => None,
            Start::Next | Start::After(_) => None,
            Start::Earliest => Some(At::Earliest(true)),
            Start::Time(time) => Some(At::Time(time.into())),
        };
        v1::SubscribeRequest {
            subscriber_id: self.id.clone(),
            subscriptions: self
                .filters
                .iter()
                .map(|topic_filter| v1::Subscription {
                    topic_filter: topic_filter.clone(),
                })
                .collect(),
            resume_after: position.map(Into::into),
            gap_policy: match self.gap_policy {
                GapPolicy::Earliest => v1::GapPolicy::Earliest,
                GapPolicy::Latest => v1::GapPolicy::Latest,
                GapPolicy::Fail => v1::GapPolicy::Fail,
            }
            .into(),
            max_silence: self.max_silence.and_then(|silence| silence.try_into().ok()),
            labels: self.labels.clone(),
            start: start.map(|at| v1::Start { at: Some(at) }),
            slow_policy: match self.slow_policy {
                SlowPolicy::Park => v1::SlowPolicy::Park,
                SlowPolicy::Disconnect => v1::SlowPolicy::Disconnect,
            }
            .into(),
            instance: self.client.shared.identity.instance,
            attempt,
            max_event_bytes: self.max_event_bytes,
        }
    }
}

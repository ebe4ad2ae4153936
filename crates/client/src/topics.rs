//! Looking at a server's topics: their list, their kept events, and whether a position is still resumable.
//!
//! Does not: subscribe. Each question is one call with one answer; a failed call may simply be repeated.

use longlived_api::v1;
use longlived_api::v1::topic_service_client::TopicServiceClient;

use crate::client::Client;
use crate::event::{Event, Gap, GapReason};
use crate::pool::Lane;
use crate::position::Position;
use crate::unary::{self, CallError};

/// Why a question about topics has no answer.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer lacks what every answer has.
    #[error("the server's answer has no `{0}`")]
    Incomplete(&'static str),
}

/// Which topics to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct TopicsQuery {
    filter: String,
    subscriber_id: String,
    page_size: u32,
    after: String,
}

impl TopicsQuery {
    /// The topics that a filter matches; `>` is all but inboxes and the server's own.
    pub fn new(filter: impl Into<String>) -> Self {
        Self {
            filter: filter.into(),
            ..Self::default()
        }
    }

    /// The id of the caller. A subscriber may name its own inbox.
    pub fn subscriber_id(mut self, id: impl Into<String>) -> Self {
        self.subscriber_id = id.into();
        self
    }

    /// The largest number of topics in one page, 1 to 1,000. The default is 100.
    pub fn page_size(mut self, topics: u32) -> Self {
        self.page_size = topics;
        self
    }

    /// Topics after this name: [`TopicsPage::next`] of the page before.
    pub fn after(mut self, name: impl Into<String>) -> Self {
        self.after = name.into();
        self
    }
}

/// Some topics, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicsPage {
    /// The topics.
    pub topics: Vec<TopicInfo>,
    /// Where the next page begins; `None` when this is the last.
    pub next: Option<String>,
    /// The last event of the log; nothing in the page lies above it.
    pub head: Position,
}

/// The kept events of one topic, and its subscribers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Sequence of the oldest event that is kept.
    pub first: Option<u64>,
    /// Sequence of the last event published, kept or not, when it is known.
    pub last: Option<u64>,
    /// How many events are kept.
    pub events: u64,
    /// Bytes they take, encoded.
    pub bytes: u64,
    /// Live streams with a filter that matches.
    pub subscribers: u64,
}

/// Which part of the history to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct HistoryQuery {
    filters: Vec<String>,
    subscriber_id: String,
    after: Option<Position>,
    page_size: u32,
    page_bytes: u32,
}

impl HistoryQuery {
    /// Everything that is kept of the topics that any of 1 to 64 filters matches.
    pub fn new<F: Into<String>>(filters: impl IntoIterator<Item = F>) -> Self {
        Self {
            filters: filters.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The id of the caller. A subscriber may read its own inbox.
    pub fn subscriber_id(mut self, id: impl Into<String>) -> Self {
        self.subscriber_id = id.into();
        self
    }

    /// Entries after this position: [`HistoryPage::next`] of the page before.
    pub fn after(mut self, position: Position) -> Self {
        self.after = Some(position);
        self
    }

    /// The largest number of entries in one page, 1 to 10,000. The default is 1,000.
    pub fn page_size(mut self, entries: u32) -> Self {
        self.page_size = entries;
        self
    }

    /// The largest size of one page in bytes, up to 3 MiB. The default is 1 MiB.
    pub fn page_bytes(mut self, bytes: u32) -> Self {
        self.page_bytes = bytes;
        self
    }
}

/// A part of the history, in log order.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryPage {
    /// Events, and the gaps between them. A page may be empty although more follows.
    pub entries: Vec<HistoryEntry>,
    /// Where the next page begins.
    pub next: Position,
    /// Nothing more was there when the page was made.
    pub end: bool,
    /// The last event of the log.
    pub head: Position,
}

/// One entry of a page of history.
#[derive(Clone, Debug, PartialEq)]
pub enum HistoryEntry {
    /// An event.
    Event(Event),
    /// Events that matched and cannot be had.
    Gap(Gap),
}

/// The answer for a subscriber that would resume after a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PositionCheck {
    /// The first gap it would be told of, for any reason; `None` when it would miss nothing, as far as was
    /// looked.
    pub gap: Option<Gap>,
    /// A subscriber that resumes after this receives everything that is kept.
    pub earliest: Position,
    /// How far the history was looked at for damage; the events that retention removed are known for all of it.
    pub checked: Position,
    /// The last event of the log.
    pub head: Position,
}

impl PositionCheck {
    /// Whether nothing would be missed.
    pub fn is_resumable(&self) -> bool {
        self.gap.is_none()
    }
}

impl Client {
    /// One page of the topics that a filter matches.
    ///
    /// ```
    /// use longlived_client::{Client, HistoryEntry, HistoryQuery, TopicsQuery};
    ///
    /// # use longlived_server::{Config, Environment, Server};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let config = Config { listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()], ..Config::default() };
    /// # let server = Server::bind(config, Environment::system()).await?;
    /// # let url = format!("http://{}", server.local_addr());
    /// # tokio::spawn(server.run(std::future::pending()));
    /// let client = Client::new(url)?;
    /// let published = client.publisher().publish(("orders.eu", "42 boxes")).await?;
    ///
    /// let page = client.topics(&TopicsQuery::new("orders.>")).await?;
    /// assert_eq!((page.topics[0].name.as_str(), page.topics[0].events), ("orders.eu", 1));
    ///
    /// let page = client.read_history(&HistoryQuery::new(["orders.>"])).await?;
    /// assert!(matches!(&page.entries[..], [HistoryEntry::Event(event)] if event.payload == "42 boxes"));
    ///
    /// let check = client.check_position("", ["orders.>"], published.position).await?;
    /// assert!(check.is_resumable() && page.end);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn topics(&self, query: &TopicsQuery) -> Result<TopicsPage, TopicsError> {
        let request = v1::ListTopicsRequest {
            topic_filter: query.filter.clone(),
            subscriber_id: query.subscriber_id.clone(),
            page_size: query.page_size,
            page_token: query.after.clone(),
        };
        let send = |wire, request| async move {
            let mut service = TopicServiceClient::new(wire);
            service.list_topics(request).await
        };
        let timeout = self.shared.open_timeout;
        let answer = unary::call(self, Lane::Unary, &request, timeout, send).await;
        let answer = answer.map_err(|failed| failed.error)?;
        Ok(TopicsPage {
            topics: answer.topics.into_iter().map(TopicInfo::from).collect(),
            next: Some(answer.next_page_token).filter(|token| !token.is_empty()),
            head: present("head", answer.head)?,
        })
    }

    /// One page of history: the kept events, and gaps in the place of missing ones.
    pub async fn read_history(&self, query: &HistoryQuery) -> Result<HistoryPage, TopicsError> {
        let request = v1::ReadHistoryRequest {
            subscriptions: subscriptions(&query.filters),
            subscriber_id: query.subscriber_id.clone(),
            after: query.after.map(Into::into),
            page_size: query.page_size,
            page_bytes: query.page_bytes,
        };
        let send = |wire, request| async move {
            let mut service = TopicServiceClient::new(wire);
            service.read_history(request).await
        };
        let timeout = self.shared.open_timeout;
        let answer = unary::call(self, Lane::Unary, &request, timeout, send).await;
        let answer = answer.map_err(|failed| failed.error)?;
        let next: Position = present("next", answer.next)?;
        // Gaps name their place in the epoch asked for; one that changes it stands first.
        let mut epoch = query.after.map_or(next.epoch, |after| after.epoch);
        let mut entries = Vec::with_capacity(answer.entries.len());
        for entry in answer.entries {
            entries.push(match present("entry", entry.entry)? {
                v1::history_entry::Entry::Event(event) => {
                    HistoryEntry::Event(Event::from_wire(next.epoch, event))
                }
                v1::history_entry::Entry::Gap(wire) => {
                    let gap = gap(epoch, &wire);
                    epoch = gap.through.epoch;
                    HistoryEntry::Gap(gap)
                }
            });
        }
        Ok(HistoryPage {
            entries,
            next,
            end: answer.end,
            head: present("head", answer.head)?,
        })
    }

    /// Whether a subscriber with these filters could resume after a position, and the events that it would miss.
    /// Nothing is resumed. The id of the caller may be that of a subscriber, which may name its own inbox, or empty.
    pub async fn check_position<F: Into<String>>(
        &self,
        subscriber_id: &str,
        filters: impl IntoIterator<Item = F>,
        position: Position,
    ) -> Result<PositionCheck, TopicsError> {
        let filters: Vec<String> = filters.into_iter().map(Into::into).collect();
        let request = v1::CheckPositionRequest {
            subscriptions: subscriptions(&filters),
            subscriber_id: subscriber_id.to_owned(),
            position: Some(position.into()),
        };
        let send = |wire, request| async move {
            let mut service = TopicServiceClient::new(wire);
            service.check_position(request).await
        };
        let timeout = self.shared.open_timeout;
        let answer = unary::call(self, Lane::Unary, &request, timeout, send).await;
        let answer = answer.map_err(|failed| failed.error)?;
        Ok(PositionCheck {
            gap: answer.gap.map(|wire| gap(position.epoch, &wire)),
            earliest: present("earliest", answer.earliest)?,
            checked: present("checked", answer.checked)?,
            head: present("head", answer.head)?,
        })
    }
}

impl From<v1::Topic> for TopicInfo {
    fn from(wire: v1::Topic) -> Self {
        let known = |sequence: u64| (sequence > 0).then_some(sequence);
        Self {
            name: wire.name,
            first: known(wire.first_sequence),
            last: known(wire.last_sequence),
            events: wire.events,
            bytes: wire.bytes,
            subscribers: wire.subscribers,
        }
    }
}

fn subscriptions(filters: &[String]) -> Vec<v1::Subscription> {
    let subscription = |filter: &String| v1::Subscription {
        topic_filter: filter.clone(),
    };
    filters.iter().map(subscription).collect()
}

fn gap(epoch: u64, wire: &v1::Gap) -> Gap {
    let through_epoch = match wire.through_epoch {
        0 => epoch,
        other => other,
    };
    Gap {
        reason: GapReason::from_wire(wire.reason),
        after: Some(Position::new(epoch, wire.after_sequence)),
        through: Position::new(through_epoch, wire.through_sequence),
        events: Some(wire.events).filter(|&events| events > 0),
    }
}

fn present<T, U: From<T>>(name: &'static str, field: Option<T>) -> Result<U, TopicsError> {
    field.map(U::from).ok_or(TopicsError::Incomplete(name))
}

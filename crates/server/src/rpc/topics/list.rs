//! `ListTopics`: one page of the topics that a filter matches, as far as the caller may follow them.
//!
//! Holds: a page names no topic that the caller may not follow, also not as the place where the next page begins.

use std::collections::VecDeque;

use longlived_api::v1;
use longlived_broker::{ListedTopic, Sequence};
use longlived_topic::{TopicFilter, TopicName};
use tokio::task::yield_now;
use tonic::Status;

use super::{page_limit, subscriber};
use crate::{
    contract::{Caller, InvalidRequest, Rights, status, validate, wire},
    node::Node,
};

/// Topics of a page when the caller does not say.
const PAGE_SIZE_DEFAULT: u32 = 100;
/// Topics of a page. With the longest names a page is about a megabyte.
const PAGE_SIZE_MAX: u32 = 1_000;
/// The default of the list.
const EVERYTHING: &str = ">";

pub(super) async fn list(
    node: &Node,
    caller: &Caller,
    request: v1::ListTopicsRequest,
) -> Result<v1::ListTopicsResponse, Status> {
    let subscriber = subscriber(&request.subscriber_id)?;
    let filter = match request.topic_filter.as_str() {
        "" => EVERYTHING,
        filter => filter,
    };
    let filters = match &caller.rights {
        Rights::Unchecked => vec![validate::own_filter(filter, caller, &subscriber)?],
        Rights::Granted(grants) => {
            let filter = validate::topic_filter(filter)?;
            common(&filter, &grants.own.subscribe.allow)
        }
    };
    let limit = page_limit(
        "page_size",
        request.page_size,
        PAGE_SIZE_DEFAULT,
        PAGE_SIZE_MAX,
    )?;
    let after = page_token(&request.page_token)?;
    let page = Page::read(node, filters, caller, after, limit).await?;
    let next = page.topics.last().filter(|_| page.has_more);
    Ok(v1::ListTopicsResponse {
        next_page_token: next.map_or_else(String::new, |last| last.name.clone()),
        topics: page.topics,
        head: Some(wire::position(node.log.position_at(page.visible))),
    })
}

/// The filters that a filter has in common with these, none of them within another.
fn common(filter: &TopicFilter, allowed: &[TopicFilter]) -> Vec<TopicFilter> {
    let mut common: Vec<TopicFilter> = Vec::new();
    for one in allowed.iter().filter_map(|one| filter.intersection(one)) {
        if !common.iter().any(|other| one.is_within(other)) {
            common.retain(|other| !other.is_within(&one));
            common.push(one);
        }
    }
    common
}

/// The topics of several filters, in the order of their names.
struct Page {
    topics: Vec<v1::Topic>,
    has_more: bool,
    visible: Sequence,
}

/// The topics of one filter.
struct Source {
    filter: TopicFilter,
    read: VecDeque<ListedTopic>,
    // Where to go on; of no meaning once all is read.
    after: Option<TopicName>,
    is_read: bool,
}

impl Source {
    async fn fill(&mut self, node: &Node, limit: usize) -> Result<Sequence, Status> {
        // Other tasks have their turn first, and a caller that gave up waiting is noticed.
        yield_now().await;
        let page = node.log.topics(&self.filter, self.after.as_ref(), limit);
        let page = page.await.map_err(|error| status::of_read(&error))?;
        self.read = page.topics.into();
        self.is_read = page.next.is_none();
        self.after = page.next;
        Ok(page.visible)
    }

    fn is_empty(&self) -> bool {
        self.read.is_empty() && self.is_read
    }
}

impl Page {
    async fn read(
        node: &Node,
        filters: Vec<TopicFilter>,
        caller: &Caller,
        after: Option<TopicName>,
        limit: usize,
    ) -> Result<Self, Status> {
        let source = |filter| Source {
            filter,
            read: VecDeque::new(),
            after: after.clone(),
            is_read: false,
        };
        let mut sources: Vec<_> = filters.into_iter().map(source).collect();
        let mut page = Self {
            topics: Vec::new(),
            has_more: false,
            visible: node.log.visible(),
        };
        // Where some may be hidden, many are looked at in one go: a call ends at the first that is shown, however many are hidden before it.
        let looked_at = match &caller.rights {
            Rights::Unchecked => limit,
            Rights::Granted(_) => limit.max(PAGE_SIZE_MAX as usize),
        };
        // The last that was looked at: filters overlap.
        let mut last: Option<TopicName> = None;
        while page.topics.len() < limit {
            for source in &mut sources {
                if source.read.is_empty() && !source.is_read {
                    // A short page, and not another look, which may be long: what was read may have been hidden.
                    if !page.topics.is_empty() {
                        page.has_more = true;
                        return Ok(page);
                    }
                    let visible = source.fill(node, looked_at).await?;
                    page.visible = page.visible.max(visible);
                }
            }
            let heads = sources.iter_mut().filter(|source| !source.read.is_empty());
            let first = heads.min_by(|a, b| a.read[0].info.topic.cmp(&b.read[0].info.topic));
            let Some(listed) = first.and_then(|source| source.read.pop_front()) else {
                return Ok(page);
            };
            let name = &listed.info.topic;
            if last.as_ref() != Some(name) {
                last = Some(name.clone());
                if caller.may_see(name) {
                    page.topics.push(topic(listed));
                }
            }
        }
        page.has_more = sources.iter().any(|source| !source.is_empty());
        Ok(page)
    }
}

fn page_token(token: &str) -> Result<Option<TopicName>, InvalidRequest> {
    if token.is_empty() {
        return Ok(None);
    }
    let name = TopicName::parse(token).map_err(|problem| InvalidRequest::Topic {
        field: "page_token",
        problem,
    })?;
    Ok(Some(name))
}

fn topic(listed: ListedTopic) -> v1::Topic {
    let info = listed.info;
    v1::Topic {
        name: info.topic.to_string(),
        first_sequence: info.first,
        last_sequence: info.last,
        events: info.events,
        bytes: info.bytes,
        subscribers: listed.readers as u64,
    }
}

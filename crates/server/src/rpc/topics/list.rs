//! `ListTopics`: one page of the topics that a filter matches.

use longlived_api::v1;
use longlived_broker::ListedTopic;
use longlived_topic::TopicName;
use tonic::Status;

use super::{page_limit, subscriber};
use crate::{
    contract::{Caller, InvalidRequest, status, validate, wire},
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
    let filter = validate::own_filter(filter, caller, &subscriber)?;
    let limit = page_limit(
        "page_size",
        request.page_size,
        PAGE_SIZE_DEFAULT,
        PAGE_SIZE_MAX,
    )?;
    let after = page_token(&request.page_token)?;
    let page = node.log.topics(&filter, after.as_ref(), limit).await;
    let page = page.map_err(|error| status::of_read(&error))?;
    Ok(v1::ListTopicsResponse {
        topics: page.topics.into_iter().map(topic).collect(),
        next_page_token: page.next.map_or_else(String::new, |name| name.to_string()),
        head: Some(wire::position(node.log.position_at(page.visible))),
    })
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

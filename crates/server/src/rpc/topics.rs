//! The calls that look: `ListTopics`, `ReadHistory` and `CheckPosition`.
//!
//! Holds: they read only events that a subscriber may read; the page bounds the cost of a call; the caller's deadline
//! is met between two reads.
//! Does not: link live tails or register anything: a call that looks is not counted as a reader.

mod check;
mod history;
mod list;

use std::sync::Arc;

use http::{Request, Response};
use longlived_broker::{
    Begin, Compression, CursorError, Delivery, GapPolicy, Opened, Position, ReadOptions, SlowPolicy,
};
use longlived_topic::TopicFilter;
use prost::Message;
use tokio::task::yield_now;
use tonic::{Status, body::Body};

use super::{
    NodeBody,
    call::{self, Call},
};
use crate::{
    contract::{Caller, Contract, InvalidRequest, status, validate},
    limits::{PAGE_BYTES_MAX, REQUEST_BYTES_MAX},
    node::{Node, Reserved},
};

type Answer = Result<Response<NodeBody>, Status>;

/// `longlived.v1.TopicService/ListTopics`
pub(super) async fn list_topics(node: Arc<Node>, request: Request<Body>) -> Answer {
    let (message, caller) = message(&node, request, "ListTopicsRequest").await?;
    let reserved = reserve(&node).await?;
    let page = list::list(&node, &caller, message).await?;
    Ok(held(reserved, &page))
}

/// `longlived.v1.TopicService/ReadHistory`
pub(super) async fn read_history(node: Arc<Node>, request: Request<Body>) -> Answer {
    let (message, caller) = message(&node, request, "ReadHistoryRequest").await?;
    let reserved = reserve(&node).await?;
    let page = history::read(&node, &caller, &message).await?;
    Ok(held(reserved, &page))
}

/// `longlived.v1.TopicService/CheckPosition`
pub(super) async fn check_position(node: Arc<Node>, request: Request<Body>) -> Answer {
    let (message, caller) = message(&node, request, "CheckPositionRequest").await?;
    let answer = check::check(&node, &caller, &message).await?;
    Ok(call::unary(&answer).map(NodeBody::Other))
}

async fn message<T: Message + Default + Send + 'static>(
    node: &Arc<Node>,
    request: Request<Body>,
    name: &'static str,
) -> Result<(T, Arc<Caller>), Status> {
    let mut call = Call::<T>::new(node.clone(), request, name, REQUEST_BYTES_MAX)?;
    Ok((call.message().await?, call.caller))
}

async fn reserve(node: &Node) -> Result<Reserved, Status> {
    let reserved = node.pages.reserve().await;
    reserved.map_err(status::pages_exhausted)
}

/// A page that holds its part of the budget until it is taken.
fn held(reserved: Reserved, page: &impl Message) -> Response<NodeBody> {
    let bytes = page.encoded_len();
    call::streaming(reserved.held(bytes, call::unary_body(page))).map(NodeBody::Page)
}

/// The subscriber id that the caller gave; empty if it gave none.
fn subscriber(id: &str) -> Result<Arc<str>, InvalidRequest> {
    if id.is_empty() {
        return Ok("".into());
    }
    validate::subscriber_id(id)
}

/// A size that was asked for, or the default.
fn page_limit(
    field: &'static str,
    value: u32,
    default: u32,
    max: u32,
) -> Result<usize, InvalidRequest> {
    match value {
        0 => Ok(default as usize),
        value if value <= max => Ok(value as usize),
        value => Err(InvalidRequest::Page { field, value, max }),
    }
}

/// The last position that may be shown.
fn end_of_log(node: &Node) -> Position {
    node.log.position_at(node.log.visible())
}

/// Reads history on behalf of a call.
struct Reader {
    opened: Opened,
}

impl Reader {
    async fn open(node: &Node, filters: &[TopicFilter], begin: Begin) -> Result<Self, Status> {
        let options = ReadOptions {
            gap_policy: GapPolicy::Earliest,
            slow_policy: SlowPolicy::Park,
            message_bytes_max: PAGE_BYTES_MAX,
            encoding: Contract::V1.dialect().encoding(),
            compression: Compression::Identity,
        };
        let opened = longlived_broker::Cursor::open_history(&node.log, filters, begin, options);
        let opened = opened.await.map_err(|error| failed(&error))?;
        Ok(Self { opened })
    }

    /// The next delivery. Other tasks have their turn first, and a caller that gave up waiting is noticed.
    async fn next(&mut self) -> Result<Delivery, Status> {
        yield_now().await;
        let cursor = &mut self.opened.cursor;
        let delivery = std::future::poll_fn(|cx| cursor.poll_next(cx)).await;
        delivery.map_err(|error| failed(&error))
    }

    fn position(&self) -> Position {
        self.opened.cursor.position()
    }
}

fn failed(error: &CursorError) -> Status {
    status::of_cursor(error)
}

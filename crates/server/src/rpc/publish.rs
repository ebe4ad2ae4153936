//! The calls that send: `Publish`, `PublishStream` and `BulkPublish`.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use longlived_api::v1;
use longlived_broker::{Durability, PublishOptions, Published};
use tokio::time::Instant;
use tonic::{Status, body::Body};

use super::{
    NodeBody,
    call::{self, Call, RawCall},
    pipeline::{Pipeline, publish_bytes_max},
};
use crate::{
    contract::{Contract, status, validate, wire},
    layers::CallRecord,
    node::Node,
};

type Answer = Result<Response<NodeBody>, Status>;

/// Trailer of a refused `BulkPublish`: how many messages were stored before the refusal.
const PUBLISHED: &str = "longlived-published";

fn durability(node: &Node) -> v1::Durability {
    match node.log.durability() {
        Durability::Memory => v1::Durability::Memory,
        Durability::Disk => v1::Durability::Disk,
        Durability::Replicated => v1::Durability::Replicated,
    }
}

fn response(node: &Node, published: Published) -> v1::PublishResponse {
    v1::PublishResponse {
        position: Some(wire::position(node.log.position_at(published.sequence))),
        durability: durability(node).into(),
        duplicate: published.duplicate,
    }
}

/// `longlived.v1.PublishService/Publish`
pub(super) async fn publish(node: Arc<Node>, request: Request<Body>) -> Answer {
    let bytes_max = publish_bytes_max(&node.config);
    let mut call =
        Call::<v1::PublishRequest>::new(node.clone(), request, "PublishRequest", bytes_max)?;
    if let Some(usage) = &call.caller.usage {
        let checked = usage.check_publish(Instant::now());
        checked.map_err(|exhausted| status::quota_exhausted(&exhausted))?;
    }
    let message = call.message().await?;
    let message = validate::message(message, &call.caller, node.config.event_bytes_max)?;
    let room = match &call.caller.usage {
        Some(usage) => {
            let bytes = message.queued_bytes() as u64;
            let room = usage.try_in_flight(bytes);
            let counted = room.and_then(|room| {
                usage.publish(bytes, Instant::now())?;
                Ok(room)
            });
            Some(counted.map_err(|exhausted| status::quota_exhausted(&exhausted))?)
        }
        None => None,
    };
    let options = PublishOptions {
        principal: call.caller.principal.clone(),
        deadline: call.deadline,
        stream: None,
        background: false,
        room,
    };
    let published = node.log.publish(message, options).await;
    let published = published.map_err(|error| status::of_publish(&error))?;
    call.record.add_published(1);
    Ok(call::unary(&response(&node, published)).map(NodeBody::Other))
}

/// `longlived.v1.PublishService/PublishStream`
pub(super) fn publish_stream(node: Arc<Node>, request: Request<Body>) -> Answer {
    let raw = RawCall::of(&node, request)?;
    raw.record.set_streaming();
    let body = PublishStream {
        record: raw.record.clone(),
        pipeline: Pipeline::new(node.clone(), raw),
        node,
        ended: false,
    };
    Ok(call::streaming(body).map(NodeBody::Other))
}

struct PublishStream {
    record: Arc<CallRecord>,
    node: Arc<Node>,
    pipeline: Pipeline,
    ended: bool,
}

impl http_body::Body for PublishStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let end = match ready!(self.pipeline.poll_answers(cx)) {
            Ok(Some(answers)) => {
                // One chunk for all of them: HTTP/2 would write a frame for each.
                let epoch = self.node.log.epoch().get();
                self.record.add_published(answers.len() as u64);
                let bytes = wire::published(epoch, durability(&self.node), &answers);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Ok(None) => status::ok(),
            Err(status) => status::trailers(&status, Contract::V1),
        };
        self.ended = true;
        Poll::Ready(Some(Ok(Frame::trailers(end))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

/// `longlived.v1.PublishService/BulkPublish`
pub(super) async fn bulk_publish(node: Arc<Node>, request: Request<Body>) -> Answer {
    let raw = RawCall::of(&node, request)?;
    raw.record.set_streaming();
    let record = raw.record.clone();
    let mut pipeline = Pipeline::new(node.clone(), raw);
    let mut published = 0;
    let mut duplicates = 0;
    let mut last = None;
    loop {
        match std::future::poll_fn(|cx| pipeline.poll_answers(cx)).await {
            Ok(Some(answers)) => {
                record.add_published(answers.len() as u64);
                for answer in answers {
                    published += u64::from(!answer.duplicate);
                    duplicates += u64::from(answer.duplicate);
                    last = last.max(Some(answer.sequence));
                }
            }
            Ok(None) => break,
            Err(mut status) => {
                // The number of messages that may be stored nevertheless is unknown.
                if pipeline.is_certain() {
                    let count = tonic::metadata::MetadataValue::from(published);
                    status.metadata_mut().insert(PUBLISHED, count);
                }
                return Err(status);
            }
        }
    }
    let response = v1::BulkPublishResponse {
        published,
        duplicates,
        last_position: last.map(|sequence| wire::position(node.log.position_at(sequence))),
        durability: durability(&node).into(),
    };
    Ok(call::unary(&response).map(NodeBody::Other))
}

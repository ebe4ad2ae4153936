//! The calls of both contracts, and where each path leads.
//!
//! Does not: log, time out, refuse while draining or echo request ids; the layers around it do.

mod call;
mod pipeline;
mod publish;
mod publish_fields;
mod publish_requests;
mod subscribe;
mod topics;

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use http::{Request, Response};
use http_body::Frame;
use longlived_broker::TailReader;
use tonic::{Status, body::Body};
use tower::Service;

use self::subscribe::SessionCall;
use crate::{
    contract::{Contract, Method, is_for_admins, status},
    node::Node,
    probes::Probes,
    session::SessionBody,
    transport::{
        connection::{ConnectionContext, Follower, ResponseBody},
        services::Services,
    },
};

/// Every service of the node behind one port. Always ready.
#[derive(Clone)]
pub(crate) struct Router {
    node: Arc<Node>,
    probes: Probes,
}

impl Router {
    /// Routes to a node's calls, and to health and reflection.
    pub(crate) fn new(node: Arc<Node>, probes: Probes) -> Self {
        Self { node, probes }
    }
}

/// The body of any answer. Subscriptions are told apart, since each of their deliveries would pay for a box
/// that hides its type.
pub(crate) enum NodeBody {
    Session(Box<SessionBody>),
    // Of a `Session` call, before and after its session begins.
    Call(Box<SessionCall>),
    // Of topics or history: it counts against the budget of pages.
    Page(Body),
    Other(Body),
}

impl Default for NodeBody {
    fn default() -> Self {
        Self::Other(Body::default())
    }
}

impl http_body::Body for NodeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.get_mut() {
            Self::Session(body) => Pin::new(&mut **body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Call(call) => Pin::new(&mut **call)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            Self::Page(body) | Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Session(body) => body.is_end_stream(),
            Self::Call(call) => call.is_end_stream(),
            Self::Page(body) | Self::Other(body) => body.is_end_stream(),
        }
    }
}

impl ResponseBody for NodeBody {
    type Reader = TailReader;

    fn follower(&mut self) -> Option<&mut dyn Follower<TailReader>> {
        match self {
            Self::Session(body) => Some(&mut **body),
            Self::Call(call) => Some(call.session()?),
            Self::Page(_) | Self::Other(_) => None,
        }
    }

    fn has_budget(&self) -> bool {
        matches!(self, Self::Page(_))
    }

    fn poll_while_blocked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Call(call) => call.poll_requests(cx),
            // Neither reads further requests, or only as far as its answers are taken.
            Self::Session(_) | Self::Page(_) | Self::Other(_) => Poll::Pending,
        }
    }
}

impl Service<Request<Body>> for Router {
    type Response = Response<NodeBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<NodeBody>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Some(answer) = self.probes.call(request.uri().path()) {
            return answer(request)
                .map_ok(|response| response.map(NodeBody::Other))
                .boxed();
        }
        let node = self.node.clone();
        let path = request.uri().path();
        let contract = Contract::of(path);
        let method = Method::of(path).filter(|method| is_served(*method, &request));
        let Some(method) = method else {
            return answer(contract, ready(Err(status::unknown_method(path))));
        };
        // Each call is a box of its own size: the largest would be paid by all of them.
        match method {
            Method::SubscriptionServiceSubscribe => {
                answer(contract, subscribe::subscribe(node, request))
            }
            Method::SubscriptionServiceSession => {
                answer(contract, ready(subscribe::session(node, request)))
            }
            Method::SubscriptionServiceUnsubscribe => {
                answer(contract, subscribe::unsubscribe(node, request))
            }
            Method::PublishServicePublish => answer(contract, publish::publish(node, request)),
            Method::PublishServicePublishStream => {
                answer(contract, ready(publish::publish_stream(node, request)))
            }
            Method::PublishServiceBulkPublish => {
                answer(contract, publish::bulk_publish(node, request))
            }
            Method::TopicServiceListTopics => answer(contract, topics::list_topics(node, request)),
            Method::TopicServiceReadHistory => {
                answer(contract, topics::read_history(node, request))
            }
            Method::TopicServiceCheckPosition => {
                answer(contract, topics::check_position(node, request))
            }
            Method::LonglivedSubscribe => {
                answer(contract, subscribe::legacy_subscribe(node, request))
            }
            Method::LonglivedUnsubscribe => {
                answer(contract, subscribe::legacy_unsubscribe(node, request))
            }
        }
    }
}

/// Whether the listener has it that the request came to. To a client a method that is not there is one that is not known.
fn is_served(method: Method, request: &Request<Body>) -> bool {
    let connection = request.extensions().get::<Arc<ConnectionContext>>();
    let services = connection.map_or(Services::All, |it| it.listener.services);
    services.have(is_for_admins(method))
}

fn answer(
    contract: Contract,
    call: impl Future<Output = Result<Response<NodeBody>, Status>> + Send + 'static,
) -> BoxFuture<'static, Result<Response<NodeBody>, Infallible>> {
    call.map(move |answer| {
        Ok(answer.unwrap_or_else(|status| status::trailers_only(&status, contract)))
    })
    .boxed()
}

#[cfg(test)]
mod tests;

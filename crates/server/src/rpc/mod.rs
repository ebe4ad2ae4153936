//! The calls of both contracts, and where each path leads.
//!
//! Does not: log, time out, refuse while draining or echo request ids; the layers around it do.

pub(crate) mod call;
mod pipeline;
mod publish;
mod publish_fields;
mod publish_requests;
pub(crate) mod status;
mod subscribe;
mod topics;
pub(crate) mod validate;
pub(crate) mod wire;

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
use tonic::{Status, body::Body};
use tower::Service;

use self::subscribe::SessionCall;
pub(crate) use self::topics::PageBudget;
use crate::{
    connection::{Follower, ResponseBody},
    node::Node,
    probes::Probes,
    session::{Contract, SessionBody},
};

/// The service whose health follows whether messages are taken.
pub(crate) const PUBLISH_SERVICE: &str = "longlived.v1.PublishService";

/// Full names of the services whose health is told apart.
pub const SERVICES: [&str; 4] = [
    "longlived.v1.SubscriptionService",
    PUBLISH_SERVICE,
    "longlived.v1.TopicService",
    "protos.Longlived",
];

/// The methods that the node has, but for those of health and reflection.
pub(crate) const METHODS: [&str; 11] = [
    "/longlived.v1.SubscriptionService/Subscribe",
    "/longlived.v1.SubscriptionService/Session",
    "/longlived.v1.SubscriptionService/Unsubscribe",
    "/longlived.v1.PublishService/Publish",
    "/longlived.v1.PublishService/PublishStream",
    "/longlived.v1.PublishService/BulkPublish",
    "/longlived.v1.TopicService/ListTopics",
    "/longlived.v1.TopicService/ReadHistory",
    "/longlived.v1.TopicService/CheckPosition",
    "/protos.Longlived/Subscribe",
    "/protos.Longlived/Unsubscribe",
];

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
            Self::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Session(body) => body.is_end_stream(),
            Self::Call(call) => call.is_end_stream(),
            Self::Other(body) => body.is_end_stream(),
        }
    }
}

impl ResponseBody for NodeBody {
    fn follower(&mut self) -> Option<&mut dyn Follower> {
        match self {
            Self::Session(body) => Some(&mut **body),
            Self::Call(call) => Some(call.session()?),
            Self::Other(_) => None,
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
        let contract = Contract::of(request.uri().path());
        // Each call is a box of its own size: the largest would be paid by all of them.
        match request.uri().path() {
            "/longlived.v1.SubscriptionService/Subscribe" => {
                answer(contract, subscribe::subscribe(node, request))
            }
            "/longlived.v1.SubscriptionService/Session" => {
                answer(contract, ready(subscribe::session(node, request)))
            }
            "/longlived.v1.SubscriptionService/Unsubscribe" => {
                answer(contract, subscribe::unsubscribe(node, request))
            }
            "/longlived.v1.PublishService/Publish" => {
                answer(contract, publish::publish(node, request))
            }
            "/longlived.v1.PublishService/PublishStream" => {
                answer(contract, ready(publish::publish_stream(node, request)))
            }
            "/longlived.v1.PublishService/BulkPublish" => {
                answer(contract, publish::bulk_publish(node, request))
            }
            "/longlived.v1.TopicService/ListTopics" => {
                answer(contract, topics::list_topics(node, request))
            }
            "/longlived.v1.TopicService/ReadHistory" => {
                answer(contract, topics::read_history(node, request))
            }
            "/longlived.v1.TopicService/CheckPosition" => {
                answer(contract, topics::check_position(node, request))
            }
            "/protos.Longlived/Subscribe" => {
                answer(contract, subscribe::legacy_subscribe(node, request))
            }
            "/protos.Longlived/Unsubscribe" => {
                answer(contract, subscribe::legacy_unsubscribe(node, request))
            }
            unknown => {
                let status = status::unknown_method(unknown);
                answer(contract, ready(Err(status)))
            }
        }
    }
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

//! The calls of both contracts, and where each path leads.
//!
//! Does not: log, time out, refuse while draining or echo request ids; the layers around it do.

pub(crate) mod call;
mod pipeline;
mod publish;
pub(crate) mod status;
mod subscribe;
pub(crate) mod validate;
pub(crate) mod wire;

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use tonic::{Status, body::Body};
use tower::Service;

use crate::{node::Node, probes::Probes};

/// Full names of the services whose health is told apart.
pub const SERVICES: [&str; 3] = [
    "longlived.v1.SubscriptionService",
    "longlived.v1.PublishService",
    "protos.Longlived",
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

impl Service<Request<Body>> for Router {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if let Some(answer) = self.probes.call(request.uri().path()) {
            return answer(request);
        }
        let node = self.node.clone();
        async move {
            let answer = dispatch(node, request).await;
            Ok(answer.unwrap_or_else(Status::into_http))
        }
        .boxed()
    }
}

async fn dispatch(node: Arc<Node>, request: Request<Body>) -> Result<Response<Body>, Status> {
    match request.uri().path() {
        "/longlived.v1.SubscriptionService/Subscribe" => subscribe::subscribe(node, request).await,
        "/longlived.v1.SubscriptionService/Session" => subscribe::session(node, request),
        "/longlived.v1.SubscriptionService/Unsubscribe" => {
            subscribe::unsubscribe(node, request).await
        }
        "/longlived.v1.PublishService/Publish" => publish::publish(node, request).await,
        "/longlived.v1.PublishService/PublishStream" => publish::publish_stream(node, request),
        "/longlived.v1.PublishService/BulkPublish" => publish::bulk_publish(node, request).await,
        "/protos.Longlived/Subscribe" => subscribe::legacy_subscribe(node, request).await,
        "/protos.Longlived/Unsubscribe" => subscribe::legacy_unsubscribe(node, request).await,
        unknown => Err(Status::unimplemented(format!(
            "there is no method {unknown}"
        ))),
    }
}

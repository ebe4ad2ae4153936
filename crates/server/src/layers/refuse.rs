//! Refuses new calls while the node drains.
//!
//! Holds: the refusal is UNAVAILABLE in trailers-only form with `grpc-retry-pushback-ms`; health goes on, since it
//! is how others learn that we drain.
//! Does not: touch calls that already run.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use tower::{Layer, Service};

use super::answer::PassOrAnswer;
use crate::contract::{Contract, status};
use crate::lifecycle::Drain;

/// The service that answers until the end.
const HEALTH: &str = "/grpc.health.v1.";

/// How long a refused caller shall wait; asked once per refusal, so that the answers can be spread.
pub(crate) type Pushback = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Wraps a service in `RefuseService`.
#[derive(Clone)]
pub(crate) struct RefuseLayer {
    drain: Drain,
    pushback: Pushback,
}

impl RefuseLayer {
    /// Refuses from `drain.begin()` on.
    pub(crate) fn new(drain: Drain, pushback: Pushback) -> Self {
        Self { drain, pushback }
    }
}

impl fmt::Debug for RefuseLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefuseLayer")
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for RefuseLayer {
    type Service = RefuseService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RefuseService {
            inner,
            layer: self.clone(),
        }
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct RefuseService<S> {
    inner: S,
    layer: RefuseLayer,
}

impl<S, Q, B> Service<Request<Q>> for RefuseService<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = PassOrAnswer<S::Future, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let path = request.uri().path();
        if self.layer.drain.is_draining() && !path.starts_with(HEALTH) {
            let status = status::draining((self.layer.pushback)());
            PassOrAnswer::answer(status::trailers_only(&status, Contract::of(path)))
        } else {
            PassOrAnswer::Pass {
                call: self.inner.call(request),
            }
        }
    }
}

//! Finds the caller of each call, and refuses calls that have none.
//!
//! Holds: on a server that checks its callers every call but those of health comes to its method with an `Arc<Caller>` in its
//! extensions. What is no known path needs a credential too. It is decided before the body of the request is read.
//! Does not: decide what the caller may.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower::{Layer, Service};

use super::answer::PassOrAnswer;
use crate::callers::Callers;
use crate::contract::{Contract, status};
use crate::transport::connection::ConnectionContext;

/// The methods that anybody may call: who watches a node has no credential.
const PUBLIC: [&str; 2] = [
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// Wraps a service in `AuthenticateService`.
#[derive(Clone)]
pub(crate) struct AuthenticateLayer {
    callers: Arc<Callers>,
}

impl AuthenticateLayer {
    pub(crate) fn new(callers: Arc<Callers>) -> Self {
        Self { callers }
    }
}

impl fmt::Debug for AuthenticateLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticateLayer").finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AuthenticateLayer {
    type Service = AuthenticateService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AuthenticateService {
            inner,
            layer: self.clone(),
        }
    }
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct AuthenticateService<S> {
    inner: S,
    layer: AuthenticateLayer,
}

impl<S, Q, B> Service<Request<Q>> for AuthenticateService<S>
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

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let path = request.uri().path();
        if !PUBLIC.contains(&path) {
            let connection = request.extensions().get::<Arc<ConnectionContext>>();
            let connection = connection.map(|context| &**context);
            match self.layer.callers.of_call(request.headers(), connection) {
                Ok(Some(caller)) => {
                    request.extensions_mut().insert(caller);
                }
                Ok(None) => {}
                Err(error) => {
                    let status = status::of_credential(&error);
                    let contract = Contract::of(path);
                    return PassOrAnswer::answer(status::trailers_only(&status, contract));
                }
            }
        }
        PassOrAnswer::Pass {
            call: self.inner.call(request),
        }
    }
}

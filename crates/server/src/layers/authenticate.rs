//! Finds the caller of each call, and refuses calls that have none.
//!
//! Holds: on a server that checks its callers every call but those of health comes to its method with an `Arc<Caller>` in its
//! extensions. What is no known path needs a credential too. It is decided before the body of the request is read.
//! Does not: decide what the caller may.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::answer::PassOrAnswer;
use super::call_record::CallRecord;
use crate::callers::{Callers, Found};
use crate::contract::{CallerError, Contract, status};
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

pin_project! {
    /// A call whose caller is found, or is about to be.
    #[project = AuthenticateProjected]
    pub enum AuthenticateFuture<F, B, E> {
        Now {
            #[pin]
            call: PassOrAnswer<F, B>,
        },
        /// Its token is verified first. Boxed: this is the rare case, and every call pays for its size.
        Later {
            call: BoxFuture<'static, Result<Response<B>, E>>,
        },
    }
}

impl<F, B, E> Future for AuthenticateFuture<F, B, E>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            AuthenticateProjected::Now { call } => call.poll(cx),
            AuthenticateProjected::Later { call } => call.as_mut().poll(cx),
        }
    }
}

fn refusal<Q, B: Default>(
    error: &CallerError,
    callers: &Callers,
    request: &Request<Q>,
) -> Response<B> {
    let extensions = request.extensions();
    if let Some(record) = extensions.get::<Arc<CallRecord>>() {
        record.set_quiet();
    }
    let connection = extensions.get::<Arc<ConnectionContext>>();
    callers.tell_refused(error, connection.map(|context| &**context));
    let contract = Contract::of(request.uri().path());
    status::trailers_only(&status::of_credential(error), contract)
}

impl<S, Q, B> Service<Request<Q>> for AuthenticateService<S>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    Q: Send + 'static,
    B: Default + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = AuthenticateFuture<S::Future, B, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let path = request.uri().path();
        if self.layer.callers.are_checked() && !PUBLIC.contains(&path) {
            let connection = request.extensions().get::<Arc<ConnectionContext>>();
            match self.layer.callers.of_call(request.headers(), connection) {
                Found::Unchecked => {}
                Found::Known(caller) => {
                    request.extensions_mut().insert(caller);
                }
                Found::Unverified(unverified) => {
                    // Every service below is always ready.
                    let mut inner = self.inner.clone();
                    let callers = self.layer.callers.clone();
                    let call = async move {
                        match unverified.verify().await {
                            Ok(caller) => {
                                request.extensions_mut().insert(caller);
                                inner.call(request).await
                            }
                            Err(error) => Ok(refusal(&error, &callers, &request)),
                        }
                    };
                    return AuthenticateFuture::Later {
                        call: Box::pin(call),
                    };
                }
                Found::Nobody(error) => {
                    return AuthenticateFuture::Now {
                        call: PassOrAnswer::answer(refusal(&error, &self.layer.callers, &request)),
                    };
                }
            }
        }
        AuthenticateFuture::Now {
            call: PassOrAnswer::Pass {
                call: self.inner.call(request),
            },
        }
    }
}

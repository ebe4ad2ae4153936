//! The services for probes and tools: health and reflection, as gRPC defines them.

mod health;
mod limit;

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use longlived_api::FILE_DESCRIPTOR_SET;
use longlived_broker::AppendError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{ServiceExt as _, util::BoxCloneSyncService};

use self::limit::{Exceeded, Messages, Reader, TooLarge, Turns};
use crate::{
    contract::{Contract, PUBLISH_SERVICE, SERVICES, status},
    lifecycle::Drain,
    transport::connection::RequestError,
};

type Inner = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;
type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// Health and reflection (v1 and v1alpha).
#[derive(Clone)]
pub(crate) struct Probes {
    services: Arc<[(&'static str, Inner)]>,
    reporter: HealthReporter,
    drain: Drain,
    request_timeout: Duration,
}

/// Why the services cannot be built: the compiled-in contracts do not decode.
#[derive(Debug, thiserror::Error)]
#[error("reflection: {0}")]
pub struct ProbesError(#[from] tonic_reflection::server::Error);

impl Probes {
    /// Everything is SERVING from now on.
    pub(crate) async fn new(drain: Drain, request_timeout: Duration) -> Result<Self, ProbesError> {
        let reporter = HealthReporter::new();
        set(&reporter, ServingStatus::Serving).await;
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        let services = [
            (
                "/grpc.health.v1.Health/",
                Inner::new(health::service(&reporter)),
            ),
            (
                "/grpc.reflection.v1.ServerReflection/",
                Inner::new(builder().build_v1()?),
            ),
            (
                "/grpc.reflection.v1alpha.ServerReflection/",
                Inner::new(builder().build_v1alpha()?),
            ),
        ];
        Ok(Self {
            services: Arc::new(services),
            reporter,
            drain,
            request_timeout,
        })
    }

    /// Everything is NOT_SERVING from now on.
    pub(crate) async fn not_serving(&self) {
        set(&self.reporter, ServingStatus::NotServing).await;
    }

    /// Publishing is SERVING while the log takes messages, until `stop`. The other services and the node as a whole
    /// stay as they are: subscribers go on, and a balancer that took the node out would cut them off.
    pub(crate) async fn watch_writable(
        self,
        mut writable: watch::Receiver<Result<(), AppendError>>,
        stop: CancellationToken,
    ) {
        loop {
            let status = match *writable.borrow_and_update() {
                Ok(()) => ServingStatus::Serving,
                Err(_) => ServingStatus::NotServing,
            };
            self.reporter
                .set_service_status(PUBLISH_SERVICE, status)
                .await;
            tokio::select! {
                () = stop.cancelled() => return,
                changed = writable.changed() => if changed.is_err() { return },
            }
        }
    }

    /// How to answer, if the path is one of these services'.
    pub(crate) fn call(&self, path: &str) -> Option<impl FnOnce(Request<Body>) -> Answer + use<>> {
        let (prefix, service) = self
            .services
            .iter()
            .find(|(prefix, _)| path.starts_with(prefix))?;
        let turns = prefix.starts_with("/grpc.reflection.").then(Turns::default);
        let reader = turns.clone().map(Reader::of);
        let service = service.clone();
        let drain = self.drain.clone();
        let limit = self.request_timeout;
        Some(move |request: Request<Body>| {
            async move {
                let exceeded = Exceeded::default();
                let requests = Requests {
                    messages: Messages::default(),
                    exceeded: exceeded.clone(),
                    turns,
                    drain: drain.clone(),
                };
                let request = request.map(|body| requests.body(body));
                let response = tokio::select! {
                    biased;
                    // A request that has not come must not hold up the end of the node either.
                    () = drain.going_away() => {
                        return Ok(status::trailers_only(&status::gone(), Contract::V1));
                    }
                    response = service.oneshot(request) => response?,
                    () = tokio::time::sleep(limit) => {
                        let status = status::of_request(&RequestError::TimedOut(limit));
                        return Ok(status::trailers_only(&status, Contract::V1));
                    }
                };
                // With an answer behind them the headers have no status; the answer goes first.
                if exceeded.is_so() && response.headers().contains_key(Status::GRPC_STATUS) {
                    let status = status::probe_too_large();
                    return Ok(status::trailers_only(&status, Contract::V1));
                }
                Ok(response.map(|body| response_body(body, reader, exceeded, drain)))
            }
            .boxed()
        })
    }
}

async fn set(reporter: &HealthReporter, status: ServingStatus) {
    for service in SERVICES.iter().chain([&""]) {
        reporter.set_service_status(service, status).await;
    }
}

/// The requests of a call on their way to a service.
struct Requests {
    messages: Messages,
    exceeded: Exceeded,
    // None of a service whose answers are small: its requests go on at any time.
    turns: Option<Turns>,
    drain: Drain,
}

impl Requests {
    /// Ends when the node goes away: reflection hands its requests to a task of its own, which nothing but their end would end. So do requests
    /// over a limit. The services know nothing of our limits.
    fn body(self, body: Body) -> Body {
        let frames = futures_util::stream::unfold((body, self), |(mut body, mut requests)| async {
            let next = requests.next(&mut body).await?;
            Some((next, (body, requests)))
        });
        Body::new(http_body_util::StreamBody::new(frames))
    }

    async fn next(&mut self, body: &mut Body) -> Option<Result<Frame<Bytes>, Status>> {
        loop {
            match self.messages.part() {
                Ok(Some(part)) => {
                    if part.is_end && !self.is_turn().await {
                        return None;
                    }
                    return Some(Ok(Frame::data(part.bytes)));
                }
                Ok(None) => {}
                Err(TooLarge) => {
                    self.exceeded.set();
                    return None;
                }
            }
            let next = tokio::select! {
                biased;
                next = body.frame() => next?,
                () = self.drain.going_away() => return None,
            };
            match next.map(Frame::into_data) {
                Ok(Ok(data)) => self.messages.add(data),
                Ok(Err(other)) => return Some(Ok(other)),
                Err(error) => return Some(Err(status::of_body(&error).unwrap_or(error))),
            }
        }
    }

    /// Waits until a request may go on; false when it may not any more.
    async fn is_turn(&mut self) -> bool {
        let Some(turns) = &self.turns else {
            return true;
        };
        self.messages.waits();
        tokio::select! {
            biased;
            is_asked = turns.next() => is_asked,
            () = self.drain.going_away() => false,
        }
    }
}

/// Ends when the node goes away: a watch goes on for ever, and once its last news is out it must not hold up the end of the node. It tells
/// of requests over a limit, with which the service has seen its request end.
fn response_body(body: Body, reader: Option<Reader>, exceeded: Exceeded, drain: Drain) -> Body {
    let state = Some((body, reader, exceeded, drain));
    let frames = futures_util::stream::unfold(state, |state| async move {
        let (mut body, reader, exceeded, drain) = state?;
        let end = |status| {
            let trailers = status::trailers(&status, Contract::V1);
            Some((Ok(Frame::trailers(trailers)), None))
        };
        if let Some(reader) = &reader {
            reader.ask();
        }
        let next = tokio::select! {
            biased;
            next = body.frame() => next,
            () = drain.going_away() => return end(status::gone()),
        };
        let is_data = matches!(&next, Some(Ok(frame)) if frame.is_data());
        if exceeded.is_so() && !is_data {
            return end(status::probe_too_large());
        }
        Some((next?, Some((body, reader, exceeded, drain))))
    });
    Body::new(http_body_util::StreamBody::new(frames))
}

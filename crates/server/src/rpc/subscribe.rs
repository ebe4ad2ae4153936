//! The calls that receive: `Subscribe` and `Session` of version 1, `Subscribe` of the frozen contract, and
//! `Unsubscribe` of both.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, Response};
use http_body::Frame;
use longlived_api::{protos, v1};
use longlived_broker::Sequence;
use tonic::{Status, body::Body};

use super::{
    NodeBody,
    call::{self, Call},
};
use crate::{
    contract::{
        CloseReason, Contract, InvalidRequest, Plan, SubscriberKey, status, validate, wire,
    },
    layers::CallRecord,
    limits::REQUEST_BYTES_MAX,
    node::Node,
    session::{self, OpenError, SessionBody, SessionRequests},
};

type Answer = Result<Response<NodeBody>, Status>;

// A fleet that comes back has all its calls wait for their first message at the same time, and then for their live tails.
// The memory of each call then is the growth of the node. So the request is taken apart before the first wait, and each
// of the two waits is a box of its own, gone before the next.

/// `longlived.v1.SubscriptionService/Subscribe`
pub(super) fn subscribe(
    node: Arc<Node>,
    request: Request<Body>,
) -> impl Future<Output = Answer> + Send {
    let call = Call::<v1::SubscribeRequest>::new(
        node.clone(),
        request,
        "SubscribeRequest",
        REQUEST_BYTES_MAX,
    );
    let own = node.clone();
    let first = async move {
        let mut call = call?;
        let compression = call.compression;
        let plan = validate::plan(
            &call.message().await?,
            &call.caller,
            compression,
            &own.config,
        )?;
        Ok((plan, call.record))
    };
    begin(node, first)
}

/// `protos.Longlived/Subscribe`
pub(super) fn legacy_subscribe(
    node: Arc<Node>,
    request: Request<Body>,
) -> impl Future<Output = Answer> + Send {
    let call = Call::<protos::Request>::new(node.clone(), request, "Request", REQUEST_BYTES_MAX);
    let own = node.clone();
    let first = async move {
        let mut call = call?;
        let compression = call.compression;
        let id = call.message().await?.id;
        let plan = validate::legacy_plan(id, &call.caller, compression, &own.config)?;
        Ok((plan, call.record))
    };
    begin(node, first)
}

fn begin(
    node: Arc<Node>,
    first: impl Future<Output = Result<(Plan, Arc<CallRecord>), Status>> + Send + 'static,
) -> impl Future<Output = Answer> + Send {
    let first = first.boxed();
    async move {
        let (plan, record) = first.await?;
        begun(node, plan, record).await
    }
}

fn begun(node: Arc<Node>, plan: Plan, record: Arc<CallRecord>) -> BoxFuture<'static, Answer> {
    let begun = async move {
        let body = open(node, &plan, record, None).await?;
        let mut response = call::with_headers(NodeBody::Session(Box::new(body)));
        call::set_encoding(&mut response, plan.options.compression);
        Ok(response)
    };
    begun.boxed()
}

async fn open(
    node: Arc<Node>,
    plan: &Plan,
    record: Arc<CallRecord>,
    requests: Option<Box<SessionRequests>>,
) -> Result<SessionBody, Status> {
    let opened = session::open(&node, plan, record)
        .await
        .map_err(|error| match error {
            OpenError::Cursor(error) => plan.contract.dialect().failed(&error),
            OpenError::Register(error) => status::of_registration(&error),
        })?;
    Ok(SessionBody::new(node, plan, opened, requests))
}

/// `longlived.v1.SubscriptionService/Session`. The headers go out at once: a client may wait for them before
/// it says anything.
pub(super) fn session(node: Arc<Node>, request: Request<Body>) -> Answer {
    let mut call = Call::<v1::SessionRequest>::new(
        node.clone(),
        request,
        "SessionRequest",
        REQUEST_BYTES_MAX,
    )?;
    call.record.set_streaming();
    let compression = call.compression;
    let opening = async move {
        let first = call.first().await?;
        let open_request = match first.request {
            Some(v1::session_request::Request::Open(open)) => open,
            Some(_) => return Err(InvalidRequest::Unset("open").into()),
            None => return Err(InvalidRequest::Unset("request").into()),
        };
        let plan = validate::plan(&open_request, &call.caller, compression, &node.config)?;
        let requests = Box::new(SessionRequests::new(call.messages));
        open(node, &plan, call.record, Some(requests)).await
    };
    let body = NodeBody::Call(Box::new(SessionCall::Opening(opening.boxed())));
    let mut response = call::with_headers(body);
    call::set_encoding(&mut response, compression);
    Ok(response)
}

/// The body of a `Session` call, before and after its `open`.
pub(crate) enum SessionCall {
    Opening(BoxFuture<'static, Result<SessionBody, Status>>),
    Live(Box<SessionBody>),
    // It cannot begin, and its client has not heard why.
    Refused(Status),
    Ended,
}

impl SessionCall {
    /// The session, once it has begun.
    pub(super) fn session(&mut self) -> Option<&mut SessionBody> {
        match self {
            Self::Live(body) => Some(body),
            Self::Opening(_) | Self::Refused(_) | Self::Ended => None,
        }
    }

    /// Reads requests while nothing can be sent. Ready when only its status is left to send.
    pub(super) fn poll_requests(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_opened(cx));
        match self {
            Self::Live(body) => body.poll_while_blocked(cx),
            Self::Refused(_) => Poll::Ready(()),
            Self::Opening(_) | Self::Ended => Poll::Pending,
        }
    }

    /// Ready when it is known whether a session begins.
    fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Opening(opening) = self {
            *self = match ready!(opening.poll_unpin(cx)) {
                Ok(body) => Self::Live(Box::new(body)),
                Err(status) => Self::Refused(status),
            };
        }
        Poll::Ready(())
    }
}

impl http_body::Body for SessionCall {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.poll_opened(cx));
        match &mut *self {
            Self::Live(body) => http_body::Body::poll_frame(Pin::new(&mut **body), cx),
            Self::Refused(status) => {
                let trailers = Frame::trailers(status::trailers(status, Contract::V1));
                self.set(Self::Ended);
                Poll::Ready(Some(Ok(trailers)))
            }
            Self::Opening(_) | Self::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Opening(_) | Self::Refused(_) => false,
            Self::Live(body) => http_body::Body::is_end_stream(&**body),
            Self::Ended => true,
        }
    }
}

/// `longlived.v1.SubscriptionService/Unsubscribe`
pub(super) async fn unsubscribe(node: Arc<Node>, request: Request<Body>) -> Answer {
    let mut call = Call::<v1::UnsubscribeRequest>::new(
        node.clone(),
        request,
        "UnsubscribeRequest",
        REQUEST_BYTES_MAX,
    )?;
    let message = call.message().await?;
    let subscriber = validate::subscriber_id(&message.subscriber_id)?;
    call.record.set_subscriber(&*subscriber);
    let key = validate::subscriber_of(&message.principal, &subscriber, &call.caller)?;
    let ended = end_streams(&node, &key);
    // One that is away is told when it comes back.
    let sequence = ended.or_else(|| node.registry.unsubscribe_away(&key));
    let sequence = sequence.ok_or_else(|| status::nobody_to_unsubscribe(&subscriber))?;
    let position = node.log.position_at(sequence);
    let response = v1::UnsubscribeResponse {
        position: Some(wire::position(position)),
    };
    Ok(call::unary(&response).map(NodeBody::Other))
}

/// `protos.Longlived/Unsubscribe`
pub(super) async fn legacy_unsubscribe(node: Arc<Node>, request: Request<Body>) -> Answer {
    let mut call =
        Call::<protos::Request>::new(node.clone(), request, "Request", REQUEST_BYTES_MAX)?;
    let subscriber: Arc<str> = call.message().await?.id.to_string().into();
    call.record.set_subscriber(subscriber.clone());
    let key = call.caller.subscriber(&subscriber);
    end_streams(&node, &key).ok_or_else(|| status::nobody_to_unsubscribe(&subscriber))?;
    Ok(call::unary(&protos::Response::default()).map(NodeBody::Other))
}

/// Ends the live streams of a subscriber; the last sequence that it was sent. `None` when it has none.
fn end_streams(node: &Node, subscriber: &SubscriberKey) -> Option<Sequence> {
    let sessions = node.registry.sessions_of(subscriber);
    let mut live = sessions
        .iter()
        .filter(|session| session.closing().is_none());
    let sequence = live.next()?.sequence();
    for session in &sessions {
        session.close(CloseReason::Unsubscribed);
    }
    Some(sequence)
}

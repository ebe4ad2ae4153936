//! The requests of a client on a `Session` call after it was opened, one at a time.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, Stream as _, future::BoxFuture};
use longlived_api::v1::{self, session_request::Request};
use longlived_broker::Cursor;
use longlived_topic::TopicFilter;
use tonic::{Status, Streaming};

use crate::{
    contract::{
        Caller, CallerError, InvalidRequest, status, validate,
        wire::{self, Change},
    },
    limits::REQUEST_BYTES_MAX,
    node::Node,
    registry::Session,
};

type Attaching =
    BoxFuture<'static, Result<longlived_broker::Attached, longlived_broker::AttachError>>;
type Verifying = BoxFuture<'static, Result<Arc<Caller>, CallerError>>;

/// A request that takes time; nothing else is read meanwhile.
enum Waiting {
    /// An added filter whose live tail is being linked.
    Attaching(TopicFilter, Attaching),
    /// A token.
    Verifying(Verifying),
}

/// The request side of one session.
pub(crate) struct Requests {
    stream: Streaming<v1::SessionRequest>,
    // How many were read; `open` was the first.
    read: u64,
    waiting: Option<Waiting>,
}

impl Requests {
    /// The requests after the first.
    pub(crate) fn new(stream: Streaming<v1::SessionRequest>) -> Self {
        Self {
            stream,
            read: 1,
            waiting: None,
        }
    }

    /// The answer to the next request. `None` when the client has no more to say.
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
        cursor: &mut Cursor,
        session: &Arc<Session>,
        node: &Node,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(waiting) = &mut self.waiting {
                let answer = match waiting {
                    Waiting::Attaching(filter, attaching) => {
                        let attached = ready!(attaching.poll_unpin(cx));
                        added(filter, attached, cursor, session)
                    }
                    Waiting::Verifying(verifying) => {
                        renew(ready!(verifying.poll_unpin(cx)), session, node);
                        let expires = session.caller().expires_at(&node.environment);
                        wire::credential_notice(expires)
                    }
                };
                self.waiting = None;
                return Poll::Ready(Some(Ok(answer)));
            }
            let next = ready!(std::pin::Pin::new(&mut self.stream).poll_next(cx));
            let request = match next {
                None => return Poll::Ready(None),
                Some(Err(status)) => {
                    return Poll::Ready(Some(Err(status::of_decoder(
                        &status,
                        "SessionRequest",
                        REQUEST_BYTES_MAX,
                    ))));
                }
                Some(Ok(request)) => request,
            };
            self.read += 1;
            match self.handle(request, cursor, session, node) {
                Ok(Some(answer)) => return Poll::Ready(Some(Ok(answer))),
                Ok(None) => {}
                Err(invalid) => return Poll::Ready(Some(Err(invalid.into()))),
            }
        }
    }

    /// The answer, unless it takes time.
    fn handle(
        &mut self,
        request: v1::SessionRequest,
        cursor: &mut Cursor,
        session: &Arc<Session>,
        node: &Node,
    ) -> Result<Option<Bytes>, InvalidRequest> {
        let Some(request) = request.request else {
            // An unknown request of a newer client arrives as nothing.
            let why = "`request` is not set, or a kind of request that this server does not know";
            return Ok(Some(wire::request_refused(self.read, why)));
        };
        match request {
            Request::Open(_) => Err(InvalidRequest::SecondOpen),
            Request::Add(subscription) => {
                let text = subscription.topic_filter;
                let count = cursor.filters().count();
                let filter =
                    validate::added_filter(&text, &session.caller(), &session.subscriber, count);
                let refused = |why| {
                    Ok(Some(wire::subscription_change(
                        &text,
                        &Change::Refused(why),
                    )))
                };
                match filter {
                    Err(invalid) => refused(invalid.to_string()),
                    Ok(filter) if cursor.follows(&filter) => {
                        refused("`topic_filter` is followed already".to_owned())
                    }
                    Ok(_) if let Err(exhausted) = session.count_filter() => {
                        refused(exhausted.to_string())
                    }
                    Ok(filter) => {
                        let attaching = cursor.attach(filter.clone()).boxed();
                        self.waiting = Some(Waiting::Attaching(filter, attaching));
                        Ok(None)
                    }
                }
            }
            Request::RemoveTopicFilter(text) => {
                let removed = TopicFilter::parse(&text)
                    .ok()
                    .and_then(|filter| cursor.remove(&filter));
                let change = if let Some(after) = removed {
                    session.uncount_filter();
                    Change::Removed(after)
                } else {
                    Change::Refused("`remove_topic_filter` is not followed".to_owned())
                };
                Ok(Some(wire::subscription_change(&text, &change)))
            }
            Request::Progress(_) => {
                let (position, current) = cursor.settle();
                Ok(Some(wire::progress(
                    position,
                    node.environment.now(),
                    current,
                )))
            }
            Request::Token(token) => {
                let connection = session.record().connection();
                if let Some(unverified) = node.callers.of_token(&token, connection) {
                    self.waiting = Some(Waiting::Verifying(unverified.verify().boxed()));
                    return Ok(None);
                }
                let expires = session.caller().expires_at(&node.environment);
                Ok(Some(wire::credential_notice(expires)))
            }
        }
    }
}

/// The answer to an added filter whose live tail was linked, or could not be.
fn added(
    filter: &TopicFilter,
    attached: Result<longlived_broker::Attached, longlived_broker::AttachError>,
    cursor: &mut Cursor,
    session: &Session,
) -> Bytes {
    // The caller's rights may have changed meanwhile.
    let granted = session.caller().may_subscribe(filter);
    let change = match (attached, granted) {
        (Ok(_), Err(problem)) => Change::Refused(problem.to_string()),
        (Ok(attached), Ok(())) => Change::Added(cursor.add(attached)),
        (Err(error), _) => Change::Refused(error.to_string()),
    };
    if let Change::Refused(_) = change {
        session.uncount_filter();
    }
    wire::subscription_change(filter.as_str(), &change)
}

/// A token of the same caller takes the place of the credential that holds. Any other changes nothing, and the answer says so by its time.
fn renew(verified: Result<Arc<Caller>, CallerError>, session: &Arc<Session>, node: &Node) {
    let subscriber = &*session.subscriber;
    match verified {
        Ok(caller) if caller.principal == *session.principal() => {
            node.registry.renew(session, caller);
            node.maintenance.decide_new(session);
        }
        Ok(_) => tracing::debug!(subscriber, "a token of another caller renews nothing"),
        Err(error) => tracing::debug!(subscriber, %error, "a token renews nothing"),
    }
}

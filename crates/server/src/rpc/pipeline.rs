//! Publishing from a stream of requests with many in flight: the messages that have arrived go to the log as one
//! request, and answers come back in the order of the messages.
//!
//! Holds: the first refusal ends it; all messages before it were answered. Nothing after it is stored, unless the store
//! stored a batch in part. The messages in flight are bounded, so flow control slows a fast publisher down.

use std::{
    collections::VecDeque,
    future::Future as _,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use longlived_broker::{Message, PublishError, PublishOptions, PublishReply, Published};
use smallvec::SmallVec;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep},
};
use tonic::Status;

use super::{call::RawCall, publish_requests::PublishRequests};
use crate::{contract::status, node::Node};

/// Requests to the log that one stream may have in flight.
const IN_FLIGHT_MAX: usize = 16;
/// Messages and bytes of one such request.
const GROUP_MESSAGES_MAX: usize = 1_024;
const GROUP_BYTES_MAX: usize = 256 << 10;

/// How often the caller of a stream that says nothing is looked at: newer rules end it within five seconds.
const LOOK_EVERY: Duration = Duration::from_secs(2);

type Submitted = oneshot::Receiver<PublishReply>;

/// The messages of one publishing call on their way.
pub(super) struct Pipeline {
    node: Arc<Node>,
    requests: PublishRequests,
    // How many messages were there last time: the capacity for the next.
    group_len: usize,
    options: PublishOptions,
    // Waits for a place in the log's queue.
    submitting: Option<BoxFuture<'static, Result<Submitted, PublishError>>>,
    in_flight: VecDeque<Submitted>,
    // The caller has published more than its rates allow: nothing is read until then.
    pausing: Option<Pin<Box<Sleep>>>,
    // When its caller is looked at next, where callers are checked.
    look: Option<Pin<Box<Sleep>>>,
    // How reading ended; told when all before it is answered.
    read_end: Option<Result<(), Status>>,
    // The refused message is not stored, nor will be, and no message behind it.
    certain: bool,
    draining: BoxFuture<'static, ()>,
}

impl Pipeline {
    /// Whether only answered messages are stored.
    pub(super) fn is_certain(&self) -> bool {
        self.certain
    }

    pub(super) fn new(node: Arc<Node>, raw: RawCall) -> Self {
        let drain = node.drain.clone();
        let caller = raw.caller.clone();
        let requests = PublishRequests::new(node.clone(), caller, raw.body, raw.encoding);
        Self {
            node,
            requests,
            group_len: 1,
            options: PublishOptions {
                principal: raw.caller.principal.clone(),
                deadline: raw.deadline,
                stream: Some(Arc::new(AtomicBool::new(false))),
                background: false,
                room: None,
            },
            submitting: None,
            in_flight: VecDeque::new(),
            pausing: None,
            look: None,
            read_end: None,
            certain: true,
            draining: async move { drain.draining().await }.boxed(),
        }
    }

    /// The next answers, in request order. `Ok(None)` when all is answered, an error after the first refusal.
    pub(super) fn poll_answers(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<SmallVec<[Published; 1]>>, Status>> {
        loop {
            self.poll_submit(cx);
            match self.in_flight.front_mut() {
                Some(first) => {
                    let reply = ready!(first.poll_unpin(cx));
                    self.in_flight.pop_front();
                    let reply = reply.unwrap_or_else(|_| {
                        self.certain = false;
                        PublishReply {
                            refused: Some(PublishError::Closed),
                            ..PublishReply::default()
                        }
                    });
                    if let Some(refused) = &reply.refused {
                        self.certain &= status::is_certain(refused) && !reply.partly;
                        // The log refuses all later messages as well; they need no answer.
                        self.read_end = Some(Err(status::of_publish(refused)));
                        self.in_flight.clear();
                        self.submitting = None;
                    }
                    if !reply.published.is_empty() {
                        return Poll::Ready(Ok(Some(reply.published)));
                    }
                }
                None if self.submitting.is_some() => return Poll::Pending,
                None => {
                    return match &self.read_end {
                        Some(Ok(())) => Poll::Ready(Ok(None)),
                        Some(Err(status)) => Poll::Ready(Err(status.clone())),
                        None => Poll::Pending,
                    };
                }
            }
        }
    }

    /// Reads and submits as much as there is and as may be in flight.
    fn poll_submit(&mut self, cx: &mut Context<'_>) {
        loop {
            if let Some(submitting) = &mut self.submitting {
                let Poll::Ready(submitted) = submitting.poll_unpin(cx) else {
                    return;
                };
                self.submitting = None;
                match submitted {
                    Ok(answer) => self.in_flight.push_back(answer),
                    Err(error) => self.read_end = Some(Err(status::of_publish(&error))),
                }
            }
            if self.read_end.is_some() || self.in_flight.len() >= IN_FLIGHT_MAX {
                return;
            }
            self.look_at_ends(cx);
            if self.read_end.is_some() || self.poll_rates(cx).is_pending() {
                return;
            }
            let (group, bytes) = self.read_group(cx);
            if group.is_empty() {
                return;
            }
            let log = self.node.log.clone();
            let options = self.options.clone();
            let mut options = options;
            let usage = self.requests.usage().cloned();
            if let Some(usage) = &usage {
                usage.count_published(group.len() as u64, bytes as u64, Instant::now());
            }
            let submit = async move {
                if let Some(usage) = usage {
                    options.room = Some(usage.in_flight(bytes as u64).await);
                }
                log.submit(group, options).await
            };
            self.submitting = Some(submit.boxed());
        }
    }

    /// Whether the node goes away, or the caller may say no more. Also while nothing comes.
    fn look_at_ends(&mut self, cx: &mut Context<'_>) {
        if self.draining.poll_unpin(cx).is_ready() {
            self.read_end = Some(Err(status::draining(self.node.spread_turn())));
            self.draining = futures_util::future::pending().boxed();
            return;
        }
        if let Err(status) = self.requests.decide() {
            self.read_end = Some(Err(status));
            return;
        }
        if self.requests.usage().is_none() {
            return;
        }
        let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK_EVERY)));
        while look.as_mut().poll(cx).is_ready() {
            look.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
    }

    /// Ready when the caller may publish more. A stream is read later, and not refused: flow control tells its client.
    fn poll_rates(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pausing) = &mut self.pausing {
                ready!(pausing.as_mut().poll(cx));
                self.pausing = None;
            }
            let now = Instant::now();
            let wait = self.requests.usage().map(|usage| usage.publish_wait(now));
            match wait {
                Some(wait) if !wait.is_zero() => self.pausing = Some(Box::pin(sleep(wait))),
                _ => return Poll::Ready(()),
            }
        }
    }

    /// Messages that have come, and their bytes.
    fn read_group(&mut self, cx: &mut Context<'_>) -> (SmallVec<[Message; 1]>, usize) {
        let mut group = SmallVec::new();
        let mut bytes = 0;
        while self.read_end.is_none() && group.len() < GROUP_MESSAGES_MAX && bytes < GROUP_BYTES_MAX
        {
            let Poll::Ready(next) = self.requests.poll_next(cx) else {
                break;
            };
            match next {
                Some(Ok(message)) => {
                    if group.len() == 1 {
                        // There are several: as many as last time, about.
                        group.reserve(self.group_len);
                    }
                    bytes += message.queued_bytes();
                    group.push(message);
                }
                Some(Err(status)) => self.read_end = Some(Err(status)),
                None => self.read_end = Some(Ok(())),
            }
        }
        if !group.is_empty() {
            self.group_len = group.len();
        }
        (group, bytes)
    }
}

/// A request with the largest event, and with bytes that do not become part of it.
pub(super) fn publish_bytes_max(config: &crate::config::Config) -> usize {
    config.event_bytes_max + (1 << 10)
}

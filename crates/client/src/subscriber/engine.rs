//! The life of a subscription: open, read, hand over, wait, come back.
//!
//! Holds: the position rises only with what goes to the application; of two streams open at once each event is taken
//! from the one that brings it first, and dropped from the other; the queue to the application holds the items of one
//! response and no more.
//! Does not: decide which endings are final (`ending.rs`) or judge continuity (`continuity.rs`).

mod renewal;
mod responses;
mod streams;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt as _, stream};
use longlived_api::v1;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use self::streams::{Step, Streams, Successor, Which};
use super::builder::Start;
use super::ending::{self, End, Known, Lost, Next, Refusal};
use super::handle::Standing;
use super::notice::GoAwayReason;
use super::stream::{self as wire_stream, Ask, Departure, Got, Live, OpenFuture, Opened};
use super::{
    Item, Notice, Outcome, SubscribeError, Subscriber, SubscriberBuilder, SubscriberHandle,
};
use crate::backoff::Backoff;
use crate::credential::Credential;
use crate::pool::Lane;
use crate::position::Position;
use crate::record::{StreamEnd, StreamRecord};

pub(super) fn subscriber(builder: SubscriberBuilder) -> Subscriber {
    let position = match builder.start {
        Start::After(position) => Some(position),
        Start::Next | Start::Earliest | Start::Time(_) => None,
    };
    let standing = Arc::new(Standing {
        id: builder.id.clone(),
        position: Mutex::new(position),
        leaving: CancellationToken::new(),
    });
    let handle = SubscriberHandle {
        standing: standing.clone(),
        client: builder.client.clone(),
    };
    let shared = &builder.client.shared;
    let engine = Box::new(Engine {
        lane: shared.pool.assign(),
        backoff: Backoff::new(shared.backoff),
        rng: shared.rng(),
        ask: builder,
        standing,
        position,
        queue: VecDeque::new(),
        phase: Phase::Waiting(None),
        ended_at: None,
        streams: 0,
        attempt: 0,
        refused: None,
        refreshed: false,
    });
    let items = stream::unfold(engine, |mut engine| async move {
        let item = engine.next().await?;
        Some((item, engine))
    });
    Subscriber {
        // Fused, so that reading on after the end is answered.
        items: Box::pin(items.fuse()),
        handle,
    }
}

/// Everything a subscription is. Lives inside its stream and runs only while that is polled.
struct Engine {
    ask: SubscriberBuilder,
    standing: Arc<Standing>,
    lane: Lane,
    backoff: Backoff,
    rng: SmallRng,
    /// Everything up to here is handed out or queued.
    position: Option<Position>,
    /// The items of the last response, each with the position that the application has reached when it takes it.
    queue: VecDeque<(Item, Option<Position>)>,
    phase: Phase,
    /// When a stream, or the attempt to open one, last came to an end.
    ended_at: Option<Instant>,
    /// Streams opened so far.
    streams: u64,
    /// The number of the last stream that was asked for.
    attempt: u64,
    /// The next stream needs another credential than this.
    refused: Option<Credential>,
    /// A fresh credential was tried since the last healthy stream.
    refreshed: bool,
}

enum Phase {
    /// No stream; the next attempt is then, or now.
    Waiting(Option<Instant>),
    Opening(OpenFuture),
    Live(Box<Streams>),
    /// Says this last, if anything, and is over.
    Over(Option<SubscribeError>),
}

impl Engine {
    async fn next(&mut self) -> Option<Result<Item, SubscribeError>> {
        loop {
            if let Some((item, position)) = self.queue.pop_front() {
                if position.is_some() {
                    *self.standing.position.lock() = position;
                }
                return Some(Ok(item));
            }
            match &mut self.phase {
                Phase::Over(last) => return last.take().map(Err),
                Phase::Waiting(until) => {
                    let until = *until;
                    let leaving = self.standing.leaving.clone();
                    tokio::select! {
                        biased;
                        () = leaving.cancelled() => self.finish(false),
                        () = sleep_until_some(until) => {
                            self.phase = Phase::Opening(self.open());
                        }
                    }
                }
                Phase::Opening(opening) => {
                    let leaving = self.standing.leaving.clone();
                    tokio::select! {
                        biased;
                        () = leaving.cancelled() => self.finish(false),
                        opened = opening => self.opened(opened),
                    }
                }
                Phase::Live(streams) => {
                    let step = streams.step().await;
                    self.take(step);
                }
            }
        }
    }

    fn say(&mut self, notice: Notice) {
        self.queue.push_back((Item::Notice(notice), None));
    }

    fn finish(&mut self, ok: bool) {
        self.say(Notice::Unsubscribed { ok });
        self.phase = Phase::Over(None);
    }

    fn open(&mut self) -> OpenFuture {
        self.attempt = self.ask.client.shared.identity.next_attempt();
        let shared = &self.ask.client.shared;
        wire_stream::open(Ask {
            shared: shared.clone(),
            lane: self.lane,
            since: self.ended_at.unwrap_or_else(Instant::now),
            request: self.ask.request(self.position, self.attempt),
            refused: self.refused.clone(),
        })
    }

    /// The attempt to open the only stream has an outcome.
    fn opened(&mut self, opened: Opened) {
        match opened.result {
            Ok((live, welcome)) => {
                self.welcomed(&live, &welcome);
                self.phase = Phase::Live(Box::new(Streams {
                    current: live,
                    successor: Successor::None,
                }));
            }
            Err(end) => self.ended(end, None, false, opened.credential, opened.record),
        }
    }

    /// A Welcome: the server takes this subscription. How healthy it is shows in how long the stream lives.
    fn welcomed(&mut self, live: &Live, welcome: &v1::Welcome) {
        self.backoff.opened(Instant::now());
        self.refused = None;
        self.refreshed = false;
        self.streams += 1;
        let asked = self.position;
        if asked.is_none() {
            self.position = live.checker.position();
        }
        let notice = Notice::Connected {
            outcome: Outcome::from_wire(welcome.outcome, asked.is_some()),
            position: welcome
                .position
                .map_or(Position::new(live.checker.epoch(), 0), Into::into),
            epoch: live.checker.epoch(),
            streams: self.streams,
            max_silence: welcome
                .max_silence
                .and_then(|silence| silence.try_into().ok()),
            node_id: welcome.node_id.clone(),
            server_version: welcome.server_version.clone(),
        };
        tracing::debug!(subscriber = %self.standing.id, streams = self.streams, "{notice}");
        self.queue.push_back((Item::Notice(notice), self.position));
        if let Some(at) = welcome
            .credential_expires
            .and_then(|at| SystemTime::try_from(at).ok())
        {
            self.say(Notice::CredentialExpires { at });
        }
    }

    /// No stream is left: come back, or stop.
    fn ended(
        &mut self,
        end: End,
        departure: Option<Departure>,
        newer_lost: bool,
        credential: Option<Credential>,
        record: Option<StreamRecord>,
    ) {
        let now = Instant::now();
        self.ended_at = Some(now);
        let known = Known {
            go_away: departure.map(|departure| (departure.reason, departure.reconnect)),
            newer_lost,
            position: self.position,
            remedy: self.ask.client.shared.remedy(self.refreshed),
            leaving: self.standing.leaving.is_cancelled(),
        };
        if departure.is_some_and(|departure| departure.reason == GoAwayReason::CredentialExpired) {
            self.refused.clone_from(&credential);
        }
        let (reason, until) = match judged(end, &known, record) {
            Next::Finished { ok } => return self.finish(ok),
            Next::Stop(error) => {
                tracing::debug!(subscriber = %self.standing.id, "{error}");
                self.phase = Phase::Over(Some(error));
                return;
            }
            Next::Resume(reason) => match departure {
                Some(departure) if departure.reconnect => (reason, departure.turn),
                Some(_) | None => (reason, now + self.backoff.next_wait(now, &mut self.rng)),
            },
            Next::ResumeAfter(reason, wait) => {
                self.backoff.named(now, wait);
                (reason, now.checked_add(wait).unwrap_or_else(far_away))
            }
            Next::Refresh(reason) => {
                self.refreshed = true;
                self.refused = credential;
                (reason, now + self.backoff.at_once(now, &mut self.rng))
            }
        };
        self.wait(reason, until);
    }

    fn wait(&mut self, reason: Lost, until: Instant) {
        let retry_in = until.saturating_duration_since(Instant::now());
        tracing::debug!(subscriber = %self.standing.id, ?retry_in, "{reason}");
        self.say(Notice::Disconnected { reason, retry_in });
        self.phase = Phase::Waiting(Some(until));
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Current(Got::Frame(frame)) => self.frame(frame, Which::Current),
            Step::Successor(Got::Frame(frame)) => self.frame(frame, Which::Successor),
            Step::Current(Got::End(end)) => self.current_ended(end),
            Step::Successor(Got::End(end)) => self.successor_failed(end, None, None),
            Step::Asked(asked) => self.looked(asked),
            Step::Opened(opened) => match opened.result {
                Err(end) => self.successor_failed(end, opened.credential, opened.record),
                Ok((live, welcome)) => {
                    self.welcomed(&live, &welcome);
                    self.streams_mut().successor = Successor::Open(Box::new(live));
                }
            },
            Step::Turn => self.turn(),
            Step::Overdue => self.current_ended(End::Ok),
        }
    }

    /// The turn has come to open the next stream, or to look for a credential for it.
    fn turn(&mut self) {
        let leaving = self.standing.leaving.is_cancelled();
        let Some(departure) = &mut self.streams_mut().current.departure else {
            return self.look_for_fresh();
        };
        if leaving {
            // The subscriber does not come back; the stream is read to its end.
            departure.turn = far_away();
        } else if departure.ends.is_some() {
            let opening = self.open();
            self.streams_mut().successor = Successor::Opening(opening);
        } else {
            // It was the last response; the end need not be waited for.
            self.current_ended(End::Ok);
        }
    }

    fn streams_mut(&mut self) -> &mut Streams {
        match &mut self.phase {
            Phase::Live(streams) => streams,
            Phase::Waiting(_) | Phase::Opening(_) | Phase::Over(_) => {
                unreachable!("steps are taken only with a stream")
            }
        }
    }

    /// The stream that was read is over. Its successor takes its place, open or not.
    fn current_ended(&mut self, end: End) {
        let Phase::Live(streams) = std::mem::replace(&mut self.phase, Phase::Waiting(None)) else {
            unreachable!("a stream ended, so there was one")
        };
        let Streams {
            mut current,
            successor,
        } = *streams;
        let record = current.record.take();
        if matches!(&end, End::Lost(_)) {
            self.ask.client.shared.pool.retire(&current.lease);
        }
        match successor {
            Successor::Open(live) => {
                if let Some(record) = record {
                    record.ended(StreamEnd::Left, true);
                }
                self.phase = Phase::Live(Box::new(Streams {
                    current: *live,
                    successor: Successor::None,
                }));
            }
            Successor::Opening(opening) if self.goes_on_without(&current) => {
                if let Some(record) = record {
                    record.ended(end.recorded(), true);
                }
                let reason = match (current.departure, end) {
                    (Some(departure), _) => Lost::GoAway(departure.reason),
                    (None, End::Lost(lost)) => lost,
                    (None, End::Sent(status)) => Lost::Status(Refusal::from(&status)),
                    (None, End::Ok | End::Credential(_)) => Lost::Ended,
                };
                self.say(Notice::Disconnected {
                    reason,
                    retry_in: Duration::ZERO,
                });
                self.phase = Phase::Opening(opening);
            }
            Successor::Opening(_) | Successor::Asking(_) | Successor::None => {
                let newer_lost = self.attempt > current.attempt;
                self.ended(
                    end,
                    current.departure,
                    newer_lost,
                    current.credential,
                    record,
                );
            }
        }
    }

    /// Whether a stream that is being opened may take the place of one that ended: not after a word to stay away. It
    /// would take the id back from the program that has it now.
    fn goes_on_without(&self, ended: &Live) -> bool {
        let may_return = ended.departure.is_none_or(|departure| {
            departure.reconnect || departure.reason == GoAwayReason::Replaced
        });
        may_return && !self.standing.leaving.is_cancelled()
    }

    /// The stream that was to replace the current one did not come about, or broke. While the current one
    /// goes on, another is tried; only a final refusal ends the subscription.
    fn successor_failed(
        &mut self,
        end: End,
        credential: Option<Credential>,
        record: Option<StreamRecord>,
    ) {
        let now = Instant::now();
        self.ended_at = Some(now);
        let failed = std::mem::replace(&mut self.streams_mut().successor, Successor::None);
        let (credential, record) = match failed {
            Successor::Open(mut live) => {
                if matches!(&end, End::Lost(_)) {
                    self.ask.client.shared.pool.retire(&live.lease);
                }
                (live.credential.take(), live.record.take())
            }
            Successor::None | Successor::Asking(_) | Successor::Opening(_) => (credential, record),
        };
        if self.streams_mut().current.departure.is_none() {
            return self.renewal_failed(end, record);
        }
        let known = Known {
            go_away: None,
            newer_lost: false,
            position: self.position,
            remedy: self.ask.client.shared.remedy(self.refreshed),
            leaving: self.standing.leaving.is_cancelled(),
        };
        let wait = match judged(end, &known, record) {
            // The current stream will show its own end.
            Next::Finished { .. } => Duration::MAX,
            Next::Stop(error) => {
                self.phase = Phase::Over(Some(error));
                return;
            }
            Next::Resume(_) => self.backoff.next_wait(now, &mut self.rng),
            Next::ResumeAfter(_, wait) => {
                self.backoff.named(now, wait);
                wait
            }
            Next::Refresh(_) => {
                self.refreshed = true;
                self.refused = credential;
                self.backoff.at_once(now, &mut self.rng)
            }
        };
        if let Some(departure) = &mut self.streams_mut().current.departure {
            departure.turn = now.checked_add(wait).unwrap_or_else(far_away);
        }
    }
}

/// The consequence of a stream's end, recorded with it.
fn judged(end: End, known: &Known, record: Option<StreamRecord>) -> Next {
    let how = end.recorded();
    let next = ending::judge(end, known);
    if let Some(record) = record {
        record.ended(how, next.returns());
    }
    next
}

/// At once when there is no time to wait for.
async fn sleep_until_some(until: Option<Instant>) {
    if let Some(until) = until {
        sleep_until(until).await;
    }
}

/// Later than anything; tokio cannot sleep until the end of time.
fn far_away() -> Instant {
    Instant::now() + Duration::from_secs(86_400 * 365)
}

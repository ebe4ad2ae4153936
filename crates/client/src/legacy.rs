//! A subscription of the frozen contract `protos.Longlived`: it reconnects and backs off like the other one.
//!
//! Does not: prove anything. This contract carries neither positions nor gaps, so it cannot be known whether something
//! was missed or came twice.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use longlived_api::protos;
use longlived_api::protos::longlived_client::LonglivedClient;
use rand::rngs::SmallRng;
use tokio::time::{Instant, sleep_until};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};

use crate::backoff::Backoff;
use crate::client::Client;
use crate::credential::Credential;
use crate::pool::{Lane, Lease};
use crate::subscriber::{End, Known, Lost, Next, SubscribeError, UnsubscribeError, judge};
use crate::unary;
use crate::wire::Seen;

/// An item of a [`LegacySubscriber`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegacyItem {
    /// One response.
    Data(String),
    /// A stream is open; above 1 it has resubscribed. This contract has no Welcome: it shows when the response
    /// headers have come, which some servers send only with the first response.
    Connected {
        /// Counts the streams this subscriber has opened.
        streams: u64,
    },
    /// The stream is lost; the subscriber comes back by itself. Events published meanwhile may be missed.
    Disconnected {
        /// Why.
        reason: Lost,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// The stream ended with OK, which in this contract only Unsubscribe does, or it was lost after
    /// Unsubscribe was called. Nothing follows.
    Unsubscribed {
        /// The stream ended with OK.
        ok: bool,
    },
}

/// A legacy subscription to be opened; see [`Client::legacy_subscriber`].
#[derive(Clone, Debug)]
#[must_use]
pub struct LegacyBuilder {
    client: Client,
    id: i32,
}

impl LegacyBuilder {
    pub(crate) fn new(client: Client, id: i32) -> Self {
        Self { client, id }
    }

    /// The subscriber. It opens its stream when it is first read, and keeps trying while there is no server.
    pub fn build(self) -> LegacySubscriber {
        let handle = LegacyHandle {
            client: self.client.clone(),
            id: self.id,
            leaving: CancellationToken::new(),
        };
        let shared = &self.client.shared;
        let engine = Box::new(Engine {
            lane: shared.pool.assign_legacy(),
            backoff: Backoff::new(shared.backoff),
            rng: shared.rng(),
            handle: handle.clone(),
            queue: VecDeque::new(),
            phase: Phase::Waiting(None),
            streams: 0,
            refused: None,
            refreshed: false,
        });
        let items = stream::unfold(engine, |mut engine| async move {
            let item = engine.next().await?;
            Some((item, engine))
        });
        LegacySubscriber {
            // Fused, so that reading on after the end is answered.
            items: Box::pin(items.fuse()),
            handle,
        }
    }
}

/// A subscription of the frozen contract. After its end it may be read on, and yields `None`.
///
/// ```
/// use longlived_client::{Client, legacy::LegacyItem};
/// use tokio_stream::StreamExt as _;
///
/// # use longlived_server::{Config, Environment, GeneratorConfig, Server};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let generator = GeneratorConfig { every: std::time::Duration::from_millis(50), topic: None };
/// # let config = Config {
/// #     listen: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()], generator: Some(generator), ..Config::default()
/// # };
/// # let server = Server::bind(config, Environment::system()).await?;
/// # let url = format!("http://{}", server.local_addr());
/// # tokio::spawn(server.run(std::future::pending()));
/// let mut subscriber = Client::new(url)?.legacy_subscriber(1).build();
/// while let Some(item) = subscriber.next().await {
///     if let LegacyItem::Data(data) = item? {
///         assert_eq!(data, "data mock for: 1");
///         break;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "a subscriber does nothing until it is read"]
pub struct LegacySubscriber {
    items: Pin<Box<dyn Stream<Item = Result<LegacyItem, SubscribeError>> + Send>>,
    handle: LegacyHandle,
}

impl LegacySubscriber {
    /// Ends the subscription from elsewhere while this side goes on reading.
    pub fn handle(&self) -> LegacyHandle {
        self.handle.clone()
    }
}

impl Stream for LegacySubscriber {
    type Item = Result<LegacyItem, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.items.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for LegacySubscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LegacySubscriber")
            .field("id", &self.handle.id)
            .finish_non_exhaustive()
    }
}

/// Ends a [`LegacySubscriber`] while another task reads it.
#[derive(Clone, Debug)]
pub struct LegacyHandle {
    client: Client,
    id: i32,
    leaving: CancellationToken,
}

impl LegacyHandle {
    /// Calls Unsubscribe. The subscriber must be read on: it yields the events on the way, then
    /// [`LegacyItem::Unsubscribed`], then ends. One that is between two streams ends at once.
    pub async fn unsubscribe(&self) -> Result<(), UnsubscribeError> {
        self.leaving.cancel();
        let request = protos::Request { id: self.id };
        let timeout = self.client.shared.open_timeout;
        let send =
            |wire, request| async move { LonglivedClient::new(wire).unsubscribe(request).await };
        match unary::call(&self.client, Lane::Unary, &request, timeout, send).await {
            Ok(_empty) => Ok(()),
            Err(failed) => Err(UnsubscribeError::new(self.id.to_string(), failed.error)),
        }
    }
}

struct Engine {
    handle: LegacyHandle,
    lane: Lane,
    backoff: Backoff,
    rng: SmallRng,
    queue: VecDeque<LegacyItem>,
    phase: Phase,
    streams: u64,
    refused: Option<Credential>,
    refreshed: bool,
}

enum Phase {
    Waiting(Option<Instant>),
    Opening(OpenFuture),
    Live(Box<Live>),
    Over(Option<SubscribeError>),
}

type OpenFuture = Pin<Box<dyn Future<Output = (Option<Credential>, Result<Live, End>)> + Send>>;

struct Live {
    responses: Streaming<protos::Response>,
    seen: Seen,
    lease: Lease,
    credential: Option<Credential>,
}

fn ended(status: Status, seen: &Seen) -> End {
    if seen.sent() {
        End::Sent(status)
    } else {
        End::Lost(seen.lost(&status))
    }
}

/// Without a time limit: a server may send its headers with the first response, which may take hours. A dead
/// connection ends by keepalive.
async fn open(
    client: Client,
    lane: Lane,
    id: i32,
    credential: Option<Credential>,
) -> Result<Live, End> {
    let pool = &client.shared.pool;
    let lease = pool.lease(lane).await.map_err(End::Lost)?;
    let seen = Seen::default();
    let mut request = Request::new(protos::Request { id });
    request.extensions_mut().insert(seen.clone());
    if let Some(credential) = &credential {
        credential.send(request.metadata_mut());
    }
    let mut service = LonglivedClient::new(lease.wire.clone());
    if let Some(compression) = client.shared.compression {
        compression.ask(request.metadata_mut());
        service = service.accept_compressed(compression.encoding());
    }
    match service.subscribe(request).await {
        Ok(responses) => Ok(Live {
            responses: responses.into_inner(),
            seen,
            lease,
            credential,
        }),
        Err(status) => {
            let end = ended(status, &seen);
            if matches!(end, End::Lost(_)) {
                pool.retire(&lease);
            }
            Err(end)
        }
    }
}

impl Engine {
    async fn next(&mut self) -> Option<Result<LegacyItem, SubscribeError>> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return Some(Ok(item));
            }
            let leaving = self.handle.leaving.clone();
            match &mut self.phase {
                Phase::Over(last) => return last.take().map(Err),
                Phase::Waiting(until) => {
                    let until = until.unwrap_or_else(Instant::now);
                    tokio::select! {
                        biased;
                        () = leaving.cancelled() => self.finish(false),
                        () = sleep_until(until) => self.phase = Phase::Opening(self.open()),
                    }
                }
                Phase::Opening(opening) => {
                    let (credential, opened) = tokio::select! {
                        biased;
                        () = leaving.cancelled() => {
                            self.finish(false);
                            continue;
                        }
                        opened = opening => opened,
                    };
                    match opened {
                        Ok(live) => {
                            self.backoff.opened(Instant::now());
                            self.streams += 1;
                            self.queue.push_back(LegacyItem::Connected {
                                streams: self.streams,
                            });
                            self.phase = Phase::Live(Box::new(live));
                        }
                        Err(end) => self.ended(end, credential),
                    }
                }
                Phase::Live(live) => match live.responses.message().await {
                    Ok(Some(response)) => {
                        self.refused = None;
                        self.refreshed = false;
                        return Some(Ok(LegacyItem::Data(response.data)));
                    }
                    // In this contract OK is the answer to Unsubscribe, also if another program called it.
                    Ok(None) => self.finish(true),
                    Err(status) => {
                        let end = ended(status, &live.seen);
                        if matches!(end, End::Lost(_)) {
                            self.handle.client.shared.pool.retire(&live.lease);
                        }
                        let credential = live.credential.clone();
                        self.ended(end, credential);
                    }
                },
            }
        }
    }

    fn open(&self) -> OpenFuture {
        let client = self.handle.client.clone();
        let (lane, id, refused) = (self.lane, self.handle.id, self.refused.clone());
        Box::pin(async move {
            match client.shared.credentials.for_stream(refused.as_ref()).await {
                Ok(credential) => {
                    let opened = open(client.clone(), lane, id, credential.clone()).await;
                    (credential, opened)
                }
                Err(error) => (None, Err(End::Credential(error))),
            }
        })
    }

    fn finish(&mut self, ok: bool) {
        self.queue.push_back(LegacyItem::Unsubscribed { ok });
        self.phase = Phase::Over(None);
    }

    fn ended(&mut self, end: End, credential: Option<Credential>) {
        let now = Instant::now();
        let known = Known {
            remedy: self.handle.client.shared.remedy(self.refreshed),
            leaving: self.handle.leaving.is_cancelled(),
            ..Known::default()
        };
        let (reason, retry_in) = match judge(end, &known) {
            Next::Finished { ok } => return self.finish(ok),
            Next::Stop(error) => {
                self.phase = Phase::Over(Some(error));
                return;
            }
            Next::Resume(reason) => (reason, self.backoff.next_wait(now, &mut self.rng)),
            Next::ResumeAfter(reason, wait) => {
                self.backoff.named(now, wait);
                (reason, wait)
            }
            Next::Refresh(reason) => {
                self.refreshed = true;
                self.refused = credential;
                (reason, self.backoff.at_once(now, &mut self.rng))
            }
        };
        self.queue
            .push_back(LegacyItem::Disconnected { reason, retry_in });
        self.phase = Phase::Waiting(Some(now + retry_in));
    }
}
